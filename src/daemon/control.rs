//! The control socket: who connects, how much they may send, and how long they may take.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::refusal::{Answer, Refusal, RefusedAs};
use super::requests::Requests;
use super::sessions::Sessions;
use super::wire::{Code, Reply, Request, Whose};
use crate::error::{Error, Kind};

/// How long a client may take to send its request, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a logout waits until its session is unmounted, and root for the sessions that it revokes. Nobody gets in any more
/// by then; what takes longer goes on by itself.
const UNMOUNT: Duration = Duration::from_secs(60);
const REVOKE: Duration = Duration::from_secs(1);

/// How many connections those without a session may have at once, all together, and how many of these are for sources that
/// have none yet: a crowd's must not be everybody's.
const STRANGERS: usize = 128;
const STRANGERS_BEYOND_FIRST: usize = 64;

/// How many those with a session may have at once, all together; each may have some of their own whatever others have.
const MEMBERS: usize = 192;
const MEMBERS_OWN: usize = 2;

/// How many one source may have, or one uid with a session.
const OF_ONE: usize = 8;

/// How often it is looked whether a client that waits for an answer is still there.
const HANGS_UP: Duration = Duration::from_millis(100);

/// How long accepting rests when it fails: for want of descriptors, for example.
const REST: Duration = Duration::from_millis(100);

/// Connections by who has them.
type Counts = Mutex<HashMap<Party, usize>>;

/// Answers whoever connects, for ever.
pub(super) async fn serve(listener: &UnixListener, sessions: &Arc<Sessions>) {
    let counts = Arc::new(Counts::default());
    let mut spare = None;
    loop {
        spare = spare.or_else(|| File::open("/dev/null").ok());
        let accepted = listener.accept().await;
        let is_short = accepted.as_ref().is_err_and(is_shortage) && spare.take().is_some();
        // Who comes then may be root, who is to end what takes the descriptors.
        let accepted = if is_short {
            listener.accept().await
        } else {
            accepted
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("accepting a control connection: {error}");
                sleep(REST).await;
                continue;
            }
        };
        // Whom the kernel does not name gets no answer.
        let Ok(peer) = stream.peer_cred() else { continue };
        let peer = Peer {
            uid: peer.uid(),
            pid: peer.pid().and_then(|pid| pid.try_into().ok()).unwrap_or_default(),
        };
        let admitted = match is_short && peer.uid != 0 {
            true => None,
            false => Counted::admit(&counts, Party::of(peer.uid, sessions)),
        };
        match admitted {
            Some(counted) => {
                let sessions = Arc::clone(sessions);
                tokio::spawn(async move {
                    converse(stream, peer, &sessions).await;
                    drop(counted);
                });
            }
            None => {
                let why = "too many connections to the daemon at once; try again in a moment";
                let reply = line(&Reply::Error(Refusal::busy(why).told(false)));
                // As much as goes in without waiting.
                let _ = stream.try_write(&reply);
            }
        }
    }
}

/// Whether there is no descriptor to be had.
fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Who asks, as the kernel says.
#[derive(Clone, Copy)]
struct Peer {
    uid: u32,
    /// None that can be named is 0.
    pid: u32,
}

/// Who has connections: those of one must not be everybody's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Party {
    /// Sees and ends what floods, so it is not bounded.
    Root,
    /// A uid that has a session.
    Member(u32),
    /// All uids without one that were given to one account.
    Stranger(u32),
}

impl Party {
    fn of(uid: u32, sessions: &Sessions) -> Self {
        match uid {
            0 => Self::Root,
            uid if sessions.has(uid) => Self::Member(uid),
            uid => Self::Stranger(sessions.source(uid)),
        }
    }

    /// Whether it may have another connection, by how many there are.
    fn may_connect(self, counts: &HashMap<Self, usize>) -> bool {
        let own = counts.get(&self).copied().unwrap_or_default();
        let sum = |counted: fn(&Self) -> bool| -> usize {
            let all = counts.iter().filter(|(party, _)| counted(party));
            all.map(|(_, count)| count).sum()
        };
        match self {
            Self::Root => true,
            Self::Member(_) if own < MEMBERS_OWN => true,
            Self::Member(_) => own < OF_ONE && sum(|party| matches!(party, Self::Member(_))) < MEMBERS,
            Self::Stranger(_) => {
                let most = if own == 0 {
                    STRANGERS
                } else {
                    STRANGERS_BEYOND_FIRST
                };
                own < OF_ONE && sum(|party| matches!(party, Self::Stranger(_))) < most
            }
        }
    }
}

/// A connection that is counted as long as this lives.
struct Counted {
    counts: Arc<Counts>,
    party: Party,
}

impl Counted {
    fn admit(counts: &Arc<Counts>, party: Party) -> Option<Self> {
        let mut all = counts.lock();
        if !party.may_connect(&all) {
            return None;
        }
        *all.entry(party).or_default() += 1;
        Some(Self {
            counts: Arc::clone(counts),
            party,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.counts.lock();
        if let Some(own) = all.get_mut(&self.party) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.party);
            }
        }
    }
}

/// Answers line by line, until the client has no more or takes too long.
async fn converse(mut stream: UnixStream, peer: Peer, sessions: &Arc<Sessions>) {
    let uid = peer.uid;
    let mut requests = Requests::default();
    loop {
        let answer = match timeout(PATIENCE, requests.next(&mut stream)).await {
            Err(_) | Ok(Ok(None)) => return,
            Ok(Ok(Some(request))) => {
                let only_looks = request.only_looks();
                tokio::select! {
                    answer = answer(request, peer, sessions) => answer,
                    () = hung_up(&stream), if only_looks => return,
                }
            }
            Ok(Err(error)) => Err(error).refused_as(Code::BadRequest),
        };
        let done = matches!(&answer, Err(refusal) if refusal.code == Code::BadRequest);
        let reply = answer.unwrap_or_else(|refusal| {
            if refusal.is_operators() {
                sessions.unanswered(uid, &refusal.error);
            }
            Reply::Error(refusal.told(is_operator(uid)))
        });
        let sent = timeout(PATIENCE, stream.write_all(&line(&reply))).await;
        if done || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Waits until the client is gone. One that only sends no more still waits for its answer.
async fn hung_up(stream: &UnixStream) {
    let is_gone = || {
        let mut polled = [PollFd::new(stream, PollFlags::empty())];
        let polled_now = poll(&mut polled, Some(&Timespec::default()));
        polled_now.is_ok() && polled.iter().any(|fd| fd.revents().contains(PollFlags::HUP))
    };
    while !is_gone() {
        sleep(HANGS_UP).await;
    }
}

/// Whether a client may know where on the volume something is: root, and the account that this process has.
fn is_operator(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

async fn answer(request: Request, asker: Peer, sessions: &Arc<Sessions>) -> Answer<Reply> {
    let Peer { uid: peer, pid } = asker;
    match request {
        Request::Login { key, uid, gid } => {
            let uid = subject(peer, uid)?;
            let status = sessions.login(uid, gid, key, peer == 0).await?;
            Ok(Reply::Session(Box::new(status)))
        }
        Request::Logout { uid } => {
            let uid = subject(peer, uid)?;
            sessions
                .end(&Whose::Uid(uid), "logged out", UNMOUNT)
                .await
                .map(Reply::Ended)
        }
        Request::Audit { lines, uid } => {
            let uid = subject(peer, uid)?;
            sessions.audited.events(peer, uid, lines).await.map(Reply::Events)
        }
        Request::Removed { uid } => sessions.removed(peer, subject(peer, uid)?).await,
        Request::Restore { path, uid } => sessions.restore_record(subject(peer, uid)?, pid, path).await,
        Request::Drafts { uid } => sessions.drafts(peer, subject(peer, uid)?).await,
        Request::Discard { path, uid } => sessions.discard(subject(peer, uid)?, pid, path).await,
        Request::Status { uid } => {
            let whose = match (peer, uid) {
                (0, None) => None,
                _ => Some(subject(peer, uid)?),
            };
            let told = sessions.status(whose, is_operator(peer)).await;
            Ok(Reply::Sessions(told))
        }
        Request::LastEnd { uid } => Ok(Reply::LastEnd(sessions.ends.of(subject(peer, uid)?))),
        Request::Activity {} if is_operator(peer) => Ok(Reply::Activity(sessions.activity())),
        Request::Doctor {} if is_operator(peer) => sessions.examine().await.map(Reply::Checks),
        Request::Activity {} | Request::Doctor {} => {
            Err(not_permitted("only root and the server's account may see this"))
        }
        Request::Hosts {} | Request::RevokeEverywhere(_) if peer != 0 => Err(not_permitted(
            "only root may see, or end, the sessions of every host",
        )),
        Request::Hosts {} => sessions.hosts().await.map(Reply::Hosts),
        Request::RevokeEverywhere(whose) => sessions.end_everywhere(&whose, "revoked").await,
        Request::Revoke(whose) => match peer {
            0 => sessions.end(&whose, "revoked", REVOKE).await.map(Reply::Ended),
            _ => Err(not_permitted(
                "only root may revoke sessions; to end your own, log out",
            )),
        },
    }
}

/// Whom a request is about: whoever asks, unless root names somebody.
fn subject(peer: u32, named: Option<u32>) -> Answer<u32> {
    match named {
        Some(uid) if peer != 0 && uid != peer => Err(not_permitted("only root may do this for another user")),
        named => Ok(named.unwrap_or(peer)),
    }
}

fn not_permitted(why: &'static str) -> Refusal {
    Refusal::new(Code::NotPermitted, Error::new(Kind::NotPermitted, why))
}

fn line(reply: &Reply) -> Vec<u8> {
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many connections as the party gets.
    fn all(counts: &Arc<Counts>, party: Party) -> Vec<Counted> {
        let more = || Counted::admit(counts, party);
        std::iter::from_fn(more).take(1000).collect()
    }

    #[test]
    fn a_crowd_of_strangers_takes_nothing_from_who_has_a_session_or_is_root() {
        let counts = Arc::new(Counts::default());
        let strangers: Vec<_> = (1000..3000)
            .flat_map(|source| all(&counts, Party::Stranger(source)))
            .collect();
        assert_eq!(strangers.len(), STRANGERS);
        assert_eq!(all(&counts, Party::Member(1)).len(), OF_ONE);
        assert_eq!(all(&counts, Party::Root).len(), 1000);
        drop(strangers);
        assert_eq!(counts.lock().len(), 0);
    }

    #[test]
    fn a_source_of_many_uids_is_one_and_leaves_the_first_of_others_theirs() {
        let counts = Arc::new(Counts::default());
        let crowd: Vec<_> = (1000..1100)
            .flat_map(|source| all(&counts, Party::Stranger(source)))
            .collect();
        let most = crowd
            .iter()
            .filter(|connection| connection.party == Party::Stranger(1000))
            .count();
        assert_eq!(most, OF_ONE);
        // Eight have eight each, the others one each until it is full.
        assert_eq!(crowd.len(), STRANGERS);
        drop(crowd);
        let crowd: Vec<_> = (1000..1008)
            .flat_map(|source| all(&counts, Party::Stranger(source)))
            .collect();
        assert_eq!(crowd.len(), STRANGERS_BEYOND_FIRST);
        assert_eq!(all(&counts, Party::Stranger(2)).len(), 1);
    }

    #[test]
    fn a_crowd_of_members_leaves_each_other_member_some() {
        let counts = Arc::new(Counts::default());
        let crowd: Vec<_> = (1000..1100)
            .flat_map(|uid| all(&counts, Party::Member(uid)))
            .collect();
        assert!(crowd.len() >= MEMBERS);
        assert_eq!(all(&counts, Party::Member(1)).len(), MEMBERS_OWN);
    }
}
