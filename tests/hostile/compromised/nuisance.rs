//! What a compromised server can do to the mounter itself: nonsense, floods, silence, and as much as it can hold.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Forked, Listening, PATIENCE, Scene, request};
use crate::arena::{long, rounds, tell};
use crate::common::{ALICE, BOB, SERVICE_UID, as_user, eventually, is_mounted, python};

/// The longest that root may wait for a mount and its end in a flood: half of what a server waits for an answer. Idle it takes
/// some milliseconds.
const TURN: Duration = Duration::from_secs(5);

#[test]
fn nonsense_ends_the_connection_that_it_came_from_with_its_mounts_and_no_other() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let roots = service.roots();
    let kept = scene.path("mnt/kept");
    let _kept = roots.mount(&request(&kept)).unwrap();
    let answers = service.seized(
        "place = list((base + '/mnt/x').encode())\n\
         good = json.dumps(wanted(base + '/mnt/x')).encode()\n\
         nonsense = [b'x', b'{}', b'null', b'[' * 60000, b'{\"Mount\":' * 6000, good[:-1], good + b'x', good + b' ' * 70000, b'\\0', b'\\xff' * 200,\n\
         \x20   b' ' * 65536, b' ' * 65537, b'9' * 60000, b'{\"Unmount\":7}', b'{\"Adopt\":[7]}', b'\"Welcome\"', b'{\"Mounted\":{}}',\n\
         \x20   wanted('mnt/x'), wanted(base + '/mnt/a\\0b'), wanted(base + '/mnt/a\\nb'), wanted(base + '/mnt/\\x1b[2J'), wanted(base + '/mnt/\\x85'),\n\
         \x20   wanted(base + '/mnt/' + 'x' * 5000), {**wanted(base + '/mnt/x'), 'Unmount': 7},\n\
         \x20   {'Adopt': [dict(entry=dict(identity=dict(number=-1, device=[0, 0]), mountpoint=place), serial=7, made=True)]}, {'Clear': [7] * 9000}, {'Clear': list(b'/\\n')}]\n\
         for number, message in enumerate(nonsense):\n\
         \x20   other = connect(); hear(other)\n\
         \x20   mounted = mount(base + f'/mnt/before-{number}', to=other)\n\
         \x20   if 'Mounted' not in mounted: print(mounted)\n\
         \x20   print(say(message, to=other))\n\
         other = connect(); hear(other); other.send(b''); print(hear(other))",
    );
    assert_eq!(answers, ["closed"; 28]);
    tell("compromised", "nonsense", answers.len());
    assert!(
        eventually(PATIENCE, || scene.mounts().len() == 1),
        "{:?}",
        scene.mounts()
    );
    assert!(is_mounted(&kept));
    // One line a second, and nothing of what was sent as it was.
    let log = service.log();
    assert!(log.lines().count() <= 4 + answers.len() / 2, "{log}");
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log}");
}

/// What is left in each connection when its server is gone: a socket whose end takes a minute, for nobody reads what was sent on it.
const LINGERING: &str = r"
print('Mounted' in mount(base + '/mnt/live'), flush=True)
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
if os.fork() == 0:
    keep = listener.fileno(); os.closerange(0, keep); os.closerange(keep + 1, 4096); time.sleep(30); os._exit(0)
def lingering():
    s = socket.socket(); s.connect(listener.getsockname())
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, 'little') + (60).to_bytes(4, 'little'))
    s.settimeout(0)
    try:
        while True: s.send(b'x' * 65536)
    except OSError: return s
sys.stdin.readline()
for to in [s] + [connect() for _ in range(60)]:
    held.append(lingering())
    try: to.sendmsg([b'{}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [held[-1].fileno()]))])
    except OSError: pass
os._exit(0)
";

#[test]
fn what_lingers_delays_neither_the_end_of_mounts_nor_others_connections() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let mut attacker = service.attacker(LINGERING);
    let mut attacker = attacker
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(attacker.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said, "True\n");
    // It has yet to read when everybody who has those sockets is gone.
    let mounter = Pid::from_child(&service.process);
    kill_process(mounter, Signal::STOP).unwrap();
    writeln!(attacker.stdin.take().unwrap()).unwrap();
    assert!(attacker.wait().unwrap().success());
    kill_process(mounter, Signal::CONT).unwrap();
    assert!(
        eventually(PATIENCE, || scene.mounts().is_empty()),
        "the mounts end with their server: {:?}",
        scene.mounts()
    );
    let begun = Instant::now();
    drop(service.roots().mount(&request(&scene.path("mnt/next"))).unwrap());
    assert!(
        begun.elapsed() < PATIENCE,
        "others are let in: {:?}",
        begun.elapsed()
    );
    tell("compromised", "connections that end with what lingers", 61);
}

#[test]
fn descriptors_are_not_taken_whatever_they_are() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", service.process.id()))
        .unwrap()
        .count();
    let answers = service.seized(
        "mounted = mount(base + '/mnt/live'); live = held[-1]\n\
         listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()\n\
         lingering = socket.socket(); lingering.connect(listener.getsockname())\n\
         lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (2).to_bytes(4, 'little') * 2)\n\
         lingering.settimeout(0)\n\
         try:\n\
         \x20   while True: lingering.send(b'x' * 65536)\n\
         except OSError: pass\n\
         path, null, epoll = os.open('/etc', os.O_PATH), os.open('/dev/null', os.O_RDWR), __import__('select').epoll().fileno()\n\
         bound = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
         many = [null] * 250\n\
         for fds in ([live], [path], [null], [epoll], [bound.fileno()], [lingering.fileno()], many, [live, path, null]):\n\
         \x20   for message in (wanted(base + '/mnt/x'), {'Unmount': claim_of(mounted)}, b'x'):\n\
         \x20       other = connect(); hear(other)\n\
         \x20       print(say(message, fds, to=other))\n\
         unread = connect(); hear(unread)\n\
         try: unread.sendmsg([json.dumps(wanted(base + '/mnt/unread')).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [lingering.fileno()]))])\n\
         except PermissionError: pass\n\
         lingering.close()",
    );
    // Since Linux 6.16 the kernel does not send them.
    assert!(
        answers == ["closed"; 8 * 3] || answers == ["PermissionError"; 8 * 3],
        "{answers:?}"
    );
    assert!(eventually(PATIENCE, || scene.mounts().is_empty()));
    let back = eventually(PATIENCE, || {
        let now = fs::read_dir(format!("/proc/{}/fd", service.process.id())).unwrap();
        now.count() <= descriptors + 1
    });
    assert!(back);
    tell("compromised", "messages with descriptors", answers.len());
}

#[test]
fn whoever_reads_no_answers_loses_the_connection_and_its_mounts() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let answers = service.seized(
        "s.settimeout(5); sent = 0\n\
         try:\n\
         \x20   while sent < 5000: s.send(json.dumps(wanted(base + f'/mnt/{sent}')).encode()); sent += 1\n\
         except OSError as error: print(type(error).__name__)\n\
         print(sent < 5000)",
    );
    assert_eq!(answers.last().map(String::as_str), Some("True"), "{answers:?}");
    assert!(eventually(PATIENCE, || scene.is_as_before()));
}

#[test]
fn a_crowd_of_connections_does_not_lock_root_out() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let hold = "\
        others = [connect() for _ in range(60)]\n\
        heard = [hear(other) for other in others]\n\
        print(sum('Welcome' in answer for answer in heard), heard[-1], flush=True)\n\
        time.sleep(60)";
    let mut holder = service.attacker(hold).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(
        line,
        "47 {\"Failed\":\"48 servers are connected, and no more may be\"}\n"
    );
    let roots: Vec<_> = (0..16).map(|_| service.roots()).collect();
    let mounted = roots[15].mount(&request(&scene.path("mnt/roots"))).unwrap();
    drop((mounted, roots));
    // And while processes want nothing but to connect.
    let flood = "\
        end = time.time() + 60\n\
        while time.time() < end:\n\
        \x20   try: connect()\n\
        \x20   except OSError: pass";
    let mut flooders: Vec<_> = (0..8).map(|_| service.attacker(flood).spawn().unwrap()).collect();
    thread::sleep(Duration::from_millis(500));
    let mut longest = Duration::ZERO;
    let tries = rounds(20, 200);
    for _ in 0..tries {
        let begun = Instant::now();
        let mounter = service.roots();
        let (mount, _connection) = mounter.mount(&request(&scene.path("mnt/roots"))).unwrap();
        mount.unmount().unwrap();
        longest = longest.max(begun.elapsed());
    }
    for process in flooders.iter_mut().chain([&mut holder]) {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    println!("root waited {longest:?} at most among flooders");
    assert!(longest < TURN, "{longest:?}");
    assert!(service.log().lines().count() < 100, "{}", service.log());
    tell("compromised", "roots connections in a flood", tries);
}

#[test]
fn whoever_asks_without_end_lets_others_have_their_turn_and_takes_no_memory() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let flood = "\
        forgery = dict(entry=dict(identity=dict(number=7, device=[0, 7]), mountpoint=list(b'/' + b'y' * 4000)), serial=7, made=True)\n\
        adopt = json.dumps({'Adopt': [forgery] * 3}).encode()\n\
        short = json.dumps({'Adopt': [{**forgery, 'entry': {**forgery['entry'], 'mountpoint': [47]}}] * 500}).encode()\n\
        clear = json.dumps({'Clear': list((base + '/mnt').encode())}).encode()\n\
        messages = [wanted(base + '/mnt/' + str(os.getpid())), wanted('/etc'), short, clear, adopt]\n\
        while True:\n\
        \x20   for message in messages:\n\
        \x20       if not say(message).startswith('{'): sys.exit('closed')";
    let mut flooders: Vec<_> = (0..rounds(8, 40))
        .map(|_| service.attacker(flood).spawn().unwrap())
        .collect();
    let many = flooders.len();
    assert!(eventually(Duration::from_secs(30), || scene.mounts().len() == many));
    let mounter = service.roots();
    let mut longest = Duration::ZERO;
    let tries = rounds(20, 500);
    for _ in 0..tries {
        let begun = Instant::now();
        let (mount, _connection) = mounter.mount(&request(&scene.path("mnt/roots"))).unwrap();
        mount.unmount().unwrap();
        longest = longest.max(begun.elapsed());
    }
    assert!(
        flooders
            .iter_mut()
            .all(|process| process.try_wait().unwrap().is_none())
    );
    for process in &mut flooders {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    println!("root waited {longest:?} at most among {many} who asked");
    assert!(longest < TURN, "{longest:?}");
    assert!(eventually(PATIENCE, || scene.mounts().is_empty()));
    let status = fs::read_to_string(format!("/proc/{}/status", service.process.id())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("the mounter took {peak} KiB at most");
    assert!(peak < 64 << 10, "{peak} KiB");
    tell("compromised", "roots mounts in a flood", tries);
}

#[test]
fn mounts_are_bounded_and_some_are_for_root() {
    let scene = Scene::new();
    // All that there may be, or as many as this many descriptors allow.
    let files = (!long()).then_some("600");
    let service = Listening::with_files(&scene, files);
    let most = if long() { 16_384 } else { 600 - 256 - 256 };
    let hold = "\
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n\
        many = 0\n\
        while 'Mounted' in (answer := mount(base + f'/mnt/{many}')): many += 1\n\
        print(many, answer, flush=True); print(hear(s)); time.sleep(600)";
    let mut holder = service.attacker(hold).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let said = format!(
        "{most} {{\"Failed\":\"the mounter has {most} mounts, and no more may be made for this account\"}}\n"
    );
    assert_eq!(line, said);
    let mounter = service.roots();
    let roots: Vec<_> = (0..10)
        .map(|number| {
            mounter
                .mount(&request(&scene.path(&format!("mnt/root-{number}"))))
                .unwrap()
        })
        .collect();
    assert_eq!(scene.mounts().len(), most + 10);
    // All of them end, and root has its turn between any two.
    let begun = Instant::now();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let mut longest = Duration::ZERO;
    while scene.mounts().len() > 10 {
        let begun = Instant::now();
        let (mount, _connection) = mounter.mount(&request(&scene.path("mnt/between"))).unwrap();
        mount.unmount().unwrap();
        longest = longest.max(begun.elapsed());
    }
    println!(
        "{most} mounts of a dead server ended in {:?}, and root waited {longest:?} at most",
        begun.elapsed()
    );
    assert!(longest < TURN, "{longest:?}");
    drop(roots);
    tell("compromised", "mounts held", most);
}

#[test]
fn a_connection_that_was_handed_on_ends_with_the_server_that_made_it() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let code = "\
        print(mount(base + '/mnt/1')[:10], flush=True)\n\
        if os.fork() == 0:\n\
        \x20   os.close(1)\n\
        \x20   time.sleep(5)\n\
        \x20   os._exit(0)\n\
        os._exit(0)";
    assert_eq!(service.seized(code), ["{\"Mounted\""]);
    assert!(eventually(Duration::from_secs(2), || scene.mounts().is_empty()));
    assert!(eventually(PATIENCE, || !scene.path("mnt/1").exists()));
}

#[test]
fn a_mount_that_never_answers_keeps_its_viewer_waiting_and_nobody_else_until_the_server_ends() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let hold = "print(mount(base + '/mnt/61002', 61002, 61002)[:10], flush=True); time.sleep(60)";
    let mut holder = service.attacker(hold).stdout(Stdio::null()).spawn().unwrap();
    let place = scene.path("mnt/61002");
    assert!(eventually(PATIENCE, || is_mounted(&place)));
    let list = |uid| {
        let mut command = as_user(uid, scene.0.path(), "ls");
        command.arg(&place).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut viewer = list(BOB.uid);
    for uid in [0, SERVICE_UID, ALICE.uid] {
        let mut other = list(uid);
        let ended = eventually(PATIENCE, || other.try_wait().unwrap().is_some());
        assert!(ended && !other.wait().unwrap().success(), "{uid}");
    }
    assert!(viewer.try_wait().unwrap().is_none());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(eventually(PATIENCE, || viewer.try_wait().unwrap().is_some()));
    assert!(eventually(PATIENCE, || !place.exists()));
}

#[test]
fn the_mounter_can_be_neither_signalled_nor_traced_nor_looked_into() {
    let scene = Scene::new();
    let mut forked = Forked::sessions(&scene);
    let pid = forked.process.id().to_string();
    let code = "\
import ctypes, os, signal, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
    try: os.kill(pid, number); print('signalled')
    except OSError: pass
if libc.ptrace(16, pid, 0, 0) == 0: print('traced')
if libc.syscall(438, os.pidfd_open(pid), 0, 0) >= 0: print('its descriptor')
for name in ('mem', 'environ', 'maps', 'fd', 'root', 'cwd'):
    try:
        path = f'/proc/{pid}/{name}'
        print(os.listdir(path) if name == 'fd' else os.readlink(path) if name in ('root', 'cwd') else open(path, 'rb').read(1))
    except OSError: pass
";
    let place: PathBuf = scene.0.path().to_owned();
    assert_eq!(python(SERVICE_UID, &place, code, &[&pid]), "");
    assert_eq!(
        forked.seized("print(mount(base + '/mnt/61001')[:10])"),
        ["{\"Mounted\""]
    );
    forked.end();
    assert_eq!(scene.mounts(), [""; 0]);
}
