//! Waits for a moment, and does not oversleep it when the host sleeps.

use std::fs::File;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

use crate::clock::Moment;
use crate::error::{Doing, Result};

/// How often the clock is looked at where there is no timer: for want of descriptors, for example.
const LOOK: Duration = Duration::from_secs(1);

/// A timer of the kernel's by [`Moment`]s. tokio's stand still while the host sleeps.
///
/// It is waited for as for a pipe, which is all the same to tokio: it waits until there is something to read, and reads.
/// What tokio has for any descriptor is unsafe.
pub(super) struct Alarm(Option<Receiver>);

impl Alarm {
    pub(super) fn new() -> Self {
        match timer() {
            Ok(timer) => Self(Some(timer)),
            Err(error) => {
                log::warn!("{error:#}; the clock is looked at each second");
                Self(None)
            }
        }
    }

    /// Waits until `moment`; for ever, if there is none. One waits at a time.
    pub(super) async fn at(&self, moment: Option<Moment>) {
        let Some(moment) = moment else {
            return std::future::pending().await;
        };
        // Whatever wakes it, it is the clock that says whether it is time.
        loop {
            let left = moment.saturating_duration_since(Moment::now());
            if left.is_zero() {
                return;
            }
            let rang = match &self.0 {
                Some(timer) => rings(timer, moment).await,
                None => false,
            };
            if !rang {
                sleep(left.min(LOOK)).await;
            }
        }
    }
}

/// Waits until it rings, for this moment or for one that it was set for before; false if that cannot be waited for.
async fn rings(timer: &Receiver, moment: Moment) -> bool {
    let rang = set(timer, moment).is_ok() && timer.readable().await.is_ok();
    // How often it rang; or that it has not, after all, which is news to tokio then.
    let _ = timer.try_read(&mut [0; 8]);
    rang
}

fn timer() -> Result<Receiver> {
    let doing = "making the timer of a lease";
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Boottime, flags).doing(doing)?;
    Receiver::from_file_unchecked(File::from(timer)).doing(doing)
}

/// Has it ring at `moment`, and no more for what was set before.
fn set(timer: &Receiver, moment: Moment) -> rustix::io::Result<()> {
    let value = Itimerspec {
        it_interval: Timespec::default(),
        it_value: moment.since_boot().try_into().unwrap_or_default(),
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &value).map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_when_it_is_time_and_can_be_set_again() {
        for alarm in [Alarm::new(), Alarm(None)] {
            for wait in [30, 0, 60] {
                let wait = Duration::from_millis(wait);
                let begun = Moment::now();
                alarm.at(Some(begun + wait)).await;
                let took = Moment::now().saturating_duration_since(begun);
                assert!(took >= wait && took < wait + Duration::from_secs(1), "{took:?}");
            }
            // What was set and given up does not ring for the next.
            let soon = Moment::now() + Duration::from_millis(50);
            assert!(
                timeout(Duration::from_millis(10), alarm.at(Some(soon)))
                    .await
                    .is_err()
            );
            let begun = Moment::now();
            alarm.at(Some(begun + Duration::from_millis(200))).await;
            assert!(Moment::now().saturating_duration_since(begun) >= Duration::from_millis(200));
            assert!(timeout(Duration::from_millis(10), alarm.at(None)).await.is_err());
        }
    }
}
