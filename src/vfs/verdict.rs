//! What becomes of a draft, and who is told: decisions alone, without any effect.

use crate::error::Kind;

/// Why a draft is settled, which decides how an unfinished one is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Occasion {
    /// A descriptor is closed, by the process that opened it or by one that inherited it: `(cat a; cat b) > x.json`
    /// closes it twice, and the first time is not the end of the write.
    Close {
        /// Whether it is the opener's.
        by_opener: bool,
        /// Whether it was written through.
        wrote: bool,
    },
    /// The caller wants to know that it is on the disk.
    Sync,
    /// The kernel syncs what an O_SYNC descriptor has written: the text need not be complete yet.
    Write,
    /// Nobody is left who could go on writing, and nobody to hear of an error.
    Last,
    /// The session ends: whatever is not saved now is lost.
    End,
    /// The size was changed by path: what is left need not be a record yet.
    Resize,
}

/// What became of an attempt to commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// The volume did not take it, whatever it is: it stays where it is, in memory, and the caller hears why.
    StayAndTell,
    /// More is likely to come: it stays where it is.
    Stay,
    /// It cannot be the record. The volume keeps it; the caller hears why.
    KeepAndTell,
    /// It cannot be the record. The volume keeps it; that is no error to the caller.
    Keep,
}

impl Occasion {
    /// What to do with a draft that could not be committed.
    pub(super) fn next(self, is_empty: bool, why: Kind) -> Next {
        if !is_about_the_text(why) {
            return Next::StayAndTell;
        }
        match self {
            // A shell duplicates the descriptor and closes the first before anything is written.
            Self::Close { .. } if is_empty => Next::Stay,
            Self::Close { by_opener: false, .. } if why == Kind::IncompleteRecord => Next::Stay,
            _ if is_empty => Next::Keep,
            Self::Write => Next::Keep,
            Self::Resize if why == Kind::IncompleteRecord => Next::Keep,
            Self::Close { .. } | Self::Sync | Self::Last | Self::End | Self::Resize => Next::KeepAndTell,
        }
    }

    /// Whether the caller hears what is wrong with a draft that was judged before.
    pub(super) fn hears(self, why: Kind) -> bool {
        match self {
            Self::Close { by_opener, wrote } => wrote && (by_opener || why != Kind::IncompleteRecord),
            Self::Sync | Self::End | Self::Resize => true,
            Self::Write | Self::Last => false,
        }
    }

    /// Whether the caller hears what went wrong just now: of a descriptor that wrote nothing, the close says nothing.
    pub(super) fn answers(self) -> bool {
        !matches!(self, Self::Close { wrote: false, .. })
    }
}

/// Whether the text itself is wrong: keeping it is all that can be done.
fn is_about_the_text(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::InvalidRecord | Kind::IncompleteRecord | Kind::PlainSecret | Kind::TooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Occasion = Occasion::Close {
        by_opener: true,
        wrote: true,
    };
    const INHERITED: Occasion = Occasion::Close {
        by_opener: false,
        wrote: true,
    };
    const IDLE: Occasion = Occasion::Close {
        by_opener: true,
        wrote: false,
    };

    #[test]
    fn what_becomes_of_a_draft_that_is_no_record() {
        use Occasion::{End, Last, Resize, Sync, Write};
        let (incomplete, invalid) = (Kind::IncompleteRecord, Kind::InvalidRecord);
        for (occasion, is_empty, why, next) in [
            (OWN, true, incomplete, Next::Stay),
            (OWN, false, incomplete, Next::KeepAndTell),
            (OWN, false, invalid, Next::KeepAndTell),
            (OWN, false, Kind::TooLarge, Next::KeepAndTell),
            (OWN, false, Kind::NoSpace, Next::StayAndTell),
            (INHERITED, true, incomplete, Next::Stay),
            (INHERITED, false, incomplete, Next::Stay),
            (INHERITED, false, invalid, Next::KeepAndTell),
            (INHERITED, false, Kind::Io, Next::StayAndTell),
            (Sync, true, incomplete, Next::Keep),
            (Sync, false, incomplete, Next::KeepAndTell),
            (Sync, false, Kind::ReadOnly, Next::StayAndTell),
            (Write, true, incomplete, Next::Keep),
            (Write, false, incomplete, Next::Keep),
            (Write, false, invalid, Next::Keep),
            (Write, false, Kind::NoSpace, Next::StayAndTell),
            (Last, true, incomplete, Next::Keep),
            (Last, false, incomplete, Next::KeepAndTell),
            (End, false, Kind::PlainSecret, Next::KeepAndTell),
            (Resize, true, incomplete, Next::Keep),
            (Resize, false, incomplete, Next::Keep),
            (Resize, false, invalid, Next::KeepAndTell),
        ] {
            let decided = occasion.next(is_empty, why);
            assert_eq!(decided, next, "{occasion:?}, empty {is_empty}, {why:?}");
        }
    }

    #[test]
    fn who_hears_of_a_draft_that_was_refused_before() {
        let (incomplete, invalid) = (Kind::IncompleteRecord, Kind::InvalidRecord);
        for (occasion, why, hears) in [
            (OWN, incomplete, true),
            (OWN, invalid, true),
            (IDLE, invalid, false),
            (INHERITED, incomplete, false),
            (INHERITED, invalid, true),
            (Occasion::Sync, incomplete, true),
            (Occasion::Write, invalid, false),
            (Occasion::Last, invalid, false),
            (Occasion::End, invalid, true),
        ] {
            assert_eq!(occasion.hears(why), hears, "{occasion:?}, {why:?}");
        }
    }
}
