//! Shortage: what one user makes scarce, others still have.
//!
//! Of the audit log: nothing can be opened or changed that it has no room for, so whoever fills it would stop everybody. Of the
//! daemon's own log: a journal drops what comes too fast, whoever it is about. And of its time: what it is asked beside the mounts.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::arena::{rounds, tell};
use crate::common::audit::{Log, SOON};
use crate::common::daemon::{Daemon, reachable_program};
use crate::common::{
    ALICE, BOB, Layout, OtherMount, SERVICE_UID, Tenant, Volume, as_user, errno, eventually, python, run,
    shell, success,
};

/// Alice, who writes as much audit log as she can: everything that she does is another thing, in the deepest of directories,
/// with names that take twice their length. Says how often she has done something, and what refused it in the end.
const FLOOD: &str = r#"
import errno, os, sys, time
seconds, who = float(sys.argv[1]), sys.argv[2]
os.chdir('results')
for depth in range(8):
    name = '"' * 250
    os.makedirs(name, exist_ok=True)
    os.chdir(name)
end, done, met = time.monotonic() + seconds, 0, 'ok'
while time.monotonic() < end:
    try:
        os.mkdir('%s-%d' % (who, done))
    except OSError as error:
        met = errno.errorcode[error.errno]
        break
    done += 1
print(done, met)
"#;

/// What the other user notices: reads, saves and lists for a while. Prints the 99th percentiles in microseconds.
const WORK: &str = r"
import os, sys, time
end, times = time.monotonic() + float(sys.argv[1]), {'read': [], 'save': []}
def timed(what, work):
    begun = time.monotonic()
    work()
    times[what].append(time.monotonic() - begun)
def read():
    with open('schedules/bob.json') as file:
        assert file.read()
def save():
    with open('schedules/new.json', 'w') as file:
        file.write('{}')
save()
os.rename('schedules/new.json', 'schedules/bob.json')
while time.monotonic() < end:
    for _ in range(10):
        timed('read', read)
    timed('save', save)
    time.sleep(0.002)
print(*(int(1e6 * sorted(of)[len(of) * 99 // 100]) for of in times.values()))
";

/// What a session may wait in the end, beside what the machine makes everybody wait that runs other tests.
const NOISE: u64 = 30_000;

fn work(place: &Path, seconds: u64) -> [u64; 2] {
    let said = python(BOB.uid, place, WORK, &[&seconds.to_string()]);
    let mut times = said.split_whitespace().map(|time| time.parse().unwrap());
    [times.next().unwrap(), times.next().unwrap()]
}

/// A flood of alice's that goes on beside.
fn flood(place: &Path, seconds: u64, who: &str) -> std::process::Child {
    let mut command = as_user(ALICE.uid, place, "python3");
    command.args(["-B", "-c", FLOOD, &seconds.to_string(), who]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// How often something was done, and what it met at last.
fn flooded(child: std::process::Child) -> (usize, String) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (done, met) = said.trim().split_once(' ').unwrap_or(("0", "gone"));
    (done.parse().unwrap(), met.to_owned())
}

fn size(log: &Log) -> u64 {
    fs::metadata(&log.0).unwrap().len()
}

fn own_events(volume: &Volume, daemon: &Daemon<'_>, uid: u32) -> String {
    let program = reachable_program(volume);
    let mut command = as_user(uid, volume.base(), program.to_str().unwrap());
    command.args(["audit", "mine", "--socket"]).arg(&daemon.socket);
    String::from_utf8(run(command, "").stdout).unwrap()
}

#[test]
fn who_floods_the_log_waits_and_nobody_else_does() {
    const RATE: u64 = 16 << 10;
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let options = ["--audit-log", log.path(), "--audit-user-rate", "16KiB"];
    let mut command = Daemon::command(&volume, &options);
    command.env("TENANTFS_LOG", "info");
    let daemon = Daemon::start_command(&volume, command);
    let [alice, bob] = [&ALICE, &BOB].map(|tenant| daemon.login(tenant));
    let seconds = rounds(4, 30) as u64;
    // Until she has used up what she may write at once.
    let begun = Instant::now();
    let (mut at, mut slow) = (size(&log), 0);
    let mut first = ["a", "b"].map(|who| flood(&alice, 3600, who));
    while slow < 2 && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_secs(1));
        let now = size(&log);
        slow = if now - at < 3 * RATE { slow + 1 } else { 0 };
        at = now;
    }
    assert_eq!(slow, 2, "she never waits");
    let (burst, took) = (size(&log), begun.elapsed());
    for child in &mut first {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    // Three tries: other tests take the machine's time, too.
    let mut last = String::new();
    let stands = (0..3).any(|round| {
        let quiet = work(&bob, seconds);
        let from = (size(&log), log.like("mkdir * ok").len());
        let children = ["c", "d"].map(|who| flood(&alice, seconds, &format!("{who}{round}")));
        let busy = work(&bob, seconds);
        let done: Vec<_> = children.into_iter().map(flooded).collect();
        let grown = size(&log) - from.0;
        assert!(
            done.iter().all(|(_, met)| met == "ok"),
            "she waits, and no longer than that: {done:?}"
        );
        let count: usize = done.iter().map(|(done, _)| done).sum();
        assert!(count > 0);
        let there = eventually(SOON, || log.like("mkdir * ok").len() == from.1 + count);
        assert!(
            there,
            "{count} and {}: each has its line",
            log.like("mkdir * ok").len() - from.1
        );
        // Bob's lines are some, too.
        assert!(
            grown < 2 * seconds * RATE + (256 << 10),
            "{grown} bytes in {seconds} s"
        );
        last = format!("bob's p99 of reads and saves, µs: {quiet:?} quiet, {busy:?} in a flood");
        eprintln!("{last}; {grown} bytes of log; {burst} in {took:?} before");
        (0..2).all(|of| busy[of] <= 3 * quiet[of] + NOISE)
    });
    assert!(stands, "{last}");
    let longest = log.text().lines().map(str::len).max().unwrap();
    assert!(longest < 3 << 10, "{longest}");
    let events = own_events(&volume, &daemon, BOB.uid);
    assert!(events.contains("schedules/bob.json"), "{events}");

    // Who waits, can be ended.
    let children = ["e", "f"].map(|who| flood(&alice, 60, who));
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    daemon.asked(0, &["revoke", "--user-id", ALICE.user], "");
    let took = begun.elapsed();
    eprintln!("revoked in {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    for child in children {
        let (_, met) = flooded(child);
        assert!(["ENOTCONN", "ECONNABORTED", "gone"].contains(&&*met), "{met}");
    }
    drop(daemon);
    log.verify();
    tell(
        "shortage",
        "KiB of audit log until a flood waits",
        usize::try_from(burst >> 10).unwrap(),
    );
}

#[test]
fn what_is_done_again_and_again_is_one_line_and_a_count() {
    const OPEN: &str = "
import os, sys
os.chdir('results')
for depth in range(8):
    os.mkdir('\"' * 250)
    os.chdir('\"' * 250)
open('file', 'w').close()
for _ in range(int(sys.argv[1])):
    os.close(os.open('file', os.O_RDONLY))
    os.utime('file', (1, 1))
";
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let daemon = Daemon::start(&volume, &["--audit-log", log.path()]);
    let alice = daemon.login(&ALICE);
    let count = rounds(3_000, 100_000);
    let begun = Instant::now();
    python(ALICE.uid, &alice, OPEN, &[&count.to_string()]);
    let windows = 1 + begun.elapsed().as_secs() / 10;
    daemon.asked(ALICE.uid, &["logout"], "");
    drop(daemon);
    assert!(size(&log) < (64 << 10) * windows, "{} bytes", size(&log));
    for (op, how) in [("open", "read"), ("setattr", "times")] {
        let lines = log.like(&format!("{op} * ok"));
        let events = lines
            .iter()
            .filter(|line| line["how"] == how)
            .map(|line| line["count"].as_u64().unwrap_or(1));
        assert_eq!(events.sum::<u64>(), count as u64, "{op}");
    }
    log.verify();
    tell("shortage", "operations that are all alike", 2 * count);
}

/// Alice, who is refused one thing after another, each under a name of its own.
const REFUSED: &str = r#"
import os, sys, time
end, done = time.monotonic() + float(sys.argv[1]), 0
os.chdir('results')
for depth in range(4):
    os.makedirs('"' * 250, exist_ok=True)
    os.chdir('"' * 250)
while time.monotonic() < end:
    try:
        with open('%d.json' % (done % 1000), 'w') as file:
            file.write('{"x": ')
    except OSError:
        pass
    with open('plot', 'w') as file:
        file.write('no record')
    try:
        os.rename('plot', 'z.json')
    except OSError:
        pass
    done += 2
print(done)
"#;

#[test]
fn who_is_refused_without_end_fills_no_log_and_others_lines_are_in_it() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mut command = Daemon::command(&volume, &[]);
    command.env("TENANTFS_LOG", "warn");
    let daemon = Daemon::start_command(&volume, command);
    let [alice, bob] = [&ALICE, &BOB].map(|tenant| daemon.login(tenant));
    let seconds = rounds(5, 60) as u64;
    let mut flood = as_user(ALICE.uid, &alice, "python3");
    flood.args(["-B", "-c", REFUSED, &seconds.to_string()]);
    let flood = flood.stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    shell(
        BOB.uid,
        &bob,
        "(echo '{\"of-bob\":' > schedules/bob.json) 2>/dev/null || true",
    );
    assert!(
        eventually(SOON, || daemon
            .log()
            .contains("\"schedules/bob.json\" not committed")),
        "bob's first line is there whatever alice does"
    );
    let output = flood.wait_with_output().unwrap();
    let done: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    // What is counted is told when ten seconds are over, without anybody doing anything.
    let told = || daemon.log().contains(" more like this of user ");
    assert!(eventually(Duration::from_secs(12), told), "{}", daemon.log());
    let text = daemon.log();
    eprintln!("{} bytes of log in {seconds} s of {done} refusals", text.len());
    assert!(done > 200, "{done}");
    let most = (128 << 10) + usize::try_from(seconds).unwrap() * (4 << 10);
    assert!(text.len() < most, "{} bytes in {seconds} s", text.len());
    for first in ["not committed, kept as a draft", "denied: "] {
        assert!(text.contains(first), "the first of each kind: {first}");
    }
    // All of them are there or counted.
    let user = format!(
        "session of {}",
        tenantfs::identity::UserId::new(ALICE.user).unwrap().hash()
    );
    daemon.asked(ALICE.uid, &["logout"], "");
    let text = daemon.log();
    let lines = text
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains(&user));
    let counted: usize = lines
        .map(|line| match line.split_once(" more like this of user ") {
            Some((count, _)) => count.rsplit(' ').next().unwrap().parse().unwrap(),
            None => 1,
        })
        .sum();
    assert!(counted >= done, "{counted} of {done}");
    tell("shortage", "refusals in a log that has a rate", done);
}

/// The processor's time that a process has taken, in seconds.
fn busy(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(") ").unwrap().1;
    let ticks: u64 = after
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    ticks as f64 / 100.0
}

/// Asks for the drafts of whoever this is, and hangs up at once.
const ASK_AND_HANG_UP: &str = r#"
import socket, sys, time
for _ in range(int(sys.argv[2])):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    connection.sendall(b'{"drafts":{}}\n')
    time.sleep(0.05)
    connection.close()
"#;

#[test]
fn who_has_many_large_drafts_keeps_nobody_waiting_and_no_processor_busy() {
    const WRITE: &str = "
import sys
for number in range(int(sys.argv[1])):
    try:
        with open('schedules/%d.json' % number, 'w') as file:
            file.write('{\"x\": [' + '1,' * (7 << 20))
    except OSError:
        pass
";
    let count = rounds(8, 40);
    let volume = Volume::new(Layout::ResourceFirst);
    let daemon = Daemon::start(&volume, &[]);
    let [alice, bob] = [&ALICE, &BOB].map(|tenant| daemon.login(tenant));
    shell(
        BOB.uid,
        &bob,
        "(echo '{\"of-bob\":' > schedules/bob.json) 2>/dev/null || true",
    );
    python(ALICE.uid, &alice, WRITE, &[&count.to_string()]);
    // The session remembers nothing of them.
    daemon.asked(ALICE.uid, &["logout"], "");
    daemon.login(&ALICE);

    // She asks and hangs up: nothing goes on for her.
    let socket = daemon.socket.to_str().unwrap();
    python(ALICE.uid, volume.base(), ASK_AND_HANG_UP, &[socket, "8"]);
    std::thread::sleep(Duration::from_secs(2));
    let before = busy(daemon.pid().as_raw_nonzero().get());
    std::thread::sleep(Duration::from_secs(2));
    let took = busy(daemon.pid().as_raw_nonzero().get()) - before;
    assert!(took < 0.3, "{took} s of processor in 2 s for nobody");

    // Root sees everybody in the time of one, and where not all was looked at.
    let begun = Instant::now();
    let status = daemon.json(0, &["status"], "");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    let of = |tenant: &Tenant| {
        let sessions = status["sessions"].as_array().unwrap();
        sessions
            .iter()
            .find(|session| session["uid"] == tenant.uid)
            .unwrap()
            .clone()
    };
    assert_eq!(of(&BOB)["drafts"][0]["path"], "schedules/bob.json");
    assert_eq!(of(&BOB)["more_drafts"], false);
    let shown = of(&ALICE)["drafts"].as_array().unwrap().len();
    assert_eq!(of(&ALICE)["more_drafts"], shown < count, "{shown} shown");

    // What was found out is known from then on, and who asks all the time is told to wait.
    let all = || {
        daemon.json(ALICE.uid, &["drafts"], "")["drafts"]["drafts"]
            .as_array()
            .map(Vec::len)
    };
    assert!(eventually(Duration::from_secs(90), || all() == Some(count)));
    std::thread::sleep(Duration::from_secs(10));
    let (begun, before) = (Instant::now(), busy(daemon.pid().as_raw_nonzero().get()));
    let answers: Vec<_> = (0..30)
        .map(|_| daemon.ask(ALICE.uid, &["drafts", "--json"], ""))
        .collect();
    let refused = answers
        .iter()
        .filter(|answer| String::from_utf8_lossy(&answer.stdout).contains("\"busy\""))
        .count();
    let (elapsed, took) = (
        begun.elapsed(),
        busy(daemon.pid().as_raw_nonzero().get()) - before,
    );
    assert!(refused >= 10, "{refused} of 30 in {elapsed:?}");
    assert!(took < 2.0, "{took} s of processor for what is known");
    assert_eq!(
        daemon.json(0, &["drafts", "--uid", &BOB.uid.to_string()], "")["drafts"]["more"],
        false
    );
    tell(
        "shortage",
        "bytes of drafts that are asked for",
        (count * 15) << 20,
    );
}

/// A small file system for a log.
fn small_disk(log: &Log, size: &str) -> OtherMount {
    let place = log.0.parent().unwrap().to_owned();
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o"]);
    command.arg(format!(
        "size={size},mode=755,uid={SERVICE_UID},gid={SERVICE_UID}"
    ));
    command.arg("other").arg(&place);
    success(command, "");
    OtherMount { place }
}

#[test]
fn who_fills_the_logs_disk_is_stopped_and_nobody_else_is() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let disk = small_disk(&log, "24m");
    let options = ["--audit-log", log.path(), "--audit-user-rate", "1GiB"];
    let mut command = Daemon::command(&volume, &options);
    command.env("TENANTFS_LOG", "info");
    let daemon = Daemon::start_command(&volume, command);
    let [alice, bob] = [&ALICE, &BOB].map(|tenant| daemon.login(tenant));
    // All but what is set aside is somebody else's by now.
    let filler = disk.place.join("filler");
    fs::write(&filler, vec![0; 18 << 20]).unwrap();
    let (done, met) = flooded(flood(&alice, 300, "a"));
    assert_eq!(met, "EIO", "after {done}");
    assert!(done > 100);
    let (attempts, met) = flooded(flood(&alice, 1, "b"));
    assert_eq!((attempts, &*met), (0, "EIO"), "she goes on being refused");
    assert_eq!(
        errno(ALICE.uid, &alice, "os.listdir('results')"),
        "ok",
        "what is owed no line goes on"
    );

    // Bob reads, lists, saves, and logs out and in, again and again.
    let times = work(&bob, rounds(3, 30) as u64);
    assert_eq!(
        shell(BOB.uid, &bob, "cat schedules/bob.json; ls schedules"),
        "{}bob.json\nnew.json\n"
    );
    daemon.asked(BOB.uid, &["logout"], "");
    let bob = daemon.login(&BOB);
    shell(BOB.uid, &bob, "mkdir schedules/of-bob");
    log.wait("mkdir schedules/of-bob ok");
    let events = own_events(&volume, &daemon, BOB.uid);
    assert!(events.contains("of-bob"), "{events}");
    assert!(
        daemon.log().contains("file system is nearly full: "),
        "{}",
        daemon.log()
    );
    eprintln!("bob's p99 of reads and saves on a full disk, µs: {times:?}");

    fs::remove_file(filler).unwrap();
    let again = || errno(ALICE.uid, &alice, "os.makedirs('results/again', exist_ok=True)") == "ok";
    assert!(eventually(SOON, again), "there is room again");
    drop(daemon);
    assert_eq!(log.like("mkdir results/of-bob ok").len(), 0);
    log.verify();
    tell("shortage", "lines until the log's disk is another's", done);
}
