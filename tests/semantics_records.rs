//! The mount's semantics, continued: records and their drafts. See `semantics.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use common::{ALICE, Conversation, LAYOUTS, SERVICE_UID, Volume, as_user, run, write};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tenantfs::layout::Layout;

/// What the service keeps in a record, and the mount never shows.
const SECRET: &str = "sk-planted-by-the-service";

/// A volume with one record of alice's, `schedules/monday.json`, that has a secret.
fn volume() -> Volume {
    volume_in(Layout::ResourceFirst)
}

fn volume_in(layout: Layout) -> Volume {
    let volume = Volume::new(layout);
    let record = format!(r#"{{"day": 1, "api_key": "{SECRET}", "user_id": "alice"}}"#);
    volume.plant(&ALICE, "schedules", "monday.json", record);
    volume
}

const VIEW: &str = r#"{"day": 1, "user_id": "alice"}"#;

fn stored(volume: &Volume) -> String {
    volume.stored(&ALICE, "schedules", "monday.json")
}

/// The files on the volume that hold drafts.
fn drafts(volume: &Volume) -> usize {
    let files = volume.files(&ALICE);
    let names = files
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap());
    names.filter(|name| name.starts_with(".tenantfs-draft-")).count()
}

#[test]
fn what_is_written_is_read_back_and_stored_with_its_owner() {
    for layout in LAYOUTS {
        let volume = volume_in(layout);
        let text = "{\n\t\"n\" : 1.50e2, \"s\":\"\\u00fc\"\r\n}\n\n";
        {
            let mount = volume.mount(&ALICE);
            assert_eq!(write(&mount, "schedules/new.json", text), "ok");
            assert_eq!(mount.read("schedules/new.json"), text);
            let size = mount.shell("stat -c %s schedules/new.json");
            assert_eq!(size.trim(), text.len().to_string());
        }
        assert_eq!(volume.mount(&ALICE).read("schedules/new.json"), text);
        assert_eq!(
            volume.stored(&ALICE, "schedules", "new.json"),
            "{\n\t\"n\" : 1.50e2, \"s\":\"\\u00fc\",\"user_id\" :\"alice\"\r\n}\n\n"
        );
    }
}

#[test]
fn a_record_is_committed_when_its_writer_closes_it() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let path = volume.path(&ALICE, "schedules", "monday.json");
    let code = "
import os, sys
descriptor = os.open('schedules/monday.json', os.O_WRONLY | os.O_TRUNC)
for piece in '{\"day\"', ': 2', '}':
    os.write(descriptor, piece.encode())
print('written', flush=True)
sys.stdin.readline()
os.close(descriptor)
print('closed', flush=True)
sys.stdin.readline()
";
    let mut conversation = Conversation::start(&mount, code);
    assert_eq!(conversation.next(), "written");
    let before = stored(&volume);
    assert!(before.contains("\"day\": 1"), "{before}");
    assert_eq!(conversation.next(), "closed");
    // Before the program does anything else, other readers of the volume have the new one.
    let now = fs::read_to_string(path).unwrap();
    assert!(now.contains("\"day\": 2") && now.contains(SECRET), "{now}");
}

#[test]
fn fsync_commits_a_record_that_goes_on_being_written() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let code = "
import os, sys
descriptor = os.open('schedules/monday.json', os.O_RDWR | os.O_TRUNC)
os.write(descriptor, b'{\"day\": 2}')
os.fsync(descriptor)
print('synced', flush=True)
sys.stdin.readline()
os.pwrite(descriptor, b'3', 8)
assert os.pread(descriptor, 100, 0) == b'{\"day\": 3}'
os.close(descriptor)
print('closed', flush=True)
sys.stdin.readline()
";
    let mut conversation = Conversation::start(&mount, code);
    assert_eq!(conversation.next(), "synced");
    assert!(stored(&volume).contains("\"day\": 2"));
    assert_eq!(conversation.next(), "closed");
    assert!(stored(&volume).contains("\"day\": 3"));
}

#[test]
fn every_open_of_a_record_sees_what_is_being_written() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.python(
        "
import os
reader = open('schedules/monday.json', 'rb', buffering=0)
assert b'\"day\": 1' in reader.read()
writer = os.open('schedules/monday.json', os.O_WRONLY | os.O_TRUNC)
os.write(writer, b'{\"day\"')
reader.seek(0)
assert reader.read() == b'{\"day\"'
assert open('schedules/monday.json', 'rb').read() == b'{\"day\"'
assert os.stat('schedules/monday.json').st_size == 6
second = os.open('schedules/monday.json', os.O_WRONLY | os.O_APPEND)
os.write(second, b': 2}')
os.close(second)
os.close(writer)
assert open('schedules/monday.json', 'rb').read() == b'{\"day\": 2}'
",
        &[],
    );
    assert!(stored(&volume).contains("\"day\": 2"));
}

#[test]
fn a_text_that_is_no_json_object_is_einval_at_close_and_fsync() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let before = stored(&volume);
    for text in [
        "{\"day\": 2",
        "[1]",
        "null",
        "\"x\"",
        "{} {}",
        "{\"a\": 01}",
        "{'a': 1}",
        "x",
    ] {
        assert_eq!(write(&mount, "schedules/monday.json", text), "EINVAL", "{text}");
        assert_eq!(stored(&volume), before, "{text}");
    }
    let fsync = "f = os.open('schedules/x.json', os.O_CREAT | os.O_WRONLY); os.write(f, b'{'); os.fsync(f)";
    assert_eq!(mount.errno(fsync), "EINVAL");
    assert!(mount.log().contains("monday.json"), "{}", mount.log());
}

#[test]
fn a_draft_is_kept_and_shown_until_it_is_fixed_or_removed() {
    for layout in LAYOUTS {
        let volume = volume_in(layout);
        let before = stored(&volume);
        {
            let mount = volume.mount(&ALICE);
            assert_eq!(write(&mount, "schedules/monday.json", "{\"day\": 2,"), "EINVAL");
            assert_eq!(write(&mount, "schedules/new.json", "[1, 2"), "EINVAL");
            assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 2,");
        }
        assert_eq!(drafts(&volume), 2);
        assert_eq!(stored(&volume), before);
        assert!(!volume.path(&ALICE, "schedules", "new.json").exists());
        // Another session shows them too.
        let mount = volume.mount(&ALICE);
        assert_eq!(mount.shell("ls schedules"), "monday.json\nnew.json\n");
        assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 2,");
        assert_eq!(mount.shell("stat -c %s schedules/new.json"), "5\n");
        mount.shell("printf ' \"n\": 3}' >> schedules/monday.json; rm schedules/new.json");
        assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 2, \"n\": 3}");
        let now = stored(&volume);
        assert!(now.contains("\"n\": 3") && now.contains(SECRET), "{now}");
        assert_eq!(drafts(&volume), 0);
        assert_eq!(mount.shell("ls -A schedules"), "monday.json\n");
    }
}

#[test]
fn drafts_never_end_in_json_on_the_volume() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    assert_eq!(write(&mount, "schedules/new.json", "{"), "EINVAL");
    mount.shell("touch schedules/empty.json");
    let mut names: Vec<_> = fs::read_dir(volume.directory(&ALICE, "schedules"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.ends_with(".json"));
    assert_eq!(names, ["monday.json"]);
    assert_eq!(volume.service(&["list", "alice", "schedules"], ""), "monday\n");
}

#[test]
fn an_empty_record_is_a_draft_and_no_error() {
    let volume = volume();
    {
        let mount = volume.mount(&ALICE);
        mount.shell("touch schedules/x.json && : > schedules/y.json && : > schedules/monday.json");
        assert_eq!(mount.shell("ls schedules"), "monday.json\nx.json\ny.json\n");
        assert_eq!(
            mount.shell("stat -c %s schedules/x.json schedules/monday.json"),
            "0\n0\n"
        );
    }
    assert!(stored(&volume).contains(SECRET));
    assert!(!volume.path(&ALICE, "schedules", "x.json").exists());
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("ls schedules"), "monday.json\nx.json\ny.json\n");
    assert_eq!(write(&mount, "schedules/x.json", "{}"), "ok");
    assert_eq!(
        volume.stored(&ALICE, "schedules", "x.json"),
        r#"{"user_id" :"alice"}"#
    );
}

#[test]
fn a_close_of_an_inherited_descriptor_does_not_end_the_write() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "printf '{\"day\"' > ~/a; printf ': 7}' > ~/b
        (cat ~/a; cat ~/b) > schedules/monday.json",
    );
    assert!(stored(&volume).contains("\"day\": 7"));
    assert!(!mount.log().contains("not committed"), "{}", mount.log());
}

#[test]
fn truncate_by_path_may_leave_an_incomplete_record() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let before = stored(&volume);
    assert_eq!(mount.errno("os.truncate('schedules/monday.json', 9)"), "ok");
    assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 1");
    assert_eq!(stored(&volume), before);
    assert_eq!(mount.errno("os.truncate('schedules/monday.json', 0)"), "ok");
    assert_eq!(mount.read("schedules/monday.json"), "");
    assert_eq!(stored(&volume), before);
    mount.shell("printf '{}' >> schedules/monday.json");
    assert_eq!(mount.read("schedules/monday.json"), "{}");
    assert!(stored(&volume).contains(SECRET));
}

#[test]
fn a_record_larger_than_max_size_is_efbig() {
    let volume = volume();
    let mount = volume.mount_with(&ALICE, &["--max-size", "64KiB"]);
    let before = stored(&volume);
    let write = |size: usize| {
        mount.errno(&format!(
            "f = os.open('schedules/monday.json', os.O_WRONLY | os.O_TRUNC)\n\
             text = b'{{\"x\": \"' + b'x' * ({size} - 9) + b'\"}}'\n\
             assert len(text) == {size}\n\
             while text: text = text[os.write(f, text[:5000]):]\n\
             os.close(f)"
        ))
    };
    assert_eq!(write((64 << 10) + 1), "EFBIG");
    assert_eq!(stored(&volume), before);
    assert_eq!(write(64 << 10), "ok");
    assert_eq!(mount.shell("stat -c %s schedules/monday.json"), "65536\n");
    assert_eq!(
        mount.errno("os.truncate('schedules/monday.json', 65537)"),
        "EFBIG"
    );
    assert!(stored(&volume).contains(SECRET));
}

#[test]
fn secrets_are_not_in_the_mount_and_stay_on_the_volume() {
    for layout in LAYOUTS {
        let volume = volume_in(layout);
        let mount = volume.mount(&ALICE);
        assert_eq!(mount.read("schedules/monday.json"), VIEW);
        let size = mount.shell("stat -c %s schedules/monday.json");
        assert_eq!(size.trim(), VIEW.len().to_string());
        assert_eq!(write(&mount, "schedules/monday.json", "{\"day\": 2}"), "ok");
        mount.shell("grep -r api_key . && exit 1; true");
        let record: serde_json::Value = serde_json::from_str(&stored(&volume)).unwrap();
        assert_eq!(
            record,
            serde_json::json!({"day": 2, "api_key": SECRET, "user_id": "alice"})
        );
    }
}

#[test]
fn a_secret_written_as_null_is_removed() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let text = "{\"day\": 2, \"api_key\": null}";
    assert_eq!(write(&mount, "schedules/monday.json", text), "ok");
    let record: serde_json::Value = serde_json::from_str(&stored(&volume)).unwrap();
    assert!(
        record.get("api_key").is_none_or(serde_json::Value::is_null),
        "{record}"
    );
    assert!(!stored(&volume).contains(SECRET));
}

#[test]
fn without_sealing_keys_a_secret_in_plain_text_is_einval_and_kept_in_memory_only() {
    let volume = volume();
    let before = stored(&volume);
    let files = volume.files(&ALICE);
    {
        let mount = volume.mount(&ALICE);
        for text in [
            "{\"day\": 2, \"api_key\": \"sk-typed\"}",
            "{\"api\\u005fkey\": \"sk-typed\"}",
            "{\"\\u0061pi_ke\\u0079\": 1",
            "{\"api_key\": 7}",
        ] {
            assert_eq!(write(&mount, "schedules/monday.json", text), "EINVAL", "{text}");
            assert_eq!(mount.read("schedules/monday.json"), text);
            assert_eq!(stored(&volume), before);
        }
        assert_eq!(
            write(&mount, "schedules/new.json", "{\"api_key\": \"sk-typed\""),
            "EINVAL"
        );
        let log = mount.log();
        assert!(log.contains("secret") && !log.contains("sk-typed"), "{log}");
    }
    let mut names: Vec<_> = volume.files(&ALICE);
    names.retain(|path| !path.ends_with(".tenantfs-owner"));
    assert_eq!(names, files);
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.read("schedules/monday.json"), VIEW);
    assert_eq!(mount.shell("ls schedules"), "monday.json\n");
}

#[test]
fn somebody_elses_owner_is_replaced_by_the_users() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let text = "{\"user_id\": \"bob\", \"day\": 2}";
    assert_eq!(write(&mount, "schedules/new.json", text), "ok");
    let expected = "{\"user_id\": \"alice\", \"day\": 2}";
    assert_eq!(volume.stored(&ALICE, "schedules", "new.json"), expected);
    assert_eq!(mount.read("schedules/new.json"), expected);
    assert!(mount.log().contains("another owner"), "{}", mount.log());
}

#[test]
fn removing_a_record_removes_its_draft_too() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    assert_eq!(write(&mount, "schedules/monday.json", "{\"day\""), "EINVAL");
    assert_eq!(write(&mount, "schedules/new.json", "{"), "EINVAL");
    mount.shell("rm schedules/monday.json schedules/new.json && test -z \"$(ls -A schedules)\"");
    assert!(!volume.path(&ALICE, "schedules", "monday.json").exists());
    assert_eq!(drafts(&volume), 0);
}

#[test]
fn a_record_removed_before_its_first_commit_leaves_what_waits_for_its_name() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.python(
        "
import os
os.chdir('schedules')
os.rename('monday.json', 'monday.json~')
descriptor = os.open('monday.json', os.O_WRONLY | os.O_CREAT | os.O_EXCL)
os.write(descriptor, b'{}')
os.unlink('monday.json')
os.close(descriptor)
",
        &[],
    );
    assert_eq!(write(&mount, "schedules/monday.json", "{}"), "ok");
    assert!(stored(&volume).contains(SECRET));
}

#[test]
fn a_removed_records_secret_is_the_next_ones_of_its_name() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    for again in [
        "tar cf ../t monday.json && tar xf ../t; rm -f ../t",
        "rm monday.json && echo '{}' > monday.json",
        "cp monday.json t && rm monday.json && mv t monday.json",
        "cp monday.json t.json && rm monday.json && mv t.json monday.json",
    ] {
        mount.shell(&format!(
            "cd schedules; {}",
            again.replace("../t", "${TMPDIR:-/tmp}/semantics-$$.tar")
        ));
        assert!(stored(&volume).contains(SECRET), "{again}");
    }
    assert_eq!(
        write(&mount, "schedules/monday.json", "{\"api_key\": null}"),
        "ok"
    );
    mount.shell("cd schedules; rm monday.json; echo '{}' > monday.json");
    assert!(!stored(&volume).contains(SECRET), "null is final");
}

#[test]
fn a_removed_directory_that_is_made_again_has_the_secrets_of_its_removed_records() {
    for again in ["cp -r backup d", "cp -r backup new; mv -T new d"] {
        let volume = volume();
        let mount = volume.mount(&ALICE);
        mount.shell(&format!(
            "cd schedules; mkdir -p d/e; mv monday.json d/e; cp -r d backup; rm -r d; test ! -e d; {again}; \
             test \"$(ls -A d/e)\" = monday.json; mv d/e/monday.json new.json"
        ));
        let stored = volume.stored(&ALICE, "schedules", "new.json");
        assert!(stored.contains(SECRET), "{again}");
    }
}

#[test]
fn a_renamed_records_secret_is_the_next_ones_of_its_old_name_too() {
    for layout in LAYOUTS {
        let volume = volume_in(layout);
        let mount = volume.mount(&ALICE);
        mount.shell(
            "cd schedules; mv monday.json old.json; test \"$(ls -A)\" = old.json; cp old.json monday.json",
        );
        assert!(stored(&volume).contains(SECRET));
        assert!(volume.stored(&ALICE, "schedules", "old.json").contains(SECRET));
    }
}

#[test]
fn a_directory_that_gets_a_renamed_ones_name_has_its_records_secrets() {
    let ways = [
        "mv d old; cp -r old d",
        "cp -r d new; mv d old; mv new d; rm -r old",
        "mv d ../results/d; mv ../results/d ../results/old; cp -r ../results/old d",
    ];
    for way in ways {
        let volume = volume();
        let mount = volume.mount(&ALICE);
        mount.shell(&format!(
            "cd schedules; mkdir -p d/e; mv monday.json d/e; {way}; test \"$(ls -A d)\" = e"
        ));
        let stored = volume.stored(&ALICE, "schedules", "d/e/monday.json");
        assert!(stored.contains(SECRET), "{way}");
    }
}

#[test]
fn a_record_renamed_to_an_attachments_name_leaves_its_view_there() {
    for layout in LAYOUTS {
        let volume = volume_in(layout);
        let mount = volume.mount(&ALICE);
        mount.shell("mv schedules/monday.json schedules/monday.json~");
        assert_eq!(mount.shell("ls -A schedules"), "monday.json~\n");
        assert_eq!(mount.read("schedules/monday.json~"), VIEW);
        assert_eq!(volume.stored(&ALICE, "schedules", "monday.json~"), VIEW);
        // An editor's save: the record that takes its place gets the secret back.
        assert_eq!(write(&mount, "schedules/monday.json", "{\"day\": 2}"), "ok");
        assert!(stored(&volume).contains(SECRET));
        mount.shell("grep -r sk-planted . && exit 1; true");
    }
}

#[test]
fn an_attachment_renamed_to_a_records_name_is_committed() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("echo '{\"day\": 2}' > schedules/t && mv schedules/t schedules/monday.json");
    assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 2}\n");
    let now = stored(&volume);
    assert!(
        now.contains("\"user_id\" :\"alice\"") && now.contains(SECRET),
        "{now}"
    );
    mount.shell("echo oops > schedules/t");
    assert_eq!(
        mount.errno("os.rename('schedules/t', 'schedules/monday.json')"),
        "EINVAL"
    );
    assert_eq!(
        mount.shell("cat schedules/t schedules/monday.json"),
        "oops\n{\"day\": 2}\n"
    );
    assert_eq!(stored(&volume), now);
    mount.shell("echo '{\"day\": 3}' > schedules/t && mv schedules/t schedules/new.json");
    assert_eq!(
        volume.stored(&ALICE, "schedules", "new.json"),
        "{\"day\": 3,\"user_id\" :\"alice\"}\n"
    );
}

#[test]
fn a_record_renamed_to_another_records_name_replaces_it() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("mv schedules/monday.json results/moved.json && test ! -e schedules/monday.json");
    assert_eq!(mount.read("results/moved.json"), VIEW);
    assert!(volume.stored(&ALICE, "results", "moved.json").contains(SECRET));
    // jq ... > t.json && mv t.json moved.json: the record keeps its secret.
    mount.shell("echo '{\"day\": 9}' > results/t.json && mv results/t.json results/moved.json");
    assert_eq!(mount.read("results/moved.json"), "{\"day\": 9}\n");
    assert!(volume.stored(&ALICE, "results", "moved.json").contains(SECRET));
}

#[test]
fn whoever_has_a_record_open_keeps_what_was_opened() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let code = "
import os, sys
file = open('schedules/monday.json', 'rb', buffering=0)
print('open', flush=True)
sys.stdin.readline()
print(file.read().decode(), flush=True)
sys.stdin.readline()
print(open('schedules/monday.json').read(), flush=True)
sys.stdin.readline()
";
    let mut conversation = Conversation::start(&mount, code);
    assert_eq!(conversation.next(), "open");
    volume.service(&["save", "alice", "schedules", "monday"], "{\"day\": 2}");
    assert_eq!(conversation.next(), VIEW);
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(conversation.next(), "{");
}

#[test]
fn a_draft_meets_what_the_service_saved_meanwhile_and_wins() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    assert_eq!(write(&mount, "schedules/monday.json", "{\"day\": 2"), "EINVAL");
    volume.service(
        &["save", "alice", "schedules", "monday"],
        "{\"day\": 3, \"api_key\": \"sk-later\"}",
    );
    assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 2");
    mount.shell("printf '}' >> schedules/monday.json");
    assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 2}");
    let now = stored(&volume);
    assert!(now.contains("\"day\": 2") && now.contains("sk-later"), "{now}");
}

#[test]
fn with_commit_fsync_a_close_still_commits() {
    let volume = volume();
    let mount = volume.mount_with(&ALICE, &["--commit", "fsync"]);
    assert_eq!(write(&mount, "schedules/monday.json", "{\"day\": 2}"), "ok");
    assert!(stored(&volume).contains("\"day\": 2"));
    assert_eq!(write(&mount, "schedules/monday.json", "{\"day\":"), "EINVAL");
    assert!(stored(&volume).contains("\"day\": 2"));
    let synced = "f = os.open('schedules/monday.json', os.O_WRONLY | os.O_TRUNC)\n\
                  os.write(f, b'{}'); os.fsync(f); os.close(f); os.sync()";
    assert_eq!(mount.errno(synced), "ok");
}

#[test]
fn why_a_name_is_hidden_is_said_to_the_operator_only() {
    let volume = volume();
    volume.plant(&ALICE, "schedules", "ownerless.json", "{\"n\": 1}");
    let mount = volume.mount(&ALICE);
    let mut command = as_user(ALICE.uid, &mount.path, "cat");
    command.arg("schedules/ownerless.json");
    let output = run(command, "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "cat: schedules/ownerless.json: No such file or directory\n");
    assert!(
        mount.log().contains("ownerless.json") && mount.log().contains("hidden"),
        "{}",
        mount.log()
    );
}

#[test]
fn a_full_volume_is_enospc_and_the_volumes_record_stays() {
    let volume = Volume::new(Layout::ResourceFirst);
    let small = SmallVolume::at(volume.root());
    let record = r#"{"day": 1, "user_id": "alice"}"#;
    volume.plant(&ALICE, "schedules", "monday.json", record);
    let big = format!("{{\"x\": \"{}\"}}", "x".repeat(100_000));
    {
        let mount = volume.mount(&ALICE);
        assert_eq!(write(&mount, "schedules/other.json", "{\"n\": 1}"), "ok");
        fs::write(small.0.join("ballast"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(write(&mount, "schedules/monday.json", &big), "ENOSPC");
        assert_eq!(stored(&volume), record);
        // What was typed is there, and is saved when there is room.
        assert_eq!(mount.read("schedules/monday.json"), big);
        fs::remove_file(small.0.join("ballast")).unwrap();
        assert_eq!(
            mount.errno("f = os.open('schedules/monday.json', os.O_WRONLY); os.fsync(f)"),
            "ok"
        );
        assert_eq!(mount.read("schedules/monday.json"), big);
    }
    assert!(stored(&volume).contains(&"x".repeat(100_000)));
    assert!(!volume.files(&ALICE).iter().any(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(".tenantfs") && name != ".tenantfs-owner"
    }));
}

/// A file system of half a megabyte on the volume's root.
struct SmallVolume(PathBuf);

impl SmallVolume {
    fn at(root: PathBuf) -> Self {
        mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=512k")).unwrap();
        let small = Self(root);
        chown(&small.0, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        common::set_mode(&small.0, 0o750);
        small
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
