//! What a tenant's directory must be after each operation: the contract of the store, said once more in terms of maps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use tenantfs::error::Kind;
use tenantfs::record::Lens;
use tenantfs::store::NodeKind;
use tenantfs::volume::Rename;

/// The largest record of these tests, in bytes.
pub(crate) const MAX_RECORD: usize = 120;

/// The outcome of an operation, as far as its caller can tell.
pub(crate) type Outcome = Result<(), Kind>;

/// The way to a directory, the resource first.
pub(crate) type Path = Vec<String>;

/// What the volume has under a name.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A record of the tenant, as stored.
    Record(Vec<u8>),
    Attachment(Vec<u8>),
    /// Something that the tenant must not see.
    Hidden,
    Directory(Tree),
}

/// A directory, and what the store keeps beside its entries.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// No other directory has it, ever.
    id: u64,
    pub(crate) entries: BTreeMap<String, Node>,
    /// Drafts by the record's name.
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    /// Records that were renamed away and left secrets for the next one of their name.
    pub(crate) away: BTreeMap<String, Vec<u8>>,
    /// The secrets of records that were renamed to another record's name.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// The directory that had each name last and was renamed; whether the next one of its name has what it had for that.
    pub(crate) moved: BTreeMap<String, (u64, bool)>,
    /// Records that were removed, and wait.
    pub(crate) removed: BTreeMap<String, Vec<u8>>,
    /// Directories that were removed with something waiting in them.
    pub(crate) removed_folders: BTreeMap<String, Tree>,
}

/// What a tenant sees under a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sight {
    Absent,
    Hidden,
    Seen { kind: NodeKind, draft: bool },
}

pub(crate) fn is_record(name: &str) -> bool {
    name.ends_with(".json")
}

impl Default for Tree {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            entries: BTreeMap::new(),
            kept: BTreeMap::new(),
            away: BTreeMap::new(),
            secrets: BTreeMap::new(),
            moved: BTreeMap::new(),
            removed: BTreeMap::new(),
            removed_folders: BTreeMap::new(),
        }
    }
}

impl Tree {
    pub(crate) fn see(&self, name: &str) -> Sight {
        let seen = |kind, draft| Sight::Seen { kind, draft };
        let draft = is_record(name) && self.kept.contains_key(name);
        match self.entries.get(name) {
            Some(Node::Hidden) => Sight::Hidden,
            Some(Node::Directory(_)) => seen(NodeKind::Directory, false),
            Some(Node::Attachment(_)) => seen(NodeKind::Attachment, false),
            Some(Node::Record(_)) => seen(NodeKind::Record, draft),
            None if draft => seen(NodeKind::Record, true),
            None => Sight::Absent,
        }
    }

    /// The kind of what is visible under a name.
    fn lookup(&self, name: &str) -> Result<NodeKind, Kind> {
        match self.see(name) {
            Sight::Seen { kind, .. } => Ok(kind),
            Sight::Absent | Sight::Hidden => Err(Kind::NotFound),
        }
    }

    /// The kind of what is in the way of creating a name.
    fn occupant(&self, name: &str) -> Result<Option<NodeKind>, Kind> {
        match self.see(name) {
            Sight::Absent => Ok(None),
            Sight::Seen { kind, .. } => Ok(Some(kind)),
            Sight::Hidden => Err(Kind::NameTaken),
        }
    }

    fn vacant(&self, name: &str) -> Outcome {
        match self.occupant(name)? {
            None => Ok(()),
            Some(_) => Err(Kind::Exists),
        }
    }

    fn looks_empty(&self) -> bool {
        self.entries.is_empty() && self.kept.is_empty()
    }

    fn has_waiting(&self) -> bool {
        !(self.away.is_empty()
            && self.secrets.is_empty()
            && self.moved.is_empty()
            && self.removed.is_empty()
            && self.removed_folders.is_empty())
    }

    /// What left its secret to the next record of a name.
    fn left(&self, lens: &Lens, name: &str) -> Option<&Vec<u8>> {
        // Where there are two, these came last.
        let candidates = [
            self.secrets.get(name),
            self.removed.get(name),
            self.away.get(name),
        ];
        let has_secret = |stored: &&Vec<u8>| lens.view(stored).unwrap().has_secret;
        candidates.into_iter().flatten().find(has_secret)
    }

    fn supersede_left(&mut self, name: &str) {
        self.removed.remove(name);
        self.away.remove(name);
        self.secrets.remove(name);
    }

    /// Leaves the secrets of `stored` to the next record of a name.
    fn leave_secrets(&mut self, lens: &Lens, name: &str, stored: &[u8]) {
        self.supersede_left(name);
        let secrets = lens.put(Some(stored), b"{}").unwrap().stored;
        self.secrets.insert(name.to_owned(), secrets);
    }

    /// The directory with this id, wherever it is by now.
    fn find(&self, id: u64) -> Option<&Self> {
        if self.id == id {
            return Some(self);
        }
        let live = self.entries.values().filter_map(|node| match node {
            Node::Directory(tree) => Some(tree),
            _ => None,
        });
        live.chain(self.removed_folders.values())
            .find_map(|tree| tree.find(id))
    }

    /// Has what the directory that was moved away from `name` has for the next one wait as if that had been removed.
    fn gather(&mut self, lens: &Lens, world: &Self, name: &str, heir: Option<u64>) {
        let Some((id, false)) = self.moved.get(name).copied() else {
            return;
        };
        self.moved.insert(name.to_owned(), (id, true));
        if let Some(former) = world.find(id).filter(|_| heir != Some(id)) {
            former.copy(lens, self.removed_folders.entry(name.to_owned()).or_default());
        }
    }

    fn copy(&self, lens: &Lens, waiting: &mut Self) {
        let records = [&self.removed, &self.away, &self.secrets];
        let records = records.into_iter().flat_map(BTreeMap::keys);
        let names: BTreeSet<_> = records.chain(self.entries.keys()).collect();
        for name in names.into_iter().filter(|name| is_record(name)) {
            let stored = match self.entries.get(name) {
                Some(Node::Record(stored)) => {
                    Some(stored).filter(|stored| lens.view(stored).unwrap().has_secret)
                }
                Some(_) => None,
                None => self.left(lens, name),
            };
            if let Some(stored) = stored {
                let secrets = lens.put(Some(stored), b"{}").unwrap().stored;
                waiting.secrets.insert(name.clone(), secrets);
            }
        }
        let mut folders: BTreeMap<_, _> = self.moved.iter().map(|(name, moved)| (name, *moved)).collect();
        folders.extend(
            self.removed_folders
                .iter()
                .map(|(name, tree)| (name, (tree.id, false))),
        );
        for (name, node) in &self.entries {
            match node {
                Node::Directory(tree) => _ = folders.insert(name, (tree.id, false)),
                _ => _ = folders.remove(name),
            }
        }
        let unsettled = folders.into_iter().filter(|(_, (_, is_settled))| !is_settled);
        waiting
            .moved
            .extend(unsettled.map(|(name, moved)| (name.clone(), moved)));
    }

    pub(crate) fn save(&mut self, lens: &Lens, name: &str, text: &[u8]) -> Outcome {
        if !is_record(name) {
            return Err(Kind::InvalidArgument);
        }
        if text.len() > MAX_RECORD {
            return Err(Kind::TooLarge);
        }
        let base = match self.entries.get(name) {
            Some(Node::Record(stored)) => Some(stored),
            Some(_) => return Err(Kind::NameTaken),
            None => self.left(lens, name),
        };
        let put = lens
            .put(base.map(Vec::as_slice), text)
            .map_err(|error| error.kind())?;
        self.entries.insert(name.to_owned(), Node::Record(put.stored));
        self.kept.remove(name);
        self.supersede_left(name);
        Ok(())
    }

    pub(crate) fn keep(&mut self, name: &str, text: &[u8]) -> Outcome {
        self.occupant(name)?;
        if String::from_utf8_lossy(text).contains("api_key") {
            return Err(Kind::PlainSecret);
        }
        self.kept.insert(name.to_owned(), text.to_vec());
        self.lookup(name).map(drop)
    }

    pub(crate) fn create(&mut self, name: &str, content: &[u8]) -> Outcome {
        if is_record(name) {
            return Err(Kind::InvalidArgument);
        }
        self.vacant(name)?;
        self.entries
            .insert(name.to_owned(), Node::Attachment(content.to_vec()));
        Ok(())
    }

    pub(crate) fn append(&mut self, name: &str, bytes: &[u8]) -> Outcome {
        match self.entries.get_mut(name) {
            Some(Node::Attachment(content)) => content.extend_from_slice(bytes),
            _ => return Err(Kind::NotFound),
        }
        Ok(())
    }

    /// `world` is the tenant's root.
    pub(crate) fn make_folder(&mut self, lens: &Lens, world: &Self, name: &str) -> Outcome {
        if is_record(name) {
            return Err(Kind::NotPermitted);
        }
        self.vacant(name)?;
        self.gather(lens, world, name, None);
        let tree = self.removed_folders.remove(name).unwrap_or_default();
        self.entries.insert(name.to_owned(), Node::Directory(tree));
        Ok(())
    }

    pub(crate) fn remove_folder(&mut self, name: &str) -> Outcome {
        self.lookup(name)?;
        match self.entries.get(name) {
            Some(Node::Directory(tree)) if tree.looks_empty() => {}
            Some(Node::Directory(_)) => return Err(Kind::DirectoryNotEmpty),
            _ => return Err(Kind::NotADirectory),
        }
        self.put_folder_aside(name);
        Ok(())
    }

    fn put_folder_aside(&mut self, name: &str) {
        if let Some(Node::Directory(tree)) = self.entries.remove(name)
            && tree.has_waiting()
        {
            self.removed_folders.insert(name.to_owned(), tree);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Outcome {
        if self.lookup(name)? == NodeKind::Directory {
            return Err(Kind::IsADirectory);
        }
        if let Some(Node::Record(stored)) = self.entries.remove(name) {
            self.supersede_left(name);
            self.removed.insert(name.to_owned(), stored);
        }
        self.kept.remove(name);
        Ok(())
    }

    pub(crate) fn restore(&mut self, name: &str) -> Outcome {
        let waits = self.removed.contains_key(name) || self.removed_folders.contains_key(name);
        match self.see(name) {
            Sight::Seen { .. } => return Err(Kind::Exists),
            _ if !waits => return Err(Kind::NotFound),
            Sight::Hidden => return Err(Kind::NameTaken),
            Sight::Absent => {}
        }
        let record = self.removed.remove(name).map(Node::Record);
        let folder = self.removed_folders.remove(name).map(Node::Directory);
        self.entries.insert(name.to_owned(), record.or(folder).unwrap());
        Ok(())
    }

    pub(crate) fn discard(&mut self, name: &str) -> Outcome {
        self.kept.remove(name).map(drop).ok_or(Kind::NotFound)
    }

    /// Nothing is waited for any longer, in this directory and those below.
    pub(crate) fn expire(&mut self) {
        self.removed.clear();
        self.removed_folders.clear();
        self.secrets.clear();
        self.moved.clear();
        for node in self.entries.values_mut() {
            if let Node::Directory(tree) = node {
                tree.expire();
            }
        }
    }

    /// Takes over what waits in a directory of the same name that was removed.
    fn adopt(&mut self, lens: &Lens, removed: Self) {
        let records = [&removed.removed, &removed.away, &removed.secrets];
        let records: BTreeSet<_> = records.into_iter().flat_map(BTreeMap::keys).collect();
        for name in records {
            if self.left(lens, name).is_none() {
                let pairs = [
                    (&removed.removed, &mut self.removed),
                    (&removed.away, &mut self.away),
                    (&removed.secrets, &mut self.secrets),
                ];
                for (from, to) in pairs {
                    if let Some(stored) = from.get(name) {
                        to.entry(name.clone()).or_insert_with(|| stored.clone());
                    }
                }
                if let Some(left) = removed.left(lens, name)
                    && self.left(lens, name).is_none()
                {
                    let secrets = lens.put(Some(left), b"{}").unwrap().stored;
                    self.secrets.insert(name.clone(), secrets);
                }
            }
            self.settle_left(name);
        }
        for (name, moved) in removed.moved {
            self.moved.entry(name).or_insert(moved);
        }
        for (name, tree) in removed.removed_folders {
            match self.entries.get_mut(&name) {
                _ if self.removed_folders.contains_key(&name) => {}
                Some(Node::Directory(folder)) => folder.adopt(lens, tree),
                _ => _ = self.removed_folders.insert(name, tree),
            }
        }
    }

    /// Has the records of `heir` that have no secret get the one that waits for them here.
    fn bequeath(&mut self, lens: &Lens, world: &Self, heir: &mut Self) {
        let records = [&self.removed, &self.away, &self.secrets];
        let records: BTreeSet<_> = records.into_iter().flat_map(BTreeMap::keys).collect();
        for name in records {
            let Some(Node::Record(stored)) = heir.entries.get(name) else {
                continue;
            };
            let view = lens.view(stored).unwrap();
            if let Some(left) = self.left(lens, name).filter(|_| !view.has_secret) {
                let put = lens.put(Some(left), &view.text).unwrap();
                heir.entries.insert(name.clone(), Node::Record(put.stored));
                heir.supersede_left(name);
            }
        }
        for (name, node) in &mut heir.entries {
            if let Node::Directory(heir) = node {
                self.gather(lens, world, name, Some(heir.id));
                if let Some(removed) = self.removed_folders.get_mut(name) {
                    removed.bequeath(lens, world, heir);
                }
            }
        }
    }

    /// What waits for a record that is there is superseded.
    fn settle_left(&mut self, name: &str) {
        if let Some(Node::Record(_)) = self.entries.get(name) {
            self.supersede_left(name);
        }
    }

    /// The directory at a path.
    pub(crate) fn at(&mut self, path: &[String]) -> &mut Self {
        path.iter()
            .fold(self, |tree, name| match tree.entries.get_mut(name) {
                Some(Node::Directory(below)) => below,
                other => panic!("{name} is {other:?}"),
            })
    }

    /// The paths of all directories below this one.
    pub(crate) fn directories(&self) -> Vec<Path> {
        let below = self.entries.iter().filter_map(|(name, node)| match node {
            Node::Directory(tree) => Some((name, tree)),
            _ => None,
        });
        below
            .flat_map(|(name, tree)| {
                let deeper = tree.directories().into_iter().map(move |mut path| {
                    path.insert(0, name.clone());
                    path
                });
                std::iter::once(vec![name.clone()]).chain(deeper)
            })
            .collect()
    }

    /// Renames `from` in the directory `source` to `to` in `target`; `self` is the tenant's root.
    pub(crate) fn rename(
        &mut self,
        lens: &Lens,
        (source, from): (&Path, &str),
        (target, to): (&Path, &str),
        how: Rename,
    ) -> Outcome {
        let kind = self.at(source).lookup(from)?;
        let occupant = self.at(target).occupant(to)?;
        match (how, occupant) {
            (Rename::NoReplace, Some(_)) => return Err(Kind::Exists),
            (Rename::Exchange, None) => return Err(Kind::NotFound),
            (Rename::Exchange, Some(other)) => {
                if kind != other || kind == NodeKind::Directory {
                    return Err(Kind::InvalidArgument);
                }
                if self.at(source).kept.contains_key(from) || self.at(target).kept.contains_key(to) {
                    return Err(Kind::Busy);
                }
                self.share_secrets(lens, (source, from), (target, to));
                self.share_secrets(lens, (target, to), (source, from));
                let one = self.at(source).entries[from].clone();
                let two = self.at(target).entries.insert(to.to_owned(), one).unwrap();
                self.at(source).entries.insert(from.to_owned(), two);
                return Ok(());
            }
            (Rename::Replace, Some(NodeKind::Directory)) if kind != NodeKind::Directory => {
                return Err(Kind::IsADirectory);
            }
            (Rename::Replace, Some(other)) if other != NodeKind::Directory && kind == NodeKind::Directory => {
                return Err(Kind::NotADirectory);
            }
            _ => {}
        }
        if (source, from) == (target, to) {
            return Ok(());
        }
        match (kind, is_record(to)) {
            (NodeKind::Directory, true) => Err(Kind::NotPermitted),
            (NodeKind::Directory, false) => self.move_directory(lens, (source, from), (target, to)),
            (NodeKind::Attachment, false) => {
                let node = self.at(source).entries.remove(from).unwrap();
                self.at(target).entries.insert(to.to_owned(), node);
                Ok(())
            }
            (NodeKind::Attachment, true) => {
                let Some(Node::Attachment(text)) = self.at(source).entries.get(from).cloned() else {
                    panic!("{from} is no attachment");
                };
                match self.at(target).save(lens, to, &text) {
                    _ if text.is_empty() => self.at(target).keep(to, &text)?,
                    Err(Kind::InvalidRecord | Kind::IncompleteRecord | Kind::PlainSecret) => {
                        return Err(Kind::InvalidArgument);
                    }
                    outcome => outcome?,
                }
                self.at(source).entries.remove(from);
                Ok(())
            }
            (NodeKind::Record, true) => self.move_record(lens, (source, from), (target, to)),
            (NodeKind::Record, false) => {
                let draft = self.at(source).kept.remove(from);
                let stored = match self.at(source).entries.remove(from) {
                    Some(Node::Record(stored)) => Some(stored),
                    None => None,
                    other => panic!("{other:?}"),
                };
                if let Some(stored) = &stored {
                    self.at(source).supersede_left(from);
                    if lens.view(stored).unwrap().has_secret {
                        self.at(source).away.insert(from.to_owned(), stored.clone());
                    }
                }
                let text = draft.unwrap_or_else(|| lens.view(&stored.unwrap()).unwrap().text);
                self.at(target)
                    .entries
                    .insert(to.to_owned(), Node::Attachment(text));
                Ok(())
            }
        }
    }

    /// Gives the secrets of the first record to the second, if that has none.
    fn share_secrets(&mut self, lens: &Lens, (source, from): (&Path, &str), (target, to): (&Path, &str)) {
        let (one, other) = (
            self.at(source).entries[from].clone(),
            self.at(target).entries[to].clone(),
        );
        if let (Node::Record(one), Node::Record(other)) = (one, other) {
            let (has_secret, view) = (lens.view(&one).unwrap().has_secret, lens.view(&other).unwrap());
            if has_secret && !view.has_secret {
                self.at(target).save(lens, to, &view.text).unwrap();
                let shared = lens.put(Some(&one), &view.text).unwrap().stored;
                self.at(target)
                    .entries
                    .insert(to.to_owned(), Node::Record(shared));
            }
        }
    }

    fn move_directory(
        &mut self,
        lens: &Lens,
        (source, from): (&Path, &str),
        (target, to): (&Path, &str),
    ) -> Outcome {
        let path = |directory: &Path, name: &str| [directory.as_slice(), &[name.to_owned()]].concat();
        let from_path = path(source, from);
        let world = self.clone();
        let id = self.at(&from_path).id;
        let place = self.at(target);
        if !place.entries.contains_key(to) {
            place.gather(lens, &world, to, Some(id));
        }
        let mut removed = match place.entries.get(to) {
            Some(Node::Directory(tree)) if !tree.looks_empty() => return Err(Kind::DirectoryNotEmpty),
            Some(Node::Directory(tree)) => Some(tree.clone()),
            _ => place.removed_folders.get(to).cloned(),
        };
        if let Some(removed) = &mut removed {
            removed.bequeath(lens, &world, self.at(&from_path));
        }
        // What was gathered in it has been by now.
        let place = self.at(target);
        match (removed, place.entries.get_mut(to)) {
            (Some(removed), Some(Node::Directory(tree))) => *tree = removed,
            (Some(removed), None) => _ = place.removed_folders.insert(to.to_owned(), removed),
            _ => {}
        }
        if target.starts_with(&path(source, from)) {
            return Err(Kind::InvalidArgument);
        }
        let Some(Node::Directory(mut tree)) = self.at(source).entries.remove(from) else {
            panic!("{from} is no directory");
        };
        self.at(source).moved.insert(from.to_owned(), (id, false));
        let target = self.at(target);
        target.put_folder_aside(to);
        if let Some(removed) = target.removed_folders.remove(to) {
            tree.adopt(lens, removed);
        }
        target.entries.insert(to.to_owned(), Node::Directory(tree));
        Ok(())
    }

    fn move_record(
        &mut self,
        lens: &Lens,
        (source, from): (&Path, &str),
        (target, to): (&Path, &str),
    ) -> Outcome {
        let has_secret = |stored: &Vec<u8>| lens.view(stored).unwrap().has_secret;
        let draft = self.at(source).kept.remove(from);
        if let Some(Node::Record(stored)) = self.at(source).entries.remove(from) {
            if has_secret(&stored) {
                self.at(source).leave_secrets(lens, from, &stored);
            }
            let target = self.at(target);
            let replaced = match target.entries.get(to) {
                Some(Node::Record(replaced)) => Some(replaced),
                _ => target.left(lens, to),
            };
            if !has_secret(&stored) && replaced.is_some_and(has_secret) {
                let view = lens.view(&stored).unwrap().text;
                target.save(lens, to, &view)?;
            } else {
                target.entries.insert(to.to_owned(), Node::Record(stored));
                target.kept.remove(to);
                target.supersede_left(to);
            }
        }
        if let Some(draft) = draft {
            self.at(target).kept.insert(to.to_owned(), draft);
        }
        Ok(())
    }
}
