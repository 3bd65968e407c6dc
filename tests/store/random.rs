//! Random operations of two tenants and of the service beside them; after each, everything is compared.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path as DiskPath, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use tenantfs::error::{Kind, Result};
use tenantfs::identity::UserId;
use tenantfs::layout::Layout;
use tenantfs::name::Resource;
use tenantfs::record::Lens;
use tenantfs::store::{Attachment, Draft, Folder, NodeKind, Options, Store};
use tenantfs::volume::{Access, Durability, Rename};

use super::model::{MAX_RECORD, Node, Outcome, Sight, Tree, is_record};
use super::{Disk, SECRET, name, replace};

const USERS: [&str; 2] = ["alice", "bob"];

/// Every name that these tests use.
const NAMES: [&str; 6] = ["a.json", "b.json", "c.json", "n.txt", "m", "sub"];

/// One operation, by one of the tenants or on one's directory.
#[derive(Clone, Debug)]
struct Step {
    tenant: usize,
    /// Which of the tenant's directories.
    directory: Index,
    name: &'static str,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    Save(Text),
    Keep(Text),
    Discard,
    Create(Text),
    Append(Text),
    MakeFolder,
    RemoveFolder,
    Remove,
    Restore,
    /// The time of what was removed is over.
    Expire,
    Rename(Index, &'static str, Rename),
    /// The service, or somebody else with access to the volume, puts something there.
    Plant(Planted),
    Unplant,
    /// A login anew: nothing is remembered.
    Reopen,
    /// Long enough for what was read to be remembered.
    Settle,
}

/// What a user writes. The numbers make versions differ.
#[derive(Clone, Copy, Debug)]
enum Text {
    Plain(u8),
    Owned(u8),
    Foreign(u8),
    NullSecret(u8),
    PlainSecret,
    Incomplete(u8),
    Broken(u8),
    Empty,
    Large,
}

#[derive(Clone, Copy, Debug)]
enum Planted {
    Record(u8),
    RecordWithSecret(u8),
    Foreign,
    Ownerless,
    Broken,
    Empty,
    Large,
    Attachment(u8),
    Symlink,
    Fifo,
    HardLink,
}

impl Text {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Plain(n) => format!("{{ \"n\": {n} }}\n"),
            Self::Owned(n) => format!(r#"{{"user_id": "alice", "n": {n}}}"#),
            Self::Foreign(n) => format!(r#"{{"user_id": "carol", "n": {n}}}"#),
            Self::NullSecret(n) => format!(r#"{{"api_key": null, "n": {n}}}"#),
            Self::PlainSecret => r#"{"api_key": "typed"}"#.to_owned(),
            Self::Incomplete(n) => format!(r#"{{"n": {n}"#),
            Self::Broken(n) => format!("n = {n}"),
            Self::Empty => String::new(),
            Self::Large => format!(r#"{{"n": "{}"}}"#, "x".repeat(MAX_RECORD)),
        }
        .into_bytes()
    }
}

fn texts() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => any::<u8>().prop_map(Text::Plain),
        1 => any::<u8>().prop_map(Text::Owned),
        1 => any::<u8>().prop_map(Text::Foreign),
        1 => any::<u8>().prop_map(Text::NullSecret),
        1 => any::<u8>().prop_map(Text::Incomplete),
        1 => any::<u8>().prop_map(Text::Broken),
        1 => select(vec![Text::PlainSecret, Text::Empty, Text::Large]),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let modes = vec![
        Rename::Replace,
        Rename::Replace,
        Rename::NoReplace,
        Rename::Exchange,
    ];
    let hidden = vec![
        Planted::Foreign,
        Planted::Ownerless,
        Planted::Broken,
        Planted::Empty,
        Planted::Large,
        Planted::Symlink,
        Planted::Fifo,
        Planted::HardLink,
    ];
    let planted = prop_oneof![
        1 => any::<u8>().prop_map(Planted::Record),
        3 => any::<u8>().prop_map(Planted::RecordWithSecret),
        1 => any::<u8>().prop_map(Planted::Attachment),
        1 => select(hidden),
    ];
    let act = prop_oneof![
        6 => texts().prop_map(Act::Save),
        3 => texts().prop_map(Act::Keep),
        1 => Just(Act::Discard),
        4 => texts().prop_map(Act::Create),
        1 => texts().prop_map(Act::Append),
        2 => Just(Act::MakeFolder),
        3 => Just(Act::RemoveFolder),
        5 => Just(Act::Remove),
        2 => Just(Act::Restore),
        1 => Just(Act::Expire),
        12 => (any::<Index>(), select(NAMES.to_vec()), select(modes))
            .prop_map(|(directory, name, how)| Act::Rename(directory, name, how)),
        6 => planted.prop_map(Act::Plant),
        1 => Just(Act::Unplant),
        1 => Just(Act::Reopen),
        1 => Just(Act::Settle),
    ];
    (
        select(vec![0, 0, 0, 1]),
        any::<Index>(),
        select(NAMES.to_vec()),
        act,
    )
        .prop_map(|(tenant, directory, name, act)| Step {
            tenant,
            directory,
            name,
            act,
        })
}

/// One tenant: the store under test, and what it must be like.
struct Tenant {
    user: &'static str,
    lens: Lens,
    store: Store,
    model: Tree,
}

impl Tenant {
    fn new(disk: &Disk, user: &'static str) -> Self {
        let lens = Lens::new(UserId::new(user).unwrap(), vec!["api_key".to_owned()], None);
        let mut model = Tree::default();
        model.make_folder(&lens, &Tree::default(), "schedules").unwrap();
        Self {
            user,
            lens,
            store: open(disk, user),
            model,
        }
    }

    fn folder(&self, path: &[String]) -> Folder {
        folder_of(&self.store, path)
    }

    fn on_disk(&self, disk: &Disk, path: &[String]) -> PathBuf {
        let root = disk.directory(self.user, &path[0]);
        path[1..]
            .iter()
            .fold(root, |directory, below| directory.join(below))
    }

    /// Does one step to the store and to the model, which must agree on the outcome.
    fn run(&mut self, disk: &Disk, step: &Step) {
        let directories = self.model.directories();
        let path = step.directory.get(&directories);
        let folder = self.folder(path);
        let on_disk = self.on_disk(disk, path);
        let entry = name(step.name);
        let lens = &self.lens;
        let world = self.model.clone();
        let root = &mut self.model;
        let model = root.at(path);
        let (real, expected): (Result<()>, Outcome) = match &step.act {
            Act::Save(text) => (
                folder.record(&entry).save(&text.bytes()).map(drop),
                model.save(lens, step.name, &text.bytes()),
            ),
            Act::Keep(text) if is_record(step.name) => {
                let draft = Draft::new(text.bytes(), 1024);
                (
                    folder.record(&entry).keep(&draft, Durability::Ordered).map(drop),
                    model.keep(step.name, &text.bytes()),
                )
            }
            Act::Discard => {
                let path = format!("{}/{entry}", path.join("/"));
                (self.store.discard_draft(&path), model.discard(step.name))
            }
            Act::Create(text) => (
                Attachment::create(&folder, &entry, 0o600).and_then(|file| file.write(0, &text.bytes())),
                model.create(step.name, &text.bytes()),
            ),
            Act::Append(text) => {
                let file = Attachment::open(&folder, &entry, Access::ReadWrite);
                (
                    file.and_then(|file| file.append(&text.bytes())),
                    model.append(step.name, &text.bytes()),
                )
            }
            Act::MakeFolder => (
                folder.make_folder(&entry, 0o700).map(drop),
                model.make_folder(lens, &world, step.name),
            ),
            Act::RemoveFolder => (folder.remove_folder(&entry), model.remove_folder(step.name)),
            Act::Remove => (folder.remove(&entry), model.remove(step.name)),
            Act::Restore => {
                let path = format!("{}/{entry}", path.join("/"));
                (self.store.restore(&path), model.restore(step.name))
            }
            Act::Expire => {
                let hasty = open_keeping(disk, self.user, Duration::ZERO);
                for path in &directories {
                    folder_of(&hasty, path).names().unwrap();
                }
                self.model.expire();
                return;
            }
            Act::Rename(directory, to, how) => {
                let target = directory.get(&directories);
                let real = folder
                    .rename(&entry, &self.folder(target), &name(to), *how)
                    .map(drop);
                let expected = self.model.rename(lens, (path, step.name), (target, to), *how);
                (real, expected)
            }
            Act::Plant(planted) => {
                if !matches!(model.entries.get(step.name), Some(Node::Directory(_)))
                    && let Some(node) = plant(disk, self.user, &on_disk.join(step.name), *planted)
                {
                    model.entries.insert(step.name.to_owned(), node);
                }
                return;
            }
            Act::Unplant => {
                if !matches!(model.entries.get(step.name), None | Some(Node::Directory(_))) {
                    fs::remove_file(on_disk.join(step.name)).unwrap();
                    model.entries.remove(step.name);
                }
                return;
            }
            Act::Reopen => {
                self.store = open(disk, self.user);
                return;
            }
            Act::Settle => {
                std::thread::sleep(Duration::from_millis(60));
                return;
            }
            Act::Keep(_) => return,
        };
        assert_eq!(real.map_err(|error| error.kind()), expected);
    }

    /// Compares everything that can be seen, and everything that is on the volume.
    fn check(&mut self, disk: &Disk) {
        for path in self.model.directories() {
            let folder = self.folder(&path);
            let tree = self.model.at(&path).clone();
            let visible: Vec<_> = NAMES
                .into_iter()
                .filter(|name| matches!(tree.see(name), Sight::Seen { .. }))
                .map(name)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            assert_eq!(folder.list().unwrap(), visible);
            for entry in NAMES {
                self.check_entry(&folder, &tree, entry);
            }
            check_disk(&self.on_disk(disk, &path), &tree);
        }
    }

    fn check_entry(&self, folder: &Folder, tree: &Tree, entry: &str) {
        let key = name(entry);
        let Sight::Seen { kind, draft } = tree.see(entry) else {
            let absent = Err(Kind::NotFound);
            assert_eq!(
                folder.lookup(&key).map(drop).map_err(|error| error.kind()),
                absent
            );
            assert_eq!(
                folder.record(&key).open().map(drop).map_err(|error| error.kind()),
                absent
            );
            assert_eq!(
                folder.open_folder(&key).map(drop).map_err(|error| error.kind()),
                absent
            );
            let attachment = Attachment::open(folder, &key, Access::Read);
            assert_eq!(attachment.map(drop).map_err(|error| error.kind()), absent);
            return;
        };
        let attributes = folder.lookup(&key).unwrap();
        assert_eq!((attributes.kind, attributes.kept_draft), (kind, draft));
        let mut shown = None;
        if draft {
            let text = folder.record(&key).load_draft().unwrap().unwrap().text().to_vec();
            assert_eq!(&text, &tree.kept[entry]);
            shown = Some(text);
        }
        match tree.entries.get(entry) {
            Some(Node::Record(stored)) => {
                let view = folder.record(&key).open().unwrap().view;
                assert_eq!(*view, *self.lens.view(stored).unwrap().text);
                shown.get_or_insert(view.to_vec());
            }
            Some(Node::Attachment(content)) => {
                let read = Attachment::open(folder, &key, Access::Read)
                    .unwrap()
                    .read(0, 4096)
                    .unwrap();
                assert_eq!(&read, content);
                shown = Some(read);
            }
            _ => assert_eq!(folder.record(&key).open().unwrap_err().kind(), Kind::NotFound),
        }
        if kind != NodeKind::Directory {
            let shown = shown.unwrap();
            assert_eq!(attributes.size, shown.len() as u64);
            assert!(!String::from_utf8_lossy(&shown).contains(SECRET));
        }
    }
}

fn folder_of(store: &Store, path: &[String]) -> Folder {
    let root = store.folder(&path[0]).unwrap();
    path[1..]
        .iter()
        .fold(root, |folder, below| folder.open_folder(&name(below)).unwrap())
}

fn open(disk: &Disk, user: &str) -> Store {
    open_keeping(disk, user, Duration::from_secs(3600))
}

fn open_keeping(disk: &Disk, user: &str, keep_removed: Duration) -> Store {
    let options = Options {
        keep_removed,
        max_record: MAX_RECORD as u64,
        resources: vec![Resource::new("schedules").unwrap()],
        ..disk.options()
    };
    disk.open_with(user, options).unwrap()
}

/// The directory on the volume: every byte of every record and attachment, and of our own files as many as there
/// should be. So nothing is ever empty, without its owner, left behind or lost.
fn check_disk(directory: &DiskPath, tree: &Tree) {
    let mut ours = [0; 5];
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap().file_name().into_string().unwrap();
        let prefixes =
            ["draft", "away", "secrets", "moved", "removed"].map(|kind| format!(".tenantfs-{kind}-"));
        if let Some(kind) = prefixes
            .iter()
            .position(|prefix| entry.starts_with(prefix.as_str()))
        {
            ours[kind] += 1;
        } else if entry != ".tenantfs-owner" {
            names.insert(entry);
        }
    }
    assert_eq!(names, tree.entries.keys().cloned().collect());
    let removed = tree.removed.len() + tree.removed_folders.len();
    assert_eq!(
        ours,
        [
            tree.kept.len(),
            tree.away.len(),
            tree.secrets.len(),
            tree.moved.len(),
            removed
        ],
        "drafts, records away, secrets left, directories moved, and what was removed"
    );
    let waiting = |name: &str| directory.join(format!(".tenantfs-removed-{name}~"));
    for (name, content) in &tree.removed {
        assert_eq!(&fs::read(waiting(name)).unwrap(), content);
    }
    for (name, content) in &tree.secrets {
        let secrets = directory.join(format!(".tenantfs-secrets-{name}~"));
        assert_eq!(&fs::read(secrets).unwrap(), content);
    }
    for (name, below) in &tree.removed_folders {
        check_disk(&waiting(name), below);
    }
    for (name, node) in &tree.entries {
        if let Node::Record(content) | Node::Attachment(content) = node {
            let stored = fs::read(directory.join(name)).unwrap();
            assert_eq!(String::from_utf8_lossy(&stored), String::from_utf8_lossy(content));
        }
    }
}

/// Puts something on the volume; returns what it is to the tenant, or nothing when it makes no sense at this name.
fn plant(disk: &Disk, user: &str, path: &DiskPath, planted: Planted) -> Option<Node> {
    let other = USERS.into_iter().find(|other| *other != user).unwrap();
    let record = |owner: &str, n: u8, secret: &str| format!(r#"{{"n": {n}{secret}, "user_id": "{owner}"}}"#);
    let is_record = is_record(path.to_str().unwrap());
    let _ = fs::remove_file(path);
    let content = match planted {
        Planted::Symlink => {
            let target = disk.directory(other, "schedules").join("a.json");
            symlink(target, path).unwrap();
            return Some(Node::Hidden);
        }
        Planted::Fifo => {
            rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
            return Some(Node::Hidden);
        }
        Planted::HardLink => {
            let file = disk.root.path().join(format!("elsewhere-{user}"));
            fs::write(&file, record(other, 0, "")).unwrap();
            fs::hard_link(&file, path).unwrap();
            return Some(Node::Hidden);
        }
        Planted::Record(n) | Planted::RecordWithSecret(n) if !is_record => n.to_string(),
        Planted::Record(n) => record(user, n, ""),
        Planted::RecordWithSecret(n) => record(user, n, &format!(r#", "api_key": "{SECRET}-{n}""#)),
        Planted::Foreign => record(other, 0, ""),
        Planted::Ownerless => r#"{"n": 1}"#.to_owned(),
        Planted::Broken => r#"{"n": 1, "user_id": "alice""#.to_owned(),
        Planted::Empty => String::new(),
        Planted::Large => record(user, 0, &format!(r#", "x": "{}""#, "x".repeat(MAX_RECORD))),
        Planted::Attachment(n) => format!("{n},{n}\n"),
    };
    // Older than anything that a writer could be in the middle of.
    replace(path, content.as_bytes());
    File::open(path)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    Some(match (is_record, planted) {
        (true, Planted::Record(_) | Planted::RecordWithSecret(_)) => Node::Record(content.into_bytes()),
        (true, _) => Node::Hidden,
        (false, _) => Node::Attachment(content.into_bytes()),
    })
}

fn run(layout: Layout, steps: &[Step]) {
    let disk = Disk::new(layout);
    let mut tenants = USERS.map(|user| Tenant::new(&disk, user));
    for step in steps {
        tenants[step.tenant].run(&disk, step);
        tenants.iter_mut().for_each(|tenant| tenant.check(&disk));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_time: 30_000, ..ProptestConfig::default() })]

    #[test]
    fn a_resource_first_store_is_like_its_model(steps in proptest::collection::vec(steps(), 1..40)) {
        run(Layout::ResourceFirst, &steps);
    }

    #[test]
    fn a_user_first_store_is_like_its_model(steps in proptest::collection::vec(steps(), 1..40)) {
        run(Layout::UserFirst, &steps);
    }
}
