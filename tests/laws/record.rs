//! The laws of the lens, for any bytes on the volume and any that a user writes.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tenantfs::error::Kind;
use tenantfs::identity::UserId;
use tenantfs::record::{Hidden, Lens, owner};
use tenantfs::seal::SealingKeys;

/// The members that are secrets.
pub(crate) const FIELDS: [&str; 2] = ["api_key", "token"];

/// The member that names the owner.
const OWNER: &str = "user_id";

/// What Python writes of numbers that are none in JSON; longer ones before what they end with.
const CONSTANTS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Part of every secret that is generated, and of nothing else.
pub(crate) const SECRET: &str = "sk-8f2e";

/// What separates a stored text from a written one, where both are one input. No JSON text has it.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// A lens that can seal nothing.
pub(crate) fn lens_of(user: &str) -> Lens {
    Lens::new(UserId::new(user).unwrap(), FIELDS.map(str::to_owned).into(), None)
}

/// A lens with these sealing keys, each as in the keys file.
pub(crate) fn sealing(user: &str, active: &str, keys: &[&str]) -> Lens {
    let file = format!(r#"{{"active":"{active}","keys":{{{}}}}}"#, keys.join(","));
    let user = UserId::new(user).unwrap();
    let sealer = SealingKeys::parse(file.as_bytes()).unwrap().sealer(&user);
    Lens::new(user, FIELDS.map(str::to_owned).into(), Some(sealer))
}

/// How a text is read.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reader {
    /// As RFC 8259 has it.
    Strict,
    /// As Python's json has it, which takes NaN, Infinity and -Infinity too.
    Python,
}

/// A member's value, as it is spelled.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spelled(String);

impl Spelled {
    pub(crate) fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// The characters of a string; none of one that has a lone surrogate.
    pub(crate) fn string(&self) -> Option<String> {
        serde_json::from_str(&self.0).ok()
    }

    /// What is sealed of it: the characters of a string, and else the text.
    pub(crate) fn plain(&self) -> String {
        self.string().unwrap_or_else(|| self.0.clone())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    fn is_string(&self) -> bool {
        self.0.starts_with('"')
    }
}

/// A member's name: the characters that it may be read as. There are several where it has a lone surrogate: readers keep
/// that, drop it, or take a question mark or U+FFFD for it.
#[derive(Clone, PartialEq, Debug)]
struct Name(Vec<String>);

impl Name {
    fn of(literal: &str) -> Self {
        if let Ok(name) = serde_json::from_str(literal) {
            return Self(vec![name]);
        }
        let bytes = wtf8(literal);
        let with = |instead: &str| {
            let chunks = bytes.utf8_chunks();
            let read = chunks.map(|chunk| match chunk.invalid().first() {
                // The first of a surrogate's three bytes.
                Some(0xed) => format!("{}{instead}", chunk.valid()),
                _ => chunk.valid().to_owned(),
            });
            read.collect::<String>()
        };
        // Kept, it is no other name than itself: it stays spelled.
        let lossy = String::from_utf8_lossy(&bytes).into_owned();
        Self(vec![
            literal.to_owned(),
            with(""),
            with("?"),
            with("\u{fffd}"),
            lossy,
        ])
    }

    /// Whether every reader reads this.
    fn is(&self, name: &str) -> bool {
        self.0 == [name]
    }

    /// Whether some readers read one of these, and others do not.
    fn is_doubtful(&self, names: &[&str]) -> bool {
        let [kept, others @ ..] = &self.0[..] else {
            return false;
        };
        !names.contains(&kept.as_str()) && others.iter().any(|name| names.contains(&name.as_str()))
    }
}

/// A string's characters, lone surrogates among them.
fn wtf8(literal: &str) -> Vec<u8> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    let mut json = serde_json::Deserializer::from_str(literal);
    json.deserialize_bytes(Bytes).unwrap()
}

/// The top-level members of an object, all of them, as a reader of its own sees them.
pub(crate) struct Members(Vec<(Name, Spelled)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut all = Vec::new();
                // Spelled as they are: what is in there need not fit into any type of Rust's.
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    all.push((Name::of(name.get()), Spelled(value.get().to_owned())));
                }
                Ok(Members(all))
            }
        }
        json.deserialize_map(All)
    }
}

impl Members {
    /// The members of one JSON object of at most 1000 levels with at most 1000 owners and secrets, all of whose names are
    /// beyond doubt where they may be the owner's or a secret's.
    pub(crate) fn read(text: &[u8], reader: Reader) -> Option<Self> {
        Self::read_with(text, reader, &[OWNER, FIELDS[0], FIELDS[1]])
    }

    /// The members as of what knows only these names.
    fn read_with(text: &[u8], reader: Reader, ours: &[&str]) -> Option<Self> {
        if levels(text) > 1000 {
            return None;
        }
        let text = match reader {
            Reader::Strict => Cow::Borrowed(text),
            Reader::Python => Cow::Owned(without_constants(text)),
        };
        let mut json = serde_json::Deserializer::from_slice(&text);
        json.disable_recursion_limit();
        let members = Self::deserialize(&mut json).ok()?;
        json.end().ok()?;
        let names = || members.0.iter().map(|(name, _)| name);
        let of_ours = names().filter(|name| ours.iter().any(|known| name.is(known)));
        let good = of_ours.count() <= 1000 && !names().any(|name| name.is_doubtful(ours));
        good.then_some(members)
    }

    pub(crate) fn all<'m>(&'m self, name: &'m str) -> impl DoubleEndedIterator<Item = &'m Spelled> {
        self.0
            .iter()
            .filter(move |(key, _)| key.is(name))
            .map(|(_, value)| value)
    }

    /// The members that are neither the owner nor a secret.
    pub(crate) fn plain(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let plain = self.0.iter().filter(|(name, _)| !is_ours(name));
        plain.cloned().collect::<Vec<_>>()
    }

    /// Whether a plain member has a secret in its name or value.
    fn leaks(&self) -> bool {
        let mut plain = self.0.iter().filter(|(name, _)| !is_ours(name));
        plain.any(|(name, value)| name.0[0].contains(SECRET) || value.text().contains(SECRET))
    }

    /// What a reader that keeps the first of several equal names says, and what one that keeps the last says.
    fn first_and_last(&self, name: &str) -> [Option<String>; 2] {
        let mut all = self.all(name);
        let (first, last) = (all.next(), all.next_back());
        [first, last.or(first)].map(|value| value?.string())
    }

    fn mentions_secret(&self) -> bool {
        FIELDS.iter().any(|name| self.all(name).next().is_some())
    }
}

fn is_ours(name: &Name) -> bool {
    name.is(OWNER) || FIELDS.iter().any(|field| name.is(field))
}

/// The bytes of a text, and for each whether it is within a string. A quote that begins one is, the one that ends it is not.
fn quoted(text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let (mut in_string, mut escaped) = (false, false);
    text.iter().map(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        (*byte, in_string)
    })
}

/// The text with an array in place of each NaN, Infinity and -Infinity outside of strings. That is no good in the place of a
/// name, or next to anything but a bracket, comma or colon, just as those.
fn without_constants(text: &[u8]) -> Vec<u8> {
    let outside: Vec<bool> = quoted(text).map(|(_, in_string)| !in_string).collect();
    let (mut without, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let found = CONSTANTS
            .iter()
            .find(|word| outside[at] && text[at..].starts_with(word.as_bytes()));
        match found {
            Some(word) => without.extend_from_slice(format!("[\"\\u0000{word}\"]").as_bytes()),
            None => without.push(text[at]),
        }
        at += found.map_or(1, |word| word.len());
    }
    without
}

/// How deep brackets nest outside of strings.
pub(crate) fn levels(text: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    for (byte, in_string) in quoted(text) {
        match byte {
            b'{' | b'[' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whose the members say that a text is, for a reader that knows these names.
fn expected_owner(text: &[u8], ours: &[&str]) -> Result<String, Hidden> {
    let members = Members::read_with(text, Reader::Python, ours).ok_or(Hidden::Malformed)?;
    let owners: Vec<_> = members.all(OWNER).collect();
    match owners[..] {
        [] => Err(Hidden::Ownerless),
        [owner] if !owner.is_string() => Err(Hidden::Ownerless),
        // Some read a lone surrogate as what may be somebody's name.
        [owner] => owner.string().ok_or(Hidden::Malformed),
        _ => Err(Hidden::TwoOwners),
    }
}

/// What the members say the verdict should be.
fn expected_verdict(text: &[u8]) -> Result<(), Hidden> {
    match expected_owner(text, &[OWNER, FIELDS[0], FIELDS[1]])?.as_str() {
        "alice" => Ok(()),
        _ => Err(Hidden::Foreign),
    }
}

/// What the members say of a text that a user writes over another, or over nothing: whether it is taken.
fn expected_admission(lens: &Lens, stored: Option<&[u8]>, written: &[u8]) -> Result<Members, Kind> {
    // What the service wrote, and the user writes back as it is shown, stays.
    let shown = stored.and_then(|stored| lens.view(stored).ok());
    let reader = match shown.is_some_and(|view| view.text == written) {
        true => Reader::Python,
        false => Reader::Strict,
    };
    let members = Members::read(written, reader).ok_or(Kind::InvalidRecord)?;
    let once = |name: &str| members.all(name).count() <= 1;
    if !once("user_id") {
        return Err(Kind::InvalidRecord);
    }
    for name in FIELDS {
        if !once(name) {
            return Err(Kind::InvalidRecord);
        }
        if lens.sealer().is_none() && members.all(name).any(|value| !value.is_null()) {
            return Err(Kind::PlainSecret);
        }
    }
    Ok(members)
}

/// Whether a view shows a secret of the stored text. Damage can make a plain member of one, which is then shown.
fn leaks(stored: &[u8], view: &[u8]) -> bool {
    let plain = Members::read(stored, Reader::Python).unwrap();
    String::from_utf8_lossy(view).contains(SECRET) && !plain.leaks()
}

/// All that must hold of one input: a stored text, the separator, and a written one; or both in one.
pub(crate) fn check_input(input: &[u8]) {
    const OLD: &str = r#""old":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=""#;
    const NEW: &str = r#""new":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=""#;
    thread_local! {
        static LENSES: [Lens; 2] = [lens_of("alice"), sealing("alice", "new", &[OLD, NEW])];
    }
    let mut parts = input.splitn(2, |byte| *byte == SEPARATOR);
    let stored = parts.next().unwrap_or_default();
    let written = parts.next().unwrap_or(stored);
    LENSES.with(|lenses| {
        for lens in lenses {
            check(lens, Some(stored), written);
            check_written(lens, None, written);
        }
    });
}

/// All that must hold, through a lens of alice's, whatever is on the volume and whatever a user writes.
pub(crate) fn check(lens: &Lens, stored: Option<&[u8]>, written: &[u8]) {
    if let Some(stored) = stored {
        check_stored(lens, stored);
    }
    check_written(lens, stored, written);
    check_alone(lens, written);
}

/// Of a text on the volume.
fn check_stored(lens: &Lens, stored: &[u8]) {
    let verdict = lens.view(stored);
    let expected = expected_verdict(stored);
    assert_eq!(
        verdict.as_ref().map(|_| ()).map_err(|hidden| *hidden),
        expected,
        "view accepts what its reader and the owner's rule accept"
    );
    // What can be no user id is nobody's. To `owner`, secrets are plain members.
    let named =
        expected_owner(stored, &[OWNER]).and_then(|name| UserId::new(name).map_err(|_| Hidden::Ownerless));
    assert_eq!(owner(stored), named);
    let Ok(view) = verdict else {
        assert!(lens.secrets(stored).is_err() && lens.reveal(stored, FIELDS[0]).is_err());
        assert!(lens.reseal(stored, true).is_err());
        return;
    };
    assert!(!leaks(stored, &view.text));
    let (members, shown) = (
        Members::read(stored, Reader::Python).unwrap(),
        Members::read(&view.text, Reader::Python).expect("a view is a JSON object"),
    );
    assert!(!shown.mentions_secret());
    assert_eq!(shown.plain(), members.plain(), "all else is shown");
    let secrets = FIELDS.iter().flat_map(|name| members.all(name));
    let set = secrets.filter(|value| !value.is_null()).count();
    assert_eq!(view.has_secret, set > 0);
    assert_eq!(lens.secrets(stored).unwrap().len(), set);
    let back = lens.put(Some(stored), &view.text).unwrap();
    assert_eq!(back.stored, stored, "put(S, view(S)) == S");
    assert!(!back.owner_overridden);
    if let Some(resealed) = lens.reseal(stored, true).unwrap() {
        assert_eq!(lens.view(&resealed).unwrap().text, view.text);
        assert!(!leaks(&resealed, &resealed), "what is adopted is sealed");
        assert!(lens.reseal(&resealed, true).unwrap().is_none());
    }
}

/// Of a text that a user writes over another, or over nothing.
fn check_written(lens: &Lens, stored: Option<&[u8]>, written: &[u8]) {
    let admission = expected_admission(lens, stored, written);
    let put = match (lens.put(stored, written), admission.as_ref()) {
        (Ok(put), Ok(_)) => put,
        (Err(error), Err(expected)) => {
            let incomplete = error.kind() == Kind::IncompleteRecord;
            assert!(
                error.kind() == *expected || (incomplete && *expected == Kind::InvalidRecord),
                "{error}"
            );
            assert!(!error.to_string().contains(SECRET), "{error}");
            return;
        }
        (Ok(_), Err(expected)) => panic!("taken, and should be {expected:?}"),
        (Err(error), Ok(_)) => panic!("refused: {error}"),
    };
    let before = admission.unwrap();
    let after = Members::read(&put.stored, Reader::Python).expect("what is stored is a JSON object");
    let alice = Some("alice".to_owned());
    assert_eq!(after.first_and_last(OWNER), [alice.clone(), alice.clone()]);
    assert_eq!(after.all(OWNER).count(), 1);
    assert_eq!(
        put.owner_overridden,
        before.all(OWNER).any(|owner| owner.string() != alice)
    );
    assert_eq!(after.plain(), before.plain(), "the rest is theirs");

    let view = lens
        .view(&put.stored)
        .expect("what is stored is visible to its owner");
    assert!(!leaks(&put.stored, &view.text));
    assert_eq!(lens_of("bob").view(&put.stored).unwrap_err(), Hidden::Foreign);
    if !before.mentions_secret() && !put.owner_overridden {
        assert_eq!(view.text, written, "view(put(S, V)) == V");
    }

    let base = stored.filter(|stored| expected_verdict(stored).is_ok());
    let base = base.map(|base| Members::read(base, Reader::Python).unwrap());
    for name in FIELDS {
        let kept = after.all(name).next_back();
        match before.all(name).next() {
            None => assert_eq!(
                kept,
                base.as_ref().and_then(|base| base.all(name).next_back()),
                "a secret that is not mentioned stays"
            ),
            Some(value) if value.is_null() => assert_eq!(kept, None, "a secret that is set to null goes"),
            // What opens was sealed before, and is kept as it is.
            Some(value) if kept == Some(value) => {
                lens.reveal(&put.stored, name).expect("what is kept opens");
            }
            Some(value) => assert_eq!(*lens.reveal(&put.stored, name).unwrap(), value.plain()),
        }
    }
}

/// Of a text by itself.
fn check_alone(lens: &Lens, text: &[u8]) {
    let members = Members::read(text, Reader::Python);
    if members.as_ref().is_some_and(Members::mentions_secret) {
        assert!(lens.may_hold_secret(text));
    }
    match (lens.without_secrets(text), members) {
        (Ok((owner, without)), Some(members)) => {
            let rest = Members::read(&without, Reader::Python).expect("what is left is a JSON object");
            assert!(!rest.mentions_secret());
            assert_eq!(rest.plain(), members.plain());
            let named = |owner: &UserId| {
                rest.all(OWNER)
                    .any(|name| name.string().as_deref() == Some(owner.as_str()))
            };
            assert!(owner.as_ref().is_none_or(named));
        }
        (Ok(_), None) => panic!("a text is taken that is no JSON object"),
        (Err(_), None) => {}
        // It says of several that it is theirs, or of somebody who is read in several ways.
        (Err(error), Some(members)) => {
            let doubtful = members
                .all(OWNER)
                .any(|name| name.is_string() && name.string().is_none());
            assert!(doubtful || members.all(OWNER).count() > 1, "{error}");
        }
    }
    // A beginning is incomplete wherever it ends.
    let whole = text.trim_ascii_end().len();
    if Members::read(text, Reader::Strict).is_some() && whole > 0 {
        for end in [0, whole / 2, whole - 1] {
            let error = lens.put(None, &text[..end]).unwrap_err();
            assert_eq!(error.kind(), Kind::IncompleteRecord, "{error}, after {end} bytes");
        }
    }
}
