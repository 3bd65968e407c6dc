//! `tenantfs audit verify`: whatever is done to a log that the real writer wrote is found, where it was done.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::process::{getegid, geteuid};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tenantfs::audit::{self, Destination, Findings, HeadKey, Level, Options, Prepared, Record, USER_RATE};
use tenantfs::event::{Event, Subject};
use tenantfs::identity::UserId;
use zeroize::Zeroizing;

const LINES: usize = 10_000;

/// A log as the writer leaves it.
struct Written {
    log: Vec<u8>,
    head: Vec<u8>,
}

fn key() -> HeadKey {
    HeadKey::new("k1", Zeroizing::new([7; 32])).unwrap()
}

fn options(path: &Path, key: Option<HeadKey>) -> Options {
    Options {
        destination: Destination::File(path.to_owned()),
        level: Level::Access,
        user_rate: USER_RATE,
        key,
    }
}

fn owner() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

/// Has the real writer write so many lines.
fn write(path: &Path, key: Option<HeadKey>, lines: usize) {
    let log = Prepared::open(&options(path, key), owner())
        .unwrap()
        .start()
        .unwrap();
    let observer = log.observer(&Subject {
        user: None,
        uid: 1000,
    });
    for number in 0..lines {
        observer.observe(&Event::Committed {
            path: format!("results/{number}.json"),
        });
    }
    log.close().unwrap();
}

fn written(key: Option<HeadKey>, lines: usize) -> Written {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    write(&path, key, lines);
    Written {
        log: fs::read(&path).unwrap(),
        head: fs::read(directory.path().join("log.head")).unwrap(),
    }
}

fn plain() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| written(None, LINES))
}

/// Verifies these files, oldest first, with that beside the last one.
fn verify_files(files: &[&[u8]], head: Option<&[u8]>, keys: &[HeadKey]) -> (Findings, Vec<PathBuf>) {
    let directory = TempDir::new().unwrap();
    let paths: Vec<_> = (0..files.len())
        .map(|n| directory.path().join(n.to_string()))
        .collect();
    for (path, content) in paths.iter().zip(files) {
        fs::write(path, content).unwrap();
    }
    if let Some(head) = head {
        fs::write(directory.path().join(format!("{}.head", files.len() - 1)), head).unwrap();
    }
    (audit::verify(&paths, keys).unwrap(), paths)
}

/// Verifies one file of these lines, beside the head that they had.
fn verify(lines: &[&[u8]], head: &[u8]) -> Findings {
    verify_files(&[&lines.concat()], Some(head), &[]).0
}

fn lines(log: &[u8]) -> Vec<&[u8]> {
    log.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Random, and the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

/// The first problem is in one of these lines.
fn assert_found(found: &Findings, expected: &[usize], what: &str) {
    let problem = found.problems.first();
    let at = problem.map(|problem| usize::try_from(problem.line).unwrap());
    assert!(
        at.is_some_and(|at| expected.contains(&at)),
        "{what}: expected in line {expected:?}: {found:?}"
    );
    assert!(
        found.problem_count <= 4,
        "{what}: one thing is told many times: {found:?}"
    );
}

#[test]
fn a_log_as_it_was_written_has_no_problems() {
    let Written { log, head } = plain();
    let found = verify(&lines(log), head);
    assert_eq!(found.problems, []);
    assert_eq!(
        (found.lines, found.first, found.last),
        (10_000, Some(1), Some(10_000))
    );
    assert!(
        found.notes.iter().any(|note| note.contains("no keys")),
        "{:?}",
        found.notes
    );
}

#[test]
fn an_edited_line_is_found() {
    let Written { log, head } = plain();
    let (all, mut dice) = (lines(log), Dice(1));
    let mut positions: Vec<_> = (0..25).map(|_| dice.below(LINES)).collect();
    positions.extend([0, LINES - 1]);
    for at in positions {
        for (from, to) in [
            ("\"uid\":1000", "\"uid\":1001"),
            ("\"ok\"", "\"no\""),
            ("results", "secrets"),
        ] {
            let edited = String::from_utf8(all[at].to_vec()).unwrap().replace(from, to);
            let mut changed = all.clone();
            changed[at] = edited.as_bytes();
            assert_found(
                &verify(&changed, head),
                &[at + 1],
                &format!("line {} edited", at + 1),
            );
        }
    }
}

#[test]
fn a_missing_line_is_found() {
    let Written { log, head } = plain();
    let (all, mut dice) = (lines(log), Dice(2));
    for _ in 0..25 {
        let (at, count) = (1 + dice.below(LINES - 100), 1 + dice.below(50));
        let mut changed = all.clone();
        changed.drain(at..at + count);
        assert_found(
            &verify(&changed, head),
            &[at + 1],
            &format!("{count} lines from {}", at + 1),
        );
    }
    // What is before the first line of the oldest file may have been rotated away: it is said.
    let found = verify(&all[5..], head);
    assert_eq!(found.problems, []);
    assert!(found.notes[0].contains("begins at line 6"), "{:?}", found.notes);
}

#[test]
fn swapped_lines_are_found() {
    let Written { log, head } = plain();
    let (all, mut dice) = (lines(log), Dice(3));
    for _ in 0..25 {
        let (one, other) = (dice.below(LINES), dice.below(LINES));
        let (one, other) = (one.min(other), one.max(other));
        if one == other {
            continue;
        }
        let mut changed = all.clone();
        changed.swap(one, other);
        let found = verify(&changed, head);
        let at: Vec<_> = found
            .problems
            .iter()
            .map(|problem| problem.line as usize)
            .collect();
        assert!(at[0] == one + 1 || at[0] == one + 2, "{one} {other}: {found:?}");
        assert!(at.len() <= 6, "{found:?}");
    }
    for one in [0, 1, 5000, LINES - 2] {
        let mut changed = all.clone();
        changed.swap(one, one + 1);
        let found = verify(&changed, head);
        let line = found.problems[0].line as usize;
        assert!(line == one + 1 || line == one + 2, "{one}: {found:?}");
    }
}

#[test]
fn an_inserted_line_is_found() {
    let Written { log, head } = plain();
    let (all, mut dice) = (lines(log), Dice(4));
    for _ in 0..25 {
        let (at, other) = (1 + dice.below(LINES - 1), dice.below(LINES));
        // A copy; something else; and one that follows from the line before it as it should.
        let digest = hex::encode(Sha256::digest(all[at - 1].strip_suffix(b"\n").unwrap()));
        let text = String::from_utf8(all[at].to_vec())
            .unwrap()
            .replace("results", "forged");
        assert!(text.contains(&digest));
        for inserted in [all[other], b"nonsense\n".as_slice(), b"\n", text.as_bytes()] {
            let mut changed = all.clone();
            changed.insert(at, inserted);
            assert_found(
                &verify(&changed, head),
                &[at + 1],
                &format!(
                    "{:?} inserted as line {}",
                    String::from_utf8_lossy(inserted),
                    at + 1
                ),
            );
        }
    }
    // At the end, too.
    let digest = hex::encode(Sha256::digest(all[LINES - 1].strip_suffix(b"\n").unwrap()));
    let last: serde_json::Value = serde_json::from_slice(all[LINES - 1]).unwrap();
    let forged = String::from_utf8(all[LINES - 1].to_vec())
        .unwrap()
        .replace("\"seq\":10000", "\"seq\":10001")
        .replace(last["prev"].as_str().unwrap(), &digest)
        + "\n";
    let mut changed = all.clone();
    changed.push(forged.trim_start().trim_end_matches('\n').as_bytes());
    changed.push(b"\n");
    assert_found(&verify(&changed, head), &[LINES + 1], "appended");
}

#[test]
fn a_cut_tail_is_found_however_short() {
    let Written { log, head } = plain();
    let (all, mut dice) = (lines(log), Dice(5));
    let mut counts: Vec<_> = (0..20).map(|_| 1 + dice.below(LINES - 1)).collect();
    counts.extend([1, 2, LINES - 1]);
    for count in counts {
        let kept = LINES - count;
        let found = verify(&all[..kept], head);
        assert_found(&found, &[kept], &format!("{count} lines cut"));
        let what = &found.problems[0].what;
        assert!(what.contains("10000"), "{what}");
    }
    // In the middle of a line.
    let found = verify_files(&[&log[..log.len() - 10]], Some(head), &[]).0;
    assert_found(&found, &[LINES], "half a line");
}

#[test]
fn a_replaced_or_missing_file_is_found() {
    let Written { log, head } = plain();
    let all = lines(log);
    let [one, two, three] = [&all[..3000], &all[3000..7000], &all[7000..]].map(<[_]>::concat);
    let (found, _) = verify_files(&[&one, &two, &three], Some(head), &[]);
    assert_eq!(found.problems, []);

    let other = written(None, 7000);
    let stranger = lines(&other.log)[3000..].concat();
    let (found, paths) = verify_files(&[&one, &stranger, &three], Some(head), &[]);
    // The last line before it is as likely to be the changed one, by itself.
    let places: Vec<_> = found
        .problems
        .iter()
        .map(|problem| (&problem.file, problem.line))
        .collect();
    assert!(
        places.contains(&(&paths[0], 3000)) || places.contains(&(&paths[1], 1)),
        "{found:?}"
    );
    assert!(
        places.contains(&(&paths[1], 4000)) || places.contains(&(&paths[2], 1)),
        "{found:?}"
    );

    let (found, paths) = verify_files(&[&one, &three], Some(head), &[]);
    assert_eq!((&found.problems[0].file, found.problems[0].line), (&paths[1], 1));
    assert!(found.problems[0].what.contains("3001 to 7000"), "{found:?}");
    let (found, paths) = verify_files(&[&two, &one, &three], Some(head), &[]);
    assert_eq!((&found.problems[0].file, found.problems[0].line), (&paths[1], 1));
    let (found, _) = verify_files(&[&one, &two, &other.log], Some(head), &[]);
    assert!(found.problem_count > 0);
}

#[test]
fn a_file_that_was_rotated_is_as_it_was_written_before_anything_else_happens_and_a_cut_one_is_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let log = Prepared::open(&options(&path, Some(key())), owner())
        .unwrap()
        .start()
        .unwrap();
    let observer = log.observer(&Subject {
        user: None,
        uid: 1000,
    });
    let commit = |number: usize| {
        observer.observe(&Event::Committed {
            path: format!("results/{number}.json"),
        });
    };
    (0..1234).for_each(commit);
    let soon = || Instant::now() + Duration::from_secs(10);
    let wait = |what: &str, so: &dyn Fn() -> bool| {
        let until = soon();
        while !so() {
            assert!(Instant::now() < until, "{what}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let count = |path: &Path| lines(&fs::read(path).unwrap()).len();
    wait("all is written", &|| count(&path) >= 1235);
    let rotated = directory.path().join("older");
    fs::rename(&path, &rotated).unwrap();

    // At once, by what was beside it.
    let verified = || audit::verify(std::slice::from_ref(&rotated), &[key()]).unwrap();
    let found = verified();
    assert_eq!((&found.problems[..], found.authenticated), (&[][..], found.last));
    let whole = fs::read(&rotated).unwrap();
    let cut = lines(&whole);
    fs::write(&rotated, cut[..cut.len() - 1].concat()).unwrap();
    assert!(verified().problem_count > 0, "cut");
    let changed = String::from_utf8(whole.clone())
        .unwrap()
        .replace("results/1233.json", "results/9.json");
    fs::write(&rotated, changed).unwrap();
    assert!(verified().problem_count > 0, "changed");
    fs::write(&rotated, &whole).unwrap();
    assert_eq!(verified().problems, []);

    // Soon by itself, wherever it is taken.
    wait("it is signed", &|| count(&rotated) == cut.len() + 1);
    let (found, _) = verify_files(&[&fs::read(&rotated).unwrap()], None, &[key()]);
    assert_eq!((&found.problems[..], found.authenticated), (&[][..], found.last));
    assert!(!path.exists(), "the next file begins with the next line");
    commit(2000);
    wait("the log goes on", &|| path.exists() && count(&path) == 1);
    log.close().unwrap();
    let found = audit::verify(&[rotated, path], &[key()]).unwrap();
    assert_eq!((&found.problems[..], found.authenticated), (&[][..], found.last));
}

#[test]
fn who_writes_all_of_it_anew_cannot_sign_it() {
    let signed = written(Some(key()), 2500);
    let other = HeadKey::new("k1", Zeroizing::new([8; 32])).unwrap();
    let (found, _) = verify_files(&[&signed.log], Some(&signed.head), &[other.clone(), key()]);
    assert!(found.problem_count > 0, "a key's name is one key's");
    let (found, _) = verify_files(&[&signed.log], Some(&signed.head), &[key()]);
    assert_eq!(found.problems, []);
    assert_eq!(found.authenticated, found.last);
    let heads = lines(&signed.log)
        .into_iter()
        .filter(|line| String::from_utf8_lossy(line).contains("\"op\":\"head\""));
    assert_eq!(heads.count(), 2, "one in a thousand lines");

    // By somebody without the key, and by somebody with another one: chained as it should be.
    for forger in [None, Some(other)] {
        let forged = written(forger, 2500);
        let (found, _) = verify_files(&[&forged.log], Some(&forged.head), &[]);
        assert_eq!(found.problems, [], "the chain alone does not tell");
        let (found, _) = verify_files(&[&forged.log], Some(&forged.head), &[key()]);
        assert!(found.problem_count > 0);
        // Beside the head that was signed.
        let (found, _) = verify_files(&[&forged.log], Some(&signed.head), &[key()]);
        assert!(found.problem_count > 0);
    }
    // Without the file beside it, what comes after the last signed line is not vouched for.
    let (found, _) = verify_files(&[&signed.log], None, &[key()]);
    assert_eq!(found.authenticated, Some(2000));
    assert!(
        found.problems[0].what.contains("2001 to 2502 are not signed"),
        "{found:?}"
    );
    let unknown = HeadKey::new("k2", Zeroizing::new([7; 32])).unwrap();
    let (found, _) = verify_files(&[&signed.log], Some(&signed.head), &[unknown]);
    assert!(found.problems[0].what.contains("\"k1\""), "{found:?}");
}

#[test]
fn a_line_of_any_length_is_read_in_bounded_memory() {
    let Written { log, head } = plain();
    let mut long = b"{\"ts\":\"".to_vec();
    long.resize(30 << 20, b'x');
    long.push(b'\n');
    let all = lines(log);
    let mut changed = all.clone();
    changed.insert(77, &long);
    let found = verify(&changed, head);
    assert_found(&found, &[78], "a long line");
    assert!(found.problems[0].what.contains("longer"), "{found:?}");
}

#[test]
fn where_the_writer_finds_its_file_cut_or_gone_the_log_says_so_for_ever() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let verified = || audit::verify(std::slice::from_ref(&path), &[]).unwrap();
    let reopened = || {
        write(&path, None, 10);
        verified()
    };
    write(&path, None, 100);
    assert_eq!(reopened().problems, []);
    assert_eq!(verified().last, Some(110));

    // Cut while nobody writes.
    let content = fs::read(&path).unwrap();
    fs::write(&path, lines(&content)[..50].concat()).unwrap();
    let found = reopened();
    assert_eq!(found.problem_count, 1, "{found:?}");
    assert!(found.problems[0].what.contains("51 to 110"), "{found:?}");
    assert!(found.notes.iter().any(|note| note.contains("cut")), "{found:?}");

    // Stopped in the middle of a line, when the file beside it knew nothing of it yet.
    fs::write(&path, &content).unwrap();
    fs::remove_file(directory.path().join("log.head")).unwrap();
    let torn = [&content[..], b"{\"ts\":\"2026-"].concat();
    fs::write(&path, torn).unwrap();
    let found = reopened();
    assert_eq!(found.problem_count, 1, "{found:?}");
    assert_eq!(found.problems[0].line, 111, "{found:?}");
    assert!(
        found.notes.iter().any(|note| note.contains("unfinished")),
        "{found:?}"
    );
    assert_eq!(
        found.last,
        Some(122),
        "110, the torn one, a line that says so, and 10"
    );

    // Gone.
    fs::remove_file(&path).unwrap();
    let found = reopened();
    assert_eq!((found.first, found.last), (Some(123), Some(132)));
}

#[test]
fn an_operators_command_has_a_line_in_the_same_chain_or_is_not_done() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let user = UserId::new("alice").unwrap().hash();
    let record = |path: &Path| {
        let what = Record {
            op: "unseal",
            user: Some(&user),
            uid: 0,
            path: "schedules/x.json",
            outcome: Ok(()),
            reason: "",
        };
        audit::record(&options(path, Some(key())), owner(), &what)
    };
    // Beside a server that has the log open.
    let log = Prepared::open(&options(&path, Some(key())), owner())
        .unwrap()
        .start()
        .unwrap();
    let observer = log.observer(&Subject {
        user: None,
        uid: 1000,
    });
    for number in 0..10 {
        observer.observe(&Event::Committed {
            path: format!("results/{number}.json"),
        });
        record(&path).unwrap();
    }
    log.close().unwrap();
    let found = audit::verify(std::slice::from_ref(&path), &[key()]).unwrap();
    assert_eq!(
        (found.problem_count, found.lines, found.authenticated),
        (0, 20, Some(20)),
        "{found:?}"
    );
    let content = fs::read_to_string(&path).unwrap();
    let line = content
        .lines()
        .find(|line| line.contains("\"op\":\"unseal\""))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["user"], &line["path"]),
        (&"2bd806c97f0e00af".into(), &"schedules/x.json".into())
    );
    assert_eq!(line["pid"], std::process::id());
    let error = record(&directory.path().join("none/log")).unwrap_err();
    assert!(format!("{error:#}").contains("none/log"), "{error:#}");
}

#[test]
fn the_command_says_where_and_exits_with_6() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    write(&path, None, 10);
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantfs"));
        let output = command
            .args(["audit", "verify"])
            .arg(&path)
            .args(args)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("10 lines, 1 to 10: as they were written"), "{said}");
    let content = fs::read_to_string(&path).unwrap();
    fs::write(&path, content.replace("results/3.json", "results/4.json")).unwrap();
    let (code, said) = run(&[]);
    assert_eq!(code, Some(6));
    let offset: usize = lines(content.as_bytes())[..3].iter().map(|line| line.len()).sum();
    let place = format!("{}:4 (byte {offset}): it was changed", path.display());
    assert!(said.contains(&place), "{said}");
    let (code, said) = run(&["--json"]);
    assert_eq!(code, Some(6));
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["problems"][0]["line"], 4);
    assert_eq!(found["problem_count"], 1);
    let (code, said) = run(&["/nonexistent/log", "--json"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("{\"error\":{"), "{said}");
}

#[test]
fn what_another_command_prints_is_verified_as_a_file_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    write(&path, None, 10);
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "\"$0\" audit verify <(head -n 4 \"$1\") <(tail -n +5 \"$1\")",
    ]);
    command.arg(env!("CARGO_BIN_EXE_tenantfs")).arg(&path);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("10 lines, 1 to 10: as they were written"),
        "{said}{error}"
    );
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(
        files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
        head in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
    ) {
        let files: Vec<_> = files.iter().map(Vec::as_slice).collect();
        verify_files(&files, head.as_deref(), &[key()]);
    }

    #[test]
    fn every_change_of_a_byte_is_found(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let Written { log, head } = plain();
        let log = lines(log)[9900..].concat();
        let at = at.index(log.len());
        let mut changed = log.clone();
        changed[at] = with;
        let (found, _) = verify_files(&[&changed], Some(head), &[]);
        // The first line's own place is not known: the ones before it are in no file that is given.
        prop_assert_eq!(found.problem_count > 0, changed != log, "byte {}", at);
    }

    #[test]
    fn pieces_of_a_log_in_any_order_are_no_log(cuts in prop::collection::vec(0usize..100, 1..6)) {
        let Written { log, head } = plain();
        let all = lines(log);
        let pieces: Vec<_> = cuts.iter().map(|cut| all[LINES - 100 + cut]).collect();
        let found = verify(&pieces, head);
        let is_tail = pieces == all[LINES - pieces.len()..];
        prop_assert_eq!(found.problem_count == 0, is_tail, "{:?}", found);
    }
}
