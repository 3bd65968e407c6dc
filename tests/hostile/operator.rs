//! What the operator's commands meet where users of the host are at work: directories that are theirs, what they put there, trees as
//! deep and files as large as they like to make, and names and records that speak to terminals.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tenantfs::escape::is_active;

use crate::arena::{Arena, Due, become_user, rounds, tell};
use crate::common::sealing::KEY;
use crate::common::{
    ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Volume, python, run, set_mode, shell, tenantfs,
};

const OF_BOB: &str = r#"{"plan": "of bob alone", "user_id": "bob"}"#;

/// How long a command may take that meets something of any size.
const BOUNDED: Duration = Duration::from_secs(60);

/// An operator's command, not started.
fn command(volume: &Volume, args: &[&str]) -> Command {
    let mut command = tenantfs();
    command.env("TENANTFS_LOG", "warn").args(args);
    command.args(["--audit-log", volume.audit_log().to_str().unwrap(), "--volume"]);
    command.arg(volume.root());
    if args[0] != "migrate" {
        command.args(["--layout", &volume.layout.to_string()]);
    }
    command
}

fn ask(volume: &Volume, args: &[&str]) -> Output {
    run(command(volume, args), "")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// It must end so.
fn ends(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn export(volume: &Volume, to: &Path) -> Output {
    ask(
        volume,
        &["export", "--user-id", "bob", "--to", to.to_str().unwrap()],
    )
}

fn directory(path: &Path, (uid, gid): (u32, u32), mode: u32) -> PathBuf {
    fs::create_dir(path).unwrap();
    chown(path, Some(uid), Some(gid)).unwrap();
    set_mode(path, mode);
    path.to_owned()
}

/// Everything below a directory: whose it is, its mode, and what is in it.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut tree = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = match metadata.is_file() {
                true => fs::read(&path).unwrap(),
                false => Vec::new(),
            };
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            tree.insert(path, (metadata.uid(), metadata.mode(), content));
        }
    }
    tree
}

fn volume_of_bob() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&BOB, "schedules", "plan.json", OF_BOB);
    volume.plant(&BOB, "results", "plot.csv", "data of bob alone\n");
    volume
}

#[test]
fn an_export_goes_nowhere_that_others_can_change() {
    let volume = volume_of_bob();
    let base = volume.base();
    let (alice, root) = ((ALICE.uid, ALICE.uid), (0, 0));
    let of_alice = directory(&base.join("of-alice"), alice, 0o755);
    let of_group = directory(&base.join("of-group"), (0, ALICE.uid), 0o775);
    let of_all = directory(&base.join("of-all"), root, 0o777);
    let mine = directory(&base.join("mine"), root, 0o755);
    let below = directory(&of_alice.join("roots"), root, 0o755);
    let sticky = directory(&base.join("sticky"), root, 0o1777);
    let alices_in_sticky = directory(&sticky.join("alices"), alice, 0o755);
    shell(ALICE.uid, &sticky, &format!("ln -s {} lead", mine.display()));
    symlink(&of_alice, mine.join("into-alices")).unwrap();
    let before = tree(&mine);
    let places = [&of_alice, &of_group, &of_all, &below, &alices_in_sticky];
    let linked = [sticky.join("lead"), mine.join("into-alices")];
    let mut tried = 0;
    for place in places.into_iter().chain(&linked) {
        for name in ["bob.tar.zst", "bob"] {
            let said = ends(&export(&volume, &place.join(name)), 2);
            assert!(
                said.contains("who could put something else in its place"),
                "{said}"
            );
            assert!(
                said.contains("run: chmod go-w '") || said.contains("name another place"),
                "{said}"
            );
            tried += 1;
        }
    }
    // A directory that is there is looked at itself, too: what is in it could be anybody's.
    for place in [&of_alice, &of_group, &of_all, &sticky.join("lead")] {
        ends(&export(&volume, place), 2);
        tried += 1;
    }
    assert_eq!(tree(&mine), before);
    assert_eq!(fs::read_dir(&of_alice).unwrap().count(), 1);
    tell("operator", "exports to places that others can change", tried);

    // Where only the name is anybody's, as in /tmp, and the way there is not, it is nobody else's.
    for place in [&mine, &sticky] {
        ends(&export(&volume, &place.join("bob.tar.zst")), 0);
        ends(&export(&volume, &place.join("bob")), 0);
        let [archive, copy] = ["bob.tar.zst", "bob"].map(|name| place.join(name).metadata().unwrap());
        assert_eq!(archive.mode() & 0o7777, 0o600);
        assert_eq!((copy.mode() & 0o7777, copy.uid()), (0o700, SERVICE_UID));
        assert!(place.join("bob/schedules/plan.json").exists());
        // Nothing of it is in anybody's way: no part, no temporary name.
        let names = fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(
            names
                .into_iter()
                .all(|name| !name.to_str().unwrap().starts_with('.'))
        );
        // A second one does not replace the first.
        ends(&export(&volume, &place.join("bob.tar.zst")), 2);
        ends(&export(&volume, &place.join("bob")), 2);
    }
}

#[test]
fn an_archive_takes_nothing_over_that_is_there_already() {
    let volume = volume_of_bob();
    let sticky = directory(&volume.base().join("sticky"), (0, 0), 0o1777);
    let private = volume.base().join("private");
    fs::write(&private, "").unwrap();
    set_mode(&private, 0o600);
    let script = format!(
        "umask 0; : > empty.tar.zst; ln -s {} link.tar.zst; ln -s nowhere dangling.tar.zst; mkfifo fifo.tar.zst
         mkdir directory.tar.zst; mkdir mine; ln -s {} linked",
        private.display(),
        volume.base().display(),
    );
    shell(ALICE.uid, &sticky, &script);
    let before = tree(&sticky);
    for name in ["empty", "link", "dangling", "fifo", "directory"] {
        let to = sticky.join(format!("{name}.tar.zst"));
        let said = ends(&export(&volume, &to), 2);
        assert!(said.contains("there is something already"), "{name}: {said}");
    }
    for name in ["mine", "linked"] {
        ends(&export(&volume, &sticky.join(name)), 2);
    }
    assert_eq!(tree(&sticky), before);
    assert_eq!(fs::read(&private).unwrap(), b"");
    tell("operator", "things of others where an export is to be", 7);
}

/// A directory that is trusted when it is looked at, while its owner swaps what is beside it and its own name: what is not hers cannot
/// be swapped, and what is hers is refused.
#[test]
fn while_a_user_swaps_what_is_on_the_way_an_export_is_refused_or_where_it_was_said() {
    let volume = volume_of_bob();
    let sticky = directory(&volume.base().join("sticky"), (0, 0), 0o1777);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let before = tree(&volume.root());
    let rounds = rounds(8, 100);
    thread::scope(|scope| {
        scope.spawn(|| {
            become_user(ALICE.uid);
            let (target, way) = (volume.root(), sticky.join("way"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::create_dir(&way);
                let _ = fs::remove_dir(&way);
                let _ = symlink(target.join("results").join(BOB.hash), &way);
                let _ = fs::remove_file(&way);
            }
        });
        for round in 0..rounds {
            let output = export(&volume, &sticky.join(format!("way/bob-{round}")));
            ends(&output, 2);
            let output = export(&volume, &sticky.join("way"));
            // If nothing had the name at that moment, it is root's from then on.
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 2)), "{}", said(&output));
            if code == Some(0) {
                fs::remove_dir_all(sticky.join("way")).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(tree(&volume.root()), before);
    tell("operator", "exports while the way is swapped", rounds);
}

#[test]
fn keys_sockets_and_logs_are_made_nowhere_that_others_can_change() {
    let volume = volume_of_bob();
    let of_alice = directory(&volume.base().join("of-alice"), (ALICE.uid, ALICE.uid), 0o755);
    let keys = of_alice.join("keys.json");
    for words in [["keys", "generate"], ["keys", "rotate"]] {
        let mut command = tenantfs();
        command.args(words).arg(&keys);
        let said = ends(&run(command, ""), 2);
        assert!(
            said.contains("who could put something else in its place"),
            "{said}"
        );
    }
    let socket = of_alice.join("control.sock");
    let mut daemon = tenantfs();
    daemon.arg("daemon").arg("--volume").arg(volume.root());
    daemon.arg("--static-keys").arg(volume.static_keys_file());
    daemon.arg("--socket").arg(&socket).arg("--mounts");
    daemon.arg(volume.base().join("mnt/{uid}"));
    let said = ends(&run(daemon, ""), 2);
    assert!(
        said.contains("who could put something else in its place"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&of_alice).unwrap().count(), 0);
}

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

/// Every active character, in each place where a tenant or the service can write it.
#[test]
fn nothing_that_others_wrote_acts_on_a_terminal() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.has_keys(KEY, &[KEY]);
    let keys = volume.sealing_keys_file();
    let active: Vec<char> = ('\u{1}'..='\u{2100}').filter(|c| is_active(*c)).collect();
    let evil: String = [
        "\u{1b}[31m",
        "\u{9b}2J",
        "\u{7f}",
        "\u{202e}",
        "\u{2066}",
        "\u{61c}",
        "\u{200f}",
        "\u{2028}",
        "\r\n",
    ]
    .concat();
    // The mount refuses control characters in names, and no others.
    let shown: String = active.iter().filter(|c| !c.is_control()).collect();
    let text =
        serde_json::json!({"user_id": "alice", "words": active.iter().collect::<String>()}).to_string();
    volume.plant(&ALICE, "schedules", &format!("{evil}.json"), &text);
    volume.plant(&ALICE, "schedules", &format!("{evil}.csv"), "x");
    volume.plant(&ALICE, "schedules", &format!("broken{evil}.json"), "{");
    let open = volume.plant(&ALICE, "schedules", &format!("open{evil}"), "x");
    set_mode(&open, 0o666);
    let arena = Arena::with(&volume, &["--sealing-keys", keys.to_str().unwrap()]);
    let code = "
import sys
evil = sys.argv[1]
open('schedules/%s.json' % evil, 'w').write('{\"api_key\": \"sk-\\\\u001b[2J\\\\u202e\"}')
try:
    f = open('schedules/%s-draft.json' % evil, 'w'); f.write('{'); f.close()
except OSError: pass
import os
open('schedules/%s-gone.json' % evil, 'w').write('{}'); os.remove('schedules/%s-gone.json' % evil)
";
    python(ALICE.uid, &arena.alice, code, &[&shown]);
    let sealing = ["--sealing-keys", keys.to_str().unwrap()];
    let to = volume.base().join("out");
    let to = to.to_str().unwrap();
    let alice = ["--user-id", "alice"];
    let id = format!("{shown}.json");
    let id = id.strip_suffix(".json").unwrap();
    let mut outputs = Vec::new();
    for args in [
        &["list", "--all", "--contents"][..],
        &["list", "--all", "--contents", "--json"],
        &[&["export", "--to", to], &alice[..]].concat(),
        &["verify"],
        &["reseal"],
        &["unseal", "alice", "schedules", id],
        &[&["removed"], &alice[..]].concat(),
        &[&["removed", "--json"], &alice[..]].concat(),
        &[&["drafts"], &alice[..]].concat(),
        &[&["drafts", "--json"], &alice[..]].concat(),
        &[&["restore", &format!("schedules/{evil}")], &alice[..]].concat(),
        &[&["erase", "--dry-run"], &alice[..]].concat(),
        &["list", "--user-id", &format!("nobody{shown}")],
        &["list", "--users-file", &format!("/nowhere/{evil}")],
        &[
            "export",
            "--user-id",
            "alice",
            "--to",
            &format!("/nowhere/{evil}/x"),
        ],
        &["verify", "--config", &format!("/nowhere/{evil}")],
    ] {
        outputs.push((
            format!("{args:?}"),
            said(&ask(&volume, &[args, &sealing].concat())),
        ));
    }
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["removed"],
        &["drafts", "--json"],
        &["audit", "mine"],
    ] {
        outputs.push((format!("{args:?}"), said(&arena.daemon.ask(ALICE.uid, args, ""))));
    }
    outputs.push(("the daemon's log".to_owned(), arena.daemon.log()));
    outputs.push((
        "the audit log".to_owned(),
        fs::read_to_string(arena.log.path()).unwrap(),
    ));
    let manifest = fs::read_to_string(format!("{to}/MANIFEST.sha256")).unwrap();
    outputs.push((
        "the comments of a manifest".to_owned(),
        manifest
            .lines()
            .filter(|line| line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n"),
    ));
    for (what, text) in &outputs {
        let acts = text.chars().find(|c| is_active(*c) && *c != '\n');
        assert_eq!(acts, None, "{what}: {text:?}");
        assert!(!text.is_empty(), "{what}");
    }
    // What is escaped means what it meant.
    let (_, listed) = &outputs[0];
    let lines: Vec<Value> = listed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let record = lines
        .iter()
        .find(|line| line["record"]["words"].is_string())
        .unwrap();
    assert_eq!(record["record"]["words"], active.iter().collect::<String>());
    let (_, refused) = &outputs[5];
    assert!(refused.contains("--raw prints it as it is"), "{refused}");
    let raw = ask(
        &volume,
        &[&["unseal", "alice", "schedules", id, "--raw"], &sealing[..]].concat(),
    );
    assert_eq!(raw.stdout, "sk-\u{1b}[2J\u{202e}\n".as_bytes());
    // A second run of the attack's words changes nothing of bob's.
    arena.case("words", Due::Nothing, || ());
    tell(
        "operator",
        "characters that act, each in every output",
        active.len(),
    );
}

/// What the operator is told to run, with names of a tenant's in it, runs that and nothing else.
#[test]
fn what_is_to_be_run_can_be_pasted_whatever_a_name_is() {
    let volume = Volume::new(Layout::ResourceFirst);
    let names = [
        "$(touch pwned)",
        "`touch pwned`",
        "'; touch pwned; '",
        "\"; touch pwned; \"",
        "a b",
        "-rf",
        "$HOME",
        "x\\",
        "*",
    ];
    for name in names {
        let path = volume.plant(&ALICE, "results", name, "x");
        set_mode(&path, 0o666);
    }
    let text = ends(&ask(&volume, &["verify"]), 6);
    let mut ran = 0;
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let finding: Value = serde_json::from_str(line).unwrap();
        let detail = finding["detail"].as_str().unwrap();
        let (_, remedy) = detail.split_once("run: ").unwrap();
        shell(0, &volume.root(), remedy);
        ran += 1;
    }
    assert_eq!(ran, names.len());
    assert!(!volume.root().join("pwned").exists());
    for name in names {
        let mode = volume
            .path(&ALICE, "results", name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o664, "{name}");
    }
    ends(&ask(&volume, &["verify"]), 0);
}
