//! The wall between uids: nobody comes into a view that is not theirs, by whatever way they take.
//!
//! Nearly all of it is the kernel's to refuse, because the mount is without `allow_other`: then the server is not asked, and
//! has nothing to write into the audit log. Not tried: io_uring's registered credentials, which act for another uid only
//! if that user hands them over, as any program of hers could act for another.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::arena::{Arena, Due, rounds, tell};
use crate::common::{
    ALICE, BOB, Conversation, Layout, SERVICE_UID, Volume, as_user, errno, eventually, is_mounted, run,
    set_mode, shell, skip, success,
};

/// How long it may take until the end of a mount is noticed.
const NOTICED: Duration = Duration::from_secs(10);

/// Everybody who is not alice.
const OTHERS: [u32; 4] = [0, BOB.uid, SERVICE_UID, 65534];

/// What a user namespace is made with.
const NAMESPACES: [&[&str]; 3] = [
    &["-U", "-r"],
    &["-U", "-r", "-m"],
    &["-U", "-r", "-m", "-p", "-f"],
];

/// What a statement in Python meets, run by `command`, which takes a program to run.
fn met_by(mut command: Command, statement: &str) -> String {
    let code = "import ctypes, errno, os, sys\n\
                libc = ctypes.CDLL(None, use_errno=True)\n\
                def call(result):\n    \
                    if result < 0: raise OSError(ctypes.get_errno(), 'call')\n    \
                    return result\n\
                try:\n    exec(sys.argv[1])\n\
                except OSError as error:\n    print(errno.errorcode[error.errno])\n\
                else:\n    print('ok')";
    command.args(["python3", "-B", "-c", code, statement]);
    success(command, "").trim_end().to_owned()
}

/// Logs alice out and in again: her view works, whatever has been done to the one before.
fn anew(arena: &Arena<'_>) {
    arena.daemon.asked(ALICE.uid, &["logout"], "");
    again(arena);
}

fn again(arena: &Arena<'_>) {
    assert_eq!(arena.daemon.login(&ALICE), arena.alice);
    let did = shell(
        ALICE.uid,
        &arena.alice,
        "echo '{}' > schedules/again.json; cat schedules/again.json",
    );
    assert_eq!(did, "{}\n");
}

#[test]
fn another_uid_stays_outside() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    for uid in OTHERS {
        let statement = format!("os.listdir('{}')", arena.alice.display());
        arena.case(&format!("listing, as {uid}"), Due::Nothing, || {
            assert_eq!(errno(uid, volume.base(), &statement), "EACCES");
        });
    }
    tell("wall", "other uids", OTHERS.len());
}

#[test]
fn a_link_out_of_a_view_is_refused_with_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    arena.case("symlink", Due::Line("symlink schedules/out EPERM"), || {
        let link = "os.symlink('/etc/passwd', 'schedules/out')";
        assert_eq!(errno(ALICE.uid, &arena.alice, link), "EPERM");
    });
}

#[test]
fn a_user_namespace_makes_nobody_somebody_else() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let view = arena.alice.display();
    let statements = [
        format!("os.listdir('{view}')"),
        format!("open('{view}/schedules/x.json', 'w')"),
        format!("os.setuid(0); os.stat('{view}')"),
        format!("os.chroot('{view}')"),
    ];
    let namespaces = NAMESPACES.into_iter().skip(rounds(2, 0));
    let mut tried = 0;
    for namespace in namespaces {
        tried += 2 * statements.len() + 2;
        let inside = |uid: u32, statement: &str| {
            let mut command = as_user(uid, volume.base(), "unshare");
            command.args(namespace);
            met_by(command, statement)
        };
        arena.case(&format!("unshare {namespace:?}"), Due::Nothing, || {
            for uid in [BOB.uid, 0] {
                for statement in &statements {
                    assert_eq!(
                        inside(uid, statement),
                        "EACCES",
                        "{uid} {namespace:?}: {statement}"
                    );
                }
            }
            // She is who she was, whatever she calls herself.
            assert_eq!(inside(ALICE.uid, &statements[0]), "ok");
            let device = format!("os.mknod('{view}/schedules/null', 0o20666, os.makedev(1, 3))");
            assert_eq!(inside(ALICE.uid, &device), "EPERM");
        });
    }
    tell("wall", "ways through user namespaces", tried);
}

#[test]
fn what_is_mounted_over_a_view_in_a_namespace_is_seen_there_only() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let code = "print('there', flush=True)\nimport sys\nsys.stdin.readline()";
    for uid in [BOB.uid, ALICE.uid] {
        let over = format!(
            "import os, subprocess, sys\n\
             os.execvp('unshare', ['unshare', '-U', '-r', '-m', 'sh', '-euc',\n\
             'mount -t tmpfs over \"$1\"; exec python3 -B -c \"$2\"', 'sh', '{}', {code:?}])",
            arena.alice.display()
        );
        arena.case(
            &format!("a tmpfs over it, by {uid}"),
            Due::Line("session_ends * *"),
            || {
                let mut covering = Conversation::start_in(uid, volume.base(), &over);
                assert_eq!(covering.next(), "there");
                let did = shell(ALICE.uid, &arena.alice, "ls");
                assert_eq!(did, "results\nschedules\n");
                anew(&arena);
            },
        );
    }
}

/// Offers what alice has open to whoever connects.
const OFFER: &str = r"
import os, socket, sys
with open('results/plot', 'w') as file:
    file.write('of alice')
offered = [os.open(path, flags) for path, flags in [
    ('results/plot', os.O_RDONLY), ('results/plot', os.O_PATH), ('.', os.O_RDONLY), ('results', os.O_PATH),
    ('results', os.O_RDONLY), ('results/plot', os.O_RDWR)]]
server = socket.socket(socket.AF_UNIX)
server.bind('\0tenantfs-offer-%d' % os.getpid())
server.listen()
print('open', flush=True)
clients = []
while True:
    client, _ = server.accept()
    socket.send_fds(client, [b'x'], offered)
    clients.append(client)
";

/// What whoever is given those can do with them.
const TAKE: &str = r"
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
client = socket.socket(socket.AF_UNIX)
client.connect('\0tenantfs-offer-' + sys.argv[1])
_, (plain, path, root, directory, listed, writable), _, _ = socket.recv_fds(client, 1, 6)

def names(descriptor):
    if libc.syscall(217, descriptor, ctypes.create_string_buffer(65536), 65536) < 0:
        raise OSError(ctypes.get_errno(), 'getdents64')

refused = {
    'stat': lambda: os.stat(plain), 'stat of a directory': lambda: os.stat(directory),
    'list': lambda: names(listed), 'list the root': lambda: names(root), 'listdir': lambda: os.listdir(listed),
    'open beneath': lambda: os.open('plot', os.O_RDONLY, dir_fd=directory),
    'open beneath the root': lambda: os.open('results/plot', os.O_RDONLY, dir_fd=root),
    'stat beneath': lambda: os.stat('absent', dir_fd=listed),
    'create beneath': lambda: os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=listed),
    'mkdir beneath': lambda: os.mkdir('new', dir_fd=listed),
    'unlink beneath': lambda: os.unlink('plot', dir_fd=listed),
    'rename beneath': lambda: os.rename('plot', 'new', src_dir_fd=listed, dst_dir_fd=listed),
    'enter': lambda: os.fchdir(directory), 'enter what is open': lambda: os.fchdir(listed),
    'open again': lambda: os.open('/proc/self/fd/%d' % plain, os.O_RDONLY),
    'open again to write': lambda: os.open('/proc/self/fd/%d' % plain, os.O_WRONLY),
    'open what was only found': lambda: os.open('/proc/self/fd/%d' % path, os.O_RDONLY),
    'list what was only found': lambda: os.listdir('/proc/self/fd/%d' % directory),
    'truncate': lambda: os.ftruncate(writable, 0),
    'chmod': lambda: os.fchmod(plain, 0o666), 'utime': lambda: os.utime(plain),
}
for what, work in refused.items():
    try:
        work()
    except OSError as error:
        assert error.errno == errno.EACCES or (what == 'chmod' and error.errno == errno.EPERM), (what, error)
    else:
        raise SystemExit(what + ' went well')
# An open file is what was given: its bytes, unless the kernel has to ask, for whoever reads, what it is by now.
for work in (lambda: os.pread(plain, 100, 0) == b'of alice', lambda: os.pwrite(writable, b'of', 0) == 2):
    try:
        assert work()
    except OSError as error:
        assert error.errno == errno.EACCES, error
print(len(refused), flush=True)
sys.stdin.readline()
try:
    os.pread(plain, 100, 0)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
else:
    print('still there', flush=True)
";

#[test]
fn from_a_descriptor_that_was_passed_nothing_can_be_named() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let mut tried = 0;
    let mut offer = Conversation::start_in(ALICE.uid, &arena.alice, OFFER);
    assert_eq!(offer.next(), "open");
    let take = TAKE.replace("sys.argv[1]", &format!("'{}'", offer.pid().as_raw_nonzero()));
    let mut takers = Vec::new();
    for uid in [BOB.uid, 0] {
        // Listing goes on a handle, which the kernel does not look at: there the server refuses, or before, when the kernel asks
        // for whoever lists how the directory is.
        takers.push(arena.case(
            &format!("passed to {uid}"),
            Due::Lines("* results EACCES"),
            || {
                let mut taker = Conversation::start_in(uid, volume.base(), &take);
                tried += taker.next().parse::<usize>().unwrap();
                taker
            },
        ));
    }
    arena.case("the end of the session", Due::Line("session_ends * *"), || {
        arena.daemon.asked(ALICE.uid, &["logout"], "");
        for taker in &mut takers {
            assert_eq!(taker.next(), "ENOTCONN");
        }
    });
    tell("wall", "things done with passed descriptors", tried);
}

#[test]
fn proc_and_ptrace_lead_nobody_in() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let code = "import mmap, os, sys\n\
                file = open('results/plot', 'w+b'); file.write(b'of alice'); file.flush()\n\
                shared = mmap.mmap(file.fileno(), 8)\n\
                print(file.fileno(), flush=True); sys.stdin.readline()";
    let mut inside = Conversation::start_in(ALICE.uid, &arena.alice, code);
    let descriptor = inside.next();
    let (pid, daemon) = (inside.pid().as_raw_nonzero(), arena.daemon.pid().as_raw_nonzero());
    let ways = [
        format!("os.listdir('/proc/{pid}/cwd/')"),
        format!("open('/proc/{pid}/fd/{descriptor}')"),
        format!("os.listdir('/proc/{pid}/root{}')", arena.alice.display()),
        format!("os.stat('/proc/{pid}/cwd/results/plot')"),
        format!("os.chdir('/proc/{pid}/cwd')"),
    ];
    for uid in [BOB.uid, 0] {
        arena.case(&format!("/proc, as {uid}"), Due::Nothing, || {
            for way in &ways {
                assert_eq!(errno(uid, volume.base(), way), "EACCES", "{uid}: {way}");
            }
        });
    }
    // The server's memory and descriptors: PTRACE_ATTACH, pidfd_open and pidfd_getfd, process_vm_readv, signals, limits.
    let at_daemon = [
        format!("call(libc.ptrace(16, {daemon}, 0, 0))"),
        format!("call(libc.syscall(438, call(libc.syscall(434, {daemon}, 0)), 3, 0))"),
        format!(
            "b = (ctypes.c_size_t * 2)(0x400000, 1); call(libc.process_vm_readv({daemon}, b, 1, b, 1, 0))"
        ),
        format!("os.kill({daemon}, 9)"),
        format!("import resource; resource.prlimit({daemon}, resource.RLIMIT_NOFILE, (3, 3))"),
    ];
    for uid in [ALICE.uid, BOB.uid] {
        arena.case(&format!("at the daemon, as {uid}"), Due::Nothing, || {
            for way in &at_daemon {
                let way = format!(
                    "try:\n    {}\nexcept PermissionError:\n    raise OSError(errno.EPERM, 'x')",
                    way.replace("; ", "\n    ")
                );
                let met = met_by(as_user(uid, volume.base(), "env"), &way);
                assert_eq!(met, "EPERM", "{uid}: {way}");
            }
        });
    }
    tell(
        "wall",
        "ways through /proc and ptrace",
        2 * (ways.len() + at_daemon.len()),
    );
}

#[test]
fn bind_mounts_of_roots_show_nobody_a_view_and_end_with_it() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let bound = volume.base().join("bound");
    fs::create_dir(&bound).unwrap();
    let upper = ["lower", "upper", "work", "merged"].map(|name| volume.base().join(name));
    upper.iter().for_each(|place| fs::create_dir(place).unwrap());
    // In a mount namespace of its own, which keeps the bind while the session ends.
    let code = format!(
        "import os, subprocess, sys\n\
         subprocess.run(['mount', '--bind', '{view}', '{bound}'], check=True)\n\
         def met(uid):\n    \
             code = 'import errno, os\\ntry:\\n    os.listdir(\"{bound}\"); print(\"ok\")\\nexcept OSError as e:\\n    print(errno.errorcode[e.errno])'\n    \
             return subprocess.run(['setpriv', f'--reuid={{uid}}', f'--regid={{uid}}', '--clear-groups', 'python3', '-c', code],\n        \
                 stdout=subprocess.PIPE, text=True).stdout.strip()\n\
         overlay = subprocess.run(['mount', '-t', 'overlay', 'x', '-o', 'lowerdir={view}/results,upperdir={upper},workdir={work}', '{merged}'],\n    \
             stderr=subprocess.PIPE)\n\
         below = subprocess.run(['mount', '--bind', '{view}/results', '{merged}'], stderr=subprocess.PIPE)\n\
         print(met(0), met({bob}), met({alice}), overlay.returncode != 0, below.returncode != 0, flush=True)\n\
         sys.stdin.readline()\n\
         print(met(0), met({bob}), met({alice}), flush=True)\n\
         sys.stdin.readline()",
        view = arena.alice.display(),
        bound = bound.display(),
        upper = upper[1].display(),
        work = upper[2].display(),
        merged = upper[3].display(),
        bob = BOB.uid,
        alice = ALICE.uid,
    );
    let script =
        format!("import os\nos.execvp('unshare', ['unshare', '-m', 'python3', '-B', '-c', {code:?}])");
    let mut binding = arena.case("a bind", Due::Nothing, || {
        let mut binding = Conversation::start_in(0, volume.base(), &script);
        assert_eq!(binding.next(), "EACCES EACCES ok True True");
        binding
    });
    arena.case("the end of the session", Due::Line("session_ends * *"), || {
        arena.daemon.asked(ALICE.uid, &["logout"], "");
        assert_eq!(binding.next(), "EACCES EACCES ENOTCONN");
        again(&arena);
    });
}

#[test]
fn a_file_handle_opens_nothing_to_others() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let taken = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
open('results/plot', 'w').write('of alice')
for path in ('results/plot', '.'):
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(handle).value = 128
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0) == 0:
        print(handle.raw.hex(), flush=True)
    else:
        print('none', flush=True)
    sys.stdin.readline()
print(os.open('.', os.O_RDONLY), flush=True)
sys.stdin.readline()
";
    let mut inside = Conversation::start_in(ALICE.uid, &arena.alice, taken);
    let handles = [inside.next(), inside.next()];
    if handles.contains(&"none".to_owned()) {
        return skip("this kernel gives no file handles on FUSE");
    }
    let (pid, directory) = (inside.pid().as_raw_nonzero(), inside.next());
    for handle in &handles {
        // A handle needs an open file of its file system: root takes alice's (pidfd_open, pidfd_getfd).
        let open = format!(
            "d = call(libc.syscall(438, call(libc.syscall(434, {pid}, 0)), {directory}, 0))\n\
             h = ctypes.create_string_buffer(bytes.fromhex('{handle}'))\n\
             f = call(libc.open_by_handle_at(d, h, FLAGS))\n\
             USE"
        );
        for (flags, used) in [
            ("os.O_RDONLY", "pass"),
            ("os.O_PATH", "os.open('/proc/self/fd/%d' % f, os.O_RDONLY)"),
        ] {
            let open = open.replace("FLAGS", flags).replace("USE", used);
            arena.case(&format!("open_by_handle_at, {flags}"), Due::Nothing, || {
                let of_root = met_by(Command::new("env"), &open);
                assert!(["EACCES", "ESTALE"].contains(&of_root.as_str()), "{of_root}");
                let of_bob = met_by(as_user(BOB.uid, volume.base(), "env"), &open);
                assert!(
                    ["EACCES", "EPERM", "ESTALE"].contains(&of_bob.as_str()),
                    "{of_bob}"
                );
            });
        }
    }
    tell("wall", "file handles", handles.len() * 4);
}

/// The kernel's control files of FUSE connections, mounted if they were not.
struct Connections {
    mounted: bool,
}

impl Connections {
    const PLACE: &str = "/sys/fs/fuse/connections";

    fn new() -> Self {
        let mounted = !is_mounted(Path::new(Self::PLACE));
        if mounted {
            mount("fusectl", Self::PLACE, "fusectl", MountFlags::empty(), None).unwrap();
        }
        Self { mounted }
    }

    /// The file whose writing ends the connection of the view that `uid` has at `place`.
    fn abort_of(&self, uid: u32, place: &Path) -> String {
        let device =
            crate::common::python(uid, place, "import os; print(os.minor(os.stat('.').st_dev))", &[]);
        format!("{}/{}/abort", Self::PLACE, device.trim_end())
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if self.mounted {
            let _ = unmount(Self::PLACE, UnmountFlags::DETACH);
        }
    }
}

#[test]
fn who_aborts_their_own_connection_ends_their_own_session() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let connections = Connections::new();
    let abort = connections.abort_of(ALICE.uid, &arena.alice);
    let statement = format!("os.write(os.open('{abort}', os.O_WRONLY), b'1')");
    arena.case("abort by another user", Due::Nothing, || {
        assert_eq!(errno(BOB.uid, volume.base(), &statement), "EACCES");
    });
    arena.case("abort by the user", Due::Line("session_ends * *"), || {
        assert_eq!(errno(ALICE.uid, volume.base(), &statement), "ok");
        assert!(eventually(NOTICED, || arena.daemon.state(ALICE.uid) == "none"));
        assert!(!is_mounted(&arena.alice));
    });
    again(&arena);
}

#[test]
fn umount_by_users_ends_no_session_but_their_own() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let place = arena.alice.to_str().unwrap();
    let commands: [&[&str]; 4] = [
        &["umount", place],
        &["umount", "-l", place],
        &["umount", "-f", place],
        &["fusermount3", "-u", "-z", place],
    ];
    let unmounts = |uid: u32, command: &[&str]| {
        let mut unmount = as_user(uid, volume.base(), command[0]);
        unmount.args(&command[1..]);
        run(unmount, "").status.success()
    };
    let code = "import errno, os, sys\n\
                open('results/plot', 'w').write('of alice')\n\
                file = open('results/plot', 'rb', buffering=0)\n\
                print('open', flush=True); sys.stdin.readline()\n\
                try:\n    file.read(); print('still there', flush=True)\n\
                except OSError as error:\n    print(errno.errorcode[error.errno], flush=True)";
    let mut ended = 0;
    for command in commands {
        arena.case(&format!("{command:?}, by another user"), Due::Nothing, || {
            assert!(!unmounts(BOB.uid, command) && is_mounted(&arena.alice));
        });
        // The set-uid programs of some hosts unmount what says that it is the caller's: then it is as if by logout.
        if !unmounts(ALICE.uid, command) {
            assert!(is_mounted(&arena.alice));
            continue;
        }
        assert!(eventually(NOTICED, || arena.daemon.state(ALICE.uid) == "none"));
        again(&arena);
        arena.case(
            &format!("{command:?}, by its user"),
            Due::Line("session_ends * *"),
            || {
                let mut holding = Conversation::start_in(ALICE.uid, &arena.alice, code);
                assert_eq!(holding.next(), "open");
                // While something is in use it goes lazily or not at all; the session then ends by logout, and all is dark.
                unmounts(ALICE.uid, command);
                arena.daemon.ask(ALICE.uid, &["logout"], "");
                assert!(eventually(NOTICED, || arena.daemon.state(ALICE.uid) == "none"));
                let met = holding.next();
                // Forced, the connection was broken off.
                assert!(
                    ["ENOTCONN", "ECONNABORTED"].contains(&met.as_str()),
                    "{command:?}: {met}"
                );
            },
        );
        again(&arena);
        ended += 1;
    }
    tell("wall", "ways to unmount", commands.len());
    if ended == 0 {
        skip("no program here unmounts for a user");
    }
}

#[test]
fn a_set_uid_program_sees_no_view() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let cat = volume.base().join("cat");
    fs::copy("/bin/cat", &cat).unwrap();
    for (uid, place) in [
        (0, &arena.alice),
        (ALICE.uid, &arena.alice),
        (BOB.uid, &arena.bob),
    ] {
        std::os::unix::fs::chown(&cat, Some(uid), Some(uid)).unwrap();
        set_mode(&cat, 0o6755);
        let record = place.join("schedules/bob.json");
        // Started by alice: with root's uid in her own view, and with bob's in his. Started by bob, with alice's in hers.
        let starter = if uid == ALICE.uid { BOB.uid } else { ALICE.uid };
        arena.case(&format!("cat with the uid {uid}"), Due::Nothing, || {
            let mut command = as_user(starter, volume.base(), cat.to_str().unwrap());
            command.arg(&record);
            let output = run(command, "");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(
                said.contains("Permission denied") && output.stdout.is_empty(),
                "{said}"
            );
        });
    }
    arena.case("chmod u+s", Due::Line("setattr results/cat EPERM"), || {
        let statement = "shutil.copyfile('/bin/cat', 'results/cat'); os.chmod('results/cat', 0o4755)";
        assert_eq!(errno(ALICE.uid, &arena.alice, statement), "EPERM");
    });
}

#[test]
fn nobody_watches_anothers_view() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    for uid in [BOB.uid, 0] {
        arena.case(&format!("inotify, as {uid}"), Due::Nothing, || {
            let watch = format!(
                "call(libc.inotify_add_watch(call(libc.inotify_init()), b'{}', 0xfff))",
                arena.alice.display()
            );
            assert_eq!(met_by(as_user(uid, volume.base(), "env"), &watch), "EACCES");
        });
    }
}

#[test]
fn the_place_of_a_view_is_roots_alone() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let (view, mounts) = (arena.alice.display(), arena.daemon.mounts.display());
    for statement in [
        format!("os.rename('{view}', '{mounts}/mine')"),
        format!("os.rmdir('{view}')"),
        format!("os.mkdir('{mounts}/61009')"),
        format!("os.symlink('/', '{mounts}/61009')"),
        format!("os.chmod('{mounts}', 0o777)"),
    ] {
        arena.case(&statement, Due::Nothing, || {
            for uid in [ALICE.uid, BOB.uid] {
                let met = errno(uid, volume.base(), &statement);
                assert!(
                    ["EACCES", "EPERM", "EBUSY"].contains(&met.as_str()),
                    "{uid}: {met}"
                );
            }
        });
    }
}
