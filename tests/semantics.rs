//! The mount's semantics: one test for each sentence of the README's section "What the mount does".
//!
//! Here: names, directories, and the mount as a whole. The others have metadata, open files, and records.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use common::{ALICE, BOB, Conversation, LAYOUTS, Mount, Volume, eventually};
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

/// The sentence's name: lowercase words joined by underscores.
fn name_of(sentence: &str) -> String {
    let sentence = sentence.replace('\'', "");
    let words = sentence.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").to_lowercase()
}

/// The names of the bold sentences of a section of the README.
fn sentences(heading: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let section = readme.split(&format!("\n{heading}\n")).nth(1).unwrap();
    let level = heading.split(' ').next().unwrap();
    let section = section.split(&format!("\n{level} ")).next().unwrap();
    let bold = section.split("\n- **").skip(1);
    bold.map(|item| name_of(item.split("**").next().unwrap()))
        .collect()
}

/// The names of the tests in the files of tests/ whose names begin so.
fn tests_in(prefix: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(prefix) && path.is_file() {
            tests.extend(tests_of(&path));
        }
    }
    tests
}

/// The names of all tests, those beside the code too.
fn all_tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut tests, mut due) = (BTreeSet::new(), vec![root.join("tests"), root.join("src")]);
    while let Some(path) = due.pop() {
        match path.is_dir() {
            true => due.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                tests.extend(tests_of(&path))
            }
            false => {}
        }
    }
    tests
}

fn tests_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let parts = text
        .split("#[test]\n")
        .skip(1)
        .filter_map(|part| part.trim_start().strip_prefix("fn "));
    parts
        .map(|part| part.split('(').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_removed_directory_is_empty_and_has_no_links_to_whoever_is_in_it() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.python(
        "
import errno, os
os.mkdir('results/d')
held = os.open('results/d', os.O_RDONLY)
os.chdir('results/d')
os.rmdir('../d')
for directory in '.', held:
    assert os.stat(directory).st_nlink == 0
    assert os.listdir(directory) == []
for name in 'x', 'x.json':
    try:
        open(name, 'w')
    except OSError as error:
        assert error.errno == errno.ENOENT, error
    else:
        raise AssertionError('created in nothing')
",
        &[],
    );
}

#[test]
fn every_sentence_on_the_mount_has_its_test() {
    let said = sentences("## What the mount does");
    assert!(said.len() > 40, "{said:?}");
    let mut tests = tests_in("semantics");
    tests.retain(|test| !test.starts_with("every_sentence_"));
    let untested: Vec<_> = said.difference(&tests).collect();
    let unsaid: Vec<_> = tests.difference(&said).collect();
    assert!(
        untested.is_empty() && unsaid.is_empty(),
        "without a test: {untested:#?}\nwithout a sentence: {unsaid:#?}"
    );
}

#[test]
fn every_sentence_on_sessions_and_sealing_has_its_test() {
    let tests = all_tests();
    for heading in ["### Sessions", "## Sealed secrets"] {
        let said = sentences(heading);
        assert!(said.len() > 10, "{said:?}");
        let untested: Vec<_> = said.difference(&tests).collect();
        assert!(untested.is_empty(), "without a test: {untested:#?}");
    }
}

#[test]
fn the_root_directory_has_the_resources_and_cannot_be_changed() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("ls -A"), "results\nschedules\n");
    expect(
        &mount,
        &[
            ("open('x.json', 'w')", "EPERM"),
            ("open('x', 'w')", "EPERM"),
            ("os.mkdir('x')", "EPERM"),
            ("os.rmdir('results')", "EPERM"),
            ("os.rename('results', 'x')", "EPERM"),
            ("os.rename('schedules/monday.json', 'monday.json')", "EPERM"),
            ("os.chmod('.', 0o755)", "EPERM"),
            ("os.utime('.')", "EPERM"),
            ("os.stat('users')", "ENOENT"),
        ],
    );
    assert_eq!(mount.shell("ls -A"), "results\nschedules\n");
}

#[test]
fn directories_can_be_made_inside_a_resource() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let mount = volume.mount(&ALICE);
        mount.shell(
            "mkdir -p results/2026/may && echo '{\"n\": 1}' > results/2026/may/a.json && echo x > results/2026/b
            mv results/2026 schedules/old && test ! -e results/2026 && cat schedules/old/may/a.json schedules/old/b",
        );
        expect(
            &mount,
            &[
                ("os.rmdir('schedules/old')", "ENOTEMPTY"),
                ("os.mkdir('schedules/old')", "EEXIST"),
                ("os.unlink('schedules/old')", "EISDIR"),
                ("os.rmdir('schedules/old/b')", "ENOTDIR"),
                ("os.rename('schedules/old', 'schedules/old/may/x')", "EINVAL"),
            ],
        );
        let stored = volume.stored(&ALICE, "schedules", "old/may/a.json");
        assert_eq!(stored, "{\"n\": 1,\"user_id\" :\"alice\"}\n");
        mount.shell("rm -r schedules/old && test -z \"$(ls -A schedules)\"");
    }
}

#[test]
fn no_directory_is_called_json() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("mkdir schedules/x");
    expect(
        &mount,
        &[
            ("os.mkdir('schedules/y.json')", "EPERM"),
            ("os.rename('schedules/x', 'schedules/y.json')", "EPERM"),
        ],
    );
}

#[test]
fn a_hidden_name_is_like_an_absent_one_to_whoever_looks() {
    let volume = volume();
    let foreign = r#"{"day": 2, "user_id": "bob"}"#;
    volume.plant(&ALICE, "schedules", "foreign.json", foreign);
    symlink("monday.json", volume.path(&ALICE, "schedules", "link.json")).unwrap();
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("ls -A schedules"), "monday.json\n");
    for name in ["foreign.json", "link.json", "absent.json"] {
        for statement in [
            "os.stat('schedules/NAME')",
            "open('schedules/NAME')",
            "os.unlink('schedules/NAME')",
            "os.rename('schedules/NAME', 'schedules/x.json')",
            "os.chmod('schedules/NAME', 0o600)",
            "os.truncate('schedules/NAME', 0)",
        ] {
            let statement = statement.replace("NAME", name);
            assert_eq!(mount.errno(&statement), "ENOENT", "{statement}");
        }
    }
    assert_eq!(volume.stored(&ALICE, "schedules", "foreign.json"), foreign);
}

#[test]
fn creating_something_over_a_hidden_name_is_eio() {
    let volume = volume();
    let foreign = r#"{"day": 2, "user_id": "bob"}"#;
    volume.plant(&ALICE, "schedules", "foreign.json", foreign);
    symlink("monday.json", volume.path(&ALICE, "schedules", "link")).unwrap();
    let mount = volume.mount(&ALICE);
    mount.shell("echo '{}' > schedules/mine.json; echo x > schedules/mine");
    expect(
        &mount,
        &[
            ("open('schedules/foreign.json', 'w')", "EIO"),
            ("open('schedules/foreign.json', 'x')", "EIO"),
            ("open('schedules/link', 'w')", "EIO"),
            ("os.mkdir('schedules/link')", "EIO"),
            (
                "os.rename('schedules/mine.json', 'schedules/foreign.json')",
                "EIO",
            ),
            ("os.rename('schedules/mine', 'schedules/link')", "EIO"),
        ],
    );
    assert_eq!(volume.stored(&ALICE, "schedules", "foreign.json"), foreign);
    assert_eq!(mount.shell("cat schedules/mine.json schedules/mine"), "{}\nx\n");
    assert!(mount.log().contains("foreign.json"), "{}", mount.log());
}

#[test]
fn names_with_control_characters_or_invalid_utf_8_are_absent_and_cannot_be_made() {
    let volume = volume();
    volume.plant(&ALICE, "schedules", "a\nb", "planted");
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("ls -A schedules"), "monday.json\n");
    for name in [
        r"b'a\nb'",
        r"b'\x7f'",
        r"b'\xc2\x85'",
        r"b'\xff'",
        r"b'\xed\xa0\x80'",
    ] {
        for (statement, outcome) in [
            ("os.stat(b'schedules/' + NAME)", "ENOENT"),
            ("os.unlink(b'schedules/' + NAME)", "ENOENT"),
            ("open(b'schedules/' + NAME, 'w')", "EINVAL"),
            ("os.mkdir(b'schedules/' + NAME)", "EINVAL"),
            (
                "os.rename('schedules/monday.json', b'schedules/' + NAME)",
                "EINVAL",
            ),
        ] {
            let statement = statement.replace("NAME", name);
            assert_eq!(mount.errno(&statement), outcome, "{statement}");
        }
    }
    mount.shell("echo x > 'schedules/ü 日本 🗓' && cat 'schedules/ü 日本 🗓'");
}

#[test]
fn names_beginning_with_tenantfs_are_absent_and_cannot_be_made() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    // The first write makes the owner marker.
    mount.shell("echo '{}' > schedules/x.json && ls -A schedules | grep -c tenantfs && exit 1; true");
    assert!(volume.path(&ALICE, "schedules", ".tenantfs-owner").exists());
    expect(
        &mount,
        &[
            ("os.stat('schedules/.tenantfs-owner')", "ENOENT"),
            ("open('schedules/.tenantfs-owner')", "ENOENT"),
            ("os.unlink('schedules/.tenantfs-owner')", "ENOENT"),
            ("open('schedules/.tenantfs-owner', 'w')", "EPERM"),
            ("open('schedules/.tenantfs.json', 'w')", "EPERM"),
            ("os.mkdir('schedules/.tenantfs')", "EPERM"),
            ("os.rename('schedules/x.json', 'schedules/.tenantfs-x')", "EPERM"),
            ("open('schedules/.tenant', 'w')", "ok"),
        ],
    );
}

#[test]
fn names_of_more_than_255_bytes_are_enametoolong() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    expect(
        &mount,
        &[
            ("os.stat('schedules/' + 'n' * 256)", "ENAMETOOLONG"),
            ("open('schedules/' + 'n' * 256, 'w')", "ENAMETOOLONG"),
            ("open('schedules/' + 'ü' * 128, 'w')", "ENAMETOOLONG"),
            ("open('schedules/' + 'n' * 255, 'w')", "ok"),
            ("open('schedules/' + 'n' * 250 + '.json', 'w').write('{}')", "ok"),
        ],
    );
    let name = format!("{}.json", "n".repeat(250));
    assert_eq!(
        volume.stored(&ALICE, "schedules", &name),
        r#"{"user_id" :"alice"}"#
    );
}

#[test]
fn there_are_no_links_fifos_sockets_or_devices() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    expect(
        &mount,
        &[
            ("os.symlink('monday.json', 'schedules/x')", "EPERM"),
            ("os.link('schedules/monday.json', 'schedules/x.json')", "EPERM"),
            ("os.mkfifo('schedules/x')", "EPERM"),
            ("os.mknod('schedules/x', 0o600 | stat.S_IFREG)", "EPERM"),
            ("socket.socket(socket.AF_UNIX).bind('schedules/x')", "EPERM"),
        ],
    );
    assert_eq!(mount.shell("ls -A schedules"), "monday.json\n");
}

#[test]
fn a_listing_holds_still_while_entries_come_and_go() {
    let volume = volume();
    for number in 0..500 {
        volume.plant(
            &ALICE,
            "results",
            &format!("{number:04}.json"),
            r#"{"user_id": "alice"}"#,
        );
    }
    let mount = volume.mount(&ALICE);
    mount.python(
        "
import os
before = {f'{number:04}.json' for number in range(500)}
with os.scandir('results') as entries:
    seen = [next(entries).name for _ in range(10)]
    gone = {name for name in sorted(before - set(seen))[::7]}
    for name in gone:
        os.unlink('results/' + name)
    for number in range(200):
        open(f'results/new-{number}.json', 'w').write('{}')
    seen += [entry.name for entry in entries]
assert len(seen) == len(set(seen)), 'a name came twice'
assert before - gone <= set(seen), before - gone - set(seen)
listed = os.listdir('results')
assert len(listed) == 500 - len(gone) + 200 and not gone & set(listed)
",
        &[],
    );
}

#[test]
fn what_others_change_on_the_volume_shows_at_once() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let save = |id: &str, text: &str| volume.service(&["save", "alice", "results", id], text);
        save("a", r#"{"n": 1}"#);
        let mount = volume.mount(&ALICE);
        let at_once = |what: &str, script: &str| {
            let shows = eventually(Duration::from_millis(600), || {
                let mut command = mount.command("sh");
                command.args(["-euc", script]);
                common::run(command, "").status.success()
            });
            assert!(shows, "{layout}: {what}");
        };
        mount.shell("cat results/a.json; ls results; ! cat results/b.json");
        save("a", r#"{"n": 22}"#);
        at_once("changed", "grep -q 22 results/a.json");
        save("b", r#"{"n": 3}"#);
        at_once("new", "grep -q 3 results/b.json && ls results | grep -q b.json");
        fs::remove_file(volume.path(&ALICE, "results", "a.json")).unwrap();
        at_once("removed", "test ! -e results/a.json");
        volume.plant(&ALICE, "results", "b.json", r#"{"user_id": "bob"}"#);
        at_once("not hers any more", "! cat results/b.json 2> /dev/null");
    }
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let volume = volume();
    volume.plant(&ALICE, "results", "plot", "x");
    let before = volume.files(&ALICE);
    {
        let mount = volume.mount_with(&ALICE, &["--read-only"]);
        assert!(mount.read("schedules/monday.json").contains("\"day\": 1"));
        assert_eq!(mount.read("results/plot"), "x");
        expect(
            &mount,
            &[
                ("open('schedules/x.json', 'w')", "EROFS"),
                ("open('schedules/monday.json', 'a')", "EROFS"),
                ("open('results/plot', 'r+')", "EROFS"),
                ("os.truncate('schedules/monday.json', 0)", "EROFS"),
                ("os.unlink('schedules/monday.json')", "EROFS"),
                ("os.rename('schedules/monday.json', 'schedules/x.json')", "EROFS"),
                ("os.mkdir('schedules/x')", "EROFS"),
                ("os.chmod('results/plot', 0o600)", "EROFS"),
                ("os.utime('results/plot')", "EROFS"),
            ],
        );
    }
    assert_eq!(volume.files(&ALICE), before);
    // A tenant who has nothing yet gets no directories made: the resources are shown empty.
    let mount = volume.mount_with(&BOB, &["--read-only"]);
    assert_eq!(
        mount.shell("ls -A . schedules"),
        ".:\nresults\nschedules\n\nschedules:\n"
    );
    assert!(!volume.directory(&BOB, "schedules").exists());
}

#[test]
fn rename_noreplace_never_replaces() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("echo '{\"day\": 2}' > schedules/b.json; echo x > schedules/x; echo y > schedules/y");
    mount.shell("mv -n schedules/b.json schedules/monday.json; test -e schedules/b.json");
    assert_eq!(
        rename2(&mount, NOREPLACE, "schedules/b.json", "schedules/monday.json"),
        "EEXIST"
    );
    assert_eq!(rename2(&mount, NOREPLACE, "schedules/x", "schedules/y"), "EEXIST");
    assert_eq!(rename2(&mount, NOREPLACE, "schedules/x", "schedules/z"), "ok");
    assert_eq!(
        rename2(&mount, NOREPLACE, "schedules/b.json", "schedules/c.json"),
        "ok"
    );
    assert_eq!(
        mount.shell("cat schedules/y schedules/z schedules/c.json"),
        "y\nx\n{\"day\": 2}\n"
    );
    assert!(mount.read("schedules/monday.json").contains("\"day\": 1"));
}

#[test]
fn rename_exchange_swaps_two_records_or_two_attachments() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "echo '{\"day\": 2}' > results/b.json; echo x > results/x; echo y > results/y; mkdir results/d",
    );
    for (one, other, outcome) in [
        ("results/b.json", "schedules/monday.json", "ok"),
        ("results/x", "results/y", "ok"),
        ("results/x", "results/b.json", "EINVAL"),
        ("results/d", "results/x", "EINVAL"),
        ("results/x", "results/absent", "ENOENT"),
    ] {
        assert_eq!(rename2(&mount, EXCHANGE, one, other), outcome, "{one} {other}");
    }
    assert_eq!(
        mount.shell("cat schedules/monday.json results/x results/y"),
        "{\"day\": 2}\ny\nx\n"
    );
    assert!(mount.read("results/b.json").contains("\"day\": 1"));
    assert!(
        volume
            .stored(&ALICE, "schedules", "monday.json")
            .contains("\"user_id\" :\"alice\"")
    );
}

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

fn rename2(mount: &Mount<'_>, flags: u32, from: &str, to: &str) -> String {
    mount.errno(&format!(
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n\
         if libc.renameat2(-100, b'{from}', -100, b'{to}', {flags}) != 0:\n    \
         raise OSError(ctypes.get_errno(), 'renameat2')"
    ))
}

#[test]
fn sigterm_ends_the_mount_and_what_was_typed_is_kept() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let mut writer = Conversation::start(
        &mount,
        "
import sys
file = open('schedules/monday.json', 'w')
file.write('{\"day\": 5')
file.flush()
print('written', flush=True)
sys.stdin.readline()
",
    );
    assert_eq!(writer.next(), "written");
    let status = mount.unmount();
    assert!(status.success(), "{status}");
    assert!(
        volume
            .stored(&ALICE, "schedules", "monday.json")
            .contains("\"day\": 1")
    );
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.read("schedules/monday.json"), "{\"day\": 5");
}
