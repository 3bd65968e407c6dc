//! What is said on the control socket: one JSON object a line, each way.

use serde::{Deserialize, Serialize};

use super::activity::{Activity, QuotaStatus};
use super::check::Check;
use super::ends::EndStatus;
use crate::audit::OwnEvent;
use crate::auth::ApiKey;
use crate::error::{Error, Kind, Result};
use crate::hosts::Host;
use crate::store::Kept;

/// The longest line that a client may send, in bytes: the longest key with every character escaped, and the rest.
pub(super) const MAX_REQUEST: usize = 8 * ApiKey::MAX_LEN;

/// What a client asks. Who it is, the kernel says (SO_PEERCRED); only root may name another uid.
// Not tagged inside: serde would hold such a message, the key too, in buffers of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A session.
    Login {
        /// Of whom at the service.
        #[serde(with = "key_text")]
        key: ApiKey,
        /// Of whom on this host.
        uid: Option<u32>,
        /// Of which group the processes are that get in, if not of the uid's primary one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// The end of a session.
    Logout {
        /// Whose.
        uid: Option<u32>,
    },
    /// All sessions that the client may see, or one.
    Status {
        /// Whose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// Why there is no session any more.
    LastEnd {
        /// Whose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// What is done in each session; for operators.
    Activity {},
    /// How everything that serving needs looks from the server; for operators.
    Doctor {},
    /// The sessions of all hosts that serve the volume, for root.
    Hosts {},
    /// The end of sessions, by root.
    Revoke(Whose),
    /// The same, on every host.
    RevokeEverywhere(Whose),
    /// What the audit log has of one user.
    Audit {
        /// At most so many lines.
        lines: u32,
        /// Of whom.
        uid: Option<u32>,
    },
    /// What was removed and can be restored.
    Removed {
        /// By whom.
        uid: Option<u32>,
    },
    /// That something that was removed comes back.
    Restore {
        /// As in the mount.
        path: String,
        /// Whose.
        uid: Option<u32>,
    },
    /// The drafts that could not be committed.
    Drafts {
        /// Whose.
        uid: Option<u32>,
    },
    /// That a draft is given up.
    Discard {
        /// As in the mount.
        path: String,
        /// Whose.
        uid: Option<u32>,
    },
}

/// Whose sessions are revoked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The session of a user of this host.
    Uid(u32),
    /// The sessions of a user of the service.
    UserId(String),
    /// Every session.
    All,
}

/// What the daemon answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The session that was asked for.
    Session(Box<SessionStatus>),
    /// All that the client may see.
    Sessions(Vec<SessionStatus>),
    /// How the last session ended, if the daemon knows of one.
    LastEnd(Option<EndStatus>),
    /// What is done in each session.
    Activity(Vec<Activity>),
    /// What was looked at, and how it is.
    Checks(Vec<Check>),
    /// Hosts, and whom they serve.
    Hosts(Vec<Host>),
    /// The uids whose sessions have ended.
    Ended(Vec<u32>),
    /// What the audit log has of one user, the latest last.
    Events(Vec<OwnEvent>),
    /// What was removed and can be restored, the last removed first.
    Removed {
        /// A bounded number of them.
        records: Vec<RemovedStatus>,
        /// Whether there are more.
        more: bool,
        /// What could not be looked at.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unreadable: Vec<UnreadableStatus>,
    },
    /// It is back.
    Restored {
        /// As in the mount.
        path: String,
    },
    /// The drafts that could not be committed.
    Drafts {
        /// A bounded number of them.
        drafts: Vec<DraftStatus>,
        /// Whether there are more.
        more: bool,
        /// What could not be looked at.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unreadable: Vec<UnreadableStatus>,
    },
    /// The record shows again as it was last committed.
    Discarded {
        /// As in the mount.
        path: String,
    },
    /// It could not be done.
    Error(Failure),
}

impl Request {
    /// Whether nothing is changed by it: who asked and is gone needs no answer.
    pub(super) fn only_looks(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::LastEnd { .. }
            | Self::Activity {}
            | Self::Doctor {}
            | Self::Hosts {}
            | Self::Audit { .. }
            | Self::Removed { .. }
            | Self::Drafts { .. } => true,
            Self::Login { .. }
            | Self::Logout { .. }
            | Self::Revoke(_)
            | Self::RevokeEverywhere(_)
            | Self::Restore { .. }
            | Self::Discard { .. } => false,
        }
    }
}

impl Reply {
    /// The answer, as far as it is one.
    ///
    /// # Errors
    /// What went wrong.
    pub fn done(self) -> Result<Self> {
        match self {
            Self::Error(failure) => Err(failure.into()),
            reply => Ok(reply),
        }
    }
}

/// One session, as people and programs are told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The user of this host.
    pub uid: u32,
    /// The group of the processes that get in: the kernel refuses those of the same user that have another. None while that
    /// has yet to be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The user of the service; none while that has yet to be validated.
    pub user_id: Option<String>,
    /// Where the view is.
    pub mountpoint: String,
    /// `active`, `stale`, `suspended`, `ended`, or `restoring` after a restart of the daemon.
    pub state: String,
    /// Why it is not active, or was not when that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when, as in RFC 3339.
    pub since: String,
    /// How long the last validation of the key is still good, in seconds.
    pub good_for: u64,
    /// Open files and directories.
    pub open_files: usize,
    /// What was typed and could not be committed.
    pub drafts: Vec<DraftStatus>,
    /// Whether there may be other drafts: not all were looked at in time, or could be, or there are more than are shown.
    #[serde(default)]
    pub more_drafts: bool,
    /// The resources for which the volume has another directory by now than the session, which goes on with those of its login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
    /// What was removed and waits, and counts until it goes by itself; none where there is nothing, or that could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<KeptStatus>,
    /// What the user has of their quota; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaStatus>,
}

/// What was removed and waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptStatus {
    /// In bytes, as the user saw it.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Whether that is all: it takes too long to count else.
    pub counted: bool,
}

impl From<Kept> for KeptStatus {
    fn from(kept: Kept) -> Self {
        Self {
            bytes: kept.bytes,
            records: kept.records,
            counted: kept.is_all,
        }
    }
}

/// A draft that could not be committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DraftStatus {
    /// As in the mount.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A record that was removed and can be restored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemovedStatus {
    /// As in the mount.
    pub path: String,
    /// When it was removed, as in RFC 3339.
    pub removed: String,
    /// Until when it can be restored, as in RFC 3339.
    pub until: String,
    /// In bytes, as its user saw it.
    pub size: u64,
    /// Whether it has a secret, which comes back too.
    pub has_secret: bool,
}

/// What could not be looked at: there may be more in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnreadableStatus {
    /// As in the mount.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// What went wrong, as a closed set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The auth service says no; or too many keys were refused.
    Refused,
    /// The auth service says neither yes nor no.
    Unreachable,
    /// Another user's id has the same hash, and was here first.
    HashCollision,
    /// The uid is logged in as somebody else.
    AlreadyLoggedIn,
    /// There is no such session.
    NotLoggedIn,
    /// There is no daemon.
    NotRunning,
    /// Only root may; or nobody, in a read-only session.
    NotPermitted,
    /// Nothing of that name is there, or waits.
    NotFound,
    /// Something has that name.
    Exists,
    /// The request makes no sense, or is too long.
    BadRequest,
    /// Too much at once; later it may be done.
    Busy,
    /// The view could not be mounted, or not unmounted.
    MountFailed,
    /// The volume refuses what a session needs.
    VolumeFailed,
    /// Anything else.
    Failed,
}

impl Failure {
    /// Of a command that got no answer of a daemon, or needs none.
    pub fn local(error: &Error) -> Self {
        Self {
            code: match error.kind() {
                Kind::NotConnected => Code::NotRunning,
                Kind::NotFound => Code::NotFound,
                Kind::Exists => Code::Exists,
                Kind::Busy => Code::Busy,
                Kind::ProblemsFound => Code::VolumeFailed,
                Kind::InvalidArgument | Kind::Config => Code::BadRequest,
                _ => Code::Failed,
            },
            message: format!("{error:#}"),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.code {
            Code::Refused => Kind::AuthenticationRefused,
            Code::Unreachable => Kind::AuthenticationUnreachable,
            Code::HashCollision => Kind::HashCollision,
            Code::AlreadyLoggedIn | Code::Exists => Kind::Exists,
            Code::NotLoggedIn | Code::NotFound => Kind::NotFound,
            Code::NotRunning => Kind::NotConnected,
            Code::NotPermitted => Kind::NotPermitted,
            Code::BadRequest => Kind::InvalidArgument,
            Code::Busy => Kind::Busy,
            Code::MountFailed => Kind::MountFailed,
            Code::VolumeFailed | Code::Failed => Kind::Io,
        };
        Self::new(kind, failure.message)
    }
}

/// A key on its way over the socket.
pub(super) mod key_text {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    use crate::auth::ApiKey;

    pub(in super::super) fn serialize<S: Serializer>(key: &ApiKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(key.expose())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ApiKey, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = ApiKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an API key")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ApiKey, E> {
                ApiKey::new(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_out_as_it_went_in() {
        for (code, spelling, kind) in [
            (Code::Refused, "refused", Kind::AuthenticationRefused),
            (Code::Unreachable, "unreachable", Kind::AuthenticationUnreachable),
            (Code::HashCollision, "hash_collision", Kind::HashCollision),
            (Code::AlreadyLoggedIn, "already_logged_in", Kind::Exists),
            (Code::NotLoggedIn, "not_logged_in", Kind::NotFound),
            (Code::NotRunning, "not_running", Kind::NotConnected),
            (Code::NotPermitted, "not_permitted", Kind::NotPermitted),
            (Code::NotFound, "not_found", Kind::NotFound),
            (Code::Exists, "exists", Kind::Exists),
            (Code::BadRequest, "bad_request", Kind::InvalidArgument),
            (Code::Busy, "busy", Kind::Busy),
            (Code::MountFailed, "mount_failed", Kind::MountFailed),
            (Code::VolumeFailed, "volume_failed", Kind::Io),
            (Code::Failed, "failed", Kind::Io),
        ] {
            let message = "why".to_owned();
            let reply = Reply::Error(Failure { code, message });
            let text = serde_json::to_string(&reply).unwrap();
            assert!(text.contains(&format!("\"code\":\"{spelling}\"")), "{text}");
            let read: Reply = serde_json::from_str(&text).unwrap();
            assert_eq!(read, reply);
            assert_eq!(read.done().unwrap_err().kind(), kind, "{text}");
        }
    }

    #[test]
    fn requests_are_taken_as_documented_and_nothing_else_is() {
        for good in [
            r#"{"login":{"key":"sesame"}}"#,
            r#"{"login":{"key":"with\\\"quotes","uid":7}}"#,
            r#"{"login":{"key":"sesame","gid":7}}"#,
            r#"{"logout":{}}"#,
            r#"{"status":{}}"#,
            r#"{"status":{"uid":7}}"#,
            r#"{"last_end":{}}"#,
            r#"{"last_end":{"uid":7}}"#,
            r#"{"activity":{}}"#,
            r#"{"doctor":{}}"#,
            r#"{"revoke":{"uid":7}}"#,
            r#"{"revoke":{"user_id":"alice"}}"#,
            r#"{"revoke":"all"}"#,
            r#"{"audit":{"lines":100}}"#,
            r#"{"audit":{"lines":100,"uid":7}}"#,
            r#"{"removed":{}}"#,
            r#"{"removed":{"uid":7}}"#,
            r#"{"restore":{"path":"schedules/x.json"}}"#,
            r#"{"drafts":{}}"#,
            r#"{"discard":{"path":"schedules/x.json","uid":7}}"#,
        ] {
            assert!(serde_json::from_str::<Request>(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "null",
            "{}",
            r#"{"login":{}}"#,
            r#"{"login":{"key":""}}"#,
            r#"{"login":{"key":"two words"}}"#,
            r#"{"login":{"key":"sesame","key":"again"}}"#,
            r#"{"login":{"key":"sesame","more":1}}"#,
            r#"{"logout":{"uid":-1}}"#,
            r#"{"revoke":{}}"#,
            r#"{"audit":{}}"#,
            r#"{"restore":{}}"#,
            r#"{"restore":{"path":7}}"#,
            r#"{"discard":{"path":"x","more":1}}"#,
            r#"{"reboot":{}}"#,
            r#"{"status":{}} {}"#,
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
