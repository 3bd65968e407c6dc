//! The end of a daemon with many sessions: what was typed is saved, whatever becomes of the mounter, and it ends soon.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::daemon::Daemon;
use common::mounter::MounterService;
use common::{ALICE, Conversation, Layout, Tenant, Volume, eventually, is_mounted};
use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};

const USERS: usize = 10;

/// How long the end may take: 5 s, and as much again for a machine that does other things too.
const SOON: Duration = Duration::from_secs(10);

/// Holds a record open that was written and not closed, an attachment that is mapped and changed, and goes on writing until
/// it is told that this is over.
const HOLD: &str = "import mmap, os, sys, time\n\
    fd = os.open('schedules/open.json', os.O_RDWR | os.O_CREAT)\n\
    os.write(fd, sys.argv[1].encode())\n\
    plot = os.open('results/plot.bin', os.O_RDWR | os.O_CREAT)\n\
    os.ftruncate(plot, 4096)\n\
    map = mmap.mmap(plot, 4096)\n\
    map[0:6] = b'mapped'\n\
    log = os.open('results/log.json', os.O_RDWR | os.O_CREAT)\n\
    os.pwrite(log, b'{\"n\":%6d}' % 1, 0); n = 1\n\
    print('held', flush=True)\n\
    try:\n\
    \x20   while True: os.pwrite(log, b'{\"n\":%6d}' % (n + 1), 0); n += 1; time.sleep(0.002)\n\
    except OSError as error: print(n, error.errno, flush=True)\n\
    input()";

/// What becomes of the mounter before the daemon is told to end.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mounter {
    Answers,
    /// SIGSTOP.
    Paused,
    /// SIGKILL.
    Gone,
    /// As when systemd restarts both: the next one is not there before this daemon is gone, but its socket takes connections.
    SocketOnly,
}

fn tenants() -> Vec<Tenant> {
    let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let tenant = |number: usize| {
        let user = leaked(format!("user-{number}"));
        Tenant {
            user,
            hash: leaked(hex::encode(Sha256::digest(user))[..16].to_owned()),
            uid: 62_000 + u32::try_from(number).unwrap(),
            api_key: leaked(format!("key-of-user-{number}")),
        }
    };
    (0..USERS).map(tenant).collect()
}

fn write_keys(volume: &Volume, tenants: &[Tenant]) {
    let keys: Vec<_> = tenants
        .iter()
        .map(|tenant| {
            let sha256 = hex::encode(Sha256::digest(tenant.api_key));
            serde_json::json!({"sha256": sha256, "user_id": tenant.user})
        })
        .collect();
    fs::write(
        volume.static_keys_file(),
        serde_json::json!({ "keys": keys }).to_string(),
    )
    .unwrap();
}

/// Removes what is still mounted when the test is over, however it went.
struct Cleared(Vec<PathBuf>);

impl Drop for Cleared {
    fn drop(&mut self) {
        for place in self.0.iter().filter(|place| is_mounted(place)) {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}

/// The mounter that a process has started for itself.
fn own_mounter(pid: Pid) -> Pid {
    let pid = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

fn socket_that_nobody_accepts(path: &Path) -> OwnedFd {
    fs::remove_file(path).unwrap();
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 16).unwrap();
    common::set_mode(path, 0o666);
    socket
}

/// What the user's open record holds: every other one is not complete, and can only be kept.
fn typed(number: usize) -> String {
    match number % 2 {
        0 => format!("{{\"typed\":{number}}}"),
        _ => format!("{{\"typed\":{number}"),
    }
}

/// Whether the volume has what the user typed.
fn is_saved(volume: &Volume, tenant: &Tenant, number: usize) -> bool {
    let files = volume.files(tenant);
    let is_there = |part: &str| files.iter().any(|file| file.to_str().unwrap().contains(part));
    match number % 2 {
        0 => volume
            .stored(tenant, "schedules", "open.json")
            .starts_with(&format!("{{\"typed\":{number},")),
        _ => is_there("schedules") && is_there(".tenantfs-draft"),
    }
}

fn ends_with(mounter_is: Mounter) {
    let volume = Volume::new(Layout::default());
    let tenants = tenants();
    write_keys(&volume, &tenants);
    let mut mounter = MounterService::start(&volume);
    let mut daemon = Daemon::start(&volume, &["--mounter", mounter.socket.to_str().unwrap()]);
    let places: Vec<PathBuf> = tenants.iter().map(|tenant| daemon.login(tenant)).collect();
    let cleared = Cleared(places.clone());
    let mut held: Vec<Conversation> = Vec::new();
    for (number, (tenant, place)) in tenants.iter().zip(&places).enumerate() {
        let code = format!("import sys; sys.argv.append({:?})\n{HOLD}", typed(number));
        held.push(Conversation::start_in(tenant.uid, place, &code));
        assert_eq!(held[number].next(), "held");
    }
    let mut _socket = None;
    match mounter_is {
        Mounter::Answers => {}
        Mounter::Paused => mounter.signal(Signal::STOP),
        Mounter::Gone => mounter.kill(),
        Mounter::SocketOnly => {
            mounter.kill();
            _socket = Some(socket_that_nobody_accepts(&mounter.socket));
        }
    }
    let told = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait();
    let took = told.elapsed();
    eprintln!("{mounter_is:?}: ended after {took:?}, {status:?}");
    mounter.signal_if_alive(Signal::CONT);
    let said: Vec<String> = held.iter_mut().map(Conversation::next_of_its_own).collect();

    assert!(status.is_some_and(|status| status.success()), "{}", daemon.log());
    assert!(took < SOON, "{took:?}\n{}", daemon.log());
    let saved = tenants
        .iter()
        .enumerate()
        .filter(|(number, tenant)| is_saved(&volume, tenant, *number));
    assert_eq!(saved.count(), USERS, "{}", daemon.log());
    for (tenant, said) in tenants.iter().zip(&said) {
        let plot = fs::read(volume.path(tenant, "results", "plot.bin")).unwrap();
        assert_eq!(&plot[..6], b"mapped");
        // Every write that was said to be done is there, and the one after that was refused.
        let (written, errno) = said.split_once(' ').unwrap();
        assert!(
            ["107", "103"].contains(&errno),
            "ENOTCONN or ECONNABORTED: {said}"
        );
        let stored = volume.stored(tenant, "results", "log.json");
        assert!(
            stored.starts_with(&format!("{{\"n\":{written:>6},")),
            "{said}: {stored}"
        );
    }
    if matches!(mounter_is, Mounter::Answers | Mounter::Paused) {
        let gone = || places.iter().all(|place| !is_mounted(place));
        assert!(
            eventually(Duration::from_secs(2), gone),
            "the mounter ends what is left"
        );
    }
    drop(cleared);
}

#[test]
fn ten_sessions_end_at_once_and_every_draft_is_saved() {
    ends_with(Mounter::Answers);
}

#[test]
fn a_mounter_that_is_paused_or_gone_costs_no_draft_and_seconds_only() {
    ends_with(Mounter::Paused);
    ends_with(Mounter::Gone);
}

#[test]
fn a_mounter_that_waits_for_the_end_of_the_daemon_costs_no_draft_and_seconds_only() {
    ends_with(Mounter::SocketOnly);
}

#[test]
fn hundreds_of_drafts_of_one_user_are_all_saved() {
    const DRAFTS: usize = 500;
    let volume = Volume::new(Layout::default());
    let mut daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let code = format!(
        "files = [open(f'schedules/{{n}}.json', 'w') for n in range({DRAFTS})]\n\
         for n, f in enumerate(files): f.write('{{\"n\":%d}}' % n); f.flush()\n\
         print('held', flush=True); input()"
    );
    let mut held = Conversation::start_in(ALICE.uid, &place, &code);
    held.next();
    let told = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().is_some_and(|status| status.success()));
    eprintln!("ended after {:?}", told.elapsed());
    let records = volume.files(&ALICE);
    let records = records
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "json"));
    assert_eq!(records.count(), DRAFTS, "{}", daemon.log());
}

#[test]
fn a_mount_of_its_own_whose_mounter_is_paused_saves_the_draft_and_ends_within_seconds() {
    let volume = Volume::new(Layout::default());
    let mount = volume.mount(&ALICE);
    let mut held = Conversation::start(
        &mount,
        "f = open('schedules/x.json', 'w'); f.write('{\"typed\":1'); f.flush(); print('held', flush=True); input()",
    );
    held.next();
    let mounter = own_mounter(mount.pid());
    kill_process(mounter, Signal::STOP).unwrap();
    let told = Instant::now();
    kill_process(mount.pid(), Signal::TERM).unwrap();
    let ended = || {
        fs::read_to_string(format!("/proc/{}/stat", mount.pid().as_raw_nonzero()))
            .is_ok_and(|stat| stat.contains(" Z "))
    };
    assert!(eventually(SOON, ended), "{}", mount.log());
    eprintln!("ended after {:?}", told.elapsed());
    kill_process(mounter, Signal::CONT).unwrap();
    let files = volume.files(&ALICE);
    let is_draft = |file: &PathBuf| file.to_str().unwrap().contains(".tenantfs-draft");
    assert!(files.iter().any(is_draft), "{files:?}");
}
