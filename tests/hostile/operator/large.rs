//! Trees as deep and files as large as a user likes to make.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{OF_BOB, ask, command, directory, ends};
use crate::arena::{rounds, tell};
use crate::common::sealing::KEY;
use crate::common::{ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Volume, python, run, shell};

/// How long a command may take that meets something of any size.
const BOUNDED: Duration = Duration::from_secs(60);

/// Alice's directories, nested through her mount: one that leads on and one beside it at each level, and something to be found at some.
const NEST: &str = "
import os, sys
levels = int(sys.argv[1])
os.chdir('schedules')
for level in range(1, levels + 1):
    os.mkdir('beside')
    os.mkdir('deeper-still')
    os.chdir('deeper-still')
    if level % 150 == 0 or level == levels:
        with open('record.json', 'w') as f: f.write('{\"personal\": \"data of alice %d\", \"api_key\": \"sk-%d\"}' % (level, level))
        with open('table.csv', 'w') as f: f.write('data of alice %d\\n' % level)
";

#[test]
fn everything_is_reached_however_deep_it_is_nested() {
    for layout in LAYOUTS {
        let mut volume = Volume::new(layout);
        volume.plant(&BOB, "schedules", "plan.json", OF_BOB);
        volume.has_keys(KEY, &[KEY]);
        let keys = volume.sealing_keys_file();
        let sealing = ["--sealing-keys", keys.to_str().unwrap()];
        let levels = rounds(450, 6000);
        let found = levels.div_ceil(150);
        {
            let mount = volume.mount_with(&ALICE, &sealing);
            python(ALICE.uid, &mount.path, NEST, &[&levels.to_string()]);
        }
        // As few descriptors as there can be.
        let ask = |volume: &Volume, args: &[&str]| {
            let mut limited = Command::new("prlimit");
            let command = command(volume, &[args, &sealing].concat());
            limited
                .arg("--nofile=160:160")
                .arg(command.get_program())
                .args(command.get_args());
            limited.env("TENANTFS_LOG", "warn");
            run(limited, "")
        };
        let alice = ["--user-id", "alice"];
        let listed = ends(&ask(&volume, &[&["list", "--contents"], &alice[..]].concat()), 0);
        assert_eq!(listed.lines().count(), found);
        for level in [150, levels] {
            assert!(listed.contains(&format!("data of alice {level}\"")), "{level}");
        }
        ends(&ask(&volume, &["verify"]), 0);
        ends(&ask(&volume, &["reseal"]), 0);
        for name in ["out", "out.tar.zst"] {
            let to = volume.base().join(name);
            let to = ["export", "--to", to.to_str().unwrap()];
            ends(&ask(&volume, &[&to, &alice[..]].concat()), 0);
        }
        // The names of the directories, or what stands for them; and a line in the manifest that says for what.
        let exported = deep_files(&volume.base().join("out"));
        assert_eq!(exported.len(), 2 * found);
        let manifest = fs::read_to_string(volume.base().join("out/MANIFEST.sha256")).unwrap();
        let stands = manifest
            .lines()
            .filter(|line| line.contains(" stands for deeper-still/"))
            .count();
        assert!(
            stands > 0 && manifest.len() < 20 * levels + 100_000,
            "{}",
            manifest.len()
        );
        assert_eq!(archived(volume.base(), "out.tar.zst"), exported);

        let elsewhere = directory(
            &volume.base().join("elsewhere"),
            (SERVICE_UID, SERVICE_UID),
            0o750,
        );
        let (from, to) = (layout.to_string(), other(layout).to_string());
        let whole = [
            "migrate",
            "--from",
            &from,
            "--to",
            &from,
            "--to-volume",
            elsewhere.to_str().unwrap(),
        ];
        let migrate = |args: &[&str]| run(command(&volume, args), "");
        ends(&migrate(&whole), 0);
        let copied = deep_files(&elsewhere);
        assert_eq!(copied.len(), 2 * found);
        ends(&migrate(&["migrate", "--from", &from, "--to", &to]), 0);
        volume.layout = other(layout);

        let erase = |how: &str| {
            ask(
                &volume,
                &["erase", how, "--socket", "/nowhere", "--user-id", "alice"],
            )
        };
        let would = ends(&erase("--dry-run"), 0);
        assert_eq!(
            would.lines().filter(|line| line.contains("record.json")).count(),
            found
        );
        ends(&erase("--yes"), 0);
        assert!(volume.files(&ALICE).is_empty());
        assert!(!volume.directory(&ALICE, "schedules").exists());
        assert_eq!(volume.stored(&BOB, "schedules", "plan.json"), OF_BOB);
        shell(0, volume.base(), "rm -rf out elsewhere");
        tell("operator", "directories in each other", levels);
    }
}

fn other(layout: Layout) -> Layout {
    match layout {
        Layout::ResourceFirst => Layout::UserFirst,
        Layout::UserFirst => Layout::ResourceFirst,
    }
}

/// What is in the records and tables below a directory, however deep, sorted.
fn deep_files(directory: &Path) -> Vec<String> {
    // No path is as long, and no process has so many descriptors.
    let code = "
import os
levels = [iter(os.listdir('.'))]
while levels:
    name = next(levels[-1], None)
    if name is None:
        levels.pop()
        os.chdir('..')
    elif os.path.isdir(name) and not os.path.islink(name):
        os.chdir(name)
        levels.append(iter(os.listdir('.')))
    elif name in ('record.json', 'table.csv'):
        print(open(name).read().strip())
";
    sorted(&python(0, directory, code, &[]))
}

/// The same of an archive.
fn archived(directory: &Path, name: &str) -> Vec<String> {
    let code = "
import sys, tarfile
archive = tarfile.open(sys.argv[1])
for entry in archive:
    if entry.name.endswith(('record.json', 'table.csv')):
        print(archive.extractfile(entry).read().decode().strip())
";
    shell(0, directory, &format!("zstd -dqc {name} > {name}.tar"));
    sorted(&python(0, directory, code, &[&format!("{name}.tar")]))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_hole_of_15_tib_costs_nothing_wherever_it_is_copied() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "results", "a.json", r#"{"user_id": "alice"}"#);
    {
        let mount = volume.mount(&ALICE);
        let code = "
import os
with open('results/sparse.bin', 'wb') as f:
    f.write(b'begin'); f.seek(7 << 40); f.write(b'middle'); f.truncate(15 << 40)
with open('results/small.bin', 'wb') as f:
    f.seek(64 << 20); f.write(b'end')
";
        python(ALICE.uid, &mount.path, code, &[]);
    }
    let begun = Instant::now();
    let base = volume.base().to_owned();
    for name in ["out", "out.tar.zst"] {
        let to = base.join(name);
        ends(
            &ask(
                &volume,
                &["export", "--user-id", "alice", "--to", to.to_str().unwrap()],
            ),
            0,
        );
    }
    let elsewhere = directory(&base.join("elsewhere"), (SERVICE_UID, SERVICE_UID), 0o750);
    let to = elsewhere.to_str().unwrap();
    let migrate = [
        "migrate",
        "--from",
        "resource-first",
        "--to",
        "resource-first",
        "--to-volume",
        to,
    ];
    ends(&ask(&volume, &migrate), 0);
    assert!(begun.elapsed() < BOUNDED, "{:?}", begun.elapsed());

    let copies = [
        base.join("out/results"),
        elsewhere.join("results").join(ALICE.hash),
    ];
    for copy in copies {
        let metadata = copy.join("sparse.bin").metadata().unwrap();
        assert_eq!(metadata.len(), 15 << 40);
        assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
        let code = "
f = open('sparse.bin', 'rb')
def at(offset, n): f.seek(offset); return f.read(n)
print(at(0, 7), at(7 << 40, 8), at((15 << 40) - 2, 3), at(5 << 40, 2))
s = open('small.bin', 'rb').read()
print(len(s), s[-4:], s.count(b'\\0'))
";
        let read = python(0, &copy, code, &[]);
        let expected = "b'begin\\x00\\x00' b'middle\\x00\\x00' b'\\x00\\x00' b'\\x00\\x00'\n67108867 b'\\x00end' 67108864\n";
        assert_eq!(read, expected);
    }
    // The sum of what is nearly all a hole is of its data; the other one's is as of any file.
    let check =
        "sha256sum -c MANIFEST.sha256 2>/dev/null | sort; grep -c 'sum of the data alone' MANIFEST.sha256";
    let checked = shell(SERVICE_UID, &base.join("out"), check);
    assert_eq!(checked, "results/a.json: OK\nresults/small.bin: OK\n1\n");
    assert!(base.join("out.tar.zst").metadata().unwrap().len() < 1 << 20);
    // GNU tar has the holes again.
    let unpacked = directory(&base.join("unpacked"), (0, 0), 0o755);
    shell(0, &unpacked, "zstd -dqc ../out.tar.zst | tar -xSf -");
    let sparse = unpacked.join("results/sparse.bin").metadata().unwrap();
    assert_eq!(sparse.len(), 15 << 40);
    assert!(sparse.blocks() * 512 < 1 << 20);
    let same = "cmp -n 100 results/sparse.bin ../out/results/sparse.bin; cmp results/small.bin ../out/results/small.bin
                cmp -i 7696581394432 -n 100 results/sparse.bin ../out/results/sparse.bin";
    shell(0, &unpacked, same);
}
