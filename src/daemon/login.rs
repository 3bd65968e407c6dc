//! Logins under way: what ends sessions ends them too, though nobody knows yet whose their keys are.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::wire::Whose;
use crate::identity::UserId;

/// A session that is about to be: from the question whose the key is, until it is served or is not to be.
pub(super) struct Login {
    uid: u32,
    /// What was ended meanwhile, and why.
    told: Mutex<Vec<(Whose, String)>>,
}

impl Login {
    /// Who logs in.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Why it is to end, if it is: by its uid, and by its user once that is known.
    pub(super) fn ended(&self, user: Option<&UserId>) -> Option<String> {
        let is_meant = |whose: &Whose| match whose {
            Whose::Uid(uid) => self.uid == *uid,
            Whose::UserId(id) => user.is_some_and(|user| user.as_str() == id),
            Whose::All => true,
        };
        let told = self.told.lock();
        let first = told.iter().find(|(whose, _)| is_meant(whose));
        first.map(|(_, why)| why.clone())
    }
}

/// All that are under way.
#[derive(Default)]
pub(super) struct Logins(Mutex<Vec<Weak<Login>>>);

impl Logins {
    /// One begins.
    pub(super) fn begin(&self, uid: u32) -> Arc<Login> {
        let login = Arc::new(Login {
            uid,
            told: Mutex::default(),
        });
        let mut all = self.0.lock();
        all.retain(|login| login.strong_count() > 0);
        all.push(Arc::downgrade(&login));
        login
    }

    /// Tells those that are meant, or may turn out to be. Returns the uids that are certain, and whether there are others.
    pub(super) fn end(&self, whose: &Whose, why: &str) -> (Vec<u32>, bool) {
        let (mut certain, mut others) = (Vec::new(), false);
        for login in self.0.lock().iter().filter_map(Weak::upgrade) {
            login.told.lock().push((whose.clone(), why.to_owned()));
            match login.ended(None) {
                Some(_) => certain.push(login.uid),
                None => others |= matches!(whose, Whose::UserId(_)),
            }
        }
        (certain, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_by_its_uid_at_once_and_by_its_user_when_that_is_known() {
        let logins = Logins::default();
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let login = logins.begin(1001);
        assert_eq!(logins.end(&Whose::Uid(1002), "revoked"), (vec![], false));
        assert_eq!(login.ended(Some(&alice)), None);
        assert_eq!(
            logins.end(&Whose::UserId("alice".to_owned()), "revoked"),
            (vec![], true)
        );
        assert_eq!(login.ended(None), None);
        assert_eq!(login.ended(Some(&bob)), None);
        assert_eq!(login.ended(Some(&alice)).as_deref(), Some("revoked"));
        let later = logins.begin(1001);
        assert_eq!(later.ended(Some(&alice)), None, "it began after that");
        assert_eq!(logins.end(&Whose::All, "everybody").0, [1001, 1001]);
        assert_eq!(later.ended(None).as_deref(), Some("everybody"));
        drop((login, later));
        assert_eq!(logins.end(&Whose::All, "nobody is left"), (vec![], false));
    }
}
