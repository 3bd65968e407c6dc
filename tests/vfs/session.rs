//! Random operations of a session's programs, of the service and of the operator; after each, everything is compared.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;
use tenantfs::error::{Error, Kind, Result};
use tenantfs::event::{Event, Observer, Op};
use tenantfs::identity::UserId;
use tenantfs::record::Lens;
use tenantfs::vfs::{Changes, Fh, Ino, OpenMode, Pools};
use tenantfs::volume::Rename;

use super::model::{Occasion, Session};
use super::tree::{MAX_RECORD, Node, Outcome, Sight, is_record};
use super::{Mounted, READ, WRITE, limits};

const NAMES: [&str; 3] = ["a.json", "b.json", "n.txt"];

/// Threads that are nobody's: the one that opens everything, and one of another process.
const OPENER: u32 = 1 << 30;
const OTHER: u32 = OPENER + 1;

/// One operation. Numbers are handles.
#[derive(Clone, Debug)]
enum Step {
    Open(usize, &'static str, Mode),
    Write(usize, Text),
    Append(usize, Text),
    Rewrite(usize, Text),
    Resize(usize, u64),
    Sync(usize),
    Flush(usize, bool),
    Release(usize),
    Truncate(&'static str, u64),
    Chmod(&'static str),
    Unlink(&'static str),
    Rename(&'static str, &'static str, Rename),
    /// The service puts a record there, in place or not, with a secret or not.
    Plant(&'static str, u8, bool, bool),
    Unplant(&'static str),
    Restore(&'static str),
    Discard(&'static str),
    /// From now on nothing can be saved, or everything again.
    Refuse(bool),
    SettleClosed,
    End,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    Read,
    Write,
    Truncate,
    Synchronous,
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Plain(u8),
    NullSecret(u8),
    PlainSecret,
    Incomplete(u8),
    Broken(u8),
    Large,
}

impl Text {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Plain(n) => format!("{{ \"n\": {n} }}"),
            Self::NullSecret(n) => format!(r#"{{"api_key": null, "n": {n}}}"#),
            Self::PlainSecret => r#"{"api_key": "typed"}"#.to_owned(),
            Self::Incomplete(n) => format!(r#"{{"n": {n}"#),
            Self::Broken(n) => format!("n = {n}"),
            Self::Large => "x".repeat(MAX_RECORD + 1),
        }
        .into_bytes()
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let texts = || {
        prop_oneof![
            5 => any::<u8>().prop_map(Text::Plain),
            1 => any::<u8>().prop_map(Text::NullSecret),
            1 => any::<u8>().prop_map(Text::Incomplete),
            1 => any::<u8>().prop_map(Text::Broken),
            1 => select(vec![Text::PlainSecret, Text::Large]),
        ]
    };
    let records = || select(vec!["a.json", "b.json"]);
    let names = || select(NAMES.to_vec());
    let modes = select(vec![
        Mode::Read,
        Mode::Write,
        Mode::Write,
        Mode::Truncate,
        Mode::Synchronous,
    ]);
    let hows = select(vec![
        Rename::Replace,
        Rename::Replace,
        Rename::NoReplace,
        Rename::Exchange,
    ]);
    let bits = (any::<u8>(), any::<bool>(), any::<bool>());
    prop_oneof![
        8 => (0usize..4, names(), modes).prop_map(|(slot, name, mode)| Step::Open(slot, name, mode)),
        3 => (0usize..4, texts()).prop_map(|(slot, text)| Step::Write(slot, text)),
        2 => (0usize..4, texts()).prop_map(|(slot, text)| Step::Append(slot, text)),
        5 => (0usize..4, texts()).prop_map(|(slot, text)| Step::Rewrite(slot, text)),
        2 => (0usize..4, 0u64..130).prop_map(|(slot, size)| Step::Resize(slot, size)),
        3 => (0usize..4).prop_map(Step::Sync),
        5 => (0usize..4, any::<bool>()).prop_map(|(slot, own)| Step::Flush(slot, own)),
        5 => (0usize..4).prop_map(Step::Release),
        2 => (names(), 0u64..130).prop_map(|(name, size)| Step::Truncate(name, size)),
        1 => names().prop_map(Step::Chmod),
        3 => names().prop_map(Step::Unlink),
        6 => (names(), names(), hows).prop_map(|(from, to, how)| Step::Rename(from, to, how)),
        4 => (records(), bits).prop_map(|(name, (n, place, secret))| Step::Plant(name, n, place, secret)),
        1 => names().prop_map(Step::Unplant),
        1 => records().prop_map(Step::Restore),
        2 => records().prop_map(Step::Discard),
        1 => any::<bool>().prop_map(Step::Refuse),
        1 => Just(Step::SettleClosed),
        1 => Just(Step::End),
    ]
}

/// An observer that cannot take note of commits: a draft is not saved then, as where the volume is full.
#[derive(Default)]
struct Full(AtomicBool);

impl Observer for Full {
    fn observe(&self, _: &Event) {}

    fn admit(&self, op: Op) -> Result<()> {
        match op == Op::Commit && self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::NoSpace, "nothing can be noted")),
            false => Ok(()),
        }
    }
}

struct Run {
    mounted: Mounted,
    full: Arc<Full>,
    lens: Lens,
    model: Session,
    open: BTreeMap<usize, (Ino, Fh, Mode)>,
}

impl Run {
    fn new() -> Self {
        let full = Arc::new(Full::default());
        Self {
            mounted: mount(Arc::new(TempDir::new().unwrap()), &full),
            full,
            lens: Lens::new(UserId::new("alice").unwrap(), vec!["api_key".to_owned()], None),
            model: Session::default(),
            open: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open(slot, name, mode) if !self.open.contains_key(slot) => self.open(*slot, name, *mode),
            Step::Write(slot, _)
            | Step::Append(slot, _)
            | Step::Rewrite(slot, _)
            | Step::Resize(slot, _)
            | Step::Sync(slot)
            | Step::Flush(slot, _)
            | Step::Release(slot) => {
                if let Some((ino, fh, mode)) = self.open.get(slot).copied() {
                    self.with_handle(step, *slot, (ino, fh), mode);
                }
            }
            Step::Plant(..) | Step::Unplant(_) | Step::Restore(_) | Step::Discard(_) => self.others(step),
            Step::Refuse(refuses) => {
                self.model.refuses = *refuses;
                self.full.0.store(*refuses, Ordering::Relaxed);
            }
            Step::SettleClosed => {
                self.mounted.vfs.settle_closed();
                self.model.settle_closed(&self.lens);
            }
            Step::End => {
                self.mounted.vfs.settle_all();
                self.model.end(&self.lens);
                self.open.clear();
                self.mounted = mount(Arc::clone(&self.mounted.volume), &self.full);
            }
            _ => self.by_name(step),
        }
    }

    fn open(&mut self, slot: usize, name: &str, mode: Mode) {
        let exists = self.model.visible(&self.lens, name).is_some();
        let vfs = &self.mounted.vfs;
        let flags = OpenMode {
            truncate: mode == Mode::Truncate,
            synchronous: mode == Mode::Synchronous,
            ..if mode == Mode::Read { READ } else { WRITE }
        };
        let (ino, opened) = match exists {
            true => {
                let ino = self.mounted.lookup(name).ino;
                (ino, vfs.open(ino, flags, OPENER).unwrap())
            }
            false if mode == Mode::Read => return,
            false => {
                let created = vfs.create(self.mounted.schedules, name.as_bytes(), 0o644, flags, OPENER);
                created.map(|(node, opened)| (node.ino, opened)).unwrap()
            }
        };
        self.open.insert(slot, (ino, opened.fh, mode));
        let (writes, truncates) = (mode != Mode::Read, mode == Mode::Truncate);
        self.model.open(&self.lens, slot, name, writes, truncates);
    }

    fn with_handle(&mut self, step: &Step, slot: usize, (ino, fh): (Ino, Fh), mode: Mode) {
        let vfs = &self.mounted.vfs;
        let size = |size| Changes {
            size: Some(size),
            ..Changes::default()
        };
        let writes = self.model.handles[&slot].writes;
        let (real, expected) = match step {
            Step::Flush(_, own) => (
                vfs.flush(fh, if *own { OPENER } else { OTHER }),
                self.model.flush(&self.lens, slot, *own),
            ),
            Step::Sync(_) => (
                vfs.fsync(fh, false),
                self.model.sync(&self.lens, slot, Occasion::Sync),
            ),
            Step::Release(_) => {
                vfs.release(fh);
                vfs.forget(ino, 1);
                self.open.remove(&slot);
                return self.model.release(&self.lens, slot);
            }
            _ if !writes => return,
            Step::Resize(_, to) => (
                vfs.setattr(ino, Some(fh), size(*to), OPENER).map(drop),
                self.model.write(slot, |text| text.resize(*to as usize, 0)),
            ),
            Step::Write(_, text) | Step::Append(_, text) => {
                let at = match step {
                    Step::Append(..) => self.model.read(slot).len(),
                    _ => 0,
                };
                self.write(slot, fh, at, &text.bytes(), mode)
            }
            Step::Rewrite(_, text) => {
                let real = vfs.setattr(ino, Some(fh), size(0), OPENER).map(drop);
                assert_eq!(kind(real), self.model.write(slot, Vec::clear));
                self.write(slot, fh, 0, &text.bytes(), mode)
            }
            _ => unreachable!("{step:?} has no handle"),
        };
        assert_eq!(kind(real), expected);
    }

    /// A write(2), and the sync that the kernel sends after it where every write is synced.
    fn write(&mut self, slot: usize, fh: Fh, at: usize, text: &[u8], mode: Mode) -> (Result<()>, Outcome) {
        let vfs = &self.mounted.vfs;
        let real = vfs.write(fh, at as u64, text, false);
        let expected = self.model.write(slot, |content| {
            content.resize(content.len().max(at + text.len()), 0);
            content[at..at + text.len()].copy_from_slice(text);
        });
        match expected.is_ok() && mode == Mode::Synchronous {
            true => {
                real.unwrap();
                (
                    vfs.fsync(fh, true),
                    self.model.sync(&self.lens, slot, Occasion::Write),
                )
            }
            false => (real, expected),
        }
    }

    fn by_name(&mut self, step: &Step) {
        let (vfs, here) = (&self.mounted.vfs, self.mounted.schedules);
        let (Step::Truncate(name, _) | Step::Chmod(name) | Step::Unlink(name) | Step::Rename(name, ..)) =
            step
        else {
            return;
        };
        if self.model.visible(&self.lens, name).is_none() {
            return;
        }
        let node = self.mounted.lookup(name).ino;
        let mut changes = Changes::default();
        let (real, expected) = match step {
            Step::Truncate(_, size) => {
                changes.size = Some(*size);
                (
                    vfs.setattr(node, None, changes, OPENER).map(drop),
                    self.model.truncate(&self.lens, name, *size as usize),
                )
            }
            Step::Chmod(_) => {
                changes.mode = Some(0o600);
                let changed = vfs.setattr(node, None, changes, OPENER);
                assert_eq!(
                    changed.as_ref().map(|node| node.attributes.mode).ok(),
                    Some(0o600)
                );
                (changed.map(drop), Ok(()))
            }
            Step::Unlink(_) => (vfs.unlink(here, name.as_bytes(), 1), self.model.unlink(name)),
            // The kernel answers that itself.
            Step::Rename(_, to, _) if to == name => (Ok(()), Ok(())),
            Step::Rename(_, to, how) => (
                vfs.rename((here, name.as_bytes()), (here, to.as_bytes()), *how, 1),
                self.model.rename(&self.lens, name, to, *how),
            ),
            _ => return,
        };
        self.mounted.vfs.forget(node, 1);
        assert_eq!(kind(real), expected);
    }

    /// The service, and the operator.
    fn others(&mut self, step: &Step) {
        let store = self.mounted.vfs.store();
        let path = |name: &str| format!("schedules/{name}");
        let tree = &mut self.model.tree;
        let mut changed = true;
        match step {
            Step::Plant(name, n, in_place, secret) => {
                let secret = if *secret {
                    format!(r#","api_key":"sk-{n}""#)
                } else {
                    String::new()
                };
                let record = format!(r#"{{"n":{n}{secret},"user_id":"alice"}}"#);
                let in_place = *in_place && tree.entries.contains_key(*name);
                match in_place {
                    true => fs::write(self.mounted.path(name), &record).unwrap(),
                    false => self.mounted.replace(name, &record),
                }
                // A draft stays the same file as long as the record beneath it does.
                changed = !(in_place && tree.kept.contains_key(*name));
                tree.entries
                    .insert((*name).to_owned(), Node::Record(record.into_bytes()));
            }
            Step::Unplant(name) => {
                changed = tree.entries.remove(*name).is_some();
                if changed {
                    fs::remove_file(self.mounted.path(name)).unwrap();
                    self.model.removed_by_others(name);
                }
            }
            Step::Restore(name) => {
                let restored = kind(store.restore(&path(name)));
                assert_eq!(restored, tree.restore(name));
                changed = restored.is_ok();
            }
            Step::Discard(name) => {
                let discarded = kind(store.discard_draft(&path(name)));
                assert_eq!(discarded, tree.discard(name));
                changed = discarded.is_ok();
            }
            _ => {}
        }
        if let Step::Plant(name, ..) | Step::Unplant(name) | Step::Restore(name) | Step::Discard(name) = step
            && changed
        {
            self.model.changed_by_others(name);
        }
    }

    /// Compares everything that can be seen, and everything that is on the volume.
    fn check(&self) {
        for name in NAMES {
            match self.model.visible(&self.lens, name) {
                Some(text) => assert_eq!(self.mounted.read(name), String::from_utf8_lossy(&text), "{name}"),
                None => assert!(self.mounted.absent(name), "{name} is absent"),
            }
        }
        for (slot, (ino, fh, _)) in &self.open {
            let text = self.mounted.vfs.read(*fh, 0, 4096).unwrap();
            let expected = self.model.read(*slot);
            assert_eq!(
                String::from_utf8_lossy(&text),
                String::from_utf8_lossy(expected),
                "handle {slot}"
            );
            let _ = self.mounted.vfs.getattr(*ino).unwrap();
        }
        self.check_volume();
    }

    fn check_volume(&self) {
        let tree = &self.model.tree;
        let mut ours = [0; 4];
        let mut stored = BTreeMap::new();
        for entry in fs::read_dir(self.mounted.path("")).unwrap() {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            let kinds = ["draft", "away", "secrets", "removed"];
            let is_of = |kind: &&str| entry.starts_with(&format!(".tenantfs-{kind}-"));
            match kinds.iter().position(is_of) {
                Some(kind) => ours[kind] += 1,
                None if entry == ".tenantfs-owner" => {}
                None => _ = stored.insert(entry.clone(), self.mounted.stored(&entry)),
            }
        }
        let removed = tree.removed.len();
        assert_eq!(
            ours,
            [tree.kept.len(), tree.away.len(), tree.secrets.len(), removed]
        );
        let entries = tree.entries.iter().filter_map(|(name, node)| match node {
            Node::Record(bytes) | Node::Attachment(bytes) => {
                Some((name.clone(), String::from_utf8_lossy(bytes).into_owned()))
            }
            _ => None,
        });
        assert_eq!(stored, entries.collect());
        assert!(
            NAMES
                .iter()
                .all(|name| !is_record(name) || tree.see(name) != Sight::Hidden)
        );
    }

    /// Everything is closed: nothing is left but what only memory has.
    fn close(mut self) {
        for slot in self.open.keys().copied().collect::<Vec<_>>() {
            self.step(&Step::Release(slot));
        }
        self.check();
        assert_eq!(self.mounted.vfs.known_inodes().len(), 2 + self.model.needed());
        assert_eq!(self.mounted.vfs.open_handles(), 0);
    }
}

fn kind(result: Result<()>) -> std::result::Result<(), Kind> {
    result.map_err(|error| error.kind())
}

fn mount(volume: Arc<TempDir>, full: &Arc<Full>) -> Mounted {
    Mounted::observed(
        volume,
        limits(&Pools::alone(), "one"),
        Arc::clone(full) as _,
        MAX_RECORD as u64,
    )
}

fn cases() -> u32 {
    match std::env::var_os("TENANTFS_HOSTILE_LONG") {
        Some(_) => 5000,
        None => 200,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_time: 30_000, ..ProptestConfig::default() })]

    #[test]
    fn a_session_is_like_its_model(steps in proptest::collection::vec(steps(), 1..40)) {
        like_the_model(&steps);
    }
}

/// Takes these steps, and compares after each.
fn like_the_model(steps: &[Step]) {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
        run.check();
    }
    run.close();
}

#[test]
fn who_has_an_older_record_open_does_not_replace_the_one_that_was_made_here_since_others_removed_it() {
    let (a, b) = ("a.json", "b.json");
    let made_since = |older: &'static str| {
        [
            Step::Unplant(older),
            Step::Open(0, older, Mode::Write),
            Step::Release(0),
            Step::Rewrite(3, Text::Plain(7)),
        ]
    };
    let planted = [
        Step::Plant(b, 1, false, false),
        Step::Plant(a, 2, false, false),
        Step::Open(3, a, Mode::Write),
    ];
    like_the_model(&[planted.to_vec(), made_since(a).to_vec()].concat());
    // The same under the name that it was given.
    for given in [
        Step::Rename(b, a, Rename::Exchange),
        Step::Rename(a, b, Rename::Replace),
    ] {
        like_the_model(&[planted.to_vec(), vec![given], made_since(b).to_vec()].concat());
    }
}
