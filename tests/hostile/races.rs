//! Races: who can write the volume changes what a name leads to while it is being read; the same record is written in two
//! sessions; a session ends in the middle of a write. Of all that is read, each byte is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

use crate::arena::{Arena, Due, become_user, long, rounds, tell};
use crate::common::{ALICE, BOB, Conversation, Layout, Tenant, Volume};

/// What is in everything of bob's, and in nothing of alice's; and the other way round.
const OF_BOB: &str = "0f-b0b-0f-b0b";
const OF_ALICE: &str = "0f-al1ce-0f-al1ce";

/// How long a race may take until its readers have seen all there is to see.
const PATIENCE: Duration = Duration::from_secs(240);

/// How many opens a race has at least.
fn opens() -> usize {
    rounds(4_000, 100_000)
}

/// A record, as long as it is said: the owner comes first and the mark of whose it is last, so that the beginning of one
/// and the end of another would be seen for what they are.
fn record(tenant: &Tenant, mark: &str, length: usize) -> String {
    let fill: String = mark.chars().cycle().take(length).collect();
    format!(
        r#"{{"user_id": "{}", "fill": "{fill}", "of": "{mark}"}}"#,
        tenant.user
    )
}

/// A reader's own record, and what is not.
struct Eyes<'a> {
    uid: u32,
    path: PathBuf,
    /// The record, in each of the forms that it may have.
    mine: Vec<String>,
    foreign: &'a str,
}

/// What readers met.
#[derive(Default, Debug)]
struct Seen {
    opens: usize,
    mine: usize,
    foreign: usize,
    /// Neither: a mixture, or what is no record.
    strange: Vec<String>,
    errors: BTreeMap<String, usize>,
}

impl Seen {
    fn absent(&self) -> usize {
        self.errors.get("NotFound").copied().unwrap_or(0)
    }

    fn look(&mut self, eyes: &Eyes<'_>) {
        self.opens += 1;
        let mut bytes = Vec::new();
        match File::open(&eyes.path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) => *self.errors.entry(format!("{:?}", error.kind())).or_default() += 1,
            Ok(_) if eyes.mine.iter().any(|text| text.as_bytes() == bytes) => self.mine += 1,
            Ok(_) => self.suspect(&bytes, eyes.foreign),
        }
    }

    fn suspect(&mut self, bytes: &[u8], foreign: &str) {
        match contains(bytes, foreign) {
            true => self.foreign += 1,
            false if self.strange.len() < 3 => self
                .strange
                .push(String::from_utf8_lossy(bytes).chars().take(200).collect()),
            false => {}
        }
    }
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Readers read, each as its user, while `attack` is done over and over; until there are opens enough, and some of
/// them met the record and some of them nothing. Returns what each met, and how often the attack was made.
fn race(readers: &[Eyes<'_>], mut attack: impl FnMut(usize) + Send) -> (Vec<Seen>, usize) {
    let (enough, over) = (opens(), AtomicBool::new(false));
    let all = AtomicUsize::new(0);
    thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let mut attacks = 0;
            while !over.load(Ordering::Relaxed) {
                attack(attacks);
                attacks += 1;
                pause(attacks);
            }
            attacks
        });
        let readers: Vec<_> = readers
            .iter()
            .map(|eyes| {
                let all = &all;
                scope.spawn(move || {
                    become_user(eyes.uid);
                    let (mut seen, begun) = (Seen::default(), Instant::now());
                    while (all.load(Ordering::Relaxed) < enough || seen.mine == 0 || seen.absent() == 0)
                        && begun.elapsed() < PATIENCE
                    {
                        seen.look(eyes);
                        all.fetch_add(1, Ordering::Relaxed);
                    }
                    seen
                })
            })
            .collect();
        let seen = readers
            .into_iter()
            .map(|reader| reader.join())
            .collect::<Vec<_>>();
        over.store(true, Ordering::Relaxed);
        let attacks = attacker.join().unwrap();
        (seen.into_iter().map(Result::unwrap).collect(), attacks)
    })
}

/// Most attacks come at once; some leave time to read between them; and some so much that what was read is remembered.
fn pause(attacks: usize) {
    thread::sleep(match attacks % 256 {
        0 => Duration::from_millis(60),
        1..=32 => Duration::from_millis(1),
        _ => Duration::from_micros(20),
    });
}

/// Nothing of anybody else's was read; and the attack did take place, before readers who would have noticed.
fn assert_apart(name: &str, (seen, attacks): (Vec<Seen>, usize)) {
    let all = seen.iter().map(|seen| seen.opens).sum::<usize>();
    println!("{name}: {attacks} attacks, {seen:#?}");
    for seen in &seen {
        assert_eq!(seen.foreign, 0, "{name}: {seen:#?}");
        assert!(seen.strange.is_empty(), "{name}: {seen:#?}");
        assert!(seen.mine > 0 && seen.absent() > 0, "{name}: {seen:#?}");
        // What is elsewhere just then is absent. It is not for the sandbox to answer.
        let known = ["NotFound", "StaleNetworkFileHandle"];
        assert!(
            seen.errors.keys().all(|error| known.contains(&error.as_str())),
            "{name}: {seen:#?}"
        );
    }
    assert!(
        all >= opens() && attacks >= opens() / 100,
        "{name}: {all} opens, {attacks} attacks"
    );
    tell(
        "races",
        &format!("{name}: opens, 0 foreign bytes in {attacks} attacks"),
        all,
    );
}

fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// What alice and bob see of a record of theirs each, which has one content.
fn eyes<'a>(arena: &Arena<'_>, path: &str, [of_alice, of_bob]: [&str; 2]) -> [Eyes<'a>; 2] {
    [
        Eyes {
            uid: ALICE.uid,
            path: arena.alice.join(path),
            mine: vec![of_alice.to_owned()],
            foreign: OF_BOB,
        },
        Eyes {
            uid: BOB.uid,
            path: arena.bob.join(path),
            mine: vec![of_bob.to_owned()],
            foreign: OF_ALICE,
        },
    ]
}

#[test]
fn records_that_change_places() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let [of_alice, of_bob] = [record(&ALICE, OF_ALICE, 900), record(&BOB, OF_BOB, 900)];
    let mine = volume.plant(&ALICE, "results", "prize.json", &of_alice);
    let theirs = volume.plant(&BOB, "results", "prize.json", &of_bob);
    let readers = eyes(&arena, "results/prize.json", [&of_alice, &of_bob]);
    let seen = arena.case("exchange", Due::Lines("lookup results/prize.json ENOENT"), || {
        race(&readers, |_| exchange(&mine, &theirs))
    });
    assert_apart("exchange", seen);
}

#[test]
fn a_record_that_becomes_another_in_place() {
    for (name, length, truncated) in [
        ("rewritten, 1 KB", 900, true),
        ("rewritten, 300 KB", 300 << 10, true),
        ("overwritten, 300 KB", 300 << 10, false),
    ] {
        let volume = Volume::new(Layout::ResourceFirst);
        let arena = Arena::new(&volume);
        // As long as each other: written over another, one leaves nothing of it.
        let texts = [record(&ALICE, OF_ALICE, length), record(&BOB, OF_BOB, length)]
            .map(|text| text.clone() + &" ".repeat(length + 100 - text.len()));
        let path = volume.plant(&ALICE, "results", "prize.json", &texts[0]);
        let [alice, _] = eyes(&arena, "results/prize.json", [&texts[0], &texts[1]]);
        // Open all the time: ext4 writes a file out when it is closed that was truncated, which would take the attacks' time.
        let file = File::options().write(true).open(path).unwrap();
        let seen = arena.case(name, Due::Lines("lookup results/prize.json ENOENT"), || {
            race(&[alice], |attacks| {
                if truncated {
                    file.set_len(0).unwrap();
                }
                file.write_all_at(texts[(attacks + 1) % 2].as_bytes(), 0).unwrap();
            })
        });
        assert_apart(name, seen);
    }
}

#[test]
fn a_directory_that_becomes_a_link_to_anothers() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let [of_alice, of_bob] = [record(&ALICE, OF_ALICE, 900), record(&BOB, OF_BOB, 900)];
    volume.plant(&ALICE, "results", "dir/prize.json", &of_alice);
    volume.plant(&BOB, "results", "dir/prize.json", &of_bob);
    volume.plant(&ALICE, "results", "dir/prize.csv", OF_ALICE);
    volume.plant(&BOB, "results", "dir/prize.csv", OF_BOB);
    let [mine, theirs] = [&ALICE, &BOB].map(|tenant| volume.path(tenant, "results", "dir"));
    let link = volume.base().join("link");
    symlink(&theirs, &link).unwrap();
    let [alice, bob] = eyes(&arena, "results/dir/prize.json", [&of_alice, &of_bob]);
    // Opened by its name on the volume, each time: the sandbox sees where its directory is.
    let [attachment, _] = eyes(&arena, "results/dir/prize.csv", [OF_ALICE, OF_BOB]);
    let seen = arena.case(
        "directory and link",
        Due::Lines("lookup results/dir ENOENT"),
        || race(&[alice, attachment], |_| exchange(&mine, &link)),
    );
    assert_apart("directory and link", seen);
    // Directories themselves: what is in them is still whose it says.
    if link.symlink_metadata().unwrap().is_dir() {
        exchange(&mine, &link);
    }
    let [alice, _] = eyes(&arena, "results/dir/prize.json", [&of_alice, &of_bob]);
    let seen = arena.case(
        "two directories",
        Due::Lines("lookup results/dir/prize.json ENOENT"),
        || race(&[alice, bob], |_| exchange(&mine, &theirs)),
    );
    assert_apart("two directories", seen);
}

#[test]
fn a_record_that_could_not_be_read_for_where_it_was_is_read_where_it_belongs() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    volume.plant(&ALICE, "results", "dir/prize.json", record(&ALICE, OF_ALICE, 900));
    volume.plant(&BOB, "results", "dir/prize.json", record(&BOB, OF_BOB, 900));
    let [mine, theirs] = [&ALICE, &BOB].map(|tenant| volume.path(tenant, "results", "dir"));
    let code = "import os, sys\n\
        held = os.open('results/dir', os.O_RDONLY)\n\
        for line in sys.stdin:\n\
        \x20   try: os.stat('prize.json', dir_fd=held); print('there', flush=True)\n\
        \x20   except OSError as error: print(error.strerror, flush=True)\n\
        \x20   os.stat('results')";
    let mut alice = Conversation::start_in(
        ALICE.uid,
        &arena.alice,
        &code.replace("for", "print('held', flush=True)\nfor"),
    );
    assert_eq!(alice.next(), "held");
    // What was changed a moment ago is never remembered.
    thread::sleep(Duration::from_millis(60));
    arena.case(
        "elsewhere",
        // Looked at twice: it cannot be read, then it is another user's.
        Due::Lines("lookup results/dir/prize.json ENOENT"),
        || {
            exchange(&mine, &theirs);
            assert_eq!(alice.say("look"), "No such file or directory");
            exchange(&mine, &theirs);
            assert_eq!(alice.say("look"), "there");
        },
    );
}

/// What was written by one of several, whole.
fn is_whole(text: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<Value>(text) else {
        return false;
    };
    let fill = record["fill"].as_str().unwrap_or_default();
    fill.len() == 4000
        && fill.bytes().all(|byte| byte == fill.as_bytes()[0])
        && record["begin"] == record["end"]
}

/// Writes the record `path` over and over, until it fails or has been written so often, and closes it before it says that it
/// was written. Returns how often it did, and the errno.
fn write_over_and_over(path: &Path, by: char, times: usize) -> (usize, Option<i32>) {
    let fill: String = std::iter::repeat_n(by, 4000).collect();
    for n in 0..times {
        let text = format!(r#"{{"begin": {n}, "fill": "{fill}", "end": {n}}}"#);
        let written = File::create(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            // Closing it would do, but File does not say how that went.
            file.sync_all()
        });
        if let Err(error) = written {
            return (n, error.raw_os_error());
        }
    }
    (times, None)
}

#[test]
fn one_record_in_two_sessions() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &["--commit", "fsync"]);
    let second = volume.mount_with(&ALICE, &["--commit", "fsync"]);
    let views = [(&arena.alice, 'a'), (&second.path, 'b')];
    let (stored, over) = (
        volume.path(&ALICE, "results", "both.json"),
        AtomicBool::new(false),
    );
    // Every round is an open; the readers' come on top of that.
    let (times, enough) = (rounds(200, 10_000), opens());
    let all = AtomicUsize::new(0);
    let paths = views.map(|(view, _)| view.join("results/both.json"));
    let (written, seen) = arena.case("two sessions", Due::Nothing, || {
        thread::scope(|scope| {
            let writers = views.map(|(view, by)| {
                let path = view.join("results/both.json");
                scope.spawn(move || {
                    become_user(ALICE.uid);
                    write_over_and_over(&path, by, times)
                })
            });
            // Who reads in a view while its user writes there sees what is written so far, as in any file.
            let written_here = |text: &[u8]| !contains(text, OF_BOB);
            let readers = paths.each_ref().map(|path| {
                let (over, all) = (&over, &all);
                scope.spawn(move || {
                    become_user(ALICE.uid);
                    read_over_and_over(path, written_here, || {
                        all.fetch_add(1, Ordering::Relaxed) >= enough && over.load(Ordering::Relaxed)
                    })
                })
            });
            let service =
                scope.spawn(|| read_over_and_over(&stored, is_whole, || over.load(Ordering::Relaxed)));
            let written = writers.map(|writer| writer.join().unwrap());
            over.store(true, Ordering::Relaxed);
            let seen: Vec<_> = readers
                .map(|reader| reader.join().unwrap())
                .into_iter()
                .chain([service.join().unwrap()])
                .collect();
            (written, seen)
        })
    });
    println!("two sessions: {written:?}, {seen:?}");
    assert_eq!(written, [(times, None); 2]);
    for by in ['a', 'b'] {
        assert!(
            seen.iter().any(|(_, seen)| seen.contains(&by)),
            "nobody saw what {by} wrote: {seen:?}"
        );
    }
    tell(
        "races",
        "two sessions of one user: opens, each whole on the volume",
        2 * times + seen.iter().map(|(opens, _)| opens).sum::<usize>(),
    );
}

/// Reads a record until it is enough; each time it must be `right`. Returns how often, and who wrote what was read.
fn read_over_and_over(
    path: &Path,
    right: impl Fn(&[u8]) -> bool,
    enough: impl Fn() -> bool,
) -> (usize, BTreeSet<char>) {
    let (mut opens, mut writers) = (0, BTreeSet::new());
    while !enough() {
        opens += 1;
        let text = match fs::read(path) {
            Ok(text) => text,
            // It begins to exist, and its inode in the mount is another whenever the other session has replaced it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        assert!(
            right(&text),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&text)
        );
        writers.extend(
            ['a', 'b']
                .into_iter()
                .filter(|writer| contains(&text, &writer.to_string().repeat(9))),
        );
    }
    (opens, writers)
}

#[test]
fn a_session_that_is_revoked_while_its_user_writes() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &["--commit", "fsync"]);
    volume.plant(&ALICE, "results", "foreign.json", record(&BOB, OF_BOB, 900));
    let (mut all, mut sessions) = (0, 0);
    let (enough, fewest, between) = (
        rounds(800, 100_000),
        rounds(8, 200) as u64,
        if long() { 100 } else { 60 },
    );
    arena.case("write and revoke", Due::Lines("session_ends * ok"), || {
        while all < enough || sessions < fewest {
            let way: &[&str] = match sessions % 2 {
                0 => &["revoke", "--uid", "61001"],
                _ => &["logout", "--uid", "61001"],
            };
            let (records, over) = (["one.json", "two.json"], AtomicBool::new(false));
            let opens = thread::scope(|scope| {
                let writers = records.map(|name| {
                    let path = arena.alice.join("results").join(name);
                    scope.spawn(move || {
                        become_user(ALICE.uid);
                        write_over_and_over(&path, 'w', usize::MAX)
                    })
                });
                let over = &over;
                let foreign = arena.alice.join("results/foreign.json");
                let readers = [arena.alice.join("results/one.json"), foreign].map(|path| {
                    scope.spawn(move || {
                        become_user(ALICE.uid);
                        let mut opens = 0;
                        while !over.load(Ordering::Relaxed) {
                            // Once the view is gone there is nothing to open.
                            let Ok(read) = fs::read(&path) else { continue };
                            opens += 1;
                            assert!(!contains(&read, OF_BOB), "{}", path.display());
                        }
                        opens
                    })
                });
                thread::sleep(Duration::from_millis(between + sessions % 7));
                arena.daemon.asked(0, way, "");
                let at_the_end = records.map(|name| volume.stored(&ALICE, "results", name));
                let outcomes = writers.map(|writer| writer.join().unwrap());
                over.store(true, Ordering::Relaxed);
                let read = readers.map(|reader| reader.join().unwrap());
                for ((name, before), (written, errno)) in records.iter().zip(at_the_end).zip(&outcomes) {
                    // What came back from a write is stored, whole (of a session without any, an earlier one's); and no write came later.
                    let stored = volume.stored(&ALICE, "results", name);
                    assert_eq!(stored, before, "{name} changed after {way:?}");
                    assert!(is_whole(stored.as_bytes()), "{stored}");
                    let last: Value = serde_json::from_str(&stored).unwrap();
                    assert_eq!(last["user_id"], ALICE.user);
                    let last = usize::try_from(last["begin"].as_u64().unwrap()).unwrap();
                    assert!(
                        *written == 0 || last + 1 == *written || last == *written,
                        "{last} is stored, {written} were written"
                    );
                    assert!(
                        matches!(errno, Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ENOENT)),
                        "{errno:?}"
                    );
                }
                outcomes
                    .map(|(written, _)| written + 1)
                    .iter()
                    .chain(&read)
                    .sum::<usize>()
            });
            all += opens;
            sessions += 1;
            arena.daemon.login(&ALICE);
        }
    });
    tell(
        "races",
        &format!("write and revoke, {sessions} sessions: opens"),
        all,
    );
}
