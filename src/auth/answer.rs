//! What an auth service's 200 says: a user id, and how long it holds.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Validation;
use crate::error::{Error, Kind, Result};
use crate::identity::{Principal, UserId};

/// Neither a yes nor a no; `what` continues "the auth service …" and repeats nothing of the answer.
pub(super) fn not_a_yes(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Kind::AuthenticationUnreachable, what)
}

/// Checks that the body is announced as JSON, once, and as it is.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<()> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let json = match (types.next(), types.next()) {
        (Some(only), None) => {
            let essence = only
                .as_bytes()
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default();
            essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
        }
        _ => false,
    };
    if !json {
        return Err(not_a_yes("answered with something other than application/json"));
    }
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(not_a_yes(
            "answered with a compressed body, which it was not asked for",
        ));
    }
    Ok(())
}

/// Reads the body: one JSON object in which no name comes twice.
pub(super) fn parse(body: &[u8]) -> Result<Validation> {
    // serde_json's messages would quote the body: ours do not.
    let text = std::str::from_utf8(body).map_err(|_| not_a_yes("answered with text that is not UTF-8"))?;
    let Members(members) = serde_json::from_str(text)
        .map_err(|_| not_a_yes("answered with something other than a JSON object"))?;
    let mut names = HashSet::new();
    if !members.iter().all(|(name, _)| names.insert(name)) {
        return Err(not_a_yes(
            "answered with a JSON object in which a name comes twice",
        ));
    }
    let member = |wanted: &str| {
        members
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.get())
    };

    let user = member("user_id").and_then(|value| serde_json::from_str::<String>(value).ok());
    let user = user.ok_or_else(|| not_a_yes("answered without a user_id that is a string"))?;
    let user =
        UserId::new(user).map_err(|error| not_a_yes(format!("gave no user id that can be used: {error}")))?;
    let expires_in = member("expires_in").map(seconds).transpose()?;
    Ok(Validation {
        principal: Principal::authenticated(user),
        expires_in,
    })
}

/// `expires_in`: a JSON integer from 1 up. One that is too large to count is as good as the largest.
fn seconds(value: &str) -> Result<Duration> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || value == "0" {
        return Err(not_a_yes(
            "gave an expires_in that is not an integer from 1 up, in seconds; without a limit the member is left out",
        ));
    }
    Ok(Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

/// The members of an object, in their order: names with escapes decoded, values as they are spelled.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    fn says(body: &str) -> Option<(String, Option<u64>)> {
        match parse(body.as_bytes()) {
            Ok(Validation {
                principal,
                expires_in,
            }) => Some((
                principal.user().as_str().to_owned(),
                expires_in.map(|limit| limit.as_secs()),
            )),
            Err(error) => {
                assert_eq!(error.kind(), Kind::AuthenticationUnreachable, "{body}");
                None
            }
        }
    }

    #[test]
    fn a_yes_names_a_user() {
        for (body, user, expires_in) in [
            (r#"{"user_id":"alice"}"#, "alice", None),
            (" {\t\"user_id\" : \"alice\" }\r\n", "alice", None),
            (r#"{"user\u005fid":"\u0061lice"}"#, "alice", None),
            (
                r#"{"name":"A","user_id":"Ä ö/..","roles":["x",{"user_id":"y","user_id":"z"}]}"#,
                "Ä ö/..",
                None,
            ),
            (r#"{"user_id":"alice","expires_in":1}"#, "alice", Some(1)),
            (r#"{"expires_in": 3600 ,"user_id":"alice"}"#, "alice", Some(3600)),
            (
                r#"{"user_id":"alice","expires_in":9223372036854775808}"#,
                "alice",
                Some(1 << 63),
            ),
            (
                r#"{"user_id":"alice","expires_in":99999999999999999999999}"#,
                "alice",
                Some(u64::MAX),
            ),
        ] {
            assert_eq!(says(body), Some((user.to_owned(), expires_in)), "{body}");
        }
        assert!(says(&json!({"user_id": "x".repeat(512)}).to_string()).is_some());
    }

    #[test]
    fn anything_else_is_not_a_yes() {
        let nested = format!(r#"{{"user_id":"alice","x":{}}}"#, "[".repeat(60_000));
        for body in [
            "",
            " ",
            "null",
            "true",
            r#""alice""#,
            r#"["alice"]"#,
            r#"[{"user_id":"alice"}]"#,
            "{}",
            r#"{"user_id":"alice""#,
            r#"{"user_id":"alice",}"#,
            r#"{"user_id":"alice"}x"#,
            r#"{"user_id":"alice"}{"user_id":"alice"}"#,
            "{\"user_id\":\"alice\"}\0",
            "\u{feff}{\"user_id\":\"alice\"}",
            r#"{'user_id':'alice'}"#,
            r#"{"User_id":"alice"}"#,
            r#"{"user_id":"alice","user_id":"alice"}"#,
            r#"{"user_id":"alice","user\u005fid":"mallory"}"#,
            r#"{"user_id":"alice","x":1,"x":2}"#,
            r#"{"user_id":"alice","expires_in":5,"expires_in":6}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":1}"#,
            r#"{"user_id":["alice"]}"#,
            r#"{"user_id":{"user_id":"alice"}}"#,
            r#"{"user_id":""}"#,
            r#"{"user_id":"a\u0000b"}"#,
            r#"{"user_id":"a\nb"}"#,
            r#"{"user_id":"\ud800"}"#,
            "{\"user_id\":\"a\tb\"}",
            &json!({"user_id": "x".repeat(513)}).to_string(),
            &nested,
        ] {
            assert_eq!(says(body), None, "{body}");
        }
        for expires_in in [
            "0", "-1", "-0", "1.0", "0.5", "1e3", "01", "+1", "\"60\"", "null", "true", "[60]", "NaN",
        ] {
            assert_eq!(
                says(&format!(r#"{{"user_id":"alice","expires_in":{expires_in}}}"#)),
                None,
                "{expires_in}"
            );
        }
        assert!(parse(b"{\"user_id\":\"alice\",\"x\":\"\xff\"}").is_err());
    }

    #[test]
    fn json_is_announced_once_and_comes_as_it_is() {
        let headers = |pairs: &[(&HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            check_headers(&headers).is_ok()
        };
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;",
        ] {
            assert!(headers(&[(&CONTENT_TYPE, good)]), "{good}");
        }
        for bad in [
            "",
            "text/html",
            "text/json",
            "application/json5",
            "application/problem+json",
            "json",
        ] {
            assert!(!headers(&[(&CONTENT_TYPE, bad)]), "{bad}");
        }
        let json = (&CONTENT_TYPE, "application/json");
        assert!(!headers(&[]));
        assert!(!headers(&[json, json]));
        assert!(!headers(&[json, (&CONTENT_ENCODING, "gzip")]));
        assert!(headers(&[json, (&CONTENT_ENCODING, "identity")]));
    }

    proptest! {
        /// Whatever is a yes, every other JSON reader reads the same user in it, and no message repeats a body.
        #[test]
        fn a_yes_means_the_same_to_every_reader(
            names in prop::collection::vec(prop::sample::select(vec!["user_id", "user\\u005fid", "expires_in", "x"]), 0..4),
            values in prop::collection::vec(
                prop::sample::select(vec!["\"sesame\"", "\"\"", "60", "0", "1.5", "null", "{\"user_id\":1}", "[", "sesame"]), 4),
            end in prop::sample::select(vec!["}", "} ", "", "}}"]),
        ) {
            let members: Vec<_> = names.iter().zip(&values).map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let body = format!("{{{}{end}", members.join(","));
            match parse(body.as_bytes()) {
                Ok(yes) => {
                    let other: Value = serde_json::from_str(&body).unwrap();
                    prop_assert_eq!(&other["user_id"], yes.principal.user().as_str());
                    prop_assert_eq!(other["expires_in"].as_u64(), yes.expires_in.map(|limit| limit.as_secs()));
                    prop_assert_eq!(other.as_object().unwrap().len(), names.len());
                }
                Err(error) => prop_assert!(!error.to_string().contains("sesame")),
            }
        }
    }
}
