//! How soon, and how completely, a session goes dark: when its user logs out, when root revokes it, when the auth service
//! says no, and when the auth service says nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::auth::AuthService;
use common::daemon::Daemon;
use common::hanging::Hanging;
use common::{ALICE, BOB, Conversation, Layout, Tenant, Volume, as_user, eventually, shell};
use sha2::{Digest as _, Sha256};

/// What a program can hold of a view, each tried every two milliseconds until it fails; then it says how, and when.
const WAYS: [(&str, &str); 7] = [
    (
        "cached read",
        "fd = os.open('schedules/x.json', os.O_RDONLY)\ndef attempt(): assert os.pread(fd, 100, 0)",
    ),
    (
        "new open",
        "def attempt(): os.close(os.open('schedules/x.json', os.O_RDONLY))",
    ),
    (
        "held descriptor",
        "fd = os.open('results/plot.svg', os.O_RDWR)\ndef attempt(): os.pwrite(fd, b'late', 0)",
    ),
    (
        "held directory",
        "fd = os.open('schedules', os.O_RDONLY)\ndef attempt(): os.close(os.open('x.json', os.O_RDONLY, dir_fd=fd)); os.listdir(fd)",
    ),
    (
        "map",
        "fd = os.open('results/map.bin', os.O_RDWR)\nmap = mmap.mmap(fd, 4096)\ndef attempt(): map[0] = 76; assert map[1] == 109",
    ),
    (
        "working directory",
        "os.chdir('results')\ndef attempt(): os.stat('.'); os.listdir('.')",
    ),
    (
        "written record",
        "fd = os.open('schedules/y.json', os.O_RDWR)\ndef attempt(): os.pwrite(fd, b'{\"late\":1}', 0); os.fsync(fd)",
    ),
];

/// A process of its own for each: a map that is gone is SIGBUS.
const OBSERVE: &str = "import errno, mmap, os, sys, time\n\
    exec(sys.argv[1])\n\
    attempt(); print('ready', flush=True)\n\
    def observe():\n\
    \x20   while True:\n\
    \x20       try: attempt()\n\
    \x20       except OSError as error: return error.errno\n\
    \x20       time.sleep(0.002)\n\
    child = os.fork()\n\
    if child == 0: os._exit(observe())\n\
    _, status = os.waitpid(child, 0)\n\
    dark = time.time()\n\
    how = 'SIGBUS' if os.WIFSIGNALED(status) and os.WTERMSIG(status) == 7 else errno.errorcode.get(os.waitstatus_to_exitcode(status), status)\n\
    print(how, dark, flush=True)";

/// Programs that hold what they can of one view.
struct Observers {
    running: Vec<(&'static str, Child)>,
}

impl Observers {
    fn start(tenant: &Tenant, place: &Path) -> Self {
        let prepare = "echo '{\"a\":1}' > schedules/x.json; echo '{\"b\":1}' > schedules/y.json
            echo early > results/plot.svg; (printf 'Kmap'; head -c 4092 /dev/zero) > results/map.bin";
        shell(tenant.uid, place, prepare);
        let running = WAYS.map(|(way, code)| {
            let mut command = as_user(tenant.uid, place, "python3");
            command.args(["-B", "-c", OBSERVE, code]).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            (way, child)
        });
        Self {
            running: running.into(),
        }
    }

    /// How each way ended, and after how much time.
    fn ended(self, since: SystemTime) -> Vec<(&'static str, String, Duration)> {
        self.running
            .into_iter()
            .map(|(way, child)| {
                let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
                let (how, when) = output.trim().split_once(' ').unwrap();
                let dark = UNIX_EPOCH + Duration::from_secs_f64(when.parse().unwrap());
                (
                    way,
                    how.to_owned(),
                    dark.duration_since(since).unwrap_or_default(),
                )
            })
            .collect()
    }
}

fn assert_dark(ended: &[(&str, String, Duration)], errnos: &[&str], deadline: Duration) {
    for (way, how, after) in ended {
        eprintln!("{way:18} {how:9} after {:.0} ms", after.as_secs_f64() * 1e3);
        let expected = if *way == "map" { &["SIGBUS"][..] } else { errnos };
        assert!(expected.contains(&how.as_str()), "{way}: {how}");
        assert!(*after < deadline, "{way}: dark after {after:?}");
    }
    let mut times: Vec<_> = ended.iter().map(|(_, _, after)| *after).collect();
    times.sort_unstable();
    eprintln!(
        "dark: p50 {:?}, max {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

/// Nothing of what is written later gets to the volume.
fn frozen(volume: &Volume, work: impl FnOnce()) {
    let content = || {
        let files = volume.files(&ALICE);
        files
            .iter()
            .map(|file| std::fs::read(volume.root().join(file)).unwrap())
            .collect::<Vec<_>>()
    };
    let before = content();
    work();
    assert_eq!(content(), before);
}

#[test]
fn a_session_that_ends_is_dark_at_once_in_every_way() {
    for how in ["logout", "revoke"] {
        let volume = Volume::new(Layout::default());
        let daemon = Daemon::start(&volume, &[]);
        let place = daemon.login(&ALICE);
        let bobs = daemon.login(&BOB);
        let observers = Observers::start(&ALICE, &place);
        let mut held = Conversation::start_in(
            ALICE.uid,
            &place,
            "import os\nfd = os.open('results/plot.svg', os.O_RDWR)\nprint(1, flush=True); input()\n\
             for act in (lambda: os.pwrite(fd, b'late', 0), lambda: os.fsync(fd), lambda: os.open('late', os.O_CREAT), lambda: os.fstat(fd)):\n\
             \x20   try: act(); print('still')\n    except OSError as error: print(error.errno, end=' ')\n\
             print(flush=True); input()",
        );
        held.next();
        let begun = SystemTime::now();
        match how {
            "logout" => daemon.asked(ALICE.uid, &["logout"], ""),
            _ => daemon.asked(0, &["revoke", "--user-id", "alice"], ""),
        };
        assert_dark(
            &observers.ended(begun),
            &["ENOTCONN", "ECONNABORTED", "EIO", "ENOENT"],
            Duration::from_secs(1),
        );
        frozen(&volume, || {
            let errnos = held.next();
            assert!(!errnos.contains("still"), "{how}: {errnos}");
        });
        assert_eq!(
            shell(BOB.uid, &bobs, "echo '{}' > schedules/x.json; ls schedules"),
            "x.json\n"
        );
    }
}

#[test]
fn a_volume_that_hangs_keeps_no_session_from_its_end_and_no_other_waiting() {
    let volume = Volume::new(Layout::default());
    let Some(hanging) = Hanging::beneath(&volume) else {
        return;
    };
    for resource in ["schedules", "results"] {
        // bindfs cannot do what making one takes: RENAME_NOREPLACE.
        let full_hash = hex::encode(Sha256::digest(ALICE.user));
        volume.plant(&ALICE, resource, ".tenantfs-owner", full_hash);
    }
    volume.plant(&ALICE, "results", "plot.svg", "early");
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    daemon.login(&BOB);
    let mut held = Conversation::start_in(
        ALICE.uid,
        &place,
        "import os\nfds = [os.open(file, os.O_RDWR) for file in ('results/plot.svg', 'schedules/x.json')]\n\
         os.pwrite(fds[1], b'{\"typed\":1}', 0); os.ftruncate(fds[1], 11)\n\
         def tried(fd):\n    try: return os.pread(fd, 10, 0)\n    except OSError as error: return error.errno\n\
         while True: print(*map(tried, fds), flush=True); input()",
    );
    assert!(held.next().contains("early"));
    let hang = hanging.hang();
    let begun = Instant::now();
    daemon.asked(ALICE.uid, &["logout"], "");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(held.next(), "107 107");
    assert!(!place.exists());
    let begun = Instant::now();
    assert_eq!(daemon.state(BOB.uid), "active");
    daemon.asked(0, &["revoke", "--all"], "");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(hang);
    let saved = || volume.stored(&ALICE, "schedules", "x.json").contains("typed");
    assert!(eventually(Duration::from_secs(5), saved), "{}", daemon.log());
    daemon.login(&ALICE);
}

#[test]
fn a_volume_that_hangs_leaves_nothing_to_read_while_the_session_is_suspended() {
    let volume = Volume::new(Layout::default());
    let Some(hanging) = Hanging::beneath(&volume) else {
        return;
    };
    for name in ["hangs.bin", "map.bin"] {
        volume.plant(&ALICE, "results", name, "b".repeat(3 << 20));
    }
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let options = ["--auth-url", service.url(), "--lease", "1s", "--grace", "1s"];
    let daemon = Daemon::start(&volume, &options);
    let place = daemon.login(&ALICE);
    let mut held = Conversation::start_in(
        ALICE.uid,
        &place.join("results"),
        "import mmap, os, struct, threading, time\nfds = [os.open(file, os.O_RDONLY) for file in ('hangs.bin', 'map.bin')]\n\
         map = mmap.mmap(fds[1], 4096, prot=mmap.PROT_READ); print(map[0], flush=True); input()\n\
         last, late = mmap.mmap(-1, 8), []\n\
         def read():\n    try: late.append(len(os.pread(fds[0], 10, 2 << 20)))\n    except OSError as error: late.append(error.errno)\n\
         reading = threading.Thread(target=read); reading.start()\n\
         parent, child = os.getpid(), os.fork()\n\
         while child == 0 and os.getppid() == parent: map[0]; last[:] = struct.pack('d', time.time())\n\
         if child == 0: os._exit(0)\n\
         print('reads', flush=True); input()\n\
         print(time.time() - struct.unpack('d', last)[0], flush=True); input()\n\
         reading.join(); os.kill(child, 9); print(*late, flush=True); input()",
    );
    assert_eq!(held.next(), "98");
    let hang = hanging.hang();
    service.kill();
    assert_eq!(held.next(), "reads");
    assert!(eventually(Duration::from_secs(5), || daemon.state(ALICE.uid) == "suspended"));
    std::thread::sleep(Duration::from_secs(2));
    let dark: f64 = held.next().parse().unwrap();
    assert!(dark > 0.5, "a cached page was read {dark} s ago");
    drop(hang);
    assert_eq!(held.next(), "13", "what the volume says late is not given out");
}

#[test]
fn a_key_that_the_service_revokes_is_dark_within_the_lease_and_a_second() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key), (BOB.user, BOB.api_key)]);
    let daemon = Daemon::start(&volume, &["--auth-url", service.url(), "--lease", "2s"]);
    let place = daemon.login(&ALICE);
    let bobs = daemon.login(&BOB);
    let observers = Observers::start(&ALICE, &place);
    let begun = SystemTime::now();
    service.revoke(ALICE.api_key);
    let ended = observers.ended(begun);
    assert_dark(
        &ended,
        &["ENOTCONN", "ECONNABORTED", "EIO", "ENOENT"],
        Duration::from_secs(3),
    );
    assert!(eventually(Duration::from_secs(2), || daemon.state(ALICE.uid) == "none"));
    assert!(!place.exists());
    assert_eq!(daemon.state(BOB.uid), "active");
    shell(BOB.uid, &bobs, "echo '{}' > schedules/x.json");
}

#[test]
fn a_silent_service_suspends_after_the_grace_period_and_its_return_brings_everything_back() {
    for silence in ["hangs", "is down"] {
        let volume = Volume::new(Layout::default());
        let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
        let options = ["--auth-url", service.url(), "--lease", "1s", "--grace", "2s"];
        let daemon = Daemon::start(&volume, &options);
        let place = daemon.login(&ALICE);
        let observers = Observers::start(&ALICE, &place);
        let mut held = Conversation::start_in(
            ALICE.uid,
            &place,
            "import os\nfd = os.open('schedules/x.json', os.O_RDWR)\nos.chdir('schedules')\n\
             def tried(act):\n    try: act(); return 'ok'\n    except OSError as error: return error.errno\n\
             while True:\n    print(tried(lambda: os.pread(fd, 10, 0)), tried(lambda: os.listdir('.')), flush=True); input()",
        );
        assert_eq!(held.next(), "ok ok");
        let begun = SystemTime::now();
        match silence {
            "hangs" => service.pause(),
            _ => service.kill(),
        }
        // Work goes on, and waits for nobody.
        let worst = "import os, time\nend, worst = time.time() + 1.5, 0\n\
            while time.time() < end:\n    start = time.time(); open('schedules/x.json').read(); worst = max(worst, time.time() - start); time.sleep(0.002)\n\
            print(worst)";
        let worst: f64 = common::python(ALICE.uid, &place, worst, &[])
            .trim()
            .parse()
            .unwrap();
        assert!(worst < 0.5, "a read took {worst} s while the service {silence}");
        let ended = observers.ended(begun);
        assert_dark(&ended, &["EACCES"], Duration::from_secs(4));
        let least = ended.iter().map(|(_, _, after)| *after).min().unwrap();
        assert!(
            least > Duration::from_secs(2),
            "dark after {least:?}: before the grace period's end"
        );
        assert_eq!(daemon.state(ALICE.uid), "suspended");
        assert_eq!(held.next(), "13 13");
        frozen(&volume, || assert_eq!(held.next(), "13 13"));

        match silence {
            "hangs" => service.resume(),
            _ => service.restart(),
        }
        assert!(eventually(Duration::from_secs(8), || daemon.state(ALICE.uid) == "active"));
        assert!(
            eventually(Duration::from_secs(2), || held.next() == "ok ok"),
            "what was open works again"
        );
        shell(
            ALICE.uid,
            &place,
            "echo '{\"back\":1}' > schedules/z.json; cat schedules/x.json",
        );
    }
}

#[test]
fn a_service_that_comes_back_with_a_no_ends_the_session() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let daemon = Daemon::start(
        &volume,
        &["--auth-url", service.url(), "--lease", "1s", "--grace", "0s"],
    );
    let place = daemon.login(&ALICE);
    service.kill();
    assert!(eventually(Duration::from_secs(3), || daemon.state(ALICE.uid) == "suspended"));
    assert_eq!(
        common::errno(ALICE.uid, volume.base(), &format!("os.listdir({place:?})")),
        "EACCES"
    );
    service.revoke(ALICE.api_key);
    service.restart();
    assert!(eventually(Duration::from_secs(8), || daemon.state(ALICE.uid) == "none"));
    assert!(!place.exists());
}

#[test]
fn what_was_typed_before_a_suspension_is_saved_after_it() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let daemon = Daemon::start(
        &volume,
        &["--auth-url", service.url(), "--lease", "1s", "--grace", "0s"],
    );
    let place = daemon.login(&ALICE);
    let mut typing = Conversation::start_in(
        ALICE.uid,
        &place,
        "import os\nfd = os.open('schedules/x.json', os.O_RDWR | os.O_CREAT)\nos.write(fd, b'{\"typed\":1}')\nprint(1, flush=True); input()\n\
         try: os.close(fd); print('closed', flush=True)\nexcept OSError as error: print(error.errno, flush=True)\ninput()",
    );
    typing.next();
    service.kill();
    assert!(eventually(Duration::from_secs(3), || daemon.state(ALICE.uid) == "suspended"));
    // The state is known a moment before it is applied.
    let listing = format!("os.listdir({place:?})");
    let is_dark = || common::errno(ALICE.uid, volume.base(), &listing) == "EACCES";
    assert!(eventually(Duration::from_secs(1), is_dark));
    assert_eq!(typing.next(), "13", "a close that could not commit says so");
    assert!(volume.files(&ALICE).iter().all(|file| !file.ends_with("x.json")));
    service.restart();
    assert!(eventually(Duration::from_secs(8), || daemon.state(ALICE.uid) == "active"));
    let saved = || volume.files(&ALICE).iter().any(|file| file.ends_with("x.json"));
    assert!(eventually(Duration::from_secs(2), saved));
    assert_eq!(
        volume.stored(&ALICE, "schedules", "x.json"),
        "{\"typed\":1,\"user_id\" :\"alice\"}"
    );
}

#[test]
fn a_mount_of_its_own_lives_by_the_same_lease() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let mount = volume.mount_with(&ALICE, &["--auth-url", service.url(), "--lease", "1s"]);
    let observers = Observers::start(&ALICE, &mount.path);
    let begun = SystemTime::now();
    service.revoke(ALICE.api_key);
    let ended = observers.ended(begun);
    assert_dark(
        &ended,
        &["ENOTCONN", "ECONNABORTED", "EIO", "ENOENT"],
        Duration::from_secs(2),
    );
    let status = mount.unmount();
    assert_eq!(status.code(), Some(3), "refused");
}
