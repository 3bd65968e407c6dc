//! The auth service: one GET tells whose key it is.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONNECTION, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Request, Response, StatusCode, Url, redirect, retry};
use rustls::CertificateError;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::answer;
use super::{ApiKey, Authenticator, Validating, Validation};
use crate::error::{Error, Kind, Result};

/// How long a validation may take, from the look-up of the name to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many questions are asked at the same time: a service that hangs must not take all descriptors.
const MAX_QUESTIONS: usize = 128;

/// The largest body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// An auth service over HTTP. It is asked anew for every validation, on a connection of its own.
///
/// It may be made anywhere, and asked from any tokio runtime that has I/O and time enabled.
pub struct HttpService {
    client: Client,
    url: Url,
    /// What messages call it: the URL without its query, in which an operator may keep a secret.
    name: String,
    questions: Semaphore,
}

impl HttpService {
    /// The service at `url`: `https://…`, or `http://…` on this host; reached through the Unix socket `socket`, if there is
    /// one, by whoever listens there. With `insecure`, keys may go over the network in plain text. The system's certificates are read now; those that are added later count from the next start on.
    ///
    /// # Errors
    /// [`Kind::Config`] when the URL is none that a key may be sent to, or TLS cannot be set up.
    pub fn new(url: &str, socket: Option<&Path>, insecure: bool) -> Result<Self> {
        let url = service_url(url, insecure || socket.is_some())?;
        let name = {
            let mut shown = url.clone();
            shown.set_query(None);
            format!("the auth service {shown}")
        };
        // reqwest takes the process's provider. A program around this library may have chosen one: then it is that one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let localhost = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            // What is left over of the answer to one key can never be taken for the answer to the next.
            .pool_max_idle_per_host(0)
            // Plain http is good enough on this host: so no name server is asked where `localhost` is.
            .resolve_to_addrs("localhost", &localhost.map(|ip: IpAddr| SocketAddr::new(ip, 0)));
        if url.scheme() == "http" {
            // Without redirects no certificate is ever looked at, and a system without any is no reason to fail.
            client = client.tls_certs_only([]);
        }
        if let Some(socket) = socket {
            client = client.unix_socket(socket);
        }
        let client = client.build().map_err(|error| {
            let (_, cause) = cause(&error);
            Error::config(format!(
                "TLS cannot be set up for {name}: {cause}; install the package ca-certificates"
            ))
        })?;
        Ok(Self {
            client,
            url,
            name,
            questions: Semaphore::new(MAX_QUESTIONS),
        })
    }

    async fn ask(&self, key: &ApiKey) -> Result<Validation> {
        // Never closed: this only waits, and the time for it counts too.
        let _turn = self.questions.acquire().await;
        let mut request = Request::new(Method::GET, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer(key)?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // Some guards of web services answer 403, a no, to whoever does not say what it is.
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tenantfs/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| failure(&error))?;
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let what = format!("refused the API key (status {})", status.as_u16());
                return Err(Error::new(Kind::AuthenticationRefused, what));
            }
            _ if status.is_redirection() => {
                return Err(answer::not_a_yes(format!(
                    "answered with a redirect (status {}), which is never followed; give the URL that it leads to",
                    status.as_u16()
                )));
            }
            _ => {
                return Err(answer::not_a_yes(format!(
                    "answered with status {}, which is neither a yes nor a no",
                    status.as_u16()
                )));
            }
        }
        answer::check_headers(response.headers())?;
        answer::parse(&body(response).await?)
    }
}

impl Authenticator for HttpService {
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
        Box::pin(async move {
            // Around everything: each of reqwest's own limits leaves out the name's look-up, the connecting or the body.
            let answer = tokio::time::timeout(TIMEOUT, self.ask(key)).await;
            let answer = answer.unwrap_or_else(|_| {
                let seconds = TIMEOUT.as_secs();
                Err(answer::not_a_yes(format!("did not answer within {seconds} s")))
            });
            answer.map_err(|error| Error::new(error.kind(), format!("{} {error}", self.name)))
        })
    }
}

/// Checks that keys may be sent to `text`. What is wrong is told without the URL: it may have a password in it.
fn service_url(text: &str, insecure: bool) -> Result<Url> {
    const NOT_A_URL: &str = "the URL of the auth service is not a URL; expected https://HOST/PATH";
    let url = Url::parse(text).map_err(|_| Error::config(NOT_A_URL))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(Error::config(
            "the URL of the auth service must begin with https://, or with http:// for a service on this host",
        ));
    }
    // The parser repairs what browsers' users mistype: blanks, line breaks, backslashes, missing slashes.
    let repaired = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    let slashes = text
        .get(url.scheme().len()..)
        .is_some_and(|rest| rest.starts_with("://"));
    if text.contains(repaired) || !slashes {
        return Err(Error::config(NOT_A_URL));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::config(
            "the URL of the auth service has a user name or password in it; take them out: the API key alone is sent",
        ));
    }
    if url.fragment().is_some() {
        return Err(Error::config(
            "the URL of the auth service has a fragment (#…), which is never sent; take it out",
        ));
    }
    if url.scheme() == "http" && !insecure && !is_loopback(&url) {
        return Err(Error::config(
            "the URL of the auth service would send keys over the network in plain text; use https://, or allow that as \
             insecure",
        ));
    }
    Ok(url)
}

/// Whether the URL leads to this host, whatever name servers say.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || literal.is_ok_and(|ip| ip.is_loopback())
}

/// The header that carries the key.
///
/// The copies in this value, in hyper's write buffer, in TLS and in the kernel are freed without being overwritten: none
/// of them can be reached from here. They live no longer than the validation.
fn bearer(key: &ApiKey) -> Result<HeaderValue> {
    const SCHEME: &str = "Bearer ";
    let mut text = Zeroizing::new(Vec::with_capacity(SCHEME.len() + key.expose().len()));
    text.extend_from_slice(SCHEME.as_bytes());
    text.extend_from_slice(key.expose().as_bytes());
    // The header has no copy of its own, which nobody would overwrite.
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .map_err(|_| Error::new(Kind::AuthenticationRefused, "cannot be sent such an API key"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the body, and no more of it than is allowed, whatever length was announced.
async fn body(mut response: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(answer::not_a_yes("answered with more than 64 KiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error of the connection as ours. reqwest's own text has the URL with its query, and leaves out the cause.
fn failure(error: &reqwest::Error) -> Error {
    let (trusted, cause) = cause(error);
    answer::not_a_yes(match (trusted, error.is_connect()) {
        (false, _) => format!("is not trusted: {cause}"),
        (true, true) => format!("cannot be reached: {cause}"),
        (true, false) => format!("gave no answer that can be understood: {cause}"),
    })
}

/// Whether the peer's certificate is not what is wrong; and what is, in one line, from the error's deepest source.
fn cause(error: &reqwest::Error) -> (bool, String) {
    let mut deepest: &(dyn StdError + 'static) = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(reason)) = deepest.downcast_ref() {
            return (false, certificate(reason));
        }
        // An I/O error passes over the error that it wraps, and names that one's source as its own.
        let wrapped = deepest.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let source = wrapped.map(|inner| inner as &(dyn StdError + 'static));
        match source.or_else(|| deepest.source()) {
            Some(source) => deepest = source,
            None => return (true, deepest.to_string().replace(char::is_control, " ")),
        }
    }
}

/// What is wrong with a certificate. The names in it are not repeated: whoever answers has chosen them.
fn certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this host's clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate has an unknown issuer; add that one's certificate to the \
             system's, or name its file in SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::Other(reason) => format!("its certificate is not valid ({reason})"),
        other => format!("its certificate is not valid ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_to_this_host_or_over_tls() {
        for (url, name) in [
            ("https://auth.example/validate", "https://auth.example/validate"),
            (
                "HTTPS://auth.example:8443/v?token=t",
                "https://auth.example:8443/v",
            ),
            ("http://127.0.0.1:8089/validate", "http://127.0.0.1:8089/validate"),
            ("http://127.255.0.1", "http://127.255.0.1/"),
            ("http://[::1]:8089", "http://[::1]:8089/"),
            ("http://localhost:8089", "http://localhost:8089/"),
        ] {
            let service = HttpService::new(url, None, false).unwrap();
            assert_eq!(service.name, format!("the auth service {name}"));
        }
        for (url, said) in [
            ("", "not a URL"),
            ("auth.example", "not a URL"),
            ("https:auth.example", "not a URL"),
            ("https:/auth.example", "not a URL"),
            ("https://", "not a URL"),
            (" https://auth.example", "not a URL"),
            ("https://auth.example/a\nb", "not a URL"),
            ("https:\\\\auth.example", "not a URL"),
            ("ftp://auth.example", "https://"),
            ("file:///etc/passwd", "https://"),
            ("https://user@auth.example", "user name"),
            ("https://:secret@auth.example", "user name"),
            ("https://auth.example/#top", "fragment"),
            ("http://auth.example", "plain text"),
            ("http://10.0.0.1", "plain text"),
            ("http://[::ffff:127.0.0.1]", "plain text"),
            ("http://[::2]", "plain text"),
            ("http://0.0.0.0", "plain text"),
            ("http://localhost.example", "plain text"),
            ("http://127.0.0.1.example", "plain text"),
        ] {
            let error = HttpService::new(url, None, false).err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{url}");
            assert!(error.to_string().contains(said), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(HttpService::new("http://auth.example", None, true).is_ok());
        assert!(HttpService::new("http://auth", Some(Path::new("/run/auth.sock")), false).is_ok());
    }

    #[test]
    fn the_header_is_marked_as_a_secret() {
        let header = bearer(&ApiKey::new("sesame").unwrap()).unwrap();
        assert_eq!(header, "Bearer sesame");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn a_certificate_says_what_is_wrong_and_not_what_is_in_it() {
        let error = CertificateError::NotValidForNameContext {
            expected: "localhost".try_into().unwrap(),
            presented: vec!["mallory".to_owned()],
        };
        assert_eq!(certificate(&error), "its certificate is for another name");
        assert!(certificate(&CertificateError::UnknownIssuer).contains("SSL_CERT_FILE"));
    }
}
