//! Below directories that others replace, and where they remove and make files without pause.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::{ALICE, BOB, Conversation, Mount, SERVICE_UID};
use super::{ATTACHMENT, Ends, RECORD, each_open_finds, rename_over, report, rounds, text, volume};

/// What others do to put another directory in a directory's place.
#[derive(Clone, Copy, Debug)]
enum Replacing {
    /// Away with the old one, and another one gets its name.
    Renaming,
    Exchanging,
    /// It is emptied and removed, and made again.
    Remaking,
}

/// Puts another directory at `path`, in which `inside` has this text.
fn replace_directory(path: &Path, how: Replacing, inside: &str, text: &str) {
    let (other, old) = (path.with_extension("other"), path.with_extension("old"));
    let made = match how {
        Replacing::Remaking => {
            fs::remove_dir_all(path).unwrap();
            path
        }
        Replacing::Renaming | Replacing::Exchanging => &other,
    };
    let file = made.join(inside);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for directory in file
        .ancestors()
        .skip(1)
        .take_while(|above| above.starts_with(made))
    {
        chown(directory, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    fs::write(&file, text).unwrap();
    chown(&file, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    match how {
        Replacing::Remaking => {}
        Replacing::Renaming => {
            let _ = fs::remove_dir_all(&old);
            fs::rename(path, &old).unwrap();
            fs::rename(&other, path).unwrap();
        }
        Replacing::Exchanging => {
            exchange(&other, path);
            let _ = fs::remove_dir_all(&old);
            fs::rename(&other, &old).unwrap();
        }
    }
}

fn exchange(one: &Path, other: &Path) {
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, one, cwd, other, rustix::fs::RenameFlags::EXCHANGE).unwrap();
}

const REPLACING: [Replacing; 3] = [Replacing::Renaming, Replacing::Exchanging, Replacing::Remaking];

#[test]
fn a_new_open_finds_what_is_in_the_directory_that_was_put_in_anothers_place() {
    for how in REPLACING {
        for (inside, path) in [
            ("x.json", "schedules/d/x.json"),
            ("e/x.json", "schedules/d/e/x.json"),
            ("e/plot.csv", "schedules/d/e/plot.csv"),
        ] {
            let volume = volume();
            let directory = volume.path(&ALICE, "schedules", "d");
            volume.plant(&ALICE, "schedules", &format!("d/{inside}"), text(0));
            each_open_finds(&volume, path, rounds(), |round| {
                replace_directory(&directory, how, inside, &text(round));
                text(round)
            });
        }
    }
}

/// Puts another directory in the place of `schedules/d` whenever it is told to, through a mount of its own.
const REPLACER: &str = "
import json, os, shutil, sys

print('ready', flush=True)
for line in sys.stdin:
    how, text = json.loads(line)
    made = 'schedules/d' if how == 'Remaking' else 'schedules/d.other'
    if how == 'Remaking':
        shutil.rmtree('schedules/d')
    os.mkdir(made)
    with open(made + '/x.json', 'w') as file:
        file.write(text)
    if how == 'Renaming':
        shutil.rmtree('schedules/d.old', ignore_errors=True)
        os.rename('schedules/d', 'schedules/d.old')
        os.rename('schedules/d.other', 'schedules/d')
    print('replaced', flush=True)
";

#[test]
fn a_new_open_finds_what_is_in_the_directory_that_another_mount_put_there() {
    for how in [Replacing::Renaming, Replacing::Remaking] {
        let volume = volume();
        volume.plant(&ALICE, "schedules", "d/x.json", text(0));
        let other = volume.mount_again(&ALICE);
        let mut replacer = Conversation::start(&other, REPLACER);
        assert_eq!(replacer.next(), "ready");
        each_open_finds(&volume, "schedules/d/x.json", rounds(), |round| {
            let said = replacer.say(&json!([format!("{how:?}"), text(round)]).to_string());
            assert_eq!(said, "replaced");
            text(round)
        });
    }
}

#[test]
fn what_only_the_new_directory_has_is_found_and_what_is_created_comes_there() {
    for how in REPLACING {
        let volume = volume();
        let directory = volume.path(&ALICE, "schedules", "d");
        volume.plant(&ALICE, "schedules", "d/x.json", text(0));
        let mount = volume.mount(&ALICE);
        let code = "
import os, sys
print('ready', flush=True)
for line in sys.stdin:
    name = line.strip()
    result = []
    try:
        os.stat('schedules/d/x.json')
        result.append(open('schedules/d/' + name + '.json').read().count('round'))
        with open('schedules/d/' + name + '.txt', 'x') as file:
            file.write(name)
        with open('schedules/d/' + name + '-new.json', 'w') as file:
            file.write('{}')
    except OSError as error:
        result.append(repr(error))
    print(result, flush=True)
";
        let mut user = Conversation::start(&mount, code);
        assert_eq!(user.next(), "ready");
        for round in 0..rounds() {
            let inside = format!("{round}.json");
            replace_directory(&directory, how, &inside, &text(round));
            fs::write(directory.join("x.json"), text(round)).unwrap();
            assert_eq!(user.say(&round.to_string()), "[1]", "{how:?}, {round}");
            assert_eq!(
                fs::read_to_string(directory.join(format!("{round}.txt"))).unwrap(),
                round.to_string()
            );
            assert!(
                directory.join(format!("{round}-new.json")).exists(),
                "{how:?}, {round}"
            );
        }
    }
}

/// Exchanges two directories, both of which have the record, without pause.
#[test]
fn an_open_never_fails_below_directories_that_are_exchanged_without_pause() {
    let volume = volume();
    for place in ["d/e/x.json", "d.other/e/x.json", "d/e/y.csv", "d.other/e/y.csv"] {
        volume.plant(&ALICE, "schedules", place, text(0));
    }
    let directory = volume.path(&ALICE, "schedules", "d");
    let other = directory.with_extension("other");
    let mount = volume.mount(&ALICE);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                exchange(&directory, &other);
                thread::sleep(Duration::from_micros(300));
            }
        });
        let _ends = Ends(&is_over);
        let failed = storm(&mount, "schedules/d/e/x.json", "schedules/d/e/y.csv");
        assert_eq!(failed, json!({}));
    });
}

/// Opens the files again and again, in each way by two threads at the same time, and counts what went wrong.
fn storm(mount: &Mount<'_>, record: &str, attachment: &str) -> Value {
    let code = "
import collections, errno, json, os, sys, threading
failed = collections.Counter()
def run(name, flags, how):
    for _ in range(int(sys.argv[3])):
        try:
            os.close(os.open(name, flags))
        except OSError as error:
            failed[how + ' ' + errno.errorcode[error.errno]] += 1
ways = [(name, flags, how)
        for name in sys.argv[1:3]
        for flags, how in [(os.O_RDONLY, 'read'), (os.O_CREAT | os.O_RDWR, 'create')]]
threads = [threading.Thread(target=run, args=way) for way in ways for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(failed))
";
    let mut failed = serde_json::Map::new();
    // A part takes some seconds, and they are many at full length.
    for _ in 0..rounds().div_ceil(500) {
        let said = mount.python(code, &[record, attachment, "5000"]);
        let said: BTreeMap<String, u64> = serde_json::from_str(&said).unwrap();
        for (how, count) in said {
            let before = failed.get(&how).and_then(Value::as_u64).unwrap_or_default();
            failed.insert(how, json!(before + count));
        }
    }
    Value::Object(failed)
}

#[test]
fn an_open_that_creates_never_fails_where_the_service_removes_and_makes_the_file_without_pause() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let (record, attachment) = (
        volume.path(&ALICE, "schedules", "x.json"),
        volume.path(&ALICE, "results", "plot.csv"),
    );
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for path in [&record, &attachment] {
                    fs::remove_file(path).unwrap();
                    rename_over(path, &text(0));
                }
                thread::sleep(Duration::from_micros(500));
            }
        });
        let _ends = Ends(&is_over);
        let mut failed = storm(&mount, RECORD, ATTACHMENT);
        // A plain open may find it absent.
        failed.as_object_mut().unwrap().remove("read ENOENT");
        assert_eq!(failed, json!({}));
    });
}

#[test]
fn who_stands_in_a_directory_that_others_moved_or_removed_goes_on_as_on_any_file_system() {
    let volume = volume();
    volume.plant(&ALICE, "schedules", "d/x.json", text(1));
    volume.plant(&ALICE, "schedules", "d/sub/y.csv", "y\n");
    volume.plant(&ALICE, "schedules", "d.new/x.json", text(2));
    let directory = volume.path(&ALICE, "schedules", "d");
    let mount = volume.mount(&ALICE);
    let code = "
import errno, json, os, sys
os.chdir('schedules/d')
here, root = os.open('.', os.O_RDONLY), os.open('../..', os.O_RDONLY)
held = open('x.json')
print('ready', flush=True)
def number(name, **how):
    try:
        file = os.open(name, how.pop('flags', os.O_RDONLY), 0o600, **how)
        with open(file) as opened:
            return opened.read().count('pad')
    except OSError as error:
        return errno.errorcode[error.errno]
for line in sys.stdin:
    flags = os.O_CREAT | os.O_RDWR
    print(json.dumps([
        number('x.json'), number('sub/y.csv'), number('none.json'), number('x.json', dir_fd=here),
        number('made.txt', flags=flags), number('x.json', flags=flags), held.read().count('pad'),
        number('schedules/d/x.json', dir_fd=root)]), flush=True)
    held.seek(0)
";
    let mut user = Conversation::start(&mount, code);
    assert_eq!(user.next(), "ready");
    let usual = json!([1, 0, "ENOENT", 1, 0, 1, 1, 1]);
    let mut said = || -> Value { serde_json::from_str(&user.say("")).unwrap() };
    assert_eq!(said(), usual);
    let moved = directory.with_extension("moved");
    fs::rename(&directory, &moved).unwrap();
    assert_eq!(said(), json!([1, 0, "ENOENT", 1, 0, 1, 1, "ENOENT"]));
    fs::rename(directory.with_extension("new"), &directory).unwrap();
    fs::remove_file(moved.join("made.txt")).unwrap();
    assert_eq!(said(), usual);
    assert!(moved.join("made.txt").exists() && !directory.join("made.txt").exists());
    fs::remove_dir_all(&moved).unwrap();
    let gone = "ENOENT";
    assert_eq!(said(), json!([gone, gone, gone, gone, gone, gone, 1, 1]));
    assert!(!directory.join("made.txt").exists());
}

#[test]
fn who_stands_in_a_moved_directory_creates_what_the_service_removed_there_a_moment_ago() {
    let volume = volume();
    volume.plant(&ALICE, "schedules", "d/sub/y.csv", "y\n");
    let directory = volume.path(&ALICE, "schedules", "d");
    let mount = volume.mount(&ALICE);
    let code = "
import os, sys
os.chdir('schedules/d')
print('ready', flush=True)
for line in sys.stdin:
    said = []
    for name in line.split():
        try:
            os.close(os.open(name, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            said.append(repr(error))
    print(said, flush=True)
";
    let mut user = Conversation::start(&mount, code);
    assert_eq!(user.next(), "ready");
    let names = ["made.txt", "sub/y.csv"];
    assert_eq!(user.say(&names.join(" ")), "[]");
    let moved = directory.with_extension("moved");
    fs::rename(&directory, &moved).unwrap();
    for round in 0..rounds() {
        if round == rounds() / 2 {
            // Its path leads to something else from now on.
            volume.plant(&ALICE, "schedules", "d/made.txt", "another");
        }
        for name in names {
            fs::remove_file(moved.join(name)).unwrap();
        }
        // Sometimes it is noticed before, sometimes after, and sometimes meanwhile.
        thread::sleep(Duration::from_micros(100) * (round % 40) as u32);
        assert_eq!(user.say(&names.join(" ")), "[]", "{round}");
        assert!(names.iter().all(|name| moved.join(name).exists()), "{round}");
    }
}

#[test]
fn nothing_is_served_from_a_directory_that_was_moved_to_another_user() {
    let volume = volume();
    volume.plant(&ALICE, "schedules", "d/plot.csv", "x,y\n");
    volume.plant(&BOB, "schedules", "x.json", "{}");
    let mount = volume.mount(&ALICE);
    let code = "
import errno, os, sys
os.chdir('schedules/d')
print('ready', flush=True)
for line in sys.stdin:
    said = []
    for name, flags in [('plot.csv', os.O_RDONLY), ('new.csv', os.O_CREAT | os.O_RDWR)]:
        try:
            os.close(os.open(name, flags, 0o600))
            said.append('ok')
        except OSError as error:
            said.append(errno.errorcode[error.errno])
    print(*said, flush=True)
";
    let mut user = Conversation::start(&mount, code);
    assert_eq!(user.next(), "ready");
    assert_eq!(user.say(""), "ok ok");
    let moved = volume.path(&BOB, "schedules", "d");
    fs::rename(volume.path(&ALICE, "schedules", "d"), &moved).unwrap();
    fs::remove_file(moved.join("new.csv")).unwrap();
    assert_eq!(user.say(""), "ENOENT ENOENT");
    assert!(!moved.join("new.csv").exists());
}

/// Does one thing below `schedules/d` whenever it is told to, and says what came of it; `warm` has the kernel remember the way.
const DOER: &str = "
import os, sys
print('ready', flush=True)
x, d = 'schedules/d/x.json', 'schedules/d'
do = {
    'warm': lambda: [os.stat(path).st_ino for path in (d, x, d + '/gone', d + '/to')] and None,
    'unlink': lambda: os.unlink(x),
    'mkdir': lambda: os.mkdir(d + '/made'),
    'rmdir': lambda: os.rmdir(d + '/gone'),
    'rename': lambda: os.rename(x, d + '/to/y.json'),
    'utime': lambda: os.utime(x, (7, 7)),
    'truncate': lambda: os.truncate(d + '/plot.csv', 1),
    'list': lambda: ' '.join(sorted(os.listdir(d))),
}
for line in sys.stdin:
    try:
        print(do[line.strip()](), flush=True)
    except OSError as error:
        print(repr(error), flush=True)
";

/// Makes what [`DOER`] does something with, in the directory that has just been put there.
fn furnish(directory: &Path, round: usize) {
    for name in ["gone", "to"] {
        fs::create_dir(directory.join(name)).unwrap();
        chown(directory.join(name), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    for name in ["plot.csv", &format!("{round}.csv")] {
        fs::write(directory.join(name), "x,y\n").unwrap();
        chown(directory.join(name), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
}

/// Whether `did` was done in `directory`, and in no other.
fn was_done(did: &str, directory: &Path) -> bool {
    let seconds = |name: &str| fs::metadata(directory.join(name)).map(|file| file.mtime()).ok();
    match did {
        "unlink" => !directory.join("x.json").exists(),
        "mkdir" => directory.join("made").exists(),
        "rmdir" => !directory.join("gone").exists(),
        "rename" => directory.join("to/y.json").exists() && !directory.join("x.json").exists(),
        "utime" => seconds("x.json") == Some(7),
        "truncate" => fs::read(directory.join("plot.csv")).unwrap() == b"x",
        _ => false,
    }
}

#[test]
fn what_is_removed_made_renamed_changed_and_listed_is_what_the_new_directory_has() {
    for how in REPLACING {
        let volume = volume();
        let directory = volume.path(&ALICE, "schedules", "d");
        let old = directory.with_extension("old");
        let mount = volume.mount(&ALICE);
        let mut user = Conversation::start(&mount, DOER);
        assert_eq!(user.next(), "ready");
        volume.plant(&ALICE, "schedules", "d/x.json", text(0));
        furnish(&directory, 0);
        let kinds = ["unlink", "mkdir", "rmdir", "rename", "utime", "truncate", "list"];
        for round in 1..=rounds() {
            let did = kinds[round % kinds.len()];
            // What a round before did to the directory is made undone by another one.
            replace_directory(&directory, how, "x.json", &text(round));
            furnish(&directory, round);
            assert_eq!(user.say("warm"), "None", "{how:?}, {round}");
            replace_directory(&directory, how, "x.json", &text(round));
            furnish(&directory, round + rounds());
            let said = user.say(did);
            if did == "list" {
                let wanted = format!("{}.csv gone plot.csv to x.json", round + rounds());
                assert_eq!(said, wanted, "{how:?}, {round}");
                continue;
            }
            assert_eq!(said, "None", "{did}, {how:?}, {round}");
            assert!(was_done(did, &directory), "{did}, {how:?}, {round}");
            let is_there = old.exists();
            assert!(!is_there || !was_done(did, &old), "{did}, {how:?}, {round}");
        }
        report(
            &format!("changes below directories replaced by {how:?}"),
            rounds(),
        );
    }
}
