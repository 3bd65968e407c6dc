//! The one gate through which every request goes to the file system.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use fuser::Errno;
use tokio::sync::watch;

use super::admission::{Admission, Admitting};
use super::call::Call;
use super::errno::errno;
use super::inside::Inside;
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op, Operation, Pace, on_behalf_of};
use crate::vfs::Vfs;

/// How often it is looked whether the requests under way are done, and whether the gate closes before one that waits.
const POLL: Duration = Duration::from_millis(2);

/// Sees to it that only its user gets in, that nobody gets in while the session is suspended or after its end, and that
/// a panic stays inside.
pub(super) struct Gate {
    vfs: Vfs,
    /// What a request waits for is a few loads and the clock: never the network, never a lock.
    admitting: Admitting,
    /// Requests under way.
    inside: AtomicUsize,
    /// Set when the session should end for a reason of its own: a worker is gone.
    broken: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn new(vfs: Vfs) -> Arc<Self> {
        Arc::new(Self {
            vfs,
            admitting: Admitting::default(),
            inside: AtomicUsize::new(0),
            broken: watch::Sender::new(false),
        })
    }

    pub(super) fn vfs(&self) -> &Vfs {
        &self.vfs
    }

    /// Lets a request of the session's user in: all that name or open something.
    pub(super) fn user<T>(
        self: &Arc<Self>,
        call: &Call<'_>,
        work: impl FnOnce(&Vfs) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        // The kernel admits nobody else to a mount without allow_other: this is the second lock on that door.
        let (owner, _) = self.vfs.owner();
        if call.uid != owner {
            let reason = format!("asked by uid {}, not by the session's user", call.uid);
            return self.refuse(call, Kind::AccessDenied, reason);
        }
        self.kernel(call, work)
    }

    /// Lets a request in that the kernel may also make on its own: on handles, which a user was given.
    pub(super) fn kernel<T>(
        self: &Arc<Self>,
        call: &Call<'_>,
        work: impl FnOnce(&Vfs) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        self.pass(call, |admission| match admission {
            Admission::Open => self
                .wait_for_turn(call.op)
                .and_then(|()| self.admitted(call, work)),
            closed => Err(closed.refusal()),
        })
    }

    /// Lets in what the kernel brings of mapped files: also while the gate closes, for programs have changed it before and
    /// will not be told.
    pub(super) fn write_back<T>(
        self: &Arc<Self>,
        call: &Call<'_>,
        work: impl FnOnce(&Vfs) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        self.pass(call, |admission| match admission {
            Admission::Open => self.admitted(call, work),
            _ if self.admitting.writes_back() => self.admitted(call, work),
            closed => Err(closed.refusal()),
        })
    }

    /// Lets a request for content in, and its answer out only if that is still allowed: a volume may keep it waiting.
    pub(super) fn content<T>(
        self: &Arc<Self>,
        call: &Call<'_>,
        work: impl FnOnce(&Vfs) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        let content = self.kernel(call, work)?;
        match self.admission() {
            Admission::Open => Ok(content),
            closed => Err(errno(closed.refusal().kind())),
        }
    }

    /// Lets the kernel give back what it was given, also while the session is suspended: it does not offer it again. The
    /// work is told whether it may change the volume.
    pub(super) fn let_go(
        self: &Arc<Self>,
        call: &Call<'_>,
        work: impl FnOnce(&Vfs, bool),
    ) -> std::result::Result<(), Errno> {
        self.pass(call, |admission| match admission {
            Admission::Ended => Err(admission.refusal()),
            admission => self.guarded(call.op, |vfs| {
                work(vfs, admission == Admission::Open);
                Ok(())
            }),
        })
    }

    /// Refuses what nobody may do in a mount.
    pub(super) fn refuse<T>(
        self: &Arc<Self>,
        call: &Call<'_>,
        kind: Kind,
        reason: impl Into<String>,
    ) -> std::result::Result<T, Errno> {
        self.pass(call, |_| {
            // It is refused in any case, and its line may have to wait.
            self.wait_for_turn(call.op)?;
            let reason = reason.into();
            self.vfs.store().report(&Event::Denied {
                op: call.op,
                path: self.vfs.path(call.target),
                kind,
                reason: reason.clone(),
            });
            Err(Error::new(kind, reason))
        })
    }

    /// What every request goes through: counted while it is inside, timed, and told to whoever observes.
    fn pass<T>(
        self: &Arc<Self>,
        call: &Call<'_>,
        work: impl FnOnce(Admission) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        self.watch_worker();
        let _inside = Inside::enter(&self.inside);
        on_behalf_of(call.pid, || {
            let watch = Stopwatch::start();
            let result = work(self.admission());
            let path = || self.vfs.path(call.target);
            let to = || self.vfs.path(call.to);
            self.vfs.store().done(&Operation {
                op: call.op,
                how: &call.how,
                outcome: result.as_ref().map(|_| ()),
                elapsed: watch.elapsed(),
                path: &path,
                to: (call.op == Op::Rename).then_some(&to),
            });
            result.map_err(|error| errno(error.kind()))
        })
    }

    /// Waits as long as the observers say: on a worker of this session alone, under no lock, and only while the gate is open.
    fn wait_for_turn(&self, op: Op) -> Result<()> {
        let watch = Stopwatch::start();
        while let Pace::Wait(rest) = self.vfs.store().pace(op, watch.elapsed())? {
            thread::sleep(rest.min(POLL));
            match self.admission() {
                Admission::Open => {}
                closed => return Err(closed.refusal()),
            }
        }
        Ok(())
    }

    /// Does what its observers can take note of.
    fn admitted<T>(&self, call: &Call<'_>, work: impl FnOnce(&Vfs) -> Result<T>) -> Result<T> {
        self.vfs.store().admit(call.op)?;
        self.guarded(call.op, |vfs| {
            vfs.settle_held_back();
            work(vfs)
        })
    }

    /// Looks at what others changed on the volume, and saves what the volume did not take before. Returns when it has to be
    /// asked again, if something waits for that.
    pub(super) fn notice_changes(&self) -> Option<Duration> {
        let _ = self.guarded(Op::Lookup, |vfs| {
            vfs.notice_changes();
            Ok(())
        });
        let _inside = Inside::enter(&self.inside);
        match self.admission() {
            Admission::Open => {
                let settled = self.guarded(Op::Commit, |vfs| Ok(vfs.settle_held_back()));
                settled.ok().flatten()
            }
            // They are settled when the session is resumed, and when it ends.
            Admission::Suspended | Admission::Ended => None,
        }
    }

    fn admission(&self) -> Admission {
        self.admitting.now()
    }

    fn guarded<T>(&self, op: Op, work: impl FnOnce(&Vfs) -> Result<T>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(|| work(&self.vfs))) {
            Ok(result) => result,
            Err(_) => {
                self.vfs.store().report(&Event::Panicked { op });
                Err(Error::new(Kind::Io, "panic; this is a bug, please report it"))
            }
        }
    }

    /// Lets the user in for so long from now on, unless that is said again: then the session is suspended, whether or not
    /// anybody is there to notice.
    pub(super) fn serve_for(&self, time: Duration) {
        self.admitting.serve_for(time);
    }

    /// Lets nobody in until [`resume`](Self::resume) but the kernel, with what programs have mapped.
    pub(super) fn suspend(&self) {
        self.admitting.suspend();
    }

    /// Lets the session's user in again.
    pub(super) fn resume(&self) {
        self.admitting.resume();
    }

    /// Closes the gate for good, but for the kernel, with what programs have mapped. Nothing that can fail comes before.
    pub(super) fn close(&self) {
        self.admitting.end();
    }

    /// Lets not even the kernel in any more, once the gate is closed, and waits for those inside, for at most `patience`.
    /// Returns whether all came out.
    pub(super) fn lock(&self, patience: Duration) -> bool {
        self.admitting.end_write_back();
        self.drained(patience)
    }

    /// Waits for those inside, for at most `patience`. Returns whether all came out.
    pub(super) fn drained(&self, patience: Duration) -> bool {
        let watch = Stopwatch::start();
        while self.inside.load(Ordering::SeqCst) > 0 {
            if watch.elapsed() > patience {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Waits until a worker is gone.
    pub(super) async fn broken(&self) {
        // The sender is here: it cannot go before the value comes.
        let _ = self.broken.subscribe().wait_for(|broken| *broken).await;
    }

    /// Whether a worker is gone.
    pub(super) fn is_broken(&self) -> bool {
        *self.broken.borrow()
    }

    /// Ends every wait.
    pub(super) fn break_off(&self) {
        self.broken.send_replace(true);
    }

    /// A worker that unwinds in fuser's own code, outside this gate, would be gone without a word, and the last one
    /// would leave a mount that hangs. So its end is noticed, and ends the session.
    fn watch_worker(self: &Arc<Self>) {
        thread_local! {
            static WATCH: RefCell<Option<WorkerWatch>> = const { RefCell::new(None) };
        }
        WATCH.with_borrow_mut(|watch| {
            watch.get_or_insert_with(|| WorkerWatch(Arc::downgrade(self)));
        });
    }
}

/// Dropped with its thread.
struct WorkerWatch(Weak<Gate>);

impl Drop for WorkerWatch {
    fn drop(&mut self) {
        if let Some(gate) = self.0.upgrade() {
            gate.break_off();
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::super::call::How;
    use super::*;
    use crate::event::Observer;
    use crate::identity::{Principal, UserId};
    use crate::name::EntryName;
    use crate::store::{Options, Store};
    use crate::vfs::{Ino, PageCache, Pools, ROOT, Target};
    use crate::volume::Volume;

    struct NoPages;

    impl PageCache for NoPages {
        fn fill(&self, _: Ino, _: &[u8]) -> bool {
            false
        }

        fn drop_soon(&self, _: Ino) {}

        fn drop_attributes(&self, _: Ino) {}

        fn notice_soon(&self) {}

        fn drop_name(&self, _: Ino, _: &EntryName) {}

        fn drop_listing(&self, _: Ino) {}
    }

    #[derive(Default)]
    struct Noted(Mutex<Vec<Event>>);

    impl Observer for Noted {
        fn observe(&self, event: &Event) {
            self.0.lock().push(event.clone());
        }
    }

    fn call(op: Op) -> Call<'static> {
        Call {
            op,
            target: Target::Nothing,
            to: Target::Nothing,
            how: How::OnlyOne,
            uid: 1,
            pid: 1,
        }
    }

    fn gate() -> (Arc<Gate>, Arc<Noted>, tempfile::TempDir) {
        let directory = tempfile::TempDir::new().unwrap();
        let noted = Arc::new(Noted::default());
        let alice = Principal::authenticated(UserId::new("alice").unwrap());
        let volume = Volume::open(directory.path()).unwrap();
        let limits = Pools::alone().limits(alice.user()).unwrap();
        let store = Store::open(&volume, &alice, Options::default(), Arc::clone(&noted) as _).unwrap();
        (
            Gate::new(Vfs::new(store, 1, 1, Arc::new(NoPages), limits)),
            noted,
            directory,
        )
    }

    #[test]
    fn a_panic_is_eio_and_an_event_and_the_next_request_is_served() {
        let (gate, noted, _directory) = gate();
        let panicked = gate.kernel::<()>(&call(Op::Write), |_| panic!("a bug"));
        assert_eq!(panicked.unwrap_err().code(), libc::EIO);
        assert_eq!(*noted.0.lock(), [Event::Panicked { op: Op::Write }]);
        assert!(
            gate.kernel(&call(Op::Lookup), |vfs| vfs.lookup(ROOT, b"schedules", 1))
                .is_ok()
        );
        gate.close();
        assert!(gate.lock(Duration::ZERO), "nobody is inside");
    }

    #[test]
    fn after_the_end_nobody_gets_in_and_who_is_inside_is_waited_for() {
        let (gate, _, _directory) = gate();
        let (enter, entered) = std::sync::mpsc::channel();
        let (leave, left) = std::sync::mpsc::channel::<()>();
        thread::scope(|scope| {
            let gate = &gate;
            scope.spawn(move || {
                gate.kernel(&call(Op::Write), |_| {
                    enter.send(()).unwrap();
                    left.recv().map_err(|_| Error::new(Kind::Io, "nobody says when"))
                })
            });
            entered.recv().unwrap();
            gate.close();
            assert!(!gate.lock(Duration::from_millis(20)), "a request is inside");
            let refused = gate.kernel(&call(Op::Read), |_| Ok(()));
            assert_eq!(refused.unwrap_err().code(), libc::ENOTCONN);
            leave.send(()).unwrap();
        });
        assert!(gate.lock(Duration::ZERO));
    }

    #[test]
    fn while_the_gate_closes_only_what_programs_have_mapped_gets_in() {
        let (gate, _, _directory) = gate();
        let write = call(Op::Write);
        for close in [Gate::suspend, Gate::close] {
            close(&gate);
            assert!(gate.write_back(&write, |_| Ok(())).is_ok());
            assert!(gate.kernel(&write, |_| Ok(())).is_err());
            assert!(gate.lock(Duration::ZERO));
            assert!(gate.write_back(&write, |_| Ok(())).is_err());
            gate.resume();
        }
    }

    #[test]
    fn content_that_was_waited_for_too_long_is_not_given_out() {
        let (gate, _, _directory) = gate();
        let late = |change: &dyn Fn()| {
            let content = gate.content(&call(Op::Read), |_| {
                change();
                Ok("late")
            });
            content.unwrap_err().code()
        };
        assert_eq!(late(&|| gate.suspend()), libc::EACCES);
        gate.resume();
        assert_eq!(
            gate.content(&call(Op::Read), |_| Ok("in time")).unwrap(),
            "in time"
        );
        assert_eq!(late(&|| gate.close()), libc::ENOTCONN);
    }

    #[test]
    fn a_suspended_session_refuses_all_but_what_is_given_back_and_comes_back() {
        let (gate, _, _directory) = gate();
        gate.suspend();
        let refused = gate.kernel(&call(Op::Read), |_| Ok(()));
        assert_eq!(refused.unwrap_err().code(), libc::EACCES);
        let mut may_change = None;
        assert!(
            gate.let_go(&call(Op::Release), |_, may| may_change = Some(may))
                .is_ok()
        );
        assert_eq!(may_change, Some(false));
        gate.resume();
        assert!(gate.kernel(&call(Op::Read), |_| Ok(())).is_ok());
        gate.close();
        gate.resume();
        gate.suspend();
        let refused = gate.kernel(&call(Op::Read), |_| Ok(()));
        assert_eq!(refused.unwrap_err().code(), libc::ENOTCONN, "the end is the end");
    }

    #[tokio::test]
    async fn a_worker_that_is_gone_ends_the_wait() {
        let (gate, _, _directory) = gate();
        let worker = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.kernel(&call(Op::Getattr), |_| Ok(())).is_ok()
        });
        assert!(worker.join().unwrap());
        gate.broken().await;
        assert!(gate.is_broken());
    }
}
