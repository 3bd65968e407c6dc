//! Which inode number is what, and where: the memory that the kernel's lookups and forgets fill and empty.

use std::hash::{BuildHasher, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::sync::Arc;

use super::entries::{Entries, Entry, Link, Place};
use super::ids::{Ino, ROOT};
use super::lock_order::{Ordered, Rank};
use super::node::{Node, NodeId, RecordNode};
use crate::name::EntryName;
use crate::store::{Attributes, NodeKind};
use crate::volume::FileId;

/// Every node that the kernel knows, or that holds a draft nobody else has. A node keeps its number when a commit replaces
/// the backing file.
///
/// Locked last: nothing waits, and no lock is taken, while the table is locked.
pub(super) struct Table {
    inner: Ordered<Entries>,
    new_records: RandomState,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            inner: Ordered::new(Rank::Table, Entries::default()),
            new_records: RandomState::default(),
        }
    }
}

impl Table {
    /// The node that `place` leads to now, counted as looked up once more.
    pub(super) fn enter(&self, place: Place, attributes: &Attributes) -> Node {
        let mut inner = self.inner.lock();
        let shared = attributes.names > 1 && attributes.kind != NodeKind::Directory;
        let known = match shared {
            true => inner.names.get(&place),
            false => inner.by_id.get(&attributes.id),
        };
        let node = match known.and_then(|ino| inner.known_as(*ino, attributes)) {
            Some(node) => node,
            None => {
                // Of a file with several names, each is a node of its own.
                let wanted = match shared {
                    true => numbered_by_name(attributes.number, &place),
                    false => u64::from(attributes.number),
                };
                inner.insert(wanted, place.clone(), attributes.kind, Some(attributes.id))
            }
        };
        let ino = node.ino();
        if !shared {
            inner.by_id.insert(attributes.id, ino);
        }
        if let Some(entry) = inner.entries.get_mut(&ino) {
            entry.told = Some(*attributes);
        }
        inner.look_up(ino);
        inner.link(ino, place);
        node
    }

    /// A new record at `place` that nothing on the volume stands for yet, counted as looked up.
    pub(super) fn enter_draft(&self, place: Place) -> Arc<RecordNode> {
        let mut inner = self.inner.lock();
        let wanted = self.new_records.hash_one((&place, inner.serial));
        let node = inner.insert_record(wanted, place.clone());
        let ino = node.id.ino;
        inner.look_up(ino);
        inner.drafting.insert(ino);
        inner.link(ino, place);
        node
    }

    /// Counts one more lookup of a node that was found here. Returns whether it is known still: since it was found, the
    /// kernel may have forgotten it, and would be told of a number that leads nowhere.
    #[must_use]
    pub(super) fn look_up(&self, node: NodeId) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.current(node).is_some();
        if known {
            inner.look_up(node.ino);
        }
        known
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Node> {
        let inner = self.inner.lock();
        inner.entries.get(&ino).map(|entry| entry.node.clone())
    }

    /// The node last seen at `place`.
    pub(super) fn at(&self, place: &Place) -> Option<Node> {
        self.told_at(place).map(|(node, _)| node)
    }

    /// The node last seen at `place`, and what the kernel was told of it.
    pub(super) fn told_at(&self, place: &Place) -> Option<(Node, Option<Attributes>)> {
        let inner = self.inner.lock();
        let entry = inner.entries.get(inner.names.get(place)?)?;
        Some((entry.node.clone(), entry.told))
    }

    /// Where the node is, unless its name was removed or taken over.
    pub(super) fn place(&self, node: NodeId) -> Option<Place> {
        let inner = self.inner.lock();
        let entry = inner.current(node)?;
        (entry.link == Link::Here).then(|| entry.place.clone())
    }

    /// Where the node is, or was when it still had a name.
    pub(super) fn last_place(&self, node: NodeId) -> Option<Place> {
        let inner = self.inner.lock();
        Some(inner.current(node)?.place.clone())
    }

    /// Where the node is, as a path from the root.
    pub(super) fn path(&self, node: NodeId) -> Option<String> {
        let inner = self.inner.lock();
        let mut place = &inner.current(node)?.place;
        let mut names = vec![place.name.as_str()];
        while place.parent != ROOT {
            // Others can turn directories inside out, and the kernel be told of one end only.
            if names.len() > inner.entries.len() {
                return None;
            }
            place = &inner.entries.get(&place.parent)?.place;
            names.push(place.name.as_str());
        }
        names.reverse();
        Some(names.join("/"))
    }

    /// The way to a directory: each entry on it below the resource's directory and what it led to, the last one first. None
    /// where one has lost its name. The resource's directory is not on it: a session is of the one that it began with, whatever
    /// has that name later, for a migration moves it.
    pub(super) fn way(&self, directory: Ino) -> Option<Vec<(Place, Option<FileId>)>> {
        let inner = self.inner.lock();
        let mut way = Vec::new();
        let mut next = directory;
        while next != ROOT {
            let entry = inner.entries.get(&next)?;
            // Others can turn directories inside out, and the kernel be told of one end only.
            if entry.link != Link::Here || way.len() > inner.entries.len() {
                return None;
            }
            next = entry.place.parent;
            if next != ROOT {
                way.push((entry.place.clone(), entry.id));
            }
        }
        Some(way)
    }

    /// The node that the kernel may remember at `place`, where nothing is any more, and what it was told of it. It is said
    /// once of each, and not of drafts, which come back.
    pub(super) fn cover_loss(&self, place: &Place) -> Option<(NodeId, Attributes)> {
        let mut inner = self.inner.lock();
        let entry = inner
            .last_at(place)
            .find(|entry| entry.lookups > 0 && !entry.covered)?;
        let (id, told) = (entry.node.id(), entry.told?);
        if inner.drafting.contains(&id.ino) {
            return None;
        }
        inner.entries.get_mut(&id.ino)?.covered = true;
        Some((id, told))
    }

    /// The backing file that the node stands for.
    pub(super) fn id(&self, node: NodeId) -> Option<FileId> {
        self.inner.lock().current(node)?.id
    }

    /// The attributes that the kernel was last told of the node.
    pub(super) fn last_told(&self, node: NodeId) -> Option<Attributes> {
        self.inner.lock().current(node)?.told
    }

    /// The node has these attributes from now on, through what was done here: a commit puts another backing file in
    /// place, and every change is another version.
    pub(super) fn became(&self, node: NodeId, attributes: &Attributes) {
        let mut inner = self.inner.lock();
        if inner.current(node).is_some() {
            inner.bind(node.ino, attributes);
        }
    }

    /// The node has a draft that only memory has: it stays as long as that is so.
    pub(super) fn drafting_begins(&self, node: NodeId) {
        let mut inner = self.inner.lock();
        if inner.current(node).is_some_and(|entry| entry.link == Link::Here) {
            inner.drafting.insert(node.ino);
        }
    }

    /// Something was typed into the node. Who has an older one of its name open cannot put that in its place any more.
    pub(super) fn typed(&self, node: NodeId) {
        let mut inner = self.inner.lock();
        let entry = inner.current(node).filter(|entry| entry.link == Link::Here);
        if let Some(place) = entry.map(|entry| entry.place.clone()) {
            inner.supersede(&place);
        }
    }

    pub(super) fn drafting_ends(&self, node: NodeId) {
        let mut inner = self.inner.lock();
        if inner.current(node).is_some() {
            inner.drafting.remove(&node.ino);
            inner.drop_unused(node.ino);
        }
    }

    /// Gives a node its name back that others put another file at: what is typed into it is not lost. Returns whether the
    /// name leads elsewhere no more; none where it has no name to come back to, or what has the name now was typed here, or is
    /// being removed or renamed.
    pub(super) fn reclaim(&self, node: NodeId) -> Option<bool> {
        let mut inner = self.inner.lock();
        let entry = inner.current(node)?;
        match entry.link {
            Link::Here => return Some(false),
            Link::Removed | Link::Superseded => return None,
            Link::Displaced => {}
        }
        let place = entry.place.clone();
        if inner.changing.contains(&place) {
            return None;
        }
        let taken = inner.names.get(&place);
        if taken.is_some_and(|other| inner.drafting.contains(other)) {
            return None;
        }
        inner.link(node.ino, place);
        Some(true)
    }

    /// Whether others put another file where the node was.
    pub(super) fn is_displaced(&self, node: NodeId) -> bool {
        let inner = self.inner.lock();
        let entry = inner.current(node);
        entry.is_some_and(|entry| matches!(entry.link, Link::Displaced | Link::Superseded))
    }

    /// These names are removed or renamed from now on, until what is returned is dropped: no node takes one of them back
    /// meanwhile. None when they lead to other nodes than these by now.
    pub(super) fn change_names(&self, names: &[(&Place, Option<NodeId>)]) -> Option<Changing<'_>> {
        let mut inner = self.inner.lock();
        let leads_to = |place: &Place| {
            let entry = inner.entries.get(inner.names.get(place)?);
            entry.map(|entry| entry.node.id())
        };
        if names.iter().any(|(place, node)| leads_to(place) != *node) {
            return None;
        }
        let places: Vec<Place> = names.iter().map(|(place, _)| (*place).clone()).collect();
        inner.changing.extend(places.iter().cloned());
        Some(Changing { table: self, places })
    }

    /// All records with a draft that only memory has.
    pub(super) fn drafting(&self) -> Vec<Arc<RecordNode>> {
        let inner = self.inner.lock();
        let entries = inner.drafting.iter().filter_map(|ino| inner.entries.get(ino));
        entries
            .filter_map(|entry| entry.node.as_record().cloned())
            .collect()
    }

    /// The names below `parent` that a draft in memory has, whether or not the volume has them too.
    pub(super) fn draft_names(&self, parent: Ino) -> Vec<EntryName> {
        let inner = self.inner.lock();
        let entries = inner.drafting.iter().filter_map(|ino| inner.entries.get(ino));
        entries
            .filter(|entry| entry.link == Link::Here && entry.place.parent == parent)
            .map(|entry| entry.place.name.clone())
            .collect()
    }

    /// Every inode number there is.
    pub(super) fn all(&self) -> Vec<Ino> {
        self.inner.lock().entries.keys().copied().collect()
    }

    /// Every name there is, with its directory.
    pub(super) fn names(&self) -> Vec<(Ino, EntryName)> {
        let inner = self.inner.lock();
        let places = inner.names.keys();
        places.map(|place| (place.parent, place.name.clone())).collect()
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
        let is_kept = |entry: &&Entry| {
            entry.link == Link::Here
                && entry.place.parent == parent
                && entry.told.is_some_and(|told| told.kept_draft)
        };
        let kept = inner.entries.values().filter(is_kept);
        kept.map(|entry| entry.place.name.clone()).collect()
    }

    /// Every file that has a name. May be much.
    pub(super) fn files(&self) -> Vec<(Node, Place)> {
        let inner = self.inner.lock();
        let is_file = |entry: &&Entry| entry.link == Link::Here && entry.node.kind() != NodeKind::Directory;
        let files = inner.entries.values().filter(is_file);
        files
            .map(|entry| (entry.node.clone(), entry.place.clone()))
            .collect()
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// The name is gone: whatever has it open goes on without it.
    pub(super) fn unlink(&self, place: &Place) -> Option<Node> {
        let mut inner = self.inner.lock();
        inner.supersede(place);
        let ino = inner.names.remove(place)?;
        inner.unlinked(ino, Link::Removed)
    }

    /// The node at `from` is at `to` now; what was there before is unlinked.
    pub(super) fn rename(&self, from: &Place, to: Place) {
        let mut inner = self.inner.lock();
        inner.replace(from, &to);
        if let Some(ino) = inner.names.remove(from) {
            inner.link(ino, to);
        }
    }

    /// What was at `from` is at `to` and of another kind: the number stands for another node from now on, which `make`
    /// makes. What was at `to` before is unlinked. Returns the number.
    pub(super) fn transform(
        &self,
        from: &Place,
        to: Place,
        attributes: &Attributes,
        make: impl FnOnce(NodeId) -> Node,
    ) -> Option<Ino> {
        let mut inner = self.inner.lock();
        inner.replace(from, &to);
        let ino = inner.names.get(from).copied()?;
        let node = make(inner.next_id(ino));
        if let Some(entry) = inner.entries.get_mut(&ino) {
            entry.node = node;
        }
        inner.drafting.remove(&ino);
        inner.bind(ino, attributes);
        inner.link(ino, to);
        Some(ino)
    }

    pub(super) fn exchange(&self, one: &Place, other: &Place) {
        let mut inner = self.inner.lock();
        inner.supersede(one);
        inner.supersede(other);
        let (first, second) = (inner.names.remove(one), inner.names.remove(other));
        for (ino, place) in [(first, other), (second, one)] {
            if let Some(ino) = ino {
                inner.link(ino, place.clone());
            }
        }
    }

    /// The kernel forgets `count` lookups. Returns whether the node is gone now.
    pub(super) fn forget(&self, ino: Ino, count: u64) -> bool {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(&ino) {
            entry.lookups = entry.lookups.saturating_sub(count);
        }
        inner.drop_unused(ino);
        !inner.entries.contains_key(&ino)
    }
}

/// Names that are being changed: see [`Table::change_names`].
#[must_use]
pub(super) struct Changing<'a> {
    table: &'a Table,
    places: Vec<Place>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let changing = &mut self.table.inner.lock().changing;
        for place in &self.places {
            if let Some(at) = changing.iter().position(|other| other == place) {
                changing.swap_remove(at);
            }
        }
    }
}

/// The number of one name of a file that has several.
fn numbered_by_name(number: u32, place: &Place) -> u64 {
    let mut hasher = DefaultHasher::new();
    (number, place.name.as_str()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_that_is_displaced_is_still_to_be_saved() {
        let table = Table::default();
        let place = Place {
            parent: Ino(2),
            name: EntryName::parse(b"x.json").unwrap(),
        };
        let draft = table.enter_draft(place.clone()).id;
        // A lookup that began before the draft did finds what others put there.
        let other = table.enter_draft(place).id;
        table.drafting_ends(other);
        assert!(table.is_displaced(draft) && table.drafting().iter().any(|node| node.id == draft));
        assert!(!table.forget(draft.ino, 1), "it holds what nobody else has");
        assert_eq!(table.reclaim(draft), Some(true));
        table.drafting_ends(draft);
        assert!(table.get(draft.ino).is_none());
    }

    #[test]
    fn the_directory_of_a_draft_stays_until_that_is_saved() {
        let table = Table::default();
        let place = |parent, name: &[u8]| Place {
            parent,
            name: EntryName::parse(name).unwrap(),
        };
        // Any node will do for a directory.
        let directory = table.enter_draft(place(ROOT, b"schedules")).id;
        table.drafting_ends(directory);
        let draft = table.enter_draft(place(directory.ino, b"x.json")).id;
        assert!(!table.forget(draft.ino, 1) && !table.forget(directory.ino, 1));
        table.drafting_ends(draft);
        assert!(table.get(draft.ino).is_none() && table.get(directory.ino).is_none());
    }

    #[test]
    fn what_was_forgotten_since_it_was_found_is_not_counted_as_looked_up() {
        let table = Table::default();
        let place = Place {
            parent: Ino(2),
            name: EntryName::parse(b"x.json").unwrap(),
        };
        let node = table.enter_draft(place).id;
        table.drafting_ends(node);
        assert!(table.look_up(node));
        assert!(!table.forget(node.ino, 1), "looked up twice");
        assert!(table.forget(node.ino, 1));
        assert!(!table.look_up(node) && table.get(node.ino).is_none());
    }
}
