//! Inode numbers: what a backup, git and a program of 32 bits make of them, before and after a mount ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use common::{ALICE, LAYOUTS, Layout, Mount, Volume, skip, success, tool};

/// The number of each file and directory, by path.
fn numbers(mount: &Mount<'_>) -> BTreeMap<String, u64> {
    let listed = mount.shell("find . -printf '%p %i\\n'");
    let line = |line: &str| {
        let (path, number) = line.rsplit_once(' ').unwrap();
        (path.to_owned(), number.parse().unwrap())
    };
    listed.lines().map(line).collect()
}

/// Files and directories of every kind and with every past.
fn fill(volume: &Volume, mount: &Mount<'_>) {
    for name in [
        "service.json",
        "over.json",
        "touched.json",
        "moded.json",
        "moved.json",
        "sub/deep.json",
    ] {
        volume.plant(&ALICE, "schedules", name, r#"{"day": 1, "user_id": "alice"}"#);
    }
    volume.plant(&ALICE, "results", "service.csv", "x,y\n");
    let code = r#"
import os
os.chdir('schedules')

def save(name, text, mode='w'):
    file = open(name, mode)
    file.write(text)
    try:
        file.close()
    except OSError:
        assert 'draft' in name

save('created.json', '{}')
save('twice.json', '{}')
save('twice.json', '{"a": 2}')
save('over.json', '{"a": 3}')
os.utime('touched.json', (1000, 2000))
save('own-touched.json', '{}')
os.utime('own-touched.json')
os.chmod('moded.json', 0o600)
save('own-moded.json', '{}')
os.chmod('own-moded.json', 0o640)
os.rename('moved.json', 'moved-away.json')
save('own-moved.json', '{}')
os.rename('own-moved.json', '../results/own-moved-away.json')
save('t', '{"renamed": "over"}')
os.rename('t', 'committed.json')
save('replaced.json', '{}')
save('t.json', '{"a": 4}')
os.rename('t.json', 'replaced.json')
save('draft.json', '{"never": ')
save('draft-of-a-saved.json', '{}')
save('draft-of-a-saved.json', '{"later": ')
save('empty-draft.json', '')
os.makedirs('made/below')
save('made/below/x.json', '{}')
os.mkdir('made-and-moved')
os.rename('made-and-moved', 'moved-directory')
save('plot.csv', 'x,y\n')
save('appended.csv', 'x,y\n')
save('appended.csv', '1,2\n', 'a')
save('moved.csv', 'x')
os.rename('moved.csv', '../results/plot.csv')
save('own.json~', '{}')
"#;
    mount.python(code, &[]);
}

#[test]
fn every_number_is_the_same_after_each_remount_whatever_the_file_has_been_through() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let first = {
            let mount = volume.mount(&ALICE);
            fill(&volume, &mount);
            numbers(&mount)
        };
        assert!(first.len() > 25, "{first:?}");
        for turn in ["second", "third"] {
            let now = numbers(&volume.mount(&ALICE));
            let others: Vec<_> = first
                .iter()
                .filter(|(path, number)| now.get(*path) != Some(number))
                .map(|(path, number)| format!("{path}: {number}, then {:?}", now.get(path)))
                .collect();
            assert!(others.is_empty(), "{layout:?}, the {turn} mount: {others:#?}");
            assert_eq!(now.len(), first.len());
        }
    }
}

#[test]
fn two_thousand_files_have_numbers_of_their_own_below_2_to_the_32_that_are_not_the_volumes() {
    let volume = Volume::new(Layout::ResourceFirst);
    for number in 0..1_000 {
        let record = format!(r#"{{"n": {number}, "user_id": "alice"}}"#);
        volume.plant(&ALICE, "schedules", &format!("service-{number}.json"), record);
    }
    let make = "
import os
for number in range(500):
    open(f'schedules/own-{number}.json', 'w').write('{}')
    open(f'schedules/plot-{number}.csv', 'w').write('x')
";
    // Listing says the same number as stat.
    let look = "
import os
for entry in os.scandir('schedules'):
    status = os.stat(entry.path)
    assert entry.inode() == status.st_ino, (entry, status)
    with open(entry.path) as file:
        assert os.fstat(file.fileno()).st_ino == status.st_ino, entry
    print(entry.name, status.st_ino)
";
    let mut seen = Vec::new();
    for turn in 0..2 {
        let mount = volume.mount(&ALICE);
        if turn == 0 {
            mount.python(make, &[]);
        }
        let listed = mount.python(look, &[]);
        let entries: BTreeMap<String, u64> = listed
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, number)| (name.to_owned(), number.parse().unwrap()))
            .collect();
        assert_eq!(entries.len(), 2_000);
        let distinct: BTreeSet<_> = entries.values().collect();
        assert_eq!(distinct.len(), 2_000, "each its own");
        assert!(entries.values().all(|number| (1..1 << 32).contains(number)));
        seen.push(entries);
    }
    assert_eq!(seen[0], seen[1]);
    let theirs = |name: &str| {
        fs::metadata(volume.path(&ALICE, "schedules", name))
            .unwrap()
            .ino()
    };
    let told = seen[0].iter().filter(|(name, number)| theirs(name) == **number);
    assert_eq!(told.count(), 0, "a number is the volume's own");
}

#[test]
fn an_incremental_backup_takes_nothing_again_after_a_remount() {
    let volume = Volume::new(Layout::ResourceFirst);
    // The number of the device is the kernel's, and another one whenever something else was mounted meanwhile.
    let backup = |mount: &Mount<'_>, archive: &str| {
        mount.shell(&format!(
            "tar -c --no-check-device -g ~/snapshot -f ~/{archive}.tar schedules results
            tar -tf ~/{archive}.tar | grep -v '/$' || :"
        ))
    };
    let mount = volume.mount(&ALICE);
    fill(&volume, &mount);
    let all = backup(&mount, "first");
    assert!(all.lines().count() > 20, "{all}");
    // tar looks at whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(backup(&mount, "same-mount"), "");
    drop(mount);
    let mount = volume.mount(&ALICE);
    assert_eq!(backup(&mount, "remounted"), "");
    mount.shell("echo '{\"new\": 1}' > schedules/twice.json");
    assert_eq!(backup(&mount, "changed"), "schedules/twice.json\n");
}

#[test]
fn a_kept_draft_has_the_same_times_whether_it_is_open_or_not() {
    let volume = Volume::new(Layout::ResourceFirst);
    let make = "
import os
for name in 'draft.json', 'later.json':
    file = os.open('schedules/' + name, os.O_WRONLY | os.O_CREAT)
    os.write(file, b'{\"never\": ')
    try:
        os.close(file)
    except OSError:
        pass
";
    // As tar does, which says otherwise that it changed while it was read.
    let look = "
import os, sys
for name in sys.argv[1:]:
    before = os.stat(name)
    file = os.open(name, os.O_RDONLY)
    opened = os.fstat(file)
    os.read(file, 100)
    for seen in opened, os.fstat(file), os.stat(name):
        assert (seen.st_ctime_ns, seen.st_mtime_ns) == (before.st_ctime_ns, before.st_mtime_ns), (name, before, seen)
";
    let mount = volume.mount(&ALICE);
    mount.python(make, &[]);
    mount.python(look, &["schedules/draft.json"]);
    mount.python(look, &["schedules/draft.json"]);
    drop(mount);
    volume
        .mount(&ALICE)
        .python(look, &["schedules/draft.json", "schedules/later.json"]);
}

#[test]
fn git_finds_nothing_changed_after_a_remount_without_reading_a_file() {
    if tool("git").is_none() {
        return;
    }
    let volume = Volume::new(Layout::ResourceFirst);
    {
        let mount = volume.mount(&ALICE);
        fill(&volume, &mount);
        mount.shell(
            "git init -q schedules && cd schedules && git config user.name alice && git config user.email a@b
            git add . && git commit -qm first && git status --porcelain && git diff-files",
        );
    }
    let mount = volume.mount(&ALICE);
    // Compares with what the index has, and refreshes nothing.
    assert_eq!(mount.shell("cd schedules && git diff-files"), "");
    assert_eq!(mount.shell("cd schedules && git status --porcelain"), "");
    mount.shell("echo '{\"new\": 1}' > schedules/twice.json");
    assert_eq!(
        mount.shell("cd schedules && git status --porcelain"),
        " M twice.json\n"
    );
}

/// Builds tests/data/old32.c, where the compiler can.
fn program_of_32_bits(volume: &Volume) -> Option<std::path::PathBuf> {
    tool("cc")?;
    let program = volume.base().join("old32");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/old32.c");
    let mut command = Command::new("cc");
    command.args(["-m32", "-o"]).arg(&program).arg(source);
    let built = common::run(command, "");
    if !built.status.success() {
        skip("cc -m32 builds no program here (the package gcc-multilib)");
        return None;
    }
    if Command::new(&program).arg(volume.base()).output().is_err() {
        skip("the kernel runs no program of 32 bits");
        return None;
    }
    Some(program)
}

#[test]
fn a_program_of_32_bits_lists_and_opens_everything() {
    let volume = Volume::new(Layout::ResourceFirst);
    let Some(program) = program_of_32_bits(&volume) else {
        return;
    };
    for number in 0..1_500 {
        let record = format!(r#"{{"n": {number}, "user_id": "alice"}}"#);
        volume.plant(&ALICE, "schedules", &format!("{number}.json"), record);
    }
    let mount = volume.mount(&ALICE);
    mount.shell(
        "cd schedules; mkdir sub; echo '{}' > own.json; echo x > plot.csv; printf '{' > draft.json || :",
    );
    for _ in 0..2 {
        for directory in [".", "schedules", "results"] {
            let mut command = mount.command(program.to_str().unwrap());
            command.arg(directory);
            let mut said: Vec<_> = success(command, "").lines().map(str::to_owned).collect();
            said.sort_unstable();
            let mut listed: Vec<_> = mount
                .shell(&format!("ls {directory}"))
                .lines()
                .map(str::to_owned)
                .collect();
            listed.sort_unstable();
            assert_eq!(said, listed, "{directory}");
            assert!(directory != "schedules" || said.len() == 1_504, "{}", said.len());
        }
    }
}
