//! Shortage: what one user makes scarce, others still have.
//!
//! Of the audit log: nothing can be opened or changed that it has no room for, so whoever fills it would stop everybody.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::arena::{rounds, tell};
use crate::common::audit::{Log, SOON};
use crate::common::daemon::{Daemon, reachable_program};
use crate::common::{
    ALICE, BOB, Layout, OtherMount, SERVICE_UID, Volume, as_user, errno, eventually, python, run, shell,
    success,
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
