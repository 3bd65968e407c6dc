//! The life of a record in memory: which states it has, and what leads from one to the other.
//!
//! ```text
//!             hold               edit                 committed
//!   Idle ────────────▶ Open ────────────▶ Drafting ────────────▶ Open, or Idle where nobody has it open
//!    ▲ │                │                  ▲ │  ▲ │
//!    │ │  found_kept    │rest         edit │ │  │ │ refused
//!    │ └─────────────┐  │                  │ │  │ ▼
//!    ├───────────────│──┘             kept │ │  Refused
//!    │               ▼                     │ ▼
//!    └────────────────────────────────────  Kept
//!          rest
//!
//!   Drafting, Kept, Refused ── discard ──▶ Open, or Idle where nobody has it open
//! ```
//!
//! Kept text that was found on the volume can be committed, too. Once the name is gone and nobody has the record open,
//! every state leads to Idle (`abandon`). A change that is refused leads nowhere.
//!
//! It reads nothing and decides nothing: what leads to a transition is decided in `open` and `settle`.

use crate::budget::Charge;
use crate::error::{Error, Result};
use crate::store::{Attributes, Draft, Snapshot};
use crate::volume::Version;

/// What memory has of a record.
#[derive(Default)]
pub(super) enum RecordState {
    /// Nothing: nobody has it open, and the volume has all of it.
    #[default]
    Idle,
    /// The record as it was when it was last opened or committed.
    Open(Held),
    /// Text that the volume has not: somebody is writing, or the volume did not take it.
    Drafting {
        text: Text,
        /// Why the volume did not take it when that was last tried.
        failed: Option<Error>,
    },
    /// Text that cannot be the record. The volume keeps it beside the record, and has all of it.
    Kept {
        text: Text,
        verdict: Verdict,
        /// What a lookup says of it.
        shown: Attributes,
    },
    /// Text that cannot be the record, and that the volume may not have either: it may hold a secret in plain.
    Refused { text: Text, verdict: Verdict },
}

/// A snapshot, counted against the session's memory.
pub(super) struct Held {
    pub(super) snapshot: Snapshot,
    /// Given back when nobody has the record open.
    pub(super) _memory: Charge,
}

/// What was typed, and the record beneath it as it was then.
pub(super) struct Text {
    pub(super) draft: Draft,
    beneath: Option<Attributes>,
}

/// What is wrong with a draft.
#[derive(Clone, Default)]
pub(super) struct Verdict {
    /// Why it cannot be the record. None where that is no mistake (an empty draft), or is not known (it was found on the
    /// volume).
    pub(super) why: Option<Error>,
    /// Whether the observers were told.
    pub(super) reported: bool,
}

/// What the kernel's pages of a file may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Pages {
    /// It can have none: nobody has had the file open.
    #[default]
    None,
    /// This version of the content.
    Of(Version),
    /// Any content.
    Any,
}

/// How many have a file open, and how many among them may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Opens {
    all: u32,
    writers: u32,
}

impl Opens {
    pub(super) fn add(&mut self, writer: bool) {
        self.all += 1;
        self.writers += u32::from(writer);
    }

    /// Returns whether it was the last that may write.
    pub(super) fn remove(&mut self, writer: bool) -> bool {
        self.all = self.all.saturating_sub(1);
        self.writers = self.writers.saturating_sub(u32::from(writer));
        writer && self.writers == 0
    }

    pub(super) fn any(self) -> bool {
        self.all > 0
    }

    pub(super) fn any_writer(self) -> bool {
        self.writers > 0
    }
}

/// A record that the kernel knows.
#[derive(Default)]
pub(super) struct Record {
    state: RecordState,
    pub(super) pages: Pages,
    opens: Opens,
    /// The kernel wrote pages back that a program had mapped, since the last commit. It does not say through which
    /// descriptor: every one that may write has written, then.
    pub(super) written_back: bool,
}

impl RecordState {
    fn text(&self) -> Option<&Text> {
        match self {
            Self::Idle | Self::Open(_) => None,
            Self::Drafting { text, .. } | Self::Kept { text, .. } | Self::Refused { text, .. } => Some(text),
        }
    }

    fn text_mut(&mut self) -> Option<&mut Text> {
        match self {
            Self::Idle | Self::Open(_) => None,
            Self::Drafting { text, .. } | Self::Kept { text, .. } | Self::Refused { text, .. } => Some(text),
        }
    }

    fn drafting(text: Text) -> Self {
        Self::Drafting { text, failed: None }
    }

    fn content(&self) -> &[u8] {
        match (self, self.text()) {
            (_, Some(text)) => text.draft.text(),
            (Self::Open(held), None) => &held.snapshot.view,
            (_, None) => &[],
        }
    }

    /// The record as the volume has it, as far as memory knows.
    fn committed(&self) -> Option<Attributes> {
        match self {
            Self::Open(held) => Some(held.snapshot.attributes),
            other => other.text()?.beneath,
        }
    }

    /// The attributes of what memory has: who has it open reads that, whatever becomes of the name.
    fn attributes(&self) -> Option<Attributes> {
        match (self, self.text()) {
            (Self::Kept { shown, .. }, _) => Some(*shown),
            (_, Some(text)) => Some(text.draft.attributes(text.beneath.as_ref())),
            (_, None) => self.committed(),
        }
    }
}

impl Record {
    /// A record that was an attachment: these have it open, and the kernel may have pages of it.
    pub(super) fn that_was_attachment(opens: Opens) -> Self {
        Self {
            pages: Pages::Any,
            opens,
            ..Self::default()
        }
    }

    /// It is an attachment by now. Returns who goes on with that.
    pub(super) fn hand_over(&mut self) -> Opens {
        std::mem::take(self).opens
    }

    pub(super) fn state(&self) -> &RecordState {
        &self.state
    }

    pub(super) fn is_open(&self) -> bool {
        self.opens.any()
    }

    pub(super) fn has_writers(&self) -> bool {
        self.opens.any_writer()
    }

    /// Whether memory has text that the volume has not.
    pub(super) fn is_unsaved(&self) -> bool {
        matches!(
            self.state,
            RecordState::Drafting { .. } | RecordState::Refused { .. }
        )
    }

    /// The draft, on the volume or not.
    pub(super) fn draft(&self) -> Option<&Draft> {
        self.state.text().map(|text| &text.draft)
    }

    /// The draft, for changes beside its text.
    pub(super) fn draft_mut(&mut self) -> Option<&mut Draft> {
        self.state.text_mut().map(|text| &mut text.draft)
    }

    /// Why the draft is not the record, as far as anybody tried.
    pub(super) fn trouble(&self) -> Option<&Error> {
        match &self.state {
            RecordState::Idle | RecordState::Open(_) => None,
            RecordState::Drafting { failed, .. } => failed.as_ref(),
            RecordState::Kept { verdict, .. } | RecordState::Refused { verdict, .. } => verdict.why.as_ref(),
        }
    }

    /// What a read finds: the draft, or the record as it was when it was opened.
    pub(super) fn content(&self) -> &[u8] {
        self.state.content()
    }

    /// The attributes of what memory has.
    pub(super) fn attributes(&self) -> Option<Attributes> {
        self.state.attributes()
    }

    /// The attributes of a draft that only memory has: that is what the name leads to.
    pub(super) fn unsaved_attributes(&self) -> Option<Attributes> {
        self.attributes().filter(|_| self.is_unsaved())
    }

    /// A handle is opened.
    pub(super) fn opened(&mut self, writer: bool) {
        self.opens.add(writer);
        if self.pages == Pages::None {
            self.pages = Pages::Any;
        }
    }

    /// A handle is closed. Returns whether it was the last that may write.
    pub(super) fn closed(&mut self, writer: bool) -> bool {
        self.opens.remove(writer)
    }

    /// Whether that is what is read already.
    pub(super) fn holds(&self, snapshot: &Snapshot) -> bool {
        let RecordState::Open(Held { snapshot: held, .. }) = &self.state else {
            return false;
        };
        held.attributes.version == snapshot.attributes.version && held.view == snapshot.view
    }

    /// This is what is read from now on. What the kernel's pages hold of another version is not.
    pub(super) fn hold(&mut self, held: Held) {
        if let Pages::Of(version) = self.pages
            && version != held.snapshot.attributes.version
        {
            self.pages = Pages::Any;
        }
        self.state = RecordState::Open(held);
    }

    /// A draft was found on the volume.
    pub(super) fn found_kept(&mut self, draft: Draft, beneath: Option<Attributes>, shown: Attributes) {
        self.state = RecordState::Kept {
            text: Text { draft, beneath },
            verdict: Verdict::default(),
            shown,
        };
        self.distrust_pages();
    }

    /// Changes the text. `new` makes the draft of what is there, where there is none.
    ///
    /// # Errors
    /// Those of `new` and `change`: then all is as it was.
    pub(super) fn edit<T>(
        &mut self,
        new: impl FnOnce(&[u8]) -> Result<Draft>,
        change: impl FnOnce(&mut Draft) -> Result<T>,
    ) -> Result<T> {
        let changed = match self.state.text_mut() {
            Some(text) => change(&mut text.draft)?,
            None => {
                let mut draft = new(self.state.content())?;
                let changed = change(&mut draft)?;
                let beneath = self.state.committed();
                self.state = RecordState::drafting(Text { draft, beneath });
                changed
            }
        };
        self.state = match std::mem::take(&mut self.state) {
            RecordState::Kept { text, .. } | RecordState::Refused { text, .. } => RecordState::drafting(text),
            // What the volume does not take stays so until it does, whatever is typed meanwhile.
            other => other,
        };
        self.distrust_pages();
        Ok(changed)
    }

    /// The volume did not take the draft. Returns whether that is news.
    pub(super) fn failed(&mut self, why: Error) -> bool {
        let RecordState::Drafting { failed, .. } = &mut self.state else {
            return false;
        };
        let before = failed.replace(why).map(|error| error.kind());
        before != failed.as_ref().map(Error::kind)
    }

    /// The draft is the record. Returns whether that is just what was written.
    pub(super) fn committed(&mut self, held: Held) -> bool {
        let snapshot = &held.snapshot;
        let as_written = *snapshot.view == *self.content();
        self.pages = match as_written {
            true => Pages::Of(snapshot.attributes.version),
            false => Pages::Any,
        };
        self.written_back = false;
        self.state = RecordState::Open(held);
        self.rest();
        as_written
    }

    /// The draft is given up, and the record beneath it is what is read from now on, by whoever has it open.
    pub(super) fn discard(&mut self, beneath: Held) {
        self.written_back = false;
        self.state = RecordState::Open(beneath);
        self.distrust_pages();
        self.rest();
    }

    /// The volume keeps the draft, which cannot be the record.
    pub(super) fn kept(&mut self, verdict: Verdict, shown: Attributes) {
        self.judged(|text| RecordState::Kept { text, verdict, shown });
    }

    /// The draft cannot be the record, and the volume may not keep it.
    pub(super) fn refused(&mut self, verdict: Verdict) {
        self.judged(|text| RecordState::Refused { text, verdict });
    }

    fn judged(&mut self, judged: impl FnOnce(Text) -> RecordState) {
        self.state = match std::mem::take(&mut self.state) {
            RecordState::Drafting { text, .. } | RecordState::Kept { text, .. } => judged(text),
            other => other,
        };
    }

    /// What is wrong with a draft that was judged.
    pub(super) fn verdict(&mut self) -> Option<&mut Verdict> {
        match &mut self.state {
            RecordState::Kept { verdict, .. } | RecordState::Refused { verdict, .. } => Some(verdict),
            RecordState::Idle | RecordState::Open(_) | RecordState::Drafting { .. } => None,
        }
    }

    /// The same content has other attributes now: the kernel's pages stay right.
    pub(super) fn refresh(&mut self, attributes: Attributes) {
        let held = match &mut self.state {
            RecordState::Open(held) => held,
            RecordState::Kept { shown, .. } if attributes.kept_draft => return *shown = attributes,
            _ => return,
        };
        let known = &mut held.snapshot.attributes;
        if attributes.kept_draft || attributes.size != known.size {
            return;
        }
        if self.pages == Pages::Of(known.version) {
            self.pages = Pages::Of(attributes.version);
        }
        *known = attributes;
    }

    /// Lets go of what the volume has too, when nobody has the record open.
    pub(super) fn rest(&mut self) {
        if !self.is_open() && !self.is_unsaved() {
            self.state = RecordState::Idle;
        }
    }

    /// The name is gone: the draft will never be committed, and lives as long as somebody has it open.
    pub(super) fn abandon(&mut self) {
        if !self.is_open() {
            self.state = RecordState::Idle;
        }
    }

    fn distrust_pages(&mut self) {
        if self.pages != Pages::None {
            self.pages = Pages::Any;
        }
    }
}

#[cfg(test)]
mod tests;
