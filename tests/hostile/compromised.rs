//! A server that was taken over: a program of the attacker's that has the server's end of the mounter's socket, or may connect to
//! a mounter that listens. It is of the server's account and has no capability.
//!
//! One test for each line of the list in `src/mounter/protocol.rs`: what the mounter takes, and the worst that comes of it.

mod nuisance;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process};
use tempfile::TempDir;
use tenantfs::mounter::{Grant, MountRequest, Mounter, Viewer};

use crate::arena::{Arena, Due, tell};
use crate::common::{
    ALICE, BOB, Layout, OtherMount, SERVICE_UID, Volume, as_user, eventually, is_mounted, require_root,
    set_mode, success, tenantfs, with_deadline,
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

#[test]
fn a_grant_is_the_first_message_and_no_other() {
    let scene = Scene::new();
    let mut mounter = Forked::once(&scene);
    let granting = "print(say({'Sessions': {'places': list(b'/'), 'read_only': False, 'exec': True}}))";
    assert_eq!(mounter.seized(granting), ["closed"]);
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
    let scene = Scene::new();
    let service = Listening::new(&scene);
    assert_eq!(service.seized(granting), ["closed"]);
}

#[test]
fn the_mounter_of_one_mount_makes_that_one_once() {
    let scene = Scene::new();
    scene.directory("other");
    let mut mounter = Forked::once(&scene);
    let answers = mounter.seized(
        "m = base + '/mnt'\n\
         for path in ('/other', '/mnt/x', '/mnt/../other', '', '/missing/x', '/./mnt/../mnt'): print(mount(base + path, make=False))\n\
         for path in ('/etc', '/', '/etc/systemd/system/sshd.service.d'): print(mount(path)); print(mount(path, make=False))\n\
         for uid, gid in ((61002, 61001), (61001, 0), (61001, 61002), (33, 33)): print(mount(m, uid, gid, make=False))\n\
         print(mount(m)); print(mount(m, make=False, exec=True)); print(mount(m, make=False, read_only=True))",
    );
    refused(&answers, &["not one that this mounter was told of"]);
    assert_eq!(scene.mounts(), [""; 0]);
    let answers = mounter.seized(
        "first = mount(base + '/mnt', make=False); print(first.startswith('{\"Mounted\"'))\n\
         print(mount(base + '/mnt', make=False))\n\
         print(say({'Unmount': claim_of(first)}))\n\
         print(mount(base + '/mnt', make=False))",
    );
    assert_eq!(
        (answers[0].as_str(), answers[2].as_str()),
        ("True", "\"Unmounted\"")
    );
    refused(
        &[answers[1].clone(), answers[3].clone()],
        &["mounts once, and has"],
    );
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(scene.path("mnt").exists());
}

#[test]
fn the_one_mountpoint_is_what_was_there_when_the_server_began() {
    const MOUNT: &str = "print(mount(base + '/mnt', make=False))";
    // Renamed, and a link to somebody's directory in its place.
    let scene = Scene::new();
    let mut mounter = Forked::once(&scene);
    fs::rename(scene.path("mnt"), scene.path("moved")).unwrap();
    symlink(scene.directory("victim"), scene.path("mnt")).unwrap();
    assert!(mounter.seized(MOUNT)[0].contains("Mounted"));
    assert!(is_mounted(&scene.path("moved")) && !is_mounted(&scene.path("victim")));
    // Renamed once more, and its parent too: it still ends with its server.
    fs::rename(scene.path("moved"), scene.path("again")).unwrap_err();
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);

    // Filled, or mounted on: not covered.
    let scene = Scene::new();
    let mounter = Forked::once(&scene);
    fs::write(scene.path("mnt/file"), "").unwrap();
    refused(&mounter.seized(MOUNT), &["not empty"]);
    let scene = Scene::new();
    let mounter = Forked::once(&scene);
    let _other = OtherMount::over(&scene.path("mnt"), "tmpfs");
    refused(&mounter.seized(MOUNT), &["mounted on"]);
    assert_eq!(scene.mounts().len(), 1);
}

#[test]
fn who_renames_the_way_to_a_mountpoint_does_not_keep_the_mount() {
    let scene = Scene::new();
    chown(scene.directory("hers"), Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let grant = Grant::Once {
        mountpoint: scene.directory("hers/deep/mnt"),
        viewer: Viewer::new(ALICE.uid, ALICE.uid).unwrap(),
        read_only: false,
        exec: false,
    };
    chown(scene.path("hers/deep"), Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let mut mounter = Forked::new(&scene, &grant);
    let code = "print(mount(base + '/hers/deep/mnt', make=False))";
    assert!(mounter.seized(code)[0].contains("Mounted"));
    let mut rename = as_user(ALICE.uid, &scene.path("hers"), "mv");
    rename.args(["deep", "elsewhere"]);
    success(rename, "");
    assert!(is_mounted(&scene.path("hers/elsewhere/mnt")));
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
}

/// The attack by which a server became root: f1 of the round before.
#[test]
fn a_daemon_that_was_taken_over_has_no_directory_of_systemds_made() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let scene = Scene::new();
    let units = scene.directory("etc/systemd/system");
    let socket = mounter_socket_of(arena.daemon.pid());
    arena.case("f1", Due::Nothing, || {
        let answers = seized_with(
            &scene,
            socket.try_clone().unwrap(),
            "drop_in = base + '/etc/systemd/system/sshd.service.d'\n\
             print(mount(drop_in, 61001)); print(mount(drop_in + '/x', 61001)); print(mount(drop_in, exec=True))",
        );
        refused(&answers, &["not one that this mounter was told of"]);
    });
    assert!(fs::read_dir(&units).unwrap().next().is_none());
    // As it was made: the connection is closed, which ends all its mounts.
    let code = "print(mount(base + '/etc/systemd/system/sshd.service.d', 0, 0, exec=True))";
    assert_eq!(seized_with(&scene, socket, code), ["closed"]);
    assert!(fs::read_dir(&units).unwrap().next().is_none());
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(eventually(PATIENCE, || !is_mounted(&arena.bob)));
    // A daemon whose mounter is gone ends with an error; it has lost its mounts here.
    drop_quietly(arena);
}

/// Ends a daemon that has nothing any more.
fn drop_quietly(arena: Arena<'_>) {
    kill_process(arena.daemon.pid(), Signal::KILL).unwrap();
    drop(arena);
}

/// The server's end of the socket of the mounter that it has forked.
fn mounter_socket_of(server: Pid) -> OwnedFd {
    let process = rustix::process::pidfd_open(server, PidfdFlags::empty()).unwrap();
    let numbers = fs::read_dir(format!("/proc/{}/fd", server.as_raw_nonzero())).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut sockets = numbers.filter_map(|number| {
        let number = number.parse().unwrap();
        let copy = rustix::process::pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let kind = rustix::net::sockopt::socket_type(&copy).ok()?;
        (kind == SocketType::SEQPACKET).then_some(copy)
    });
    sockets.next().unwrap()
}

#[test]
fn the_mounter_of_a_daemon_mounts_for_uids_at_their_own_places() {
    let scene = Scene::new();
    let mut mounter = Forked::sessions(&scene);
    let outside = scene.directory("outside");
    symlink(&outside, scene.path("mnt/61003")).unwrap();
    for name in ["61004", "61005", "61006"] {
        scene.directory(&format!("mnt/{name}"));
    }
    fs::write(scene.path("mnt/61004/file"), "").unwrap();
    chown(scene.path("mnt/61005"), Some(SERVICE_UID), None).unwrap();
    set_mode(&scene.path("mnt/61006"), 0o777);
    let answers = mounter.seized(
        "m = base + '/mnt/'\n\
         for name in ('61002', '061001', '61001/61001', '../outside', '..', 'x', '+61001', '61001 '): print(mount(m + name))\n\
         print(mount(base + '/outside/61001')); print(mount(base + '/mnt')); print(mount('/61001'))\n\
         print(mount(m + '61001', make=False)); print(mount(m + '61001', exec=True))\n\
         print(say({'Clear': list((base + '/outside').encode())}).replace('Done', 'Failed'))\n\
         print(say({'Clear': list(b'/')}).replace('Done', 'Failed'))",
    );
    refused(&answers, &["not one that this mounter was told of", "or below"]);
    let answers = mounter.seized(
        "m = base + '/mnt/'\n\
         for uid in (61003, 61004, 61005, 61006): print(mount(m + str(uid), uid))\n\
         print(mount(m + '61001').replace('Mounted', 'Failed', 1)[:10] + 'first'); print(mount(m + '61001'))",
    );
    refused(
        &answers,
        &[
            "symbolic link",
            "not empty",
            "not root's alone",
            "first",
            "mounted on",
        ],
    );
    let mounts = scene.mounts();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert!(fs::read_dir(outside).unwrap().next().is_none());
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(!scene.path("mnt/61001").exists() && scene.path("mnt/61005").exists());
}

#[test]
fn what_is_made_is_roots_and_what_is_mounted_is_harmless_whatever_is_asked_for() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let code = "\n\
        for number, other in enumerate((dict(), dict(exec=True), dict(read_only=True), dict(gid=0), dict(uid=65534),\n\
            dict(allow_other=True, suid=True, dev=True, source='x', subtype='y,z', options='allow_other', owner=61000, mode=0o777))):\n\
            \x20   print(mount(base + '/mnt/' + str(number), **other)[:10])\n\
        input()";
    let mut attacker = service.attacker(code);
    let attacker = attacker.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut attacker = attacker.spawn().unwrap();
    assert!(
        eventually(PATIENCE, || scene.mounts().len() == 6),
        "{}",
        service.log()
    );
    for line in scene.mounts() {
        let fields: Vec<_> = line.split(' ').collect();
        for option in ["nosuid", "nodev", "nosymfollow", "noatime"] {
            assert!(fields[5].split(',').any(|there| there == option), "{line}");
        }
        assert!(line.contains(" - fuse.tenantfs tenantfs "), "{line}");
        assert!(line.contains(",default_permissions"), "{line}");
        assert!(
            !line.contains("allow_other") && !line.contains("user_id=0"),
            "{line}"
        );
        // Nobody answers, and root is refused at once all the same.
        let place = PathBuf::from(fields[4]);
        let stat = with_deadline(PATIENCE, move || fs::metadata(place).map(|stat| stat.uid()));
        let denied = stat.expect("root hangs").unwrap_err();
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    }
    attacker.kill().unwrap();
    attacker.wait().unwrap();
    assert!(eventually(PATIENCE, || scene.mounts().is_empty()));
    assert!(fs::read_dir(scene.path("mnt")).unwrap().next().is_none());
}

#[test]
fn a_view_is_never_roots_nor_nobodys() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let answers = service.seized(
        "for uid, gid in ((0, 0), (0, 61001), (4294967295, 61001), (61001, 4294967295), (-1, 61001), (61001, -1), (1 << 32, 5),\n\
         \x20   (61001.5, 5), ('0', 5), (None, 5), (True, 5)):\n\
         \x20   other = connect(); hear(other)\n\
         \x20   print(mount(base + '/mnt/x', uid, gid, to=other))",
    );
    assert_eq!(answers, ["closed"; 11]);
    assert_eq!(scene.mounts(), [""; 0]);
    tell("compromised", "uids refused", answers.len());
}

#[test]
fn a_mounter_that_listens_mounts_below_its_directories_only() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    scene.directory("outside");
    symlink(scene.path("outside"), scene.path("mnt/link")).unwrap();
    chown(scene.directory("mnt/hers"), Some(SERVICE_UID), None).unwrap();
    set_mode(&scene.directory("mnt/open"), 0o777);
    scene.directory("mnt/hers/empty");
    fs::write(scene.directory("mnt/full").join("file"), "").unwrap();
    let answers = service.seized(
        "m = base + '/mnt'\n\
         for path in ('/etc', '/', '/etc/systemd/system/sshd.service.d', base + '/outside', m, m + '/../outside/x', m + '/.',\n\
         \x20   m + '/link/x', m + '/link', m + '/hers', m + '/hers/x', m + '/hers/empty', m + '/open/x', m + '/open', m + '/full',\n\
         \x20   m + '/missing/x', '//' + m + '/../x', m + 'x'):\n\
         \x20   print(mount(path)); print(mount(path, make=False))",
    );
    refused(
        &answers,
        &[
            "is not below",
            "must end in a name",
            "symbolic link",
            "not root's alone",
            "nobody but root",
            "not empty",
            "does not exist",
        ],
    );
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(fs::read_dir(scene.path("outside")).unwrap().next().is_none());
}

#[test]
fn others_mounts_are_neither_ended_nor_taken_over() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let roots = service.roots();
    let (held, elsewhere) = (scene.path("mnt/held"), scene.directory("elsewhere"));
    let _held = roots.mount(&request(&held)).unwrap();
    let stranger = scene.directory("mnt/stranger");
    let _stranger = OtherMount::over(&stranger, "tmpfs");
    let _elsewhere = OtherMount::over(&elsewhere, "tmpfs");
    let all = scene.mounts().len();
    let answers = service.seized(
        "for name in ('mnt/held', 'mnt/stranger', 'elsewhere'):\n\
         \x20   claim = forged(base + '/' + name)\n\
         \x20   print(say({'Unmount': claim}))\n\
         \x20   print(say({'Adopt': [claim]})); print(say({'Unmount': claim}))\n\
         claim['entry']['mountpoint'] = list((base + '/mnt/held').encode()); print(say({'Adopt': [claim]}))\n\
         root = forged('/'); print(say({'Adopt': [root]})); print(say({'Unmount': root}))\n\
         for path in (base, base + '/elsewhere', '/', base + '/mnt/held', base + '/mnt/../elsewhere'): print(say({'Clear': list(path.encode())}))\n\
         print(say({'Clear': list((base + '/mnt').encode())}))",
    );
    let expected = [
        "has not taken over",
        "not one of tenantfs",
        "another server's",
        "is gone",
        "or below",
        "leads onto another mount",
        "that is not ours",
    ];
    for answer in &answers {
        // Which is what it says of the forged one on a place that has another now.
        let gone = answer == "\"Unmounted\"";
        assert!(
            gone || expected.iter().any(|why| answer.contains(why)),
            "{answer} of {answers:?}"
        );
    }
    assert_eq!(scene.mounts().len(), all);
    // Nor where a forked one was told of nothing else.
    let forked = Scene::new();
    let mounter = Forked::once(&forked);
    let answers = mounter.seized(&format!(
        "claim = forged('{0}/mnt/held')\n\
         print(say({{'Adopt': [claim]}})); print(say({{'Unmount': claim}})); print(say({{'Clear': list(b'{0}/mnt')}}))",
        scene.0.path().display()
    ));
    assert!(
        answers[0].contains("where this mounter mounts nothing"),
        "{answers:?}"
    );
    assert!(answers[1].contains("has not taken over"), "{answers:?}");
    assert!(answers[2].contains("or below"), "{answers:?}");
    assert_eq!(scene.mounts().len(), all);
    assert!(is_mounted(&held));
}

#[test]
fn a_mount_that_no_server_has_is_all_that_can_be_taken_over() {
    let scene = Scene::new();
    let mut service = Listening::new(&scene);
    let hold = "print(mount(base + '/mnt/left')[:10], flush=True); time.sleep(60)";
    let mut holder = service.attacker(hold).stdout(Stdio::null()).spawn().unwrap();
    assert!(eventually(PATIENCE, || is_mounted(&scene.path("mnt/left"))));
    service.killed_and_started_again();
    let answers = service.seized(
        "claim = forged(base + '/mnt/left'); print(say({'Adopt': [claim]})); print(say({'Unmount': claim}))",
    );
    assert_eq!(answers, ["{\"Done\":{\"warnings\":[]}}", "\"Unmounted\""]);
    assert!(!scene.path("mnt/left").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
}
