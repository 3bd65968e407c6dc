//! `tenantfs export`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

use serde_json::Value;

use super::{ask, asked, files, record_of, stderr};
use crate::common::{ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Volume, success};

#[test]
fn an_export_has_everything_of_the_user_as_the_user_sees_it() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let view = |user: &str, number: usize| {
            record_of(user, number).replace(&format!(r#", "api_key":"sk-{user}""#), "")
        };
        volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
        volume.plant(&ALICE, "schedules", "of-bob.json", record_of("bob", 1));
        volume.plant(&ALICE, "schedules", "broken.json", "{");
        volume.plant(&ALICE, "results", r"sub/odd \ name.svg", "plot");
        volume.plant(&BOB, "results", "b.json", record_of("bob", 2));
        let profile = volume.root().join("users").join(ALICE.hash);
        fs::create_dir_all(&profile).unwrap();
        fs::write(
            profile.join("profile.json"),
            r#"{"mail":"a@b", "api_key":"sk-alice"}"#,
        )
        .unwrap();
        success(
            {
                let mut chown = Command::new("chown");
                chown
                    .arg("-R")
                    .arg(SERVICE_UID.to_string())
                    .arg(volume.root().join("users"));
                chown
            },
            "",
        );
        {
            let mount = volume.mount(&ALICE);
            mount.shell(r#"echo '{"half": ' > schedules/draft.json || true"#);
        }
        let expected: BTreeMap<PathBuf, Vec<u8>> = [
            ("schedules/a.json", view("alice", 1)),
            ("schedules/draft.json.draft", "{\"half\": \n".to_owned()),
            (r"results/sub/odd \ name.svg", "plot".to_owned()),
            ("profile.json", r#"{"mail":"a@b"}"#.to_owned()),
        ]
        .into_iter()
        .map(|(path, text)| (path.into(), text.into_bytes()))
        .collect();
        let check = |directory: &Path| {
            let mut sums = Command::new("sha256sum");
            sums.args(["--check", "--strict", "--quiet", "MANIFEST.sha256"])
                .current_dir(directory);
            success(sums, "");
            let mut found = files(directory);
            let manifest = String::from_utf8(found.remove(Path::new("MANIFEST.sha256")).unwrap()).unwrap();
            assert!(
                manifest.contains("# left out: ") && manifest.contains("broken.json"),
                "{manifest}"
            );
            assert_eq!(found, expected);
        };
        let directory = volume.base().join("exported");
        let output = ask(
            &volume,
            "export",
            &["--user-id", "alice", "--to", directory.to_str().unwrap()],
        );
        // A file that nobody sees, and one that is another user's, who has it by mistake: neither is alice's.
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        check(&directory);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);

        let archive = volume.base().join("alice.tar.zst");
        ask(
            &volume,
            "export",
            &["--user-id", "alice", "--to", archive.to_str().unwrap()],
        );
        let piped = ask(&volume, "export", &["--user-id", "alice", "--to", "-"]);
        for (name, bytes) in [
            ("from-archive", fs::read(&archive).unwrap()),
            ("from-pipe", piped.stdout),
        ] {
            let directory = volume.base().join(name);
            fs::create_dir(&directory).unwrap();
            let bytes = match name {
                "from-archive" => zstd::decode_all(&bytes[..]).unwrap(),
                _ => bytes,
            };
            let mut tar = Command::new("tar")
                .arg("xf")
                .arg("-")
                .current_dir(&directory)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            tar.stdin.take().unwrap().write_all(&bytes).unwrap();
            assert!(tar.wait().unwrap().success());
            check(&directory);
        }
        // Nothing is overwritten.
        for to in [&directory, &archive] {
            let output = ask(
                &volume,
                "export",
                &["--user-id", "alice", "--to", to.to_str().unwrap()],
            );
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        }
        let nobody = ask(&volume, "export", &["--user-id", "nobody", "--to", "-"]);
        assert_eq!(nobody.status.code(), Some(1));
    }
}

#[test]
fn a_record_that_changes_meanwhile_is_exported_whole() {
    let volume = Volume::new(Layout::default());
    let service = volume.service_command(&["loop", "alice", "results", "churned", "2"]);
    let writing = thread::spawn(move || success(service, ""));
    let (mut exports, mut attempts) = (0, 0);
    while !writing.is_finished() {
        let directory = volume.base().join(format!("export-{attempts}"));
        attempts += 1;
        let output = ask(
            &volume,
            "export",
            &["--user-id", "alice", "--to", directory.to_str().unwrap()],
        );
        let manifest = directory.join("MANIFEST.sha256");
        // Before the service has saved anything, there is nothing; or directories without anything.
        if !output.status.success() || fs::metadata(manifest).unwrap().len() == 0 {
            continue;
        }
        exports += 1;
        let mut sums = Command::new("sha256sum");
        sums.args(["--check", "--strict", "--quiet", "MANIFEST.sha256"])
            .current_dir(&directory);
        success(sums, "");
        if let Ok(text) = fs::read_to_string(directory.join("results/churned.json")) {
            let record: Value = serde_json::from_str(&text).unwrap();
            let rows = record["rows"].as_array().unwrap();
            assert!(record["end"] == record["revision"] && rows.iter().all(|row| *row == record["revision"]));
        }
    }
    assert!(exports > 3, "{exports}");
    writing.join().unwrap();
}

#[test]
fn an_export_is_its_owners_alone() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
    let archive = volume.base().join("alice.tar.zst");
    asked(
        &volume,
        "export",
        &["--user-id", "alice", "--to", archive.to_str().unwrap()],
    );
    assert_eq!(
        fs::metadata(&archive).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn what_a_killed_export_left_is_removed_by_the_next_one_and_nothing_else_is() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
    let to = volume.base().join("exports");
    fs::create_dir(&to).unwrap();
    let file = |name: &str| {
        let path = to.join(name);
        fs::write(&path, "a part").unwrap();
        path
    };
    let left = file(".tenantfs-export-0123456789abcdef");
    let stays = [
        file(".tenantfs-export-not-a-number-of-ours"),
        file("alice.tar.zst.part"),
        file(".tenantfs-export-00000000000000aa"),
        file(".tenantfs-export-00000000000000bb"),
    ];
    // Another export is under way, and one is another account's.
    let locked = fs::File::open(&stays[2]).unwrap();
    locked.lock().unwrap();
    chown(&stays[3], Some(ALICE.uid), None).unwrap();
    let archive = to.join("alice.tar.zst");
    let output = ask(
        &volume,
        "export",
        &["--user-id", "alice", "--to", archive.to_str().unwrap()],
    );
    assert!(output.status.success() && archive.exists(), "{}", stderr(&output));
    assert!(!left.exists());
    assert!(
        stderr(&output)
            .contains("/.tenantfs-export-0123456789abcdef, which an export that was killed had left")
    );
    assert!(stays.iter().all(|path| path.exists()));
    assert_eq!(fs::read_dir(&to).unwrap().count(), stays.len() + 1);
}

#[test]
fn an_export_to_a_directory_that_is_there_is_its_owners_alone_too() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "sub/a.json", record_of("alice", 1));
    let to = volume.base().join("out");
    fs::create_dir(&to).unwrap();
    chown(&to, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    let options = ["--user-id", "alice", "--to", to.to_str().unwrap()];
    asked(&volume, "export", &options);
    for (path, mode) in [
        ("schedules", 0o700),
        ("schedules/sub", 0o700),
        ("schedules/sub/a.json", 0o600),
        ("MANIFEST.sha256", 0o600),
    ] {
        let found = fs::metadata(to.join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{path}");
    }
    // What is there is not written over.
    assert_eq!(ask(&volume, "export", &options).status.code(), Some(2));
}

#[test]
fn an_export_is_no_directory_that_is_called_as_an_archive() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
    for name in [
        "x.tar",
        "x.tgz",
        "x.tar.gz",
        "X.TAR.ZST",
        "x.tar.xz",
        "x.zip",
        "x.zst",
    ] {
        let to = volume.base().join(name);
        let output = ask(
            &volume,
            "export",
            &["--user-id", "alice", "--to", to.to_str().unwrap()],
        );
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(
            said.contains("name a file *.tar.zst") && said.contains("or write - for"),
            "{name}: {said}"
        );
        assert!(!to.exists(), "{name}");
    }
    // With a slash, it is said to be a directory.
    let to = volume.base().join("x.tar/");
    asked(
        &volume,
        "export",
        &["--user-id", "alice", "--to", to.to_str().unwrap()],
    );
    assert!(to.join("schedules/a.json").exists());
}
