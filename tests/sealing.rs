//! Secrets sealed on the volume: what a user writes, what the volume has, what becomes of it; and what a sealing keys file
//! or a sealed value that is not in order leads to.

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
use std::process::{Command, Output};

use common::daemon::Daemon;
use common::sealing::KEY;
use common::{ALICE, BOB, LAYOUTS, Mount, SERVICE_UID, Volume, run, set_mode, success, tenantfs};
use serde_json::Value;
use tenantfs::layout::Layout;
use tenantfs::seal::SealingKeys;

/// What a user writes, and nobody is to find.
const SECRET: &str = "sk-written-by-alice";

fn volume() -> Volume {
    Volume::new(Layout::ResourceFirst)
}

/// What writing `text` to a record meets, as `cat > path` does it: `ok`, or an errno's name.
fn write(mount: &Mount<'_>, path: &str, text: &str) -> String {
    mount.errno(&format!(
        "f = os.open({path:?}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666); os.write(f, {text:?}.encode()); os.close(f)"
    ))
}

/// Whether some file of the volume has these bytes, whatever it is called.
fn on_volume(volume: &Volume, bytes: &str) -> bool {
    let files = volume.files(&ALICE);
    files.iter().any(|file| {
        let content = fs::read(volume.root().join(file)).unwrap();
        content.windows(bytes.len()).any(|part| part == bytes.as_bytes())
    })
}

/// The files of the volume that hold drafts.
fn drafts(volume: &Volume) -> Vec<PathBuf> {
    let is_draft = |file: &PathBuf| file.to_str().unwrap().contains(".tenantfs-draft-");
    let files = volume.files(&ALICE).into_iter().filter(is_draft);
    files.map(|file| volume.root().join(file)).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn keys_command(args: &[&str]) -> Command {
    let mut command = tenantfs();
    command.env_remove("TENANTFS_LOG").arg("keys").args(args);
    command
}

#[test]
fn generated_keys_are_their_owners_alone_and_are_never_overwritten() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("seal.json");
    let shown = file.to_str().unwrap();
    let output = run(keys_command(&["generate", shown]), "");
    assert!(output.status.success(), "{}", said(&output));
    let kid = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(SealingKeys::load(&file).unwrap().active(), kid.trim_end());
    assert!(said(&output).contains("--sealing-keys"), "{}", said(&output));
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    let before = fs::read(&file).unwrap();
    let again = run(keys_command(&["generate", shown]), "");
    assert_eq!(again.status.code(), Some(2));
    assert!(
        said(&again).contains("exists") && said(&again).lines().count() == 1,
        "{}",
        said(&again)
    );
    assert_eq!(fs::read(&file).unwrap(), before);
    // The variable that names it for the servers does so here.
    let mut elsewhere = keys_command(&["generate"]);
    elsewhere.env("TENANTFS_SEALING_KEYS", directory.path().join("second.json"));
    success(elsewhere, "");
    let config = directory.path().join("config.toml");
    let third = directory.path().join("third.json");
    fs::write(&config, format!("[records]\nsealing_keys = {third:?}\n")).unwrap();
    success(
        keys_command(&["generate", "--config", config.to_str().unwrap()]),
        "",
    );
    success(
        keys_command(&["rotate", "--config", config.to_str().unwrap()]),
        "",
    );
    assert_eq!(
        entries(directory.path()),
        ["config.toml", "seal.json", "second.json", "third.json"]
    );
    fs::write(&config, "").unwrap();
    let unnamed = run(
        keys_command(&["rotate", "--config", config.to_str().unwrap()]),
        "",
    );
    assert_eq!(unnamed.status.code(), Some(2));
    assert!(
        said(&unnamed).contains("records.sealing_keys"),
        "{}",
        said(&unnamed)
    );
}

/// The names in a directory, sorted.
fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn rotating_adds_a_key_that_is_active_and_keeps_the_files_owner_and_mode() {
    let directory = tempfile::TempDir::new().unwrap();
    let (file, link) = (directory.path().join("seal.json"), directory.path().join("link"));
    success(keys_command(&["generate", file.to_str().unwrap()]), "");
    set_mode(&file, 0o400);
    chown(&file, None, Some(SERVICE_UID)).unwrap();
    symlink(&file, &link).unwrap();
    let first = SealingKeys::load(&file).unwrap().active().to_owned();
    let second = success(keys_command(&["rotate", link.to_str().unwrap()]), "");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(SealingKeys::load(&file).unwrap().active(), second.trim_end());
    let metadata = file.metadata().unwrap();
    let all = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    assert_eq!(all, (0, SERVICE_UID, 0o400));
    let text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(text["keys"][first].is_string());
    // Of those who rotate at the same time, nobody's key is lost.
    let rotations = (0..8).map(|_| keys_command(&["rotate", file.to_str().unwrap()]));
    let kids = common::together(rotations.collect());
    let text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(text["keys"].as_object().unwrap().len(), 10);
    assert!(kids.iter().all(|kid| text["keys"][kid.trim_end()].is_string()));
    assert_eq!(entries(directory.path()), ["link", "seal.json"]);
}

#[test]
fn a_secret_in_plain_text_is_sealed_where_it_stands() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let mount = volume.mount_sealing(&ALICE);
        let text = format!("{{\"day\": 1, \"api_key\": \"{SECRET}\", \"n\": 2}}\n");
        assert_eq!(write(&mount, "schedules/x.json", &text), "ok");
        assert_eq!(mount.read("schedules/x.json"), "{\"day\": 1, \"n\": 2}\n");
        let stored = volume.stored(&ALICE, "schedules", "x.json");
        let sealed = format!("{{\"day\": 1, \"api_key\": \"tfs1.{KEY}.");
        assert!(stored.starts_with(&sealed), "{stored}");
        assert!(
            stored.ends_with("\", \"n\": 2,\"user_id\" :\"alice\"}\n"),
            "{stored}"
        );
        let opened = volume.opened(&ALICE, "schedules", "x.json", "api_key");
        assert_eq!(opened.as_deref(), Some(SECRET));
        assert!(!on_volume(&volume, SECRET) && !mount.log().contains(SECRET));
        // The service, which cannot open it, keeps it as it is.
        let loaded = volume.service(&["load", "alice", "schedules", "x"], "");
        assert!(loaded.contains("tfs1."), "{loaded}");
    }
}

#[test]
fn a_sealed_secret_survives_rewrites_and_is_removed_by_null() {
    let volume = volume();
    let mount = volume.mount_sealing(&ALICE);
    let with_secret = format!("{{\"api_key\": \"{SECRET}\", \"day\": 1}}");
    assert_eq!(write(&mount, "schedules/x.json", &with_secret), "ok");
    let key_of = |stored: String| serde_json::from_str::<Value>(&stored).unwrap()["api_key"].clone();
    let sealed = key_of(volume.stored(&ALICE, "schedules", "x.json"));
    for day in 2..5 {
        assert_eq!(
            write(&mount, "schedules/x.json", &format!("{{\"day\": {day}}}")),
            "ok"
        );
        let stored = volume.stored(&ALICE, "schedules", "x.json");
        assert_eq!(key_of(stored), sealed, "byte for byte");
    }
    mount.shell("mv schedules/x.json results/y.json");
    assert_eq!(key_of(volume.stored(&ALICE, "results", "y.json")), sealed);
    assert_eq!(
        write(&mount, "results/y.json", "{\"day\": 5, \"api_key\": \"another\"}"),
        "ok"
    );
    let opened = volume.opened(&ALICE, "results", "y.json", "api_key");
    assert_eq!(opened.as_deref(), Some("another"));
    assert_eq!(
        write(&mount, "results/y.json", "{\"day\": 6, \"api_key\": null}"),
        "ok"
    );
    assert_eq!(
        volume.stored(&ALICE, "results", "y.json"),
        "{\"day\": 6,\"user_id\" :\"alice\"}"
    );
}

#[test]
fn what_is_no_string_is_sealed_as_its_text() {
    let volume = volume();
    let mount = volume.mount_sealing_with(&ALICE, &["--secret-fields", "token,api_key"]);
    let text = "{\"api_key\": {\"id\": 7,  \"k\": [1.50]}, \"to\\u006ben\": \"a\\u00fc\\n\"}";
    assert_eq!(write(&mount, "schedules/x.json", text), "ok");
    let opened = |member| volume.opened(&ALICE, "schedules", "x.json", member);
    assert_eq!(opened("api_key").as_deref(), Some("{\"id\": 7,  \"k\": [1.50]}"));
    assert_eq!(opened("token").as_deref(), Some("aü\n"));
    assert_eq!(mount.read("schedules/x.json"), "{}");
}

#[test]
fn a_secret_is_sealed_with_the_active_key_and_older_ones_still_open() {
    let volume = volume();
    let save = |name: &str| {
        let mount = volume.mount_sealing(&ALICE);
        let text = format!("{{\"api_key\": \"{SECRET}\"}}");
        assert_eq!(write(&mount, &format!("schedules/{name}"), &text), "ok");
    };
    volume.has_keys("old", &["old"]);
    save("x.json");
    volume.has_keys("new", &["old", "new"]);
    save("y.json");
    for (name, key) in [("x.json", "tfs1.old."), ("y.json", "tfs1.new.")] {
        assert!(volume.stored(&ALICE, "schedules", name).contains(key));
        let opened = volume.opened(&ALICE, "schedules", name, "api_key");
        assert_eq!(opened.as_deref(), Some(SECRET));
    }
}

#[test]
fn a_kept_draft_is_sealed_whole_and_can_be_fixed_after_a_remount() {
    let volume = volume();
    let draft = format!("{{\"day\": 1, \"api_key\": \"{SECRET}\", ");
    {
        let mount = volume.mount_sealing(&ALICE);
        assert_eq!(write(&mount, "schedules/x.json", &draft), "EINVAL");
        assert_eq!(mount.read("schedules/x.json"), draft);
        assert!(!on_volume(&volume, SECRET) && !on_volume(&volume, "\"day\""));
        assert_eq!(drafts(&volume).len(), 1);
        // A kept draft is renamed, chmodded and given times like any record.
        mount.shell(
            "mv schedules/x.json results/y.json && chmod 640 results/y.json && touch -d @1000 results/y.json",
        );
        assert_eq!(mount.read("results/y.json"), draft);
    }
    assert!(!on_volume(&volume, SECRET));
    let mount = volume.mount_sealing(&ALICE);
    assert_eq!(
        mount.shell("ls results; stat -c '%s %a %Y' results/y.json"),
        format!("y.json\n{} 640 1000\n", draft.len())
    );
    assert_eq!(mount.read("results/y.json"), draft);
    mount.shell("printf '\"n\": 2}' >> results/y.json");
    assert_eq!(drafts(&volume), <[PathBuf; 0]>::default());
    assert_eq!(mount.read("results/y.json"), "{\"day\": 1, \"n\": 2}");
    let opened = volume.opened(&ALICE, "results", "y.json", "api_key");
    assert_eq!(opened.as_deref(), Some(SECRET));
    assert!(!on_volume(&volume, SECRET) && !mount.log().contains(SECRET));
}

#[test]
fn a_draft_from_before_there_were_keys_stays_readable_and_is_sealed_when_it_changes() {
    let volume = volume();
    assert_eq!(
        write(&volume.mount(&ALICE), "schedules/x.json", "{\"day\": 1,"),
        "EINVAL"
    );
    assert!(on_volume(&volume, "\"day\""));
    let mount = volume.mount_sealing(&ALICE);
    assert_eq!(mount.read("schedules/x.json"), "{\"day\": 1,");
    let append = "f = os.open('schedules/x.json', os.O_WRONLY | os.O_APPEND); os.write(f, b' '); os.close(f)";
    assert_eq!(mount.errno(append), "EINVAL");
    assert_eq!(mount.read("schedules/x.json"), "{\"day\": 1, ");
    assert!(!on_volume(&volume, "\"day\""));
}

/// The draft is there, and nothing that is done about it loses it, until its key is back.
#[test]
fn a_draft_whose_key_is_missing_is_shown_and_eio_and_comes_back_with_the_key() {
    let volume = volume();
    let draft = format!("{{\"api_key\": \"{SECRET}\", ");
    volume.has_keys("old", &["old"]);
    assert_eq!(
        write(&volume.mount_sealing(&ALICE), "schedules/x.json", &draft),
        "EINVAL"
    );
    let kept = drafts(&volume);
    let before = fs::read(&kept[0]).unwrap();
    let check = |mount: &Mount<'_>, said: &str| {
        assert_eq!(mount.shell("ls schedules"), "x.json\n");
        for statement in [
            "open('schedules/x.json').read()",
            "open('schedules/x.json', 'w')",
            "open('schedules/x.json', 'a')",
            "os.truncate('schedules/x.json', 0)",
            "os.chmod('schedules/x.json', 0o600)",
            "os.rename('schedules/x.json', 'schedules/y.json')",
            "os.rename('schedules/x.json', 'schedules/y')",
        ] {
            assert_eq!(mount.errno(statement), "EIO", "{statement}");
        }
        let log = mount.log();
        assert!(log.contains("schedules/x.json") && log.contains(said), "{log}");
        assert_eq!(fs::read(&kept[0]).unwrap(), before);
    };
    volume.has_keys("new", &["new"]);
    check(&volume.mount_sealing(&ALICE), "\"old\"");
    check(&volume.mount(&ALICE), "--sealing-keys");
    volume.has_keys("new", &["old", "new"]);
    let mount = volume.mount_sealing(&ALICE);
    assert_eq!(mount.read("schedules/x.json"), draft);
    // To remove it is to give it up.
    mount.shell("rm schedules/x.json");
    assert_eq!(drafts(&volume), <[PathBuf; 0]>::default());
}

#[test]
fn a_damaged_draft_is_shown_and_eio_and_stays_what_it_is() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    let record = r#"{"day": 1, "user_id": "alice"}"#;
    volume.plant(&ALICE, "schedules", "x.json", record);
    assert_eq!(
        write(&volume.mount_sealing(&ALICE), "schedules/x.json", "{\"day\": 2,"),
        "EINVAL"
    );
    let kept = drafts(&volume).remove(0);
    let whole = fs::read(&kept).unwrap();
    let line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut flipped = whole.clone();
    let at = whole.len() - 30;
    flipped[at] = if whole[at] == b'A' { b'B' } else { b'A' };
    let longer = String::from_utf8(whole.clone())
        .unwrap()
        .replace("\"size\":10", "\"size\":11");
    for damaged in [
        &flipped[..],
        &whole[..whole.len() - 1],
        &whole[..line],
        &[&whole[..line], &b"tfs1.k1.AAAA"[..]].concat(),
        &[&whole[..line], &b"{\"day\": 3}"[..]].concat(),
        longer.as_bytes(),
    ] {
        fs::write(&kept, damaged).unwrap();
        let mount = volume.mount_sealing(&ALICE);
        assert_eq!(mount.shell("ls schedules"), "x.json\n");
        assert_eq!(mount.errno("open('schedules/x.json').read()"), "EIO");
        let log = mount.log();
        let name = kept.file_name().unwrap().to_str().unwrap();
        assert!(
            log.contains("\"schedules/x.json\"") && log.contains(name),
            "{log}"
        );
        assert_eq!(fs::read(&kept).unwrap(), damaged);
        assert_eq!(volume.stored(&ALICE, "schedules", "x.json"), record);
    }
    fs::remove_file(&kept).unwrap();
    assert_eq!(volume.mount_sealing(&ALICE).read("schedules/x.json"), record);
}

#[test]
fn a_draft_that_was_moved_to_another_name_or_user_does_not_open() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    for name in ["x.json", "y.json"] {
        let path = format!("schedules/{name}");
        let draft = format!("{{\"name\": \"{name}\",");
        assert_eq!(write(&volume.mount_sealing(&ALICE), &path, &draft), "EINVAL");
    }
    let kept = drafts(&volume);
    let text = |file: &Path| fs::read_to_string(file).unwrap();
    let (one, other) = (text(&kept[0]), text(&kept[1]));
    // The line of one with the text of the other.
    let mixed = format!(
        "{}\n{}",
        one.split_once('\n').unwrap().0,
        other.split_once('\n').unwrap().1
    );
    fs::write(&kept[0], mixed).unwrap();
    let mount = volume.mount_sealing(&ALICE);
    let read = "[open('schedules/' + name).read() for name in os.listdir('schedules')]";
    assert_eq!(mount.errno(read), "EIO");
    // A member of a record does not open either as what a draft is sealed as.
    let sealed = other.split_once('\n').unwrap().1;
    volume.plant(
        &ALICE,
        "results",
        "x.json",
        format!(r#"{{"api_key":"{sealed}","user_id":"alice"}}"#),
    );
    assert_eq!(mount.read("results/x.json"), r#"{"user_id":"alice"}"#);
    assert!(volume.sealer(&ALICE).open("api_key", sealed).is_err());
}

#[test]
fn status_says_why_a_draft_cannot_be_opened() {
    let volume = volume();
    volume.has_keys("old", &["old"]);
    let draft = format!("{{\"api_key\": \"{SECRET}\", ");
    assert_eq!(
        write(&volume.mount_sealing(&ALICE), "schedules/x.json", &draft),
        "EINVAL"
    );
    volume.has_keys("new", &["new"]);
    let keys = volume.sealing_keys_file();
    let daemon = Daemon::start(&volume, &["--sealing-keys", keys.to_str().unwrap()]);
    daemon.login(&ALICE);
    let status = daemon.json(ALICE.uid, &["status"], "");
    let draft = &status["sessions"][0]["drafts"][0];
    assert_eq!(draft["path"], "schedules/x.json", "{status}");
    assert!(draft["reason"].as_str().unwrap().contains("\"old\""), "{status}");
}

/// A sealed value that is not in order is as hidden as any, and stays on the volume as it is.
#[test]
fn a_changed_value_is_neither_shown_nor_lost() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    let sealer = volume.sealer(&ALICE);
    let sealed = sealer.seal("api_key", SECRET.as_bytes()).unwrap();
    let mut flipped = sealed.clone().into_bytes();
    let at = flipped.len() - 5;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let values = [
        ("flipped", String::from_utf8(flipped).unwrap()),
        ("truncated", sealed[..sealed.len() - 4].to_owned()),
        (
            "another tenant's",
            volume.sealer(&BOB).seal("api_key", b"bobs").unwrap(),
        ),
        ("another member's", sealer.seal("token", b"other").unwrap()),
        ("of an unknown key", sealed.replace(KEY, "gone")),
        ("downgraded to plain text", SECRET.to_owned()),
        ("the service's own encryption", "gAAAAABk-fernet".to_owned()),
    ];
    let mount = volume.mount_sealing(&ALICE);
    for (what, value) in values {
        volume.plant(
            &ALICE,
            "schedules",
            "x.json",
            format!(r#"{{"day": 1, "api_key": "{value}", "user_id": "alice"}}"#),
        );
        let shown = || mount.shell("cat schedules/x.json");
        let expected = r#"{"day": 1, "user_id": "alice"}"#;
        assert!(
            common::eventually(std::time::Duration::from_secs(3), || shown() == expected),
            "{what}: {}",
            shown()
        );
        let stored = || volume.stored(&ALICE, "schedules", "x.json");
        assert_eq!(write(&mount, "schedules/x.json", "{\"day\": 2}"), "ok", "{what}");
        let expected = format!(r#"{{"day": 2,"api_key":"{value}","user_id" :"alice"}}"#);
        assert_eq!(stored(), expected, "{what}");
        mount.shell("mv schedules/x.json schedules/x.json~ && mv schedules/x.json~ schedules/x.json");
        assert_eq!(stored(), expected, "{what}");
        assert_eq!(
            write(&mount, "schedules/x.json", "{\"day\": 3, \"api_key\": null}"),
            "ok"
        );
        assert_eq!(stored(), "{\"day\": 3,\"user_id\" :\"alice\"}", "{what}");
        // Written through the mount, what does not open is plain text, and sealed as such.
        let text = format!("{{\"api_key\": \"{value}\"}}");
        assert_eq!(write(&mount, "schedules/x.json", &text), "ok", "{what}");
        let opened = volume.opened(&ALICE, "schedules", "x.json", "api_key");
        assert_eq!(opened, Some(value), "{what}");
    }
    // What opens is kept as it is, in whatever record of the user's it is put.
    assert_eq!(
        write(
            &mount,
            "results/y.json",
            &format!("{{\"api_key\": \"{sealed}\"}}")
        ),
        "ok"
    );
    assert!(volume.stored(&ALICE, "results", "y.json").contains(&sealed));
    assert!(!mount.log().contains(SECRET));
}

#[test]
fn without_sealing_keys_what_is_sealed_stays_and_nothing_can_be_added() {
    let volume = volume();
    let with_secret = format!("{{\"day\": 1, \"api_key\": \"{SECRET}\"}}");
    assert_eq!(
        write(&volume.mount_sealing(&ALICE), "schedules/x.json", &with_secret),
        "ok"
    );
    let mount = volume.mount(&ALICE);
    assert_eq!(write(&mount, "schedules/x.json", "{\"day\": 2}"), "ok");
    assert_eq!(write(&mount, "schedules/y.json", &with_secret), "EINVAL");
    assert!(
        mount.log().contains("there are no sealing keys"),
        "{}",
        mount.log()
    );
    let opened = volume.opened(&ALICE, "schedules", "x.json", "api_key");
    assert_eq!(opened.as_deref(), Some(SECRET));
    assert!(!on_volume(&volume, SECRET));
}

#[test]
fn a_sealing_keys_file_that_is_not_in_order_is_refused_in_one_line() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    let file = volume.sealing_keys_file();
    let good = fs::read_to_string(&file).unwrap();
    let key = "azEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(good.contains(key));
    let refused = |mend: &str| {
        let place = volume.base().join("mnt-refused");
        fs::create_dir_all(&place).unwrap();
        let options = ["--sealing-keys", file.to_str().unwrap()];
        let mut command = volume.mount_command(&place, &ALICE, &options);
        command.env_remove("TENANTFS_LOG");
        let daemon = Daemon::command(&volume, &options);
        for command in [command, daemon] {
            let output = run(command, "");
            let said = said(&output);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.contains(file.to_str().unwrap()) && said.contains(mend),
                "{said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(!said.contains(&key[..4]), "{said}");
        }
    };
    let replaced = |text: &str| {
        fs::remove_file(&file).unwrap();
        fs::write(&file, text).unwrap();
        set_mode(&file, 0o600);
    };
    for mode in [0o640, 0o604, 0o620] {
        set_mode(&file, mode);
        refused(if mode == 0o620 { "chmod" } else { "chmod 600" });
    }
    set_mode(&file, 0o600);
    chown(&file, Some(ALICE.uid), None).unwrap();
    refused("chown root");
    for (text, mend) in [
        (good.replace(key, "azE="), "base64 of 32 bytes"),
        (good.replace(key, &key[1..]), "base64 of 32 bytes"),
        (
            good.replace("\"active\":\"k1\"", "\"active\":\"k2\""),
            "\"k2\" is not among the keys (k1)",
        ),
        (
            good.replace("\"active\"", "\"activ\""),
            "active and keys are expected",
        ),
        (
            good.replace("{\"active\"", "{\"more\":1,\"active\""),
            "active and keys are expected",
        ),
        (good[..good.len() - 2].to_owned(), "expected {"),
        (String::new(), "expected {"),
        (" ".repeat((1 << 20) + 1), "larger than 1024 KiB"),
    ] {
        replaced(&text);
        refused(mend);
    }
    fs::remove_file(&file).unwrap();
    refused("--sealing-keys");
    let mut fifo = Command::new("mkfifo");
    fifo.args(["-m", "600"]).arg(&file);
    success(fifo, "");
    refused("not a regular file");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused("not a regular file");
}

#[test]
fn a_new_record_gets_the_sessions_own_key_where_that_is_configured() {
    let volume = volume();
    let mount = volume.mount_sealing_with(&ALICE, &["--attach-session-key", "schedules"]);
    let attached = |name: &str| volume.opened(&ALICE, "schedules", name, "api_key");
    mount.shell(
        "mkdir schedules/sub; echo '{\"day\": 1}' > schedules/x.json; echo '{}' > schedules/sub/y.json",
    );
    assert_eq!(attached("x.json").as_deref(), Some(ALICE.api_key));
    assert_eq!(attached("sub/y.json").as_deref(), Some(ALICE.api_key));
    assert_eq!(mount.read("schedules/x.json"), "{\"day\": 1}\n");
    assert_eq!(mount.read("schedules/sub/y.json"), "{}\n");
    mount.shell("echo '{\"n\": 1}' > schedules/t && mv schedules/t schedules/z.json");
    assert_eq!(attached("z.json").as_deref(), Some(ALICE.api_key));
    // Not where another was asked for, or none.
    mount.shell("echo '{\"api_key\": \"own\"}' > schedules/own.json; echo '{\"api_key\": null}' > schedules/none.json");
    assert_eq!(attached("own.json").as_deref(), Some("own"));
    assert_eq!(attached("none.json"), None);
    mount.shell("echo '{\"n\": 2}' > schedules/none.json; echo '{\"n\": 3}' > results/r.json");
    assert_eq!(attached("none.json"), None, "it is no new record");
    assert!(!volume.stored(&ALICE, "results", "r.json").contains("api_key"));
    // A record that an editor moves away and makes anew is not new: it has the secret that it had.
    mount.shell("mv schedules/own.json schedules/own.json~; echo '{\"n\": 4}' > schedules/own.json");
    assert_eq!(attached("own.json").as_deref(), Some("own"));
    volume.plant(&ALICE, "schedules", "old.json", r#"{"user_id": "alice"}"#);
    mount.shell("echo '{\"n\": 5}' > schedules/old.json");
    assert_eq!(attached("old.json"), None);
    assert!(!on_volume(&volume, ALICE.api_key) && !mount.log().contains(ALICE.api_key));
}

#[test]
fn after_another_login_new_records_get_the_key_given_last() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    let second = "another-key-of-alice";
    let keys = volume.static_keys_file();
    let mut file: Value = serde_json::from_slice(&fs::read(&keys).unwrap()).unwrap();
    let hash = tenantfs::auth::key_hash(&tenantfs::auth::ApiKey::new(second).unwrap());
    let entry = serde_json::json!({"sha256": hash, "user_id": "alice"});
    file["keys"].as_array_mut().unwrap().push(entry);
    fs::write(&keys, file.to_string()).unwrap();
    let sealing = volume.sealing_keys_file();
    let options = [
        "--sealing-keys",
        sealing.to_str().unwrap(),
        "--attach-session-key",
        "schedules,results",
    ];
    let daemon = Daemon::start(&volume, &options);
    let place = daemon.login(&ALICE);
    common::shell(ALICE.uid, &place, "echo '{}' > schedules/x.json");
    daemon.asked(ALICE.uid, &["login"], second);
    common::shell(ALICE.uid, &place, "echo '{}' > results/y.json");
    let opened = |resource, name| volume.opened(&ALICE, resource, name, "api_key");
    assert_eq!(opened("schedules", "x.json").as_deref(), Some(ALICE.api_key));
    assert_eq!(opened("results", "y.json").as_deref(), Some(second));
}

#[test]
fn attaching_what_cannot_be_attached_is_a_configuration_error() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    let keys = volume.sealing_keys_file();
    let sealing = ["--sealing-keys", keys.to_str().unwrap()];
    let place = volume.base().join("mnt-refused");
    fs::create_dir_all(&place).unwrap();
    for (options, why) in [
        (vec!["--attach-session-key", "schedules"], "no sealing keys"),
        (
            [&sealing[..], &["--attach-session-key", "plans"]].concat(),
            "\"plans\"",
        ),
        (
            [
                &sealing[..],
                &["--attach-session-key", "schedules", "--secret-fields", "token"],
            ]
            .concat(),
            "api_key",
        ),
    ] {
        let output = run(volume.mount_command(&place, &ALICE, &options), "");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let said = said(&output);
        assert!(
            said.contains(why) && said.contains("--attach-session-key"),
            "{said}"
        );
    }
}

/// systemd's credential: its mode shows an access control list as the group's permission.
#[test]
fn the_credential_of_systemd_is_read_where_no_file_is_named() {
    let volume = volume();
    volume.has_keys(KEY, &[KEY]);
    let credentials = volume.base().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let credential = credentials.join("sealing-keys");
    fs::rename(volume.sealing_keys_file(), &credential).unwrap();
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o440)).unwrap();
    let place = volume.base().join("mnt-refused");
    fs::create_dir_all(&place).unwrap();
    // With the keys, what comes next is what is wrong; without them, that would be said first.
    let mut command = volume.mount_command(&place, &ALICE, &["--attach-session-key", "plans"]);
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    let output = run(command, "");
    assert!(said(&output).contains("\"plans\""), "{}", said(&output));
    fs::write(&credential, "{").unwrap();
    let mut command = volume.mount_command(&place, &ALICE, &[]);
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains(credential.to_str().unwrap()),
        "{}",
        said(&output)
    );
}

#[test]
fn the_lines_below_open_what_a_mount_sealed() {
    let Some(python) = std::env::var_os("TENANTFS_TEST_PYTHON") else {
        common::skip("TENANTFS_TEST_PYTHON is not set: run the tests with scripts/test");
        return;
    };
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines = readme
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let volume = volume();
    volume.has_keys("new", &["old", "new"]);
    let mount = volume.mount_sealing(&ALICE);
    for secret in [SECRET, "ü\n\"", &"x".repeat(1000)] {
        let text = serde_json::json!({"api_key": secret}).to_string();
        assert_eq!(write(&mount, "schedules/x.json", &text), "ok");
        let mut command = Command::new(&python);
        let code = format!(
            "{lines}\nimport json, sys\nkeys, record = [json.load(open(path)) for path in sys.argv[1:]]\n\
             print(json.dumps(unseal(keys, 'alice', 'api_key', record['api_key'])))"
        );
        command.args(["-c", &code]).arg(volume.sealing_keys_file());
        command.arg(volume.path(&ALICE, "schedules", "x.json"));
        let opened: String = serde_json::from_str(&success(command, "")).unwrap();
        assert_eq!(opened, secret);
    }
}

#[test]
fn what_was_typed_when_the_mount_ends_is_kept_sealed() {
    let volume = volume();
    let mount = volume.mount_sealing(&ALICE);
    let code = "
import os, sys
f = os.open('schedules/x.json', os.O_WRONLY | os.O_CREAT)
os.write(f, b'{\"api_key\": \"sk-written-by-alice\", ')
print('written', flush=True)
sys.stdin.readline()
";
    let mut writer = common::Conversation::start(&mount, code);
    assert_eq!(writer.next(), "written");
    assert!(mount.unmount().success());
    drop(writer);
    assert_eq!(drafts(&volume).len(), 1);
    assert!(!on_volume(&volume, SECRET));
    let mount = volume.mount_sealing(&ALICE);
    assert_eq!(
        mount.read("schedules/x.json"),
        format!("{{\"api_key\": \"{SECRET}\", ")
    );
}
