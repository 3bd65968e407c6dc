//! The audit log on real mounts: what has a line, what is not done without one, and what no line ever says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::audit::{Log, SOON, verify};
use common::auth::AuthService;
use common::daemon::Daemon;
use common::{
    ALICE, BOB, Layout, Mount, OtherMount, SERVICE_UID, Tenant, Volume, as_user, eventually, run, set_mode,
    success, tool,
};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

fn mount<'v>(volume: &'v Volume, tenant: &Tenant, log: &Log, level: &str) -> Mount<'v> {
    volume.mount_with(tenant, &["--audit-log", log.path(), "--audit-level", level])
}

/// Directories made until one cannot be: how many, and what that meets. One line each.
const MAKE_UNTIL_REFUSED: &str = "
import errno, os, sys
for number in range(int(sys.argv[1])):
    try:
        os.mkdir(f'schedules/{sys.argv[2]}-{number}')
    except OSError as error:
        print(number, errno.errorcode[error.errno])
        break
else:
    print(int(sys.argv[1]), 'ok')
";

/// A small file system for a log. Dropped, it is unmounted.
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

/// A disk that turns read-only when it fails.
fn failing_disk(volume: &Volume, log: &Log) -> OtherMount {
    let (image, place) = (volume.base().join("disk"), log.0.parent().unwrap().to_owned());
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let owner = format!("root_owner={SERVICE_UID}:{SERVICE_UID}");
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-E", &owner]).arg(&image);
    success(command, "");
    let mut command = Command::new("mount");
    command
        .args(["-o", "loop,errors=remount-ro"])
        .arg(&image)
        .arg(&place);
    success(command, "");
    OtherMount { place }
}

fn fill(directory: &Path) -> PathBuf {
    let filler = directory.join("filler");
    let mut command = Command::new("dd");
    command
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", filler.display()));
    assert!(!run(command, "").status.success(), "it never was full");
    filler
}

#[test]
fn what_is_opened_created_committed_renamed_and_removed_has_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let mount = mount(&volume, &ALICE, &log, "access");
    let pid = mount.shell(
        "echo $$; mkdir schedules/d; printf '{}' > schedules/d/x.json; mv schedules/d/x.json results/y.json; \
         rm results/y.json; rmdir schedules/d; echo text > results/plot.svg; exec cat results/plot.svg",
    );
    let pid: u32 = pid.lines().next().unwrap().parse().unwrap();
    let status = mount.unmount();
    assert!(status.success());
    let said: Vec<_> = log
        .lines()
        .iter()
        .map(|line| {
            ["op", "path", "outcome", "reason"]
                .map(|member| line[member].as_str().unwrap())
                .join(" ")
        })
        .map(|line| line.trim_end().to_owned())
        .collect();
    assert_eq!(
        said,
        [
            "session_begins  ok",
            "mkdir schedules/d ok",
            "create schedules/d/x.json ok",
            "commit schedules/d/x.json ok",
            "rename schedules/d/x.json ok to \"results/y.json\"",
            "unlink results/y.json ok",
            "rmdir schedules/d ok",
            "create results/plot.svg ok",
            "open results/plot.svg ok",
            "session_ends  ok it was told to",
        ]
    );
    let (first, lines) = (&log.lines()[0], log.lines());
    for line in &lines {
        assert_eq!(line["user"], ALICE.hash);
        assert_eq!(line["uid"], ALICE.uid);
        assert_eq!(line["session"], first["session"]);
        assert_eq!(line["session"].as_str().unwrap().len(), 8);
    }
    assert_eq!(lines[8]["pid"], pid, "the shell has become cat");
    assert_eq!(lines[0]["pid"], 0);
    assert_eq!(lines[0]["prev"], "0".repeat(64));
    let metadata = fs::metadata(&log.0).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_eq!(metadata.uid(), SERVICE_UID);
    log.verify();
}

#[test]
fn a_refusal_has_one_line_that_says_why_at_every_level() {
    for level in ["denied", "access", "all"] {
        let volume = Volume::new(Layout::ResourceFirst);
        let log = Log::of(&volume);
        volume.plant(&ALICE, "schedules", "bobs.json", r#"{"user_id":"bob"}"#);
        let mount = mount(&volume, &ALICE, &log, level);
        assert_eq!(mount.errno("open('schedules/bobs.json', 'x')"), "EIO");
        let line = log.wait("create schedules/bobs.json EIO");
        assert_eq!(
            log.like("create schedules/bobs.json EIO").len(),
            1,
            "{}",
            log.text()
        );
        assert!(!line["reason"].as_str().unwrap().is_empty());
        assert_eq!(mount.errno("os.symlink('a', 'schedules/b')"), "EPERM");
        let line = log.wait("symlink schedules/b EPERM");
        assert_ne!(line["pid"], 0);
        assert_eq!(
            mount.errno("with open('schedules/bad.json', 'w') as file: file.write('no json')"),
            "EINVAL"
        );
        log.wait("commit schedules/bad.json EINVAL");
        mount.shell("printf '{\"user_id\": \"mallory\"}' > schedules/mine.json");
        let overridden = eventually(SOON, || {
            let lines = log.like("commit schedules/mine.json ok");
            lines
                .iter()
                .any(|line| line["reason"].as_str().unwrap().starts_with("owner_overridden"))
        });
        assert!(overridden, "{}", log.text());
        assert!(
            !log.text().contains("mallory") && !log.text().contains(BOB.hash),
            "{}",
            log.text()
        );
        drop(mount);
        log.verify();
    }
}

#[test]
fn each_level_has_what_it_says_and_what_the_one_before_it_has() {
    let ops = |level: &str| {
        let volume = Volume::new(Layout::ResourceFirst);
        let log = Log::of(&volume);
        let mount = mount(&volume, &ALICE, &log, level);
        mount.shell("printf '{}' > schedules/x.json; cat schedules/x.json; ls schedules; ln -s a b || :");
        drop(mount);
        let lines = log.lines();
        let ops = lines.iter().map(|line| line["op"].as_str().unwrap().to_owned());
        ops.collect::<std::collections::BTreeSet<_>>()
    };
    let [denied, access, all] = ["denied", "access", "all"].map(ops);
    assert_eq!(denied.iter().collect::<Vec<_>>(), ["session_ends", "symlink"]);
    assert!(
        denied.is_subset(&access) && access.is_subset(&all),
        "{access:?} {all:?}"
    );
    let expected = ["commit", "create", "session_begins", "session_ends", "symlink"];
    assert!(expected.iter().all(|op| access.contains(*op)), "{access:?}");
    assert!(
        !access.contains("getattr") && !access.contains("readdir"),
        "{access:?}"
    );
    assert!(all.contains("readdir") && all.contains("lookup"), "{all:?}");
}

#[test]
fn no_line_has_a_key_a_secret_or_a_word_of_another_tenant() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let secret = "sk-0123456789-sentinel";
    let record = format!(r#"{{"api_key":"{secret}","text":"private-words","user_id":"alice"}}"#);
    volume.plant(&ALICE, "schedules", "x.json", &record);
    volume.plant(
        &ALICE,
        "schedules",
        "stray.json",
        r#"{"user_id":"bob","text":"bobs-words"}"#,
    );
    volume.plant(&BOB, "schedules", "theirs.json", r#"{"user_id":"bob"}"#);
    let mount = mount(&volume, &ALICE, &log, "all");
    mount.shell(
        "cat schedules/x.json; sed -i s/private/secret/ schedules/x.json; cat schedules/stray.json || :; \
         cat schedules/theirs.json || :; ls -la schedules; echo '{' > schedules/y.json || :",
    );
    let plain = format!("open('schedules/z.json', 'w').write('{{\"api_key\": \"{secret}\"}}')");
    mount.errno(&plain);
    drop(mount);
    let text = log.text();
    assert!(log.lines().len() > 20, "{text}");
    for word in [
        secret,
        "private-words",
        "secret-words",
        "bobs-words",
        "bob\"",
        BOB.hash,
        ALICE.api_key,
    ] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn on_a_full_disk_nothing_is_done_without_a_line_and_no_line_is_lost() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let disk = small_disk(&log, "4m");
    let mounted = mount(&volume, &ALICE, &log, "access");
    let filler = fill(&disk.place);
    let said = mounted.python(MAKE_UNTIL_REFUSED, &["20000", "d"]);
    let (made, errno) = said.trim().split_once(' ').unwrap();
    assert_eq!(errno, "EIO");
    let refused = volume.path(&ALICE, "schedules", &format!("d-{made}"));
    assert!(!refused.exists(), "it was done");
    for _ in 0..3 {
        assert_eq!(mounted.errno("os.mkdir('results/d')"), "EIO");
        assert_eq!(mounted.errno("open('results/x.txt', 'w')"), "EIO");
    }
    assert_eq!(mounted.shell("ls results"), "", "what it owes no line goes on");
    let complaints = mounted.log().matches("file system is nearly full: ").count();
    assert!((1..=2).contains(&complaints), "{complaints}: {}", mounted.log());

    fs::remove_file(filler).unwrap();
    assert!(eventually(SOON, || mounted
        .errno("os.makedirs('results/d', exist_ok=True)")
        == "ok"));
    assert!(mounted.log().contains("has room again"));
    let line = log.wait("audit * EIO");
    assert!(
        line["reason"]
            .as_str()
            .unwrap()
            .contains("events have no line of their own"),
        "{line}"
    );
    drop(mounted);
    let lines = log.lines();
    let done = |line: &&Value| {
        line["op"] == "mkdir"
            && line["outcome"] == "ok"
            && line["path"].as_str().unwrap().starts_with("schedules/d-")
    };
    assert_eq!(lines.iter().filter(done).count().to_string(), made);
    log.verify();

    // There is no session without a log.
    let filler = fill(&disk.place);
    fs::remove_file(&log.0).unwrap();
    fs::write(&filler, vec![0; 3 << 20]).unwrap();
    let mountpoint = volume.base().join("mnt-alice");
    let mut command = volume.mount_command(&mountpoint, &ALICE, &["--audit-log", log.path()]);
    command.env("TENANTFS_LOG", "error");
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the audit log cannot be written"), "{said}");
}

#[test]
fn at_level_denied_a_full_disk_stops_nothing() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let disk = small_disk(&log, "3m");
    fs::write(disk.place.join("filler"), vec![0; 2 << 20]).unwrap();
    let mount = mount(&volume, &ALICE, &log, "denied");
    assert_eq!(mount.errno("os.mkdir('schedules/d')"), "ok");
    fs::remove_file(disk.place.join("filler")).unwrap();
}

#[test]
fn on_a_file_system_that_becomes_read_only_nothing_is_done_without_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let disk = failing_disk(&volume, &log);
    let mounted = mount(&volume, &ALICE, &log, "access");
    log.wait("session_begins * ok");
    // As a disk does that fails.
    let device = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let device = device
        .lines()
        .find(|line| line.split(' ').nth(4) == disk.place.to_str())
        .and_then(|line| line.rsplit(' ').nth(1)?.strip_prefix("/dev/"))
        .unwrap();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    let refused = || mounted.errno("os.mkdir('schedules/' + os.urandom(8).hex())") == "EIO";
    assert!(eventually(SOON, refused));
    assert_eq!(mounted.errno("os.mkdir('schedules/b')"), "EIO");
    assert!(!volume.path(&ALICE, "schedules", "b").exists());
    assert_eq!(mounted.shell("ls results"), "", "what it owes no line goes on");
    assert!(mounted.log().contains("the audit log cannot be written"));
    // The end of the session has no line: that is no success.
    assert_eq!(mounted.unmount().code(), Some(1));

    // From the beginning.
    fs::remove_dir(volume.base().join("mnt-alice")).unwrap();
    let mountpoint = volume.base().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let output = run(
        volume.mount_command(&mountpoint, &ALICE, &["--audit-log", log.path()]),
        "",
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_log_that_is_removed_while_it_is_open_goes_on_in_a_new_file_and_what_is_gone_shows() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let mounted = mount(&volume, &ALICE, &log, "access");
    mounted.shell("mkdir schedules/a");
    log.wait("mkdir schedules/a ok");
    let lines = log.lines().len();
    fs::remove_file(&log.0).unwrap();
    mounted.shell("mkdir schedules/b");
    let line = log.wait("mkdir schedules/b ok");
    assert_eq!(line["seq"], lines + 1);
    assert_ne!(line["prev"], "0".repeat(64));
    drop(mounted);

    // While nobody writes, too.
    let last = log.lines().pop().unwrap()["seq"].as_u64().unwrap();
    fs::remove_file(&log.0).unwrap();
    drop(mount(&volume, &ALICE, &log, "access"));
    assert_eq!(log.lines()[0]["seq"], last + 1);
}

#[test]
fn logrotate_moves_the_log_on_and_the_chain_goes_over_all_files() {
    let Some(logrotate) = tool("logrotate") else {
        return;
    };
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let daemon = Daemon::start(&volume, &["--audit-log", log.path()]);
    let place = daemon.login(&ALICE);
    let made = include_str!("../scripts/tenantfs.logrotate");
    // The account and the unit are the host's; all else is as it is installed.
    let mut rules = String::new();
    for line in made.lines().filter(|line| !line.trim_start().starts_with("su ")) {
        let line = match line.trim_start().starts_with("systemctl") {
            true => format!("kill -HUP {}", daemon.pid()),
            false => line.replace("/var/log/tenantfs/audit.jsonl", log.path()),
        };
        rules.push_str(&(line + "\n"));
    }
    let rules_file = volume.base().join("rules");
    fs::write(&rules_file, rules).unwrap();
    set_mode(&rules_file, 0o644);
    for number in 0..3 {
        common::shell(ALICE.uid, &place, &format!("mkdir schedules/{number}"));
        log.wait(&format!("mkdir schedules/{number} ok"));
        let mut command = Command::new(&logrotate);
        command
            .arg("-f")
            .arg("-s")
            .arg(volume.base().join("state"))
            .arg(&rules_file);
        success(command, "");
    }
    common::shell(ALICE.uid, &place, "mkdir schedules/last");
    log.wait("mkdir schedules/last ok");
    assert_eq!(log.like("mkdir * *").len(), 1);
    let file = |suffix: &str| PathBuf::from(format!("{}.{suffix}", log.path()));
    for number in ["3", "2"] {
        let mut command = Command::new("gunzip");
        command.arg(file(&format!("{number}.gz")));
        success(command, "");
    }
    // With `create 0640` and no owner, the next file has the last one's.
    assert_eq!(fs::metadata(&log.0).unwrap().uid(), SERVICE_UID);
    verify(&[&file("3"), &file("2"), &file("1"), &log.0]);
}

#[test]
fn a_rename_alone_is_noticed_and_sighup_ends_no_mount_without_a_terminal() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let mounted = mount(&volume, &ALICE, &log, "access");
    mounted.shell("mkdir schedules/a");
    log.wait("mkdir schedules/a ok");
    let old = log.0.with_extension("old");
    fs::rename(&log.0, &old).unwrap();
    mounted.shell("mkdir schedules/b");
    log.wait("mkdir schedules/b ok");
    let older = log.0.with_extension("older");
    fs::rename(&log.0, &older).unwrap();
    kill_process(mounted.pid(), Signal::HUP).unwrap();
    assert!(eventually(SOON, || log.0.exists()), "SIGHUP makes the next file");
    mounted.shell("mkdir schedules/c");
    log.wait("mkdir schedules/c ok");
    drop(mounted);
    verify(&[&old, &older, &log.0]);
}

#[test]
fn two_processes_keep_one_log() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let mounts = [&ALICE, &BOB].map(|tenant| mount(&volume, tenant, &log, "access"));
    thread::scope(|scope| {
        for mount in &mounts {
            scope.spawn(|| mount.python(MAKE_UNTIL_REFUSED, &["300", "d"]));
        }
    });
    drop(mounts);
    assert_eq!(log.like("mkdir * ok").len(), 600);
    log.verify();
}

#[test]
fn after_a_kill_the_chain_goes_on() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    for round in 0..3 {
        let mounted = mount(&volume, &ALICE, &log, "access");
        mounted.python(MAKE_UNTIL_REFUSED, &["200", &round.to_string()]);
        kill_process(mounted.pid(), Signal::KILL).unwrap();
        drop(mounted);
    }
    drop(mount(&volume, &ALICE, &log, "access"));
    assert!(log.like("mkdir * ok").len() > 500);
    log.verify();
}

#[test]
fn a_flood_of_refusals_is_counted_and_stalls_nobody_else() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let (alice, bob) = (
        mount(&volume, &ALICE, &log, "access"),
        mount(&volume, &BOB, &log, "access"),
    );
    let flood = "import os\nfor _ in range(5000):\n    try: os.symlink('a', 'schedules/b')\n    except PermissionError: pass";
    alice.python(flood, &[]);
    assert_eq!(bob.errno("os.mkdir('schedules/d')"), "ok");
    drop(alice);
    let lines = log.like("symlink schedules/b EPERM");
    // One at its beginning and one with the count, for each ten seconds that it takes.
    assert!((2..=12).contains(&lines.len()), "{}", lines.len());
    let counted: u64 = lines
        .iter()
        .map(|line| {
            let reason = line["reason"].as_str().unwrap();
            let count = reason.rsplit("; ").next().unwrap().split(' ').next().unwrap();
            count.parse().unwrap_or(1)
        })
        .sum();
    assert_eq!(counted, 5000);
}

#[test]
fn one_users_flood_of_work_keeps_no_other_user_waiting() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let daemon = Daemon::start(&volume, &["--audit-log", log.path(), "--audit-level", "all"]);
    let places = [daemon.login(&ALICE), daemon.login(&BOB)];
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let stat = "import os\nfor n in range(20000):\n    try: os.stat(f'schedules/{n}')\n    except OSError: pass";
            common::python(ALICE.uid, &places[0], stat, &[])
        });
        let mut slowest = Duration::ZERO;
        while !flood.is_finished() {
            let start = Instant::now();
            common::shell(BOB.uid, &places[1], "mkdir schedules/d; rmdir schedules/d");
            slowest = slowest.max(start.elapsed());
        }
        flood.join().unwrap();
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
    drop(daemon);
    assert!(log.like("lookup * *").len() >= 20_000);
    log.verify();
}

#[test]
fn a_login_that_fails_has_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let daemon = Daemon::start(&volume, &["--audit-log", log.path(), "--audit-level", "denied"]);
    let key = "no-such-key-0123456789";
    assert_eq!(daemon.ask(BOB.uid, &["login"], key).status.code(), Some(3));
    let line = log.wait("login * EACCES");
    assert_eq!((&line["user"], &line["uid"]), (&"".into(), &BOB.uid.into()));
    // Those that are alike are counted.
    for _ in 0..2 {
        assert_eq!(daemon.ask(BOB.uid, &["login"], key).status.code(), Some(3));
    }
    drop(daemon);
    let lines = log.like("login * EACCES");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1]["count"], 2);
    fs::write(volume.api_key_file(&ALICE), key).unwrap();
    let mountpoint = volume.base().join("mnt-alice");
    fs::create_dir(&mountpoint).unwrap();
    let output = run(
        volume.mount_command(&mountpoint, &ALICE, &["--audit-log", log.path()]),
        "",
    );
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(log.like("login * EACCES").len(), 3);
    assert!(!log.text().contains(key));
    log.verify();
}

#[test]
fn a_user_reads_ones_own_events_and_nobody_elses() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let daemon = Daemon::start(&volume, &["--audit-log", log.path()]);
    let places = [daemon.login(&ALICE), daemon.login(&BOB)];
    common::shell(ALICE.uid, &places[0], "mkdir schedules/of-alice");
    common::shell(BOB.uid, &places[1], "mkdir schedules/of-bob");
    log.wait("mkdir schedules/of-bob ok");
    let mine = |uid: u32, args: &[&str]| {
        let mut command = as_user(
            uid,
            volume.base(),
            common::daemon::reachable_program(&volume).to_str().unwrap(),
        );
        command
            .args(["audit", "mine", "--socket"])
            .arg(&daemon.socket)
            .args(args);
        run(command, "")
    };
    let printed = String::from_utf8(mine(ALICE.uid, &[]).stdout).unwrap();
    assert!(
        printed.contains("schedules/of-alice") && !printed.contains("of-bob"),
        "{printed}"
    );
    let events: Value = serde_json::from_slice(&mine(BOB.uid, &["--json"]).stdout).unwrap();
    let events = events["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["path"], "schedules/of-bob");
    for event in events {
        assert_eq!(event["uid"], BOB.uid);
        // These would tell how much the others do.
        assert!(
            event.get("seq").is_none() && event.get("prev").is_none(),
            "{event}"
        );
    }
    let events: Value = serde_json::from_slice(&mine(BOB.uid, &["--json", "--lines", "1"]).stdout).unwrap();
    assert_eq!(events["events"].as_array().unwrap().len(), 1);
    // Who asks again and again keeps nothing busy, and nobody else out.
    let (begun, mut answered) = (Instant::now(), 0);
    for _ in 0..30 {
        let output = mine(BOB.uid, &[]);
        answered += u64::from(output.status.success());
        let busy = String::from_utf8_lossy(&output.stderr).contains("too often");
        assert_ne!(output.status.success(), busy, "{output:?}");
    }
    assert!(
        answered <= 10 + begun.elapsed().as_secs(),
        "{answered} in {:?}",
        begun.elapsed()
    );
    assert!(mine(ALICE.uid, &[]).status.success());
    let other = mine(BOB.uid, &["--uid", &ALICE.uid.to_string()]);
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let root = String::from_utf8(mine(0, &["--uid", &ALICE.uid.to_string()]).stdout).unwrap();
    assert!(root.contains("of-alice") && !root.contains("of-bob"), "{root}");
}

#[test]
fn the_config_file_says_where_and_how_much_and_the_variable_wins() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let config = volume.base().join("config.toml");
    fs::write(
        &config,
        format!("[audit]\npath = {:?}\nlevel = \"all\"\n", log.path()),
    )
    .unwrap();
    let mountpoint = volume.base().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    fs::write(volume.api_key_file(&ALICE), "no-such-key-0123456789").unwrap();
    let config = config.to_str().unwrap();
    let login = |variable: Option<&str>| {
        let mut command = volume.mount_command(&mountpoint, &ALICE, &["--config", config]);
        command.env_remove("TENANTFS_AUDIT_LOG");
        command.envs(variable.map(|path| ("TENANTFS_AUDIT_LOG", path)));
        assert_eq!(run(command, "").status.code(), Some(3));
    };
    login(None);
    assert_eq!(log.like("login * EACCES").len(), 1);
    login(Some("none"));
    assert_eq!(log.lines().len(), 1);
    let other = log.0.with_extension("other");
    login(other.to_str());
    assert_eq!(log.lines().len(), 1);
    assert_eq!(fs::read_to_string(other).unwrap().lines().count(), 1);
}

#[test]
fn what_is_no_log_of_the_servers_is_refused() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let mountpoint = volume.base().join("mnt-alice");
    fs::create_dir(&mountpoint).unwrap();
    let elsewhere = volume.base().join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    let own = |path: &Path| chown(path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    let cases: [(&str, &dyn Fn()); 5] = [
        ("symbolic link", &|| symlink(&elsewhere, &log.0).unwrap()),
        ("belongs to uid 0", &|| fs::write(&log.0, "").unwrap()),
        ("others may write it", &|| {
            fs::write(&log.0, "").unwrap();
            own(&log.0);
            set_mode(&log.0, 0o666);
        }),
        ("not a regular file", &|| {
            success(
                {
                    let mut command = Command::new("mkfifo");
                    command.arg(&log.0);
                    command
                },
                "",
            );
        }),
        ("No such file or directory", &|| {
            fs::remove_dir(log.0.parent().unwrap()).unwrap()
        }),
    ];
    for (said, make) in cases {
        make();
        let output = run(
            volume.mount_command(&mountpoint, &ALICE, &["--audit-log", log.path()]),
            "",
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}: {stderr}");
        assert!(stderr.contains(said), "{said}: {stderr}");
        assert!(stderr.contains(log.path()), "{stderr}");
        let _ = fs::remove_file(&log.0);
        let _ = fs::remove_file(log.0.with_extension("jsonl.head"));
    }
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "");
}

/// In a mount namespace of its own: a journal that prints what it is sent, while a view is mounted and a directory made in it.
const BESIDE_A_JOURNAL: &str = "
import os, socket, subprocess, sys
uid, mountpoint, *command = sys.argv[1:]
subprocess.run(['mount', '-t', 'tmpfs', 'none', '/run'], check=True)
os.makedirs('/run/systemd/journal')
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind('/run/systemd/journal/socket')
os.chmod('/run/systemd/journal/socket', 0o666)
stream = os.open('/run/stream', os.O_CREAT | os.O_WRONLY)
stat = os.fstat(stream)
environment = {**os.environ, 'JOURNAL_STREAM': f'{stat.st_dev}:{stat.st_ino}'}
server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream)
server.stdout.readline()
as_user = ['setpriv', f'--reuid={uid}', f'--regid={uid}', '--clear-groups']
subprocess.run([*as_user, 'mkdir', mountpoint + '/schedules/d'], check=True)
server.terminate()
assert server.wait() == 0
journal.setblocking(False)
while True:
    try:
        print(journal.recv(1 << 16).decode())
    except BlockingIOError:
        break
";

#[test]
fn under_systemd_the_log_goes_to_the_journal_unless_it_has_a_place() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mountpoint = volume.base().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let mount = volume.mount_command(&mountpoint, &ALICE, &[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.args(["python3", "-B", "-c", BESIDE_A_JOURNAL]);
    command.arg(ALICE.uid.to_string()).arg(&mountpoint);
    command.arg(mount.get_program()).args(mount.get_args());
    let received = success(command, "");
    let datagrams: Vec<_> = received
        .split("\n\n")
        .filter(|datagram| !datagram.is_empty())
        .collect();
    let messages: Vec<Value> = datagrams
        .iter()
        .map(|datagram| {
            assert!(
                datagram.contains("SYSLOG_IDENTIFIER=tenantfs-audit\n"),
                "{datagram}"
            );
            let line = datagram.lines().find_map(|field| field.strip_prefix("MESSAGE="));
            serde_json::from_str(line.unwrap()).unwrap()
        })
        .collect();
    let ops: Vec<_> = messages
        .iter()
        .map(|message| message["op"].as_str().unwrap())
        .collect();
    assert_eq!(ops, ["session_begins", "mkdir", "session_ends"]);
    assert!(
        datagrams[1].contains(&format!("TENANTFS_USER={}\n", ALICE.hash)),
        "{received}"
    );
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message["seq"], index + 1, "chained there, too");
    }
}

#[test]
fn every_change_of_a_session_has_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let url = service.url().to_owned();
    let options = [
        "--auth-url",
        &url,
        "--lease",
        "1s",
        "--grace",
        "1s",
        "--audit-log",
        log.path(),
    ];
    let mounted = volume.mount_with(&ALICE, &options);
    service.kill();
    log.wait("session_stale * ok");
    log.wait("session_suspended * ok");
    // That of the session's state is a refusal like any other.
    let look = || common::errno(ALICE.uid, volume.base(), "os.listdir('mnt-alice')");
    assert_eq!(look(), "EACCES");
    log.wait("* * EACCES");
    service.restart();
    log.wait("session_active * ok");
    assert!(eventually(SOON, || look() == "ok"));
    service.revoke(ALICE.api_key);
    let line = log.wait("session_ends * ok");
    assert!(!line["reason"].as_str().unwrap().is_empty());
    drop(mounted);
    let mut changes = log.lines();
    changes.retain(|line| line["op"].as_str().unwrap().starts_with("session_"));
    let changes: Vec<_> = changes.iter().map(|line| line["op"].as_str().unwrap()).collect();
    assert_eq!(changes.first(), Some(&"session_begins"));
    assert_eq!(
        changes.iter().filter(|change| **change == "session_ends").count(),
        1
    );
    log.verify();
}

#[test]
fn the_end_of_its_terminal_ends_a_mount() {
    const IN_TERMINAL: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b''
while sys.argv[3].encode() + b'\\r\\n' not in said:
    said += os.read(terminal, 1000)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let volume = Volume::new(Layout::ResourceFirst);
    let mountpoint = volume.base().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let mount = volume.mount_command(&mountpoint, &ALICE, &[]);
    let mut command = Command::new("python3");
    command.args(["-B", "-c", IN_TERMINAL]).arg(mount.get_program());
    command.args(mount.get_args()).env("TENANTFS_AUDIT_LOG", "none");
    assert_eq!(success(command, ""), "0\n");
    assert!(!common::is_mounted(&mountpoint));
}
