//! Renaming, which is where records and attachments become each other.

use super::adopt::{adopt, bequeath};
use super::attachment::Attachment;
use super::attributes::{Attributes, NodeKind};
use super::directory::no_directorys_name;
use super::draft::Draft;
use super::folder::Folder;
use super::found::{Found, Snapshot, Stored, not_found};
use super::heritage;
use super::moved::Moved;
use super::shown::show_mode;
use super::tenant::Tenant;
use super::waiting::{Content, Waiting, not_empty};
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::record::Record;
use crate::volume::{self, Access, Dir, Rename, Staged, Times};

/// What a file has become that was renamed to the other kind of name, for those who have it open.
#[derive(Debug)]
pub enum Became {
    /// A record is an attachment now.
    Attachment(Attachment, Attributes),
    /// An attachment is a record now.
    Record(Snapshot),
    /// An attachment is the draft of a record now: it is empty.
    Draft(Draft, Attributes),
}

impl Folder {
    /// Renames `from` here to `to` in `target`. Returns what it has become, where that is something else than before.
    ///
    /// An attachment that gets a record's name is committed; a record that gets an attachment's leaves its view there.
    /// Whatever a record's new name, the next one of its old name gets its secrets. Of a directory, so do the records that
    /// are in the next one of its name.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] when an attachment cannot be committed (both files stay as they are), or two different
    /// kinds are exchanged; [`Kind::NotPermitted`] for a directory that would get a record's name;
    /// [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn rename(
        &self,
        from: &EntryName,
        target: &Self,
        to: &EntryName,
        how: Rename,
    ) -> Result<Option<Became>> {
        let (from, to) = (End::new(self, from), End::new(target, to));
        from.tenant().claim()?;
        let source = from.folder.lookup(from.name)?;
        let occupant = to.folder.occupant(Op::Rename, to.name)?;
        match (how, occupant) {
            (Rename::NoReplace, Some(_)) => return Err(Error::new(Kind::Exists, "the name exists")),
            (Rename::Exchange, None) => return Err(not_found()),
            (Rename::Exchange, Some(other)) => {
                return exchange(from, &source, to, &other).map(|()| None);
            }
            (Rename::Replace, Some(other)) => check_replaceable(source.kind, other.kind)?,
            (Rename::NoReplace | Rename::Replace, None) => {}
        }
        if (from.folder.id(), from.name) == (to.folder.id(), to.name) {
            return Ok(None);
        }
        match (source.kind, to.name.is_record()) {
            (NodeKind::Directory, true) => return Err(no_directorys_name()),
            (NodeKind::Directory, false) => move_directory(from, to, occupant.is_some(), how)?,
            (NodeKind::Attachment, false) => from.move_to(to, how)?,
            (NodeKind::Record, true) => record_to_record(from, &source, to, how)?,
            (NodeKind::Attachment, true) => return attachment_to_record(from, &source, to).map(Some),
            (NodeKind::Record, false) => return record_to_attachment(from, &source, to).map(Some),
        }
        Ok(None)
    }
}

/// One end of a renaming: a name in a directory.
#[derive(Clone, Copy)]
struct End<'a> {
    folder: &'a Folder,
    name: &'a EntryName,
}

impl<'a> End<'a> {
    fn new(folder: &'a Folder, name: &'a EntryName) -> Self {
        Self { folder, name }
    }

    fn tenant(self) -> &'a Tenant {
        self.folder.look().tenant
    }

    fn dir(self) -> &'a Dir {
        self.folder.look().dir
    }

    fn record(self) -> Record<'a> {
        self.folder.record(self.name)
    }

    /// Renames on the volume, and nothing else.
    fn move_to(self, to: Self, how: Rename) -> Result<()> {
        self.dir()
            .rename(self.name.as_str(), to.dir(), to.name.as_str(), how)
    }
}

/// rename(2): a directory replaces a directory, anything else anything else.
fn check_replaceable(source: NodeKind, other: NodeKind) -> Result<()> {
    match (source == NodeKind::Directory, other == NodeKind::Directory) {
        (true, false) => Err(Error::new(Kind::NotADirectory, "not a directory")),
        (false, true) => Err(Error::new(Kind::IsADirectory, "a directory")),
        _ => Ok(()),
    }
}

fn exchange(from: End<'_>, source: &Attributes, to: End<'_>, other: &Attributes) -> Result<()> {
    if source.kind != other.kind || source.kind == NodeKind::Directory {
        return Err(Error::new(
            Kind::InvalidArgument,
            "only two records, or two attachments, can be exchanged",
        ));
    }
    if source.kept_draft || other.kept_draft {
        return Err(Error::new(
            Kind::Busy,
            "a draft cannot be exchanged; complete it first",
        ));
    }
    if source.kind == NodeKind::Record && from.dir().abilities()?.exchanges {
        share_secrets(from, to)?;
    }
    from.move_to(to, Rename::Exchange)
}

/// Before two records are exchanged, the one without a secret gets the other's: that name goes on having it, and so does
/// the record.
fn share_secrets(from: End<'_>, to: End<'_>) -> Result<()> {
    let read = |end: End<'_>| end.folder.look().read_record(end.name)?.visible();
    let (one, other) = (read(from)?, read(to)?);
    match (one.has_secret, other.has_secret) {
        (true, false) => to.record().inherit(&one),
        (false, true) => from.record().inherit(&other),
        _ => Ok(()),
    }
}

/// rename(2) replaces an empty directory. What waits in that one goes on waiting.
fn move_directory(from: End<'_>, to: End<'_>, is_occupied: bool, how: Rename) -> Result<()> {
    let moving = from.folder.open_folder(from.name)?;
    let replaced = match is_occupied {
        true => Some(to.folder.open_folder(to.name)?),
        false => {
            heritage::gather(to.folder, to.name, Some(moving.id()))?;
            None
        }
    };
    let content = match &replaced {
        Some(replaced) => Content::of(replaced.look())?,
        None => Content::Nothing,
    };
    if content == Content::More {
        return Err(not_empty());
    }
    let replaced = replaced.filter(|_| content == Content::Waiting);
    let removed = match &replaced {
        Some(replaced) => Some(replaced.clone()),
        None => to.folder.waiting_folder(to.name)?,
    };
    if let Some(removed) = removed {
        bequeath(removed, moving.clone())?;
    }
    let note = Moved::new(from.folder, from.name);
    let before = note.note(&moving, to.folder, to.name)?;
    if let Some(replaced) = &replaced {
        to.folder.put_aside(to.name, replaced)?;
    }
    if let Err(error) = from.move_to(to, how) {
        note.undo(&before)?;
        if replaced.is_some() {
            Waiting::new(to.folder.look(), to.name).give_back()?;
        }
        return Err(error);
    }
    adopt(to.folder, to.name)
}

fn attachment_to_record(from: End<'_>, source: &Attributes, to: End<'_>) -> Result<Became> {
    let options = &from.tenant().options;
    if source.size > options.max_record {
        return Err(Error::new(
            Kind::TooLarge,
            "the file is larger than a record can be",
        ));
    }
    let file = from.dir().open_file(from.name.as_str(), Access::Read)?;
    let text = volume::read_at_most(&file, source.size, options.max_record)?;
    let mut draft = Draft::new(text.to_vec(), options.max_record);
    draft.mode = Some(source.mode);
    draft.number = Some(source.number);
    draft.times.mtime = Some(source.mtime);
    let became = match text.is_empty() {
        true => {
            let shown = to.record().keep(&draft, options.durability)?;
            Became::Draft(draft, shown)
        }
        false => Became::Record(commit_renamed(to, &draft)?),
    };
    from.dir().unlink(from.name.as_str())?;
    Ok(became)
}

/// Commits what was an attachment. Of one that is no record, its program learns with the rename itself.
fn commit_renamed(to: End<'_>, draft: &Draft) -> Result<Snapshot> {
    let committed = to.record().commit(draft, to.tenant().options.durability);
    committed.map_err(|error| match error.kind() {
        Kind::InvalidRecord | Kind::IncompleteRecord | Kind::PlainSecret => {
            let look = to.folder.look();
            look.denied(Op::Rename, to.name, Kind::InvalidArgument, error.to_string());
            Error::new(Kind::InvalidArgument, error.to_string())
        }
        _ => error,
    })
}

fn record_to_record(from: End<'_>, source: &Attributes, to: End<'_>, how: Rename) -> Result<()> {
    let kept = match source.kept_draft {
        true => from.record().load_draft()?,
        false => None,
    };
    match from.folder.look().read_record(from.name)? {
        Found::Visible(stored) if !stored.has_secret && to.record().has_secret()? => {
            replace_text(from, &stored, to)?;
        }
        Found::Visible(stored) => {
            if stored.has_secret {
                from.record().leave_secrets(&stored)?;
            }
            from.move_to(to, how)?;
            to.record().discard_draft()?;
            to.record().supersede_left(stored.has_secret)?;
        }
        Found::Absent if kept.is_some() => {}
        Found::Absent | Found::Hidden => return Err(not_found()),
    }
    if let Some(draft) = kept {
        to.record().keep(&draft, to.tenant().options.durability)?;
        from.record().discard_draft()?;
    }
    Ok(())
}

/// The new content takes the place of the old, which goes on having its secrets.
fn replace_text(from: End<'_>, stored: &Stored, to: End<'_>) -> Result<()> {
    let options = &to.tenant().options;
    let mut draft = Draft::new(stored.view.to_vec(), options.max_record);
    draft.mode = stored.shown.mode;
    draft.number = Some(stored.number);
    draft.times.mtime = Some(stored.stat.mtime);
    to.record().commit(&draft, options.durability)?;
    from.dir().unlink(from.name.as_str())
}

fn record_to_attachment(from: End<'_>, source: &Attributes, to: End<'_>) -> Result<Became> {
    let committed = match from.folder.look().read_record(from.name)? {
        Found::Visible(stored) => Some(stored),
        Found::Absent => None,
        Found::Hidden => return Err(not_found()),
    };
    let draft = match source.kept_draft {
        true => from.record().load_draft()?,
        false => None,
    };
    let text = match (&draft, &committed) {
        (Some(draft), _) if from.tenant().lens.may_hold_secret(draft.text()) => {
            return Err(Error::new(
                Kind::PlainSecret,
                "a draft that holds a secret in plain cannot become a file on the volume",
            ));
        }
        (Some(draft), _) => draft.text(),
        (None, Some(stored)) => &stored.view,
        (None, None) => return Err(not_found()),
    };
    let attachment = place_attachment(text, source, to)?;
    let attributes = attachment.attributes()?;
    match committed {
        Some(stored) if stored.has_secret => from.record().put_away()?,
        Some(_) => {
            from.dir().unlink(from.name.as_str())?;
            // The last record of this name had no secret: one that an older record had stays gone.
            from.record().supersede_left(false)?;
        }
        None => {}
    }
    from.record().discard_draft()?;
    Ok(Became::Attachment(attachment, attributes))
}

/// Puts an attachment with this text, and the mode and the time of what it was, in place.
fn place_attachment(text: &[u8], source: &Attributes, to: End<'_>) -> Result<Attachment> {
    let mut staged = Staged::new(to.dir(), &to.dir().stat_self()?)?;
    staged.write(text)?;
    if source.mode != staged.mode() {
        show_mode(staged.file(), source.mode)?;
    }
    let times = Times {
        mtime: Some(source.mtime),
        ..Times::default()
    };
    volume::set_times(staged.file(), times)?;
    let attachment = Attachment::staged(to.folder.look(), &staged)?;
    let durability = to.tenant().options.durability;
    staged.place(to.name.as_str(), durability)?;
    Ok(attachment)
}
