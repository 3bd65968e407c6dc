//! Which inode number is what, and where: the memory that the kernel's lookups and forgets fill and empty.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::inode::Inode;
use super::{Ino, ROOT};
use crate::name::EntryName;
use crate::store::{Attributes, NodeKind};
use crate::volume::FileId;

/// So many inodes the maps always have room for.
const MAPS_KEEP: usize = 1024;

/// Where an inode is: an entry of a directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) parent: Ino,
    pub(super) name: EntryName,
}

/// Every inode that the kernel knows, or that holds a draft nobody else has. Numbers are derived from the backing
/// file's identity with a key of this session, and an inode keeps its number when a commit replaces the backing file.
///
/// Locked last: nothing waits, and no lock is taken, while the table is locked.
#[derive(Default)]
pub(super) struct Table {
    inner: Mutex<Inner>,
    numbering: RandomState,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<Ino, Node>,
    /// Not for backing files with several names: each of those names is an inode of its own.
    by_id: HashMap<FileId, Ino>,
    names: HashMap<Place, Ino>,
    /// Inodes with a draft in memory.
    drafting: HashSet<Ino>,
}

struct Node {
    /// What the number stands for, at present.
    inode: Arc<Inode>,
    /// What the kernel will forget, some time.
    lookups: u64,
    place: Place,
    /// Whether the place still leads here.
    linked: bool,
    id: Option<FileId>,
    /// The attributes that the kernel was last told.
    told: Option<Attributes>,
}

impl Table {
    /// The inode that `place` leads to now, counted as looked up once more.
    pub(super) fn enter(&self, place: Place, attributes: &Attributes) -> Arc<Inode> {
        let mut inner = self.inner.lock();
        let shared = attributes.names > 1 && attributes.kind != NodeKind::Directory;
        let known = match shared {
            true => inner.names.get(&place),
            false => inner.by_id.get(&attributes.id),
        };
        let inode = match known.and_then(|ino| inner.known_as(*ino, attributes)) {
            Some(inode) => inode,
            None => {
                let wanted = match shared {
                    true => self.numbering.hash_one((attributes.id, &place)),
                    false => self.numbering.hash_one(attributes.id),
                };
                inner.insert(wanted, place.clone(), attributes.kind, Some(attributes.id))
            }
        };
        if !shared {
            inner.by_id.insert(attributes.id, inode.ino);
        }
        if let Some(node) = inner.nodes.get_mut(&inode.ino) {
            node.told = Some(*attributes);
        }
        inner.look_up(inode.ino);
        inner.link(inode.ino, place);
        inode
    }

    /// A new inode at `place` that nothing on the volume stands for yet, counted as looked up.
    pub(super) fn enter_draft(&self, place: Place) -> Arc<Inode> {
        let mut inner = self.inner.lock();
        let wanted = self.numbering.hash_one((&place, inner.nodes.len()));
        let inode = inner.insert(wanted, place.clone(), NodeKind::Record, None);
        inner.look_up(inode.ino);
        inner.drafting.insert(inode.ino);
        inner.link(inode.ino, place);
        inode
    }

    /// Counts one more lookup of an inode that was found here. Whether it is known still: since it was found, the kernel may
    /// have forgotten it, and would be told of a number that leads nowhere.
    #[must_use]
    pub(super) fn look_up(&self, inode: &Inode) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.current(inode).is_some();
        if known {
            inner.look_up(inode.ino);
        }
        known
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.inner
            .lock()
            .nodes
            .get(&ino)
            .map(|node| Arc::clone(&node.inode))
    }

    /// The inode last seen at `place`.
    pub(super) fn at(&self, place: &Place) -> Option<Arc<Inode>> {
        let inner = self.inner.lock();
        let ino = inner.names.get(place)?;
        inner.nodes.get(ino).map(|node| Arc::clone(&node.inode))
    }

    /// Where the inode is, unless its name was removed or taken over.
    pub(super) fn place(&self, inode: &Inode) -> Option<Place> {
        let inner = self.inner.lock();
        let node = inner.current(inode)?;
        node.linked.then(|| node.place.clone())
    }

    /// Where the inode is, as a path from the root.
    pub(super) fn path(&self, inode: &Inode) -> Option<String> {
        let inner = self.inner.lock();
        let mut place = &inner.current(inode)?.place;
        let mut names = vec![place.name.as_str()];
        while place.parent != ROOT {
            place = &inner.nodes.get(&place.parent)?.place;
            names.push(place.name.as_str());
        }
        names.reverse();
        Some(names.join("/"))
    }

    /// The backing file that the inode stands for.
    pub(super) fn id(&self, inode: &Inode) -> Option<FileId> {
        self.inner.lock().current(inode)?.id
    }

    /// Where the inode is, or was when it still had a name.
    pub(super) fn last_place(&self, inode: &Inode) -> Option<Place> {
        let inner = self.inner.lock();
        Some(inner.current(inode)?.place.clone())
    }

    /// The attributes that the kernel was last told of the inode.
    pub(super) fn last_told(&self, inode: &Inode) -> Option<Attributes> {
        self.inner.lock().current(inode)?.told
    }

    /// The inode has these attributes from now on, through what was done here: a commit puts another backing file in
    /// place, and every change is another version.
    pub(super) fn became(&self, inode: &Inode, attributes: &Attributes) {
        let mut inner = self.inner.lock();
        if inner.current(inode).is_some() {
            inner.bind(inode.ino, attributes);
        }
    }

    pub(super) fn set_drafting(&self, inode: &Inode, drafting: bool) {
        let mut inner = self.inner.lock();
        let ino = inode.ino;
        if inner.current(inode).is_none() {
            return;
        }
        match drafting {
            true => {
                inner.drafting.insert(ino);
            }
            false => {
                inner.drafting.remove(&ino);
                inner.drop_unused(ino);
            }
        }
    }

    /// All inodes with a draft in memory.
    pub(super) fn drafting(&self) -> Vec<Arc<Inode>> {
        let inner = self.inner.lock();
        let nodes = inner.drafting.iter().filter_map(|ino| inner.nodes.get(ino));
        nodes.map(|node| Arc::clone(&node.inode)).collect()
    }

    /// The names below `parent` that a draft in memory has, whether or not the volume has them too.
    pub(super) fn draft_names(&self, parent: Ino) -> Vec<EntryName> {
        let inner = self.inner.lock();
        let nodes = inner.drafting.iter().filter_map(|ino| inner.nodes.get(ino));
        nodes
            .filter(|node| node.linked && node.place.parent == parent)
            .map(|node| node.place.name.clone())
            .collect()
    }

    /// Every inode number there is.
    pub(super) fn all(&self) -> Vec<Ino> {
        self.inner.lock().nodes.keys().copied().collect()
    }

    /// Every name there is, with its directory.
    pub(super) fn names(&self) -> Vec<(Ino, EntryName)> {
        let inner = self.inner.lock();
        let places = inner.names.keys();
        places.map(|place| (place.parent, place.name.clone())).collect()
    }

    /// The name is gone: whatever has it open goes on without it.
    pub(super) fn unlink(&self, place: &Place) -> Option<Arc<Inode>> {
        let mut inner = self.inner.lock();
        let ino = inner.names.remove(place)?;
        inner.unlinked(ino)
    }

    /// The inode at `from` is at `to` now; what was there before is unlinked, and returned.
    pub(super) fn rename(&self, from: &Place, to: Place) -> Option<Arc<Inode>> {
        let mut inner = self.inner.lock();
        let displaced = inner.names.remove(&to).and_then(|ino| inner.unlinked(ino));
        if let Some(ino) = inner.names.remove(from) {
            inner.link(ino, to);
        }
        displaced
    }

    /// What was at `from` is at `to` and of another kind: the number stands for another inode from now on. Returns the
    /// inodes that have no name any more: what it stood for, and what was at `to` before.
    pub(super) fn transform(&self, from: &Place, to: Place, attributes: &Attributes) -> Vec<Arc<Inode>> {
        let mut inner = self.inner.lock();
        let displaced = inner.names.remove(&to).and_then(|ino| inner.unlinked(ino));
        let ino = inner.names.get(from).copied();
        let former = ino.and_then(|ino| {
            let node = inner.nodes.get_mut(&ino)?;
            let inode = Arc::new(Inode::under_known_number(ino, attributes.kind));
            let former = std::mem::replace(&mut node.inode, inode);
            inner.drafting.remove(&ino);
            inner.bind(ino, attributes);
            inner.link(ino, to);
            Some(former)
        });
        former.into_iter().chain(displaced).collect()
    }

    pub(super) fn exchange(&self, one: &Place, other: &Place) {
        let mut inner = self.inner.lock();
        let (first, second) = (inner.names.remove(one), inner.names.remove(other));
        for (ino, place) in [(first, other), (second, one)] {
            if let Some(ino) = ino {
                inner.link(ino, place.clone());
            }
        }
    }

    /// The inode last seen at `place`, and what the kernel was told of it.
    pub(super) fn told_at(&self, place: &Place) -> Option<(Arc<Inode>, Option<Attributes>)> {
        let inner = self.inner.lock();
        let node = inner.nodes.get(inner.names.get(place)?)?;
        Some((Arc::clone(&node.inode), node.told))
    }

    /// How many inodes there are.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().nodes.len()
    }

    /// The names of files that could be given up, each with its directory. Not those of directories: somebody may stand there.
    pub(super) fn expendable(&self) -> Vec<(Ino, EntryName)> {
        let inner = self.inner.lock();
        let expendable = |node: &&Node| {
            node.linked
                && node.inode.kind != NodeKind::Directory
                && node.inode.try_body().is_some_and(|body| body.opens == 0)
                && !inner.drafting.contains(&node.inode.ino)
        };
        let nodes = inner.nodes.values().filter(expendable);
        nodes
            .map(|node| (node.place.parent, node.place.name.clone()))
            .collect()
    }

    /// The names below `parent` that the kernel may know.
    pub(super) fn names_in(&self, parent: Ino) -> Vec<EntryName> {
        let inner = self.inner.lock();
        let places = inner.names.keys().filter(|place| place.parent == parent);
        places.map(|place| place.name.clone()).collect()
    }

    /// Those of which it was told the draft that the volume keeps.
    pub(super) fn kept_drafts(&self, parent: Ino) -> Vec<EntryName> {
        let inner = self.inner.lock();
        let kept = |node: &&Node| node.linked && node.told.is_some_and(|told| told.kept_draft);
        let nodes = inner.nodes.values().filter(kept);
        nodes
            .filter(|node| node.place.parent == parent)
            .map(|node| node.place.name.clone())
            .collect()
    }

    /// The kernel forgets `count` lookups. Whether the inode is gone now.
    pub(super) fn forget(&self, ino: Ino, count: u64) -> bool {
        let mut inner = self.inner.lock();
        if let Some(node) = inner.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        inner.drop_unused(ino);
        !inner.nodes.contains_key(&ino)
    }
}

impl Inner {
    /// The node of an inode, if its number still stands for it.
    fn current(&self, inode: &Inode) -> Option<&Node> {
        self.nodes
            .get(&inode.ino)
            .filter(|node| std::ptr::eq(Arc::as_ptr(&node.inode), inode))
    }

    fn bind(&mut self, ino: Ino, attributes: &Attributes) {
        let Some(node) = self.nodes.get_mut(&ino) else {
            return;
        };
        let id = attributes.id;
        node.told = Some(*attributes);
        let old = node.id.replace(id);
        if let Some(old) = old
            && self.by_id.get(&old) == Some(&ino)
        {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id, ino);
    }

    /// The inode, if it can stand for these attributes. A record that others changed is another inode: who has the old
    /// one open goes on reading what was opened, and the kernel never goes by the size of another version.
    fn known_as(&self, ino: Ino, attributes: &Attributes) -> Option<Arc<Inode>> {
        let node = self.nodes.get(&ino)?;
        let changed = node.told.is_some_and(|told| told.version != attributes.version);
        let same = node.inode.kind == attributes.kind
            && node.id == Some(attributes.id)
            && !(changed && attributes.kind == NodeKind::Record);
        same.then(|| Arc::clone(&node.inode))
    }

    /// A node under the wanted number or the next free one.
    fn insert(&mut self, wanted: u64, place: Place, kind: NodeKind, id: Option<FileId>) -> Arc<Inode> {
        let mut ino = Ino(wanted);
        loop {
            if ino.0 > ROOT.0
                && let Slot::Vacant(slot) = self.nodes.entry(ino)
            {
                let inode = Arc::new(Inode::new(ino, kind));
                slot.insert(Node {
                    inode: Arc::clone(&inode),
                    lookups: 0,
                    place,
                    linked: false,
                    id,
                    told: None,
                });
                return inode;
            }
            ino = Ino(ino.0.wrapping_add(1));
        }
    }

    /// Makes `place` lead to the inode, and to nothing else.
    fn link(&mut self, ino: Ino, place: Place) {
        let Some(node) = self.nodes.get_mut(&ino) else {
            return;
        };
        let was_linked = std::mem::replace(&mut node.linked, true);
        let old = std::mem::replace(&mut node.place, place.clone());
        if was_linked && old != place && self.names.get(&old) == Some(&ino) {
            self.names.remove(&old);
        }
        if let Some(other) = self.names.insert(place, ino)
            && other != ino
        {
            self.unlinked(other);
        }
    }

    fn unlinked(&mut self, ino: Ino) -> Option<Arc<Inode>> {
        let node = self.nodes.get_mut(&ino)?;
        node.linked = false;
        let inode = Arc::clone(&node.inode);
        // The volume may give its number to another file.
        if let Some(id) = node.id
            && self.by_id.get(&id) == Some(&ino)
        {
            self.by_id.remove(&id);
        }
        self.drafting.remove(&ino);
        self.drop_unused(ino);
        Some(inode)
    }

    fn look_up(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += 1;
        }
    }

    fn drop_unused(&mut self, ino: Ino) {
        let used = |node: &Node| node.lookups > 0 || (node.linked && self.drafting.contains(&ino));
        if self.nodes.get(&ino).is_none_or(used) {
            return;
        }
        let Some(node) = self.nodes.remove(&ino) else {
            return;
        };
        self.drafting.remove(&ino);
        if let Some(id) = node.id
            && self.by_id.get(&id) == Some(&ino)
        {
            self.by_id.remove(&id);
        }
        if self.names.get(&node.place) == Some(&ino) {
            self.names.remove(&node.place);
        }
        self.give_back();
    }

    /// What the maps took when the kernel knew much more is given back.
    fn give_back(&mut self) {
        let much = (self.nodes.len() + MAPS_KEEP) * 8;
        if self.nodes.capacity() > much {
            self.nodes.shrink_to(much / 4);
            self.by_id.shrink_to(much / 4);
            self.names.shrink_to(much / 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_since_it_was_found_is_not_counted_as_looked_up() {
        let table = Table::default();
        let place = Place {
            parent: Ino(2),
            name: EntryName::parse(b"x.json").unwrap(),
        };
        let inode = table.enter_draft(place);
        table.set_drafting(&inode, false);
        assert!(table.look_up(&inode));
        assert!(!table.forget(inode.ino, 1), "looked up twice");
        assert!(table.forget(inode.ino, 1));
        assert!(!table.look_up(&inode) && table.get(inode.ino).is_none());
    }
}
