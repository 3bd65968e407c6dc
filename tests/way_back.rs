//! The way back, as users and operators go it: what was removed is listed and restored, drafts are listed and given up.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use common::audit::Log;
use common::auth::AuthService;
use common::daemon::{Daemon, reachable_program};
use common::sealing::KEY;
use common::{
    ALICE, BOB, Conversation, LAYOUTS, Layout, Tenant, Volume, as_user, eventually, run, shell, tenantfs,
};
use serde_json::{Value, json};

const GOOD: &str = r#"{"at":"02:00"}"#;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// It must fail so, for this reason.
fn fails(output: &Output, code: i32, why: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    assert!(said(output).contains(why), "{}", said(output));
    assert!(output.stdout.is_empty());
}

/// A daemon that seals secrets and keeps an audit log.
fn sealing<'v>(volume: &'v Volume, log: &Log, options: &[&str]) -> Daemon<'v> {
    volume.has_keys(KEY, &[KEY]);
    let keys = volume.sealing_keys_file();
    let sealing = [
        "--sealing-keys",
        keys.to_str().unwrap(),
        "--audit-log",
        log.path(),
    ];
    Daemon::start(volume, &[&sealing, options].concat())
}

/// A command of the client, run in a directory.
fn ask_in(daemon: &Daemon<'_>, volume: &Volume, directory: &Path, args: &[&str]) -> Output {
    let program = reachable_program(volume);
    let mut command = as_user(ALICE.uid, directory, program.to_str().unwrap());
    command.args(args).arg("--socket").arg(&daemon.socket);
    run(command, "")
}

/// An operator's command on the volume.
fn operate(volume: &Volume, log: &Log, args: &[&str]) -> Output {
    let mut command = tenantfs();
    command.args(args).arg("--volume").arg(volume.root());
    command.args(["--layout", &volume.layout.to_string(), "--audit-log", log.path()]);
    run(command, "")
}

fn paths(reply: &Value) -> Vec<String> {
    let (_, list) = reply.as_object().unwrap().iter().next().unwrap();
    let list = list.get("records").or(list.get("drafts")).unwrap();
    let path = |entry: &Value| entry["path"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(path).collect()
}

fn removed(daemon: &Daemon<'_>, tenant: &Tenant) -> Vec<String> {
    paths(&daemon.json(tenant.uid, &["removed"], ""))
}

fn drafts(daemon: &Daemon<'_>, tenant: &Tenant) -> Vec<String> {
    paths(&daemon.json(tenant.uid, &["drafts"], ""))
}

#[test]
fn a_removed_record_comes_back_as_it_was_and_to_its_user_only() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let log = Log::of(&volume);
        let daemon = sealing(&volume, &log, &[]);
        let (alices, _) = (daemon.login(&ALICE), daemon.login(&BOB));
        let make = r#"echo '{"at":"02:00","api_key":"sk-of-alice"}' > schedules/x.json
            chmod 640 schedules/x.json; touch -d '2020-01-02 03:04:05 UTC' schedules/x.json
            cat schedules/x.json; stat -c '%a %Y %s' schedules/x.json"#;
        let before = shell(ALICE.uid, &alices, make);
        shell(
            ALICE.uid,
            &alices,
            "ls schedules; rm schedules/x.json; ls schedules",
        );
        assert_eq!(
            volume
                .files(&ALICE)
                .iter()
                .filter(|path| path.ends_with("x.json"))
                .count(),
            0
        );

        let reply = daemon.json(ALICE.uid, &["removed"], "");
        let record = &reply["removed"]["records"][0];
        assert_eq!(record["path"], "schedules/x.json");
        assert_eq!(record["has_secret"], true);
        assert_eq!(record["size"], before.lines().next().unwrap().len() + 1);
        assert_eq!(reply["removed"]["more"], false);
        assert!(record["removed"].as_str() < record["until"].as_str());
        assert_eq!(record.as_object().unwrap().len(), 5);

        assert!(removed(&daemon, &BOB).is_empty());
        let restore = ["restore", "schedules/x.json"];
        fails(
            &daemon.ask(BOB.uid, &restore, ""),
            1,
            "nothing of this name was removed",
        );
        let alice = ALICE.uid.to_string();
        for args in [
            &["removed", "--uid", &alice][..],
            &["restore", "schedules/x.json", "--uid", &alice],
        ] {
            fails(&daemon.ask(BOB.uid, args, ""), 1, "only root may");
        }

        assert_eq!(daemon.asked(ALICE.uid, &restore, ""), "schedules/x.json\n");
        let look = "ls schedules; cat schedules/x.json; stat -c '%a %Y %s' schedules/x.json";
        assert_eq!(shell(ALICE.uid, &alices, look), format!("x.json\n{before}"));
        let secret = volume.opened(&ALICE, "schedules", "x.json", "api_key");
        assert_eq!(secret.as_deref(), Some("sk-of-alice"));
        assert!(removed(&daemon, &ALICE).is_empty());
        let line = log.wait("create schedules/x.json ok");
        assert!(line["reason"].as_str().unwrap().starts_with("restored"), "{line}");

        shell(ALICE.uid, &alices, "rm schedules/x.json");
        assert_eq!(
            daemon.json(0, &["restore", "schedules/x.json", "--uid", &alice], ""),
            json!({"restored": {"path": "schedules/x.json"}})
        );
    }
}

#[test]
fn what_can_be_restored_is_a_table_and_nothing_is_one_sentence() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    fails(&daemon.ask(ALICE.uid, &["removed"], ""), 1, "not logged in");
    let place = daemon.login(&ALICE);
    for (command, sentence) in [
        ("removed", "nothing that was removed can be restored\n"),
        ("drafts", "everything is saved: there is no draft\n"),
    ] {
        let output = daemon.ask(ALICE.uid, &[command], "");
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(said(&output), sentence);
    }
    let script = "echo '{}' > schedules/x.json; echo '{}' > 'results/a  b.json'
        rm schedules/x.json; sleep 0.05; rm results/*";
    shell(ALICE.uid, &place, script);
    let table = daemon.asked(ALICE.uid, &["removed"], "");
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("REMOVED") && lines[0].ends_with("PATH"),
        "{table}"
    );
    assert!(
        lines[1].contains(" s ago ") && lines[1].ends_with("  3 B   no      results/a  b.json"),
        "{table}"
    );
    assert!(lines[2].ends_with("schedules/x.json"), "{table}");
}

#[test]
fn with_nothing_kept_a_removed_record_is_gone() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &["--keep-removed", "0s"]);
    let place = daemon.login(&ALICE);
    shell(
        ALICE.uid,
        &place,
        "echo '{}' > schedules/x.json; rm schedules/x.json",
    );
    assert!(removed(&daemon, &ALICE).is_empty());
    let output = daemon.ask(ALICE.uid, &["restore", "schedules/x.json"], "");
    fails(&output, 1, "nothing of this name was removed");
}

#[test]
fn restoring_replaces_nothing() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    shell(
        ALICE.uid,
        &place,
        "echo '{\"n\":1}' > schedules/x.json; rm schedules/x.json",
    );
    // A draft in memory only: the volume has nothing of that name.
    shell(
        ALICE.uid,
        &place,
        "echo '{\"api_key\":\"sk-plain\"}' > schedules/x.json || true",
    );
    let restore = ["restore", "schedules/x.json"];
    fails(&daemon.ask(ALICE.uid, &restore, ""), 1, "a draft has this name");
    shell(
        ALICE.uid,
        &place,
        "mv schedules/x.json schedules/y.json; echo '{\"n\":2}' > schedules/x.json",
    );
    fails(&daemon.ask(ALICE.uid, &restore, ""), 1, "something has this name");
    let reply = daemon.json(ALICE.uid, &restore, "");
    assert_eq!(reply["error"]["code"], "exists");
    assert_eq!(shell(ALICE.uid, &place, "cat schedules/x.json"), "{\"n\":2}\n");
}

#[test]
fn of_a_removed_directory_each_record_comes_back() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let make = "mkdir -p schedules/a/b; echo '{\"n\":1}' > schedules/a/b/x.json; echo '{\"n\":2}' > schedules/a/y.json
        ls -R schedules >/dev/null; rm -rf schedules/a; ls schedules";
    assert_eq!(shell(ALICE.uid, &place, make), "");
    let mut waiting = removed(&daemon, &ALICE);
    waiting.sort();
    assert_eq!(waiting, ["schedules/a/b/x.json", "schedules/a/y.json"]);
    daemon.asked(ALICE.uid, &["restore", "schedules/a/b/x.json"], "");
    let look = "ls schedules schedules/a schedules/a/b | xargs; cat schedules/a/b/x.json";
    assert_eq!(
        shell(ALICE.uid, &place, look),
        "schedules: a schedules/a: b schedules/a/b: x.json\n{\"n\":1}\n"
    );
    daemon.asked(ALICE.uid, &["restore", "schedules/a/y.json"], "");
    assert_eq!(
        shell(ALICE.uid, &place, "ls schedules/a; cat schedules/a/y.json"),
        "b\ny.json\n{\"n\":2}\n"
    );
}

#[test]
fn a_path_is_taken_from_where_the_user_is() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let schedules = place.join("schedules");
    let whole = schedules.join("x.json");
    for (directory, path) in [
        (volume.base(), "schedules/x.json"),
        (volume.base(), whole.to_str().unwrap()),
        (&place, "./schedules/x.json"),
        (&schedules, "x.json"),
        (&schedules, "../schedules/x.json"),
        (&schedules, "schedules/x.json"),
    ] {
        shell(
            ALICE.uid,
            &place,
            "echo '{}' > schedules/x.json; rm schedules/x.json",
        );
        let output = ask_in(&daemon, &volume, directory, &["restore", path]);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "schedules/x.json\n",
            "{}",
            said(&output)
        );
    }
    for (path, code, why) in [
        ("/etc/passwd", 2, "is not below your view"),
        ("../../etc/passwd", 2, "is no path in the view"),
        ("schedules", 1, "no such file"),
        ("schedules/..json/x", 1, "nothing of this name was removed"),
        ("nowhere/x.json", 1, "no such resource"),
    ] {
        fails(
            &ask_in(&daemon, &volume, volume.base(), &["restore", path]),
            code,
            why,
        );
    }
}

#[test]
fn a_discarded_draft_shows_at_once_what_was_last_saved() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    // One that the volume keeps, one that only memory may have, and one that was never saved.
    let make = format!(
        "for name in kept memory; do echo '{GOOD}' > schedules/$name.json; done
         echo '{{\"broken\":' > schedules/kept.json || true; echo '{{\"api_key\":\"sk-plain\"}}' > schedules/memory.json || true
         echo '{{\"api_key\":\"sk-plain\"}}' > schedules/new.json || true; ls schedules"
    );
    assert_eq!(
        shell(ALICE.uid, &place, &make),
        "kept.json\nmemory.json\nnew.json\n"
    );
    assert_eq!(
        drafts(&daemon, &ALICE),
        [
            "schedules/kept.json",
            "schedules/memory.json",
            "schedules/new.json"
        ]
    );
    let table = daemon.asked(ALICE.uid, &["drafts"], "");
    for line in [
        "schedules/kept.json    the text breaks off",
        "schedules/memory.json  the member \"api_key\" is a secret",
    ] {
        assert!(table.contains(line), "{table}");
    }

    let read = "import os, sys\nfiles = [open('schedules/kept.json'), open('schedules/memory.json')]\n\
        print('open', flush=True); input()\nprint([os.pread(f.fileno(), 99, 0).decode() for f in files], flush=True); input()";
    let mut reader = Conversation::start_in(ALICE.uid, &place, read);
    assert_eq!(reader.next(), "open");
    for name in ["kept", "memory", "new"] {
        let path = format!("schedules/{name}.json");
        assert_eq!(
            daemon.asked(ALICE.uid, &["drafts", "--discard", &path], ""),
            format!("{path}\n")
        );
        fails(
            &daemon.ask(ALICE.uid, &["drafts", "--discard", &path], ""),
            1,
            "no draft of this name",
        );
    }
    let look = "ls schedules; cat schedules/*.json; stat -c %s schedules/*.json";
    let size = GOOD.len() + 1;
    assert_eq!(
        shell(ALICE.uid, &place, look),
        format!("kept.json\nmemory.json\n{GOOD}\n{GOOD}\n{size}\n{size}\n")
    );
    assert_eq!(reader.say(""), format!("['{GOOD}\\n', '{GOOD}\\n']"));
    drop(reader);
    assert!(drafts(&daemon, &ALICE).is_empty());
    shell(
        ALICE.uid,
        &place,
        "echo '{\"n\":3}' > schedules/memory.json; cat schedules/memory.json",
    );
}

#[test]
fn a_draft_that_is_being_written_is_not_given_up() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let write = "f = open('schedules/x.json', 'w'); f.write('{\"half\":'); f.flush(); print('written', flush=True); input()\n\
        f.write('1}'); f.close(); print('closed', flush=True); input()";
    let mut writer = Conversation::start_in(ALICE.uid, &place, write);
    assert_eq!(writer.next(), "written");
    let discard = ["drafts", "--discard", "schedules/x.json"];
    fails(&daemon.ask(ALICE.uid, &discard, ""), 1, "open for writing");
    assert_eq!(daemon.json(ALICE.uid, &discard, "")["error"]["code"], "busy");
    assert_eq!(writer.say(""), "closed");
    assert_eq!(shell(ALICE.uid, &place, "cat schedules/x.json"), "{\"half\":1}");
}

#[test]
fn a_record_removed_under_its_draft_comes_back_as_it_was_saved() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let script = format!(
        "echo '{GOOD}' > schedules/x.json; echo '{{\"api_key\":\"sk-plain\"}}' > schedules/x.json || true
         cat schedules/x.json; rm schedules/x.json; ls schedules"
    );
    assert_eq!(shell(ALICE.uid, &place, &script), "{\"api_key\":\"sk-plain\"}\n");
    daemon.asked(ALICE.uid, &["restore", "schedules/x.json"], "");
    assert_eq!(
        shell(ALICE.uid, &place, "ls schedules; cat schedules/x.json"),
        format!("x.json\n{GOOD}\n")
    );
    assert!(drafts(&daemon, &ALICE).is_empty());
}

#[test]
fn a_suspended_session_lists_and_restores_nothing() {
    let volume = Volume::new(Layout::default());
    let service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let daemon = Daemon::start(
        &volume,
        &["--auth-url", service.url(), "--lease", "1s", "--grace", "0s"],
    );
    let place = daemon.login(&ALICE);
    shell(
        ALICE.uid,
        &place,
        "echo '{}' > schedules/x.json; rm schedules/x.json",
    );
    service.pause();
    assert!(eventually(Duration::from_secs(20), || daemon.state(ALICE.uid) == "suspended"));
    for args in [&["removed"][..], &["drafts"], &["restore", "schedules/x.json"]] {
        fails(&daemon.ask(ALICE.uid, args, ""), 4, "suspended");
    }
    service.resume();
    assert!(eventually(Duration::from_secs(20), || daemon.state(ALICE.uid) == "active"));
    daemon.asked(ALICE.uid, &["restore", "schedules/x.json"], "");
}

#[test]
fn an_operator_brings_back_what_any_user_removed() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let log = Log::of(&volume);
        let daemon = sealing(&volume, &log, &[]);
        let place = daemon.login(&ALICE);
        let script = r#"echo '{"api_key":"sk-of-alice"}' > schedules/x.json; ls schedules >/dev/null; rm schedules/x.json
            echo '{}' > schedules/y.json; echo '{"broken":' > schedules/y.json || true"#;
        shell(ALICE.uid, &place, script);
        let alice = ["--user-id", "alice"];
        let json = |args: &[&str]| -> Value {
            let output = operate(&volume, &log, &[args, &alice, &["--json"]].concat());
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
        };
        assert_eq!(json(&["removed"]), daemon.json(ALICE.uid, &["removed"], ""));
        assert_eq!(
            json(&["drafts"])["drafts"]["drafts"][0]["path"],
            "schedules/y.json"
        );

        assert_eq!(
            json(&["restore", "schedules/x.json"]),
            json!({"restored": {"path": "schedules/x.json"}})
        );
        assert_eq!(json(&["restore", "schedules/x.json"])["error"]["code"], "exists");
        assert_eq!(
            json(&["drafts", "--discard", "schedules/y.json"])["discarded"]["path"],
            "schedules/y.json"
        );
        let secret = volume.opened(&ALICE, "schedules", "x.json", "api_key");
        assert_eq!(secret.as_deref(), Some("sk-of-alice"));
        // The mount shows it within the time that it takes for any change of others.
        let shown = || shell(ALICE.uid, &place, "cd schedules; ls; cat y.json");
        assert!(
            eventually(Duration::from_secs(3), || shown() == "x.json\ny.json\n{}\n"),
            "{}",
            shown()
        );
        let outcomes = |op: &str| {
            let lines = log.like(&format!("{op} * *"));
            let text = |line: &Value| {
                [&line["user"], &line["outcome"]].map(|text| text.as_str().unwrap().to_owned())
            };
            lines.iter().map(text).collect::<Vec<_>>()
        };
        let line = |outcome: &str| [ALICE.hash.to_owned(), outcome.to_owned()];
        assert_eq!(
            outcomes("restore"),
            [line("ok"), line("ok"), line("ok"), line("EEXIST")]
        );
        assert_eq!(outcomes("discard"), [line("ok"), line("ok")]);
        log.verify();
    }
}

#[test]
fn an_operator_is_told_why_nothing_comes_back() {
    let volume = Volume::new(Layout::default());
    let log = Log::of(&volume);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    let ask = |args: &[&str]| operate(&volume, &log, args);
    let empty = ask(&["removed", "--user-id", "alice"]);
    assert!(
        empty.status.success() && empty.stdout.is_empty(),
        "{}",
        said(&empty)
    );
    let restore = ["restore", "schedules/x.json", "--user-id"];
    for command in [&["removed", "--user-id"][..], &["drafts", "--user-id"], &restore] {
        fails(
            &ask(&[command, &["nobody"]].concat()),
            1,
            "no directory of this user",
        );
    }
    assert_eq!(
        fs::read_dir(volume.root().join("schedules")).unwrap().count(),
        1,
        "none is made"
    );
    for (args, code, why) in [
        (
            &["restore", "schedules/x.json", "--user-id", "alice"][..],
            1,
            "something has this name",
        ),
        (
            &["restore", "schedules/y.json", "--user-id", "alice"],
            1,
            "nothing of this name was removed",
        ),
        (
            &["restore", "nowhere/y.json", "--user-id", "alice"],
            1,
            "no such resource",
        ),
        (
            &["restore", "/etc/passwd", "--user-id", "alice"],
            2,
            "is no path in the view",
        ),
        (
            &["drafts", "--discard", "schedules/x.json", "--user-id", "alice"],
            1,
            "no draft of this name",
        ),
        (
            &["removed", "--user-id", "alice", "--uid", "7"],
            2,
            "cannot be used with",
        ),
        (&["removed", "--user-id", ""], 2, "the user id is empty"),
    ] {
        fails(&ask(args), code, why);
    }
    let journal =
        tenantfs::store::erasure_journal(&tenantfs::identity::UserId::new("alice").unwrap().full_hash());
    fs::write(volume.root().join(&journal), "").unwrap();
    for command in [
        &["removed", "--user-id", "alice"][..],
        &[&restore[..], &["alice"]].concat(),
    ] {
        fails(&ask(command), 1, "being erased");
    }
    fs::remove_file(volume.root().join(&journal)).unwrap();
    fs::write(
        volume.root().join(".tenantfs-layout"),
        r#"{"layout":"user-first"}"#,
    )
    .unwrap();
    fails(&ask(&["removed", "--user-id", "alice"]), 2, "user-first");
}
