//! The laws of sealing: what is written as a secret is stored sealed, opens to what was written, and is shown to nobody.

use proptest::option;
use proptest::prelude::*;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tenantfs::error::Kind;
use tenantfs::record::{Lens, Secret, SecretState};

use super::documents::{PLAIN, Rules, STORED, WILD, object};
use super::laws::{FIELDS, Members, Reader, SECRET, check, sealing};

const OLD: &str = r#""old":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=""#;
const NEW: &str = r#""new":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=""#;

/// What a user may write, secrets in any spelling included.
const WITH_SECRETS: Rules = Rules {
    foreign: true,
    secrets: (0, 1),
    ..PLAIN
};

fn alices() -> Lens {
    sealing("alice", "new", &[OLD, NEW])
}

fn before_the_rotation() -> Lens {
    sealing("alice", "old", &[OLD])
}

fn members(text: &[u8]) -> Members {
    Members::read(text, Reader::Python).unwrap()
}

fn states(lens: &Lens, stored: &[u8]) -> Vec<SecretState> {
    let secrets = lens.secrets(stored).unwrap();
    secrets.into_iter().map(|Secret { state, .. }| state).collect()
}

/// The text with null for each secret; the rest is as it was.
fn without_secrets(text: &str) -> String {
    struct Spans;
    impl<'de> Visitor<'de> for Spans {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(member) = map.next_entry()? {
                all.push(member);
            }
            Ok(all)
        }
    }
    let members = serde_json::Deserializer::from_str(text)
        .deserialize_map(Spans)
        .unwrap();
    let mut without = text.to_owned();
    for (name, value) in members.iter().rev() {
        let name = serde_json::from_str::<String>(name.get());
        if name.is_ok_and(|name| FIELDS.contains(&name.as_str())) {
            let start = value.get().as_ptr().addr() - text.as_ptr().addr();
            without.replace_range(start..start + value.get().len(), "null");
        }
    }
    without
}

/// Whether all of `part` is in `whole`, in order.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|byte| rest.any(|other| other == byte))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_secret_is_sealed_where_it_stands_and_opens_to_what_was_written(text in object(WITH_SECRETS)) {
        let lens = alices();
        let put = lens.put(None, text.as_bytes()).unwrap();
        prop_assert!(!String::from_utf8_lossy(&put.stored).contains(SECRET));
        let (written, stored) = (members(text.as_bytes()), members(&put.stored));
        for name in FIELDS {
            let written = written.all(name).next().filter(|value| !value.is_null());
            let opened = lens.reveal(&put.stored, name);
            match written {
                Some(value) => prop_assert_eq!(&*opened.unwrap(), &value.plain()),
                None => prop_assert_eq!(opened.unwrap_err().kind(), Kind::NotFound),
            }
            prop_assert_eq!(stored.all(name).count(), usize::from(written.is_some()));
        }
        let all_active = states(&lens, &put.stored)
            .iter()
            .all(|state| *state == SecretState::Sealed { active: true });
        prop_assert!(all_active);
        let view = lens.view(&put.stored).unwrap();
        let shown = members(&view.text);
        prop_assert_eq!(shown.plain(), written.plain());
        prop_assert!(put.owner_overridden || is_part(&view.text, text.as_bytes()));
        let again = lens.put(None, &view.text).unwrap();
        prop_assert_eq!(lens.view(&again.stored).unwrap().text, view.text);
    }

    #[test]
    fn what_is_shown_is_byte_for_byte_what_was_written_without_its_secrets(
        stored in option::of(object(STORED)), text in object(WITH_SECRETS)
    ) {
        // Beside a secret that is removed there may be a space more where another one begins the object.
        let members = members(text.as_bytes());
        prop_assume!(FIELDS.iter().all(|name| members.all(name).all(|value| !value.is_null())));
        let (lens, stored) = (alices(), stored.as_deref().map(str::as_bytes));
        let shown = |text: &str| lens.view(&lens.put(stored, text.as_bytes()).unwrap().stored).unwrap().text;
        prop_assert_eq!(shown(&text), shown(&without_secrets(&text)));
    }

    #[test]
    fn what_is_shown_and_saved_again_is_what_was_stored(text in object(WITH_SECRETS)) {
        let lens = alices();
        let stored = lens.put(None, text.as_bytes()).unwrap().stored;
        let view = lens.view(&stored).unwrap().text;
        prop_assert_eq!(lens.put(Some(&stored), &view).unwrap().stored, stored);
    }

    #[test]
    fn without_secrets_sealing_changes_nothing(stored in option::of(object(STORED)), text in object(PLAIN)) {
        let stored = stored.as_deref().map(str::as_bytes);
        let put = alices().put(stored, text.as_bytes()).unwrap();
        prop_assert_eq!(put.stored, super::lens().put(stored, text.as_bytes()).unwrap().stored);
    }

    #[test]
    fn a_sealed_secret_is_carried_over_byte_by_byte(first in object(WITH_SECRETS), second in object(PLAIN)) {
        let lens = alices();
        let stored = lens.put(None, first.as_bytes()).unwrap().stored;
        let put = lens.put(Some(&stored), second.as_bytes()).unwrap();
        let [before, after] = [&stored, &put.stored].map(|text| members(text));
        for name in FIELDS {
            prop_assert_eq!(before.all(name).next(), after.all(name).next());
        }
    }

    #[test]
    fn keys_seal_anew_what_older_ones_sealed_and_touch_nothing_else(text in object(WITH_SECRETS)) {
        let (old, new) = (before_the_rotation(), alices());
        let stored = old.put(None, text.as_bytes()).unwrap().stored;
        let resealed = new.reseal(&stored, false).unwrap();
        prop_assert_eq!(resealed.is_none(), states(&old, &stored).is_empty());
        let resealed = resealed.unwrap_or_else(|| stored.clone());
        prop_assert_eq!(new.view(&resealed).unwrap().text, old.view(&stored).unwrap().text);
        for name in FIELDS {
            prop_assert_eq!(new.reveal(&resealed, name).ok(), old.reveal(&stored, name).ok());
        }
        prop_assert!(new.reseal(&resealed, true).unwrap().is_none());
        let without_the_old = sealing("alice", "new", &[NEW]);
        prop_assert_eq!(without_the_old.secrets(&resealed).unwrap(), new.secrets(&resealed).unwrap());
    }

    #[test]
    fn what_the_service_wrote_in_plain_text_is_left_alone_until_it_is_adopted(stored in object(STORED)) {
        let lens = alices();
        prop_assert!(lens.reseal(stored.as_bytes(), false).unwrap().is_none());
        let all = lens.secrets(stored.as_bytes()).unwrap();
        prop_assert!(all.iter().all(|secret| secret.state == SecretState::Plain));
        let adopted = lens.reseal(stored.as_bytes(), true).unwrap();
        prop_assert_eq!(adopted.is_none(), all.is_empty());
        if let Some(adopted) = adopted {
            prop_assert!(!String::from_utf8_lossy(&adopted).contains(SECRET));
            prop_assert_eq!(lens.view(&adopted).unwrap().text, lens.view(stored.as_bytes()).unwrap().text);
        }
    }

    #[test]
    fn no_text_breaks_a_law_where_secrets_are_sealed(stored in option::of(object(WILD)), text in object(WILD)) {
        check(&alices(), stored.as_deref().map(str::as_bytes), text.as_bytes());
    }
}

#[test]
fn a_sealed_value_of_somebody_elses_or_of_another_member_is_plain_text() {
    let (alice, bob) = (alices(), sealing("bob", "new", &[NEW]));
    let of_bob = bob.put(None, br#"{"api_key":"sk-of-bob"}"#).unwrap().stored;
    let value = members(&of_bob).all("api_key").next().unwrap().clone();
    let spelled = value.text();
    for text in [
        format!(r#"{{"api_key":{spelled}}}"#),
        format!(r#"{{"token":{spelled}}}"#),
    ] {
        let stored = alice.put(None, text.as_bytes()).unwrap().stored;
        let name = if text.contains("token") {
            "token"
        } else {
            "api_key"
        };
        assert_eq!(
            alice.reveal(&stored, name).unwrap().as_str(),
            value.string().unwrap()
        );
    }
    // On the volume, whoever put it there, it opens nothing.
    let moved = format!(r#"{{"api_key":{spelled},"user_id":"alice"}}"#);
    let error = alice.reveal(moved.as_bytes(), "api_key").unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidRecord);
    assert!(!error.to_string().contains("sk-of-bob"));
    assert!(matches!(
        states(&alice, moved.as_bytes())[..],
        [SecretState::Unopenable { .. }]
    ));
    assert!(alice.reseal(moved.as_bytes(), true).unwrap().is_none());
}

#[test]
fn a_sealed_value_that_opens_is_kept_as_it_is() {
    let lens = alices();
    let stored = lens.put(None, br#"{"api_key":"sk","n":1}"#).unwrap().stored;
    let value = members(&stored).all("api_key").next().unwrap().clone();
    let text = format!(r#"{{"n":2,"api_key":{}}}"#, value.text());
    let again = lens.put(None, text.as_bytes()).unwrap().stored;
    assert_eq!(members(&again).all("api_key").next(), Some(&value));
}

#[test]
fn a_key_is_attached_where_the_text_does_not_mention_one() {
    let lens = alices();
    let attached = lens.attach("api_key", "sk-of-the-session").unwrap();
    let put = |text: &str| lens.put_attaching(text.as_bytes(), &attached).unwrap().stored;
    assert_eq!(
        lens.reveal(&put(r#"{"n":1}"#), "api_key").unwrap().as_str(),
        "sk-of-the-session"
    );
    assert_eq!(lens.view(&put(r#"{"n":1}"#)).unwrap().text, br#"{"n":1}"#);
    assert_eq!(
        lens.reveal(&put(r#"{"api_key":"own"}"#), "api_key")
            .unwrap()
            .as_str(),
        "own"
    );
    let none = lens.reveal(&put(r#"{"api_key":null}"#), "api_key");
    assert_eq!(none.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(lens.attach("n", "x").unwrap_err().kind(), Kind::Config);
    assert_eq!(
        super::lens().attach("api_key", "x").unwrap_err().kind(),
        Kind::Config
    );
}
