//! `tenantfs doctor` looks from where the server is, too, and is right every time.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::daemon::Daemon;
use crate::common::mounter::MounterService;
use crate::common::terminal::Terminal;
use crate::common::{ALICE, Layout, Volume, run, set_mode, skip, success, tenantfs};
use crate::{stderr, stdout};

fn doctor_command(volume: &Volume, options: &[&str]) -> Command {
    let daemon = Daemon::command(volume, options);
    let mut command = tenantfs();
    command.arg("doctor").args(daemon.get_args().skip(1));
    command
}

fn doctor(volume: &Volume, options: &[&str]) -> Output {
    run(doctor_command(volume, options), "")
}

/// A finding, from here (`checks`) or from the server, as (ok, message, mend).
fn finding(output: &Output, from: &str, check: &str) -> (bool, String, String) {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = report[from]
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {report}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (found["ok"].as_bool().unwrap(), text("message"), text("mend"))
}

#[test]
fn forty_times_in_a_row_beside_a_mounter_nothing_is_wrong() {
    let volume = Volume::new(Layout::default());
    let mounter = MounterService::start(&volume);
    let options = ["--mounter", mounter.socket.to_str().unwrap()];
    let _daemon = Daemon::start(&volume, &options);
    for round in 0..40 {
        let output = doctor(&volume, &options);
        assert!(
            output.status.success(),
            "{round}: {}{}",
            stdout(&output),
            stderr(&output)
        );
    }
}

#[test]
fn what_only_the_server_meets_is_told_as_the_servers() {
    let volume = Volume::new(Layout::default());
    // A mount namespace of its own, as a unit's sandbox is.
    let inner = Daemon::command(&volume, &[]);
    let mut command = Command::new("unshare");
    command
        .env("TENANTFS_LOG", "debug")
        .env("TENANTFS_AUDIT_LOG", "none");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    let script = "mount --bind \"$V\" \"$V\" && exec \"$0\" \"$@\"";
    command
        .arg(script)
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env("V", volume.root());
    let daemon = Daemon::start_command(&volume, command);
    let output = doctor(&volume, &["--json"]);
    assert!(output.status.success(), "{}", stdout(&output));
    for check in [
        "program", "config", "sandbox", "landlock", "limits", "volume", "clock", "sealing", "auth", "quota",
        "audit", "sessions",
    ] {
        assert!(finding(&output, "server", check).0, "{check}");
    }
    assert!(finding(&output, "server", "sandbox").1.contains("no capability"));

    let server = daemon.pid().as_raw_nonzero().to_string();
    let mut remount = Command::new("nsenter");
    remount
        .args(["-t", &server, "-m", "mount", "-o", "remount,bind,ro"])
        .arg(volume.root());
    success(remount, "");
    let output = doctor(&volume, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        finding(&output, "checks", "volume").0,
        "from here it can be written"
    );
    let (ok, said, _) = finding(&output, "server", "volume");
    assert!(!ok && said.contains("ReadWritePaths="), "{said}");
    let text = stdout(&doctor(&volume, &[]));
    let (here, there) = text.split_once("as the running server sees it:\n").unwrap();
    assert!(
        here.contains("ok       volume") && there.contains("problem  volume"),
        "{text}"
    );
    let mut remount = Command::new("nsenter");
    remount
        .args(["-t", &server, "-m", "mount", "-o", "remount,bind,rw"])
        .arg(volume.root());
    success(remount, "");
}

#[test]
fn what_was_changed_since_the_server_began_is_told() {
    let volume = Volume::new(Layout::default());
    let config = volume.base().join("config.toml");
    fs::write(&config, "[auth]\nlease = \"60s\"\n").unwrap();
    let options = ["--json", "--config", config.to_str().unwrap()];
    let daemon = Daemon::start(&volume, &options[1..]);
    assert!(doctor(&volume, &options).status.success());
    fs::write(&config, "[auth]\nlease = \"30s\"\n").unwrap();
    let (ok, said, mend) = finding(&doctor(&volume, &options), "server", "config");
    assert!(
        !ok && said.contains("was changed since") && mend.contains("systemctl restart"),
        "{said}"
    );
    fs::write(&config, "[auth]\nlaese = 1").unwrap();
    let (ok, said, mend) = finding(&doctor(&volume, &options), "server", "config");
    assert!(
        !ok && said.contains("laese") && mend.contains("daemon --check"),
        "{said}: {mend}"
    );
    daemon.login(&ALICE);
    assert!(
        finding(&doctor(&volume, &options), "server", "sessions")
            .1
            .contains("1 session, active")
    );
}

#[test]
fn without_a_server_it_says_so_and_looks_from_here_alone() {
    let volume = Volume::new(Layout::default());
    set_mode(&volume.static_keys_file(), 0o644);
    let output = doctor(&volume, &["--json"]);
    let (ok, said, mend) = finding(&output, "checks", "daemon");
    assert!(
        !ok && said.contains("nobody listens") && mend.contains("journalctl -u tenantfs"),
        "{said}"
    );
    assert!(finding(&output, "checks", "volume").0);
    assert!(
        serde_json::from_slice::<Value>(&output.stdout)
            .unwrap()
            .get("server")
            .is_none()
    );
}

#[test]
fn verdicts_have_colours_on_a_terminal_and_nowhere_else() {
    let volume = Volume::new(Layout::default());
    let _daemon = Daemon::start(&volume, &[]);
    let coloured = |command: &Command| {
        let mut terminal = Terminal::start(command, 200, 50);
        terminal.wait();
        assert!(
            terminal
                .lines()
                .iter()
                .any(|line| line.starts_with("ok       volume"))
        );
        terminal.formatted().contains("\u{1b}[32mok")
    };
    let mut command = doctor_command(&volume, &[]);
    assert!(coloured(&command));
    command.env("NO_COLOR", "1");
    assert!(!coloured(&command));
    assert!(!stdout(&doctor(&volume, &[])).contains('\u{1b}'));
}

#[test]
fn sealing_keys_that_a_unit_could_not_read_are_no_good_where_there_is_one() {
    let units = ["/usr/lib/systemd/system", "/etc/systemd/system"];
    let Some(units) = units.iter().find(|units| fs::exists(units).unwrap()) else {
        return skip("this host has no directory of systemd's units");
    };
    let volume = Volume::new(Layout::default());
    volume.has_keys("k1", &["k1"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    let script = "mount -t tmpfs none $UNITS; [ -z \"$UNIT\" ] || touch $UNITS/tenantfs.service
                  \"$0\" doctor --json --volume \"$V\" --static-keys \"$K\" --sealing-keys \"$S\"";
    command.arg(script).arg(env!("CARGO_BIN_EXE_tenantfs"));
    set_mode(&volume.static_keys_file(), 0o644);
    command
        .env("UNITS", units)
        .env("V", volume.root())
        .env("K", volume.static_keys_file());
    command
        .env("S", volume.sealing_keys_file())
        .env("TENANTFS_AUDIT_LOG", "none");
    let looked = |unit: &str| {
        let mut once = Command::new(command.get_program());
        once.args(command.get_args());
        command
            .get_envs()
            .for_each(|(name, value)| _ = once.env(name, value.unwrap()));
        run(
            {
                once.env("UNIT", unit);
                once
            },
            "",
        )
    };
    // Root reads them, and so does a daemon that root starts by hand.
    assert!(finding(&looked(""), "checks", "sealing").0);
    let (ok, said, mend) = finding(&looked("1"), "checks", "sealing");
    assert!(
        !ok && said.contains("tenantfs.service reads the sealing keys as its own account"),
        "{said}"
    );
    assert!(mend.contains("/etc/credstore/tenantfs.sealing-keys"), "{mend}");
}
