//! What others change on the volume shows up in a mount at once, and what nobody changes is not asked for again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{ALICE, Conversation, LAYOUTS, Layout, Mount, OtherMount, SERVICE_UID, Volume, success};

/// Far from what a busy machine makes of 50 ms, and from the 10 s for which the kernel believes what it is not told.
const SOON: Duration = Duration::from_secs(1);

/// Answers each line, a Python expression, with what it is in the mount.
const ANSWER: &str = "
import os, sys
def size(path): return os.stat(path).st_size
def names(path): return sorted(os.listdir(path))
def text(path):
    with open(path) as file: return file.read()
def ino(path): return os.stat(path).st_ino
def mtime(path): return os.stat(path).st_mtime_ns
held = os.open('results/held', os.O_RDONLY)
print('ready', flush=True)
for line in sys.stdin:
    try: print(repr(eval(line)), flush=True)
    except OSError as error: print(error.errno, flush=True)
";

/// A program in the mount that has looked at everything, so that the kernel has it all.
struct Observer(Conversation);

impl Observer {
    fn new(mount: &Mount<'_>) -> Self {
        let mut conversation = Conversation::start(mount, ANSWER);
        assert_eq!(conversation.next(), "ready");
        Self(conversation)
    }

    fn says(&mut self, expression: &str) -> String {
        self.0.say(expression)
    }

    /// How long it takes until the expression is so.
    fn until(&mut self, expression: &str, expected: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let said = self.says(expression);
            if said == expected {
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < SOON,
                "{expression} is still {said}, not {expected}"
            );
        }
    }
}

fn volume(layout: Layout) -> Volume {
    let volume = Volume::new(layout);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"n": 0, "user_id": "alice"}"#);
    volume.plant(&ALICE, "schedules", "y.json", r#"{"n": 0, "user_id": "alice"}"#);
    volume.plant(&ALICE, "results", "held", "held");
    volume.plant(&ALICE, "results", "deep/down/plot", "plot");
    volume
}

#[test]
fn each_change_by_others_shows_up_at_once() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let mount = volume.mount(&ALICE);
        let mut observer = Observer::new(&mount);
        let path = |name| volume.path(&ALICE, "schedules", name);
        let mut waits = Vec::new();
        assert_eq!(observer.says("names('schedules')"), "['x.json', 'y.json']");
        for round in 1..=20 {
            // Replaced, as the service does it.
            let view = format!(r#"{{"r": {round}, "user_id": "alice"}}"#);
            volume.plant(&ALICE, "schedules", "new", &view);
            fs::rename(path("new"), path("x.json")).unwrap();
            waits.push(observer.until("text('schedules/x.json')", &format!("'{view}'")));
            waits.push(observer.until("size('schedules/x.json')", &view.len().to_string()));
            // Rewritten in place.
            let wide = " ".repeat(round);
            fs::write(
                path("y.json"),
                format!(r#"{{"w": "{wide}", "user_id": "alice"}}"#),
            )
            .unwrap();
            let size = r#"{"w": "", "user_id": "alice"}"#.len() + round;
            waits.push(observer.until("size('schedules/y.json')", &size.to_string()));
            // Removed, and back again under another name.
            fs::rename(path("x.json"), path("z.json")).unwrap();
            waits.push(observer.until("size('schedules/x.json')", "2"));
            waits.push(observer.until("names('schedules')", "['y.json', 'z.json']"));
            waits.push(observer.until("text('schedules/z.json')", &format!("'{view}'")));
            // Not the user's any more, and the user's again: the name is the same all the time.
            fs::write(path("z.json"), r#"{"user_id": "bob"}"#).unwrap();
            waits.push(observer.until("names('schedules')", "['y.json']"));
            waits.push(observer.until("size('schedules/z.json')", "2"));
            fs::write(path("z.json"), r#"{"user_id": "alice"}"#).unwrap();
            waits.push(observer.until("names('schedules')", "['y.json', 'z.json']"));
            fs::rename(path("z.json"), path("x.json")).unwrap();
            waits.push(observer.until("names('schedules')", "['x.json', 'y.json']"));
        }
        waits.sort();
        println!(
            "{layout}: median {:?}, longest {:?}",
            waits[waits.len() / 2],
            waits[waits.len() - 1]
        );
    }
}

#[test]
fn files_that_are_no_records_and_directories_show_changes_at_once() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mut observer = Observer::new(&mount);
    let results = volume.directory(&ALICE, "results");
    assert_eq!(observer.says("os.pread(held, 9, 0)"), "b'held'");
    fs::write(results.join("held"), "grown").unwrap();
    observer.until("os.pread(held, 9, 0)", "b'grown'");
    observer.until("size('results/held')", "5");
    assert_eq!(observer.says("text('results/deep/down/plot')"), "'plot'");
    fs::rename(results.join("deep/down"), results.join("deep/up")).unwrap();
    observer.until("size('results/deep/down/plot')", "2");
    observer.until("text('results/deep/up/plot')", "'plot'");
    assert_eq!(observer.says("names('results/deep/up')"), "['plot']");
    let before = observer.says("mtime('results/deep/up')");
    fs::remove_file(results.join("deep/up/plot")).unwrap();
    observer.until("names('results/deep/up')", "[]");
    assert_ne!(observer.says("mtime('results/deep/up')"), before);
    // A directory in whose place another is: who stands in the old one stays there.
    observer.says("os.chdir('results/deep/up')");
    fs::rename(results.join("deep/up"), results.join("old")).unwrap();
    fs::create_dir(results.join("deep/up")).unwrap();
    fs::write(results.join("deep/up/plot"), "another").unwrap();
    observer.until(
        &format!("text('{}/results/deep/up/plot')", mount.path.display()),
        "'another'",
    );
    assert_eq!(observer.says("names('.')"), "[]");
}

#[test]
fn what_was_replaced_while_it_was_open_for_writing_shows_when_it_is_closed() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mut observer = Observer::new(&mount);
    let before = observer.says("size('schedules/x.json')");
    observer.says("globals().update(open_to_write=os.open('schedules/x.json', os.O_WRONLY))");
    let path = |name| volume.path(&ALICE, "schedules", name);
    volume.plant(&ALICE, "schedules", "new", r#"{"n": 11, "user_id": "alice"}"#);
    fs::rename(path("new"), path("x.json")).unwrap();
    sleep(Duration::from_millis(100));
    observer.says("os.close(open_to_write)");
    observer.until("size('schedules/x.json')", "29");
    assert_ne!(before, "29");
}

#[test]
fn a_change_of_the_same_users_other_mount_shows_up_at_once() {
    let volume = volume(Layout::UserFirst);
    let mount = volume.mount(&ALICE);
    let mut observer = Observer::new(&mount);
    assert_eq!(
        observer.says("text('schedules/x.json')"),
        "'{\"n\": 0, \"user_id\": \"alice\"}'"
    );
    // As another process of the server's, which knows nothing of the first.
    let place = volume.base().join("second");
    fs::create_dir(&place).unwrap();
    let mut command = volume.mount_command(&place, &ALICE, &[]);
    command.stdout(std::process::Stdio::piped());
    let mut second = command.spawn().unwrap();
    assert!(common::eventually(SOON * 10, || common::is_mounted(&place)));
    let shell = |script: &str| common::shell(ALICE.uid, &place, script);
    shell("echo '{\"from\": 2}' > schedules/x.json");
    observer.until("text('schedules/x.json')", "'{\"from\": 2}\\n'");
    // A draft, and the record that becomes of it.
    shell("echo '{\"from\":' > schedules/y.json || true");
    observer.until("text('schedules/y.json')", "'{\"from\":\\n'");
    shell("echo '3}' >> schedules/y.json");
    observer.until("text('schedules/y.json')", "'{\"from\":\\n3}\\n'");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&second),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    second.wait().unwrap();
    assert!(!common::is_mounted(&place));
}

/// How often the server was asked for an operation so far, as its metrics have it.
fn asked(metrics: &Path, op: &str) -> u64 {
    let mut stream = UnixStream::connect(metrics).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let series = format!("tenantfs_operations_total{{op=\"{op}\",");
    let lines = answer.lines().filter(|line| line.starts_with(&series));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn what_nobody_changes_is_not_asked_for_again() {
    let volume = volume(Layout::ResourceFirst);
    let metrics = volume.base().join("metrics.sock");
    let mount = volume.mount_with(&ALICE, &["--metrics-listen", metrics.to_str().unwrap()]);
    mount.shell("ls -lU schedules results/deep/down; stat results/held");
    // The first look at a directory's own attributes came before it was watched.
    mount.shell("ls -lU schedules results/deep/down; stat results/held");
    let ops = ["lookup", "getattr", "readdir", "opendir"];
    let before = ops.map(|op| asked(&metrics, op));
    // Longer than a second, for which the kernel would believe it anyway.
    sleep(Duration::from_millis(1200));
    mount.shell("ls -lU schedules results/deep/down; stat schedules/x.json results/held");
    let after = ops.map(|op| asked(&metrics, op));
    let [lookups, getattrs, readdirs, opendirs] = before;
    assert_eq!(after, [lookups, getattrs, readdirs, opendirs + 2], "{ops:?}");
    // And what is changed, is.
    fs::write(
        volume.path(&ALICE, "schedules", "x.json"),
        r#"{"user_id": "alice"}"#,
    )
    .unwrap();
    sleep(SOON);
    assert_eq!(
        mount
            .shell("stat -c %s schedules/x.json schedules/y.json")
            .lines()
            .next(),
        Some("20")
    );
    assert_eq!(asked(&metrics, "lookup"), lookups + 1);
}

#[test]
fn where_nobody_tells_of_changes_they_show_up_within_a_second() {
    let volume = volume(Layout::ResourceFirst);
    // What lies beneath another file system changes without a word from it.
    let below = volume.base().join("below");
    fs::rename(volume.root(), &below).unwrap();
    fs::create_dir(volume.root()).unwrap();
    let mut bindfs = Command::new("bindfs");
    bindfs.arg(&below).arg(volume.root());
    success(bindfs, "");
    let _bindfs = OtherMount { place: volume.root() };
    let mount = volume.mount(&ALICE);
    let mut observer = Observer::new(&mount);
    assert_eq!(
        observer.says("text('schedules/x.json')"),
        "'{\"n\": 0, \"user_id\": \"alice\"}'"
    );
    let path = |name: &str| below.join("schedules").join(ALICE.hash).join(name);
    for round in 1..=3 {
        let wide = " ".repeat(round);
        replace(
            &path("x.json"),
            &format!(r#"{{"w": "{wide}", "user_id": "alice"}}"#),
        );
        let changed = Instant::now();
        let size = r#"{"w": "", "user_id": "alice"}"#.len() + round;
        while observer.says("size('schedules/x.json')") != size.to_string() {
            // bindfs' own caches are a second old at most, and ours another.
            assert!(changed.elapsed() < SOON * 3, "still not {size} bytes long");
            sleep(Duration::from_millis(10));
        }
    }
}

fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).unwrap();
    std::os::unix::fs::chown(&temporary, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    fs::rename(temporary, path).unwrap();
}
