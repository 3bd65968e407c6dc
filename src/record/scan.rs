//! One strict pass over a record's text, which keeps the positions of its members.
//!
//! Strict means: whatever is accepted here, every JSON reader of a Python, Go or JavaScript service accepts with the same
//! structure. So no lone surrogates, no numbers beyond a double's range, no invalid UTF-8 anywhere, no bottomless nesting.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How many levels of objects and arrays a record may have, its own included. Python's own limit is about a thousand.
const MAX_DEPTH: usize = 128;

/// What a member is to the lens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    Owner,
    /// The secret field of this index.
    Secret(usize),
}

/// An owner or secret member of the record's object: where its key and value are in the text.
pub(super) struct Member {
    pub(super) role: Role,
    /// How many members there are before it.
    pub(super) index: usize,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The most owner and secret members that a text may have together: memory is for records, not for riddles.
const MAX_MEMBERS: usize = 1000;

/// A text that is one strict JSON object. Of plain members no more is kept than is needed to cut and insert others: a
/// record of 16 MiB can have millions.
pub(super) struct Scan<'t> {
    text: &'t str,
    found: Found,
    /// Just behind the opening brace.
    inside: usize,
    /// Behind the last value, or where the first would be.
    end: usize,
}

/// What the pass over the text finds.
#[derive(Default)]
struct Found {
    /// The owner and secret members, in the order of the text.
    members: Vec<Member>,
    /// How many members there are, plain ones included.
    count: usize,
    /// Where the key of the first plain member is.
    first_plain: usize,
}

/// What is wrong with a text.
pub(super) enum Flaw {
    /// It is the beginning of a JSON object.
    Incomplete,
    /// More bytes cannot mend it. The reason never quotes the text.
    Invalid(Cow<'static, str>),
}

impl<'t> Scan<'t> {
    /// Scans a text; `role` tells what a member is by its decoded name.
    pub(super) fn of(text: &'t [u8], role: impl Fn(&str) -> Role) -> Result<Self, Flaw> {
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let valid = text.get(..error.valid_up_to()).unwrap_or_default();
                return Err(flaw_of_broken_utf8(valid, error.error_len()));
            }
        };
        if text
            .trim_start_matches(WHITESPACE)
            .starts_with(|first| first != '{')
        {
            return Err(Flaw::Invalid("it does not begin with {".into()));
        }
        let mut json = serde_json::Deserializer::from_str(text);
        json.disable_recursion_limit(); // Value counts the levels itself: serde_json's limit is 127.
        let mut found = Found::default();
        json.deserialize_map(Members {
            text,
            role,
            found: &mut found,
        })
        .and_then(|()| json.end())
        .map_err(|error| {
            if error.is_eof() {
                Flaw::Incomplete
            } else {
                Flaw::Invalid(error.to_string().into())
            }
        })?;
        let inside = skip_whitespace(text, 0) + 1;
        let closing_brace = text.trim_end_matches(WHITESPACE).len() - 1;
        let end = match found.count {
            0 => inside,
            _ => end_before(text, closing_brace),
        };
        for member in &mut found.members {
            let colon = skip_whitespace(text, member.key.end);
            member.value.start = skip_whitespace(text, colon + 1);
            if member.index + 1 == found.count {
                member.value.end = end;
            }
        }
        Ok(Self {
            text,
            found,
            inside,
            end,
        })
    }

    /// The text that was scanned.
    pub(super) fn text(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    /// The owner and secret members, in the order of the text.
    pub(super) fn members(&self) -> &[Member] {
        &self.found.members
    }

    /// How many members there are, plain ones included.
    pub(super) fn count(&self) -> usize {
        self.found.count
    }

    /// The members of one role.
    pub(super) fn members_with(&self, role: Role) -> impl Iterator<Item = &Member> {
        self.members().iter().filter(move |member| member.role == role)
    }

    /// A part of the text.
    pub(super) fn part(&self, range: &Range<usize>) -> &'t str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// The string that a value is, decoded; none when it is no string.
    pub(super) fn string(&self, value: &Range<usize>) -> Option<Cow<'t, str>> {
        decode(self.part(value)).ok()
    }

    /// Whether a member's value is something.
    pub(super) fn is_set(&self, member: &Member) -> bool {
        self.part(&member.value) != "null"
    }

    /// Where a member can be added at the end: behind the last value, or behind the brace of an empty object.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Where the key of the first member is, or would be.
    pub(super) fn first_key(&self) -> usize {
        skip_whitespace(self.text, self.inside)
    }

    /// The position of the comma before an owner or secret member that is not the first.
    pub(super) fn comma_before(&self, member: &Member) -> usize {
        comma_before(self.text, member.key.start)
    }

    /// The position of the comma before the first plain member, when it is not the first of all.
    pub(super) fn comma_before_plain(&self) -> usize {
        comma_before(self.text, self.found.first_plain)
    }

    /// The last member and how many spaces it has before its colon, if it is the owner spelled as the mark.
    pub(super) fn mark(&self) -> Option<(&Member, usize)> {
        let last = self
            .members()
            .last()
            .filter(|last| last.index + 1 == self.count())?;
        if last.role != Role::Owner || self.part(&last.key) != "\"user_id\"" {
            return None;
        }
        let adjacent = match last.index {
            0 => self.inside == last.key.start,
            _ => end_before(self.text, self.comma_before(last)) + 1 == last.key.start,
        };
        let spaces = self.part(&(last.key.end..last.value.start)).strip_suffix(':')?;
        let spelled = adjacent && !spaces.is_empty() && spaces.bytes().all(|byte| byte == b' ');
        spelled.then_some((last, spaces.len()))
    }
}

/// JSON's whitespace.
const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The first position from `from` on that is not whitespace.
fn skip_whitespace(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    text.len() - rest.trim_start_matches(WHITESPACE).len()
}

/// The end of what stands before `position`, without the whitespace between.
fn end_before(text: &str, position: usize) -> usize {
    let before = text.get(..position).unwrap_or_default();
    before.trim_end_matches(WHITESPACE).len()
}

/// The position of the comma before the key at `key`.
fn comma_before(text: &str, key: usize) -> usize {
    end_before(text, key).saturating_sub(1)
}

/// A text that is UTF-8 up to `valid` only: incomplete if it breaks off within a character within a string.
fn flaw_of_broken_utf8(valid: &[u8], error_len: Option<usize>) -> Flaw {
    // With some whole character in its place (a long one, that is part of no escape), would the text be a beginning?
    let mut probe = valid.to_vec();
    probe.extend_from_slice(char::MAX.encode_utf8(&mut [0; 4]).as_bytes());
    match error_len {
        None if matches!(Scan::of(&probe, |_| Role::Plain), Err(Flaw::Incomplete)) => Flaw::Incomplete,
        _ => Flaw::Invalid(format!("it is not UTF-8 from byte {} on", valid.len()).into()),
    }
}

/// The content of a JSON string. Strict: a lone surrogate is an error.
fn decode(literal: &str) -> serde_json::Result<Cow<'_, str>> {
    match literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(literal).map(Cow::Owned),
    }
}

/// Visits the record's own object.
struct Members<'t, 'f, F> {
    text: &'t str,
    role: F,
    found: &'f mut Found,
}

impl<'t, F: Fn(&str) -> Role> Visitor<'t> for Members<'t, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        let found = self.found;
        while let Some(key) = map.next_key::<&'t RawValue>()? {
            let key = key.get();
            let start = key.as_ptr().addr() - self.text.as_ptr().addr();
            let index = found.count;
            if let Some(previous) = found
                .members
                .last_mut()
                .filter(|previous| previous.index + 1 == index)
            {
                previous.value.end = end_before(self.text, comma_before(self.text, start));
            }
            let name = decode(key).map_err(|_| A::Error::custom("a member's name is no valid string"))?;
            match (self.role)(&name) {
                Role::Plain if index == found.members.len() => found.first_plain = start,
                Role::Plain => {}
                _ if found.members.len() == MAX_MEMBERS => {
                    return Err(A::Error::custom("more than 1000 owners and secrets"));
                }
                role => found.members.push(Member {
                    role,
                    index,
                    key: start..start + key.len(),
                    value: 0..0, // Its ends are known when what follows it is.
                }),
            }
            found.count += 1;
            map.next_value_seed(Value { depth: 2 })?;
        }
        Ok(())
    }
}

/// Visits a value that would be, if it has members or elements, on this level.
#[derive(Clone, Copy)]
struct Value {
    depth: usize,
}

impl Value {
    /// What is within.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth > MAX_DEPTH {
            return Err(E::custom("more than 128 levels"));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'t> DeserializeSeed<'t> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut array: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while array.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'t>>(self, mut object: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        // A name is a string to the seed, and as strict as any other.
        while object.next_key_seed(inner)?.is_some() {
            object.next_value_seed(inner)?;
        }
        Ok(())
    }
}
