//! Who is let in at the gate, by atomic values alone: whoever closes it needs no lock, no thread and no memory, and it
//! closes by itself when its time is up.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, Kind};

/// How long the kernel may bring what programs have mapped and changed, once nobody else gets in. Usually a tenth of a second
/// is enough. It is bounded here because whoever would end it earlier may not get a thread to do so.
const WRITE_BACK: Duration = Duration::from_secs(10);

/// Who is let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Admission {
    /// The session's user.
    Open,
    /// Nobody, until it is known again whether the user still may: EACCES.
    Suspended,
    /// Nobody, ever again: ENOTCONN.
    Ended,
}

impl Admission {
    /// What is said to who is not let in.
    pub(super) fn refusal(self) -> Error {
        match self {
            Self::Open | Self::Suspended => Error::new(Kind::AccessDenied, "the session is suspended"),
            Self::Ended => Error::new(Kind::NotConnected, "the session has ended"),
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            open if open == Self::Open as u8 => Self::Open,
            suspended if suspended == Self::Suspended as u8 => Self::Suspended,
            _ => Self::Ended,
        }
    }
}

/// What a gate knows of its session. Times are in nanoseconds since the host was started, the time that it slept included.
pub(super) struct Admitting {
    /// An [`Admission`]: what was said last.
    said: AtomicU8,
    /// When the session counts as suspended unless it is said before that it goes on. Its lease and the grace period are
    /// over then, whether or not anybody is there to notice.
    served_until: AtomicU64,
    /// Until when the kernel may bring what programs have mapped and changed, though nobody else is let in.
    write_back_until: AtomicU64,
}

impl Default for Admitting {
    fn default() -> Self {
        Self {
            said: AtomicU8::new(Admission::Open as u8),
            served_until: AtomicU64::new(u64::MAX),
            write_back_until: AtomicU64::new(0),
        }
    }
}

impl Admitting {
    /// Who is let in now.
    pub(super) fn now(&self) -> Admission {
        match self.said() {
            Admission::Open if since_boot() >= self.served_until.load(Ordering::SeqCst) => {
                Admission::Suspended
            }
            said => said,
        }
    }

    /// Whether the kernel may bring what programs have mapped: also for a while after nobody else gets in any more.
    pub(super) fn writes_back(&self) -> bool {
        let until = match self.said() {
            // Also when that time is up and nobody has said so yet.
            Admission::Open => later(self.served_until.load(Ordering::SeqCst), WRITE_BACK),
            Admission::Suspended | Admission::Ended => self.write_back_until.load(Ordering::SeqCst),
        };
        since_boot() < until
    }

    /// Lets the user in for so long from now on, unless that is said again.
    pub(super) fn serve_for(&self, time: Duration) {
        let until = later(since_boot(), time);
        self.served_until.store(until, Ordering::SeqCst);
    }

    /// Lets nobody in until [`resume`](Self::resume).
    pub(super) fn suspend(&self) {
        self.let_write_back();
        self.move_from(Admission::Open, Admission::Suspended);
    }

    /// Lets the user in again, if the session has not ended.
    pub(super) fn resume(&self) {
        self.move_from(Admission::Suspended, Admission::Open);
    }

    /// Lets nobody in ever again. Two stores: nothing that can fail comes before them.
    pub(super) fn end(&self) {
        self.let_write_back();
        self.said.store(Admission::Ended as u8, Ordering::SeqCst);
    }

    /// Lets not even the kernel bring what programs have mapped, once nobody else is let in.
    pub(super) fn end_write_back(&self) {
        self.write_back_until.store(0, Ordering::SeqCst);
    }

    fn said(&self) -> Admission {
        Admission::from_u8(self.said.load(Ordering::SeqCst))
    }

    fn let_write_back(&self) {
        let until = later(since_boot(), WRITE_BACK);
        self.write_back_until.store(until, Ordering::SeqCst);
    }

    /// Nothing leads back from the end.
    fn move_from(&self, from: Admission, to: Admission) {
        let _ = self
            .said
            .compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst);
    }
}

fn since_boot() -> u64 {
    later(0, Moment::now().since_boot())
}

fn later(nanos: u64, by: Duration) -> u64 {
    nanos.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_its_time_is_up_a_session_is_suspended_though_nobody_says_so() {
        let admitting = Admitting::default();
        assert_eq!(admitting.now(), Admission::Open);
        admitting.serve_for(Duration::ZERO);
        assert_eq!(admitting.now(), Admission::Suspended);
        assert!(admitting.writes_back(), "what was mapped before");
        admitting.serve_for(Duration::from_secs(60));
        assert_eq!(admitting.now(), Admission::Open, "its lease was renewed");
    }

    #[test]
    fn nothing_leads_back_from_the_end() {
        let admitting = Admitting::default();
        admitting.end();
        admitting.resume();
        admitting.serve_for(Duration::from_secs(60));
        admitting.suspend();
        assert_eq!(admitting.now(), Admission::Ended);
    }

    #[test]
    fn what_is_mapped_is_written_back_after_the_end_until_that_ends_too() {
        let admitting = Admitting::default();
        admitting.suspend();
        assert!(admitting.writes_back());
        admitting.end_write_back();
        assert!(!admitting.writes_back());
        admitting.end();
        assert!(admitting.writes_back());
        admitting.end_write_back();
        assert!(!admitting.writes_back());
    }
}
