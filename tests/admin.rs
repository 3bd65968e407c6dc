//! The operator's commands on a whole volume, beside live mounts and the live service.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use common::{ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Volume, eventually, run, set_mode, tenantfs};
use serde_json::Value;

const OLD: &str = r#""old":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=""#;
const NEW: &str = r#""new":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=""#;

/// Two user ids with the same hash: found by search.
const COLLIDING: [&str; 2] = ["u28e7627cc5ab20b0", "u8c0ca16042c103c3"];
const COLLIDING_HASH: &str = "48bb1880c55791f1";

fn sealing_keys(volume: &Volume, active: &str, keys: &[&str]) -> PathBuf {
    let path = volume.base().join(format!("sealing-{active}.json"));
    fs::write(
        &path,
        format!(r#"{{"active":"{active}","keys":{{{}}}}}"#, keys.join(",")),
    )
    .unwrap();
    set_mode(&path, 0o600);
    path
}

fn command(volume: &Volume, name: &str, options: &[&str]) -> Command {
    let mut command = tenantfs();
    command.env("TENANTFS_LOG", "warn").arg(name);
    command.arg("--volume").arg(volume.root());
    command
        .args(["--layout", &volume.layout.to_string()])
        .args(options);
    command
}

fn ask(volume: &Volume, name: &str, options: &[&str]) -> Output {
    run(command(volume, name, options), "")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The findings by path, each with its problem.
fn findings(output: &Output) -> BTreeMap<String, String> {
    let found = stdout(output);
    let lines = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let findings = lines.filter(|line| line.get("problem").is_some());
    findings
        .map(|line| {
            assert!(!line["detail"].as_str().unwrap().is_empty());
            let of = |name: &str| line[name].as_str().unwrap().to_owned();
            (of("path"), of("problem"))
        })
        .collect()
}

#[test]
fn a_volume_as_the_service_and_the_mounts_leave_it_has_no_problems() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let keys = sealing_keys(&volume, "old", &[OLD]);
        let options = ["--sealing-keys", keys.to_str().unwrap()];
        {
            let mount = volume.mount_with(&ALICE, &options);
            let script = r#"mkdir schedules/sub
                echo '{"api_key":"sk-typed","n":1}' > schedules/a.json; echo '{"n":2}' > schedules/sub/b.json
                mkdir results/gone; echo '{"api_key":"sk-removed"}' > results/gone/g.json; rm -r results/gone
                echo '{"n":3}' > schedules/r.json; rm schedules/r.json
                echo plot > results/plot.svg; echo '{"broken": "' > schedules/draft.json || true"#;
            mount.shell(script);
        }
        volume.service(&["save", "bob", "results", "x"], r#"{"n": 1}"#);
        let output = ask(&volume, "verify", &[&options[..], &["--json"]].concat());
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        let seen: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let seen = &seen["verified"];
        let counts = [
            "records",
            "attachments",
            "drafts",
            "waiting",
            "sealed",
            "plain_secrets",
        ]
        .map(|name| seen[name].as_u64().unwrap());
        assert_eq!(counts, [3, 1, 1, 2, 2, 0], "{seen}");

        // What waits is sealed anew with the rest: the old key is not needed any more.
        for (keys, command) in [(&[OLD, NEW][..], "reseal"), (&[NEW][..], "verify")] {
            let keys = sealing_keys(&volume, "new", keys);
            let output = ask(&volume, command, &["--sealing-keys", keys.to_str().unwrap()]);
            assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        }
    }
}

#[test]
fn what_waits_is_resealed_and_goes_on_waiting_as_long_under_the_name_it_had() {
    let volume = Volume::new(Layout::ResourceFirst);
    let before = sealing_keys(&volume, "old", &[OLD]);
    let long = format!("{}.json", "x".repeat(250));
    volume
        .mount_with(&ALICE, &["--sealing-keys", before.to_str().unwrap()])
        .shell(&format!(
            r#"cd schedules; key='"api_key":"sk-that-waits"'; mkdir a
            for record in {long} x.json y.json a/z.json; do echo "{{$key}}" > $record; done
            rm {long} x.json; mv y.json gone.json; mv a b; mkdir a; rm gone.json"#
        ));
    let removed = || {
        let output = ask(&volume, "removed", &["--user-id", "alice", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let said: Value = serde_json::from_str(&stdout(&output)).unwrap();
        said["removed"]["records"].clone()
    };
    let waiting = removed();
    assert_eq!(waiting.as_array().unwrap().len(), 3, "{waiting}");
    std::thread::sleep(Duration::from_millis(1_100));
    let after = sealing_keys(&volume, "new", &[OLD, NEW]);
    let output = ask(
        &volume,
        "reseal",
        &["--json", "--sealing-keys", after.to_str().unwrap()],
    );
    let said: Value = serde_json::from_str(&stdout(&output)).unwrap();
    // The three, z.json, and the secrets that y.json and the old a/z.json have left.
    assert_eq!(said["resealed"]["resealed"], 6, "{said}");
    assert_eq!(removed(), waiting);

    // Without the old key: what is restored, removed again and made anew is as good as ever.
    let after = sealing_keys(&volume, "only", &[NEW, &NEW.replace("\"new\"", "\"only\"")]);
    let mount = volume.mount_with(&ALICE, &["--sealing-keys", after.to_str().unwrap()]);
    for path in [format!("schedules/{long}"), "schedules/x.json".to_owned()] {
        let output = ask(&volume, "restore", &["--user-id", "alice", &path]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    mount
        .shell("cd schedules; rm x.json; for record in x.json y.json a/z.json; do echo '{}' > $record; done");
    for record in [&long, "x.json", "y.json", "a/z.json"] {
        let stored = volume.stored(&ALICE, "schedules", record);
        assert!(stored.contains("tfs1.new."), "{record}: {stored}");
    }
}

#[test]
fn whatever_is_wrong_on_a_volume_is_named() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let of = |user: &str| format!(r#"{{"user_id":"{user}"}}"#);
        let mut expected = BTreeMap::new();
        let relative = |path: &PathBuf| {
            path.strip_prefix(volume.root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let mut plant = |name: &str, content: &[u8], problem: &str| {
            let path = volume.plant(&ALICE, "schedules", name, content);
            expected.insert(relative(&path), problem.to_owned());
            path
        };
        plant("malformed.json", b"{", "malformed");
        plant("list.json", b"[\"alice\"]", "malformed");
        plant("ownerless.json", b"{}", "ownerless");
        plant(
            "two.json",
            br#"{"user_id":"alice","user_id":"alice"}"#,
            "two_owners",
        );
        plant("misplaced.json", of("bob").as_bytes(), "misplaced");
        plant("sub/misplaced.json", of("bob").as_bytes(), "misplaced");
        plant("copy.json", of("bob").as_bytes(), "foreign");
        plant(
            "plain.json",
            br#"{"api_key":"sk-1","user_id":"alice"}"#,
            "plain_secret",
        );
        plant(
            "sealed.json",
            br#"{"api_key":"tfs1.k.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","user_id":"alice"}"#,
            "unopenable_secret",
        );
        plant(".tenantfs-draft-0123", b"nonsense", "draft");
        plant(".tenantfs-what", b"", "invalid_name");
        plant("line\nbreak", b"", "invalid_name");
        let writable = plant("writable.json", of("alice").as_bytes(), "permissions");
        set_mode(&writable, 0o666);
        let of_root = plant("root.json", of("alice").as_bytes(), "permissions");
        chown(&of_root, Some(0), Some(0)).unwrap();
        set_mode(&of_root, 0o600);
        let big = plant("big.json", &[b' '; 200_000], "oversized");
        assert!(big.exists());
        let linked = plant("linked.json", of("alice").as_bytes(), "hard_linked");
        fs::hard_link(&linked, volume.base().join("elsewhere")).unwrap();
        let old = plant(".tenantfs-tmp-0123", b"", "temporary");
        volume.plant(&BOB, "schedules", "copy.json", of("bob"));
        volume.plant(&ALICE, "schedules", "good.json", of("alice"));
        for (name, make) in [("dir.json", true), ("link.json", false)] {
            let path = volume.path(&ALICE, "schedules", name);
            match make {
                true => fs::create_dir(&path).unwrap(),
                false => symlink("good.json", &path).unwrap(),
            }
            expected.insert(relative(&path), "special".to_owned());
        }
        for (index, user) in COLLIDING.iter().enumerate() {
            let path = match layout {
                Layout::ResourceFirst => volume.root().join("results").join(COLLIDING_HASH),
                Layout::UserFirst => volume.root().join("users").join(COLLIDING_HASH).join("results"),
            };
            fs::create_dir_all(&path).unwrap();
            let path = path.join(format!("{index}.json"));
            fs::write(&path, of(user)).unwrap();
            chown(&path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
            if index == 1 {
                expected.insert(relative(&path), "colliding".to_owned());
            }
        }
        let marker = volume.directory(&BOB, "schedules").join("..");
        let marker = match layout {
            Layout::ResourceFirst => volume.directory(&BOB, "schedules").join(".tenantfs-owner"),
            Layout::UserFirst => marker.canonicalize().unwrap().join(".tenantfs-owner"),
        };
        fs::write(&marker, "not a hash").unwrap();
        expected.insert(relative(&marker), "marker".to_owned());
        let stray = marker.ancestors().nth(2).unwrap().join("stray");
        fs::write(&stray, "").unwrap();
        expected.insert(relative(&stray), "special".to_owned());

        // Old by the change of its inode, which only the clock can make: a new one is somebody's who is writing.
        let fresh = ask(&volume, "verify", &["--max-size", "100KiB"]);
        assert!(!findings(&fresh).contains_key(&relative(&old)));
        expected.remove(&relative(&old));
        let output = ask(&volume, "verify", &["--max-size", "100KiB"]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert_eq!(findings(&output), expected);
        assert!(!stdout(&output).contains("sk-1") && !stderr(&output).contains("sk-1"));
        assert!(stderr(&output).contains("1 in plain text"), "{}", stderr(&output));
    }
}

#[test]
fn a_directory_that_cannot_be_read_is_a_finding_and_the_rest_goes_on() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "sub/x.json", "{}");
    let closed = volume.path(&ALICE, "schedules", "sub");
    set_mode(&closed, 0o000);
    volume.plant(&BOB, "schedules", "bad.json", "{}");
    let output = ask(&volume, "verify", &[]);
    let found = findings(&output);
    let problems: Vec<_> = found.values().collect();
    assert_eq!(problems, ["unreadable", "ownerless"], "{found:?}");
    set_mode(&closed, 0o750);
}

#[test]
fn resealing_goes_on_beside_a_mount_and_the_service_and_loses_nothing() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let before = sealing_keys(&volume, "old", &[OLD]);
        let after = sealing_keys(&volume, "new", &[OLD, NEW]);
        let mount = volume.mount_with(&ALICE, &["--sealing-keys", before.to_str().unwrap()]);
        mount.shell(
            r#"for i in $(seq 60); do echo "{\"api_key\":\"sk-$i\",\"n\":$i}" > schedules/$i.json; done
            chmod 600 schedules/1.json; touch -d 2020-01-01 schedules/1.json
            echo '{"api_key":"sk-draft", ' > results/draft.json || true"#,
        );
        volume.plant(
            &ALICE,
            "schedules",
            "plain.json",
            r#"{"api_key":"sk-plain","user_id":"alice"}"#,
        );
        // The user and the service save again and again, while everything is sealed anew.
        let mut user = mount.command("sh");
        user.args(["-euc", r#"for round in $(seq 20); do for i in 1 2 3 4 5; do echo "{\"n\":$i,\"round\":$round}" > schedules/$i.json; done; done"#]);
        let service = volume.service_command(&["loop", "alice", "results", "churned", "2"]);
        let adopting = ["--sealing-keys", after.to_str().unwrap(), "--adopt-plain"];
        let mut all = vec![service, user];
        all.extend((0..5).map(|_| command(&volume, "reseal", &["--sealing-keys", after.to_str().unwrap()])));
        // In a row, on the results alone: there each meets the service's record.
        let contending: Vec<String> = adopting.iter().map(|option| format!("'{option}'")).collect();
        let mut contender = Command::new("sh");
        contender.args(["-c", &format!(
            "for i in $(seq 20); do {:?} reseal --volume {:?} --layout {layout} --resources results {} 2>/dev/null || true; done",
            env!("CARGO_BIN_EXE_tenantfs"), volume.root(), contending.join(" ")
        )]);
        all.push(contender);
        let printed = common::together(all);
        let last: Value = serde_json::from_str(&volume.stored(&ALICE, "results", "churned.json")).unwrap();
        assert_eq!(last["revision"].to_string(), printed[0].trim_end());
        // A save under way while its record was sealed anew has put back what it had read: once more, when all is quiet.
        assert!(
            ask(&volume, "reseal", &["--sealing-keys", after.to_str().unwrap()])
                .status
                .success()
        );
        for i in 1..=60 {
            let stored: Value =
                serde_json::from_str(&volume.stored(&ALICE, "schedules", &format!("{i}.json"))).unwrap();
            assert_eq!(stored["n"], i);
            if i <= 5 {
                assert_eq!(stored["round"], 20, "what was saved last is there: {stored}");
            }
            let unsealed = unseal(&volume, &after, "alice", "schedules", &i.to_string());
            assert_eq!(stdout(&unsealed), format!("sk-{i}\n"));
            assert!(
                stored["api_key"].as_str().unwrap().starts_with("tfs1.new."),
                "{stored}"
            );
        }
        assert_eq!(mount.shell("stat -c '%a' schedules/1.json"), "600\n");
        // Plain text is the service's own matter until it is adopted.
        assert!(
            volume
                .stored(&ALICE, "schedules", "plain.json")
                .contains("sk-plain")
        );
        let options = [
            "--sealing-keys",
            after.to_str().unwrap(),
            "--adopt-plain",
            "--json",
        ];
        let adopted = ask(&volume, "reseal", &options);
        assert!(adopted.status.success(), "{}", stderr(&adopted));
        let done: Value = serde_json::from_str(&stdout(&adopted)).unwrap();
        assert!(done["resealed"]["resealed"].as_u64().unwrap() >= 1);
        assert!(
            !volume
                .stored(&ALICE, "schedules", "plain.json")
                .contains("sk-plain")
        );
        // Nothing is left to do, and nothing is touched.
        let again = ask(&volume, "reseal", &options);
        let done: Value = serde_json::from_str(&stdout(&again)).unwrap();
        assert_eq!(done["resealed"]["resealed"], 0);
        drop(mount);
        // The old key can go: drafts, too, are under the new one.
        let only = sealing_keys(&volume, "new", &[NEW]);
        let verified = ask(&volume, "verify", &["--sealing-keys", only.to_str().unwrap()]);
        assert!(verified.status.success(), "{}", stdout(&verified));
        let mount = volume.mount_with(&ALICE, &["--sealing-keys", only.to_str().unwrap()]);
        assert_eq!(mount.read("results/draft.json"), "{\"api_key\":\"sk-draft\", \n");
    }
}

/// What the audit log has, each as `op path outcome`.
fn audited(volume: &Volume) -> Vec<String> {
    let text = fs::read_to_string(volume.audit_log()).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines
        .map(|line| ["op", "path", "outcome"].map(|name| of(&line, name)).join(" "))
        .collect()
}

fn unseal(volume: &Volume, keys: &std::path::Path, user: &str, resource: &str, id: &str) -> Output {
    let log = volume.audit_log();
    ask(
        volume,
        "unseal",
        &[
            "--audit-log",
            log.to_str().unwrap(),
            "--sealing-keys",
            keys.to_str().unwrap(),
            user,
            resource,
            id,
        ],
    )
}

#[test]
fn resealing_that_is_killed_is_finished_by_another_run() {
    let volume = Volume::new(Layout::default());
    let before = sealing_keys(&volume, "old", &[OLD]);
    let after = sealing_keys(&volume, "new", &[OLD, NEW]);
    {
        let mount = volume.mount_with(&ALICE, &["--sealing-keys", before.to_str().unwrap()]);
        mount.shell(r#"for i in $(seq 300); do echo "{\"api_key\":\"sk-$i\"}" > schedules/$i.json; done"#);
    }
    // Temporary files come and go; the records are always there.
    let sealed_anew = || {
        let text = |number| volume.stored(&ALICE, "schedules", &format!("{number}.json"));
        (1..=300)
            .filter(|number| text(*number).contains("tfs1.new."))
            .count()
    };
    let options = ["--sealing-keys", after.to_str().unwrap()];
    for round in 0..10 {
        let begun = sealed_anew();
        let mut child = command(&volume, "reseal", &options).spawn().unwrap();
        eventually(Duration::from_secs(5), || {
            sealed_anew() >= begun + 5 || matches!(child.try_wait(), Ok(Some(_)))
        });
        if round % 2 == 0 {
            child.kill().unwrap();
        } else {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        child.wait().unwrap();
    }
    let output = ask(&volume, "reseal", &options);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(sealed_anew(), 300);
    for i in [1, 150, 300] {
        let unsealed = unseal(&volume, &after, "alice", "schedules", &i.to_string());
        assert_eq!(stdout(&unsealed), format!("sk-{i}\n"));
    }
    let names = fs::read_dir(volume.directory(&ALICE, "schedules")).unwrap();
    let ended = SystemTime::now();
    for name in names {
        let name = name.unwrap().file_name().into_string().unwrap();
        let is_ours =
            name.ends_with(".json") || name == ".tenantfs-owner" || name.starts_with(".tenantfs-tmp-");
        assert!(is_ours, "{name}, at {ended:?}");
    }
}

#[test]
fn a_secret_is_unsealed_for_its_user_and_record_only() {
    let volume = Volume::new(Layout::default());
    let keys = sealing_keys(&volume, "new", &[NEW]);
    {
        let mount = volume.mount_with(&ALICE, &["--sealing-keys", keys.to_str().unwrap()]);
        mount.shell(
            r#"echo '{"api_key":"sk-\u00e4 1"}' > schedules/x.json; echo '{"n":1}' > schedules/none.json"#,
        );
    }
    volume.plant(
        &ALICE,
        "schedules",
        "plain.json",
        r#"{"api_key":"sk-plain","user_id":"alice"}"#,
    );
    assert_eq!(
        stdout(&unseal(&volume, &keys, "alice", "schedules", "x")),
        "sk-ä 1\n"
    );
    for (user, resource, id, said) in [
        ("alice", "schedules", "y", "no record schedules/y.json"),
        ("bob", "schedules", "x", "no record"),
        ("alice", "results", "x", "no record"),
        ("alice", "nonsense", "x", "no record"),
        ("alice", "schedules", "none", "no secret \"api_key\""),
        ("alice", "schedules", "plain", "is not sealed"),
        ("alice", "schedules", "../x", "not that of a directory entry"),
        ("", "schedules", "x", "the user id is empty"),
    ] {
        let output = unseal(&volume, &keys, user, resource, id);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{user} {resource} {id}"
        );
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
        assert!(!stderr(&output).contains("sk-"));
    }
    // Whoever unsealed something, or tried to, has left a line; and without one nothing is shown.
    let lines = audited(&volume);
    assert_eq!(lines[0], "unseal schedules/x.json ok");
    assert!(
        lines.contains(&"unseal schedules/plain.json EINVAL".to_owned()),
        "{lines:?}"
    );
    let full = [
        "--audit-log",
        "/dev/full",
        "--sealing-keys",
        keys.to_str().unwrap(),
        "alice",
        "schedules",
        "x",
    ];
    let output = ask(&volume, "unseal", &full);
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{}",
        stderr(&output)
    );
    // Nobody but the operator can read the keys.
    let mut command = common::as_user(
        ALICE.uid,
        volume.base(),
        common::daemon::reachable_program(&volume).to_str().unwrap(),
    );
    command
        .args(["unseal", "--volume"])
        .arg(volume.root())
        .arg("--sealing-keys")
        .arg(&keys);
    command.args(["alice", "schedules", "x"]);
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        output.stdout.is_empty() && stderr(&output).contains("cannot be read by uid 61001"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
}
