//! Looking at what others changed on the volume, and having the kernel forget what is no longer so.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use super::Vfs;
use super::cache::CACHE_LIFETIME;
use super::entries::Place;
use super::ids::Ino;
use super::node::Node;
use super::record_state::Pages;
use super::watched::Pending;
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::store::{Attributes, Concern, Folder, NodeKind};

/// When the kernel knows more inodes than this, it is made to forget those that nobody uses. Each takes up to 1.3 KiB here.
const MANY: usize = 1 << 17;

/// How long a lookup waits for the kernel to forget others, when there are too many; and how often it looks.
const PATIENCE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);

/// What became of an entry that the kernel knows.
enum Fate {
    /// What it was told is still so.
    Same,
    /// It has other attributes.
    Changed(Ino),
    /// Others wrote to it: what the kernel has of its content may be wrong, and be mapped.
    Rewritten(Ino),
    /// It is something else, or nothing.
    Other,
    /// The kernel does not know it.
    Unknown,
    /// It is being committed just now.
    Busy,
}

/// The record is the same; another session may have kept a draft of it.
fn fate_beside_draft(folder: &Folder, place: &Place) -> Fate {
    match folder.record(&place.name).has_draft() {
        Ok(false) => Fate::Same,
        Ok(true) | Err(_) => Fate::Other,
    }
}

impl Vfs {
    /// Nothing that the kernel is told from now on is believed for longer than this, however well watched.
    pub fn lease(&self, good_for: Duration) {
        self.watched.lease(good_for);
    }

    /// How long the kernel may believe this of an entry of `parent`; of what has no name, `parent` is none. What is being
    /// written changes by itself.
    pub(super) fn lifetime(
        &self,
        ino: Ino,
        parent: Option<Ino>,
        attributes: &Attributes,
        written: bool,
    ) -> Duration {
        let told_of = match attributes.kind {
            NodeKind::Directory => self.watched.has(ino),
            // Through its other names it can change where nobody looks.
            NodeKind::Record | NodeKind::Attachment => attributes.names <= 1,
        };
        let settled = !written && !attributes.kept_draft;
        match told_of && settled && parent.is_some_and(|parent| self.watched.has(parent)) {
            true => self.watched.longest(),
            false => CACHE_LIFETIME,
        }
    }

    /// Looks at what was told to have changed, and makes the kernel forget what is no longer so. It waits for the kernel,
    /// which waits for operations under way: not for a thread that has to answer those.
    pub fn notice_changes(&self) {
        for (ino, pending) in self.watched.take() {
            self.notice(ino, pending);
        }
        self.bound_known();
    }

    /// Sees to it that the kernel may know one more inode, at `place`. When it knows many, it is made to forget those that
    /// nobody uses, and that is waited for, for a moment.
    ///
    /// # Errors
    /// [`Kind::TooManyOpen`] when the user's programs keep it from forgetting as many as one may have.
    pub(super) fn admit_inode(&self, place: &Place) -> Result<()> {
        if self.has_room() && !self.is_crowded() || self.table.at(place).is_some() {
            return Ok(());
        }
        self.pages.notice_soon();
        let watch = Stopwatch::start();
        while self.is_crowded() && watch.elapsed() < POLL * 2 {
            // Who makes the kernel remember goes on no faster than it forgets.
            thread::sleep(POLL);
        }
        while !self.has_room() {
            if watch.elapsed() > PATIENCE {
                let why = "your programs hold more files and directories, by descriptors or as working directories, than one may";
                return Err(Error::new(Kind::TooManyOpen, why));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.known.has_room(self.table.len() as u64)
    }

    fn is_crowded(&self) -> bool {
        self.table.len() > MANY
    }

    /// Has the kernel forget what nobody uses, if it knows many.
    pub(super) fn bound_known(&self) {
        self.known.shrink(self.table.len() as u64);
        if self.is_crowded() {
            for (node, place) in self.table.files() {
                if node.is_expendable() {
                    self.pages.drop_name(place.parent, &place.name);
                }
            }
        }
    }

    fn notice(&self, ino: Ino, pending: Pending) {
        if pending.ended {
            self.watched.forget(ino);
        }
        for name in &pending.forget {
            self.pages.drop_name(ino, name);
        }
        let Ok(folder) = self.folder(ino) else {
            return self.pages.drop_attributes(ino);
        };
        let everything = pending.anything || pending.ended;
        let itself = pending.itself || pending.entries.values().any(|renamed| *renamed);
        let mut relist = everything;
        let mut names: HashMap<EntryName, bool> = HashMap::new();
        for (entry, renamed) in pending.entries {
            match folder.concern(&entry) {
                Concern::Name(name) => *names.entry(name).or_default() |= renamed,
                Concern::Drafts => {
                    names.extend(self.table.kept_drafts(ino).into_iter().map(|name| (name, true)))
                }
                Concern::Nothing => {}
            }
        }
        if everything {
            names.extend(self.table.names_in(ino).into_iter().map(|name| (name, false)));
        }
        for (name, renamed) in names {
            let place = Place { parent: ino, name };
            match self.fate(&folder, &place) {
                Fate::Same => {}
                Fate::Changed(changed) => self.pages.drop_attributes(changed),
                Fate::Rewritten(changed) => {
                    self.pages.drop_attributes(changed);
                    self.pages.drop_soon(changed);
                }
                Fate::Other => {
                    relist = true;
                    self.pages.drop_name(ino, &place.name);
                }
                Fate::Unknown => relist |= renamed || !matches!(folder.peek(&place.name), Ok(None)),
                Fate::Busy => self.look_again(place, renamed),
            }
        }
        if relist {
            self.watched.relist(ino);
            self.pages.drop_listing(ino);
        } else if itself {
            self.pages.drop_attributes(ino);
        }
    }

    fn fate(&self, folder: &Folder, place: &Place) -> Fate {
        let Some((node, told)) = self.table.told_at(place) else {
            return Fate::Unknown;
        };
        if let Node::Record(node) = &node {
            match node.try_lock() {
                // What is written here is what the name leads to.
                Some(record) if record.is_unsaved() => return Fate::Same,
                Some(_) => {}
                None => return Fate::Busy,
            }
        }
        match (told, folder.peek(&place.name)) {
            (Some(told), Ok(Some(stat))) if told.id == stat.id && !told.kept_draft => {
                match &node {
                    Node::Attachment(file) if told.version == stat.version() => {
                        // What was written here is known: the next change may be by others.
                        file.take_written();
                        Fate::Same
                    }
                    Node::Directory(_) if told.version == stat.version() => Fate::Same,
                    Node::Record(_) if told.version == stat.version() => fate_beside_draft(folder, place),
                    Node::Record(_) => Fate::Other,
                    // It has become hidden.
                    Node::Attachment(_) if stat.nlink > 1 => Fate::Other,
                    Node::Attachment(file) if file.take_written() => self.written_here(&node, folder, place),
                    Node::Attachment(file) => {
                        file.lock().pages = Pages::Any;
                        Fate::Rewritten(node.ino())
                    }
                    Node::Directory(_) => Fate::Changed(node.ino()),
                }
            }
            _ => Fate::Other,
        }
    }

    /// An attachment has another version through what was written here: the kernel's pages hold it.
    fn written_here(&self, node: &Node, folder: &Folder, place: &Place) -> Fate {
        if let Ok(attributes) = folder.lookup(&place.name) {
            self.table.became(node.id(), &attributes);
        }
        Fate::Changed(node.ino())
    }

    /// Has the kernel forget a name that it was told leads elsewhere.
    pub(super) fn forget_name_soon(&self, place: Place) {
        self.watched.forget_name(place.parent, place.name);
    }

    /// Has somebody look whether the kernel was told of `place` what is so.
    pub(super) fn look_again(&self, place: Place, renamed: bool) {
        self.watched.changed(place.parent, &place.name, renamed);
    }
}
