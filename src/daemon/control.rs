//! The control socket: who connects, how much they may send, and how long they may take.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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

/// How many connections there may be at once, and how many of one uid: one user's must not be everybody's. Root is not
/// counted, so that it can see and end what floods.
const MAX_CONNECTIONS: usize = 256;
const MAX_CONNECTIONS_OF_ONE: usize = 8;

/// How long accepting rests when it fails: for want of descriptors, for example.
const REST: Duration = Duration::from_millis(100);

/// Connections by uid.
type Counts = Mutex<HashMap<u32, usize>>;

/// Answers whoever connects, for ever.
pub(super) async fn serve(listener: &UnixListener, sessions: &Arc<Sessions>) {
    let counts = Arc::new(Counts::default());
    loop {
        let accepted = listener.accept().await;
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
        match Counted::admit(&counts, peer.uid) {
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

/// Who asks, as the kernel says.
#[derive(Clone, Copy)]
struct Peer {
    uid: u32,
    /// None that can be named is 0.
    pid: u32,
}

/// A connection that is counted as long as this lives.
struct Counted {
    counts: Arc<Counts>,
    uid: u32,
}

impl Counted {
    fn admit(counts: &Arc<Counts>, uid: u32) -> Option<Self> {
        let mut by_uid = counts.lock();
        let all: usize = by_uid.values().sum();
        let own = by_uid.entry(uid).or_default();
        let full = *own >= MAX_CONNECTIONS_OF_ONE || all >= MAX_CONNECTIONS;
        if full && uid != 0 {
            return None;
        }
        *own += 1;
        Some(Self {
            counts: Arc::clone(counts),
            uid,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_uid = self.counts.lock();
        if let Some(own) = by_uid.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                by_uid.remove(&self.uid);
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
            Ok(Ok(Some(request))) => answer(request, peer, sessions).await,
            Ok(Err(error)) => Err(error).refused_as(Code::BadRequest),
        };
        let done = matches!(&answer, Err(refusal) if refusal.code == Code::BadRequest);
        let reply = answer.unwrap_or_else(|refusal| {
            if refusal.is_operators() {
                log::warn!("asked by uid {uid}: {:#}", refusal.error);
            }
            Reply::Error(refusal.told(is_operator(uid)))
        });
        let sent = timeout(PATIENCE, stream.write_all(&line(&reply))).await;
        if done || !matches!(sent, Ok(Ok(()))) {
            return;
        }
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
            sessions.login(uid, gid, key).await.map(Reply::Session)
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
        Request::Removed { uid } => sessions.removed(subject(peer, uid)?).await,
        Request::Restore { path, uid } => sessions.restore_record(subject(peer, uid)?, pid, path).await,
        Request::Drafts { uid } => sessions.drafts(subject(peer, uid)?).await,
        Request::Discard { path, uid } => sessions.discard(subject(peer, uid)?, pid, path).await,
        Request::Status {} => Ok(Reply::Sessions(sessions.status(peer).await)),
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
