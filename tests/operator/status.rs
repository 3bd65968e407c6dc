//! `tenantfs status`: who is logged in, why not, and what a script makes of it.

use std::thread;
use std::time::Duration;

use crate::common::auth::AuthService;
use crate::common::daemon::Daemon;
use crate::common::terminal::Terminal;
use crate::common::{ALICE, BOB, Layout, Volume, eventually, shell, tenantfs};
use crate::stdout;

#[test]
fn many_sessions_are_a_table_and_what_is_wrong_stands_below() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &["--quota-bytes", "1GiB"]);
    let place = daemon.login(&ALICE);
    daemon.login(&BOB);
    shell(ALICE.uid, &place, "echo '{\"n\":' > schedules/x.json || :");
    let shown = daemon.asked(0, &["status"], "");
    let lines: Vec<_> = shown.lines().collect();
    let cells = |line: &str| {
        line.split("  ")
            .filter(|cell| !cell.is_empty())
            .map(str::trim)
            .collect::<Vec<_>>()
            .join("|")
    };
    assert_eq!(
        cells(lines[0]),
        "USER|UID|USER ID|STATE|KEY GOOD FOR|SINCE|OPEN|NOT SAVED|QUOTA"
    );
    let alice = cells(lines[1]);
    assert!(
        alice.starts_with("61001|61001|alice|active|") && alice.contains(" s ago|0|1|"),
        "{shown}"
    );
    assert!(
        cells(lines[2]).contains("|bob|active|") && cells(lines[2]).contains("|0|-|"),
        "{shown}"
    );
    assert!(
        lines[3].starts_with("uid 61001: not saved: schedules/x.json: the text breaks off"),
        "{shown}"
    );
    assert_eq!(lines.len(), 4);
    // To who asks of one, or has one, it is told in full.
    for shown in [
        daemon.asked(0, &["status", "--uid", "61002"], ""),
        daemon.asked(BOB.uid, &["status"], ""),
    ] {
        assert!(
            shown.starts_with(daemon.place(BOB.uid).to_str().unwrap()),
            "{shown}"
        );
        assert!(
            shown.contains(" s ago (20")
                && shown.contains("lease       active: the key is good for another "),
            "{shown}"
        );
    }
    // Colours are for terminals.
    assert!(!shown.contains('\u{1b}'));
    let mut command = tenantfs();
    command.args(["status", "--socket"]).arg(daemon.socket());
    let mut terminal = Terminal::start(&command, 120, 24);
    assert!(terminal.wait().success());
    assert!(terminal.formatted().contains('\u{1b}') && terminal.lines()[1].contains("active"));
}

#[test]
fn why_a_session_ended_is_told_after_it_has_and_a_script_reads_it_from_the_exit_code() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[ALICE, BOB].map(|tenant| (tenant.user, tenant.api_key)));
    let daemon = Daemon::start(
        &volume,
        &["--auth-url", service.url(), "--lease", "1s", "--grace", "1s"],
    );
    let asked = |uid: u32, args: &[&str]| {
        let output = daemon.ask(uid, args, "");
        (output.status.code().unwrap(), stdout(&output))
    };
    assert_eq!(
        asked(ALICE.uid, &["status"]),
        (1, "you are not logged in\n".to_owned())
    );
    daemon.login(&ALICE);
    daemon.login(&BOB);
    assert_eq!(asked(ALICE.uid, &["status"]).0, 0);

    daemon.asked(0, &["revoke", "--uid", "61002"], "");
    let (code, said) = asked(BOB.uid, &["status"]);
    assert_eq!(code, 1);
    assert!(
        said.starts_with("you are not logged in: the last session ended ")
            && said.ends_with(" s ago: revoked\n"),
        "{said}"
    );
    let said = daemon.json(0, &["status", "--uid", "61002"], "");
    assert_eq!(said["last_end"]["why"], "revoked");
    assert_eq!(said["last_end"]["user_id"], "bob");
    assert_eq!(said["sessions"], serde_json::json!([]));
    // Nobody is told of others.
    assert_eq!(asked(BOB.uid, &["status", "--uid", "61001"]).0, 1);
    assert!(!asked(BOB.uid, &["status", "--uid", "61001"]).1.contains("alice"));

    service.kill();
    assert!(eventually(Duration::from_secs(10), || daemon.state(ALICE.uid) == "suspended"));
    let (code, said) = asked(ALICE.uid, &["status"]);
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("suspended: ")
            && said.contains("cannot be reached")
            && said.contains("comes back by itself"),
        "{said}"
    );
    // Of everybody there is nothing to be said in one number.
    assert_eq!(asked(0, &["status"]).0, 0);
    service.restart();
    assert!(eventually(Duration::from_secs(10), || daemon.state(ALICE.uid) == "active"));
    assert!(!asked(ALICE.uid, &["status"]).1.contains("cannot be reached"));

    service.revoke(ALICE.api_key);
    assert!(eventually(Duration::from_secs(10), || daemon.state(ALICE.uid) == "none"));
    let (code, said) = asked(ALICE.uid, &["status"]);
    assert_eq!(code, 3);
    assert!(
        said.contains("the last session ended ") && said.contains("refused the API key"),
        "{said}"
    );
    daemon.ask(0, &["login", "--uid", "61002"], BOB.api_key);
    daemon.asked(BOB.uid, &["logout"], "");
    assert!(asked(BOB.uid, &["status"]).1.ends_with("logged out\n"));
}

#[test]
fn watching_shows_what_is_new_until_it_is_ended() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let mut command = tenantfs();
    command
        .args(["status", "--watch=1", "--socket"])
        .arg(daemon.socket());
    let mut terminal = Terminal::start(&command, 120, 24);
    terminal.shows("alice alone", |lines| {
        lines.iter().any(|line| line.contains("user        alice"))
    });
    daemon.login(&BOB);
    terminal.shows("a table of two", |lines| {
        lines[0].starts_with("USER") && lines[2].contains("bob")
    });
    thread::sleep(Duration::from_secs(1));
    assert!(
        terminal.lines()[0].starts_with("USER"),
        "each stands where the one before stood"
    );
    terminal.types("\u{3}");
    assert!(!terminal.wait().success());
}
