//! Names and records that speak to terminals and to shells.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tenantfs::escape::is_active;

use super::{ask, ends, said};
use crate::arena::{Arena, Due, tell};
use crate::common::sealing::KEY;
use crate::common::{ALICE, Layout, Volume, python, set_mode, shell};

/// Every active character, in each place where a tenant or the service can write it.
#[test]
fn nothing_that_others_wrote_acts_on_a_terminal() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.has_keys(KEY, &[KEY]);
    let keys = volume.sealing_keys_file();
    let active: Vec<char> = ('\u{1}'..='\u{2100}').filter(|c| is_active(*c)).collect();
    let evil: String = [
        "\u{1b}[31m",
        "\u{9b}2J",
        "\u{7f}",
        "\u{202e}",
        "\u{2066}",
        "\u{61c}",
        "\u{200f}",
        "\u{2028}",
        "\r\n",
    ]
    .concat();
    // The mount refuses control characters in names, and no others.
    let shown: String = active.iter().filter(|c| !c.is_control()).collect();
    let text =
        serde_json::json!({"user_id": "alice", "words": active.iter().collect::<String>()}).to_string();
    volume.plant(&ALICE, "schedules", &format!("{evil}.json"), &text);
    volume.plant(&ALICE, "schedules", &format!("{evil}.csv"), "x");
    volume.plant(&ALICE, "schedules", &format!("broken{evil}.json"), "{");
    let open = volume.plant(&ALICE, "schedules", &format!("open{evil}"), "x");
    set_mode(&open, 0o666);
    let arena = Arena::with(&volume, &["--sealing-keys", keys.to_str().unwrap()]);
    let code = "
import sys
evil = sys.argv[1]
open('schedules/%s.json' % evil, 'w').write('{\"api_key\": \"sk-\\\\u001b[2J\\\\u202e\"}')
try:
    f = open('schedules/%s-draft.json' % evil, 'w'); f.write('{'); f.close()
except OSError: pass
import os
open('schedules/%s-gone.json' % evil, 'w').write('{}'); os.remove('schedules/%s-gone.json' % evil)
";
    python(ALICE.uid, &arena.alice, code, &[&shown]);
    let sealing = ["--sealing-keys", keys.to_str().unwrap()];
    let to = volume.base().join("out");
    let to = to.to_str().unwrap();
    let alice = ["--user-id", "alice"];
    let id = format!("{shown}.json");
    let id = id.strip_suffix(".json").unwrap();
    let mut outputs = Vec::new();
    for args in [
        &["list", "--all", "--contents"][..],
        &["list", "--all", "--contents", "--json"],
        &[&["export", "--to", to], &alice[..]].concat(),
        &["verify"],
        &["reseal"],
        &["unseal", "alice", "schedules", id],
        &[&["removed"], &alice[..]].concat(),
        &[&["removed", "--json"], &alice[..]].concat(),
        &[&["drafts"], &alice[..]].concat(),
        &[&["drafts", "--json"], &alice[..]].concat(),
        &[&["restore", &format!("schedules/{evil}")], &alice[..]].concat(),
        &[&["erase", "--dry-run"], &alice[..]].concat(),
        &["list", "--user-id", &format!("nobody{shown}")],
        &["list", "--users-file", &format!("/nowhere/{evil}")],
        &[
            "export",
            "--user-id",
            "alice",
            "--to",
            &format!("/nowhere/{evil}/x"),
        ],
        &["verify", "--config", &format!("/nowhere/{evil}")],
    ] {
        outputs.push((
            format!("{args:?}"),
            said(&ask(&volume, &[args, &sealing].concat())),
        ));
    }
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["removed"],
        &["drafts", "--json"],
        &["audit", "mine"],
    ] {
        outputs.push((format!("{args:?}"), said(&arena.daemon.ask(ALICE.uid, args, ""))));
    }
    outputs.push(("the daemon's log".to_owned(), arena.daemon.log()));
    outputs.push((
        "the audit log".to_owned(),
        fs::read_to_string(arena.log.path()).unwrap(),
    ));
    let manifest = fs::read_to_string(format!("{to}/MANIFEST.sha256")).unwrap();
    outputs.push((
        "the comments of a manifest".to_owned(),
        manifest
            .lines()
            .filter(|line| line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n"),
    ));
    for (what, text) in &outputs {
        let acts = text.chars().find(|c| is_active(*c) && *c != '\n');
        assert_eq!(acts, None, "{what}: {text:?}");
        assert!(!text.is_empty(), "{what}");
    }
    // What is escaped means what it meant.
    let (_, listed) = &outputs[0];
    let lines: Vec<Value> = listed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let record = lines
        .iter()
        .find(|line| line["record"]["words"].is_string())
        .unwrap();
    assert_eq!(record["record"]["words"], active.iter().collect::<String>());
    let (_, refused) = &outputs[5];
    assert!(refused.contains("--raw prints it as it is"), "{refused}");
    let raw = ask(
        &volume,
        &[&["unseal", "alice", "schedules", id, "--raw"], &sealing[..]].concat(),
    );
    assert_eq!(raw.stdout, "sk-\u{1b}[2J\u{202e}\n".as_bytes());
    // A second run of the attack's words changes nothing of bob's.
    arena.case("words", Due::Nothing, || ());
    tell(
        "operator",
        "characters that act, each in every output",
        active.len(),
    );
}

/// What the operator is told to run, with names of a tenant's in it, runs that and nothing else.
#[test]
fn what_is_to_be_run_can_be_pasted_whatever_a_name_is() {
    let volume = Volume::new(Layout::ResourceFirst);
    let names = [
        "$(touch pwned)",
        "`touch pwned`",
        "'; touch pwned; '",
        "\"; touch pwned; \"",
        "a b",
        "-rf",
        "$HOME",
        "x\\",
        "*",
    ];
    for name in names {
        let path = volume.plant(&ALICE, "results", name, "x");
        set_mode(&path, 0o666);
    }
    let text = ends(&ask(&volume, &["verify"]), 6);
    let mut ran = 0;
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let finding: Value = serde_json::from_str(line).unwrap();
        let detail = finding["detail"].as_str().unwrap();
        let (_, remedy) = detail.split_once("run: ").unwrap();
        shell(0, &volume.root(), remedy);
        ran += 1;
    }
    assert_eq!(ran, names.len());
    assert!(!volume.root().join("pwned").exists());
    for name in names {
        let mode = volume
            .path(&ALICE, "results", name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o664, "{name}");
    }
    ends(&ask(&volume, &["verify"]), 0);
}
