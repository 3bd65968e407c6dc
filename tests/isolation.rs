//! Between two tenants, and against root: what one has, the other neither reads, writes, lists, counts nor can tell
//! from something that does not exist. `isolation_hidden.rs` has what lies in a tenant's own directories.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{
    ALICE, BOB, Conversation, LAYOUTS, SERVICE_UID, Tenant, Volume, errno, eventually, is_mounted, run,
    set_mode,
};
use rustix::process::{Pid, Signal, kill_process};
use tenantfs::auth::{ApiKey, key_hash};
use tenantfs::layout::Layout;

/// Both tenants have records; what bob has has `of bob` in it.
fn volume(layout: Layout) -> Volume {
    let volume = Volume::new(layout);
    volume.plant(
        &ALICE,
        "schedules",
        "monday.json",
        r#"{"of": "alice", "user_id": "alice"}"#,
    );
    volume.plant(
        &BOB,
        "schedules",
        "monday.json",
        r#"{"of": "of bob", "user_id": "bob"}"#,
    );
    volume.plant(&BOB, "results", "plot", "of bob");
    volume
}

/// A process of alice's that has her mount as its working directory, and a file open in it.
fn inside<'a>(mount: &common::Mount<'a>) -> Conversation {
    let mut inside = Conversation::start(
        mount,
        "
import os, sys
file = open('schedules/monday.json', 'rb', buffering=0)
print(file.fileno(), flush=True)
for _ in sys.stdin:
    try:
        print(os.pread(3, 100, 0), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
",
    );
    assert_eq!(inside.next(), "3");
    inside
}

#[test]
fn neither_another_user_nor_root_enters_a_mount() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let mount = volume.mount(&ALICE);
        let path = mount.path.display();
        for uid in [BOB.uid, 0, SERVICE_UID, 65534] {
            for statement in [
                format!("os.stat('{path}')"),
                format!("os.listdir('{path}')"),
                format!("os.chdir('{path}')"),
                format!("open('{path}/schedules/monday.json')"),
                format!("open('{path}/schedules/new.json', 'w')"),
                format!("os.stat('{path}/schedules/absent.json')"),
                format!("os.unlink('{path}/schedules/monday.json')"),
                format!("os.open('{path}', os.O_PATH)"),
            ] {
                let met = errno(uid, volume.base(), &statement);
                // O_PATH opens nothing; what it gives cannot be used.
                let harmless = statement.contains("O_PATH") && met == "ok";
                assert!(met == "EACCES" || harmless, "uid {uid}: {statement}: {met}");
            }
            // The kernel answers this one itself, and says nothing.
            let statvfs =
                format!("s = os.statvfs('{path}'); assert s.f_blocks == s.f_files == s.f_bfree == 0");
            assert_eq!(errno(uid, volume.base(), &statvfs), "ok", "uid {uid}");
            let through = format!("os.listdir(os.open('{path}', os.O_PATH))");
            assert_eq!(errno(uid, volume.base(), &through), "EACCES", "uid {uid}");
        }
    }
}

#[test]
fn what_proc_shows_of_processes_leads_nobody_in() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let inside = inside(&mount);
    let (process, server) = (inside.pid().as_raw_nonzero(), mount.pid().as_raw_nonzero());
    for uid in [BOB.uid, 0] {
        for statement in [
            format!("os.listdir('/proc/{process}/cwd/')"),
            format!("open('/proc/{process}/cwd/schedules/monday.json')"),
            format!("open('/proc/{process}/fd/3')"),
            format!("os.listdir('/proc/{process}/root{}')", mount.path.display()),
        ] {
            assert_eq!(
                errno(uid, volume.base(), &statement),
                "EACCES",
                "uid {uid}: {statement}"
            );
        }
    }
    // The server has other people's data in its memory and at its descriptors: to users it is closed.
    for uid in [BOB.uid, ALICE.uid, SERVICE_UID] {
        for statement in [
            format!("os.listdir('/proc/{server}/fd')"),
            format!("os.listdir('/proc/{server}/root/')"),
            format!("open('/proc/{server}/mem', 'rb')"),
            format!("open('/proc/{server}/environ').read()"),
        ] {
            assert_eq!(
                errno(uid, volume.base(), &statement),
                "EACCES",
                "uid {uid}: {statement}"
            );
        }
    }
}

#[test]
fn numbers_tell_nothing_of_the_volume_or_of_others() {
    let volume = volume(Layout::ResourceFirst);
    for number in 0..50 {
        volume.plant(
            &BOB,
            "schedules",
            &format!("{number}.json"),
            r#"{"user_id": "bob"}"#,
        );
    }
    let backing = fs::metadata(volume.path(&ALICE, "schedules", "monday.json")).unwrap();
    let show = "stat -c '%i %h' schedules/monday.json; stat -c '%h' . schedules; stat -fc '%c %d' .";
    let seen: Vec<String> = (0..2).map(|_| volume.mount(&ALICE).shell(show)).collect();
    let first: Vec<_> = seen[0].split_whitespace().collect();
    let second: Vec<_> = seen[1].split_whitespace().collect();
    assert_ne!(first[0], backing.ino().to_string());
    assert_eq!(first[0], second[0], "the file is unchanged");
    assert!(
        first[0].parse::<u32>().is_ok(),
        "programs without large files see it, too"
    );
    assert_eq!(first[1..4], ["1", "4", "2"]);
    assert_eq!(first[1..], second[1..]);
    let (files, free): (u64, u64) = (first[4].parse().unwrap(), first[5].parse().unwrap());
    assert_eq!(files - free, 1, "alice has one file");
}

#[test]
fn two_tenants_work_side_by_side() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let (alice, bob) = (volume.mount(&ALICE), volume.mount(&BOB));
        alice.shell("echo '{\"n\": 1}' > schedules/same.json; echo a > results/same");
        bob.shell("echo '{\"n\": 2}' > schedules/same.json; echo b > results/same");
        assert_eq!(
            alice.shell("cat schedules/same.json results/same"),
            "{\"n\": 1}\na\n"
        );
        assert_eq!(
            bob.shell("cat schedules/same.json results/same"),
            "{\"n\": 2}\nb\n"
        );
        alice.shell("rm -r schedules/* results/*");
        assert_eq!(
            bob.shell("ls schedules results"),
            "results:\nplot\nsame\n\nschedules:\nmonday.json\nsame.json\n"
        );
    }
}

#[test]
fn a_directory_of_the_tenants_that_leads_to_anothers_is_not_followed() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let of_alice = volume.directory(&ALICE, "schedules");
        fs::remove_dir_all(&of_alice).unwrap();
        symlink(volume.directory(&BOB, "schedules"), &of_alice).unwrap();
        let mountpoint = volume.base().join("mnt");
        fs::create_dir(&mountpoint).unwrap();
        let output = run(volume.mount_command(&mountpoint, &ALICE, &[]), "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!is_mounted(&mountpoint));
    }
}

/// Swapped in for the name that alice reads, as fast as possible: her own file, and everything that would show bob's. Not
/// his attachment itself, copied or linked: an attachment does not say whose it is, and who can put it there needs no race.
/// Her own file stands for a millisecond of each round: on a volume where making a file takes far longer than renaming it,
/// a reader would otherwise never meet it, and the race would show nothing.
const SWAP: &str = r#"
import os, sys, time
own, foreign, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
directory, name = os.path.split(own)
as_ours = open(own, 'rb').read()
as_theirs = open(foreign, 'rb').read()
temporary = os.path.join(directory, '.swap')

def copy(text):
    with open(temporary, 'wb') as file:
        file.write(text)

steps = [lambda: os.symlink(foreign, temporary), lambda: os.mkfifo(temporary)]
if name.endswith('.json'):
    steps += [lambda: os.link(foreign, temporary), lambda: copy(as_theirs)]
deadline, rounds = time.monotonic() + seconds, 0
while time.monotonic() < deadline:
    rounds += 1
    for step in steps:
        step()
        os.rename(temporary, own)
        copy(as_ours)
        os.rename(temporary, own)
    time.sleep(0.001)
print(rounds)
"#;

/// Reads as fast as possible; whatever it gets must be alice's, and whatever it does not get must be absent.
const READ: &str = r#"
import errno, os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
deadline, whole, absent = time.monotonic() + seconds, 0, 0
while time.monotonic() < deadline:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        text = os.read(descriptor, 10000)
        os.close(descriptor)
        assert b'bob' not in text, text
        # Empty where the kernel remembers the size that the file had a moment ago, when it was made.
        assert b'alice' in text or not text, text
        whole += 1
    except OSError as error:
        assert error.errno in (errno.ENOENT, errno.ESTALE), error
        absent += 1
    for name in os.listdir(os.path.dirname(path)):
        assert 'swap' not in name or name == '.swap', name
print(whole, absent)
"#;

#[test]
fn swapping_names_under_the_mount_never_shows_a_foreign_byte() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        volume.plant(&ALICE, "results", "plot", "of alice");
        let mount = volume.mount(&ALICE);
        let race = |resource: &str, name: &str| {
            let mut swap = common::as_user(SERVICE_UID, volume.base(), "python3");
            swap.args(["-B", "-c", SWAP]);
            swap.arg(volume.path(&ALICE, resource, name));
            swap.arg(volume.path(&BOB, resource, name)).arg("2.5");
            let mut read = mount.command("python3");
            read.args(["-B", "-c", READ, &format!("{resource}/{name}"), "2.5"]);
            let said = common::together(vec![swap, read]);
            let rounds: u32 = said[0].trim().parse().unwrap();
            let whole: u32 = said[1].split_whitespace().next().unwrap().parse().unwrap();
            assert!(rounds > 50 && whole > 10, "{layout} {name}: {said:?}");
        };
        race("schedules", "monday.json");
        race("results", "plot");
        let bobs = volume.stored(&BOB, "schedules", "monday.json");
        assert_eq!(bobs, r#"{"of": "of bob", "user_id": "bob"}"#);
    }
}

#[test]
fn an_open_record_that_is_replaced_by_a_foreign_one_stays_what_it_was() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mut reader = Conversation::start(
        &mount,
        "
import mmap, os, sys, time
file = open('schedules/monday.json', 'rb', buffering=0)
shared = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print('open', flush=True)
sys.stdin.readline()
for _ in range(15):
    text = os.pread(file.fileno(), 1000, 0)
    assert b'alice' in text and b'bob' not in text, text
    assert b'bob' not in shared[:], shared[:]
    os.fstat(file.fileno())
    time.sleep(0.1)
try:
    print(open('schedules/monday.json').read(), flush=True)
except FileNotFoundError:
    print('absent', flush=True)
sys.stdin.readline()
",
    );
    assert_eq!(reader.next(), "open");
    let bobs = volume.stored(&BOB, "schedules", "monday.json");
    let staged = volume.plant(&ALICE, "schedules", "staged", bobs);
    fs::rename(staged, volume.path(&ALICE, "schedules", "monday.json")).unwrap();
    assert_eq!(reader.next(), "absent");
}

/// User ids that really have the same hash: found by search.
const FIRST: Tenant = Tenant {
    user: "u28e7627cc5ab20b0",
    hash: "48bb1880c55791f1",
    uid: 61003,
    api_key: "key-of-the-first",
};
const SECOND: Tenant = Tenant {
    user: "u8c0ca16042c103c3",
    hash: "48bb1880c55791f1",
    uid: 61004,
    api_key: "key-of-the-second",
};

/// Both have keys to the volume.
fn let_in_both(volume: &Volume) {
    let keys = [&FIRST, &SECOND].map(|tenant| {
        let path = volume.api_key_file(tenant);
        fs::write(&path, tenant.api_key).unwrap();
        set_mode(&path, 0o600);
        let key = ApiKey::new(tenant.api_key).unwrap();
        serde_json::json!({"sha256": key_hash(&key), "user_id": tenant.user})
    });
    let keys = serde_json::json!({"keys": keys}).to_string();
    fs::write(volume.static_keys_file(), keys).unwrap();
}

#[test]
fn the_second_of_two_colliding_user_ids_is_refused() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let_in_both(&volume);
        let refused = || {
            let mountpoint = volume.base().join("refused");
            let _ = fs::create_dir(&mountpoint);
            let mut command = volume.mount_command(&mountpoint, &SECOND, &[]);
            command.env("TENANTFS_LOG", "error");
            let output = run(command, "");
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{said}");
            assert!(
                said.contains("hash_collision") && said.lines().count() == 1,
                "{said}"
            );
            assert!(!is_mounted(&mountpoint));
        };
        let first = volume.mount(&FIRST);
        first.shell("echo '{\"n\": 1}' > schedules/a.json; echo '{}' > results/b.json");
        refused();
        drop(first);
        refused();
        assert_eq!(volume.mount(&FIRST).read("schedules/a.json"), "{\"n\": 1}\n");
    }
}

#[test]
fn of_two_colliding_users_who_log_in_at_once_one_writes() {
    let volume = Volume::new(Layout::ResourceFirst);
    let_in_both(&volume);
    // Nothing says whose the directory is before the first write.
    let (first, second) = (volume.mount(&FIRST), volume.mount(&SECOND));
    first.shell("echo '{\"n\": 1}' > schedules/a.json");
    let refused =
        "f = os.open('schedules/b.json', os.O_CREAT | os.O_WRONLY); os.write(f, b'{}'); os.close(f)";
    assert_eq!(second.errno(refused), "EIO");
    assert_eq!(second.errno("os.stat('schedules/a.json')"), "ENOENT");
    assert!(!volume.path(&FIRST, "schedules", "b.json").exists());
}

#[test]
fn a_killed_server_leaves_no_mount_behind() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mut inside = inside(&mount);
    let mounter = mounter_of(mount.pid());
    kill_process(mount.pid(), Signal::KILL).unwrap();
    assert!(
        eventually(Duration::from_secs(5), || !is_mounted(&mount.path)),
        "still mounted"
    );
    assert!(
        eventually(Duration::from_secs(5), || !Path::new("/proc")
            .join(mounter.to_string())
            .exists()),
        "the mounter is still there"
    );
    // What the kernel holds of an open file it gives out as long as it was told that it may, and no longer.
    let mut said = inside.next();
    assert!(
        eventually(Duration::from_secs(12), || {
            said = inside.next();
            !said.starts_with("b'")
        }),
        "it is still read: {said}"
    );
    assert!(
        said == "Transport endpoint is not connected" || said == "Software caused connection abort",
        "{said}"
    );
    drop(mount);
    // The mountpoint is free for the next session.
    assert!(
        volume
            .mount(&ALICE)
            .read("schedules/monday.json")
            .contains("alice")
    );
}

#[test]
fn the_end_of_a_mount_ends_open_descriptors() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mut inside = inside(&mount);
    assert!(mount.unmount().success());
    assert_eq!(inside.next(), "Transport endpoint is not connected");
}

#[test]
fn the_server_has_no_privilege_and_is_confined() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let mount = volume.mount(&ALICE);
        let status = Status::of(mount.pid());
        assert_eq!(status.field("Uid"), format!("{SERVICE_UID} ").repeat(4).trim());
        assert_eq!(status.field("Gid"), format!("{SERVICE_UID} ").repeat(4).trim());
        assert_eq!(status.field("Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status.field(set), "0000000000000000", "{set}");
        }
        assert_eq!(status.field("NoNewPrivs"), "1");
        assert!(status.field("Threads").parse::<u32>().unwrap() < 16);
        let log = mount.log();
        assert!(
            log.contains("confined by Landlock") || log.contains("NOT confined"),
            "{log}"
        );
    }
}

#[test]
fn the_mounter_has_one_capability_and_nothing_of_the_volume() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mounter = mounter_of(mount.pid());
    let status = Status::of(Pid::from_raw(mounter).unwrap());
    const SYS_ADMIN: &str = "0000000000200000";
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status.field(set), SYS_ADMIN, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status.field(set), "0000000000000000", "{set}");
    }
    assert_eq!(status.field("NoNewPrivs"), "1");
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{mounter}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(
        !open
            .iter()
            .any(|path| path.starts_with(volume.root()) || path.ends_with("static-keys.json")),
        "{open:?}"
    );
}

#[test]
fn a_mount_has_exactly_these_options() {
    let volume = volume(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mountinfo
        .lines()
        .find(|line| line.split(' ').nth(4) == mount.path.to_str())
        .unwrap();
    let (of_mount, of_file_system) = line.split_once(" - ").unwrap();
    let sorted = |options: &str| {
        let mut options: Vec<_> = options.split(',').map(str::to_owned).collect();
        options.sort();
        options.join(",")
    };
    assert_eq!(
        sorted(of_mount.split(' ').nth(5).unwrap()),
        "noatime,nodev,noexec,nosuid,nosymfollow,rw"
    );
    let words: Vec<_> = of_file_system.split(' ').collect();
    assert_eq!(words[..2], ["fuse.tenantfs", "tenantfs"]);
    assert_eq!(
        sorted(words[2]),
        "default_permissions,group_id=61001,rw,user_id=61001"
    );
}

/// The server's child.
fn mounter_of(server: Pid) -> i32 {
    let server = server.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    let children: Vec<_> = children.split_whitespace().collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0].parse().unwrap()
}

/// /proc/PID/status
struct Status(String);

impl Status {
    fn of(pid: Pid) -> Self {
        Self(fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap())
    }

    fn field(&self, name: &str) -> String {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let words: Vec<_> = line
            .unwrap_or_else(|| panic!("no {name}"))
            .split_whitespace()
            .collect();
        words.join(" ")
    }
}
