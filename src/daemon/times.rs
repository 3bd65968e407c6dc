//! How times are told.

use crate::clock::Timestamp;

/// As in RFC 3339, to the second.
pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds).map_or_else(|_| String::new(), |time| time.to_string())
}
