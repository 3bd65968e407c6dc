//! The maps of the table: nodes by number, by backing file and by name, kept consistent with each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ids::{Ino, ROOT};
use super::node::{Node, NodeId, RecordNode};
use crate::name::EntryName;
use crate::store::{Attributes, NodeKind};
use crate::volume::FileId;

/// So many nodes the maps always have room for.
const MAPS_KEEP: usize = 1024;

/// The bits of an inode number.
const NUMBERS: u64 = u32::MAX as u64;

/// Where a node is: an entry of a directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) parent: Ino,
    pub(super) name: EntryName,
}

#[derive(Default)]
pub(super) struct Entries {
    pub(super) entries: HashMap<Ino, Entry>,
    /// Not for backing files with several names: each of those names is an inode of its own.
    pub(super) by_id: HashMap<FileId, Ino>,
    pub(super) names: HashMap<Place, Ino>,
    /// Inodes with a draft in memory.
    pub(super) drafting: HashSet<Ino>,
    /// The inodes that may take a name back: see [`Link::Displaced`].
    displaced: HashMap<Place, Vec<Ino>>,
    /// The names that are being removed or renamed just now.
    pub(super) changing: Vec<Place>,
    /// Of the next node.
    pub(super) serial: u64,
}

pub(super) struct Entry {
    /// What the number stands for, at present.
    pub(super) node: Node,
    /// What the kernel will forget, some time.
    pub(super) lookups: u64,
    pub(super) place: Place,
    pub(super) link: Link,
    /// The kernel was told once more what it remembers, since the name leads nowhere.
    pub(super) covered: bool,
    pub(super) id: Option<FileId>,
    /// The attributes that the kernel was last told.
    pub(super) told: Option<Attributes>,
}

/// Whether a node's place leads to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// It does.
    Here,
    /// Others put another file there. What is typed into this one takes the name back.
    Displaced,
    /// That was done, and then something was typed into the other file through this mount, or it was given another name: the
    /// name does not come back, and nothing can be typed into this one any more.
    Superseded,
    /// The name was removed, or given away, through this mount.
    Removed,
}

impl Entries {
    /// The entry of a node, if its number still stands for it.
    pub(super) fn current(&self, node: NodeId) -> Option<&Entry> {
        let entry = self.entries.get(&node.ino);
        entry.filter(|entry| entry.node.id() == node)
    }

    pub(super) fn bind(&mut self, ino: Ino, attributes: &Attributes) {
        let Some(entry) = self.entries.get_mut(&ino) else {
            return;
        };
        let id = attributes.id;
        entry.told = Some(*attributes);
        let old = entry.id.replace(id);
        if let Some(old) = old
            && self.by_id.get(&old) == Some(&ino)
        {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id, ino);
    }

    /// The node, if it can stand for these attributes. A record that others changed is another node: who has the old
    /// one open goes on reading what was opened, and the kernel never goes by the size of another version.
    pub(super) fn known_as(&self, ino: Ino, attributes: &Attributes) -> Option<Node> {
        let entry = self.entries.get(&ino)?;
        let changed = entry.told.is_some_and(|told| told.version != attributes.version);
        let same = entry.node.kind() == attributes.kind
            && entry.id == Some(attributes.id)
            && !(changed && attributes.kind == NodeKind::Record);
        same.then(|| entry.node.clone())
    }

    pub(super) fn next_id(&mut self, ino: Ino) -> NodeId {
        self.serial += 1;
        NodeId {
            ino,
            serial: self.serial,
        }
    }

    /// A node under the wanted number or the next free one.
    pub(super) fn insert(&mut self, wanted: u64, place: Place, kind: NodeKind, id: Option<FileId>) -> Node {
        let free = self.free_number(wanted);
        let node = Node::new(self.next_id(free), kind);
        self.add(node.clone(), place, id);
        node
    }

    pub(super) fn insert_record(&mut self, wanted: u64, place: Place) -> Arc<RecordNode> {
        let free = self.free_number(wanted);
        let node = Arc::new(RecordNode::new(self.next_id(free)));
        self.add(Node::Record(Arc::clone(&node)), place, None);
        node
    }

    pub(super) fn add(&mut self, node: Node, place: Place, id: Option<FileId>) {
        let entry = Entry {
            lookups: 0,
            place,
            link: Link::Displaced,
            covered: false,
            id,
            told: None,
            node,
        };
        self.entries.insert(entry.node.ino(), entry);
    }

    /// Numbers stay below 2^32: a program that was built without large files refuses a directory that has others.
    pub(super) fn free_number(&self, wanted: u64) -> Ino {
        let mut number = wanted & NUMBERS;
        while number <= ROOT.0 || self.entries.contains_key(&Ino(number)) {
            number = (number + 1) & NUMBERS;
        }
        Ino(number)
    }

    /// Makes `place` lead to the node, and to nothing else.
    pub(super) fn link(&mut self, ino: Ino, place: Place) {
        let Some(entry) = self.entries.get_mut(&ino) else {
            return;
        };
        entry.covered = false;
        let before = std::mem::replace(&mut entry.link, Link::Here);
        let old = std::mem::replace(&mut entry.place, place.clone());
        if before == Link::Displaced {
            self.no_longer_displaced(ino, &old);
        }
        if before == Link::Here && old != place && self.names.get(&old) == Some(&ino) {
            self.names.remove(&old);
        }
        if let Some(other) = self.names.insert(place, ino)
            && other != ino
        {
            self.unlinked(other, Link::Displaced);
        }
    }

    pub(super) fn unlinked(&mut self, ino: Ino, link: Link) -> Option<Node> {
        let entry = self.entries.get_mut(&ino)?;
        let before = std::mem::replace(&mut entry.link, link);
        let node = entry.node.clone();
        let place = entry.place.clone();
        // The volume may give its number to another file.
        if let Some(id) = entry.id
            && self.by_id.get(&id) == Some(&ino)
        {
            self.by_id.remove(&id);
        }
        match (before, link) {
            (Link::Displaced, Link::Displaced) => {}
            (Link::Displaced, _) => self.no_longer_displaced(ino, &place),
            (_, Link::Displaced) => self.displaced.entry(place).or_default().push(ino),
            _ => {}
        }
        // A draft that is displaced comes back when it is saved.
        if link == Link::Removed {
            self.drafting.remove(&ino);
        }
        self.drop_unused(ino);
        Some(node)
    }

    /// `from` is renamed to `to`: what is there loses its name.
    pub(super) fn replace(&mut self, from: &Place, to: &Place) {
        self.supersede(from);
        self.supersede(to);
        if let Some(ino) = self.names.remove(to) {
            self.unlinked(ino, Link::Removed);
        }
    }

    /// Whoever was displaced from this name does not get it back.
    pub(super) fn supersede(&mut self, place: &Place) {
        for ino in self.displaced.remove(place).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&ino) {
                entry.link = Link::Superseded;
            }
        }
    }

    /// What has this name, and what had it and may take it back.
    pub(super) fn last_at(&self, place: &Place) -> impl Iterator<Item = &Entry> {
        let displaced = self.displaced.get(place).into_iter().flatten();
        let all = self.names.get(place).into_iter().chain(displaced);
        all.filter_map(|ino| self.entries.get(ino))
    }

    fn no_longer_displaced(&mut self, ino: Ino, place: &Place) {
        if let Some(inos) = self.displaced.get_mut(place) {
            inos.retain(|other| *other != ino);
            if inos.is_empty() {
                self.displaced.remove(place);
            }
        }
    }

    pub(super) fn look_up(&mut self, ino: Ino) {
        if let Some(entry) = self.entries.get_mut(&ino) {
            entry.lookups += 1;
        }
    }

    /// Drops a node that nobody needs any more, and the directories above it that were needed for its sake only.
    pub(super) fn drop_unused(&mut self, ino: Ino) {
        let mut next = Some(ino);
        while let Some(ino) = next {
            next = self.drop_if_unused(ino);
        }
    }

    /// Returns the directory that it was in, if it is gone now.
    fn drop_if_unused(&mut self, ino: Ino) -> Option<Ino> {
        let entry = self.entries.get(&ino)?;
        let is_draft = entry.link != Link::Removed && self.drafting.contains(&ino);
        if entry.lookups > 0 || is_draft || self.is_above_draft(ino) {
            return None;
        }
        let entry = self.entries.remove(&ino)?;
        self.drafting.remove(&ino);
        if let Some(id) = entry.id
            && self.by_id.get(&id) == Some(&ino)
        {
            self.by_id.remove(&id);
        }
        if self.names.get(&entry.place) == Some(&ino) {
            self.names.remove(&entry.place);
        }
        if entry.link == Link::Displaced {
            self.no_longer_displaced(ino, &entry.place);
        }
        self.give_back();
        Some(entry.place.parent)
    }

    /// Whether a draft that only memory has lies below this directory: it is saved there, though the kernel may have
    /// forgotten both.
    fn is_above_draft(&self, ino: Ino) -> bool {
        self.drafting.iter().any(|draft| {
            let mut below = self.entries.get(draft);
            // Others can turn directories inside out: not more steps than there are directories.
            for _ in 0..self.entries.len() {
                match below.map(|entry| entry.place.parent) {
                    Some(parent) if parent == ino => return true,
                    Some(parent) => below = self.entries.get(&parent),
                    None => return false,
                }
            }
            false
        })
    }

    /// What the maps took when the kernel knew much more is given back.
    pub(super) fn give_back(&mut self) {
        let much = (self.entries.len() + MAPS_KEEP) * 8;
        if self.entries.capacity() > much {
            self.entries.shrink_to(much / 4);
            self.by_id.shrink_to(much / 4);
            self.names.shrink_to(much / 4);
            self.displaced.shrink_to(much / 4);
        }
    }
}
