//! The power is cut: what a disk has then, by what was flushed, for each call of a sequence.
//!
//! The calls of each scene are recorded with what they write, and replayed up to each of them. What was not flushed may be on
//! the disk or not: of a file's bytes all, half or none, of a directory's changes any subset. With `--commit fsync` less is
//! flushed, and what is promised is ext4's in its default mode: changes of directories are lost from the last on, and a file
//! that was written before it got its name has its bytes before that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::common::Layout;
use crate::report;
use crate::scene::Scene;
use crate::scenes::SCENES;
use crate::strace::{self, Call};
use crate::volume::{Reader, sealing};

/// Files by path on the volume.
type Tree = BTreeMap<String, Vec<u8>>;

/// What a call does to a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    /// The bytes of a file.
    Flush(usize),
    /// Its bytes, before any name that is given afterwards.
    Written(usize),
    Link(usize, String),
    Rename(String, String),
    Exchange(String, String),
    Unlink(String),
    /// What was done in a directory.
    FlushNames(String),
}

/// What may be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rules {
    /// Whatever was not flushed, in any combination.
    Strict,
    /// As on ext4.
    Ordered,
}

#[test]
fn a_power_cut_leaves_the_old_record_or_the_new_one_and_what_was_closed_stays() {
    if !strace::is_there() {
        return;
    }
    let home = sealing(Layout::default());
    let mut reader = Reader::new(&home);
    let mut tried = BTreeSet::new();
    for scene in SCENES {
        let volume = sealing(Layout::default());
        scene.set(&volume);
        let mount = scene.mount(&volume);
        let played = scene.play(&volume, &mount, None);
        let root = volume.root().to_str().unwrap().to_owned();
        let rules = match scene.options.contains(&"fsync") {
            true => Rules::Ordered,
            false => Rules::Strict,
        };
        let steps = steps(&played.calls, &root);
        let end = disks(&played.before, &steps, rules);
        let whole = named(&after(&played.before, &steps));
        if scene.is_durable() {
            for disk in &end {
                assert_eq!(named(disk), whole, "{}: lost after it returned", scene.name);
            }
        }
        for length in 0..=steps.len() {
            for disk in disks(&played.before, &steps[..length], rules) {
                if tried.insert((scene.name, disk.clone())) {
                    let copy = sealing(Layout::default());
                    for (path, bytes) in &disk {
                        let path = copy.root().join(path);
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(path, bytes).unwrap();
                    }
                    scene.is_whole(&copy, &mut reader, &format!("cut after {length} of {steps:?}"));
                }
            }
        }
        controls(scene, &played.before, &steps, rules);
    }
    report("power cuts, as many states of the disk", tried.len());
    assert!(tried.len() > 50, "{}", tried.len());
}

/// Without its flushes a commit would be lost or torn, and this test would see that.
fn controls(scene: &Scene, before: &Tree, steps: &[Step], rules: Rules) {
    if scene.name != "a commit at close" {
        return;
    }
    let without = |left_out: fn(&Step) -> bool| {
        let mut steps = steps.to_vec();
        steps.retain(|step| !left_out(step));
        disks(before, &steps, rules)
    };
    let torn = without(|step| matches!(step, Step::Flush(_)));
    let is_torn = |(path, bytes): (&String, &Vec<u8>)| path.ends_with(".json") && !bytes.ends_with(b"}");
    assert!(torn.iter().any(|disk| disk.iter().any(is_torn)));
    let whole = named(&after(before, steps));
    let lost = without(|step| matches!(step, Step::FlushNames(_)));
    assert!(lost.iter().any(|disk| named(disk) != whole));
}

/// What each recorded call does, of those that a power cut can undo.
fn steps(calls: &[Call], root: &str) -> Vec<Step> {
    // The file behind each descriptor, of those that were made here.
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    let (mut steps, mut made) = (Vec::new(), 0);
    for call in calls {
        let Some(result) = call.result.as_ref().filter(|result| !result.starts_with("-1")) else {
            continue;
        };
        let arguments: Vec<&str> = call.arguments.trim_end_matches(')').split(", ").collect();
        let descriptor = |argument: &str| argument.split('<').next().unwrap().to_owned();
        let file = |argument: &str| files.get(&descriptor(argument)).copied();
        let within = |directory: &str, name: &str| format!("{}/{}", below(directory, root), text(name));
        steps.extend(match (call.name.as_str(), file(arguments[0])) {
            ("openat", _) => {
                let opened = descriptor(result);
                files.remove(&opened);
                if call.arguments.contains("O_TMPFILE") {
                    files.insert(opened, made);
                    made += 1;
                }
                None
            }
            ("write", Some(file)) => Some(Step::Write(file, bytes(arguments[1]))),
            ("fsync" | "fdatasync", Some(file)) => Some(Step::Flush(file)),
            ("sync_file_range", Some(file)) => Some(Step::Written(file)),
            ("fsync", None) => Some(Step::FlushNames(below(arguments[0], root))),
            ("linkat", _) => {
                let path = text(arguments[1]);
                // The open file itself, or where the kernel does not take that, its path.
                let file = match path.strip_prefix("/proc/self/fd/") {
                    Some(number) => files[number],
                    None => file(arguments[0]).unwrap(),
                };
                Some(Step::Link(file, within(arguments[2], arguments[3])))
            }
            ("renameat2", _) => {
                let (from, to) = (
                    within(arguments[0], arguments[1]),
                    within(arguments[2], arguments[3]),
                );
                Some(match call.arguments.contains("RENAME_EXCHANGE") {
                    true => Step::Exchange(from, to),
                    false => Step::Rename(from, to),
                })
            }
            ("unlinkat", _) => Some(Step::Unlink(within(arguments[0], arguments[1]))),
            _ => None,
        });
    }
    steps
}

/// The path in `12</srv/volume/schedules>`, below the volume's root.
fn below(descriptor: &str, root: &str) -> String {
    let path = descriptor.split_once('<').unwrap().1.trim_end_matches('>');
    let path = text(path);
    path.strip_prefix(root)
        .unwrap()
        .trim_start_matches('/')
        .to_owned()
}

fn text(argument: &str) -> String {
    String::from_utf8(bytes(argument)).unwrap()
}

/// A string of `strace -xx`: `"\x7b\x7d"`. What is not in hexadecimal is itself.
fn bytes(argument: &str) -> Vec<u8> {
    let argument = argument.trim_matches('"');
    match argument.strip_prefix("\\x") {
        Some(hexadecimal) => hex::decode(hexadecimal.replace("\\x", "")).unwrap(),
        None => argument.as_bytes().to_vec(),
    }
}

/// A file as it is in memory, and what is on the disk of it whatever happens.
#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    flushed: usize,
}

/// Every disk that there can be when the power is cut after these steps.
fn disks(before: &Tree, steps: &[Step], rules: Rules) -> Vec<Tree> {
    let mut files: Vec<File> = Vec::new();
    // Of the names, those that are on the disk, and what may still be lost.
    let (mut kept, mut pending): (Vec<&Step>, Vec<&Step>) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Write(file, bytes) => {
                files.resize_with(files.len().max(file + 1), File::default);
                files[*file].bytes.extend(bytes);
            }
            Step::Flush(file) => flush(&mut files, *file),
            Step::Written(file) if rules == Rules::Ordered => flush(&mut files, *file),
            Step::Written(_) => {}
            Step::FlushNames(directory) => {
                let (flushed, rest) = pending.into_iter().partition(|step| is_in(step, directory));
                kept.extend::<Vec<&Step>>(flushed);
                pending = rest;
            }
            Step::Link(..) | Step::Rename(..) | Step::Exchange(..) | Step::Unlink(_) => pending.push(step),
        }
    }
    let mut found = BTreeSet::new();
    for chosen in 0..1_usize << pending.len() {
        if rules == Rules::Ordered && (chosen + 1) & chosen != 0 {
            continue;
        }
        let reached = pending
            .iter()
            .enumerate()
            .filter(|(nth, _)| chosen >> nth & 1 == 1);
        let names: Vec<&Step> = kept
            .iter()
            .copied()
            .chain(reached.map(|(_, step)| *step))
            .collect();
        for lost in [0, 1, 2] {
            let contents: Vec<Vec<u8>> = files.iter().map(|file| file.left(lost)).collect();
            found.insert(apply(before, &names, &contents));
        }
    }
    found.into_iter().collect()
}

fn flush(files: &mut Vec<File>, file: usize) {
    files.resize_with(files.len().max(file + 1), File::default);
    files[file].flushed = files[file].bytes.len();
}

fn is_in(step: &Step, directory: &str) -> bool {
    let parent = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    match step {
        Step::Link(_, path) | Step::Unlink(path) => parent(path) == directory,
        Step::Rename(from, to) | Step::Exchange(from, to) => {
            [from, to].iter().any(|path| parent(path) == directory)
        }
        _ => false,
    }
}

impl File {
    /// Its bytes when all, half or none of what was not flushed is there.
    fn left(&self, lost: usize) -> Vec<u8> {
        let loose = self.bytes.len() - self.flushed;
        self.bytes[..self.bytes.len() - loose * lost / 2].to_vec()
    }
}

/// The files that there are by these names.
fn apply(before: &Tree, names: &[&Step], contents: &[Vec<u8>]) -> Tree {
    let mut tree = before.clone();
    for step in names {
        match step {
            Step::Link(file, path) => {
                tree.insert(path.clone(), contents.get(*file).cloned().unwrap_or_default());
            }
            Step::Rename(from, to) => {
                if let Some(bytes) = tree.remove(from) {
                    tree.insert(to.clone(), bytes);
                }
            }
            Step::Exchange(one, other) => {
                if let (Some(first), Some(second)) = (tree.remove(one), tree.remove(other)) {
                    tree.insert(one.clone(), second);
                    tree.insert(other.clone(), first);
                }
            }
            Step::Unlink(path) => drop(tree.remove(path)),
            _ => {}
        }
    }
    tree
}

/// With nothing lost.
fn after(before: &Tree, steps: &[Step]) -> Tree {
    let mut contents: Vec<Vec<u8>> = Vec::new();
    for step in steps {
        if let Step::Write(file, bytes) = step {
            contents.resize_with(contents.len().max(file + 1), Vec::new);
            contents[*file].extend(bytes);
        }
    }
    apply(before, &steps.iter().collect::<Vec<_>>(), &contents)
}

/// The records and drafts: what a user has saved.
fn named(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    tree.retain(|path, _| path.ends_with(".json") || path.contains(".tenantfs-draft-"));
    tree
}
