//! Who may connect, where mounts are made, and how they are.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use tenantfs::mounter::{Grant, MountRequest, Mounter};

use crate::common::{as_user, eventually, is_mounted, require_root, run, set_mode, success, tenantfs};
use crate::{PATIENCE, Service, mounts_below, refusal, request};

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
    let place = base.path().join(crate::UID.to_string());
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
    let say = |message: &str| {
        rustix::net::send(&ours, message.as_bytes(), rustix::net::SendFlags::empty()).unwrap();
        hear(&ours)
    };
    let grant = Grant::Sessions {
        places: base.path().to_owned(),
        read_only: false,
        exec: false,
    };
    assert_eq!(say(&serde_json::to_string(&grant).unwrap()), "\"Welcome\"");
    let request = serde_json::to_string(&request(&place)).unwrap();
    assert!(say(&format!("{{\"Mount\":{request}}}")).contains("Mounted"));
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
        ("mnt/link/x", "has a symbolic link or a file in it"),
        ("mnt/link", "is a symbolic link"),
        ("mnt/missing/x", "does not exist"),
        ("mnt/open/x", "nobody but root"),
        ("mnt/other/x", "leads onto another mount"),
        ("mnt/other", "mounted on"),
        (&format!("mnt/{}/x", "y/".repeat(1900)), "does not exist"),
        ("mnt/\u{1}/x", "control characters"),
        ("mnt/a\u{85}b", "control characters"),
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
fn nobody_can_keep_it_from_starting() {
    let mut service = Service::start(&[]);
    assert_eq!(service.end(Signal::TERM), Some(0));
    let hold = "import fcntl, os, sys\n\
        held = os.open('.', os.O_RDONLY); fcntl.flock(held, fcntl.LOCK_EX)\n\
        for name in os.listdir('.'):\n\
        \x20   try: fcntl.flock(os.open(name, os.O_RDONLY), fcntl.LOCK_EX)\n    except OSError: pass\n\
        print('held', flush=True); input()";
    let mut held = crate::common::Conversation::start_in(crate::UID, service.base.path(), hold);
    assert_eq!(held.next(), "held");
    service.start_again();
    service.connect();
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
