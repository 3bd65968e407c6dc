//! strace: what a process did to the volume, call by call, and what is made to happen at one of the calls.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{eventually, tool};

/// How long strace may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The system calls that change a volume, and openat, which also opens. The others have nothing to be killed in between.
const CHANGES: &str = "openat,write,pwrite64,pwritev2,linkat,renameat2,unlinkat,mkdirat,fsetxattr,lsetxattr,lremovexattr,\
                       fsync,fdatasync,ftruncate,fallocate,copy_file_range,sync_file_range,fchmod,fchown,utimensat";

/// One system call of the sequence.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) thread: String,
    pub(crate) name: String,
    /// As strace shows it, with what the descriptors lead to; strings are in hexadecimal.
    pub(crate) arguments: String,
    /// None when it was killed, or made to fail.
    pub(crate) result: Option<String>,
}

/// What happens to a call instead of what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The process dies of SIGKILL before it takes place.
    Kill,
    /// It fails with this errno, by name.
    Error(&'static str),
}

/// One call of a recorded sequence, by which it can be found again.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// The calls that change the volume up to here, this one included.
    sequence: Vec<String>,
    name: String,
    /// The how manieth of its name it is, those included that change nothing.
    nth: usize,
}

impl Call {
    /// Whether it can change the volume: not what opens for reading, and not what writes elsewhere.
    fn changes(&self, volume: &Path) -> bool {
        // Attributes of a name are reached through the descriptor of its directory.
        let places = [volume.to_str().unwrap(), "/proc/self/fd/"].map(hexadecimal);
        places.iter().any(|place| self.arguments.contains(place)) && !self.arguments.contains("O_RDONLY")
    }

    /// The calls in a log of `strace -f -o`, in the order in which they began.
    fn parse(log: &str) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        for line in log.lines() {
            let Some((thread, rest)) = line.split_once(' ') else {
                continue;
            };
            let (begin, result) = match rest.rsplit_once(" = ") {
                Some((begin, result)) => (begin.trim(), result),
                None => (rest.trim(), "?"),
            };
            let took_place = !result.starts_with('?') && !result.ends_with("(INJECTED)");
            let result = took_place.then(|| result.to_owned());
            if begin.starts_with("<... ") {
                let begun = calls.iter_mut().rev().find(|call| call.thread == thread);
                begun.unwrap().result = result;
            } else if let Some((name, arguments)) = begin.split_once('(')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                calls.push(Self {
                    thread: thread.to_owned(),
                    name: name.to_owned(),
                    arguments: arguments.to_owned(),
                    result,
                });
            }
        }
        calls
    }
}

impl Point {
    /// Each call of a recorded sequence that changes the volume.
    pub(crate) fn all(calls: &[Call], volume: &Path) -> Vec<Self> {
        let changes: Vec<&Call> = calls.iter().filter(|call| call.changes(volume)).collect();
        let Some(first) = changes.first() else {
            return Vec::new();
        };
        assert!(
            changes.iter().all(|call| call.thread == first.thread),
            "on several threads: strace cannot find a point again\n{changes:?}"
        );
        let (mut points, mut sequence) = (Vec::new(), Vec::new());
        for (index, call) in calls.iter().enumerate() {
            if call.thread != first.thread || !call.changes(volume) {
                continue;
            }
            sequence.push(call.name.clone());
            let before = calls[..=index].iter();
            let nth = before
                .filter(|other| other.thread == call.thread && other.name == call.name)
                .count();
            points.push(Self {
                sequence: sequence.clone(),
                name: call.name.clone(),
                nth,
            });
        }
        points
    }

    /// Which call of its sequence it is, and what it does.
    pub(crate) fn describe(&self) -> String {
        format!("{} (call {})", self.name, self.sequence.len())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn injection(&self, fault: Fault) -> String {
        let fault = match fault {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Error(errno) => format!("error={errno}"),
        };
        format!("inject={}:{fault}:when={}", self.name, self.nth)
    }

    /// Fails unless the fault met this very call.
    pub(crate) fn was_met(&self, calls: &[Call], volume: &Path) {
        let changes: Vec<&Call> = calls.iter().filter(|call| call.changes(volume)).collect();
        let met = changes.iter().position(|call| call.result.is_none());
        let met = met.unwrap_or_else(|| panic!("{}: not met", self.describe()));
        let names: Vec<&String> = changes[..=met].iter().map(|call| &call.name).collect();
        assert!(
            self.sequence.iter().eq(names.iter().copied()),
            "{}: {names:?}",
            self.describe()
        );
    }
}

fn strace(log: &Path, fault: Option<(&Point, Fault)>) -> Command {
    let mut command = Command::new("strace");
    // Strings whole, and in hexadecimal.
    command.args([
        "-f",
        "-y",
        "-xx",
        "-s",
        "1000000",
        "-e",
        &format!("trace={CHANGES}"),
        "-o",
    ]);
    command.arg(log);
    if let Some((point, fault)) = fault {
        command.args(["-e", &point.injection(fault)]);
    }
    command
}

/// As `strace -xx` writes it.
fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

fn calls(log: &Path) -> Vec<Call> {
    Call::parse(&fs::read_to_string(log).unwrap())
}

/// Whether there is a strace; without, the test is skipped aloud.
pub(crate) fn is_there() -> bool {
    tool("strace").is_some()
}

/// A running server that is watched.
pub(crate) struct Watched {
    strace: Child,
    log: PathBuf,
    dies: bool,
}

impl Watched {
    /// From now on.
    pub(crate) fn server(server: Pid, log: &Path, fault: Option<(&Point, Fault)>) -> Self {
        let mut command = strace(log, fault);
        command.args(["-p", &server.as_raw_nonzero().to_string()]);
        let mut strace = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        // What it says further, of threads that come, must not stop it.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self {
            strace,
            log: log.to_owned(),
            dies: matches!(fault, Some((_, Fault::Kill))),
        }
    }

    /// Looks away, and says what was done until now.
    pub(crate) fn calls(mut self) -> Vec<Call> {
        // Of a server that dies it sees the end; told to stop just then, it would wait for a thread that is gone.
        if !self.dies || !self.ends() {
            let _ = kill_process(Pid::from_child(&self.strace), Signal::INT);
            if !self.ends() {
                self.strace.kill().unwrap();
                self.strace.wait().unwrap();
            }
        }
        calls(&self.log)
    }

    fn ends(&mut self) -> bool {
        eventually(PATIENCE, || self.strace.try_wait().unwrap().is_some())
    }
}

/// Runs a command to its end, watched.
pub(crate) fn run(command: &Command, log: &Path, fault: Option<(&Point, Fault)>) -> (ExitStatus, Vec<Call>) {
    let mut watched = strace(log, fault);
    watched
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        watched.env(name, value.unwrap());
    }
    let status = watched
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    (status, calls(log))
}

/// Whether a command, or its strace for it, died of SIGKILL.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}
