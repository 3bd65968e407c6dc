//! What a session shows and answers: the contract of the file system over the store's model, said once more.

use std::collections::BTreeMap;

use tenantfs::error::Kind;
use tenantfs::record::Lens;
use tenantfs::volume::Rename;

use super::tree::{MAX_RECORD, Node, Outcome, Sight, Tree, is_record};

/// Why a draft is settled.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Occasion {
    Close { by_opener: bool, wrote: bool },
    Sync,
    Write,
    Last,
    End,
    Resize,
}

/// What became of what was typed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// The volume has it.
    Saved,
    /// Only memory has it.
    Typed,
    /// It is no record, for this reason, where it is known; the volume has it beside the record.
    Kept(Option<Kind>),
    /// It is no record, and only memory may have it.
    Refused(Option<Kind>),
    /// It has an attachment's name: what is written is on the volume.
    Attachment,
}

/// A file that somebody has open, or that only memory has.
#[derive(Clone, Debug)]
struct File {
    content: Vec<u8>,
    state: State,
    /// What it is called, or was; and whether that was given away here.
    name: String,
    removed: bool,
    /// Something else was typed under its name, or that was given away, after others had replaced it.
    superseded: bool,
}

/// An open description.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    file: usize,
    pub(crate) writes: bool,
    wrote: bool,
}

/// One session on a volume.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) tree: Tree,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    pub(crate) handles: BTreeMap<usize, Handle>,
    /// Nothing can be saved just now.
    pub(crate) refuses: bool,
}

impl Session {
    fn unsaved(&self, file: usize) -> bool {
        matches!(self.files[file].state, State::Typed | State::Refused(_))
    }

    fn unsaved_at(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied().filter(|file| self.unsaved(*file))
    }

    fn is_open(&self, file: usize) -> bool {
        self.handles.values().any(|handle| handle.file == file)
    }

    /// What the volume shows under a name.
    fn stored(&self, lens: &Lens, name: &str) -> Option<Vec<u8>> {
        if let Some(draft) = self.tree.kept.get(name).filter(|_| is_record(name)) {
            return Some(draft.clone());
        }
        match self.tree.entries.get(name)? {
            Node::Record(stored) => Some(lens.view(stored).unwrap().text),
            Node::Attachment(content) => Some(content.clone()),
            _ => None,
        }
    }

    /// What a name shows.
    pub(crate) fn visible(&self, lens: &Lens, name: &str) -> Option<Vec<u8>> {
        match self.unsaved_at(name) {
            Some(file) => Some(self.files[file].content.clone()),
            None => self.stored(lens, name),
        }
    }

    pub(crate) fn read(&self, slot: usize) -> &[u8] {
        &self.files[self.handles[&slot].file].content
    }

    /// The file that an open of the name gets.
    fn found(&mut self, lens: &Lens, name: &str) -> usize {
        if let Some(file) = self.names.get(name) {
            return *file;
        }
        let state = self.stored_state(name);
        let content = self.stored(lens, name).unwrap();
        self.enter(name, content, state)
    }

    fn stored_state(&self, name: &str) -> State {
        match self.tree.kept.contains_key(name) {
            _ if !is_record(name) => State::Attachment,
            true => State::Kept(None),
            false => State::Saved,
        }
    }

    fn enter(&mut self, name: &str, content: Vec<u8>, state: State) -> usize {
        self.files.push(File {
            content,
            state,
            name: name.to_owned(),
            removed: false,
            superseded: false,
        });
        self.names.insert(name.to_owned(), self.files.len() - 1);
        self.files.len() - 1
    }

    pub(crate) fn open(&mut self, lens: &Lens, slot: usize, name: &str, writes: bool, truncate: bool) {
        let file = match self.visible(lens, name) {
            Some(_) => self.found(lens, name),
            None if is_record(name) => {
                // Others removed what was there: who has that open does not have what is made under its name.
                self.names.remove(name);
                self.supersede(name);
                self.enter(name, Vec::new(), State::Typed)
            }
            None => {
                self.put_attachment(name, Vec::new());
                self.enter(name, Vec::new(), State::Attachment)
            }
        };
        let wrote = truncate && is_record(name);
        self.handles.insert(slot, Handle { file, writes, wrote });
        if truncate {
            self.edit(file, |text| text.clear()).unwrap();
        }
    }

    fn edit(&mut self, file: usize, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let names = self.names.clone();
        let was_unsaved = self.unsaved(file);
        if self.files[file].state == State::Attachment {
            change(&mut self.files[file].content);
            let File { name, content, .. } = self.files[file].clone();
            if self.names.get(&name) == Some(&file) {
                self.put_attachment(&name, content);
            }
            return Ok(());
        }
        if !was_unsaved {
            self.take_back(file)?;
        }
        let mut text = self.files[file].content.clone();
        change(&mut text);
        if text.len() > MAX_RECORD {
            // Nothing was typed: the name leads to what others put there.
            self.names = names;
            return Err(Kind::TooLarge);
        }
        self.files[file].content = text;
        self.files[file].state = State::Typed;
        let name = self.files[file].name.clone();
        if !was_unsaved && self.names.get(&name) == Some(&file) {
            self.supersede(&name);
        }
        Ok(())
    }

    fn put_attachment(&mut self, name: &str, content: Vec<u8>) {
        self.tree
            .entries
            .insert(name.to_owned(), Node::Attachment(content));
    }

    /// Who has a record of this name open that others replaced cannot put that in its place any more.
    fn supersede(&mut self, name: &str) {
        let there = self.names.get(name).copied();
        for (at, file) in self.files.iter_mut().enumerate() {
            file.superseded |= file.name == name && Some(at) != there;
        }
    }

    /// What is typed into a record that others replaced gets its name back.
    fn take_back(&mut self, file: usize) -> Outcome {
        let File {
            name,
            removed,
            superseded,
            ..
        } = self.files[file].clone();
        if removed || self.names.get(&name) == Some(&file) {
            return Ok(());
        }
        if superseded || self.unsaved_at(&name).is_some() {
            return Err(Kind::Stale);
        }
        self.names.insert(name, file);
        Ok(())
    }

    pub(crate) fn write(&mut self, slot: usize, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let file = self.handles[&slot].file;
        self.handles.get_mut(&slot).unwrap().wrote |= self.files[file].state != State::Attachment;
        self.edit(self.handles[&slot].file, change)
    }

    pub(crate) fn flush(&mut self, lens: &Lens, slot: usize, by_opener: bool) -> Outcome {
        let Handle { file, writes, wrote } = self.handles[&slot];
        match writes {
            true => self.settle(lens, file, Occasion::Close { by_opener, wrote }),
            false => Ok(()),
        }
    }

    pub(crate) fn sync(&mut self, lens: &Lens, slot: usize, occasion: Occasion) -> Outcome {
        self.settle(lens, self.handles[&slot].file, occasion)
    }

    pub(crate) fn release(&mut self, lens: &Lens, slot: usize) {
        let Handle { file, writes, .. } = self.handles.remove(&slot).unwrap();
        let others = self.handles.values();
        if writes && !others.clone().any(|other| other.file == file && other.writes) {
            let _ = self.settle(lens, file, Occasion::Last);
        }
        self.let_go();
    }

    /// What nobody has open, and the volume has too, is nothing to the session.
    fn let_go(&mut self) {
        let mut names = std::mem::take(&mut self.names);
        names.retain(|_, file| self.is_open(*file) || self.unsaved(*file));
        self.names = names;
    }

    fn settle(&mut self, lens: &Lens, file: usize, occasion: Occasion) -> Outcome {
        let why = match self.files[file].state {
            State::Saved | State::Attachment => return Ok(()),
            State::Typed => return self.commit(lens, file, occasion),
            State::Kept(None) if occasion == Occasion::Sync && !self.files[file].content.is_empty() => {
                return self.commit(lens, file, occasion);
            }
            State::Kept(why) | State::Refused(why) => why,
        };
        let hears = match occasion {
            Occasion::Close { by_opener, wrote } => {
                wrote && (by_opener || why != Some(Kind::IncompleteRecord))
            }
            Occasion::Sync | Occasion::End | Occasion::Resize => true,
            Occasion::Write | Occasion::Last => false,
        };
        why.filter(|_| hears).map_or(Ok(()), Err)
    }

    fn commit(&mut self, lens: &Lens, file: usize, occasion: Occasion) -> Outcome {
        self.take_back(file)?;
        let File {
            name,
            removed,
            content,
            ..
        } = self.files[file].clone();
        let silent = matches!(occasion, Occasion::Close { wrote: false, .. });
        let answer = |kind| if silent { Ok(()) } else { Err(kind) };
        if removed {
            return Ok(());
        }
        if self.refuses && occasion != Occasion::End {
            return answer(Kind::NoSpace);
        }
        let saved = match content.is_empty() {
            true => Err(Kind::IncompleteRecord),
            false => self.tree.save(lens, &name, &content),
        };
        let Err(why) = saved else {
            self.files[file].content = self.stored(lens, &name).unwrap();
            self.files[file].state = State::Saved;
            return Ok(());
        };
        let about_text = [
            Kind::InvalidRecord,
            Kind::IncompleteRecord,
            Kind::PlainSecret,
            Kind::TooLarge,
        ];
        if !about_text.contains(&why) {
            return answer(why);
        }
        let incomplete = why == Kind::IncompleteRecord;
        let tell = match occasion {
            Occasion::Close { .. } if content.is_empty() => return Ok(()),
            Occasion::Close { by_opener: false, .. } if incomplete => return Ok(()),
            Occasion::Resize if incomplete => false,
            Occasion::Write => false,
            _ => !content.is_empty(),
        };
        let known = (!content.is_empty()).then_some(why);
        self.files[file].state = match self.tree.keep(&name, &content) {
            Err(Kind::PlainSecret) => State::Refused(known),
            kept => kept.map(|()| State::Kept(known))?,
        };
        if tell { answer(why) } else { Ok(()) }
    }

    pub(crate) fn truncate(&mut self, lens: &Lens, name: &str, size: usize) -> Outcome {
        let file = self.found(lens, name);
        let resized = self.edit(file, |text| text.resize(size, 0));
        let outcome = resized.and_then(|()| self.settle(lens, file, Occasion::Resize));
        self.let_go();
        outcome
    }

    /// Others did something to the name: who has the record open does not have that.
    pub(crate) fn changed_by_others(&mut self, name: &str) {
        if self.unsaved_at(name).is_none() && matches!(self.tree.see(name), Sight::Seen { .. }) {
            self.names.remove(name);
        }
    }

    /// Others removed it: who has an attachment open has it without a name.
    pub(crate) fn removed_by_others(&mut self, name: &str) {
        if !is_record(name)
            && let Some(file) = self.names.remove(name)
        {
            self.files[file].removed = true;
        }
    }

    fn lose(&mut self, name: &str) {
        if let Some(file) = self.names.remove(name) {
            self.files[file].removed = true;
            if !self.is_open(file) && self.files[file].state != State::Attachment {
                self.files[file].state = State::Saved;
            }
        }
    }

    /// It has the other kind of name now, and is what the volume has there.
    fn transform(&mut self, lens: &Lens, file: usize, to: &str) {
        self.files[file].content = self.stored(lens, to).unwrap();
        self.files[file].state = self.stored_state(to);
    }

    pub(crate) fn unlink(&mut self, name: &str) -> Outcome {
        match self.tree.remove(name) {
            Err(Kind::NotFound) if self.unsaved_at(name).is_some() => {}
            outcome => outcome?,
        }
        self.supersede(name);
        self.lose(name);
        Ok(())
    }

    pub(crate) fn rename(&mut self, lens: &Lens, from: &str, to: &str, how: Rename) -> Outcome {
        let exchanged = (how == Rename::Exchange).then_some(to);
        for name in [Some(from), exchanged].into_iter().flatten() {
            if let Some(file) = self.names.get(name).copied() {
                let outcome = self.settle(lens, file, Occasion::Last);
                if self.files[file].state == State::Typed {
                    outcome?;
                }
            }
        }
        let (typed, over) = (self.unsaved_at(from).is_some(), self.unsaved_at(to).is_some());
        let here = Vec::new();
        match how {
            Rename::NoReplace if over => return Err(Kind::Exists),
            Rename::Exchange if typed || over => return Err(Kind::Busy),
            _ if typed && !is_record(to) => return Err(Kind::PlainSecret),
            Rename::NoReplace if typed && self.tree.see(to) != Sight::Absent => return Err(Kind::Exists),
            _ => match self.tree.rename(lens, (&here, from), (&here, to), how) {
                Err(Kind::NotFound) if typed => {}
                outcome => outcome?,
            },
        }
        self.supersede(from);
        self.supersede(to);
        match how {
            Rename::Exchange => {
                let (one, two) = (self.names.remove(from), self.names.remove(to));
                self.move_to(one, to);
                self.move_to(two, from);
            }
            _ => {
                self.lose(to);
                let file = self.names.remove(from);
                if let Some(file) = file
                    && is_record(from) != is_record(to)
                {
                    self.transform(lens, file, to);
                }
                self.move_to(file, to);
            }
        }
        self.let_go();
        Ok(())
    }

    fn move_to(&mut self, file: Option<usize>, to: &str) {
        if let Some(file) = file {
            self.files[file].name = to.to_owned();
            self.names.insert(to.to_owned(), file);
        }
    }

    /// Drafts that nobody can write to are tried again.
    pub(crate) fn settle_closed(&mut self, lens: &Lens) {
        let writes = |handle: &Handle| handle.writes.then_some(handle.file);
        let written: Vec<_> = self.handles.values().filter_map(writes).collect();
        self.settle_names(lens, Occasion::Last, &written);
    }

    fn settle_names(&mut self, lens: &Lens, occasion: Occasion, but: &[usize]) {
        for file in self.names.clone().into_values() {
            if self.unsaved(file) && !but.contains(&file) {
                let _ = self.settle(lens, file, occasion);
            }
        }
        self.let_go();
    }

    /// The session ends, with whatever is open.
    pub(crate) fn end(&mut self, lens: &Lens) {
        self.settle_names(lens, Occasion::End, &[]);
        self.handles.clear();
        self.names.clear();
    }

    /// How many inodes it needs, with nothing open.
    pub(crate) fn needed(&self) -> usize {
        self.names.len()
    }
}
