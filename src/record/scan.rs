//! One pass over a record's text, which keeps the positions of its members.
//!
//! What is accepted here has one structure, and one owner, to every JSON reader of a Python, Go or JavaScript service that
//! reads it at all. Some refuse more: a lone surrogate, a number beyond a double's range, NaN, deep nesting. Those read no
//! owner, and so no other one. In the name of a member such a surrogate is read in several ways, and where one of them is a
//! name that counts, the text is refused.

use std::borrow::Cow;
use std::iter;
use std::ops::Range;

use super::hidden::Hidden;
use super::json::{Constants, Cursor, Wrong};

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

/// A text that is one JSON object. Of plain members no more is kept than is needed to cut and insert others: a
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
    pub(super) fn of(
        text: &'t [u8],
        constants: Constants,
        role: impl Fn(&str) -> Role,
    ) -> Result<Self, Flaw> {
        let error = match std::str::from_utf8(text) {
            Ok(text) => return Self::of_text(text, constants, role).map_err(|broken| broken.flaw(text)),
            Err(error) => error,
        };
        let valid = text.get(..error.valid_up_to()).unwrap_or_default();
        let text = std::str::from_utf8(valid).unwrap_or_default();
        // What breaks off within a character is a beginning only where any character can be.
        match Self::of_text(text, constants, role) {
            Err(Broken::Grammar(Wrong::InString, _)) if error.error_len().is_none() => Err(Flaw::Incomplete),
            _ => Err(Flaw::Invalid(
                format!("it is not UTF-8 from byte {} on", valid.len()).into(),
            )),
        }
    }

    fn of_text(text: &'t str, constants: Constants, role: impl Fn(&str) -> Role) -> Result<Self, Broken> {
        let mut json = Cursor::new(text, constants);
        if json.byte().is_some_and(|byte| byte != b'{') {
            return Err(Broken::NoObject);
        }
        let inside = json.at() + 1;
        let mut found = Found::default();
        let end = found.members_of(text, &mut json, role)?;
        Ok(Self {
            text,
            found,
            inside,
            end: end.unwrap_or(inside),
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

    /// The characters of the string that a value is; none when it is no string, or has a lone surrogate.
    pub(super) fn string(&self, value: &Range<usize>) -> Option<Cow<'t, str>> {
        decode(self.part(value), None)
    }

    /// What the one owner member says.
    pub(super) fn owner(&self) -> Result<Cow<'t, str>, Hidden> {
        let mut owners = self.members_with(Role::Owner);
        let owner = owners.next().ok_or(Hidden::Ownerless)?;
        if owners.next().is_some() {
            return Err(Hidden::TwoOwners);
        }
        match self.string(&owner.value) {
            Some(name) => Ok(name),
            // Some read other characters in place of a lone surrogate, and that may be a user.
            None if self.part(&owner.value).starts_with('"') => Err(Hidden::Malformed),
            None => Err(Hidden::Ownerless),
        }
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

/// Why a text is no record.
enum Broken {
    NoObject,
    /// At this position.
    Grammar(Wrong, usize),
    /// The name at this position may count, and may not.
    DoubtfulName(usize),
    /// The name at this position is one too many that counts.
    Crowd(usize),
}

impl Broken {
    fn flaw(&self, text: &str) -> Flaw {
        let (why, at) = match self {
            // What is wrong at the end is what is missing there.
            Self::Grammar(_, at) if *at == text.len() => return Flaw::Incomplete,
            Self::NoObject => return Flaw::Invalid("it does not begin with {".into()),
            Self::Grammar(wrong, at) => (wrong.to_string(), *at),
            Self::DoubtfulName(at) => (
                "some read this name as the owner's or a secret's, for they drop a lone surrogate".to_owned(),
                *at,
            ),
            Self::Crowd(at) => (
                format!("there are more than {MAX_MEMBERS} owners and secrets"),
                *at,
            ),
        };
        let before = text.as_bytes().get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Flaw::Invalid(format!("{why}, at line {line} column {column}").into())
    }
}

impl Found {
    /// Finds the members of the object at which the cursor stands, behind which the text must end. Where the last value
    /// ends, if there is any.
    fn members_of(
        &mut self,
        text: &str,
        json: &mut Cursor<'_>,
        role: impl Fn(&str) -> Role,
    ) -> Result<Option<usize>, Broken> {
        let mut end = None;
        let mut more = step(json, Cursor::enter)?;
        while more {
            let key = step(json, Cursor::name)?;
            let role = role_of(text.get(key.clone()).unwrap_or_default(), &role)
                .ok_or(Broken::DoubtfulName(key.start))?;
            let start = json.at();
            step(json, Cursor::value)?;
            self.add(role, key, start..json.at())?;
            end = Some(json.at());
            more = step(json, Cursor::another)?;
        }
        step(json, Cursor::end)?;
        Ok(end)
    }

    fn add(&mut self, role: Role, key: Range<usize>, value: Range<usize>) -> Result<(), Broken> {
        let index = self.count;
        self.count += 1;
        match role {
            Role::Plain if index == self.members.len() => self.first_plain = key.start,
            Role::Plain => {}
            _ if self.members.len() == MAX_MEMBERS => return Err(Broken::Crowd(key.start)),
            role => self.members.push(Member {
                role,
                index,
                key,
                value,
            }),
        }
        Ok(())
    }
}

/// One step of the cursor; what is wrong is wrong where it then stands.
fn step<'t, T>(
    json: &mut Cursor<'t>,
    step: impl FnOnce(&mut Cursor<'t>) -> Result<T, Wrong>,
) -> Result<T, Broken> {
    step(json).map_err(|wrong| Broken::Grammar(wrong, json.at()))
}

/// What readers put in the place of a lone surrogate: nothing, a question mark, the replacement character, or that for each of
/// the three bytes that it would be in UTF-8. To those that keep it the name is none that anybody else can spell.
const READ_AS: [&str; 4] = ["", "?", "\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}"];

/// What the member of this name is to every reader; none if they differ.
fn role_of(name: &str, role: impl Fn(&str) -> Role) -> Option<Role> {
    if let Some(name) = decode(name, None) {
        return Some(role(&name));
    }
    let is_plain = |lone: &str| decode(name, Some(lone)).is_some_and(|name| role(&name) == Role::Plain);
    READ_AS.into_iter().all(is_plain).then_some(Role::Plain)
}

/// The characters of a string, with `lone` in place of each lone surrogate; none when it has one and `lone` is none, and when
/// it is no string.
fn decode<'t>(literal: &'t str, lone: Option<&str>) -> Option<Cow<'t, str>> {
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    // Allocated once, so that no secret stays behind in a buffer that was outgrown.
    let mut decoded = String::with_capacity(inner.len());
    for character in char::decode_utf16(units(inner)) {
        match character {
            Ok(character) => decoded.push(character),
            Err(_) => decoded.push_str(lone?),
        }
    }
    Some(Cow::Owned(decoded))
}

/// The UTF-16 code units that a string's content stands for, which is good grammar.
fn units(content: &str) -> impl Iterator<Item = u16> {
    let mut rest = content;
    // The second unit of a character that takes two.
    let mut second = None;
    iter::from_fn(move || {
        if let Some(unit) = second.take() {
            return Some(unit);
        }
        let mut characters = rest.chars();
        let first = characters.next()?;
        if first != '\\' {
            rest = characters.as_str();
            let mut pair = [0; 2];
            let mut units = first.encode_utf16(&mut pair).iter().copied();
            let unit = units.next();
            second = units.next();
            return unit;
        }
        let (unit, behind) = escaped(characters.as_str())?;
        rest = behind;
        Some(unit)
    })
}

/// What the escape stands for that begins before `text`, and what is behind it.
fn escaped(text: &str) -> Option<(u16, &str)> {
    let mut characters = text.chars();
    let unit = match characters.next()? {
        'u' => {
            let (digits, behind) = characters.as_str().split_at_checked(4)?;
            return Some((u16::from_str_radix(digits, 16).ok()?, behind));
        }
        'b' => 0x08,
        'f' => 0x0c,
        'n' => 0x0a,
        'r' => 0x0d,
        't' => 0x09,
        itself => u16::try_from(u32::from(itself)).ok()?,
    };
    Some((unit, characters.as_str()))
}
