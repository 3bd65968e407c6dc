//! What the service uses is found by the operator's commands; and a shell's `<(command)` is as good as a file.

use std::fs;
use std::process::{Command, Output};

use crate::common::daemon::{Daemon, reachable_program};
use crate::common::terminal::Terminal;
use crate::common::{ALICE, BOB, Layout, Volume, as_user, eventually, is_mounted, run, set_mode, tenantfs};
use crate::{stderr, stdout};

/// Runs a script where `/run/credstore` has the sealing keys, as systemd's units find them, and nothing else of the host is changed.
fn with_stored_keys(volume: &Volume, script: &str) -> Output {
    volume.has_keys("k1", &["k1"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    command.arg(format!(
        "mount -t tmpfs none /run; mkdir -m 700 /run/credstore; cp \"$KEYS\" /run/credstore/tenantfs.sealing-keys; \
         chmod 600 /run/credstore/tenantfs.sealing-keys; {script}"
    ));
    command.env("KEYS", volume.sealing_keys_file());
    command
        .env("T", env!("CARGO_BIN_EXE_tenantfs"))
        .env("V", volume.root());
    command.env("TENANTFS_AUDIT_LOG", "none").env("B", volume.base());
    run(command, "")
}

#[test]
fn the_sealing_keys_of_the_units_are_those_of_the_commands() {
    let volume = Volume::new(Layout::default());
    volume.has_keys("k1", &["k1"]);
    let keys = volume.sealing_keys_file();
    {
        let mount = volume.mount_with(&ALICE, &["--sealing-keys", keys.to_str().unwrap()]);
        mount.shell(r#"echo '{"api_key":"sk-of-alice"}' > schedules/x.json"#);
    }
    let output = with_stored_keys(
        &volume,
        "$T unseal alice schedules x --volume $V; $T verify --volume $V; $T reseal --volume $V",
    );
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stdout(&output), "sk-of-alice\n");
    // The active one is added to there, too; and the doctor says where they are from.
    let output = with_stored_keys(
        &volume,
        "$T keys rotate; $T doctor --volume $V --static-keys $B/static-keys.json | grep sealing",
    );
    assert!(
        stdout(&output).contains(", of /run/credstore/tenantfs.sealing-keys"),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    // Without them, as before, it is told that they are needed.
    let mut command = tenantfs();
    command
        .args(["unseal", "alice", "schedules", "x", "--volume"])
        .arg(volume.root());
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_audit_log_and_its_keys_are_found_in_the_config_file_with_what_logrotate_made_of_it() {
    let volume = Volume::new(Layout::default());
    volume.has_keys("k1", &["k1"]);
    let (log, keys) = (volume.audit_log(), volume.sealing_keys_file());
    let config = volume.base().join("config.toml");
    let text = format!("[audit]\npath = {log:?}\n[records]\nsealing_keys = {keys:?}\n");
    fs::write(&config, text).unwrap();
    let verify = |options: &[&str]| {
        let mut command = tenantfs();
        command
            .env_remove("TENANTFS_AUDIT_LOG")
            .args(["audit", "verify", "--config"])
            .arg(&config)
            .args(options);
        let output = run(command, "");
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, said) = verify(&[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("there is no audit log"), "{said}");
    let begun = || {
        let mut command = Daemon::command(&volume, &["--config", config.to_str().unwrap()]);
        command.env_remove("TENANTFS_AUDIT_LOG");
        Daemon::start_command(&volume, command)
    };
    let daemon = begun();
    daemon.login(&ALICE);
    // As logrotate does, twice, with compression.
    let rotate = |to: &str| {
        let is_written = || fs::metadata(&log).is_ok_and(|log| log.len() > 0);
        assert!(eventually(std::time::Duration::from_secs(5), is_written));
        fs::rename(&log, log.with_file_name(to)).unwrap();
        daemon.signal(rustix::process::Signal::HUP);
        daemon.asked(ALICE.uid, &["logout"], "");
        daemon.login(&ALICE);
        assert!(eventually(std::time::Duration::from_secs(5), || log.exists()));
    };
    rotate("audit.jsonl.2");
    rotate("audit.jsonl.1");
    let mut gzip = Command::new("gzip");
    gzip.arg(log.with_file_name("audit.jsonl.2"));
    assert!(run(gzip, "").status.success());
    drop(daemon);
    let (code, said) = verify(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("as they were written") && !said.contains("not signed") && !said.contains("NOT"),
        "{said}"
    );
    assert!(said.contains("lines, 1 to "), "{said}");
    // Each alone, compressed or not; and in other ways compressed, with what to do.
    let packed = log.with_file_name("audit.jsonl.2.gz");
    let (code, said) = verify(&[packed.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let other = log.with_file_name("audit.jsonl.3.zst");
    fs::write(&other, [0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap();
    let (code, said) = verify(&[other.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("zstd -dc"), "{said}");
    fs::remove_file(other).unwrap();
    // A changed line in the compressed file is found like any other.
    let mut change = Command::new("sh");
    change.args([
        "-ec",
        "zcat \"$1\" | sed '1s/ok/OK/' > \"$1.new\"; gzip -c \"$1.new\" > \"$1\"; rm \"$1.new\"",
        "sh",
    ]);
    change.arg(&packed);
    let changed = run(change, "");
    assert!(changed.status.success());
    let (code, said) = verify(&[]);
    assert_eq!(code, Some(6), "{said}");
    fs::write(&config, "[audit]\npath = \"journal\"\n").unwrap();
    let (code, said) = verify(&[]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("journalctl -o cat -t tenantfs-audit | tenantfs audit verify -"),
        "{said}"
    );
}

#[test]
fn what_the_journal_has_is_no_forgery_and_what_was_changed_in_it_is() {
    let volume = Volume::new(Layout::default());
    volume.has_keys("k1", &["k1"]);
    let keys = volume.sealing_keys_file();
    // Twice the same beginning: of a daemon, and of the one after it.
    let written = |name: &str| {
        let log = volume.audit_log().with_file_name(name);
        let daemon = Daemon::start(&volume, &["--audit-log", log.to_str().unwrap()]);
        daemon.login(&ALICE);
        daemon.asked(ALICE.uid, &["logout"], "");
        drop(daemon);
        fs::read_to_string(&log).unwrap()
    };
    let (first, second) = (written("first.jsonl"), written("second.jsonl"));
    let verify = |text: &str| {
        let mut command = tenantfs();
        command
            .args(["audit", "verify", "-", "--sealing-keys"])
            .arg(&keys);
        let output = run(command, text);
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    // As `journalctl -o cat` prints it, and as `journalctl` does.
    let short = |text: &str| {
        let lines = text
            .lines()
            .map(|line| format!("Nov 28 10:00:00 host tenantfs-audit[7]: {line}\n"));
        format!("-- Boot 0123456789abcdef --\n{}", lines.collect::<String>())
    };
    let both = format!("{first}{second}");
    for text in [first.clone(), short(&first), both.clone(), short(&both)] {
        let (code, said) = verify(&text);
        assert_eq!(code, Some(0), "{text}{said}");
        assert!(
            said.contains("as they were written") && !said.contains("NOT"),
            "{said}"
        );
    }
    assert!(verify(&both).1.contains("the log begins anew after line "));
    for text in [
        first.replacen("61001", "61003", 1),
        short(&first.replacen("61001", "61003", 1)),
    ] {
        assert_eq!(verify(&text).0, Some(6), "{text}");
    }
    let cut: Vec<_> = first.lines().collect();
    assert_eq!(
        verify(&format!("{}\n{second}", cut[1..].join("\n"))).0,
        Some(0),
        "from somewhere on"
    );
    assert_eq!(
        verify(&format!("{}\n{}\n", cut[0], cut.last().unwrap())).0,
        Some(if cut.len() > 2 { 6 } else { 0 })
    );
}

#[test]
fn a_shells_substitution_is_as_good_as_a_file() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let program = reachable_program(&volume);
    let mut command = as_user(ALICE.uid, volume.base(), "bash");
    command.args([
        "-c",
        "\"$0\" login --socket \"$1\" --api-key-file <(printf '%s' \"$2\")",
    ]);
    command.arg(&program).arg(daemon.socket()).arg(ALICE.api_key);
    let output = run(command, "");
    assert!(output.status.success(), "{}", stderr(&output));
    let mut command = as_user(BOB.uid, volume.base(), "bash");
    command.args([
        "-c",
        "TENANTFS_API_KEY_FILE=<(sleep 0.3; printf '%s' \"$2\") \"$0\" login --socket \"$1\"",
    ]);
    command.arg(&program).arg(daemon.socket()).arg(BOB.api_key);
    let output = run(command, "");
    // A variable's substitution lives no longer than its command line: where the shell has closed it, that is told.
    assert!(
        output.status.success() || stderr(&output).contains("/dev/fd/"),
        "{}",
        stderr(&output)
    );

    let place = volume.base().join("mnt-piped");
    fs::create_dir(&place).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "\"$0\" mount \"$1\" -d --uid 61001 --volume \"$2\" --static-keys <(sleep 0.2; cat \"$3\") --api-key-file <(sleep 0.2; cat \"$4\")"]);
    command
        .arg(env!("CARGO_BIN_EXE_tenantfs"))
        .arg(&place)
        .arg(volume.root());
    command
        .arg(volume.static_keys_file())
        .arg(volume.api_key_file(&ALICE))
        .env("TENANTFS_AUDIT_LOG", "none");
    let output = run(command, "");
    assert!(output.status.success(), "{}", stderr(&output));
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(eventually(std::time::Duration::from_secs(5), || !is_mounted(
        &place
    )));

    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "\"$0\" list --volume \"$1\" --users-file <(echo alice) --config <(echo)",
    ]);
    command
        .arg(env!("CARGO_BIN_EXE_tenantfs"))
        .arg(volume.root())
        .env("TENANTFS_AUDIT_LOG", "none");
    let output = run(command, "");
    assert!(
        stdout(&output).contains("\"user\":\"alice\""),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );

    // A FIFO that somebody else made is no file of keys: opening one must not wait.
    let fifo = volume.base().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    set_mode(&fifo, 0o600);
    let output = daemon.ask(
        0,
        &[
            "login",
            "--uid",
            "61001",
            "--api-key-file",
            fifo.to_str().unwrap(),
        ],
        "",
    );
    assert!(
        stderr(&output).contains("is not a regular file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bar_ends_at_100_percent_with_a_rate() {
    let volume = Volume::new(Layout::ResourceFirst);
    // One resource has everything, and the other nothing.
    for number in 0..250 {
        volume.plant(
            &ALICE,
            "schedules",
            &format!("{number}.json"),
            r#"{"user_id":"alice"}"#,
        );
    }
    for (name, options) in [
        ("verify", &[][..]),
        ("list", &["--usage", "--all"]),
        ("export", &["--user-id", "alice", "--to"]),
    ] {
        let mut command = tenantfs();
        command.arg(name).arg("--volume").arg(volume.root()).args(options);
        if name == "export" {
            command.arg("/root/tenantfs-test-export.tar.zst");
            let _ = fs::remove_file("/root/tenantfs-test-export.tar.zst");
        }
        let mut terminal = Terminal::start(&command, 120, 50);
        assert!(terminal.wait().success(), "{:#?}", terminal.lines());
        let lines = terminal.lines();
        let bar = lines.iter().find(|line| line.contains("100%"));
        assert!(
            bar.is_some_and(|bar| bar.contains("250 files, ") && bar.contains("/s")),
            "{name}: {lines:#?}"
        );
    }
    fs::remove_file("/root/tenantfs-test-export.tar.zst").unwrap();
}
