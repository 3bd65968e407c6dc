//! The mount's semantics, continued: owners, modes, times and the like. See `semantics.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use common::{ALICE, BOB, Mount, SERVICE_UID, Volume, eventually, set_mode};
use tenantfs::layout::Layout;

/// A volume with one record of alice's, `schedules/monday.json`.
fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(
        &ALICE,
        "schedules",
        "monday.json",
        r#"{"day": 1, "user_id": "alice"}"#,
    );
    volume
}

/// What each Python statement must meet: `ok`, or an errno's name.
fn expect(mount: &Mount<'_>, statements: &[(&str, &str)]) {
    for (statement, outcome) in statements {
        assert_eq!(mount.errno(statement), *outcome, "{statement}");
    }
}

#[test]
fn everything_belongs_to_the_user_and_cannot_be_given_away() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("echo x > results/plot && mkdir results/d");
    assert_eq!(
        mount.shell("stat -c '%u %g' . results results/d results/plot schedules/monday.json"),
        "61001 61001\n".repeat(5)
    );
    expect(
        &mount,
        &[
            ("os.chown('results/plot', 61001, 61001)", "ok"),
            ("os.chown('schedules/monday.json', -1, 61001)", "ok"),
            ("os.chown('results/plot', 61002, -1)", "EPERM"),
            ("os.chown('schedules/monday.json', 0, 0)", "EPERM"),
        ],
    );
}

#[test]
fn chmod_changes_what_the_mount_shows_and_not_what_the_service_needs() {
    let volume = volume();
    let record = volume.path(&ALICE, "schedules", "monday.json");
    {
        let mount = volume.mount(&ALICE);
        mount.shell(
            "echo x > results/plot && mkdir results/d && chmod 400 results/plot && chmod 500 results/d
            chmod 444 schedules/monday.json",
        );
        assert_eq!(
            mount.shell("stat -c %a results/plot results/d schedules/monday.json"),
            "400\n500\n444\n"
        );
        expect(
            &mount,
            &[
                ("open('schedules/monday.json', 'w')", "EACCES"),
                ("open('results/d/x', 'w')", "EACCES"),
            ],
        );
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&record), 0o640);
    assert_eq!(
        mode(&volume.path(&ALICE, "results", "plot")) & 0o600,
        0o600,
        "the service can read and write it"
    );
    // Kept by the volume, and through a commit.
    let mount = volume.mount(&ALICE);
    mount.shell("chmod 640 schedules/monday.json && echo '{}' > schedules/monday.json");
    assert_eq!(
        mount.shell("stat -c %a results/plot results/d schedules/monday.json"),
        "400\n500\n640\n"
    );
}

#[test]
fn a_directory_has_two_links_and_one_for_each_directory_that_can_be_seen_in_it() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let links = |paths: &str| mount.shell(&format!("stat -c %h {paths}"));
    assert_eq!(links(". schedules results"), "4\n2\n2\n");
    mount.shell("mkdir -p results/a/b results/c && echo x > results/plot");
    assert_eq!(links("results results/a results/a/b results/c"), "4\n3\n2\n2\n");
    mount.shell("mv results/a/b results/c/b && rmdir results/a");
    assert_eq!(links("results results/c results/c/b"), "3\n3\n2\n");
    // What is hidden is not counted, and what the service makes is.
    let directory = volume.directory(&ALICE, "results");
    for name in ["hidden\u{1}", "shown"] {
        fs::create_dir(directory.join(name)).unwrap();
    }
    let counted = || links("results") == "4\n";
    assert!(
        eventually(Duration::from_secs(2), counted),
        "{}",
        links("results")
    );
    // The removed one waits there: a directory was moved out of it.
    assert_eq!(fs::metadata(&directory).unwrap().nlink(), 6);
    // Of very many it says that they are not counted, as ext4 does.
    mount.shell("cd results && mkdir $(seq 300)");
    assert_eq!(links("results results/c"), "1\n3\n");
    mount.shell("cd results && rmdir $(seq 300)");
    assert_eq!(links("results"), "4\n");
}

#[test]
fn set_id_bits_cannot_be_set() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    expect(
        &mount,
        &[
            ("os.chmod('schedules/monday.json', 0o4755)", "EPERM"),
            ("os.chmod('schedules/monday.json', 0o2755)", "EPERM"),
            ("os.chmod('schedules', 0o2755)", "EPERM"),
            ("os.chmod('schedules/monday.json', 0o755)", "ok"),
        ],
    );
}

#[test]
fn the_sticky_bit_is_shown_where_it_was_set() {
    let volume = volume();
    {
        let mount = volume.mount(&ALICE);
        mount.shell(
            "mkdir results/d; echo x > results/plot; chmod 1750 results/d; chmod 1640 results/plot schedules/monday.json
            chmod 1600 schedules/monday.json; echo '{}' > schedules/monday.json",
        );
    }
    let mount = volume.mount(&ALICE);
    assert_eq!(
        mount.shell("stat -c %a results/d results/plot schedules/monday.json"),
        "1750\n1640\n1600\n"
    );
    let mode = fs::metadata(volume.path(&ALICE, "results", "plot"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7000, 0, "not on the volume");
}

#[test]
fn a_new_file_has_the_mode_that_its_program_asked_for() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "umask 022; echo '{}' > schedules/a.json; echo x > schedules/a; mkdir schedules/d
        umask 077; echo '{}' > schedules/b.json; echo x > schedules/b; mkdir schedules/e",
    );
    assert_eq!(
        mount.shell("cd schedules; stat -c %a a.json a d b.json b e"),
        "644\n644\n755\n600\n600\n700\n"
    );
}

#[test]
fn times_that_a_program_sets_are_kept() {
    let volume = volume();
    let show = "stat -c '%.9Y' schedules/monday.json schedules/new.json results/plot results/d";
    let expected = "981173106.123456789\n".repeat(4);
    {
        let mount = volume.mount(&ALICE);
        // rsync and cp -p set them before they close the file; touch does afterwards.
        mount.python(
            "
import os
os.mkdir('results/d')
for path, text in ('schedules/new.json', '{}'), ('results/plot', 'x'):
    with open(path, 'w') as file:
        file.write(text)
        file.flush()
        os.utime(file.fileno(), ns=(0, 981173106123456789))
for path in 'schedules/monday.json', 'results/d':
    os.utime(path, ns=(0, 981173106123456789))
",
            &[],
        );
        assert_eq!(mount.shell(show), expected);
    }
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell(show), expected);
    // Access times too: reading, which is the server's doing on the volume, leaves them alone.
    let read = "touch -a -d @5 schedules/monday.json results/plot results/d
        cat schedules/monday.json results/plot > /dev/null; ls -l results/d
        stat -c %X schedules/monday.json results/plot results/d";
    assert_eq!(mount.shell(read), "total 0\n5\n5\n5\n");
}

#[test]
fn there_are_no_extended_attributes() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("chmod 600 schedules/monday.json");
    expect(
        &mount,
        &[
            ("os.setxattr('schedules/monday.json', 'user.x', b'1')", "ENOTSUP"),
            (
                "os.getxattr('schedules/monday.json', 'user.tenantfs.mode')",
                "ENOTSUP",
            ),
            ("os.removexattr('schedules/monday.json', 'user.x')", "ENOTSUP"),
            ("os.listxattr('schedules/monday.json')", "ENOTSUP"),
        ],
    );
}

#[test]
fn an_ioctl_is_enotty() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    expect(
        &mount,
        &[(
            "fcntl.ioctl(open('schedules/monday.json'), 0x5401, bytes(64))",
            "ENOTTY",
        )],
    );
}

#[test]
fn statfs_shows_the_users_own_usage() {
    let volume = volume();
    let big = format!("{{\"user_id\": \"bob\", \"x\": \"{}\"}}", "x".repeat(5_000_000));
    volume.plant(&BOB, "schedules", "big.json", big);
    volume.plant(&ALICE, "results", "plot", vec![b'x'; 1_000_000]);
    let mount = volume.mount(&ALICE);
    let said = mount.python(
        "
import os
s = os.statvfs('.')
print((s.f_blocks - s.f_bfree) * s.f_frsize, s.f_files - s.f_ffree, s.f_bavail > 0, s.f_namemax)
",
        &[],
    );
    let words: Vec<_> = said.split_whitespace().collect();
    let used: u64 = words[0].parse().unwrap();
    assert!((1_000_000..1_020_000).contains(&used), "{said}");
    assert_eq!(words[1..], ["2", "True", "255"]);
}

#[test]
fn programs_do_not_run_unless_exec_is_given() {
    let volume = volume();
    let script = "printf '#!/bin/sh\\necho ran\\n' > results/run && chmod 700 results/run";
    {
        let mount = volume.mount(&ALICE);
        mount.shell(script);
        assert_eq!(mount.errno("os.execv('results/run', ['run'])"), "EACCES");
    }
    let mount = volume.mount_with(&ALICE, &["--exec"]);
    assert_eq!(mount.shell("results/run"), "ran\n");
}

#[test]
fn a_new_file_takes_owner_group_and_mode_on_the_volume_from_the_record_it_replaces_else_from_its_directory() {
    let volume = volume();
    let record = volume.path(&ALICE, "schedules", "monday.json");
    set_mode(&record, 0o664);
    let group = 61077;
    for path in [
        volume.directory(&ALICE, "schedules"),
        volume.root().join("schedules"),
    ] {
        chown(path, None, Some(group)).unwrap();
    }
    let group_may_write = volume.directory(&ALICE, "schedules");
    set_mode(&group_may_write, 0o2770);
    let mount = volume.mount(&ALICE);
    mount.shell(
        "umask 077; for f in monday new; do echo '{}' > schedules/$f.json; done; echo x > schedules/plot",
    );
    let facts = |name: &str| {
        let stat = fs::metadata(volume.path(&ALICE, "schedules", name)).unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    assert_eq!(facts("monday.json"), (SERVICE_UID, SERVICE_UID, 0o664));
    assert_eq!(facts("new.json"), (SERVICE_UID, group, 0o660));
    assert_eq!(facts("plot"), (SERVICE_UID, group, 0o660));
}
