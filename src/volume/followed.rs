//! The volume that is served, followed for as long as that goes on: whether it answers, and which one it is. A client of a
//! distributed file system that was started anew is another file system to the kernel, and whatever was open of the old one is dead.

use std::fmt;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::timeout;

use super::Volume;
use super::marks::LOOK_EVERY;
use crate::clock::{Moment, Stopwatch};
use crate::error::{Error, Kind, Result};

/// How long a volume may be silent before it is said that it does not answer.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Opens the volume by its path, as it was opened at the start.
type Open = dyn Fn() -> Result<Volume> + Send;

/// A volume that somebody looks after.
pub struct Followed {
    now: Mutex<Arc<Volume>>,
    /// Whether somebody wants to know now whether it answers.
    asked: Mutex<bool>,
    ask: Condvar,
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Followed")
    }
}

impl Followed {
    /// Looks after `volume`, on a thread of its own: at what operators leave there, so that whoever waits for that is told, and at
    /// whether it answers. One that is dead is opened anew with `open`, again and again, and when that is another of the same kind,
    /// the other takes its place, and [whoever waits for that](super::Marks::replaced) is told.
    ///
    /// A volume that hangs holds up that thread, and nobody else.
    ///
    /// # Errors
    /// That no thread can be started.
    pub fn begin(volume: Volume, open: impl Fn() -> Result<Volume> + Send + 'static) -> Result<Arc<Self>> {
        let followed = Arc::new(Self {
            now: Mutex::new(Arc::new(volume)),
            asked: Mutex::default(),
            ask: Condvar::new(),
        });
        let of = Arc::downgrade(&followed);
        let started = thread::Builder::new()
            .name("marks".to_owned())
            .spawn(move || look_on(&of, &open));
        match started {
            Ok(_) => Ok(followed),
            Err(error) => Err(Error::io(
                &error,
                "starting the thread that looks after the volume",
            )),
        }
    }

    /// The volume as it is now.
    pub fn now(&self) -> Arc<Volume> {
        Arc::clone(&self.now.lock())
    }

    /// For how long it has not answered; none while it does, or may be about to.
    pub fn silent_for(&self) -> Option<Duration> {
        let silent = Moment::now().saturating_duration_since(self.now().marks().answered());
        (silent >= ANSWERS_WITHIN).then_some(silent)
    }

    /// Asks it something, which it has to answer before `patience` is over. However many ask, nothing but the one thread waits for it.
    ///
    /// # Errors
    /// [`Kind::Io`] when it hangs; what it answers.
    pub async fn answers(&self, patience: Duration) -> Result<()> {
        let (volume, asked) = (self.now(), Moment::now());
        *self.asked.lock() = true;
        self.ask.notify_one();
        let answered = timeout(patience, volume.marks().answers_after(asked)).await;
        answered.unwrap_or_else(|_| Err(Self::hangs()))
    }

    /// What there is to say of one that does not answer.
    pub fn hangs() -> Error {
        Error::new(
            Kind::Io,
            "the volume does not answer; try again when its file system is back",
        )
    }

    /// Until it is time for the next look, or somebody wants it now.
    fn rest(&self) {
        let mut asked = self.asked.lock();
        if !*asked {
            let _ = self.ask.wait_for(&mut asked, LOOK_EVERY);
        }
        *asked = false;
    }
}

fn look_on(of: &Weak<Followed>, open: &Open) {
    let mut trouble: Option<Stopwatch> = None;
    while let Some(followed) = of.upgrade() {
        let volume = followed.now();
        match (volume.marks().look(), trouble) {
            (Ok(()), None) => {}
            (Ok(()), Some(since)) => {
                log::warn!("the volume answers again, after {} s", since.elapsed().as_secs());
                trouble = None;
            }
            (Err(error), before) => {
                if before.is_none() {
                    log::warn!(
                        "the volume does not answer, so that its users meet EIO; it is opened anew as soon as its file system is \
                         back: {error:#}"
                    );
                }
                trouble = before.or_else(|| Some(Stopwatch::start()));
                if let Some(successor) = successor(&volume, open) {
                    *followed.now.lock() = Arc::new(successor);
                    log::warn!("the volume was opened anew: its file system's client is another one now");
                    // Not before its successor can be had.
                    volume.marks().replace();
                    continue;
                }
            }
        }
        followed.rest();
    }
}

/// What is at the path of a volume that is dead, if that is another volume, and answers.
fn successor(dead: &Volume, open: &Open) -> Option<Volume> {
    let found = open().and_then(|found| match found.may_follow(dead) {
        true => found.marks().look().map(|()| Some(found)),
        false => Ok(None),
    });
    found.unwrap_or_else(|error| {
        log::debug!("opening the volume anew: {error:#}");
        None
    })
}

impl Volume {
    /// Whether it can take the place of one that is dead. What lies under a mount that is gone cannot: it is a directory of this
    /// host, and what is saved there nobody else ever sees.
    fn may_follow(&self, dead: &Self) -> bool {
        self.id != dead.id
            && self.owner == dead.owner
            && self.is_mount == dead.is_mount
            && self.root.file_system().engine() == dead.root.file_system().engine()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        let waiting = Stopwatch::start();
        while !is_so() {
            if waiting.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    fn follow(path: &Path) -> Arc<Followed> {
        let again = path.to_owned();
        Followed::begin(Volume::open(path).unwrap(), move || Volume::open(&again)).unwrap()
    }

    #[test]
    fn a_volume_whose_root_is_gone_is_followed_by_the_one_that_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        fs::create_dir(&path).unwrap();
        let followed = follow(&path);
        let before = followed.now();
        fs::remove_dir(&path).unwrap();
        thread::sleep(2 * LOOK_EVERY);
        assert!(Arc::ptr_eq(&before, &followed.now()), "nothing is there");
        fs::create_dir(&path).unwrap();
        let patience = 10 * LOOK_EVERY;
        assert!(within(patience, || !Arc::ptr_eq(&before, &followed.now())));
        assert!(within(patience, || before.marks().is_replaced()));
        assert!(!followed.now().marks().is_replaced());
        assert_eq!(followed.silent_for(), None);
    }

    #[tokio::test]
    async fn whether_a_volume_answers_is_known_before_the_next_look_at_it_is_due() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        fs::create_dir(&path).unwrap();
        let followed = follow(&path);
        let asking = Stopwatch::start();
        for _ in 0..3 {
            followed.answers(LOOK_EVERY).await.unwrap();
        }
        assert!(asking.elapsed() < LOOK_EVERY / 2);
        fs::remove_dir(&path).unwrap();
        let gone = followed.answers(LOOK_EVERY / 2).await.unwrap_err();
        assert!(matches!(gone.kind(), Kind::Stale | Kind::NotFound), "{gone}");
    }

    #[test]
    fn what_is_another_accounts_or_another_file_systems_takes_no_volumes_place() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let [one, other] = ["one", "other"].map(|name| directory.path().join(name));
        [&one, &other]
            .into_iter()
            .for_each(|path| fs::create_dir(path).unwrap());
        let [mut one, other] = [one, other].map(|path| Volume::open(&path).unwrap());
        assert!(other.may_follow(&one));
        assert!(!one.may_follow(&one));
        one.owner.0 += 1;
        assert!(!other.may_follow(&one));
        one.owner.0 -= 1;
        one.is_mount = !one.is_mount;
        assert!(!other.may_follow(&one));
        let elsewhere = Volume::open(Path::new("/proc/self")).unwrap();
        assert!(!elsewhere.may_follow(&other));
    }
}
