//! JSON's grammar, RFC 8259: a cursor that passes over one text.
//!
//! It does not call itself for what is within a value: a text, however deep it nests, needs no more of a thread's stack than
//! another.

use std::fmt;
use std::ops::Range;

/// How many levels of objects and arrays a record may have, its own included. Python itself reads about a thousand.
const MAX_DEPTH: usize = 1000;

/// Whether NaN, Infinity and -Infinity are values. They are no JSON, but Python's `json.dumps` writes them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Constants {
    Taken,
    Refused,
}

/// What is wrong with a text where the cursor stands. Where that is the end of the text, the rest of it is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Name,
    Colon,
    Value,
    Word,
    Constant,
    Digit,
    Comma,
    Control,
    Escape,
    /// Any character could follow: only at the end of the text.
    InString,
    Deep,
    Trailing,
}

/// Where a text is read, and what is open there.
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    constants: Constants,
    /// For each level the bracket that closes it.
    open: Vec<u8>,
}

impl<'t> Cursor<'t> {
    /// A cursor on the first byte of a text that is not whitespace.
    pub(super) fn new(text: &'t str, constants: Constants) -> Self {
        let mut cursor = Self {
            text: text.as_bytes(),
            at: 0,
            constants,
            open: Vec::new(),
        };
        cursor.whitespace();
        cursor
    }

    /// Where it stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The byte there; none at the end of the text.
    #[inline]
    pub(super) fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes the bracket that opens an object or array. Whether something is in there; else its end is passed too.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<bool, Wrong> {
        let closing = match self.byte() {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return Err(Wrong::Value),
        };
        if self.open.len() == MAX_DEPTH {
            return Err(Wrong::Deep);
        }
        self.at += 1;
        self.whitespace();
        if self.byte() == Some(closing) {
            self.at += 1;
            return Ok(false);
        }
        self.open.push(closing);
        Ok(true)
    }

    /// Passes a member's name, the colon, and the whitespace around that. Returns where the name is.
    #[inline]
    pub(super) fn name(&mut self) -> Result<Range<usize>, Wrong> {
        let start = self.at;
        if self.byte() != Some(b'"') {
            return Err(Wrong::Name);
        }
        self.string()?;
        let end = self.at;
        self.whitespace();
        if self.byte() != Some(b':') {
            return Err(Wrong::Colon);
        }
        self.at += 1;
        self.whitespace();
        Ok(start..end)
    }

    /// Passes a value.
    pub(super) fn value(&mut self) -> Result<(), Wrong> {
        let outside = self.open.len();
        loop {
            let ended = match self.byte() {
                Some(b'{' | b'[') => !self.enter()?,
                _ => {
                    self.scalar()?;
                    true
                }
            };
            if ended && !self.leave(outside)? {
                return Ok(());
            }
            if self.open.last() == Some(&b'}') {
                self.name()?;
            }
        }
    }

    /// Behind a value: passes the ends of what ends with it, but for what is open `outside`. Whether another value follows
    /// before that, whose comma is passed.
    #[inline]
    fn leave(&mut self, outside: usize) -> Result<bool, Wrong> {
        while self.open.len() > outside {
            if self.another()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Behind a value: passes a comma, or else the end of what the value is in. Whether it was a comma.
    #[inline]
    pub(super) fn another(&mut self) -> Result<bool, Wrong> {
        self.whitespace();
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                self.whitespace();
                Ok(true)
            }
            Some(byte) if self.open.last() == Some(&byte) => {
                self.at += 1;
                self.open.pop();
                Ok(false)
            }
            _ => Err(Wrong::Comma),
        }
    }

    /// Passes whitespace, behind which the text must end.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        self.whitespace();
        match self.byte() {
            Some(_) => Err(Wrong::Trailing),
            None => Ok(()),
        }
    }

    #[inline]
    fn whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    /// Passes a value that has nothing within.
    #[inline]
    fn scalar(&mut self) -> Result<(), Wrong> {
        match self.byte() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'N') => self.constant("NaN"),
            Some(b'I') => self.constant("Infinity"),
            _ => Err(Wrong::Value),
        }
    }

    #[inline]
    fn string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            self.at += ordinary(self.text.get(self.at..).unwrap_or_default());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(Wrong::Control),
                None => return Err(Wrong::InString),
            }
        }
    }

    /// Passes an escape. Lone surrogates are good: the grammar knows nothing of pairs.
    fn escape(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.byte().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(Wrong::Escape);
                    }
                    self.at += 1;
                }
            }
            _ => return Err(Wrong::Escape),
        }
        Ok(())
    }

    /// Passes a number, of any size: what it is rounded to is its readers' business.
    #[inline]
    fn number(&mut self) -> Result<(), Wrong> {
        if self.byte() == Some(b'-') {
            if self.rest().starts_with(b"-I") {
                return self.constant("-Infinity");
            }
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Passes digits, at least one.
    #[inline]
    fn digits(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start {
            return Err(Wrong::Digit);
        }
        Ok(())
    }

    #[inline]
    fn word(&mut self, word: &str) -> Result<(), Wrong> {
        if self.rest().starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        let same = |(byte, expected): &(&u8, u8)| **byte == *expected;
        self.at += self.rest().iter().zip(word.bytes()).take_while(same).count();
        Err(Wrong::Word)
    }

    /// A word that is no JSON.
    fn constant(&mut self, word: &str) -> Result<(), Wrong> {
        match self.constants {
            Constants::Taken => self.word(word),
            Constants::Refused if self.rest().starts_with(word.as_bytes()) => Err(Wrong::Constant),
            Constants::Refused => Err(Wrong::Word),
        }
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// How many bytes there are before a quote, a backslash or a control character.
#[inline]
fn ordinary(bytes: &[u8]) -> usize {
    let mut passed = 0;
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let special = specials(u64::from_le_bytes(*word));
        if special != 0 {
            return passed + special.trailing_zeros() as usize / 8;
        }
        passed += 8;
        rest = behind;
    }
    passed + rest.iter().position(is_special).unwrap_or(rest.len())
}

fn is_special(byte: &u8) -> bool {
    matches!(*byte, b'"' | b'\\' | 0..b' ')
}

/// The high bit of each of eight bytes that is a quote, a backslash or a control character. The lowest bit that is set is
/// right; one above it may be set for a byte that is none, by what a subtraction borrows.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let equal = |byte: u8| {
        let zero_where_equal = word ^ (ONES * u64::from(byte));
        zero_where_equal.wrapping_sub(ONES) & !zero_where_equal
    };
    let control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
    (equal(b'"') | equal(b'\\') | control) & (ONES << 7)
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "there is no member's name in double quotes",
            Self::Colon => "there is no colon behind a member's name",
            Self::Value => "there is no value",
            Self::Word => "there is a word that is not true, false or null",
            Self::Constant => "NaN and Infinity are no JSON, and cannot be saved",
            Self::Digit => "there is no digit where a number needs one",
            Self::Comma => "there is neither a comma nor the end of an object or array",
            Self::Control => "there is a control character that is not escaped",
            Self::Escape => "there is an escape that JSON does not know",
            Self::InString => "there is a string that does not end",
            Self::Deep => "there are more than 1000 levels",
            Self::Trailing => "there are trailing characters",
        })
    }
}
