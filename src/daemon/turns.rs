//! Whose turn it is to have something looked for, or done, beside the mounts: one thing at a time for each user, in all their sessions.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::identity::UserHash;

/// Held while something is looked for or done.
pub(super) type Turn = Arc<AsyncMutex<()>>;

/// The turns of all users who have sessions.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<UserHash, Weak<AsyncMutex<()>>>>);

impl Turns {
    /// That of one user.
    pub(super) fn of(&self, user: &UserHash) -> Turn {
        let mut turns = self.0.lock();
        if let Some(turn) = turns.get(user).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Turn::default();
        turns.insert(user.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::UserId;

    #[test]
    fn a_user_has_one_turn_in_all_sessions_and_none_is_kept_without() {
        let turns = Turns::default();
        let [alice, bob] = ["alice", "bob"].map(|user| UserId::new(user).unwrap().hash());
        let (first, second) = (turns.of(&alice), turns.of(&alice));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &turns.of(&bob)));
        drop((first, second));
        let _third = turns.of(&bob);
        assert_eq!(turns.0.lock().len(), 1);
    }
}
