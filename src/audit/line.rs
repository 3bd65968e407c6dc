//! One line of the audit log: a JSON object whose members are always the same, in the same order.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::{self, Timestamp};
use crate::escape;
use crate::event;

/// The longest line, in bytes. Ours are shorter: a path has at most [`MAX_PATH`], a reason [`MAX_REASON`].
pub(super) const MAX_LINE: usize = 64 << 10;

/// The longest path, in bytes. Directories can be nested deeper than any path that a system call takes.
const MAX_PATH: usize = 4 << 10;

/// The longest reason, in bytes.
const MAX_REASON: usize = 8 << 10;

/// The `outcome` of what went well.
pub(super) const OK: &str = "ok";

/// The SHA-256 of a line without its newline.
pub(super) type Digest256 = [u8; 32];

/// A line's members, in the order of the contract.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) ts: Cow<'a, str>,
    pub(super) seq: u64,
    #[serde(borrow)]
    pub(super) session: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) user: Cow<'a, str>,
    pub(super) uid: u32,
    pub(super) pid: u32,
    #[serde(borrow)]
    pub(super) op: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) path: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) outcome: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) reason: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) prev: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// The line of these bytes, which have no newline; none when they are no line of this log's.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        // Serde would also take an array that has the members' values in their order.
        let is_object = bytes.starts_with(b"{");
        is_object.then(|| serde_json::from_slice(bytes).ok())?
    }

    /// The hash that this line says the one before it has.
    pub(super) fn previous(&self) -> Option<Digest256> {
        unhex(&self.prev)
    }
}

/// A digest that was written as lowercase hex.
pub(super) fn unhex(text: &str) -> Option<Digest256> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    (hex::encode(digest) == text).then_some(digest)
}

/// The hash of a line without its newline.
pub(super) fn digest(line: &[u8]) -> Digest256 {
    Sha256::digest(line).into()
}

/// Of whom a line speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Who {
    /// Random, to tell one session's lines from another's.
    pub(super) session: String,
    /// The user's hash; empty while nobody was authenticated.
    pub(super) user: String,
    pub(super) uid: u32,
}

/// What a line will say: all but its place in the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) pid: u32,
    pub(super) op: Cow<'static, str>,
    pub(super) path: String,
    /// `ok`, or the name of an errno.
    pub(super) outcome: &'static str,
    pub(super) reason: String,
}

impl Entry {
    /// What happens now, on behalf of whomever this thread works for.
    pub(super) fn now(
        op: impl Into<Cow<'static, str>>,
        path: impl Into<String>,
        outcome: &'static str,
        reason: impl Into<String>,
    ) -> Self {
        let (mut path, mut reason) = (path.into(), reason.into());
        // What is last in a path says the most.
        if let Some(beyond) = path.len().checked_sub(MAX_PATH).filter(|beyond| *beyond > 0) {
            let boundary = (beyond..path.len()).find(|at| path.is_char_boundary(*at));
            path.replace_range(..boundary.unwrap_or(path.len()), "…");
        }
        if reason.len() > MAX_REASON {
            let boundary = (0..=MAX_REASON).rev().find(|at| reason.is_char_boundary(*at));
            reason.truncate(boundary.unwrap_or(0));
            reason.push('…');
        }
        Self {
            at: clock::now(),
            pid: event::caller().unwrap_or(0),
            op: op.into(),
            path,
            outcome,
            reason,
        }
    }

    /// At most how many bytes its line takes, in all but odd cases: characters that have to be escaped are few.
    pub(super) fn cost(&self) -> usize {
        400 + 2 * (self.path.len() + self.reason.len())
    }

    /// Appends the line with that place in the chain to `out`, with its newline; returns its hash.
    pub(super) fn write(&self, who: &Who, seq: u64, prev: &Digest256, out: &mut Vec<u8>) -> Digest256 {
        let start = out.len();
        let line = Line {
            ts: rfc3339(self.at).into(),
            seq,
            session: (&who.session).into(),
            user: (&who.user).into(),
            uid: who.uid,
            pid: self.pid,
            op: self.op.as_ref().into(),
            path: (&self.path).into(),
            outcome: self.outcome.into(),
            reason: (&self.reason).into(),
            prev: hex::encode(prev).into(),
        };
        // Text into memory: there is nothing that could fail.
        let text = serde_json::to_string(&line).unwrap_or_default();
        out.extend_from_slice(escape::json(text).as_bytes());
        let digest = digest(out.get(start..).unwrap_or_default());
        out.push(b'\n');
        digest
    }
}

/// In UTC, to the millisecond.
fn rfc3339(time: Timestamp) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    let time = jiff::Timestamp::new(time.seconds, nanos).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: Timestamp {
                seconds: 1_700_000_000,
                nanos: 1_999_999,
            },
            pid: 7,
            op: "open".into(),
            path: "schedules/a \"b\".json".to_owned(),
            outcome: OK,
            reason: String::new(),
        }
    }

    #[test]
    fn a_line_has_the_members_of_the_contract_in_that_order_and_no_others() {
        let who = Who {
            session: "0123abcd".to_owned(),
            user: "2bd806c97f0e00af".to_owned(),
            uid: 1000,
        };
        let mut out = Vec::new();
        entry().write(&who, 3, &[0; 32], &mut out);
        let zeros = "0".repeat(64);
        let expected = format!(
            "{{\"ts\":\"2023-11-14T22:13:20.001Z\",\"seq\":3,\"session\":\"0123abcd\",\"user\":\"2bd806c97f0e00af\",\
             \"uid\":1000,\"pid\":7,\"op\":\"open\",\"path\":\"schedules/a \\\"b\\\".json\",\"outcome\":\"ok\",\
             \"reason\":\"\",\"prev\":\"{zeros}\"}}\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_longest_line_is_shorter_than_what_is_read() {
        let who = Who {
            session: "0123abcd".to_owned(),
            user: "2bd806c97f0e00af".to_owned(),
            uid: u32::MAX,
        };
        let path = format!("{}/ö.json", "\"".repeat(100_000));
        let entry = Entry::now("setattr", path, "EIO", "\u{1}".repeat(100_000));
        assert!(entry.path.starts_with("…\"") && entry.path.ends_with("\"/ö.json"));
        let mut out = Vec::new();
        entry.write(&who, u64::MAX, &[0xff; 32], &mut out);
        assert!(out.len() < MAX_LINE, "{}", out.len());
    }

    #[test]
    fn nothing_else_is_a_line() {
        let mut good = Vec::new();
        let who = Who {
            session: String::new(),
            user: String::new(),
            uid: 0,
        };
        entry().write(&who, 1, &[1; 32], &mut good);
        let text = String::from_utf8(good).unwrap();
        assert!(Line::parse(text.trim_end().as_bytes()).is_some());
        for bad in [
            "",
            "{}",
            "null",
            r#"["2023-11-14T22:13:20.001Z",1,"","",0,7,"open","a","ok","",""]"#,
            &text.replace("\"uid\"", "\"seq\""),
            &text.replace("\"uid\"", "\"more\""),
        ] {
            assert!(Line::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
