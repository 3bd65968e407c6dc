//! Many logins and logouts leave nothing behind, and keys are nowhere but where they must be.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::daemon::Daemon;
use common::{ALICE, BOB, Layout, OtherMount, Volume, eventually, shell};
use rustix::process::Pid;

/// What a process holds, and the kernel for it.
#[derive(Debug)]
struct Holdings {
    threads: usize,
    descriptors: usize,
    memory_kib: usize,
    connections: usize,
}

impl Holdings {
    fn of(pid: Pid, connections: &Path) -> Self {
        let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        let count = |directory: &str| fs::read_dir(process.join(directory)).unwrap().count();
        let status = fs::read_to_string(process.join("status")).unwrap();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        Self {
            threads: count("task"),
            descriptors: count("fd"),
            memory_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
            connections: fs::read_dir(connections).unwrap().count(),
        }
    }
}

fn ask(daemon: &Daemon<'_>, request: &str) -> String {
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_thousand_logins_and_logouts_leave_nothing_behind() {
    let volume = Volume::new(Layout::default());
    // What /sys/fs/fuse/connections shows, at a place of our own.
    let connections = volume.base().join("connections");
    fs::create_dir(&connections).unwrap();
    let connections = OtherMount::over(&connections, "fusectl");
    let daemon = Daemon::start(&volume, &[]);
    let bobs = daemon.login(&BOB);
    let (uid, key) = (ALICE.uid, ALICE.api_key);
    let place = daemon.place(uid);
    let cycle = |number: u32| {
        let answer = ask(
            &daemon,
            &format!("{{\"login\":{{\"key\":\"{key}\",\"uid\":{uid}}}}}"),
        );
        assert!(answer.contains("\"session\""), "{answer}");
        if number.is_multiple_of(50) {
            shell(
                uid,
                &place,
                "echo '{}' > schedules/x.json; cat schedules/x.json; echo text > results/plot.svg",
            );
        }
        let answer = ask(&daemon, &format!("{{\"logout\":{{\"uid\":{uid}}}}}"));
        assert!(answer.contains("\"ended\""), "{answer}");
    };
    // What is made once and kept is there after these.
    (0..100).for_each(cycle);
    let before = Holdings::of(daemon.pid(), &connections.place);
    (0..1000).for_each(cycle);
    let settled = || {
        let after = Holdings::of(daemon.pid(), &connections.place);
        after.threads <= before.threads && after.descriptors <= before.descriptors
    };
    eventually(Duration::from_secs(15), settled);
    let after = Holdings::of(daemon.pid(), &connections.place);
    eprintln!("before {before:?}\nafter  {after:?}");
    assert!(settled(), "before {before:?}, after {after:?}");
    assert!(
        after.memory_kib < before.memory_kib + 8192,
        "before {before:?}, after {after:?}"
    );
    // The test beside this one may have a mount, and the kernel a few that it has not quite let go of.
    assert!(
        after.connections <= before.connections + 4,
        "before {before:?}, after {after:?}"
    );
    assert!(!place.exists());
    shell(BOB.uid, &bobs, "echo '{}' > schedules/x.json");
}

#[test]
fn a_key_is_nowhere_but_in_the_memory_that_needs_it() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    daemon.asked(ALICE.uid, &["status"], "");
    daemon.ask(ALICE.uid, &["login"], "a-key-that-is-nobodys-0123456789");
    shell(
        ALICE.uid,
        &place,
        "echo '{\"a\":1}' > schedules/x.json; echo '{' > schedules/y.json || true",
    );

    let mut searched = vec![("the log".to_owned(), daemon.log().into_bytes())];
    let pid = daemon.pid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    for process in children
        .split_whitespace()
        .map(str::to_owned)
        .chain([pid.to_string()])
    {
        for file in ["cmdline", "environ", "maps", "comm", "status", "limits"] {
            let path = format!("/proc/{process}/{file}");
            searched.push((path.clone(), fs::read(&path).unwrap_or_default()));
        }
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let cores = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
    }
    for file in volume.files(&ALICE) {
        searched.push((
            file.display().to_string(),
            fs::read(volume.root().join(&file)).unwrap(),
        ));
    }
    assert!(searched.len() > 10);
    for (place, content) in searched {
        for key in [ALICE.api_key, "a-key-that-is-nobodys"] {
            let found = content.windows(key.len()).any(|window| window == key.as_bytes());
            assert!(!found, "the key is in {place}");
        }
    }
    // Nobody but root may look into the memory: not even the account that it runs as.
    for uid in [ALICE.uid, common::SERVICE_UID] {
        let statement = format!("open('/proc/{pid}/mem', 'rb')");
        assert_eq!(common::errno(uid, volume.base(), &statement), "EACCES");
    }
}
