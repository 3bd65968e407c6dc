//! What an operator does to a whole volume: list, export, erase, migrate, repair.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;
mod erase;
mod export;
mod list;
mod migrate;
mod repair;
mod unreadable;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::daemon::Daemon;
use common::{ALICE, BOB, Layout, SERVICE_UID, Volume, run, set_mode, success, tenantfs};
use serde_json::Value;

/// In everything of alice's, and in nothing of anybody else's.
const SENTINEL: &str = "words-of-alice-alone";

/// Two user ids with the same hash: found by search.
const COLLIDING: [&str; 2] = ["u28e7627cc5ab20b0", "u8c0ca16042c103c3"];

fn command(volume: &Volume, name: &str, options: &[&str]) -> Command {
    let mut command = tenantfs();
    command.env("TENANTFS_LOG", "error").arg(name);
    command.args(["--audit-log", volume.audit_log().to_str().unwrap(), "--volume"]);
    command.arg(volume.root()).args(options);
    if name != "migrate" {
        command.args(["--layout", &volume.layout.to_string()]);
    }
    command
}

fn ask(volume: &Volume, name: &str, options: &[&str]) -> Output {
    run(command(volume, name, options), "")
}

/// It must succeed.
fn asked(volume: &Volume, name: &str, options: &[&str]) -> String {
    let output = ask(volume, name, options);
    assert!(
        output.status.success(),
        "{}\n{}",
        stdout(&output),
        stderr(&output)
    );
    stdout(&output)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn audited(volume: &Volume, op: &str) -> Vec<Value> {
    let text = fs::read_to_string(volume.audit_log()).unwrap_or_default();
    let mut lines = json_lines(&text);
    lines.retain(|line| line["op"] == op);
    lines
}

fn record_of(user: &str, number: usize) -> String {
    format!(
        r#"{{ "n" : {number}, "api_key":"sk-{user}", "user_id" : "{user}" , "words":"words-of-{user}-alone"}}"#
    )
}

/// Every regular file below a directory, with what it has.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => pending.push(entry.path()),
                false => {
                    let path = entry.path().strip_prefix(directory).unwrap().to_owned();
                    files.insert(path, fs::read(entry.path()).unwrap());
                }
            }
        }
    }
    files
}

/// Everything of alice's and of neighbours: bob, and two users of one hash.
fn populate(volume: &Volume, records: usize) {
    for number in 0..records {
        volume.plant(
            &ALICE,
            "schedules",
            &format!("{number}.json"),
            record_of("alice", number),
        );
    }
    volume.plant(&ALICE, "results", "sub/x.json", record_of("alice", 0));
    volume.plant(&ALICE, "results", "sub/plot.svg", SENTINEL);
    volume.plant(&BOB, "schedules", "lost.json", record_of("alice", 0));
    volume.plant(&BOB, "schedules", "own.json", record_of("bob", 0));
    for user in COLLIDING {
        volume.service(
            &["save", user, "results", user],
            &format!(r#"{{"words":"{user}"}}"#),
        );
    }
}

fn erased(volume: &Volume, options: &[&str]) -> Output {
    let socket = Daemon::socket_of(volume);
    let options = [
        &["--yes", "--json", "--socket", socket.to_str().unwrap()],
        options,
    ]
    .concat();
    ask(volume, "erase", &options)
}

/// A small disk at `place`, which is the service's. Dropped, it is unmounted.
fn small_disk(place: &Path) -> common::OtherMount {
    fs::create_dir(place).unwrap();
    let mut command = Command::new("mount");
    let options = format!("size=128k,uid={SERVICE_UID},gid={SERVICE_UID},mode=0750");
    command.args(["-t", "tmpfs", "-o", &options, "small"]).arg(place);
    success(command, "");
    common::OtherMount {
        place: place.to_owned(),
    }
}

#[test]
fn a_full_disk_ends_an_export_and_a_copy_with_a_clear_error() {
    let volume = Volume::new(Layout::default());
    for number in 0..20 {
        volume.plant(&ALICE, "results", &format!("{number}.bin"), vec![number; 50_000]);
    }
    volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
    let before = files(&volume.root());
    let small = small_disk(&volume.base().join("small"));
    let place = small.place.to_str().unwrap();
    for (name, options) in [
        (
            "export",
            [
                "--user-id",
                "alice",
                "--to",
                &format!("{place}/out"),
                "--json",
                "--json",
            ]
            .as_slice()[..4]
                .to_vec(),
        ),
        (
            "migrate",
            vec![
                "--from",
                "resource-first",
                "--to",
                "user-first",
                "--to-volume",
                place,
            ],
        ),
    ] {
        let output = ask(&volume, name, &options);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains("No space left"), "{}", stderr(&output));
        assert_eq!(files(&volume.root()), before);
    }
}

#[test]
fn a_directory_that_cannot_be_read_is_said_and_the_rest_is_done() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "sub/x.json", record_of("alice", 1));
    volume.plant(&ALICE, "schedules", "y.json", record_of("alice", 2));
    let closed = volume.path(&ALICE, "schedules", "sub");
    set_mode(&closed, 0o000);
    let listed = ask(&volume, "list", &["--all"]);
    let exported = ask(
        &volume,
        "export",
        &[
            "--user-id",
            "alice",
            "--to",
            volume.base().join("out").to_str().unwrap(),
        ],
    );
    let erased = erased(&volume, &["--user-id", "alice"]);
    for (what, output) in [("list", &listed), ("export", &exported), ("erase", &erased)] {
        assert_eq!(output.status.code(), Some(6), "{what}: {}", stderr(output));
        assert!(
            stderr(output).contains("schedules/2bd806c97f0e00af/sub"),
            "{what}: {}",
            stderr(output)
        );
    }
    assert_eq!(json_lines(&stdout(&listed))[0]["id"], "y");
    assert!(volume.base().join("out/schedules/y.json").exists());
    assert!(
        volume.path(&ALICE, "schedules", "y.json").exists(),
        "all is erased, or nothing"
    );
    set_mode(&closed, 0o750);
}
