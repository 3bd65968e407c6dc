//! The auth service is believed when it says yes or no, and nobody else is: not one that lies, hangs or floods, nor one
//! that is in between. On real sockets, with scripts/auth.py as the honest service and tests/hostile_auth.py as the
//! others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;
mod strangers;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use common::auth::AuthService;
use parking_lot::Mutex;
use tenantfs::auth::{ApiKey, Authenticator as _, HttpService, ServiceOptions, Validation};
use tenantfs::error::{Kind, Result};
use tokio::task::JoinSet;

const KEY: &str = "hostile-0123456789-sesame";

/// What the contract makes of an answer.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Yes,
    No,
    /// Neither, and the message says so with these words.
    Neither(&'static str),
}
use Verdict::{Neither, No, Yes};

/// Paths of tests/hostile_auth.py.
const ANSWERS: &[(&str, Verdict)] = &[
    ("yes", Yes),
    ("strict", Yes),
    ("parameters", Yes),
    ("until-close", Yes),
    ("chunked", Yes),
    ("continue", Yes),
    ("expires-60", Yes),
    ("expires-huge", Yes),
    ("just-64-kib", Yes),
    ("refused-401", No),
    ("refused-403", No),
    ("refused-endless", No),
    ("hang", Neither("within 5 s")),
    ("trickle-headers", Neither("within 5 s")),
    ("trickle-body", Neither("within 5 s")),
    ("trickle-chunks", Neither("within 5 s")),
    ("continue-forever", Neither("within 5 s")),
    ("continue-flood", Neither("within 5 s")),
    ("10-gib", Neither("64 KiB")),
    ("10-gib-until-close", Neither("64 KiB")),
    ("over-64-kib", Neither("64 KiB")),
    ("huge-header", Neither("message head is too large")),
    ("many-headers", Neither("message head is too large")),
    ("endless-headers", Neither("message head is too large")),
    ("endless-status", Neither("message head is too large")),
    ("length-short", Neither("JSON object")),
    ("length-long", Neither("understood")),
    ("length-huge", Neither("understood")),
    ("length-negative", Neither("understood")),
    ("length-twice", Neither("understood")),
    ("length-nonsense", Neither("understood")),
    ("close-at-once", Neither("understood")),
    ("close-in-headers", Neither("understood")),
    ("close-in-body", Neither("understood")),
    ("close-in-chunk", Neither("understood")),
    ("chunk-nonsense", Neither("understood")),
    ("201-created", Neither("status 201")),
    ("202-accepted", Neither("status 202")),
    ("204-no-content", Neither("status 204")),
    ("206-partial-content", Neither("status 206")),
    ("400-bad-request", Neither("status 400")),
    ("402-payment-required", Neither("status 402")),
    ("404-not-found", Neither("status 404")),
    ("407-proxy-authentication-required", Neither("status 407")),
    ("429-too-many-requests", Neither("status 429")),
    ("500-internal-server-error", Neither("status 500")),
    ("503-service-unavailable", Neither("status 503")),
    ("redirect-301", Neither("redirect (status 301)")),
    ("redirect-302", Neither("redirect (status 302)")),
    ("redirect-303", Neither("redirect (status 303)")),
    ("redirect-307", Neither("redirect (status 307)")),
    ("redirect-308", Neither("redirect (status 308)")),
    ("switching", Neither("status 101")),
    ("status-1000", Neither("understood")),
    ("status-nonsense", Neither("understood")),
    ("http-0.9", Neither("understood")),
    ("http-2", Neither("understood")),
    ("ssh", Neither("understood")),
    ("echo", Neither("status 500")),
    ("html", Neither("application/json")),
    ("json-as-html", Neither("application/json")),
    ("no-type", Neither("application/json")),
    ("two-types", Neither("application/json")),
    ("gzip", Neither("compressed")),
    ("gzip-unsaid", Neither("UTF-8")),
    ("empty", Neither("JSON object")),
    ("bad-json", Neither("JSON object")),
    ("garbage-behind", Neither("JSON object")),
    ("bom", Neither("JSON object")),
    ("utf-16", Neither("UTF-8")),
    ("bad-utf-8", Neither("UTF-8")),
    ("nul", Neither("JSON object")),
    ("nul-escaped", Neither("control characters")),
    ("array", Neither("JSON object")),
    ("string", Neither("JSON object")),
    ("number", Neither("user_id")),
    ("null", Neither("user_id")),
    ("no-user", Neither("user_id")),
    ("empty-user", Neither("user id is empty")),
    ("long-user", Neither("longer than 512 bytes")),
    ("control-user", Neither("control characters")),
    ("twice", Neither("twice")),
    ("twice-escaped", Neither("twice")),
    ("expires-0", Neither("expires_in")),
    ("expires-negative", Neither("expires_in")),
    ("expires-fraction", Neither("expires_in")),
    ("expires-string", Neither("expires_in")),
    ("expires-null", Neither("expires_in")),
];

#[test]
fn nothing_but_a_clear_yes_is_a_yes() {
    let hostile = Hostile::start();
    let cases = ANSWERS.iter().map(|(path, verdict)| {
        let service = HttpService::new(
            &hostile.url("http://127.0.0.1", "plain", path),
            ServiceOptions::default(),
        )
        .unwrap();
        (service, *verdict)
    });
    assert_verdicts(cases.collect());
    assert_the_key_was_not_logged();
}

/// So nothing that is left over of one answer can be taken for the answer to the next key.
#[test]
fn every_key_has_a_connection_of_its_own() {
    let hostile = Hostile::start();
    let service = HttpService::new(
        &hostile.url("http://localhost", "plain", "kept-open"),
        ServiceOptions::default(),
    )
    .unwrap();
    let connections = run(async {
        let mut names = HashSet::new();
        for _ in 0..3 {
            let yes = ask(&service, KEY).await.unwrap();
            names.insert(yes.principal.user().as_str().to_owned());
        }
        names
    });
    assert_eq!(connections.len(), 3, "{connections:?}");
}

/// The authority's file has to be in the environment before the process starts.
#[test]
fn a_service_over_tls_has_to_prove_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.pem");
    let trusted = [("SSL_CERT_FILE", authority.to_str().unwrap())];
    let test = "a_service_over_tls_has_to_prove_its_name";
    in_child(test, directory.path(), &trusted, |directory| {
        let hostile = Hostile::start_in(directory);
        let cases = [
            ("https://localhost", "tls", "yes", Yes),
            ("https://127.0.0.1", "tls", "yes", Yes),
            ("https://localhost", "tls", "refused-401", No),
            ("https://localhost", "tls", "redirect-302", Neither("redirect")),
            ("https://localhost", "tls", "close-in-body", Neither("understood")),
            // The alert that ends a TLS stream is missing: somebody may have cut it off.
            ("https://localhost", "tls", "until-close", Neither("understood")),
            (
                "https://localhost",
                "expired",
                "yes",
                Neither("not trusted: its certificate has expired"),
            ),
            (
                "https://localhost",
                "early",
                "yes",
                Neither("not trusted: its certificate is not valid yet"),
            ),
            (
                "https://localhost",
                "other-name",
                "yes",
                Neither("not trusted: its certificate is for another name"),
            ),
            (
                "https://localhost",
                "unknown-issuer",
                "yes",
                Neither("not trusted: its certificate has an unknown issuer"),
            ),
            (
                "https://localhost",
                "self-signed",
                "yes",
                Neither("not trusted: its certificate"),
            ),
            ("https://localhost", "no-handshake", "yes", Neither("within 5 s")),
            ("https://localhost", "no-tls", "yes", Neither("cannot be reached")),
            ("http://localhost", "tls", "yes", Neither("understood")),
        ];
        let cases = cases.map(|(host, server, path, verdict)| {
            let service =
                HttpService::new(&hostile.url(host, server, path), ServiceOptions::default()).unwrap();
            (service, verdict)
        });
        assert_verdicts(cases.into());
        assert_the_key_was_not_logged();
    });
}

#[test]
fn certificates_are_the_systems() {
    let directory = tempfile::tempdir().unwrap();
    let test = "certificates_are_the_systems";
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")];
    in_child(test, directory.path(), &none, |_| {
        let error = HttpService::new("https://auth.example/", ServiceOptions::default())
            .err()
            .unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("ca-certificates"), "{error}");
        assert!(HttpService::new("http://localhost/", ServiceOptions::default()).is_ok());
    });
}

#[test]
fn proxies_from_the_environment_are_ignored() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for _ in proxy.incoming() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.pem");
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| [name.to_owned(), name.to_lowercase()]);
    let names = names.concat();
    let mut environment: Vec<_> = names.iter().map(|name| (name.as_str(), url.as_str())).collect();
    environment.extend([
        ("NO_PROXY", ""),
        ("no_proxy", ""),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ]);
    let test = "proxies_from_the_environment_are_ignored";
    let waited = in_child(test, directory.path(), &environment, |directory| {
        let hostile = Hostile::start_in(directory);
        let plain = hostile.url("http://127.0.0.1", "plain", "yes");
        let cases = [plain.clone(), hostile.url("https://localhost", "tls", "yes")]
            .map(|url| (HttpService::new(&url, ServiceOptions::default()).unwrap(), Yes));
        assert_verdicts(cases.into());
        // One who does heed them comes by: the proxy is real.
        assert!(run(reqwest::get(plain)).is_err());
    });
    if waited {
        assert_eq!(asked.load(Ordering::Relaxed), 1, "connections to the proxy");
    }
}

#[test]
fn an_honest_service_admits_revokes_goes_down_and_comes_back() {
    let mut auth = AuthService::start(&[("alice", "key-of-alice"), ("bob", KEY)]);
    let service = HttpService::new(auth.url(), ServiceOptions::default()).unwrap();
    // A runtime of its own for each: nothing in the service may depend on the one before.
    let check = |key: &str| run(ask(&service, key));
    let user = |key: &str| check(key).unwrap().principal.user().as_str().to_owned();
    let kind = |key: &str| check(key).unwrap_err().kind();

    assert_eq!(user("key-of-alice"), "alice");
    assert_eq!(user(KEY), "bob");
    assert_eq!(check(KEY).unwrap().expires_in, None);
    let refused = check("key-of-mallory").unwrap_err();
    assert_eq!(refused.kind(), Kind::AuthenticationRefused);
    let said = format!("the auth service {} refused the API key (status 401)", auth.url());
    assert_eq!(refused.to_string(), said);

    auth.revoke("key-of-alice");
    assert_eq!(kind("key-of-alice"), Kind::AuthenticationRefused);
    assert_eq!(user(KEY), "bob");
    auth.admit("älice", "key-of-alice");
    assert_eq!(user("key-of-alice"), "älice");

    auth.pause();
    let impatient = run(async { tokio::time::timeout(Duration::from_millis(300), ask(&service, KEY)).await });
    assert!(impatient.is_err(), "{impatient:?}");
    auth.resume();
    assert_eq!(user(KEY), "bob");

    auth.kill();
    let down = check(KEY).unwrap_err();
    assert_eq!(down.kind(), Kind::AuthenticationUnreachable);
    assert!(
        down.to_string().contains("cannot be reached: Connection refused"),
        "{down}"
    );
    auth.restart();
    assert_eq!(user(KEY), "bob");
    assert!(!auth.log().contains(KEY), "{}", auth.log());

    let auth = AuthService::start_with(&[("alice", KEY)], &["--expires-in", "90"]);
    let service = HttpService::new(auth.url(), ServiceOptions::default()).unwrap();
    assert_eq!(
        run(ask(&service, KEY)).unwrap().expires_in,
        Some(Duration::from_secs(90))
    );
    assert_the_key_was_not_logged();
}

/// Asks all of them at once, on one thread, and holds each answer to the contract.
fn assert_verdicts(cases: Vec<(HttpService, Verdict)>) {
    let wrong = run(async {
        let mut asked = JoinSet::new();
        for (service, verdict) in cases {
            asked.spawn(async move {
                let begun = Instant::now();
                let answer = ask(&service, KEY).await;
                complaint(verdict, &answer, begun.elapsed())
            });
        }
        asked.join_all().await
    });
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn complaint(verdict: Verdict, answer: &Result<Validation>, elapsed: Duration) -> Option<String> {
    let right = match (verdict, answer) {
        (Yes, Ok(yes)) => yes.principal.user().as_str() == "alice",
        (No, Err(error)) => error.kind() == Kind::AuthenticationRefused,
        (Neither(said), Err(error)) => {
            error.kind() == Kind::AuthenticationUnreachable && error.to_string().contains(said)
        }
        _ => false,
    };
    let message = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let presentable = !message.contains(char::is_control) && !message.contains(KEY) && message.len() < 300;
    let patient = elapsed < Duration::from_secs(6)
        && (!message.contains("within") || elapsed > Duration::from_millis(4900));
    (!right || !presentable || !patient)
        .then(|| format!("{verdict:?} was due, after {elapsed:?} came {answer:?}"))
}

async fn ask(service: &HttpService, key: &str) -> Result<Validation> {
    log_everything();
    service.validate(&ApiKey::new(key).unwrap()).await
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

/// tests/hostile_auth.py, running. It ends with this process, or when it is dropped.
struct Hostile {
    server: Child,
    ports: HashMap<String, u16>,
    /// Where it has its certificates, when that is nobody else's.
    _directory: Option<tempfile::TempDir>,
}

impl Hostile {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut hostile = Self::start_in(directory.path());
        hostile._directory = Some(directory);
        hostile
    }

    fn start_in(directory: &Path) -> Self {
        let mut server = Command::new("/usr/bin/python3")
            .args([
                "-B",
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile_auth.py"),
            ])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ports = serde_json::from_str(&line).expect("tests/hostile_auth.py did not start");
        Self {
            server,
            ports,
            _directory: None,
        }
    }

    fn url(&self, host: &str, server: &str, path: &str) -> String {
        format!("{host}:{}/{path}", self.ports[server])
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Runs `body` in a process of its own with these environment variables: the test program starts itself again, for this
/// one test. Says whether this is the process that has waited for it.
fn in_child(test: &str, directory: &Path, environment: &[(&str, &str)], body: impl FnOnce(&Path)) -> bool {
    const CHILD: &str = "TENANTFS_TEST_CHILD";
    if let Some(directory) = std::env::var_os(CHILD) {
        body(&PathBuf::from(directory));
        return false;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, directory);
    child.envs(environment.iter().copied());
    let output = common::success(child, "");
    assert!(output.contains("1 passed"), "{output}");
    true
}

/// Every line that any crate has logged, whatever its level.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log_everything() {
    struct Everything;
    impl log::Log for Everything {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}", record.target(), record.args());
            LOGGED.lock().push(line);
        }
        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Everything).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

fn assert_the_key_was_not_logged() {
    let logged = LOGGED.lock();
    assert!(
        logged.iter().any(|line| line.starts_with("reqwest")),
        "nothing was heard"
    );
    let told: Vec<_> = logged.iter().filter(|line| line.contains("sesame")).collect();
    assert!(told.is_empty(), "{told:?}");
}

fn through(socket: &Path) -> ServiceOptions<'_> {
    ServiceOptions {
        socket: Some(socket),
        ..ServiceOptions::default()
    }
}

#[tokio::test]
async fn a_service_is_reached_through_a_socket_by_whoever_listens_there() {
    let auth = AuthService::start(&[("alice", KEY)]);
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("auth.sock");
    // What systemd-socket-proxyd does.
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let address = auth
        .url()
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let service = HttpService::new("http://auth.example/validate", through(&socket)).unwrap();
    let validation = service.validate(&ApiKey::new(KEY).unwrap()).await.unwrap();
    assert_eq!(validation.principal.user().as_str(), "alice");
    let nobodys = service
        .validate(&ApiKey::new("nobodys").unwrap())
        .await
        .unwrap_err();
    assert_eq!(nobodys.kind(), Kind::AuthenticationRefused);

    let nobody = directory.path().join("nobody.sock");
    let service = HttpService::new("http://auth.example/validate", through(&nobody)).unwrap();
    let error = service.validate(&ApiKey::new(KEY).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AuthenticationUnreachable, "{error}");
}
