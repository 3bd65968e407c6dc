//! A host is full of users, and each may listen where the auth service listened a moment ago. None of them is sent a key.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tenantfs::auth::{HttpService, ServiceOptions};
use tenantfs::error::Kind;

use crate::{KEY, ask, run};

/// Accounts that are nothing to whoever asks.
const STRANGER: u32 = 4501;
const WORKER: u32 = 4777;

/// Says yes to whatever it is sent, and tells what that was.
const LISTENER: &str = r#"
import os, socket, sys, time
where, options = sys.argv[1], dict(option.split('=') for option in sys.argv[2:])
unix = '/' in where
family = socket.AF_UNIX if unix else socket.AF_INET6 if ':' in where else socket.AF_INET
listener = socket.socket(family)
if not unix:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if where == '::':
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
if 'defer' in options:
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
listener.bind(where if unix else (where, int(options.get('port', 0))))
listener.listen(64)
if unix:
    os.chmod(where, 0o777)
print(0 if unix else listener.getsockname()[1], flush=True)
if 'never' in options:
    time.sleep(60)
if 'late' in options:
    time.sleep(float(options['late']))
if 'worker' in options:
    os.seteuid(int(options['worker']))
body = b'{"user_id":"alice"}'
while True:
    connection, _ = listener.accept()
    try:
        sent = connection.recv(65536)
        print('sent', sent.count(b'Bearer'), flush=True)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
    except OSError:
        pass
    connection.close()
"#;

struct Listener {
    process: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

impl Listener {
    fn start(uid: u32, at: &str, options: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".to_owned(),
        ]);
        Self::spawn(
            command
                .args(["/usr/bin/python3", "-B", "-c", LISTENER, at])
                .args(options),
        )
    }

    fn spawn(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        said.read_line(&mut port).unwrap();
        let port = port.trim().parse().expect("the listener did not start");
        Self { process, said, port }
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/validate", self.port)
    }

    /// How many keys it was sent.
    fn end(mut self) -> usize {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        said.matches("sent 1").count()
    }
}

/// Asks once: the user, or why there is none.
fn answer(url: &str, options: ServiceOptions<'_>) -> Result<String, String> {
    let service = HttpService::new(url, options).unwrap();
    match run(ask(&service, KEY)) {
        Ok(yes) => Ok(yes.principal.user().as_str().to_owned()),
        Err(error) => {
            assert_eq!(error.kind(), Kind::AuthenticationUnreachable, "{error}");
            Err(error.to_string())
        }
    }
}

fn named(service_user: u32) -> ServiceOptions<'static> {
    ServiceOptions {
        service_user: Some(service_user),
        ..ServiceOptions::default()
    }
}

#[test]
fn a_stranger_at_the_services_port_is_sent_no_key_and_believed_in_nothing() {
    for (at, host) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("::1", "[::1]"),
        // Where nobody listens at 127.0.0.1.
        ("::1", "localhost"),
        ("::", "127.0.0.1"),
        ("0.0.0.0", "127.9.9.9"),
    ] {
        for how in [&[][..], &["never=1"], &["defer=1"]] {
            let listener = Listener::start(STRANGER, at, how);
            let begun = Instant::now();
            let why = answer(&listener.url(host), ServiceOptions::default()).unwrap_err();
            assert!(why.contains("belongs to uid 4501"), "{at} {how:?}: {why}");
            assert!(why.contains("auth.service_user"), "{at} {how:?}: {why}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{at} {how:?}");
            assert_eq!(listener.end(), 0, "{at} {how:?}");
        }
    }
}

/// Neither is it when keys may go over networks: a loopback address is no network.
#[test]
fn a_stranger_is_not_believed_where_plain_text_is_allowed() {
    let listener = Listener::start(STRANGER, "0.0.0.0", &[]);
    let insecure = ServiceOptions {
        insecure: true,
        ..ServiceOptions::default()
    };
    for host in ["127.0.0.1", "0.0.0.0"] {
        let why = answer(&listener.url(host), insecure).unwrap_err();
        assert!(why.contains("belongs to uid 4501"), "{why}");
    }
    assert_eq!(listener.end(), 0);
}

#[test]
fn root_and_the_named_account_are_believed_however_they_accept() {
    for how in [&[][..], &["late=0.5"], &["defer=1"]] {
        for (at, host) in [("127.0.0.1", "localhost"), ("::1", "[::1]"), ("::", "127.0.0.1")] {
            let root = Listener::start(0, at, how);
            assert_eq!(
                answer(&root.url(host), ServiceOptions::default()),
                Ok("alice".to_owned()),
                "{at} {how:?}"
            );
            assert_eq!(root.end(), 1);
            let service = Listener::start(STRANGER, at, how);
            assert_eq!(
                answer(&service.url(host), named(STRANGER)),
                Ok("alice".to_owned()),
                "{at} {how:?}"
            );
            assert!(answer(&service.url(host), named(STRANGER + 1)).is_err());
            assert_eq!(service.end(), 1);
        }
    }
}

/// A listener of root's may have been inherited by anybody: it is whoever has accepted the connection that gets the key.
#[test]
fn who_accepts_counts_and_not_who_listens() {
    for late in ["late=0", "late=0.5"] {
        let listener = Listener::start(0, "127.0.0.1", &[&format!("worker={WORKER}"), late]);
        let why = answer(&listener.url("127.0.0.1"), ServiceOptions::default()).unwrap_err();
        assert!(why.contains("belongs to uid 4777"), "{why}");
        assert_eq!(
            answer(&listener.url("127.0.0.1"), named(WORKER)),
            Ok("alice".to_owned())
        );
        assert_eq!(listener.end(), 1);
    }
}

#[test]
fn a_key_waits_for_nobody_who_may_never_accept_it() {
    let root = Listener::start(0, "127.0.0.1", &["never=1"]);
    let why = answer(&root.url("127.0.0.1"), ServiceOptions::default()).unwrap_err();
    assert!(why.contains("within 5 s"), "{why}");
    assert_eq!(root.end(), 0);
}

/// Root listens at the port again by the time that it is looked whose it is.
const SWAPPED: &str = r#"
import os, socket, sys
def listen(port, uid):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    os.seteuid(uid)
    listener.bind(('127.0.0.1', port))
    listener.listen(8)
    return listener
stranger = listen(0, int(sys.argv[1]))
port = stranger.getsockname()[1]
print(port, flush=True)
while True:
    taken, _ = stranger.accept()
    stranger.close()
    os.seteuid(0)
    root = listen(port, 0)
    taken.settimeout(0.2)
    try:
        if b'Bearer' in taken.recv(65536):
            print('sent 1', flush=True)
    except OSError:
        pass
    taken.close()
    root.close()
    stranger = listen(port, int(sys.argv[1]))
"#;

#[test]
fn a_stranger_who_has_accepted_is_not_covered_by_a_service_that_came_back() {
    let listener =
        Listener::spawn(Command::new("/usr/bin/python3").args(["-B", "-c", SWAPPED, &STRANGER.to_string()]));
    for _ in 0..10 {
        let why = answer(&listener.url("127.0.0.1"), ServiceOptions::default()).unwrap_err();
        let closed = why.contains("nobody's on this host") || why.contains("Connection refused");
        assert!(why.contains("belongs to uid 4501") || closed, "{why}");
    }
    assert_eq!(listener.end(), 0);
}

#[test]
fn a_strangers_unix_socket_is_sent_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let everybodys = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(directory.path(), everybodys).unwrap();
    let path = directory.path().join("auth.sock");
    let through = |service_user| ServiceOptions {
        socket: Some(Path::new(&path)),
        service_user,
        ..ServiceOptions::default()
    };
    let url = "http://auth.example/validate";
    let missing = answer(url, through(None)).unwrap_err();
    assert!(
        missing.contains("auth.sock cannot be reached: No such file"),
        "{missing}"
    );
    let listener = Listener::start(STRANGER, path.to_str().unwrap(), &[]);
    let why = answer(url, through(None)).unwrap_err();
    assert!(why.contains("auth.sock belongs to uid 4501"), "{why}");
    assert_eq!(answer(url, through(Some(STRANGER))), Ok("alice".to_owned()));
    assert_eq!(listener.end(), 1);
    // It is looked at anew for each question: the service may have been restarted.
    std::fs::remove_file(&path).unwrap();
    let listener = Listener::start(0, path.to_str().unwrap(), &[]);
    assert_eq!(answer(url, through(None)), Ok("alice".to_owned()));
    assert_eq!(listener.end(), 1);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let why = answer(url, through(None)).unwrap_err();
    assert!(why.contains("that is not a socket"), "{why}");
}
