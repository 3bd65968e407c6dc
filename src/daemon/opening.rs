//! From a validated key to a session that is served, also where the volume does not answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::activity::Counters;
use super::refusal::{Answer, Refusal, RefusedAs};
use super::setup::{Setup, Start};
use super::wire::Code;
use crate::session::{Leased, apart};
use crate::volume::Followed;

/// How long a login waits for the volume.
const VOLUME: Duration = Duration::from_secs(4);

/// Opens and mounts what the key opens. Of a volume that hangs it says so in time, and nothing begins later by itself: what may wait
/// for the volume mounts nothing.
pub(super) async fn open_and_mount(
    setup: &Arc<Setup>,
    uid: u32,
    start: Start,
    counters: &Arc<Counters>,
) -> Answer<Leased> {
    // Before there is a thread for it: however many log in meanwhile, none waits.
    let answers = setup.volume.answers(VOLUME).await;
    answers.refused_as(Code::VolumeFailed)?;
    let counted = Arc::clone(counters);
    let (with, principal) = (Arc::clone(setup), start.validation.principal.clone());
    let opening = apart("open", move || with.open(uid, &principal, counted));
    let opened = match timeout(VOLUME, opening).await {
        Ok(opened) => opened.refused_as(Code::Failed)??,
        Err(_) => return Err(Refusal::new(Code::VolumeFailed, Followed::hangs())),
    };
    let with = Arc::clone(setup);
    let mounting = apart("start", move || with.mount(uid, start, opened));
    mounting.await.refused_as(Code::Failed)?
}
