//! A server that was taken over: a program of the attacker's that has the server's end of the mounter's socket, or may connect to
//! a mounter that listens. It is of the server's account and has no capability.
//!
//! One test for each line of the list in `src/mounter/protocol.rs`: what the mounter takes, and the worst that comes of it.

mod granted;
mod listening;
mod nuisance;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use tempfile::TempDir;
use tenantfs::mounter::{Grant, MountRequest, Mounter, Viewer};

use crate::arena::tell;
use crate::common::{
    ALICE, BOB, SERVICE_UID, as_user, eventually, require_root, set_mode, success, tenantfs,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// What the attacker's programs begin with. `say` sends a message and returns the answer, or how the connection ended.
const HOSTILE: &str = r"
import array, json, os, resource, socket, sys, time
held = []
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    s.settimeout(30)
    return s
def hear(s):
    try: data, ancillary, _, _ = s.recvmsg(1 << 17, socket.CMSG_SPACE(4))
    except (ConnectionResetError, BrokenPipeError): return 'closed'
    except OSError as error: return type(error).__name__
    held.extend(array.array('i', payload)[0] for _, _, payload in ancillary)
    return data.decode() or 'closed'
def say(message, fds=(), to=None):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    try: (to or s).sendmsg([data], rights)
    except (ConnectionResetError, BrokenPipeError): return 'closed'
    except OSError as error: return type(error).__name__
    return hear(to or s)
def wanted(path, uid=61001, gid=61001, **other):
    request = dict(mountpoint=list(path.encode()), make=True, viewer=dict(uid=uid, gid=gid), read_only=False, exec=False)
    return {'Mount': {**request, **other}}
def mount(path, uid=61001, gid=61001, to=None, **other): return say(wanted(path, uid, gid, **other), to=to)
def claim_of(answer): return json.loads(answer)['Mounted']['claim']
def forged(path, made=True):
    for line in open('/proc/self/mountinfo'):
        number, _, device, _, place = line.split(' ')[:5]
        if place == path:
            entry = dict(identity=dict(number=int(number), device=[int(n) for n in device.split(':')]), mountpoint=list(path.encode()))
            return dict(entry=entry, serial=7, made=made)
base = sys.argv[2]
if sys.argv[1] == '-': s = socket.socket(fileno=0); s.settimeout(30)
else: s = connect(); hear(s)
";

/// A directory, and everything mounted below it unmounted at the end.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        require_root();
        let base = tempfile::Builder::new()
            .prefix("tenantfs-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        set_mode(base.path(), 0o755);
        Self(base)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn directory(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    fn mounts(&self) -> Vec<String> {
        let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = lines.lines().filter(|line| {
            let place = line.split(' ').nth(4).unwrap();
            place.starts_with(&format!("{}/", self.0.path().display()))
        });
        lines.map(str::to_owned).collect()
    }

    /// Nothing is mounted, and no mountpoint that was made is left.
    fn is_as_before(&self) -> bool {
        self.mounts().is_empty() && fs::read_dir(self.path("mnt")).unwrap().next().is_none()
    }

    fn attacker(&self, socket: &str, code: &str) -> Command {
        let mut command = as_user(SERVICE_UID, self.0.path(), "python3");
        command.args(["-B", "-c", &format!("{HOSTILE}\n{code}"), socket]);
        command.arg(self.0.path());
        command
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for line in self.mounts().iter().rev() {
            let _ = unmount(line.split(' ').nth(4).unwrap(), UnmountFlags::DETACH);
        }
    }
}

/// A forked mounter whose server was taken over when it had begun.
struct Forked<'s> {
    scene: &'s Scene,
    process: Child,
    socket: Option<OwnedFd>,
}

impl<'s> Forked<'s> {
    fn new(scene: &'s Scene, grant: &Grant) -> Self {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let mut command = tenantfs();
        let process = command.arg("mounter").stdin(Stdio::from(theirs)).spawn().unwrap();
        let grant = serde_json::to_vec(grant).unwrap();
        send(&ours, &grant, SendFlags::empty()).unwrap();
        let mut answer = [0; 4096];
        let (length, _) = recv(&ours, &mut answer, RecvFlags::empty()).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..length]), "\"Welcome\"");
        Self {
            scene,
            process,
            socket: Some(ours),
        }
    }

    /// For one view of alice's, on `mnt`.
    fn once(scene: &'s Scene) -> Self {
        let grant = Grant::Once {
            mountpoint: scene.directory("mnt"),
            viewer: Viewer::new(ALICE.uid, ALICE.uid).unwrap(),
            read_only: false,
            exec: false,
        };
        Self::new(scene, &grant)
    }

    /// For a daemon's, in `mnt`.
    fn sessions(scene: &'s Scene) -> Self {
        let grant = Grant::Sessions {
            places: scene.path("mnt"),
            read_only: false,
            exec: false,
        };
        Self::new(scene, &grant)
    }

    /// What the attacker's program prints, line by line. The server's end of the socket stays open.
    fn seized(&self, code: &str) -> Vec<String> {
        let socket = self.socket.as_ref().unwrap().try_clone().unwrap();
        seized_with(self.scene, socket, code)
    }

    /// Ends the server.
    fn end(&mut self) {
        self.socket = None;
        self.process.wait().unwrap();
    }
}

fn seized_with(scene: &Scene, socket: OwnedFd, code: &str) -> Vec<String> {
    let mut command = scene.attacker("-", code);
    let output = command.stdin(Stdio::from(socket)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(str::to_owned).collect()
}

impl Drop for Forked<'_> {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A mounter that listens, and admits the server's account.
struct Listening<'s> {
    scene: &'s Scene,
    /// Its hard limit of open files, if it has another than we.
    files: Option<&'static str>,
    process: Child,
}

impl<'s> Listening<'s> {
    fn new(scene: &'s Scene) -> Self {
        Self::with_files(scene, None)
    }

    fn with_files(scene: &'s Scene, files: Option<&'static str>) -> Self {
        let mut service = Self {
            scene,
            files,
            process: Self::start(scene, files),
        };
        service.listens();
        service
    }

    fn start(scene: &Scene, files: Option<&'static str>) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(scene.path("log"))
            .unwrap();
        let mut command = Command::new("prlimit");
        command.args(files.map(|files| format!("--nofile={files}:{files}")));
        command.arg(env!("CARGO_BIN_EXE_tenantfs")).arg("mounter");
        command.arg("--listen").arg(scene.path("mounter.sock"));
        command.arg("--beneath").arg(scene.path("mnt"));
        command.args(["--admit", &SERVICE_UID.to_string()]);
        command.stderr(log).spawn().unwrap()
    }

    fn listens(&mut self) {
        let socket = self.scene.path("mounter.sock");
        assert!(
            eventually(PATIENCE, || Mounter::connect(&socket).is_ok()),
            "{}",
            self.log()
        );
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scene.path("log")).unwrap_or_default()
    }

    fn killed_and_started_again(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::start(self.scene, self.files);
        self.listens();
    }

    /// As root connects.
    fn roots(&self) -> Mounter {
        Mounter::connect(&self.scene.path("mounter.sock")).unwrap()
    }

    fn attacker(&self, code: &str) -> Command {
        let socket = self.scene.path("mounter.sock");
        self.scene.attacker(socket.to_str().unwrap(), code)
    }

    fn seized(&self, code: &str) -> Vec<String> {
        let printed = success(self.attacker(code), "");
        printed.lines().map(str::to_owned).collect()
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn request(place: &Path) -> MountRequest {
    MountRequest {
        mountpoint: place.to_owned(),
        make: true,
        viewer: Viewer::new(BOB.uid, BOB.uid).unwrap(),
        read_only: false,
        exec: false,
    }
}

/// Every answer is a refusal that says one of these.
fn refused(answers: &[String], why: &[&str]) {
    assert!(!answers.is_empty());
    for answer in answers {
        let because = why.iter().any(|why| answer.contains(why));
        assert!(answer.starts_with("{\"Failed\":") && because, "{answer}");
    }
    tell("compromised", "requests refused", answers.len());
}
