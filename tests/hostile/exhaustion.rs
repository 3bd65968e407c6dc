//! Exhaustion: whatever one user takes of what there is, the others work meanwhile, and it is all given back.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::arena::{Arena, Due, rounds, tell};
use crate::common::{ALICE, BOB, Layout, Volume, as_user, eventually, python, together};

/// How long it may take until all is given back.
const GIVEN_BACK: Duration = Duration::from_secs(20);

/// What the daemon may keep for good of what an attack made it take, in KiB: allocators do not give back every page.
const KEPT: u64 = 48 << 10;

/// What the daemon takes.
pub(crate) struct Figures {
    memory: u64,
    descriptors: usize,
}

impl Figures {
    pub(crate) fn of(arena: &Arena<'_>) -> Self {
        let process = format!("/proc/{}", arena.daemon.pid().as_raw_nonzero());
        Self {
            memory: memory(&process, "VmRSS:"),
            descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count(),
        }
    }

    /// The most memory that the daemon ever took, in KiB.
    pub(crate) fn peak(arena: &Arena<'_>) -> u64 {
        memory(
            &format!("/proc/{}", arena.daemon.pid().as_raw_nonzero()),
            "VmHWM:",
        )
    }

    /// What the daemon takes now is what it took before.
    pub(crate) fn assert_back(&self, arena: &Arena<'_>, after: &str) {
        let peak = Self::of(arena);
        // The kernel knows the inodes as long as it likes.
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        let back = eventually(GIVEN_BACK, || {
            let now = Self::of(arena);
            now.memory <= self.memory + KEPT && now.descriptors <= self.descriptors + 8
        });
        let now = Self::of(arena);
        let figures = format!(
            "{after}: {} KiB and {} descriptors at first, {} and {} then, {} and {} now",
            self.memory, self.descriptors, peak.memory, peak.descriptors, now.memory, now.descriptors
        );
        assert!(back, "{figures}");
        println!("{figures}");
    }
}

fn memory(process: &str, what: &str) -> u64 {
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix(what));
    memory.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// A Python program of alice's that may have as many files open as this host lets anybody, until its standard input ends.
struct Holding {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holding {
    fn start(arena: &Arena<'_>, code: &str, args: &[&str]) -> Self {
        let mut command = as_user(ALICE.uid, &arena.alice, "python3");
        let limits = "import resource\n\
                      most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
                      resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))\n";
        command.args(["-B", "-c", &format!("{limits}{code}")]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> usize {
        self.lines.next().unwrap().unwrap().parse().unwrap()
    }

    fn end(mut self) -> usize {
        drop(self.child.stdin.take());
        let last = self.line();
        assert!(self.child.wait().unwrap().success());
        last
    }
}

/// Opens as many files as it is let, and as many as it is told of what takes no descriptor of the server's.
const OPEN: &str = r"
import errno, os, sys
count = int(sys.argv[1])
open('results/plot', 'a').close()
found = [os.open('results/plot', os.O_PATH) for _ in range(count)]
held = []
for _ in range(count):
    try:
        held.append(os.open('results/plot', os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.ENFILE, error
print(len(held), flush=True)
sys.stdin.readline()
for file in held:
    os.fstat(file)
for file in held + found:
    os.close(file)
print(0)
";

#[test]
fn very_many_descriptors_leave_the_others_theirs() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    // Many processes: one may have too few here.
    let (processes, each) = (rounds(2, 12), rounds(2_000, 8_000));
    let before = Figures::of(&arena);
    let held = arena.case("descriptors", Due::Nothing, || {
        let mut holding: Vec<_> = (0..processes)
            .map(|_| Holding::start(&arena, OPEN, &[&each.to_string()]))
            .collect();
        let held: usize = holding.iter_mut().map(Holding::line).sum();
        arena.stands("while they are open");
        holding.into_iter().for_each(|holding| _ = holding.end());
        held
    });
    before.assert_back(&arena, "descriptors");
    // All can be had again.
    arena.case("a descriptor", Due::Nothing, || {
        python(ALICE.uid, &arena.alice, "open('results/plot')", &[])
    });
    tell("exhaustion", "descriptors held", processes * each + held);
    tell("exhaustion", "opens", 2 * processes * each);
}

/// Looks for names that are not there, each another; makes and removes some.
const LOOK: &str = r"
import os, sys
count, who = int(sys.argv[1]), sys.argv[2]
for number in range(count):
    if os.access('results/%s-%d' % (who, number), os.F_OK):
        raise SystemExit('there')
for number in range(count // 20):
    name = 'results/%s-%d' % (who, number)
    os.mkdir(name)
    os.rmdir(name)
for number in range(count // 200):
    name = 'schedules/%s-%d.json' % (who, number)
    open(name, 'w').close()
    os.unlink(name)
";

#[test]
fn very_many_lookups_cost_no_memory() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let count = rounds(4_000, 250_000);
    let before = Figures::of(&arena);
    arena.case("lookups", Due::Nothing, || {
        let looks = ["a", "b", "c", "d"].map(|who| {
            let mut look = as_user(ALICE.uid, &arena.alice, "python3");
            look.args(["-B", "-c", LOOK, &count.to_string(), who])
                .stdin(Stdio::null());
            look.spawn().unwrap()
        });
        arena.stands("while it is looked for them");
        for mut look in looks {
            assert!(look.wait().unwrap().success());
        }
    });
    before.assert_back(&arena, "lookups");
    tell("exhaustion", "lookups", 4 * count);
}

/// Everything at once, again and again.
const FLOOD: &str = r"
import os, sys, time
end, who, count = time.monotonic() + float(sys.argv[1]), sys.argv[2], 0
while time.monotonic() < end:
    count += 1
    name = 'schedules/%s-%d.json' % (who, count % 50)
    with open(name, 'w') as file:
        file.write('{%s}' % (' ' * 10000))
    with open(name) as file:
        file.read()
    os.listdir('schedules')
    os.rename(name, 'schedules/%s.json' % who)
    try:
        os.symlink('x', 'results/%s-%d' % (who, count))
    except PermissionError:
        pass
    with open('results/%s' % who, 'ab') as file:
        file.write(b'x' * (1 << 20))
    if count % 20 == 0:
        os.unlink('results/%s' % who)
print(count)
";

#[test]
fn floods_of_one_user_leave_the_others_responsive() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let seconds = rounds(2, 60);
    let before = Figures::of(&arena);
    // Each refusal is another, so each is a line.
    let from = arena.log.lines().len();
    let rounds = std::thread::scope(|scope| {
        let floods = scope.spawn(|| {
            let floods = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|who| {
                let mut flood = as_user(ALICE.uid, &arena.alice, "python3");
                flood.args(["-B", "-c", FLOOD, &seconds.to_string(), who]);
                flood
            });
            together(floods.into())
        });
        while !floods.is_finished() {
            arena.stands("during floods");
        }
        let counts = floods.join().unwrap();
        counts
            .iter()
            .map(|count| count.trim().parse::<usize>().unwrap())
            .sum::<usize>()
    });
    arena.stands("after floods");
    let all = || arena.log.like_from(from, "symlink * EPERM").len();
    assert!(
        eventually(GIVEN_BACK, || all() == rounds),
        "{} lines of {rounds}",
        all()
    );
    arena.log.verify();
    before.assert_back(&arena, "floods");
    tell("exhaustion", "rounds of a flood", rounds);
}

/// Connections to the control socket that are slow in every way, as many as the kernel gives.
const SLOW: &str = r#"
import socket, sys, time
path = sys.argv[1]

def connect():
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        try:
            client.connect(path)
            return client
        except (BlockingIOError, ConnectionRefusedError):
            client.close()
            time.sleep(0.001)

def ended(client):
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    client.close()

begun = time.monotonic()
silent, unfinished, slow, deaf = [connect() for _ in range(4)]
unfinished.send(b'{"status":')
# Asks again and again, and takes no answer.
deaf.setblocking(False)
try:
    while True:
        deaf.send(b'{"status":{}}\n' * 100)
except BlockingIOError:
    pass
line = b'{"login":{"key":"' + b'x' * 10000
try:
    for byte in line:
        slow.send(bytes([byte]))
        time.sleep(0.05)
except ConnectionError:
    pass
took = time.monotonic() - begun
assert 5 < took < 25, took
for client in (silent, unfinished, slow):
    ended(client)
deaf.close()
"#;

/// Many connections at once: a few are served, the others are told so.
const MANY: &str = r#"
import socket, sys
path, many = sys.argv[1], int(sys.argv[2])
held, busy = [], 0
for number in range(many):
    # Without a timeout: with one, it does not wait for its turn to be accepted.
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    held.append(client)
print(len(held), flush=True)
sys.stdin.readline()
for client in held:
    client.setblocking(False)
    try:
        busy += b'"busy"' in client.recv(65536)
    except OSError:
        pass
print(busy)
"#;

/// Lines that are far too long.
const LONG: &str = r#"
import socket, sys
path, size = sys.argv[1], int(sys.argv[2])
for begin, end in ((b'', b''), (b'{"login":{"key":"', b'"}}\n'), (b'[' * 30000, b'\n'), (b'{"status":{}}\n' * 3, b'\n')):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(path)
    try:
        client.sendall(begin)
        for _ in range(size >> 16):
            client.sendall(b'x' * 65536)
        client.sendall(end)
        raise SystemExit('all of it was taken')
    except ConnectionError:
        pass
    try:
        answer = client.recv(65536)
    except ConnectionError:
        answer = b''
    assert b'x' * 100 not in answer, answer
print('refused')
"#;

#[test]
fn slow_clients_of_the_control_socket_are_ended() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let before = Figures::of(&arena);
    let socket = arena.daemon.socket.to_str().unwrap().to_owned();
    arena.case("slow clients", Due::Nothing, || {
        let mut slow = as_user(ALICE.uid, volume.base(), "python3");
        slow.args(["-B", "-c", SLOW, &socket]).stdin(Stdio::null());
        let mut slow = slow.spawn().unwrap();
        arena.stands("while they are slow");
        arena.daemon.asked(BOB.uid, &["status"], "");
        // She may still log out and in: eight connections are hers.
        arena.daemon.asked(ALICE.uid, &["status"], "");
        assert!(slow.wait().unwrap().success());
    });
    before.assert_back(&arena, "slow clients");
    tell("exhaustion", "slow control connections", 4);
}

#[test]
fn very_many_control_connections_leave_the_others_theirs() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let count = rounds(1_000, 10_000);
    let before = Figures::of(&arena);
    let socket = arena.daemon.socket.to_str().unwrap().to_owned();
    arena.case("connections", Due::Nothing, || {
        let mut many = Holding::start(&arena, MANY, &[&socket, &count.to_string()]);
        assert_eq!(many.line(), count);
        arena.daemon.asked(BOB.uid, &["status"], "");
        arena.stands("while they are connected");
        assert!(many.end() >= count - 40);
    });
    before.assert_back(&arena, "connections");
    tell("exhaustion", "control connections", count);
}

#[test]
fn very_long_lines_are_not_kept() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let before = Figures::of(&arena);
    let size = 64 << 20;
    arena.case("long lines", Due::Nothing, || {
        let begun = Instant::now();
        let socket = arena.daemon.socket.to_str().unwrap();
        let said = python(ALICE.uid, volume.base(), LONG, &[socket, &size.to_string()]);
        assert_eq!(said, "refused\n");
        assert!(begun.elapsed() < GIVEN_BACK);
    });
    before.assert_back(&arena, "long lines");
    tell("exhaustion", "MiB in a control line", size >> 20);
}
