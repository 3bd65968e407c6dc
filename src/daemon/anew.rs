//! Sessions whose volume was mounted anew: they end, for what they had open is dead, and come back by themselves.

use std::sync::Arc;

use super::live::Live;
use super::sessions::Sessions;
use super::slot::{Restoring, Slot};
use crate::event::Subject;
use crate::session::Ending;

impl Sessions {
    /// A session ends by itself, and comes back if it was not told to end before.
    pub(super) fn ends_by_itself(&self, live: &Live, ending: &Ending) {
        // Whoever ends sessions has the slots.
        let _slots = self.slots.lock();
        if *ending == Ending::VolumeReplaced && !live.is_ending() {
            live.come_back();
        }
        live.end(&ending.to_string());
    }

    /// A session has ended. What is to come back waits for that from now on.
    pub(super) fn vacate(self: &Arc<Self>, live: &Live) {
        let restoring = live.comes_back().then(|| {
            let observer = (self.setup.observers)(Subject {
                user: None,
                uid: live.uid,
            });
            Restoring::again(live, self.logins.begin(live.uid), observer)
        });
        let mut slots = self.slots.lock();
        let Some(restoring) = restoring.filter(|_| live.comes_back()) else {
            slots.remove(&live.uid);
            return;
        };
        slots.insert(live.uid, Slot::Restoring(Arc::clone(&restoring)));
        drop(slots);
        self.await_return(restoring);
    }
}
