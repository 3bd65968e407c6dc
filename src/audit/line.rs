//! One line of the audit log: a JSON object whose members are always the same, in the same order.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::{self, Timestamp};
use crate::escape;
use crate::event;

/// The longest line that is read, in bytes. Ours are shorter: a path has at most [`MAX_PATH`], a reason [`MAX_REASON`].
pub(super) const MAX_LINE: usize = 64 << 10;

/// The longest path, in bytes. Users nest directories as deep as they like, and must not make every line as long.
const MAX_PATH: usize = 1 << 10;

/// The longest reason, in bytes: a rename's has a path in it.
const MAX_REASON: usize = 4 << 10;

/// At most how many bytes a line takes beside its texts, and how many of them the digest of a path that was cut takes.
const FRAME: usize = 354;
const CUT: usize = 82;

/// The `outcome` of what went well.
pub(super) const OK: &str = "ok";

/// The SHA-256 of a line without its newline.
pub(super) type Digest256 = [u8; 32];

/// A line's members, in the order of the contract. Those after `prev` are not in every line.
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
    /// In which way it was done: `read write` of an open, `mode 640` of a setattr.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) how: Option<Cow<'a, str>>,
    /// How many events this line is of, where it is of more than one or comes after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<NonZeroU64>,
    /// The SHA-256 of the whole path, where `path` is only its end.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) path_sha256: Option<Cow<'a, str>>,
    /// The host that wrote it. Lines of before there were several have none.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<Cow<'a, str>>,
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
    /// In which way; empty where there is only one.
    pub(super) how: String,
    /// How many events are counted in it, if it is a count.
    pub(super) count: Option<NonZeroU64>,
    /// The digest of the whole path, if it was cut.
    pub(super) cut: Option<Digest256>,
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
        let cut = (path.len() > MAX_PATH).then(|| digest(path.as_bytes()));
        keep_end(&mut path);
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
            how: String::new(),
            count: None,
            cut,
        }
    }

    /// At most how many bytes its line takes.
    pub(super) fn cost(&self) -> u64 {
        let text = [&self.path, &self.reason, &self.how];
        let text: usize = text.into_iter().map(|text| escaped(text)).sum();
        let cut = if self.cut.is_some() { CUT } else { 0 };
        (FRAME + cut + text + escaped(host())) as u64
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
            how: (!self.how.is_empty()).then(|| (&self.how).into()),
            count: self.count,
            path_sha256: self.cut.map(|digest| hex::encode(digest).into()),
            host: Some(host().into()),
        };
        // Text into memory: there is nothing that could fail.
        let text = serde_json::to_string(&line).unwrap_or_default();
        out.extend_from_slice(escape::json(text).as_bytes());
        let digest = digest(out.get(start..).unwrap_or_default());
        out.push(b'\n');
        digest
    }
}

/// Cuts a path that is too long. What is last in it says the most.
pub(super) fn keep_end(path: &mut String) {
    if let Some(beyond) = path.len().checked_sub(MAX_PATH).filter(|beyond| *beyond > 0) {
        let boundary = (beyond..path.len()).find(|at| path.is_char_boundary(*at));
        path.replace_range(..boundary.unwrap_or(path.len()), "…");
    }
}

/// How long a text is in JSON.
fn escaped(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

/// What this host is called, as it was when that was first asked.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    })
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
            how: String::new(),
            count: None,
            cut: None,
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
             \"reason\":\"\",\"prev\":\"{zeros}\",\"host\":\"{}\"}}\n",
            host()
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_not_every_line_has_comes_after_what_every_line_has() {
        let who = Who {
            session: String::new(),
            user: String::new(),
            uid: 1,
        };
        let entry = Entry {
            how: "read write".to_owned(),
            count: NonZeroU64::new(7),
            cut: Some([0xab; 32]),
            ..entry()
        };
        let mut out = Vec::new();
        entry.write(&who, 1, &[0; 32], &mut out);
        let text = String::from_utf8(out).unwrap();
        let added = format!(
            "0\",\"how\":\"read write\",\"count\":7,\"path_sha256\":\"{}\",\"host\":\"{}\"}}\n",
            "ab".repeat(32),
            host()
        );
        assert!(text.ends_with(&added), "{text}");
        let line = Line::parse(text.trim_end().as_bytes()).unwrap();
        assert_eq!(
            (line.how.as_deref(), line.count),
            (Some("read write"), NonZeroU64::new(7))
        );
    }

    #[test]
    fn a_path_is_cut_to_its_end_and_says_so() {
        let whole = "x".repeat(MAX_PATH);
        let entry = Entry::now("open", &*whole, OK, "");
        assert_eq!((&entry.path, entry.cut), (&whole, None));
        for longer in [format!("y{whole}"), format!("{}{whole}", "ö".repeat(2000))] {
            let entry = Entry::now("open", &*longer, OK, "");
            assert_eq!(entry.path, format!("…{whole}"));
            assert_eq!(
                entry.cut,
                Some(digest(longer.as_bytes())),
                "two of one end are told apart"
            );
        }
    }

    #[test]
    fn no_line_is_longer_than_it_is_said_to_be_nor_than_what_is_read() {
        let who = Who {
            session: "0123abcd".to_owned(),
            user: "2bd806c97f0e00af".to_owned(),
            uid: u32::MAX,
        };
        let path = format!("{}/ö.json", "\"".repeat(100_000));
        for reason in ["", "why \"\\ö", &"\u{1}".repeat(100_000)] {
            let entry = Entry {
                pid: u32::MAX,
                how: "mode 7777 size 18446744073709551615 times".to_owned(),
                count: NonZeroU64::new(u64::MAX),
                ..Entry::now("copy_file_range", path.as_str(), "ENAMETOOLONG", reason)
            };
            assert!(entry.path.starts_with("…\"") && entry.path.ends_with("\"/ö.json"));
            let mut out = Vec::new();
            entry.write(&who, u64::MAX, &[0xff; 32], &mut out);
            let (length, cost) = (out.len() as u64, entry.cost());
            assert!(
                length <= cost && cost < length + 200,
                "{length}, said to be {cost}"
            );
            assert!(out.len() < MAX_LINE, "{}", out.len());
        }
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
