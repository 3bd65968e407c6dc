//! What an operator does to a whole volume: list, export, erase, migrate, repair.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use common::daemon::Daemon;
use common::{
    ALICE, BOB, Conversation, LAYOUTS, Layout, SERVICE_UID, Tenant, Volume, errno, run, set_mode, success,
    tenantfs,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const SENTINEL: &str = "words-of-alice-alone";

/// Two user ids with the same hash (DESIGN.md section 3).
const COLLIDING: [&str; 2] = ["u28e7627cc5ab20b0", "u8c0ca16042c103c3"];

fn command(volume: &Volume, name: &str, options: &[&str]) -> Command {
    let mut command = tenantfs();
    command.env("TENANTFS_LOG", "error").arg(name);
    command.args(["--audit-log", audit_log(volume).to_str().unwrap(), "--volume"]);
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

fn audit_log(volume: &Volume) -> PathBuf {
    let directory = volume.base().join("audit");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    directory.join("audit.jsonl")
}

fn audited(volume: &Volume, op: &str) -> Vec<Value> {
    let text = fs::read_to_string(audit_log(volume)).unwrap_or_default();
    let mut lines = json_lines(&text);
    lines.retain(|line| line["op"] == op);
    lines
}

fn record_of(user: &str, number: usize) -> String {
    format!(r#"{{ "n" : {number}, "api_key":"sk-{user}", "user_id" : "{user}" , "words":"{SENTINEL}"}}"#)
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

#[test]
fn records_are_listed_by_user_by_many_users_and_all() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
        volume.plant(&ALICE, "results", "sub/b.json", record_of("alice", 2));
        volume.plant(&ALICE, "results", "broken.json", "{");
        volume.plant(&BOB, "schedules", "c.json", record_of("bob", 3));
        let ids = |text: &str| -> Vec<String> {
            let mut ids: Vec<_> = json_lines(text)
                .iter()
                .map(|line| {
                    let of = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
                    format!("{} {}/{} {}", of("user"), of("resource"), of("id"), line["valid"])
                })
                .collect();
            ids.sort();
            ids
        };
        let alices = [
            "- results/broken false",
            "alice results/sub/b true",
            "alice schedules/a true",
        ];
        assert_eq!(ids(&asked(&volume, "list", &["--user-id", "alice"])), alices);
        let bobs = "bob schedules/c true";
        let all = [&alices[..], &[bobs]].concat();
        assert_eq!(ids(&asked(&volume, "list", &["--all"])), all);
        assert_eq!(
            ids(&asked(&volume, "list", &["--all", "--resource", "schedules"])),
            [alices[2], bobs]
        );

        let contents = asked(&volume, "list", &["--user-id", "bob", "--contents"]);
        let line = &json_lines(&contents)[0];
        assert!(
            contents.contains(&format!(
                r#""record":{{"n":3,"user_id":"bob","words":"{SENTINEL}"}}"#
            )),
            "{contents}"
        );
        assert!(!contents.contains("sk-bob"));
        let stored = volume.stored(&BOB, "schedules", "c.json");
        assert_eq!(line["size"], stored.replace(r#", "api_key":"sk-bob""#, "").len());
        assert!(line["mtime"].as_str().unwrap().ends_with('Z'));

        // Fewer users than directories, and more.
        for more in [0, 2000] {
            let file = volume.base().join("users");
            let others: String = (0..more).map(|number| format!("nobody-{number}\n")).collect();
            fs::write(&file, format!("{others}bob\n\nalice\r\n")).unwrap();
            assert_eq!(
                ids(&asked(&volume, "list", &["--users-file", file.to_str().unwrap()])),
                all
            );
        }
    }
}

#[test]
fn what_names_no_user_is_told_and_the_rest_is_listed() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
    let output = ask(&volume, "list", &["--user-id", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no directory of this user"),
        "{}",
        stderr(&output)
    );
    assert_eq!(ask(&volume, "list", &["--user-id", ""]).status.code(), Some(2));
    assert_eq!(
        ask(&volume, "list", &["--all", "--resource", "nonsense"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        ask(&volume, "list", &["--users-file", "/nowhere"]).status.code(),
        Some(2)
    );
    let file = volume.base().join("users");
    let long = "x".repeat(100_000);
    fs::write(
        &file,
        format!("alice\nalice\na\tb\n{long}\n{}\nalice", "y".repeat(600)).as_bytes(),
    )
    .unwrap();
    let output = ask(
        &volume,
        "list",
        &["--users-file", file.to_str().unwrap(), "--json"],
    );
    assert_eq!(output.status.code(), Some(6));
    let said = stderr(&output);
    for line in [
        "line 2: this user was named before",
        "line 3: the user id has control",
        "line 4: too long",
        "line 5: the user id is longer",
        "line 6: this user",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let lines = json_lines(&stdout(&output));
    assert_eq!(lines[0]["id"], "a");
    assert_eq!(lines[1]["listed"]["wrong_lines"], 5);
}

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

fn erase(volume: &Volume, options: &[&str]) -> Output {
    let socket = Daemon::socket_of(volume);
    let options = [
        &["--yes", "--json", "--socket", socket.to_str().unwrap()],
        options,
    ]
    .concat();
    ask(volume, "erase", &options)
}

#[test]
fn an_erased_user_is_nowhere_and_everybody_else_is_whole() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        populate(&volume, 5);
        {
            let mount = volume.mount(&ALICE);
            mount.shell(&format!(
                "echo '{{\"half\": \"{SENTINEL}' > schedules/draft.json || true"
            ));
        }
        let others: BTreeMap<_, _> = files(&volume.root())
            .into_iter()
            .filter(|(path, text)| {
                let alices = path.to_str().unwrap().contains(ALICE.hash);
                !alices && !String::from_utf8_lossy(text).contains(r#""user_id" : "alice""#)
            })
            .collect();
        assert_eq!(others.len(), 3);
        // Who has a file open elsewhere keeps a name, and nothing in it.
        let held = fs::File::open(volume.path(&ALICE, "schedules", "0.json")).unwrap();

        let would = asked(&volume, "erase", &["--user-id", "alice", "--dry-run"]);
        assert_eq!(json_lines(&would).len(), 9, "{would}");
        let asks = ask(&volume, "erase", &["--user-id", "alice"]);
        assert_eq!(asks.status.code(), Some(2), "{}", stderr(&asks));

        let output = erase(&volume, &["--user-id", "alice"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let receipt: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let receipt = &receipt["erased"];
        assert_eq!(
            [&receipt["records"], &receipt["attachments"], &receipt["drafts"]],
            [7, 1, 1],
            "{receipt}"
        );
        assert!(!receipt.to_string().contains("alice"));
        assert_eq!(files(&volume.root()), others);
        assert_eq!(held.metadata().unwrap().len(), 0);
        let directories = volume.directory(&ALICE, "schedules");
        assert!(!directories.exists() && !directories.parent().unwrap().join(ALICE.hash).exists());
        let lines = audited(&volume, "erase");
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["user"], ALICE.hash);

        // Once more changes nothing, and says so.
        let again = erase(&volume, &["--user-id", "alice"]);
        let receipt: Value = serde_json::from_str(&stdout(&again)).unwrap();
        assert_eq!(receipt["erased"]["records"], 0);
        assert_eq!(files(&volume.root()), others);
    }
}

#[test]
fn of_two_users_with_one_hash_the_other_keeps_everything() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        populate(&volume, 1);
        let output = erase(&volume, &["--user-id", COLLIDING[0]]);
        assert!(output.status.success(), "{}", stderr(&output));
        let left = files(&volume.root());
        let has = |user: &str| {
            left.values()
                .any(|text| String::from_utf8_lossy(text).contains(user))
        };
        assert!(!has(COLLIDING[0]) && has(COLLIDING[1]) && has("alice"));
    }
}

#[test]
fn an_erasure_ends_the_users_sessions_first_and_keeps_the_user_out() {
    let volume = Volume::new(Layout::default());
    populate(&volume, 3);
    let daemon = Daemon::start(&volume, &[]);
    let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
    let mut writer = Conversation::start_in(
        ALICE.uid,
        &alices,
        "import time\nprint('begins', flush=True)\nn = 0\n\
         try:\n  while True:\n    n += 1; open(f'schedules/new-{n}.json', 'w').write('{}'); time.sleep(0.001)\n\
         except OSError as error: print('ended', flush=True); input()",
    );
    assert_eq!(writer.next(), "begins");
    thread::sleep(Duration::from_millis(300));
    let output = erase(&volume, &["--user-id", "alice"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let left = files(&volume.root());
    assert!(
        !left
            .values()
            .any(|text| String::from_utf8_lossy(text).contains(r#""alice""#)),
        "{:?}",
        left.keys()
    );
    assert_eq!(common::shell(BOB.uid, &bobs, "ls schedules"), "own.json\n");
    // Whoever is erased may begin anew.
    daemon.login(&ALICE);
    assert_eq!(
        errno(
            ALICE.uid,
            &alices,
            "os.listdir('schedules') == [] or os.stat('x')"
        ),
        "ok"
    );
}

#[test]
fn while_a_mount_goes_on_nothing_is_erased_and_the_next_run_finishes_it() {
    let volume = Volume::new(Layout::default());
    populate(&volume, 3);
    let before = files(&volume.root());
    let mount = volume.mount(&ALICE);
    let mut child = command(
        &volume,
        "erase",
        &["--yes", "--user-id", "alice", "--socket", "/nowhere"],
    )
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    thread::sleep(Duration::from_millis(500));
    // It waits for the session, and nobody else can begin one.
    let second = volume.base().join("second");
    fs::create_dir(&second).unwrap();
    let refused = run(volume.mount_command(&second, &ALICE, &[]), "");
    assert!(stderr(&refused).contains("being erased"), "{}", stderr(&refused));
    let now = files(&volume.root());
    assert!(before.iter().all(|(path, text)| now.get(path) == Some(text)));
    mount.unmount();
    assert!(child.wait().unwrap().success());
    let left = files(&volume.root());
    assert!(
        !left
            .values()
            .any(|text| String::from_utf8_lossy(text).contains(r#""alice""#))
    );
}

#[test]
fn an_erasure_that_is_killed_at_any_point_is_finished_by_another_run() {
    let volume = Volume::new(Layout::default());
    let mut random = 88_172_645_463_325_252_u64;
    for round in 0..50 {
        populate(&volume, 20);
        let digest = {
            let would = json_lines(&asked(&volume, "erase", &["--user-id", "alice", "--dry-run"]));
            let mut names: Vec<_> = would
                .iter()
                .map(|line| line["would_erase"].as_str().unwrap().to_owned())
                .collect();
            names.sort();
            let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
            hex::encode(Sha256::digest(lines))
        };
        let mut child = command(
            &volume,
            "erase",
            &["--yes", "--user-id", "alice", "--socket", "/nowhere"],
        )
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        thread::sleep(Duration::from_micros(random % 60_000));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        let output = erase(&volume, &["--user-id", "alice"]);
        assert!(output.status.success(), "round {round}: {}", stderr(&output));
        let receipt: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let receipt = &receipt["erased"];
        // Unless the first run had finished.
        if receipt["records"] != 0 {
            assert_eq!(receipt["names_sha256"], digest, "round {round}: {receipt}");
            assert_eq!(receipt["records"], 22, "round {round}: {receipt}");
        }
        let left = files(&volume.root());
        let names: Vec<_> = left.keys().collect();
        assert!(
            !left
                .values()
                .any(|text| String::from_utf8_lossy(text).contains(r#""alice""#)),
            "{names:?}"
        );
        assert_eq!(left.len(), 3, "round {round}: {names:?}");
    }
}

/// `tenantfs mount` of alice's view of some volume, not started.
fn mount_of(volume: &Volume, root: &Path, layout: Layout, mountpoint: &Path) -> Command {
    let mut command = tenantfs();
    command
        .env("TENANTFS_LOG", "error")
        .arg("mount")
        .arg(mountpoint)
        .arg("--volume")
        .arg(root);
    command.args(["--layout", &layout.to_string(), "--uid", &ALICE.uid.to_string()]);
    command.arg("--static-keys").arg(volume.static_keys_file());
    command.arg("--api-key-file").arg(volume.api_key_file(&ALICE));
    command
}

/// The last thing that each of the users saved is there, once.
fn assert_nothing_lost(volume: &Volume, layout: Layout, tenant: &Tenant, count: usize) {
    let directory = match layout {
        Layout::ResourceFirst => volume.root().join("schedules").join(tenant.hash),
        Layout::UserFirst => volume.root().join("users").join(tenant.hash).join("schedules"),
    };
    let names: Vec<_> = files(&directory)
        .into_keys()
        .filter(|name| name.to_str().unwrap().ends_with(".json"))
        .collect();
    assert_eq!(names.len(), count, "{names:?}");
}

#[test]
fn a_migration_goes_on_beside_mounts_and_a_service_that_follows_and_loses_nothing() {
    let volume = Volume::new(Layout::ResourceFirst);
    for number in 0..40 {
        volume.plant(
            &ALICE,
            "schedules",
            &format!("{number}.json"),
            record_of("alice", number),
        );
        volume.plant(
            &BOB,
            "schedules",
            &format!("{number}.json"),
            record_of("bob", number),
        );
    }
    let mount = volume.mount(&ALICE);
    mount.shell("echo '{\"half\": ' > results/draft.json || true; mkdir schedules/sub; echo plot > schedules/sub/plot.svg");
    for (from, to) in [
        (Layout::ResourceFirst, Layout::UserFirst),
        (Layout::UserFirst, Layout::ResourceFirst),
    ] {
        let mut user = mount.command("python3");
        user.args(["-B", "-c", "import sys, time, os\nend = time.time() + 2\nn = 0\nwhile time.time() < end:\n  n += 1\n  \
            open('schedules/mine.json', 'w').write('{\"revision\": %d}' % n)\n  assert open('schedules/mine.json').read() == '{\"revision\": %d}' % n\n  \
            assert len(os.listdir('schedules')) >= 41\nprint(n)"]);
        let mut service = volume.service_command(&["--follow", "loop", "alice", "results", "churned", "2"]);
        // The option belongs before the command.
        service.env("PYTHONDONTWRITEBYTECODE", "1");
        let (from, to) = (from.to_string(), to.to_string());
        let mut migrate = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_tenantfs");
        let log = audit_log(&volume);
        migrate.args(["-c", &format!(
            "sleep 0.5; {program:?} migrate --audit-log {log:?} --volume {:?} --from {from} --to {to} --json", volume.root()
        )]);
        let printed = common::together(vec![user, service, migrate]);
        let done: Value = serde_json::from_str(printed[2].trim()).unwrap();
        assert_eq!(done["migrated"]["complete"], true, "{done}");
        let layout: Layout = to.parse().unwrap();
        assert_nothing_lost(&volume, layout, &ALICE, 41);
        assert_nothing_lost(&volume, layout, &BOB, 40);
        let path = |resource: &str, name: &str| match layout {
            Layout::ResourceFirst => volume.root().join(resource).join(ALICE.hash).join(name),
            Layout::UserFirst => volume
                .root()
                .join("users")
                .join(ALICE.hash)
                .join(resource)
                .join(name),
        };
        let revision = |path: PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()["revision"].to_string()
        };
        assert_eq!(revision(path("schedules", "mine.json")), printed[0].trim());
        assert_eq!(revision(path("results", "churned.json")), printed[1].trim());
        assert_eq!(mount.read("schedules/sub/plot.svg"), "plot\n");
        // The right layout is in force, and the other one is refused.
        let mut verify = tenantfs();
        verify
            .args(["verify", "--layout", &to, "--volume"])
            .arg(volume.root());
        let verified = run(verify, "");
        let found = stdout(&verified);
        let problems: Vec<_> = json_lines(&found)
            .into_iter()
            .filter(|line| line["problem"] != "plain_secret")
            .collect();
        assert!(problems.is_empty(), "{problems:?}");
        let mountpoint = volume.base().join("other");
        let _ = fs::create_dir(&mountpoint);
        let refused = run(
            mount_of(&volume, &volume.root(), from.parse().unwrap(), &mountpoint),
            "",
        );
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            stderr(&refused).contains("by its .tenantfs-layout"),
            "{}",
            stderr(&refused)
        );
    }
    assert_eq!(mount.read("results/draft.json"), "{\"half\": \n");
}

#[test]
fn a_migration_that_is_killed_is_finished_by_another_run() {
    let volume = Volume::new(Layout::ResourceFirst);
    for number in 0..200 {
        let user = format!("user-{number}");
        volume.service(&["save", &user, "schedules", "x"], r#"{"n": 1}"#);
    }
    let names = |layout| {
        let tree = match layout {
            Layout::ResourceFirst => "schedules",
            Layout::UserFirst => "users",
        };
        let tree = volume.root().join(tree);
        if tree.exists() { files(&tree).len() } else { 0 }
    };
    let mut layouts = [Layout::ResourceFirst, Layout::UserFirst];
    for round in 0..10_u64 {
        let [from, to] = layouts.map(|layout| layout.to_string());
        let options = ["--from", &from, "--to", &to];
        let mut child = command(&volume, "migrate", &options).spawn().unwrap();
        thread::sleep(Duration::from_millis(5 + round * 3));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        assert_eq!(names(Layout::ResourceFirst) + names(Layout::UserFirst), 200);
        asked(&volume, "migrate", &options);
        assert_eq!(names(layouts[1]), 200);
        layouts.reverse();
    }
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
fn a_migration_to_another_volume_copies_and_compares_everything() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        populate(&volume, 30);
        volume.plant(&BOB, "results", "big.bin", vec![7; 3 << 20]);
        {
            let mount = volume.mount(&ALICE);
            mount.shell("chmod 600 schedules/1.json; touch -d 2020-01-01 results/sub/plot.svg; echo '{' > results/draft.json || true");
        }
        let before = files(&volume.root());
        let to = if layout == Layout::UserFirst {
            Layout::ResourceFirst
        } else {
            Layout::UserFirst
        };
        let target = volume.base().join("target");
        fs::create_dir(&target).unwrap();
        chown(&target, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        set_mode(&target, 0o750);
        let (from, to_text) = (layout.to_string(), to.to_string());
        let options = [
            "--from",
            &from,
            "--to",
            &to_text,
            "--to-volume",
            target.to_str().unwrap(),
            "--json",
        ];
        // Killed some times, it is finished by another run.
        for _ in 0..3 {
            let mut child = command(&volume, "migrate", &options)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(Duration::from_millis(30));
            let _ = kill_process(Pid::from_child(&child), Signal::KILL);
            child.wait().unwrap();
        }
        asked(&volume, "migrate", &options);
        assert_eq!(files(&volume.root()), before, "the old volume stays as it is");
        // By name and content, wherever the layouts put them.
        let contents = |root: &Path| {
            let named = |(path, text): (PathBuf, Vec<u8>)| (path.file_name().unwrap().to_owned(), text);
            let mut all: Vec<_> = files(root).into_iter().map(named).collect();
            all.retain(|(name, _)| {
                !name.to_str().unwrap().starts_with(".tenantfs-owner") && name != ".tenantfs-layout"
            });
            all.retain(|(name, _)| !name.to_str().unwrap().starts_with(".tenantfs-tmp-"));
            all.sort();
            all
        };
        assert_eq!(contents(&target), contents(&volume.root()));
        let again = asked(&volume, "migrate", &options);
        assert_eq!(json_lines(&again)[0]["migrated"]["files"], 0);
        let mountpoint = volume.base().join("mnt-target");
        fs::create_dir(&mountpoint).unwrap();
        let mut mount = mount_of(&volume, &target, to, &mountpoint);
        mount.stdout(Stdio::piped());
        let mut server = mount.spawn().unwrap();
        let mut ready = [0; 1];
        std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let seen = common::shell(
            ALICE.uid,
            &mountpoint,
            "stat -c '%a' schedules/1.json; stat -c %y results/sub/plot.svg; cat results/draft.json",
        );
        kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
        server.wait().unwrap();
        assert!(
            seen.starts_with("600\n2020-01-01") && seen.ends_with("{\n"),
            "{seen}"
        );
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
    let erased = erase(&volume, &["--user-id", "alice"]);
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
    assert!(!volume.path(&ALICE, "schedules", "y.json").exists());
    set_mode(&closed, 0o750);
}

#[test]
fn repairing_moves_records_home_and_removes_what_nobody_needs_and_nothing_else() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.plant(&ALICE, "schedules", "own.json", record_of("alice", 1));
        volume.plant(&ALICE, "schedules", "sub/of-bob.json", record_of("bob", 2));
        volume.plant(&ALICE, "schedules", "copy.json", record_of("bob", 3));
        volume.plant(&BOB, "schedules", "copy.json", record_of("bob", 4));
        volume.plant(&ALICE, "schedules", "broken.json", "{");
        let before = files(&volume.root());
        let output = ask(&volume, "verify", &["--repair", "--json"]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        let moved = volume.path(&BOB, "schedules", "sub/of-bob.json");
        assert_eq!(fs::read_to_string(&moved).unwrap(), record_of("bob", 2));
        assert!(!volume.path(&ALICE, "schedules", "sub/of-bob.json").exists());
        let mut after = files(&volume.root());
        let relative = |path: &Path| path.strip_prefix(volume.root()).unwrap().to_owned();
        let text = after.remove(&relative(&moved)).unwrap();
        after.insert(
            relative(&volume.path(&ALICE, "schedules", "sub/of-bob.json")),
            text,
        );
        assert_eq!(after, before, "nothing else has changed");
        let lines = json_lines(&stdout(&output));
        let repaired: Vec<_> = lines.iter().filter(|line| line["repaired"] == true).collect();
        assert_eq!(repaired.len(), 1);
        assert_eq!(audited(&volume, "repair").len(), 1);
        let mount = volume.mount(&BOB);
        assert!(mount.read("schedules/sub/of-bob.json").contains("\"n\" : 2"));
        let again = ask(&volume, "verify", &["--repair", "--json"]);
        let seen = json_lines(&stdout(&again)).pop().unwrap();
        assert_eq!(seen["verified"]["repaired"], 0);
    }
}

#[test]
fn a_record_that_changes_meanwhile_is_exported_whole() {
    let volume = Volume::new(Layout::default());
    let service = volume.service_command(&["loop", "alice", "results", "churned", "2"]);
    let writing = thread::spawn(move || success(service, ""));
    let mut exports = 0;
    while !writing.is_finished() {
        let directory = volume.base().join(format!("export-{exports}"));
        let output = ask(
            &volume,
            "export",
            &["--user-id", "alice", "--to", directory.to_str().unwrap()],
        );
        // Before the service has saved anything, there is nothing.
        if !output.status.success() {
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
