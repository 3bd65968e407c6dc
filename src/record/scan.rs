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

/// One member of the record's object: where its key and value are in the text.
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// A text that is one strict JSON object.
pub(super) struct Scan<'t> {
    text: &'t str,
    /// In the order of the text.
    members: Vec<Member>,
    /// Just behind the opening brace.
    inside: usize,
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
        let mut members = Vec::new();
        json.deserialize_map(Members {
            text,
            role,
            found: &mut members,
        })
        .and_then(|()| json.end())
        .map_err(|error| {
            if error.is_eof() {
                Flaw::Incomplete
            } else {
                Flaw::Invalid(error.to_string().into())
            }
        })?;
        let mut scan = Self {
            text,
            members,
            inside: skip_whitespace(text, 0) + 1,
        };
        scan.place_values();
        Ok(scan)
    }

    /// The text that was scanned.
    pub(super) fn text(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    /// The members, in the order of the text.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members of one role.
    pub(super) fn members_with(&self, role: Role) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role)
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
    pub(super) fn end_of_members(&self) -> usize {
        self.members.last().map_or(self.inside, |last| last.value.end)
    }

    /// The position of the comma before the member of this index.
    pub(super) fn comma_before(&self, index: usize) -> usize {
        let key = self.members.get(index).map_or(0, |member| member.key.start);
        end_before(self.text, key).saturating_sub(1)
    }

    /// How many spaces the last member has before its colon, if it is the owner spelled as the mark.
    pub(super) fn mark_spaces(&self) -> Option<usize> {
        let (last, before) = self.members.split_last()?;
        if last.role != Role::Owner || self.part(&last.key) != "\"user_id\"" {
            return None;
        }
        let adjacent = match before.last() {
            Some(previous) => previous.value.end + 1 == last.key.start,
            None => self.inside == last.key.start,
        };
        let spaces = self.part(&(last.key.end..last.value.start)).strip_suffix(':')?;
        (adjacent && !spaces.is_empty() && spaces.bytes().all(|byte| byte == b' ')).then_some(spaces.len())
    }

    /// Derives the values' places from the keys', now that the text is known to be valid: between two keys there are, but
    /// for whitespace, exactly a colon, a value and a comma.
    fn place_values(&mut self) {
        let text = self.text;
        let closing_brace = text.trim_end_matches(WHITESPACE).len() - 1;
        let mut end = end_before(text, closing_brace);
        for member in self.members.iter_mut().rev() {
            let colon = skip_whitespace(text, member.key.end);
            member.value = skip_whitespace(text, colon + 1)..end;
            let comma = end_before(text, member.key.start).saturating_sub(1);
            end = end_before(text, comma);
        }
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
    found: &'f mut Vec<Member>,
}

impl<'t, F: Fn(&str) -> Role> Visitor<'t> for Members<'t, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&'t RawValue>()? {
            let key = key.get();
            let start = key.as_ptr().addr() - self.text.as_ptr().addr();
            let name = decode(key).map_err(|_| A::Error::custom("a member's name is no valid string"))?;
            self.found.push(Member {
                role: (self.role)(&name),
                key: start..start + key.len(),
                value: 0..0, // Placed when the whole text is known to be valid.
            });
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
