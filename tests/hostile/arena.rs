//! Where the attacks are made: a daemon that serves two users and keeps an audit log, and what must hold after each case.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::audit::{Log, SOON};
use crate::common::daemon::Daemon;
use crate::common::{ALICE, BOB, Volume, eventually, shell};

/// How long a small piece of work of the other user's may take meanwhile; on an idle machine it takes some 10 ms.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon where alice attacks, or is attacked, and bob is somebody else.
pub(crate) struct Arena<'v> {
    pub(crate) daemon: Daemon<'v>,
    pub(crate) log: Log,
    /// Alice's view.
    pub(crate) alice: PathBuf,
    /// Bob's view.
    pub(crate) bob: PathBuf,
}

/// What a case leaves in the audit log, which has refusals only.
#[derive(Clone, Copy)]
pub(crate) enum Due<'a> {
    /// No line.
    Nothing,
    /// One line like this: `op path outcome`, where `*` is anything.
    Line(&'a str),
    /// Such lines: a race is refused for more than one reason, and for longer than lines are counted together.
    Lines(&'a str),
}

impl<'v> Arena<'v> {
    /// Both users are logged in, and bob has a record.
    pub(crate) fn new(volume: &'v Volume) -> Self {
        Self::with(volume, &[])
    }

    /// The same, with further options of the daemon.
    pub(crate) fn with(volume: &'v Volume, options: &[&str]) -> Self {
        let log = Log::of(volume);
        let audit = ["--audit-log", log.path(), "--audit-level", "denied"];
        let mut command = Daemon::command(volume, &[&audit, options].concat());
        // Not each of a million requests.
        command.env("TENANTFS_LOG", "info");
        let daemon = Daemon::start_command(volume, command);
        let [alice, bob] = [&ALICE, &BOB].map(|tenant| daemon.login(tenant));
        let arena = Self {
            daemon,
            log,
            alice,
            bob,
        };
        arena.stands("at first");
        arena
    }

    /// Makes one attack, then looks at everything that must not have come of it.
    pub(crate) fn case<T>(&self, name: &str, due: Due<'_>, attack: impl FnOnce() -> T) -> T {
        let before = self.log.lines().len();
        let came = attack();
        self.stands(name);
        let like = |pattern| self.log.like_from(before, pattern);
        match due {
            // What bob did just now took longer than a line takes.
            Due::Nothing => assert!(like("*").is_empty(), "{name}: {:#?}", like("*")),
            Due::Line(pattern) => {
                eventually(SOON, || !like(pattern).is_empty());
                assert_eq!(like(pattern).len(), 1, "{name}: {:#?}", like("*"));
            }
            Due::Lines(pattern) => {
                let there = eventually(SOON, || !like(pattern).is_empty());
                assert!(there, "{name}: {:#?}", like("*"));
            }
        }
        came
    }

    /// The daemon lives, and the other user works as before.
    pub(crate) fn stands(&self, name: &str) {
        assert_eq!(self.daemon.state(BOB.uid), "active", "{name}");
        let begun = Instant::now();
        let script = "echo '{\"still\": 1}' > schedules/bob.json; cat schedules/bob.json; ls schedules";
        let did = shell(BOB.uid, &self.bob, script);
        assert_eq!(did, "{\"still\": 1}\nbob.json\n", "{name}");
        let took = begun.elapsed();
        assert!(took < PATIENCE, "{name}: bob waited {took:?}");
    }
}

/// Makes this thread a user's, and no other thread: its uid is what the kernel lets it into a mount by.
pub(crate) fn become_user(uid: u32) {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(uid));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
}

/// How many rounds a case takes: shortened in the normal tests, in full with `scripts/test --hostile-long`.
pub(crate) fn rounds(short: usize, full: usize) -> usize {
    if long() { full } else { short }
}

/// Whether all is to be run at full length.
pub(crate) fn long() -> bool {
    std::env::var_os("TENANTFS_HOSTILE_LONG").is_some()
}

/// Says how much of a family was tried; `scripts/test --hostile-long` makes a table of that.
pub(crate) fn tell(family: &str, what: &str, count: usize) {
    let line = format!("HOSTILE: {family} | {what} | {count}\n");
    // Not eprintln!: the test runner would swallow it.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
