//! Whom the kernel lets into a mount.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// No uid and no gid: chown(2) and its like take it for "leave it as it is".
const NOBODY_AT_ALL: u32 = u32::MAX;

/// The only user whom the kernel admits to a mount, and that user's group. Never root: a mount of root's that does not answer would
/// hang whatever root runs, and its files would be believed as root's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Numbers", into = "Numbers")]
pub struct Viewer {
    uid: u32,
    gid: u32,
}

/// As they are written in a message.
#[derive(Serialize, Deserialize)]
struct Numbers {
    uid: u32,
    gid: u32,
}

impl Viewer {
    /// The user `uid` with the group `gid`, which may be any group that there is.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) for root, and for what is no uid or gid.
    pub fn new(uid: u32, gid: u32) -> Result<Self> {
        match (uid, gid) {
            (0, _) => Err(Error::config(
                "a view is never root's, who would hang where its server does; say whose it is: --uid UID",
            )),
            (NOBODY_AT_ALL, _) | (_, NOBODY_AT_ALL) => {
                Err(Error::config(format!("{NOBODY_AT_ALL} is no uid and no gid")))
            }
            (uid, gid) => Ok(Self { uid, gid }),
        }
    }

    /// The user.
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// The group.
    pub fn gid(self) -> u32 {
        self.gid
    }
}

impl TryFrom<Numbers> for Viewer {
    type Error = Error;

    fn try_from(numbers: Numbers) -> Result<Self> {
        Self::new(numbers.uid, numbers.gid)
    }
}

impl From<Viewer> for Numbers {
    fn from(viewer: Viewer) -> Self {
        let Viewer { uid, gid } = viewer;
        Self { uid, gid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_root_nor_what_is_no_user_is_a_viewer_in_a_message_either() {
        for (uid, gid) in [(0, 0), (0, 1000), (u32::MAX, 1000), (1000, u32::MAX)] {
            assert!(Viewer::new(uid, gid).is_err(), "{uid} {gid}");
            let message = format!("{{\"uid\":{uid},\"gid\":{gid}}}");
            assert!(serde_json::from_str::<Viewer>(&message).is_err(), "{message}");
        }
        for message in ["{\"uid\":-1,\"gid\":5}", "{\"uid\":4294967296,\"gid\":5}"] {
            assert!(serde_json::from_str::<Viewer>(message).is_err(), "{message}");
        }
        let viewer = Viewer::new(1000, 0).unwrap();
        let message = serde_json::to_string(&viewer).unwrap();
        assert_eq!(serde_json::from_str::<Viewer>(&message).unwrap(), viewer);
    }
}
