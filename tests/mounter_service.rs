//! The mounter as a service of its own: who may connect, where it mounts, and what becomes of mounts when either side dies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{as_user, eventually, is_mounted, require_root, run, set_mode, success, tenantfs};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tenantfs::mounter::{Mount, MountRequest, Mounter};

const PATIENCE: Duration = Duration::from_secs(5);
/// How soon the mounts of a dead server are gone.
const SOON: Duration = Duration::from_secs(1);
const UID: u32 = 61001;

/// A mounter that listens. Dropped, it is ended, and every mount below its directory removed.
struct Service {
    base: TempDir,
    options: Vec<String>,
    process: Child,
}

impl Service {
    fn start(options: &[&str]) -> Self {
        require_root();
        let base = tempfile::Builder::new()
            .prefix("tenantfs-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        set_mode(base.path(), 0o755);
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = listen(base.path(), &options);
        let service = Self {
            base,
            options,
            process,
        };
        service.wait();
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("mounter.sock")
    }

    /// The directory that it mounts beneath.
    fn places(&self) -> PathBuf {
        self.path("mnt")
    }

    fn place(&self, name: &str) -> PathBuf {
        self.places().join(name)
    }

    fn connect(&self) -> Mounter {
        Mounter::connect(&self.socket()).unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Ends it. Returns its exit code, if a signal did not.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(self.pid(), signal).unwrap();
        self.process.wait().unwrap().code()
    }

    fn start_again(&mut self) {
        self.process = listen(self.base.path(), &self.options);
        self.wait();
    }

    fn wait(&self) {
        let socket = self.socket();
        assert!(
            eventually(PATIENCE, || Mounter::connect(&socket).is_ok()),
            "{}",
            self.said()
        );
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

fn listen(base: &Path, options: &[String]) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(base.join("log"))
        .unwrap();
    let mut command = tenantfs();
    command
        .arg("mounter")
        .arg("--listen")
        .arg(base.join("mounter.sock"));
    command.arg("--beneath").arg(base.join("mnt")).args(options);
    command.stderr(log).spawn().unwrap()
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        clear(self.base.path());
    }
}

/// Unmounts everything below a directory.
fn clear(directory: &Path) {
    for mountpoint in mounts_below(directory).iter().rev() {
        let _ = unmount(mountpoint, UnmountFlags::DETACH);
    }
}

fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mountpoints = lines
        .lines()
        .map(|line| PathBuf::from(line.split(' ').nth(4).unwrap()));
    mountpoints.filter(|path| path.starts_with(directory)).collect()
}

fn request(mountpoint: &Path) -> MountRequest {
    MountRequest {
        mountpoint: mountpoint.to_owned(),
        make: true,
        uid: UID,
        gid: UID,
        read_only: false,
        exec: false,
    }
}

fn refusal(mounter: &Mounter, mountpoint: &Path) -> String {
    match mounter.mount(&request(mountpoint)) {
        Ok(_) => panic!("mounted on {}", mountpoint.display()),
        Err(error) => error.to_string(),
    }
}

/// A mount as a dead server leaves it behind.
fn leave_behind(mountpoint: &Path) {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    fs::create_dir(mountpoint).unwrap();
    let options = {
        use std::os::fd::AsRawFd as _;
        let descriptor = device.as_raw_fd();
        std::ffi::CString::new(format!(
            "fd={descriptor},rootmode=40000,user_id={UID},group_id={UID}"
        ))
        .unwrap()
    };
    mount(
        "tenantfs",
        mountpoint,
        "fuse.tenantfs",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .unwrap();
}

/// A process with mounts of its own, to be killed.
struct Server(Child);

/// What [`Server`] runs: this test again, with the socket and the mountpoints in variables.
#[test]
fn a_server_process() {
    let (Some(socket), Some(places)) = (
        std::env::var_os("SERVER_SOCKET"),
        std::env::var_os("SERVER_PLACES"),
    ) else {
        return;
    };
    let mounter = Mounter::connect(Path::new(&socket)).unwrap();
    let mounts = std::env::split_paths(&places).map(|place| mounter.mount(&request(&place)).unwrap());
    let _mounts: Vec<(Mount, OwnedFd)> = mounts.collect();
    thread::sleep(Duration::from_secs(60));
}

impl Server {
    fn start(service: &Service, places: &[PathBuf]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_server_process"]);
        command.env("SERVER_SOCKET", service.socket());
        command.env("SERVER_PLACES", std::env::join_paths(places).unwrap());
        let server = Self(command.stdout(Stdio::null()).spawn().unwrap());
        assert!(eventually(PATIENCE, || places
            .iter()
            .all(|place| is_mounted(place))));
        server
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_makes_the_directory_mounts_on_it_and_removes_both() {
    let service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("61001"));
    let (mount, _connection) = mounter.mount(&request(&place)).unwrap();
    assert!(is_mounted(&place));
    assert!(refusal(&mounter, &place).contains("mounted on"));
    // What is beneath it shows where it is not mounted.
    let mut beneath = Command::new("unshare");
    beneath.args(["-m", "sh", "-c", "umount \"$0\" && stat -c '%F %a %u %g' \"$0\""]);
    beneath.arg(&place);
    assert_eq!(success(beneath, ""), "directory 555 0 0\n");
    mount.unmount().unwrap();
    assert!(!place.exists());
    mount.unmount().unwrap();
    // From before a crash.
    fs::create_dir(&place).unwrap();
    set_mode(&place, 0o555);
    let (mount, _connection) = mounter.mount(&request(&place)).unwrap();
    drop(mount);
    assert!(!place.exists());
    // One that was there stays.
    fs::create_dir(&place).unwrap();
    let wanted = MountRequest {
        make: false,
        ..request(&place)
    };
    drop(mounter.mount(&wanted).unwrap());
    assert!(!is_mounted(&place) && place.exists());
}

#[test]
fn a_forked_one_makes_and_removes_directories_too() {
    require_root();
    let base = tempfile::tempdir_in("/var/tmp").unwrap();
    set_mode(base.path(), 0o755);
    let place = base.path().join("mnt");
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let mut command = tenantfs();
    let mut process = command.arg("mounter").stdin(Stdio::from(theirs)).spawn().unwrap();
    drop(command);
    let ask = |mountpoint: &Path| {
        let request = serde_json::to_string(&request(mountpoint)).unwrap();
        let message = format!("{{\"Mount\":{request}}}");
        rustix::net::send(&ours, message.as_bytes(), rustix::net::SendFlags::empty()).unwrap();
        hear(&ours)
    };
    let writable = base.path().join("writable");
    fs::create_dir(&writable).unwrap();
    set_mode(&writable, 0o777);
    assert!(ask(&writable.join("mnt")).contains("nobody but root"));
    assert!(ask(&base.path().join("missing/mnt")).contains("does not exist"));
    assert!(ask(&place).contains("Mounted"));
    assert!(is_mounted(&place));
    drop(ours);
    process.wait().unwrap();
    assert!(!is_mounted(&place) && !place.exists());
}

#[test]
fn it_mounts_nowhere_else() {
    let service = Service::start(&[]);
    let mounter = service.connect();
    let elsewhere = service.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, service.place("link")).unwrap();
    fs::create_dir(service.place("open")).unwrap();
    set_mode(&service.place("open"), 0o757);
    fs::create_dir(service.place("other")).unwrap();
    mount(
        "tmpfs",
        service.place("other"),
        "tmpfs",
        MountFlags::empty(),
        None,
    )
    .unwrap();
    for (name, why) in [
        ("elsewhere/x", "is not below"),
        ("mnt", "is not below"),
        ("mnt/../elsewhere/x", "is not below"),
        ("mnt/x/..", "must end in a name"),
        ("mnt/../mnt/x", "is not below"),
        ("mnt/link/x", "has a symbolic link in it"),
        ("mnt/link", "is a symbolic link"),
        ("mnt/missing/x", "does not exist"),
        ("mnt/open/x", "nobody but root"),
        ("mnt/other/x", "leads onto another mount"),
        ("mnt/other", "mounted on"),
        (&format!("mnt/{}/x", "\u{1}/".repeat(1900)), "does not exist"),
    ] {
        let said = refusal(&mounter, &service.path(name));
        assert!(said.contains(why), "{name}: {said}");
    }
    assert_eq!(mounts_below(service.base.path()), [service.place("other")]);
    assert!(fs::read_dir(elsewhere).unwrap().next().is_none());
}

/// What a process with that uid hears when it connects.
fn heard(service: &Service, uid: u32) -> String {
    let code = "import socket, sys\n\
                s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                try:\n    s.connect(sys.argv[1])\n    print(s.recv(4096).decode())\n\
                except OSError as error:\n    print(error)";
    let mut command = as_user(uid, service.base.path(), "python3");
    command.args(["-c", code]).arg(service.socket());
    success(command, "")
}

#[test]
fn only_the_admitted_account_and_root_may_connect() {
    let service = Service::start(&["--admit", "61001"]);
    let stat = fs::metadata(service.socket()).unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (61001, 0o600));
    assert!(heard(&service, 61001).contains("Welcome"));
    assert!(heard(&service, 61002).contains("Permission denied"));
    set_mode(&service.socket(), 0o666);
    assert!(heard(&service, 61002).contains("uid 61002 may not"));
    service.connect();
    let service = Service::start(&[]);
    set_mode(&service.socket(), 0o666);
    assert!(heard(&service, 61001).contains("uid 61001 may not"));
}

#[test]
fn a_server_asks_no_mounter_but_roots() {
    let service = Service::start(&[]);
    let socket = service.path("home-61001/mounter.sock");
    fs::create_dir(service.path("home-61001")).unwrap();
    set_mode(&service.path("home-61001"), 0o777);
    let code = "import socket, sys, time\n\
                s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                s.bind(sys.argv[1]); s.listen(1); time.sleep(60)";
    let mut command = as_user(61001, service.base.path(), "python3");
    let mut impostor = command.args(["-c", code]).arg(&socket).spawn().unwrap();
    let mut said = String::new();
    eventually(PATIENCE, || {
        said = Mounter::connect(&socket).err().unwrap().to_string();
        !said.contains("none listens")
    });
    impostor.kill().unwrap();
    impostor.wait().unwrap();
    assert!(said.contains("not root's, but of uid 61001"), "{said}");
    let said = Mounter::connect(&service.path("nothing"))
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("--listen"), "{said}");
}

fn raw_connection(service: &Service) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(service.socket()).unwrap()).unwrap();
    socket
}

fn hear(socket: &OwnedFd) -> String {
    let mut buffer = [0; 32 * 1024];
    let length = rustix::net::recv(socket, &mut buffer, rustix::net::RecvFlags::empty()).unwrap();
    String::from_utf8_lossy(&buffer[..length.0]).into_owned()
}

#[test]
fn nonsense_closes_the_connection_that_it_came_from_and_no_other() {
    let service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("x"));
    let _mount = mounter.mount(&request(&place)).unwrap();
    for nonsense in [&b"nonsense"[..], b"{\"Unmount\":7}", &[b' '; 40_000]] {
        let other = raw_connection(&service);
        assert_eq!(hear(&other), "\"Welcome\"");
        rustix::net::send(&other, nonsense, rustix::net::SendFlags::empty()).unwrap();
        assert_eq!(hear(&other), "");
    }
    assert!(is_mounted(&place));
    drop(mounter.mount(&request(&service.place("y"))).unwrap());
}

#[test]
fn there_is_a_limit_to_connections() {
    let service = Service::start(&[]);
    let mut connections = Vec::new();
    // Whoever waited for it to be there may not be gone yet.
    assert!(eventually(PATIENCE, || {
        connections.extend(Mounter::connect(&service.socket()));
        connections.len() == 64
    }));
    let said = Mounter::connect(&service.socket()).err().unwrap().to_string();
    assert!(said.contains("64 servers are connected"), "{said}");
    connections.pop();
    assert!(eventually(PATIENCE, || Mounter::connect(&service.socket()).is_ok()));
}

#[test]
fn each_server_has_its_own_mounts() {
    let service = Service::start(&[]);
    let (one, other) = (service.place("one"), service.place("other"));
    let mounter = service.connect();
    let _one = mounter.mount(&request(&one)).unwrap();
    let mut server = Server::start(&service, std::slice::from_ref(&other));
    server.kill();
    assert!(eventually(SOON, || !is_mounted(&other) && !other.exists()));
    assert!(is_mounted(&one));
}

#[test]
fn mounts_outlive_the_mounter_and_end_with_their_server() {
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let mut service = Service::start(&[]);
        let mounter = service.connect();
        let (first, second, third) = (service.place("1 a"), service.place("2"), service.place("3"));
        let (first_mount, _first) = mounter.mount(&request(&first)).unwrap();
        let second_mount = mounter.mount(&request(&second)).unwrap();
        let code = service.end(signal);
        assert_eq!(code, (signal != Signal::KILL).then_some(0), "{}", service.said());
        let both = mounts_below(service.base.path());
        assert_eq!(both.len(), 2, "{both:?}");
        // Not for good: it can be tried again.
        assert!(first_mount.unmount().is_err());
        service.start_again();
        first_mount.unmount().unwrap();
        assert!(!first.exists());
        let _third = mounter.mount(&request(&third)).unwrap();
        assert!(is_mounted(&second) && is_mounted(&third));
        drop(second_mount);
        assert!(!second.exists());
    }
}

#[test]
fn a_server_that_asks_for_nothing_is_known_to_the_next_mounter() {
    let mut service = Service::start(&[]);
    let places = [service.place("a"), service.place("b")];
    let mut server = Server::start(&service, &places);
    service.end(Signal::KILL);
    service.start_again();
    // By now it has reconnected; longer than it may pause between attempts.
    thread::sleep(Duration::from_millis(2500));
    assert!(places.iter().all(|place| is_mounted(place)));
    server.kill();
    let gone = || places.iter().all(|place| !is_mounted(place) && !place.exists());
    assert!(eventually(SOON, gone), "{}", service.said());
}

#[test]
fn a_mount_that_was_dropped_while_there_was_no_mounter_ends_when_there_is() {
    let mut service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    let mount = mounter.mount(&request(&place)).unwrap();
    service.end(Signal::KILL);
    drop(mount);
    assert!(is_mounted(&place));
    service.start_again();
    assert!(eventually(PATIENCE, || !is_mounted(&place) && !place.exists()));
}

#[test]
fn a_request_waits_for_the_next_mounter() {
    let mut service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    service.end(Signal::KILL);
    let mounted = thread::scope(|scope| {
        let waiting = scope.spawn(|| mounter.mount(&request(&place)));
        thread::sleep(Duration::from_millis(300));
        service.process = listen(service.base.path(), &[]);
        waiting.join().unwrap()
    });
    let _mount = mounted.unwrap();
    assert!(is_mounted(&place));
}

#[test]
fn what_a_dead_server_left_is_ended_and_strangers_mounts_are_not() {
    let service = Service::start(&[]);
    let (left, held, stranger, covered, elsewhere) = (
        service.place("left behind"),
        service.place("held"),
        service.place("stranger"),
        service.place("covered"),
        service.path("elsewhere"),
    );
    leave_behind(&left);
    leave_behind(&elsewhere);
    leave_behind(&covered);
    fs::create_dir(&stranger).unwrap();
    for place in [&stranger, &covered] {
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
    }
    let other = service.connect();
    let _held = other.mount(&request(&held)).unwrap();
    let mounter = service.connect();
    let own = service.place("own");
    let _own = mounter.mount(&request(&own)).unwrap();
    let mut warnings = mounter.take_over(&service.places()).unwrap();
    warnings.sort();
    assert!(!left.exists());
    for place in [&held, &own, &stranger, &elsewhere] {
        assert!(is_mounted(place), "{}", place.display());
    }
    let on_covered = mounts_below(&covered);
    assert_eq!(on_covered.len(), 2, "{on_covered:?}");
    // Of one place, that something covers our mount, and that this something is a stranger.
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let about = |place: &Path| {
        let shown = place.display().to_string();
        warnings.iter().filter(|warning| warning.contains(&shown)).count()
    };
    assert_eq!((about(&covered), about(&stranger)), (2, 1));
    // Where it may mount nothing, it ends nothing.
    let warnings = mounter.take_over(service.base.path()).unwrap();
    assert!(warnings[0].contains("or below"), "{warnings:?}");
    assert!(is_mounted(&elsewhere));
}

#[test]
fn a_mount_whose_answer_was_lost_is_made_again() {
    let mut service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    assert_eq!(mounter.take_over(&service.places()).unwrap(), [""; 0]);
    service.end(Signal::KILL);
    // As if the mounter had mounted, and then died.
    leave_behind(&place);
    service.start_again();
    let (mount, _connection) = mounter.mount(&request(&place)).unwrap();
    assert_eq!(mounts_below(&place).len(), 1);
    mount.unmount().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_mount_that_somebody_unmounted_does_not_end_the_next_one_there() {
    let service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    let (old, _old) = mounter.mount(&request(&place)).unwrap();
    unmount(&place, UnmountFlags::DETACH).unwrap();
    let (new, _new) = mounter.mount(&request(&place)).unwrap();
    old.unmount().unwrap();
    assert!(is_mounted(&place));
    new.unmount().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_mounter_that_hangs_does_not_cost_the_mounts() {
    let service = Service::start(&[]);
    let mounter = service.connect();
    let (old, late, new) = (service.place("old"), service.place("late"), service.place("new"));
    let _old = mounter.mount(&request(&old)).unwrap();
    kill_process(service.pid(), Signal::STOP).unwrap();
    // All of its threads, not only the one that has taken the signal.
    assert!(eventually(PATIENCE, || {
        let threads = fs::read_dir(format!("/proc/{}/task", service.process.id())).unwrap();
        let mut states =
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
        states.all(|stat| stat.contains(") T "))
    }));
    assert!(refusal(&mounter, &late).contains("no answer in time"));
    kill_process(service.pid(), Signal::CONT).unwrap();
    let _new = mounter.mount(&request(&new)).unwrap();
    assert!(is_mounted(&old) && is_mounted(&new));
    assert!(!late.exists());
}

#[test]
fn a_thousand_mounts_from_many_threads_are_taken_over_and_end() {
    const THREADS: usize = 10;
    const EACH: usize = 100;
    let mut service = Service::start(&[]);
    let mounter = service.connect();
    let places = service.places();
    let begun = Instant::now();
    let mounts: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (mounter, places) = (&mounter, &places);
                scope.spawn(move || {
                    let names =
                        (0..EACH).map(|each| places.join(format!("{}", 60_000 + thread * EACH + each)));
                    let mounts = names.map(|place| mounter.mount(&request(&place)).unwrap().0);
                    mounts.collect::<Vec<_>>()
                })
            })
            .collect();
        let mounts = running.into_iter().map(|thread| thread.join().unwrap());
        mounts.flatten().collect()
    });
    println!("mounting: {:?}", begun.elapsed() / 1000);
    assert_eq!(mounts_below(&places).len(), THREADS * EACH);
    service.end(Signal::KILL);
    service.start_again();
    let begun = Instant::now();
    assert_eq!(mounter.take_over(&places).unwrap(), [""; 0]);
    println!("taking over: {:?}", begun.elapsed());
    assert_eq!(mounts_below(&places).len(), THREADS * EACH);
    let begun = Instant::now();
    drop(mounts);
    println!("unmounting: {:?}", begun.elapsed() / 1000);
    assert!(fs::read_dir(&places).unwrap().next().is_none());
    let names = (0..1000).map(|number| places.join(number.to_string()));
    let mut server = Server::start(&service, &names.collect::<Vec<_>>());
    let begun = Instant::now();
    server.kill();
    assert!(eventually(PATIENCE, || mounts_below(&places).is_empty()));
    println!("ending a dead server's: {:?}", begun.elapsed());
}

#[test]
fn systemd_may_listen_for_it() {
    let mut service = Service::start(&[]);
    service.end(Signal::TERM);
    let code = "import os, socket, sys\n\
                s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                os.unlink(sys.argv[1])\n\
                s.bind(sys.argv[1]); s.listen(8)\n\
                d = os.dup(s.fileno()); os.dup2(d, 3); os.set_inheritable(3, True)\n\
                os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='mounter')\n\
                os.execv(sys.argv[2], sys.argv[2:])";
    let start = |options: &[&str]| {
        let mut command = Command::new("python3");
        command
            .args(["-c", code])
            .arg(service.socket())
            .arg(env!("CARGO_BIN_EXE_tenantfs"));
        command.arg("mounter").args(options);
        command
    };
    let output = run(start(&[]), "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--beneath DIR"), "{said}");
    let places = service.places();
    service.process = start(&["--beneath", places.to_str().unwrap()]).spawn().unwrap();
    service.wait();
    let mounter = service.connect();
    let _mount = mounter.mount(&request(&service.place("a"))).unwrap();
    // Variables of another process are nothing to us.
    let mut command = tenantfs();
    command.args(["mounter", "--beneath"]).arg(&places);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--listen SOCKET"), "{said}");
}

#[test]
fn it_has_one_capability_and_says_what_it_cannot_work_with() {
    let service = Service::start(&[]);
    let mounter = service.connect();
    let _mount = mounter.mount(&request(&service.place("a"))).unwrap();
    let tasks = format!("/proc/{}/task", service.process.id());
    for task in fs::read_dir(tasks).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in [
            "CapPrm:\t0000000000200000",
            "CapBnd:\t0000000000200000",
            "NoNewPrivs:\t1",
            "Groups:\t \n",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
    }
    let file = service.path("file");
    fs::write(&file, "").unwrap();
    let open = service.path("open");
    fs::create_dir(&open).unwrap();
    set_mode(&open, 0o777);
    let (socket, places) = (service.socket(), service.places());
    let long = service.path(&"x".repeat(100));
    for (socket, beneath, why) in [
        (&socket, &places, "another mounter listens"),
        (&file, &places, "not a socket"),
        (&long, &places, "107 bytes"),
        (&service.path("other.sock"), &open, "must belong to root"),
    ] {
        let mut command = tenantfs();
        command
            .arg("mounter")
            .arg("--listen")
            .arg(socket)
            .arg("--beneath")
            .arg(beneath);
        let output = run(command, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "");
    assert!(is_mounted(&service.place("a")));
}
