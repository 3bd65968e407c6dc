//! One question at a time for one key, however many ask it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{ApiKey, Authenticator, Validating, Validation};
use crate::error::Result;

/// What those who wait for the same question wait for.
type Answer = OnceCell<Result<Validation>>;

/// Lets those who ask for the same key at the same time share one validation. Whoever asks later asks anew.
pub struct Shared<A> {
    inner: A,
    /// By SHA-256 of the key. Who waits keeps the cell; the last one takes it along.
    under_way: Mutex<HashMap<[u8; 32], Weak<Answer>>>,
}

impl<A> Shared<A> {
    /// Shares the validations of `inner`.
    pub fn new(inner: A) -> Self {
        Self {
            inner,
            under_way: Mutex::default(),
        }
    }
}

impl<A: Authenticator> Shared<A> {
    async fn ask(&self, key: &ApiKey) -> Result<Validation> {
        let digest = key.digest();
        let cell = {
            let mut under_way = self.under_way.lock();
            let joined = under_way.get(&digest).and_then(Weak::upgrade);
            // One that has its answer already is not this question's.
            let joined = joined.filter(|cell| !cell.initialized());
            joined.unwrap_or_else(|| {
                under_way.retain(|_, cell| cell.strong_count() > 0);
                let cell = Arc::new(OnceCell::new());
                under_way.insert(digest, Arc::downgrade(&cell));
                cell
            })
        };
        // Should the one who asks give up, another of those who wait asks in its place.
        cell.get_or_init(|| self.inner.validate(key)).await.clone()
    }
}

impl<A: Authenticator> Authenticator for Shared<A> {
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
        Box::pin(self.ask(key))
    }
}

impl<A: Authenticator + ?Sized> Authenticator for Box<A> {
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
        (**self).validate(key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::identity::{Principal, UserId};

    /// Answers when it is let, and counts the questions.
    struct Slow {
        asked: AtomicUsize,
        answers: Semaphore,
    }

    impl Authenticator for Slow {
        fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.answers.acquire().await.unwrap().forget();
                Ok(Validation {
                    principal: Principal::authenticated(UserId::new(key.expose()).unwrap()),
                    expires_in: None,
                })
            })
        }
    }

    #[tokio::test]
    async fn the_same_key_at_the_same_time_is_one_question_and_another_key_another() {
        let shared = Shared::new(Slow {
            asked: AtomicUsize::new(0),
            answers: Semaphore::new(0),
        });
        let asked = || shared.inner.asked.load(Ordering::SeqCst);
        let (alice, bob) = (ApiKey::new("alice").unwrap(), ApiKey::new("bob").unwrap());
        let answer = async {
            tokio::task::yield_now().await;
            assert_eq!(asked(), 2);
            shared.inner.answers.add_permits(2);
        };
        let (one, two, other, ()) = tokio::join!(
            shared.validate(&alice),
            shared.validate(&alice),
            shared.validate(&bob),
            answer
        );
        assert_eq!(one.unwrap(), two.unwrap());
        assert_eq!(other.unwrap().principal.user().as_str(), "bob");

        shared.inner.answers.add_permits(1);
        shared.validate(&alice).await.unwrap();
        assert_eq!(asked(), 3, "a later question is asked anew");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_question_to_the_others() {
        let shared = Shared::new(Slow {
            asked: AtomicUsize::new(0),
            answers: Semaphore::new(0),
        });
        let alice = ApiKey::new("alice").unwrap();
        let first = shared.validate(&alice);
        let second = shared.validate(&alice);
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = first => unreachable!("nobody answers yet"),
            _ = &mut second => unreachable!("nobody answers yet"),
            () = tokio::task::yield_now() => {}
        }
        shared.inner.answers.add_permits(1);
        assert!(second.await.is_ok());
    }
}
