//! `tenantfs top` on a terminal.

use std::time::Duration;

use crate::common::daemon::Daemon;
use crate::common::terminal::Terminal;
use crate::common::{ALICE, BOB, Layout, Volume, as_user, eventually, run, tenantfs};
use crate::{stderr, stdout};

fn top(daemon: &Daemon<'_>, columns: u16, lines: u16) -> Terminal {
    let mut command = tenantfs();
    command
        .args(["top", "--interval", "1", "--socket"])
        .arg(daemon.socket());
    Terminal::start(&command, columns, lines)
}

/// Somebody who reads and writes a record again and again.
fn busy(daemon: &Daemon<'_>, uid: u32) -> std::process::Child {
    let mut command = as_user(uid, &daemon.place(uid), "sh");
    command.args([
        "-c",
        "while :; do echo '{}' > schedules/x.json; cat schedules/*.json; ls -l schedules; done >/dev/null 2>&1",
    ]);
    command.spawn().unwrap()
}

#[test]
fn top_shows_at_80_by_24_what_each_session_does_now() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "foreign.json", r#"{"user_id":"bob"}"#);
    let daemon = Daemon::start(&volume, &["--quota-bytes", "10GiB"]);
    daemon.login(&ALICE);
    daemon.login(&BOB);
    let mut work = busy(&daemon, ALICE.uid);
    let mut top = top(&daemon, 80, 24);
    let of = |lines: &[String], uid: u32| {
        let line = lines.iter().find(|line| line.starts_with(&uid.to_string()));
        line.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let shown = top.shows("alice's operations", |lines| {
        of(lines, ALICE.uid).is_some_and(|cells| cells[4].parse::<f64>().unwrap_or(0.0) > 0.0)
    });
    work.kill().unwrap();
    work.wait().unwrap();
    assert!(top.is_alternate());
    assert!(
        shown[0].starts_with("tenantfs top 2 sessions: 2 active"),
        "{shown:#?}"
    );
    assert!(shown[0].ends_with(" UTC"), "{shown:#?}");
    assert!(
        shown[1].contains(" ops/s   p50 ") && shown[1].contains("cache "),
        "{shown:#?}"
    );
    assert_eq!(
        shown[3].split_whitespace().collect::<Vec<_>>(),
        "USER USER ID STATE LEASE OPS/S P99 CACHE HIDDEN OPEN QUOTA"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let alice = of(&shown, ALICE.uid).unwrap();
    assert_eq!(alice[..3], ["61001", "alice", "active"]);
    assert!(
        alice[3].ends_with('s') && alice[5].ends_with('s') && alice[6].ends_with('%'),
        "{shown:#?}"
    );
    assert!(
        alice[7].parse::<u64>().unwrap() > 0,
        "what is hidden was met: {shown:#?}"
    );
    assert!(alice[9].ends_with("/10G"), "{shown:#?}");
    let bob = of(&shown, BOB.uid).unwrap();
    assert_eq!([&bob[4], &bob[5], &bob[7]], ["0", "-", "0"], "{shown:#?}");
    assert!(shown.iter().all(|line| line.chars().count() <= 80), "{shown:#?}");
    assert!(shown[23].starts_with("q quit"), "{shown:#?}");
    // Sorted by something else; held; and the daemon gone.
    top.types("sssss");
    top.shows("sorted by user", |lines| lines[4].starts_with("61001"));
    top.types(" ");
    top.shows("held", |lines| lines[23].contains("go on"));
    top.types(" ");
    daemon.asked(0, &["revoke", "--user-id", "bob"], "");
    top.shows("bob is gone", |lines| {
        of(lines, BOB.uid).is_none() && lines[0].contains("1 session")
    });
    top.types("q");
    assert!(top.wait().success());
    assert!(!top.is_alternate(), "the shell's screen is back");
}

#[test]
fn top_says_when_the_daemon_is_gone_and_goes_on_when_it_is_back() {
    let volume = Volume::new(Layout::default());
    let mut daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let mut top = top(&daemon, 80, 24);
    top.shows("a session", |lines| lines[0].contains("1 session"));
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait();
    top.shows("the daemon is gone", |lines| {
        lines[23].contains("the daemon is not running")
    });
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&BOB);
    top.shows("the next one", |lines| {
        lines[23].starts_with("q quit") && lines.iter().any(|line| line.contains(" bob "))
    });
    // Ctrl-C.
    top.types("\u{3}");
    assert!(top.wait().success());
}

#[test]
fn top_is_for_operators_and_for_terminals() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let output = daemon.ask(0, &["top"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("status --json"), "{}", stderr(&output));
    // How much of what a user meets is hidden from them, they must not know.
    let request = r#"import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b'{"activity":{}}\n{"doctor":{}}\n')
f = s.makefile(); print(f.readline(), f.readline())"#;
    let mut command = as_user(ALICE.uid, volume.base(), "python3");
    command.args(["-c", request]).arg(daemon.socket());
    let answer = stdout(&run(command, ""));
    assert_eq!(answer.matches("not_permitted").count(), 2, "{answer}");
    let mut command = as_user(
        ALICE.uid,
        volume.base(),
        crate::common::daemon::reachable_program(&volume)
            .to_str()
            .unwrap(),
    );
    command.args(["top", "--socket"]).arg(daemon.socket());
    let mut top = Terminal::start(&command, 80, 24);
    assert_eq!(top.wait().code(), Some(1));
    assert!(eventually(Duration::from_secs(2), || top
        .lines()
        .join(" ")
        .contains("only root")));
}

#[test]
fn top_ends_with_its_terminal() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let mut command = std::process::Command::new("python3");
    let code = "
import fcntl, os, pty, struct, sys, termios, time
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
shown = b''
while b'tenantfs top' not in shown:
    shown += os.read(terminal, 65536)
os.close(terminal)
for _ in range(500):
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        print('ended')
        break
    time.sleep(0.01)
else:
    os.kill(pid, 9)
    print('reads on')
";
    command.args(["-c", code, env!("CARGO_BIN_EXE_tenantfs"), "top", "--socket"]);
    command.arg(daemon.socket()).env("TERM", "xterm");
    let output = run(command, "");
    assert_eq!(stdout(&output), "ended\n", "{}", stderr(&output));
}
