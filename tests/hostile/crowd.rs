//! Crowds: many uids, of one account or of many, ask at once, guess keys, and hold what all ask through. Who has a key of
//! their own gets in meanwhile.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::arena::{Arena, Due, rounds, tell};
use crate::common::{ALICE, BOB, Layout, Tenant, Volume, as_user, eventually, shell, success};

/// The subordinate uids of an account, and uids that are accounts of their own.
const OWNER: u32 = 61005;
const SUBORDINATE: u32 = 700_000;
const ACCOUNTS: u32 = 62_000;

/// An auth service that counts what it is asked, of root's.
struct Counting {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Counting {
    fn start(tenants: &[&Tenant]) -> Self {
        let users: HashMap<_, _> = tenants
            .iter()
            .map(|tenant| (tenant.api_key.to_owned(), tenant.user))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (asked, heard) = (Arc::new(Mutex::new(Vec::new())), Arc::new(users));
        let told = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (told, users) = (Arc::clone(&told), Arc::clone(&heard));
                thread::spawn(move || answer(&stream.unwrap(), &users, &told));
            }
        });
        Self { url, asked }
    }

    /// How many questions there were about keys like this.
    fn asked(&self, key: &str) -> usize {
        self.asked
            .lock()
            .iter()
            .filter(|asked| asked.contains(key))
            .count()
    }
}

fn answer(mut stream: &TcpStream, users: &HashMap<String, &str>, told: &Mutex<Vec<String>>) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head = lines.take_while(|line| !line.is_empty());
    let key = head
        .filter_map(|line| Some(line.split_once("Bearer ")?.1.to_owned()))
        .last()
        .unwrap_or_default();
    let (status, body) = match users.get(&key) {
        Some(user) => ("200 OK", format!("{{\"user_id\":\"{user}\"}}")),
        None => ("401 Unauthorized", "{}".to_owned()),
    };
    told.lock().push(key);
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
}

/// What /etc/subuid says, while this lives.
struct Subordinate;

impl Subordinate {
    fn are(volume: &Volume, text: &str) -> Self {
        let file = volume.base().join("subuid");
        fs::write(&file, text).unwrap();
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(&file).arg("/etc/subuid");
        success(mount, "");
        Self
    }
}

impl Drop for Subordinate {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount("/etc/subuid", flags);
    }
}

/// Asks as many uids, all at the same time, and prints the answers' codes and how often each came.
const ASK: &str = r#"
import collections, json, os, resource, socket, sys, time
path, first, uids, each, request, held = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5], sys.argv[6]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
clients = []
for uid in range(first, first + uids):
    for turn in range(each):
        # Whom the kernel names is who connects.
        os.seteuid(uid)
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        os.seteuid(0)
        clients.append((client, request.replace('N', '%d-%d' % (uid, turn))))
if held == 'held':
    print('held', flush=True)
    sys.stdin.read()
    sys.exit()
for client, text in clients:
    try:
        client.sendall(text.encode() + b'\n')
    except OSError:
        pass
codes = collections.Counter()
for client, _ in clients:
    try:
        answer = json.loads(client.makefile().readline() or '{"error":{"code":"closed"}}')
    except ConnectionError:
        answer = {'error': {'code': 'closed'}}
    codes[answer['error']['code'] if 'error' in answer else 'ok'] += 1
    client.close()
print(json.dumps(codes))
"#;

const GUESS: &str = r#"{"login":{"key":"guess-N"}}"#;

fn asking(arena: &Arena<'_>, first: u32, uids: usize, each: usize, request: &str, held: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-B", "-c", ASK]).arg(&arena.daemon.socket);
    command.args([first.to_string(), uids.to_string(), each.to_string()]);
    command.args([request, held]);
    command
}

/// The codes that the crowd was answered with.
fn ask(arena: &Arena<'_>, first: u32, uids: usize, each: usize, request: &str) -> HashMap<String, usize> {
    let said = success(asking(arena, first, uids, each, request, ""), "");
    serde_json::from_str(&said).unwrap()
}

/// How long a command of the other user's takes: the middle of five.
fn takes(arena: &Arena<'_>, args: &[&str], input: &str) -> Duration {
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            arena.daemon.asked(BOB.uid, args, input);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[2]
}

/// What the other user's login and status take while nobody else is there.
struct Quiet {
    login: Duration,
    status: Duration,
}

impl Quiet {
    fn of(arena: &Arena<'_>) -> Self {
        Self {
            login: takes(arena, &["login"], BOB.api_key),
            status: takes(arena, &["status"], ""),
        }
    }

    /// They take no more than three times as long. A process that is to be started may wait for its turn, though.
    fn holds(&self, arena: &Arena<'_>, name: &str) {
        const TURN: Duration = Duration::from_millis(50);
        let now = Self::of(arena);
        println!(
            "{name}: login {:?}, quiet {:?}; status {:?}, quiet {:?}",
            now.login, self.login, now.status, self.status
        );
        assert!(
            now.login < 3 * self.login + TURN,
            "{name}: {:?}, {:?}",
            now.login,
            self.login
        );
        assert!(
            now.status < 3 * self.status + TURN,
            "{name}: {:?}, {:?}",
            now.status,
            self.status
        );
    }
}

/// The other user's commands, again and again, while a crowd asks as often as it can.
fn beside<T: Send>(arena: &Arena<'_>, name: &str, crowd: impl FnOnce() -> T + Send) -> T {
    let quiet = Quiet::of(arena);
    thread::scope(|scope| {
        let crowd = scope.spawn(crowd);
        // No more often than a user may log in.
        quiet.holds(arena, name);
        arena.stands(name);
        crowd.join().unwrap()
    })
}

#[test]
fn guesses_of_an_accounts_subordinate_uids_are_that_accounts() {
    let volume = Volume::new(Layout::default());
    let service = Counting::start(&[&ALICE, &BOB]);
    let arena = Arena::with(&volume, &["--auth-url", &service.url]);
    let _subordinate = Subordinate::are(&volume, &format!("{OWNER}:{SUBORDINATE}:65536\n"));
    let uids = rounds(300, 3_000);
    let codes = arena.case("subordinate uids", Due::Lines("login * EACCES"), || {
        beside(&arena, "guesses of subordinate uids", || {
            let begun = Instant::now();
            let mut codes = HashMap::new();
            while begun.elapsed() < Duration::from_millis(900) {
                for (code, count) in ask(&arena, SUBORDINATE, uids, 1, GUESS) {
                    *codes.entry(code).or_insert(0) += count;
                }
            }
            codes
        })
    });
    let reached = service.asked("guess-");
    println!("{codes:?}, of which {reached} were checked");
    // Three, and one for each second that this took.
    assert!((3..=6).contains(&reached), "{reached}: {codes:?}");
    assert_eq!(codes.get("ok"), None, "{codes:?}");
    // Nor has the account itself any left.
    let own = ask(&arena, OWNER, 1, 1, GUESS);
    assert_eq!(own["refused"], 1, "{own:?}");
    assert_eq!(service.asked("guess-"), reached);
    tell("crowd", "guesses of subordinate uids", codes.values().sum());
}

#[test]
fn guesses_of_many_accounts_are_bounded_and_keep_out_nobody_with_a_key() {
    let volume = Volume::new(Layout::default());
    let carol = Tenant {
        user: "carol",
        hash: "",
        uid: 61003,
        api_key: "key-of-carol-5555555555",
    };
    let service = Counting::start(&[&ALICE, &BOB, &carol]);
    let arena = Arena::with(&volume, &["--auth-url", &service.url]);
    let accounts = rounds(100, 1_000);
    let begun = Instant::now();
    let codes = arena.case("many accounts", Due::Lines("login * EACCES"), || {
        beside(&arena, "guesses of many accounts", || {
            ask(&arena, ACCOUNTS, accounts, 3, GUESS)
        })
    });
    // A key that nobody has seen before, of somebody who has guessed nothing.
    let first = Instant::now();
    arena.daemon.asked(carol.uid, &["login"], carol.api_key);
    let first = first.elapsed();
    let reached = service.asked("guess-");
    let seconds = begun.elapsed().as_secs() as usize + 1;
    println!("{codes:?}, of which {reached} were checked in {seconds} s; carol waited {first:?}");
    assert!(reached <= 60 + 5 * seconds, "{reached} in {seconds} s");
    assert!(first < Duration::from_secs(5), "{first:?}");
    tell("crowd", "guesses of many accounts", codes.values().sum());
}

#[test]
fn a_good_key_is_not_checked_as_often_as_somebody_likes() {
    let volume = Volume::new(Layout::default());
    let service = Counting::start(&[&ALICE, &BOB]);
    let arena = Arena::with(&volume, &["--auth-url", &service.url, "--lease", "1h"]);
    let times = rounds(500, 5_000);
    let request = format!("{{\"login\":{{\"key\":\"{}\"}}}}", ALICE.api_key);
    let begun = Instant::now();
    let codes = arena.case("good keys", Due::Nothing, || {
        beside(&arena, "a good key again and again", || {
            let mut codes: HashMap<String, usize> = HashMap::new();
            for _ in 0..times / 5 {
                for (code, count) in ask(&arena, ALICE.uid, 1, 5, &request) {
                    *codes.entry(code).or_default() += count;
                }
            }
            codes
        })
    });
    let reached = service.asked(ALICE.api_key);
    let seconds = begun.elapsed().as_secs() as usize + 1;
    println!("{codes:?}, of which {reached} were checked in {seconds} s");
    assert!(reached <= 20 + 2 * seconds, "{reached} in {seconds} s");
    assert!(codes["busy"] > times / 2, "{codes:?}");
    tell("crowd", "logins with a good key", codes.values().sum());
}

#[test]
fn connections_of_a_crowd_lock_out_nobody_who_has_a_session() {
    let volume = Volume::new(Layout::default());
    let service = Counting::start(&[&ALICE, &BOB]);
    let arena = Arena::with(&volume, &["--auth-url", &service.url]);
    let quiet = Quiet::of(&arena);
    let accounts = rounds(200, 2_000);
    arena.case("connections", Due::Lines("session_ends"), || {
        let mut crowd = asking(&arena, ACCOUNTS, accounts, 8, "", "held");
        let mut crowd = crowd
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = String::new();
        BufReader::new(crowd.stdout.take().unwrap())
            .read_line(&mut held)
            .unwrap();
        assert_eq!(held, "held\n");
        // There is no more to be had for those who have no session.
        let late = ask(&arena, ACCOUNTS + 100_000, 1, 1, "{\"status\":{}}");
        assert_eq!(late["busy"], 1, "{late:?}");
        quiet.holds(&arena, "connections of a crowd");
        arena.daemon.asked(BOB.uid, &["logout"], "");
        drop(crowd.stdin.take());
        assert!(crowd.wait().unwrap().success());
        // They are all given back.
        let back = || {
            arena
                .daemon
                .ask(BOB.uid, &["login"], BOB.api_key)
                .status
                .success()
        };
        assert!(eventually(Duration::from_secs(10), back));
    });
    tell("crowd", "connections of a crowd", accounts * 8);
}

/// Listens in the auth service's place, says that every key is bob's, and tells which it was sent.
const IMPOSTOR: &str = r#"
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('127.0.0.1', int(sys.argv[1])))
listener.listen(64)
print('listens', sys.argv[1], flush=True)
body = b'{"user_id":"bob"}'
while True:
    connection, _ = listener.accept()
    try:
        sent = connection.recv(65536)
        if sent:
            print('sent', flush=True)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
    except OSError:
        pass
    connection.close()
"#;

/// A service that can be taken away.
const SERVICE: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments): pass
    def do_GET(self):
        key = self.headers['Authorization'].removeprefix('Bearer ')
        user = {'key-of-alice-0123456789': 'alice', 'key-of-bob-9876543210': 'bob'}.get(key)
        body = b'{"user_id":"%s"}' % user.encode() if user else b'{}'
        self.send_response(200 if user else 401)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
print('listens', server.server_port, flush=True)
server.serve_forever()
"#;

/// One of these two, which ends with the test.
struct Listening {
    process: Child,
    said: BufReader<ChildStdout>,
    port: String,
}

impl Listening {
    fn start(mut command: Command, code: &str, port: &str) -> Self {
        command.args(["-B", "-c", code, port]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let port = line.split_whitespace().nth(1).unwrap().to_owned();
        Self { process, said, port }
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_user_in_the_auth_services_place_is_sent_no_key_and_is_nobody_else() {
    let volume = Volume::new(Layout::default());
    let python = || Command::new("/usr/bin/python3");
    let mut service = Listening::start(python(), SERVICE, "0");
    let port = service.port.clone();
    let url = format!("http://127.0.0.1:{port}/");
    let arena = Arena::with(&volume, &["--auth-url", &url, "--lease", "1s"]);
    service.end();
    let alice = as_user(ALICE.uid, volume.base(), "python3");
    let mut impostor = Listening::start(alice, IMPOSTOR, &port);
    // Everybody's keys are due for renewal several times meanwhile.
    thread::sleep(Duration::from_secs(3));
    let stranger = arena.daemon.json(61004, &["login"], "i-am-bob");
    assert_eq!(stranger["error"]["code"], "unreachable", "{stranger}");
    let why = stranger["error"]["message"].as_str().unwrap();
    assert!(why.contains("belongs to uid 61001"), "{why}");
    let told = arena.daemon.log().contains("belongs to uid 61001");
    assert!(told, "the operator is told");
    arena.log.wait("login");
    assert!(!arena.daemon.place(61004).exists());
    // The other user works on, through the grace period.
    assert_eq!(arena.daemon.state(BOB.uid), "stale");
    let did = shell(
        BOB.uid,
        &arena.bob,
        "echo '{}' > schedules/x.json; cat schedules/x.json",
    );
    assert_eq!(did, "{}\n");
    impostor.end();
    let mut sent = String::new();
    impostor.said.read_to_string(&mut sent).unwrap();
    assert_eq!(sent, "", "it was sent something");
    let _service = Listening::start(python(), SERVICE, &port);
    let again = || arena.daemon.state(BOB.uid) == "active";
    assert!(
        eventually(Duration::from_secs(10), again),
        "the service is asked again"
    );
    tell("crowd", "impostors of the auth service", 1);
}
