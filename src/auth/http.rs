//! The auth service: one GET tells whose key it is.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::body::Bytes;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONNECTION, HeaderValue, USER_AGENT};
use reqwest::{Client, ClientBuilder, Method, Request, Response, StatusCode, Url, redirect, retry};
use rustls::CertificateError;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::answer;
use super::far_end::{NOBODY_KNOWN, Trusted, UnixSocket};
use super::{ApiKey, Authenticator, Validating, Validation};
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};

/// How long a validation may take, from the look-up of the name to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many questions are asked at the same time: a service that hangs must not take all descriptors.
const MAX_QUESTIONS: usize = 128;

/// How often it is said at most that a stranger is in the service's place.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The largest body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// What a proxy on a Unix socket is, where the units of this program are used.
const SOCKET_HINT: &str = "what listens there says why: systemctl status tenantfs-auth.socket tenantfs-auth.service; it goes \
                           where TENANTFS_AUTH_HOST= in /etc/tenantfs/auth.env says";

/// What a process without a network does instead.
const NO_NETWORK: &str = "this process has no network: set auth.socket, and enable tenantfs-auth.socket";

/// How an auth service is reached, and who may be it.
#[derive(Clone, Copy, Default, Debug)]
pub struct ServiceOptions<'a> {
    /// The Unix socket through which it is reached, if there is one.
    pub socket: Option<&'a Path>,
    /// Whether keys may go over the network in plain text.
    pub insecure: bool,
    /// The account that runs it on this host, if that is neither root nor the one that asks.
    pub service_user: Option<u32>,
}

/// An auth service over HTTP. It is asked anew for every validation, on a connection of its own.
///
/// Where keys go in plain text to a socket of this host, they go to none that a stranger could have put there: it
/// belongs to root, to the account that asks, or to [`ServiceOptions::service_user`]. With https it is the certificate
/// that says who answers.
///
/// It may be made anywhere, and asked from any tokio runtime that has I/O and time enabled.
pub struct HttpService {
    way: Way,
    url: Url,
    /// What messages call it: the URL without its query, in which an operator may keep a secret; and the socket.
    name: String,
    /// Where to look when it cannot be reached.
    hint: &'static str,
    questions: Semaphore,
    /// Since it was last told that it cannot be trusted.
    told: Mutex<Option<Stopwatch>>,
}

/// How a connection is made.
enum Way {
    /// By a client that checks what has to be checked.
    Client(Client),
    /// Through this Unix socket in plain text, by a client for each question: each looks at the socket that is there then.
    PlainSocket { path: PathBuf, trusted: Trusted },
}

impl HttpService {
    /// The service at `url`: `https://…`, or `http://…` on this host or through a Unix socket. The system's certificates
    /// are read now; those that are added later count from the next start on.
    ///
    /// # Errors
    /// [`Kind::Config`] when the URL is none that a key may be sent to, or TLS cannot be set up.
    pub fn new(url: &str, options: ServiceOptions<'_>) -> Result<Self> {
        let ServiceOptions {
            socket,
            insecure,
            service_user,
        } = options;
        let url = service_url(url, insecure || socket.is_some())?;
        if service_user == Some(NOBODY_KNOWN) {
            return Err(Error::config(format!(
                "the auth service cannot be known by uid {NOBODY_KNOWN} (nobody), which stands for every account that the \
                 kernel cannot name; give the service an account of its own"
            )));
        }
        let mut hint = "";
        let mut name = {
            let mut shown = url.clone();
            shown.set_query(None);
            format!("the auth service {shown}")
        };
        if let Some(socket) = socket {
            name = format!("{name} through {}", socket.display());
            hint = SOCKET_HINT;
        }
        let (plain, trusted) = (url.scheme() == "http", Trusted { service_user });
        let way = match socket {
            Some(socket) if plain => Way::PlainSocket {
                path: socket.to_owned(),
                trusted,
            },
            Some(socket) => Way::Client(build(client(plain).unix_socket(socket), &name)?),
            None if plain => Way::Client(build(client(plain).connector_layer(trusted), &name)?),
            None => Way::Client(build(client(plain), &name)?),
        };
        Ok(Self {
            way,
            url,
            name,
            hint,
            questions: Semaphore::new(MAX_QUESTIONS),
            told: Mutex::new(None),
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
        let response = self.send(request).await?;
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

    async fn send(&self, request: Request) -> Result<Response> {
        let answer = match &self.way {
            Way::Client(client) => client.execute(request).await,
            Way::PlainSocket { path, trusted } => {
                let socket = UnixSocket::open(path).map_err(|error| self.hinted(error))?;
                trusted.check_socket(&socket).map_err(|error| self.told(error))?;
                let client = build(client(true).unix_socket(socket.place()), &self.name)?;
                client.execute(request).await
            }
        };
        answer.map_err(|error| match untrusted(&error) {
            Some(refused) => self.told(refused.clone()),
            None if cause(&error).0 => self.hinted(failure(&error)),
            None => failure(&error),
        })
    }

    fn hinted(&self, error: Error) -> Error {
        match self.hint {
            "" => error,
            hint => answer::not_a_yes(format!("{error}; {hint}")),
        }
    }

    /// Has the operator told that a stranger is where the service should be; however many ask, now and then is enough.
    fn told(&self, error: Error) -> Error {
        let mut told = self.told.lock();
        if told.is_none_or(|last| last.elapsed() >= TELL_AGAIN) {
            *told = Some(Stopwatch::start());
            log::warn!("{} {error}", self.name);
        }
        error
    }
}

/// What every client has. One for `plain` http has no certificates.
fn client(plain: bool) -> ClientBuilder {
    let localhost = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        // What is left over of the answer to one key can never be taken for the answer to the next; and whoever has the other
        // end of a connection is checked when it is made, for one key.
        .pool_max_idle_per_host(0)
        // Plain http is good enough on this host: so no name server is asked where `localhost` is.
        .resolve_to_addrs("localhost", &localhost.map(|ip: IpAddr| SocketAddr::new(ip, 0)));
    match plain {
        // Without redirects no certificate is ever looked at, and a system without any is no reason to fail.
        true => client.tls_certs_only([]),
        false => client,
    }
}

fn build(client: ClientBuilder, name: &str) -> Result<Client> {
    // reqwest takes the process's provider. A program around this library may have chosen one: then it is that one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    client.build().map_err(|error| {
        let (_, cause) = cause(&error);
        Error::config(format!(
            "TLS cannot be set up for {name}: {cause}; install the package ca-certificates"
        ))
    })
}

impl Authenticator for HttpService {
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
        Box::pin(async move {
            // Around everything: each of reqwest's own limits leaves out the name's look-up, the connecting or the body.
            let answer = tokio::time::timeout(TIMEOUT, self.ask(key)).await;
            let answer = answer.unwrap_or_else(|_| {
                let seconds = TIMEOUT.as_secs();
                // A socket of systemd's takes connections as long as its service fails.
                Err(self.hinted(answer::not_a_yes(format!("did not answer within {seconds} s"))))
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
    let (trusted, mut cause) = cause(error);
    if cause.contains(&format!("(os error {})", libc::EAFNOSUPPORT)) {
        cause = format!("{cause}; {NO_NETWORK}");
    }
    answer::not_a_yes(match (trusted, error.is_connect()) {
        (false, _) => format!("is not trusted: {cause}"),
        (true, true) => format!("cannot be reached: {cause}"),
        (true, false) => format!("gave no answer that can be understood: {cause}"),
    })
}

/// Why the connection was not good enough to carry a key, if that is what went wrong.
fn untrusted(error: &reqwest::Error) -> Option<&Error> {
    let mut deeper: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = deeper {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        deeper = error.source();
    }
    None
}

/// Whether the peer's certificate is not what is wrong; and what is, in one line, from the error's deepest source.
fn cause(error: &reqwest::Error) -> (bool, String) {
    let mut deepest: &(dyn StdError + 'static) = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(reason)) = deepest.downcast_ref() {
            return (false, certificate(reason));
        }
        if let Some(rustls::Error::InvalidMessage(_)) = deepest.downcast_ref() {
            return (
                true,
                "what answers there does not speak TLS; is it the port of http://?".to_owned(),
            );
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
            let service = HttpService::new(url, ServiceOptions::default()).unwrap();
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
            let error = HttpService::new(url, ServiceOptions::default()).err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{url}");
            assert!(error.to_string().contains(said), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let insecure = ServiceOptions {
            insecure: true,
            ..ServiceOptions::default()
        };
        assert!(HttpService::new("http://auth.example", insecure).is_ok());
        let socket = ServiceOptions {
            socket: Some(Path::new("/run/auth.sock")),
            ..ServiceOptions::default()
        };
        let service = HttpService::new("http://auth", socket).unwrap();
        assert_eq!(
            service.name,
            "the auth service http://auth/ through /run/auth.sock"
        );
        let nobody = ServiceOptions {
            service_user: Some(NOBODY_KNOWN),
            ..ServiceOptions::default()
        };
        let error = HttpService::new("http://127.0.0.1", nobody).err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{error}");
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
