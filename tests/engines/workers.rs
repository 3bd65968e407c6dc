//! Who works on a user's records on both hosts, and what they did.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use super::common::{ALICE, SERVICE_UID, as_user, run};
use super::history::History;
use super::hosts::{HOSTS, Host, TwoHosts};

/// One process of worker.py.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    /// None for the service, which works on the first host's volume itself.
    pub(crate) on: Option<Host>,
    /// What its saves are called.
    pub(crate) name: &'static str,
    /// As worker.py takes it.
    pub(crate) how: &'static str,
}

/// A user on each host, and one who only looks.
pub(crate) const USERS: [Worker; 4] = [
    worker(Some(Host::A), "a", "user"),
    worker(Some(Host::B), "b", "user"),
    worker(Some(Host::A), "x", "reader"),
    worker(Some(Host::B), "y", "reader"),
];

/// The service beside them.
pub(crate) const SERVICE: Worker = worker(None, "s", "service");

pub(crate) const fn worker(on: Option<Host>, name: &'static str, how: &'static str) -> Worker {
    Worker { on, name, how }
}

/// How many records they work on.
const RECORDS: usize = 3;

/// What they work for.
pub(crate) struct Work<'h> {
    pub(crate) hosts: &'h TwoHosts,
    /// Alice's mounts.
    pub(crate) mounts: [&'h Path; 2],
    pub(crate) seconds: u64,
}

impl Work<'_> {
    /// Has them all work at once, and does `meanwhile` beside them. Then waits until everything is known everywhere, and looks once
    /// more on both.
    pub(crate) fn done_by(&self, workers: &[Worker], meanwhile: impl FnOnce()) -> History {
        let mut history = History {
            events: Vec::new(),
            freshness: self.hosts.cluster.freshness(),
        };
        let printed = thread::scope(|scope| {
            let start = |worker: &Worker| {
                let command = self.command(worker);
                scope.spawn(move || printed(command))
            };
            let running: Vec<_> = workers.iter().map(start).collect();
            meanwhile();
            let join = |worker: thread::ScopedJoinHandle<'_, String>| worker.join().unwrap();
            running.into_iter().map(join).collect::<Vec<_>>()
        });
        printed.iter().for_each(|printed| history.read(printed));
        self.hosts.settle();
        for host in HOSTS {
            history.read(&printed_last(self, host));
        }
        history
    }

    fn command(&self, worker: &Worker) -> Command {
        let volume = self.hosts.volume(worker.on.unwrap_or(Host::A));
        let program = volume.base().join("worker.py");
        if !program.exists() {
            fs::write(&program, include_str!("worker.py")).unwrap();
        }
        let (uid, place) = match worker.on {
            None => (SERVICE_UID, volume.directory(&ALICE, "schedules")),
            Some(host) => (ALICE.uid, self.mount(host).join("schedules")),
        };
        let mut command = as_user(uid, &place, "python3");
        command.arg("-B").arg(program);
        command.args([worker.by(), worker.name, &self.seconds.to_string(), worker.name]);
        command.args([&RECORDS.to_string(), worker.how]);
        command
    }

    fn mount(&self, host: Host) -> &Path {
        match host {
            Host::A => self.mounts[0],
            Host::B => self.mounts[1],
        }
    }
}

impl Worker {
    fn by(&self) -> &'static str {
        self.on.map_or("service", Host::name)
    }
}

fn printed_last(work: &Work<'_>, host: Host) -> String {
    printed(work.command(&worker(Some(host), "z", "last")))
}

fn printed(command: Command) -> String {
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}
