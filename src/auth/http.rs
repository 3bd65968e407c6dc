//! The auth service, asked over HTTP (DESIGN.md section 4): one GET, and very little that is taken for a yes.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{ApiKey, Authenticator, Validating, Validation};
use crate::error::{Error, Kind, Result};
use crate::identity::{Principal, UserId};

/// How long a question may take in all: name, connection, TLS, headers and body.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Questions at the same time: a service that hangs must not take all descriptors.
const MAX_QUESTIONS: usize = 128;

/// Connections that are kept for the next question, and how long.
const IDLE_CONNECTIONS: usize = 4;
const IDLE: Duration = Duration::from_secs(30);

/// A service that says whose a key is.
pub struct HttpService {
    client: Client,
    url: Url,
    questions: Semaphore,
}

impl HttpService {
    /// The service at `url`; reached through the Unix socket `socket`, if there is one, by whoever listens there. With
    /// `insecure`, keys may travel to other hosts in the clear.
    ///
    /// # Errors
    /// [`Kind::Config`] when keys should not be sent to such a URL.
    pub fn new(url: &str, socket: Option<&Path>, insecure: bool) -> Result<Self> {
        let url = check(url, socket.is_some() || insecure)?;
        let config = |why: &dyn fmt::Display| Error::new(Kind::Config, format!("the auth service: {why}"));
        // A second time it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("tenantfs/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE);
        if let Some(socket) = socket {
            client = client.unix_socket(socket);
        }
        let client = client.build().map_err(|error| config(&causes(&error)))?;
        Ok(Self {
            client,
            url,
            questions: Semaphore::new(MAX_QUESTIONS),
        })
    }

    async fn ask(&self, key: &ApiKey) -> Result<Validation> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(key)).await;
        answer.unwrap_or_else(|_| {
            Err(self.not_a_yes(&format_args!("no answer within {} s", PATIENCE.as_secs())))
        })
    }

    async fn exchange(&self, key: &ApiKey) -> Result<Validation> {
        // Never closed: this only waits.
        let _turn = self.questions.acquire().await;
        let request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/json");
        let request = request.header(AUTHORIZATION, bearer(key)?);
        let response = request
            .send()
            .await
            .map_err(|error| self.not_a_yes(&causes(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Error::new(
                    Kind::AuthenticationRefused,
                    format!("the auth service {} refuses the API key", self.shown()),
                ));
            }
            status => return Err(self.not_a_yes(&format_args!("it answers {status}"))),
        }
        if !is_json(&response) {
            return Err(self.not_a_yes(&"the answer is no application/json"));
        }
        let body = self.body(response).await?;
        let answer = Answer::parse(&body).map_err(|why| self.not_a_yes(&why))?;
        let user = UserId::new(answer.user_id).map_err(|error| self.not_a_yes(&error))?;
        Ok(Validation {
            principal: Principal::authenticated(user),
            expires_in: answer.expires_in,
        })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.not_a_yes(&causes(&error)))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.not_a_yes(&"the answer is longer than 64 KiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn not_a_yes(&self, why: &dyn fmt::Display) -> Error {
        Error::new(
            Kind::AuthenticationUnreachable,
            format!("the auth service {}: {why}", self.shown()),
        )
    }

    /// The URL without its query, which may have what is nobody's business.
    fn shown(&self) -> String {
        let mut shown = self.url.clone();
        shown.set_query(None);
        shown.to_string()
    }
}

impl Authenticator for HttpService {
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
        Box::pin(self.ask(key))
    }
}

/// The header. What the HTTP library copies of it into its buffers is out of our hands; it is freed with the connection.
fn bearer(key: &ApiKey) -> Result<HeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", key.expose()).into_bytes());
    let wrong = |_| Error::new(Kind::Config, "the API key cannot be sent in a header");
    let mut value = HeaderValue::from_bytes(&text).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

fn check(text: &str, may_be_plain: bool) -> Result<Url> {
    let refuse = |why: &str| {
        Err(Error::new(
            Kind::Config,
            format!("the auth service's URL {why}; see --auth-url"),
        ))
    };
    let Ok(url) = Url::parse(text) else {
        return refuse("is no URL, such as https://auth.example.org/validate");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("must begin with https://, or http:// on this host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has a password in it, which everybody could read");
    }
    if url.fragment().is_some() {
        return refuse("has a fragment (#…), which is never sent");
    }
    if url.scheme() == "http" && !may_be_plain && !is_loopback(&url) {
        return refuse("leads to another host without TLS: use https://, or --insecure if you must");
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || literal
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_json(response: &Response) -> bool {
    let value = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}

/// An error and what it comes from, on one line: the library's own words say only that something went wrong.
fn causes(error: &reqwest::Error) -> String {
    let mut said = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        said.push(cause.to_string());
        next = cause.source();
    }
    // Outer ones often repeat what inner ones say.
    let mut distinct: Vec<String> = Vec::new();
    for cause in said {
        if !distinct.iter().any(|known| known.contains(&cause)) {
            distinct.push(cause);
        }
    }
    match distinct.is_empty() {
        true => "it cannot be reached".to_owned(),
        false => distinct.join(": "),
    }
}

/// What a yes says.
#[derive(PartialEq, Eq, Debug)]
struct Answer {
    user_id: String,
    expires_in: Option<Duration>,
}

impl Answer {
    /// Strict: what two readers could read in two ways is no yes.
    fn parse(body: &[u8]) -> std::result::Result<Self, &'static str> {
        let no = "the answer is no JSON object with a string user_id, and each member once";
        let mut reader = serde_json::Deserializer::from_slice(body);
        let answer = reader.deserialize_map(AnswerVisitor).map_err(|_| no)?;
        reader.end().map_err(|_| no)?;
        Ok(answer)
    }
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Answer, A::Error> {
        let (mut user_id, mut expires_in, mut seen) = (None, None, HashSet::new());
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "user_id" => user_id = Some(members.next_value::<String>()?),
                "expires_in" => {
                    let seconds = members.next_value::<u64>()?;
                    if seconds == 0 {
                        return Err(A::Error::custom("expired"));
                    }
                    expires_in = Some(Duration::from_secs(seconds));
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
            if !seen.insert(name) {
                return Err(A::Error::custom("twice"));
            }
        }
        let user_id = user_id.ok_or_else(|| A::Error::missing_field("user_id"))?;
        Ok(Answer { user_id, expires_in })
    }
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpService({})", self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_one_object_with_a_user_and_each_member_once() {
        for (body, user, seconds) in [
            (r#"{"user_id":"alice"}"#, "alice", None),
            (
                " {\"a\":[{}],\"user_id\":\"\\u00e4\",\"expires_in\":60}\n",
                "ä",
                Some(60),
            ),
            (
                r#"{"user_id":"alice","expires_in":18446744073709551615}"#,
                "alice",
                Some(u64::MAX),
            ),
        ] {
            let answer = Answer::parse(body.as_bytes()).unwrap();
            assert_eq!(answer.user_id, user);
            assert_eq!(answer.expires_in.map(|expires| expires.as_secs()), seconds);
        }
        for body in [
            "",
            "null",
            "[]",
            r#"["alice"]"#,
            r#""alice""#,
            "{}",
            r#"{"user_id":7}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":["alice"]}"#,
            r#"{"user_id":"alice","user_id":"alice"}"#,
            r#"{"user_id":"alice","user\u005fid":"bob"}"#,
            r#"{"user_id":"alice","a":1,"a":2}"#,
            r#"{"user_id":"alice"} {}"#,
            r#"{"user_id":"alice""#,
            r#"{"user_id":"alice","expires_in":0}"#,
            r#"{"user_id":"alice","expires_in":-1}"#,
            r#"{"user_id":"alice","expires_in":1.5}"#,
            r#"{"user_id":"alice","expires_in":"60"}"#,
            r#"{"user_id":"alice","expires_in":null}"#,
            r#"{"user_id":"alice","expires_in":18446744073709551616}"#,
            r#"{"user_id":"\ud800"}"#,
            "\u{feff}{\"user_id\":\"alice\"}",
        ] {
            assert!(Answer::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Answer::parse(b"{\"user_id\":\"al\xffce\"}").is_err());
    }

    #[test]
    fn keys_are_sent_where_nobody_else_reads_them() {
        for good in [
            "https://auth.example.org/validate?service=x",
            "http://127.0.0.1:8089/validate",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(HttpService::new(good, None, false).is_ok(), "{good}");
        }
        for bad in [
            "",
            "auth.example.org",
            "ftp://127.0.0.1/",
            "http://auth.example.org/",
            "http://localhost.example.org/",
            "http://127.0.0.1.example.org/",
            "https://user:password@auth.example.org/",
            "https://auth.example.org/#x",
        ] {
            let error = HttpService::new(bad, None, false).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{bad}");
        }
        assert!(HttpService::new("http://auth.example.org/", None, true).is_ok());
        assert!(HttpService::new("http://auth/", Some(Path::new("/run/auth.sock")), false).is_ok());
    }

    #[test]
    fn the_key_and_the_query_are_not_shown() {
        let service = HttpService::new("https://auth.example.org/validate?token=x", None, false).unwrap();
        assert_eq!(
            format!("{service:?}"),
            "HttpService(https://auth.example.org/validate)"
        );
        let value = bearer(&ApiKey::new("sesame").unwrap()).unwrap();
        assert!(!format!("{value:?}").contains("sesame"));
    }
}
