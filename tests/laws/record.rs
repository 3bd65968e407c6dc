//! The laws of the lens, for any bytes on the volume and any that a user writes.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use tenantfs::error::Kind;
use tenantfs::identity::UserId;
use tenantfs::record::{Hidden, Lens, owner};
use tenantfs::seal::SealingKeys;

/// The members that are secrets.
pub(crate) const FIELDS: [&str; 2] = ["api_key", "token"];

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

/// The top-level members of an object, all of them, as a reader of its own sees them.
pub(crate) struct Members(Vec<(String, Value)>);

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
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        json.deserialize_map(All)
    }
}

impl Members {
    /// The members of one JSON object of at most 128 levels with at most 1000 owners and secrets.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        // Before it is read: the reader would descend as far.
        if levels(text) > 128 {
            return None;
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        json.disable_recursion_limit();
        let members = Self::deserialize(&mut json).ok()?;
        json.end().ok()?;
        let of_ours = members.0.iter().filter(|(name, _)| is_ours(name));
        (of_ours.count() <= 1000).then_some(members)
    }

    pub(crate) fn all<'m>(&'m self, name: &'m str) -> impl DoubleEndedIterator<Item = &'m Value> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The members that are neither the owner nor a secret.
    pub(crate) fn plain(&self) -> Vec<(String, Value)> {
        let plain = self.0.iter().filter(|(name, _)| !is_ours(name));
        plain.cloned().collect()
    }

    /// What a reader that keeps the first of several equal names says, and what one that keeps the last says.
    fn first_and_last<'m>(&'m self, name: &'m str) -> (Option<&'m Value>, Option<&'m Value>) {
        (self.all(name).next(), self.all(name).next_back())
    }

    fn mentions_secret(&self) -> bool {
        FIELDS.iter().any(|name| self.all(name).next().is_some())
    }
}

fn is_ours(name: &str) -> bool {
    name == "user_id" || FIELDS.contains(&name)
}

/// How deep brackets nest outside of strings.
fn levels(text: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
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

/// What the members say the verdict should be.
fn expected_verdict(text: &[u8]) -> Result<(), Hidden> {
    let members = Members::read(text).ok_or(Hidden::Malformed)?;
    let owners: Vec<_> = members.all("user_id").collect();
    match owners[..] {
        [] => Err(Hidden::Ownerless),
        [Value::String(owner)] if owner == "alice" => Ok(()),
        [Value::String(_)] => Err(Hidden::Foreign),
        [_] => Err(Hidden::Ownerless),
        _ => Err(Hidden::TwoOwners),
    }
}

/// What the members say of a text that a user writes: whether it is taken.
fn expected_admission(lens: &Lens, written: &[u8]) -> Result<Members, Kind> {
    let members = Members::read(written).ok_or(Kind::InvalidRecord)?;
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
    let plain = Members::read(stored).unwrap().plain();
    let shown = |text: &str| text.contains(SECRET);
    shown(&String::from_utf8_lossy(view))
        && !plain
            .iter()
            .any(|(name, value)| shown(name) || shown(&value.to_string()))
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
    match owner(stored) {
        Ok(owner) if owner.as_str() == "alice" => assert_eq!(expected, Ok(())),
        Ok(_) => assert_eq!(expected, Err(Hidden::Foreign)),
        // A string that can be no user id is nobody's, and somebody else's to alice. To `owner`, secrets are plain members.
        Err(Hidden::Ownerless) => assert!(matches!(
            expected,
            Err(Hidden::Ownerless | Hidden::Foreign | Hidden::Malformed)
        )),
        Err(why) => assert!(matches!(expected, Err(hidden) if hidden == why || hidden == Hidden::Malformed)),
    }
    let Ok(view) = verdict else {
        assert!(lens.secrets(stored).is_err() && lens.reveal(stored, FIELDS[0]).is_err());
        assert!(lens.reseal(stored, true).is_err());
        return;
    };
    assert!(!leaks(stored, &view.text));
    let (members, shown) = (
        Members::read(stored).unwrap(),
        Members::read(&view.text).expect("a view is a JSON object"),
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
    let admission = expected_admission(lens, written);
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
    let after = Members::read(&put.stored).expect("what is stored is a JSON object");
    let alice = Value::from("alice");
    assert_eq!(after.first_and_last("user_id"), (Some(&alice), Some(&alice)));
    assert_eq!(after.all("user_id").count(), 1);
    assert_eq!(
        put.owner_overridden,
        before.all("user_id").any(|owner| *owner != alice)
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
    let base = base.map(|base| Members::read(base).unwrap());
    for name in FIELDS {
        let kept = after.all(name).next_back();
        match before.all(name).next() {
            None => assert_eq!(
                kept,
                base.as_ref().and_then(|base| base.all(name).next_back()),
                "a secret that is not mentioned stays"
            ),
            Some(Value::Null) => assert_eq!(kept, None, "a secret that is set to null goes"),
            // What opens was sealed before, and is kept as it is.
            Some(value) if kept == Some(value) => {
                lens.reveal(&put.stored, name).expect("what is kept opens");
            }
            Some(value) => {
                let opened = lens.reveal(&put.stored, name).unwrap();
                match value {
                    Value::String(text) => assert_eq!(*opened, *text),
                    value => assert_eq!(&serde_json::from_str::<Value>(&opened).unwrap(), value),
                }
            }
        }
    }
}

/// Of a text by itself.
fn check_alone(lens: &Lens, text: &[u8]) {
    let members = Members::read(text);
    if members.as_ref().is_some_and(Members::mentions_secret) {
        assert!(lens.may_hold_secret(text));
    }
    match (lens.without_secrets(text), members) {
        (Ok((owner, without)), Some(members)) => {
            let rest = Members::read(&without).expect("what is left is a JSON object");
            assert!(!rest.mentions_secret());
            assert_eq!(rest.plain(), members.plain());
            let named = |owner: &UserId| rest.all("user_id").any(|name| name == owner.as_str());
            assert!(owner.as_ref().is_none_or(named));
        }
        (Ok(_), None) => panic!("a text is taken that is no JSON object"),
        (Err(_), None) => {}
        (Err(error), Some(members)) => assert!(members.all("user_id").count() > 1, "{error}"),
    }
    // A beginning is incomplete wherever it ends.
    let whole = text.trim_ascii_end().len();
    if Members::read(text).is_some() && whole > 0 {
        for end in [0, whole / 2, whole - 1] {
            let error = lens.put(None, &text[..end]).unwrap_err();
            assert_eq!(error.kind(), Kind::IncompleteRecord, "{error}, after {end} bytes");
        }
    }
}
