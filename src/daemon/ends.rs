//! Why sessions ended: for who asks after they have.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::times::rfc3339;
use crate::clock;

/// Of how many uids it is remembered.
const MANY: usize = 4096;

/// How a session ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndStatus {
    /// The user of this host.
    pub uid: u32,
    /// The user of the service, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// When, as in RFC 3339.
    pub ended: String,
    /// Why.
    pub why: String,
    /// Whether it was the auth service that refused the key.
    pub refused: bool,
}

/// The last end of each uid's sessions, since the daemon runs.
#[derive(Default)]
pub(super) struct Ends(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    by_uid: BTreeMap<u32, (u64, EndStatus)>,
    /// How many there have been: the least of them is the oldest.
    count: u64,
}

impl Ends {
    /// A session is over.
    pub(super) fn put(&self, uid: u32, user_id: Option<&str>, why: String, refused: bool) {
        let end = EndStatus {
            uid,
            user_id: user_id.map(str::to_owned),
            ended: rfc3339(clock::now()),
            why,
            refused,
        };
        let Remembered { by_uid, count } = &mut *self.0.lock();
        *count += 1;
        by_uid.insert(uid, (*count, end));
        if by_uid.len() > MANY {
            let oldest = by_uid.iter().min_by_key(|(_, (number, _))| *number);
            if let Some(oldest) = oldest.map(|(uid, _)| *uid) {
                by_uid.remove(&oldest);
            }
        }
    }

    /// How the last one of a uid ended, if that is known.
    pub(super) fn of(&self, uid: u32) -> Option<EndStatus> {
        self.0.lock().by_uid.get(&uid).map(|(_, end)| end.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_end_of_each_uid_is_known_and_of_too_many_the_oldest_are_forgotten() {
        let ends = Ends::default();
        ends.put(1, Some("alice"), "logged out".to_owned(), false);
        ends.put(1, Some("alice"), "refused".to_owned(), true);
        let last = ends.of(1).unwrap();
        assert_eq!((last.why.as_str(), last.refused), ("refused", true));
        for uid in 2..5000 {
            ends.put(uid, None, "revoked".to_owned(), false);
        }
        assert_eq!(ends.of(1), None);
        assert!(ends.of(4999).is_some());
        assert_eq!(ends.0.lock().by_uid.len(), MANY);
    }
}
