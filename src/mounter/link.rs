//! What connects a server to its mounter, and to the next one.
//!
//! A listening mounter may die at any moment of a request, and the request is then made again, to the next mounter:
//! - An unmount that was done is not done twice: its mount is gone, which is a success.
//! - A mount that was made, and whose answer was lost, is a mount without a server, since its /dev/fuse descriptor was in
//!   that answer. The next mounter is first told which mounts are this server's, and then ends what else is in its
//!   `places`, this one too; only then it is asked for the mount again. A server that has declared no `places` is told
//!   that something is mounted there already.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::patience::Patience;
use super::protocol::{Claim, MAX_LIST, MountRequest, Places, Reply, Request};
use super::reach::{self, Answer, failure, unexpected};
use super::seqpacket::{self, Fault};
use crate::clock::Stopwatch;
use crate::error::{Doing, Error, Kind, Result};
use crate::escape::quoted;

/// How long a forked one may take to end, and how often it is looked whether it has.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// How long a request waits for the next mounter, and how often it is looked whether it is there.
const PATIENCE_FOR_THE_NEXT: Duration = Duration::from_secs(2);
const POLL_FOR_THE_NEXT: Duration = Duration::from_millis(50);

/// How long no other request waits after one has done so in vain: they come in crowds.
const IMPATIENCE: Duration = Duration::from_secs(10);

/// How long to wait between attempts to reconnect when nobody asks for anything: the first time, and at most.
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The connection, whichever mounter is at its other end.
pub(super) struct Link {
    side: Side,
    patience: Arc<Patience>,
    /// Locked during a request: one at a time.
    state: Mutex<State>,
}

enum Side {
    Forked(Mutex<Child>),
    Listening(PathBuf),
}

struct State {
    patience: Arc<Patience>,
    /// Nothing, once it is closed.
    socket: Option<Arc<OwnedFd>>,
    /// How many answers are yet to come for requests that were given up. The connection cannot be: it has the mounts.
    late: usize,
    /// The mounts that this server has.
    mounts: HashSet<Claim>,
    /// Those of them that were given up, and are still to be ended.
    unwanted: Vec<Claim>,
    places: Option<PathBuf>,
    /// Whether the mounter knows all that.
    told: bool,
    /// When a request last waited for a mounter in vain, if none has come since.
    waited: Option<Stopwatch>,
}

impl Link {
    /// Starts a mounter for this process.
    pub(super) fn fork(log: Stdio) -> Result<Self> {
        let (ours, child) = reach::start(log).map_err(|error| {
            error
                .context("the mounter cannot be started")
                .as_kind(Kind::MountFailed)
        })?;
        let patience = Arc::new(Patience::new()?);
        Ok(Self {
            side: Side::Forked(Mutex::new(child)),
            state: Mutex::new(State::of(ours, Arc::clone(&patience))),
            patience,
        })
    }

    /// Connects to the mounter at `address`, and has a thread reconnect when it goes away.
    pub(super) fn connect(address: &Path) -> Result<Arc<Self>> {
        let address =
            std::path::absolute(address).doing("making the path of the mounter's socket absolute")?;
        let patience = Arc::new(Patience::new()?);
        let socket = reach::open(&address, &patience)?;
        let link = Arc::new(Self {
            state: Mutex::new(State::of(socket, Arc::clone(&patience))),
            side: Side::Listening(address.clone()),
            patience,
        });
        let weak = Arc::downgrade(&link);
        thread::Builder::new()
            .name("mounter".to_owned())
            .spawn(move || watch(&weak, &address))
            .doing("starting a thread")?;
        Ok(link)
    }

    pub(super) fn mount(&self, request: MountRequest) -> Result<(Claim, OwnedFd)> {
        let mut state = self.state.lock();
        let (shown, quoted) = (
            request.mountpoint.display().to_string(),
            quoted(&request.mountpoint),
        );
        let answer = self
            .ask(&mut state, &Request::Mount(request))
            .map_err(|error| match &self.side {
                // No other mounter comes that would end it.
                Side::Forked(_) => error.context(format_args!(
                    "{shown} may have been mounted; if it was, run: umount -l {quoted}"
                )),
                Side::Listening(_) => error,
            });
        match answer? {
            (Reply::Mounted { claim, warnings }, Some(connection)) => {
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                state.add(claim.clone());
                Ok((claim, connection))
            }
            answer => Err(failure(answer)),
        }
    }

    pub(super) fn unmount(&self, claim: &Claim) -> Result<()> {
        let mut state = self.state.lock();
        match self.ask(&mut state, &Request::Unmount(claim.clone()))? {
            (Reply::Unmounted, _) => {
                state.mounts.remove(claim);
                Ok(())
            }
            answer => Err(failure(answer)),
        }
    }

    /// Ends every wait for the mounter, those of other threads too.
    pub(super) fn give_up(&self) {
        self.patience.give_up();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.patience.is_over()
    }

    /// Has a mount ended whose owner does not wait for it any more.
    pub(super) fn abandon(&self, claim: Claim) {
        self.state.lock().unwanted.push(claim);
    }

    pub(super) fn take_over(&self, places: PathBuf) -> Result<Vec<String>> {
        let mut state = self.state.lock();
        state.places = Some(places);
        state.told = false;
        self.persist(&mut state, State::catch_up)
    }

    fn ask(&self, state: &mut State, request: &Request) -> Result<Answer> {
        self.persist(state, |state| {
            let warnings = state.catch_up()?;
            warnings.iter().for_each(|warning| log::warn!("{warning}"));
            state.say(request)
        })
    }

    /// Attempts something, and once more if there is another mounter.
    fn persist<T>(
        &self,
        state: &mut State,
        attempt: impl Fn(&mut State) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let Side::Listening(address) = &self.side else {
            // An answer that comes too late would be taken for the next one's: there is no next one.
            return attempt(state).map_err(|fault| {
                state.socket = None;
                fault.into()
            });
        };
        let mut attempted = 0;
        loop {
            if self.patience.is_over() {
                return Err(Fault::Late.into());
            }
            if state.socket.is_none() {
                let waited = state.waited.is_some_and(|since| since.elapsed() < IMPATIENCE);
                let longest = match waited {
                    true => Duration::ZERO,
                    false => PATIENCE_FOR_THE_NEXT,
                };
                let next = wait_for_the_next(address, longest, &self.patience);
                if next.is_err() && !waited {
                    state.waited = Some(Stopwatch::start());
                }
                state.renew(next?);
            }
            attempted += 1;
            match attempt(state) {
                Err(Fault::Closed) => state.socket = None,
                other => return other.map_err(Error::from),
            }
            if attempted == 2 {
                return Err(Fault::Closed.into());
            }
        }
    }

    /// The connection to the next mounter, while nobody asks for anything.
    fn resume(&self, socket: OwnedFd) {
        let mut state = self.state.lock();
        // A request was faster.
        if state.socket.is_some() {
            return;
        }
        state.renew(socket);
        match state.catch_up() {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                log::info!(
                    "connected to another mounter; it has {} mounts",
                    state.mounts.len()
                );
            }
            Err(Fault::Closed) => state.socket = None,
            Err(fault) => log::warn!("{fault}"),
        }
    }

    fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.state.lock().socket.clone()
    }

    /// `socket` was closed by the other side.
    fn lose(&self, socket: &Arc<OwnedFd>) {
        let mut state = self.state.lock();
        if state.socket.as_ref().is_some_and(|own| Arc::ptr_eq(own, socket)) {
            state.socket = None;
            log::warn!("the mounter is gone; its mounts stay, and the next one takes them over");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let socket = self.state.get_mut().socket.take();
        match &mut self.side {
            Side::Listening(_) => {
                // The thread that watches it has it open too.
                let _ = socket.map(|socket| rustix::net::shutdown(&socket, Shutdown::Both));
            }
            Side::Forked(child) => {
                // The mounter ends with the socket: then it can be waited for.
                drop(socket);
                let (child, watch) = (child.get_mut(), Stopwatch::start());
                while matches!(child.try_wait(), Ok(None)) {
                    // One that has kept everything waiting already is not waited for again.
                    if watch.elapsed() > PATIENCE_AT_THE_END || self.patience.is_over() {
                        return log::error!("the mounter does not end; see process {}", child.id());
                    }
                    thread::sleep(POLL);
                }
            }
        }
    }
}

impl State {
    fn of(socket: OwnedFd, patience: Arc<Patience>) -> Self {
        Self {
            patience,
            socket: Some(Arc::new(socket)),
            late: 0,
            mounts: HashSet::new(),
            unwanted: Vec::new(),
            places: None,
            // There is nothing to tell.
            told: true,
            waited: None,
        }
    }

    /// Goes on with a mounter that knows nothing yet.
    fn renew(&mut self, socket: OwnedFd) {
        self.socket = Some(Arc::new(socket));
        self.late = 0;
        self.told = false;
        self.waited = None;
    }

    /// Has another mount. One with the same entry is gone.
    fn add(&mut self, claim: Claim) {
        self.mounts.retain(|other| other.entry != claim.entry);
        self.mounts.insert(claim);
    }

    /// Sends a request and waits for its answer.
    fn say(&mut self, request: &Request) -> std::result::Result<Answer, Fault> {
        let socket = self.socket.clone().ok_or(Fault::Closed)?;
        seqpacket::send(&socket, request, None)?;
        let answer = reach::receive(&socket, &self.patience);
        if matches!(answer, Err(Fault::Late)) {
            self.late += 1;
        }
        answer
    }

    /// Does what has to be done before the next request. Returns what the mounter warns of.
    fn catch_up(&mut self) -> std::result::Result<Vec<String>, Fault> {
        while self.late > 0 {
            let socket = self.socket.clone().ok_or(Fault::Closed)?;
            let (reply, _) = reach::receive(&socket, &self.patience)?;
            self.late -= 1;
            // Nobody waits for this mount any more.
            if let Reply::Mounted { claim, .. } = reply {
                self.add(claim.clone());
                self.unwanted.push(claim);
            }
        }
        let mut warnings = Vec::new();
        if !self.told {
            for request in self.introduction() {
                match self.say(&request)? {
                    (Reply::Adopted { warnings: more }, _) => warnings.extend(more),
                    (Reply::Failed(why), _) => warnings.push(why),
                    _ => return Err(unexpected()),
                }
            }
            self.told = true;
        }
        while let Some(claim) = self.unwanted.last().cloned() {
            let (reply, _) = self.say(&Request::Unmount(claim.clone()))?;
            self.unwanted.pop();
            match reply {
                Reply::Unmounted => _ = self.mounts.remove(&claim),
                // It ends with the connection, if it can be ended then.
                Reply::Failed(why) => warnings.push(why),
                _ => return Err(unexpected()),
            }
        }
        Ok(warnings)
    }

    /// What a mounter has to know: all mounts, in as many messages as that takes; and, last, the places.
    fn introduction(&self) -> Vec<Request> {
        let mut parts = vec![Vec::new()];
        let mut room = MAX_LIST;
        for claim in &self.mounts {
            if claim.size() > room {
                parts.push(Vec::new());
                room = MAX_LIST;
            }
            room = room.saturating_sub(claim.size());
            if let Some(part) = parts.last_mut() {
                part.push(claim.clone());
            }
        }
        let mut requests: Vec<_> = parts
            .into_iter()
            .map(|mounts| Request::Adopt { mounts, places: None })
            .collect();
        if let (Some(Request::Adopt { places, .. }), Some(own)) = (requests.last_mut(), &self.places) {
            *places = Some(Places(own.clone()));
        }
        requests
    }
}

/// Reconnects when the mounter goes away, so that the next one knows the mounts and ends them with this server, even if
/// nothing is asked of it until then.
fn watch(link: &Weak<Link>, address: &Path) {
    let mut pause = PAUSE;
    loop {
        let Some((socket, patience)) = link
            .upgrade()
            .map(|link| (link.socket(), Arc::clone(&link.patience)))
        else {
            return;
        };
        if patience.is_over() {
            return;
        }
        if let Some(socket) = socket {
            wait_for_the_end(&socket);
            let Some(link) = link.upgrade() else { return };
            link.lose(&socket);
            pause = PAUSE;
            continue;
        }
        // Not under the lock: a mounter that does not answer would keep requests waiting.
        match reach::open(address, &patience) {
            Ok(socket) => match link.upgrade() {
                Some(link) => link.resume(socket),
                None => return,
            },
            Err(error) => {
                log::debug!("reconnecting: {error}");
                patience.sleep(pause);
                pause = MAX_PAUSE.min(pause * 2);
            }
        }
    }
}

/// Returns when the other side has closed the socket, or this side has shut it down.
fn wait_for_the_end(socket: &OwnedFd) {
    loop {
        let mut closed = [PollFd::new(socket, PollFlags::RDHUP)];
        match poll(&mut closed, None) {
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

fn wait_for_the_next(address: &Path, longest: Duration, patience: &Patience) -> Result<OwnedFd> {
    let watch = Stopwatch::start();
    loop {
        match reach::open(address, patience) {
            Err(_) if watch.elapsed() < longest && !patience.is_over() => patience.sleep(POLL_FOR_THE_NEXT),
            result => return result,
        }
    }
}
