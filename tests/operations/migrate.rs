//! `tenantfs migrate`.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{asked, command, files, json_lines, populate, record_of, stderr, stdout};
use crate::common::{
    ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Tenant, Volume, run, set_mode, shell, tenantfs,
};

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
        let log = volume.audit_log();
        migrate.args(["-c", &format!(
            "sleep 0.5; {program:?} migrate --audit-log {log:?} --volume {:?} --from {from} --to {to} --json", volume.root()
        )]);
        let printed = crate::common::together(vec![user, service, migrate]);
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
            // Each volume has a secret of its own for the numbers of files.
            all.retain(|(name, _)| name != ".tenantfs-numbers");
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
        let seen = shell(
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
