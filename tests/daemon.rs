//! The daemon as its users meet it: login, work, status, logout; and what it says when that cannot be.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use common::auth::AuthService;
use common::daemon::Daemon;
use common::{
    ALICE, BOB, Layout, Volume, as_user, errno, eventually, is_mounted, python, run, shell, success, tenantfs,
};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn two_users_log_in_work_side_by_side_and_log_out() {
    for layout in common::LAYOUTS {
        let volume = Volume::new(layout);
        let daemon = Daemon::start(&volume, &[]);
        let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
        for (tenant, place) in [(&ALICE, &alices), (&BOB, &bobs)] {
            let script = format!(
                "echo '{{\"of\":\"{}\"}}' > schedules/nightly.json; ls schedules",
                tenant.user
            );
            assert_eq!(shell(tenant.uid, place, &script), "nightly.json\n");
            let stored = volume.stored(tenant, "schedules", "nightly.json");
            assert_eq!(
                stored,
                format!("{{\"of\":\"{0}\",\"user_id\" :\"{0}\"}}\n", tenant.user)
            );
        }
        assert_eq!(
            errno(BOB.uid, volume.base(), &format!("os.listdir({alices:?})")),
            "EACCES"
        );

        daemon.asked(ALICE.uid, &["logout"], "");
        assert!(
            !is_mounted(&alices) && !alices.exists(),
            "the mountpoint goes with the session"
        );
        assert_eq!(
            shell(BOB.uid, &bobs, "cat schedules/nightly.json"),
            "{\"of\":\"bob\"}\n"
        );
        daemon.login(&ALICE);
        assert_eq!(
            shell(ALICE.uid, &alices, "cat schedules/nightly.json"),
            "{\"of\":\"alice\"}\n"
        );
    }
}

#[test]
fn what_is_below_a_mountpoint_is_roots_and_nobody_can_write_there() {
    use std::os::unix::fs::MetadataExt as _;
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let parent = fs::metadata(&daemon.mounts).unwrap();
    assert_eq!((parent.uid(), parent.mode() & 0o7777), (0, 0o755));
    // Root sees beneath the mount in a mount namespace of its own.
    let script = format!("umount -l {0} && stat -c '%u %g %a' {0}", place.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    assert_eq!(success(command, ""), "0 0 555\n");
    assert!(is_mounted(&place));
}

#[test]
fn a_user_sees_and_ends_its_own_session_and_root_all() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let nobody = daemon.ask(ALICE.uid, &["status"], "");
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&nobody.stdout), "you are not logged in\n");
    daemon.login(&ALICE);
    daemon.login(&BOB);
    let uids = |viewer| {
        let status = daemon.json(viewer, &["status"], "");
        let sessions = status["sessions"].as_array().unwrap().clone();
        sessions
            .iter()
            .map(|session| session["uid"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(uids(ALICE.uid), [u64::from(ALICE.uid)]);
    assert_eq!(uids(0), [u64::from(ALICE.uid), u64::from(BOB.uid)]);

    let alice = ALICE.uid.to_string();
    for refused in [
        &["logout", "--uid", &alice][..],
        &["login", "--uid", &alice],
        &["revoke", "--uid", &alice],
        &["revoke", "--user-id", "alice"],
        &["revoke", "--all"],
    ] {
        let output = daemon.ask(BOB.uid, refused, BOB.api_key);
        assert_eq!(output.status.code(), Some(1), "{refused:?}");
        assert!(said(&output).contains("only root may"), "{}", said(&output));
    }
    assert_eq!(uids(0).len(), 2);

    assert_eq!(
        daemon.asked(0, &["revoke", "--user-id", "alice"], ""),
        "1 session ended\n"
    );
    assert_eq!(uids(0), [u64::from(BOB.uid)]);
    daemon.asked(0, &["login", "--uid", &alice], ALICE.api_key);
    assert_eq!(uids(0).len(), 2);
    // For others, but not for itself.
    let output = daemon.ask(0, &["login", "--uid", "0"], ALICE.api_key);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("never root's"), "{}", said(&output));
    assert_eq!(uids(0).len(), 2);
    daemon.asked(0, &["logout", "--uid", &alice], "");
    assert_eq!(
        daemon.json(0, &["revoke", "--all"], ""),
        serde_json::json!({"ended": [BOB.uid]})
    );
    assert_eq!(daemon.asked(0, &["status"], ""), "nobody is logged in\n");
}

#[test]
fn status_says_which_directories_were_replaced_since_the_login() {
    let volume = Volume::new(Layout::ResourceFirst);
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let session = || daemon.json(ALICE.uid, &["status"], "")["sessions"][0].clone();
    assert_eq!(session()["replaced"], serde_json::Value::Null);
    assert_eq!(session()["more_drafts"], false);
    let directory = volume.directory(&ALICE, "schedules");
    let aside = directory.with_extension("aside");
    fs::rename(&directory, &aside).unwrap();
    assert_eq!(session()["replaced"], serde_json::json!(["schedules"]));
    let mut copy = Command::new("cp");
    copy.arg("-a").args([&aside, &directory]);
    success(copy, "");
    assert_eq!(session()["replaced"], serde_json::json!(["schedules"]));
    let text = daemon.asked(ALICE.uid, &["status"], "");
    assert!(
        text.contains("replaced    schedules: ") && text.contains("log out and in"),
        "{text}"
    );
    daemon.asked(ALICE.uid, &["logout"], "");
    daemon.login(&ALICE);
    assert_eq!(session()["replaced"], serde_json::Value::Null);
}

#[test]
fn status_says_what_was_removed_and_still_counts() {
    let volume = Volume::new(Layout::ResourceFirst);
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let session = || daemon.json(ALICE.uid, &["status"], "")["sessions"][0].clone();
    assert_eq!(session()["removed"], serde_json::Value::Null);
    let script = "mkdir schedules/sub; for n in 1 2 3; do echo '{\"n\":1}' > schedules/sub/$n.json; done; rm -r schedules/sub";
    shell(ALICE.uid, &place, script);
    let removed = serde_json::json!({"bytes": 3 * 8, "records": 3, "counted": true});
    assert_eq!(session()["removed"], removed);
    let text = daemon.asked(ALICE.uid, &["status"], "");
    assert!(
        text.contains("removed     24 B in 3 records wait to go by themselves"),
        "{text}"
    );
}

#[test]
fn status_shows_the_session_and_what_could_not_be_saved_and_why() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let script = "mkdir schedules/sub; echo '{\"broken\":' > schedules/sub/x.json || true;
        echo '{\"api_key\":\"sk-secret\"}' > results/y.json || true";
    shell(ALICE.uid, &place, script);
    let held = common::Conversation::start_in(
        ALICE.uid,
        &place,
        "f = open('schedules/sub/x.json'); print(1, flush=True); input()",
    );
    let mut held = held;
    held.next();

    let status = daemon.json(ALICE.uid, &["status"], "");
    let session = &status["sessions"][0];
    assert_eq!(session["uid"], ALICE.uid);
    assert_eq!(session["user_id"], ALICE.user);
    assert_eq!(session["mountpoint"], place.to_str().unwrap());
    assert_eq!(session["state"], "active");
    assert!(session["good_for"].as_u64().unwrap() <= 60);
    assert_eq!(session["open_files"], 1);
    let drafts: Vec<_> = session["drafts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|draft| draft["path"].as_str().unwrap())
        .collect();
    assert_eq!(drafts, ["results/y.json", "schedules/sub/x.json"]);
    let since = session["since"].as_str().unwrap();
    assert!(since.len() == 20 && since.ends_with('Z'), "{since}");

    let text = daemon.asked(ALICE.uid, &["status"], "");
    for line in [
        place.to_str().unwrap(),
        "alice, uid 61001",
        "active",
        "schedules/sub/x.json: the text breaks off",
        "results/y.json: the member \"api_key\" is a secret, and there are no sealing keys",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("sk-secret"));
}

#[test]
fn a_login_that_cannot_be_says_why_and_leaves_nothing() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let check = |output: Output, code: i32, words: &str| {
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
        assert_eq!(said(&output).lines().count(), 1);
        assert!(output.stdout.is_empty());
    };
    check(
        daemon.ask(ALICE.uid, &["login"], "no-such-key"),
        3,
        "not one of the static keys",
    );
    check(daemon.ask(ALICE.uid, &["login"], ""), 2, "is empty");
    check(
        daemon.ask(ALICE.uid, &["login"], "two words"),
        2,
        "one line without spaces",
    );
    check(
        daemon.ask(ALICE.uid, &["login", "--api-key-file", "/nowhere"], ""),
        2,
        "/nowhere",
    );
    check(daemon.ask(ALICE.uid, &["logout"], ""), 1, "no such session");
    let mut elsewhere = tenantfs();
    elsewhere.args(["status", "--socket", "/nowhere/x"]);
    check(run(elsewhere, ""), 1, "the daemon is not running");
    assert!(daemon.mounted().is_empty());
    assert!(!daemon.place(ALICE.uid).exists());

    let failed = daemon.ask(ALICE.uid, &["login", "--json"], "no-such-key");
    let answer: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(answer["error"]["code"], "refused");

    // The directories are another user's whose id has the same hash.
    let marker = volume.plant(&BOB, "schedules", ".tenantfs-owner", "f".repeat(64));
    check(daemon.ask(BOB.uid, &["login"], BOB.api_key), 3, "hash");
    fs::remove_file(marker).unwrap();
    daemon.login(&BOB);
}

#[test]
fn logging_in_again_goes_on_with_the_new_key_and_another_user_is_refused() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let mut held = common::Conversation::start_in(
        ALICE.uid,
        &place,
        "import os; os.chdir('schedules')\nwhile True: print(len(os.listdir('.')), flush=True); input()",
    );
    assert_eq!(held.next(), "0");
    assert_eq!(daemon.login(&ALICE), place);
    assert_eq!(held.next(), "0", "the session is the same");
    let output = daemon.ask(ALICE.uid, &["login"], BOB.api_key);
    assert!(
        said(&output).contains("logged in as another user"),
        "{}",
        said(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(held.next(), "0");
    // Two users of the host may be the same user of the service.
    daemon.asked(BOB.uid, &["login"], ALICE.api_key);
    shell(BOB.uid, &daemon.place(BOB.uid), "echo '{}' > schedules/x.json");
    assert_eq!(held.next(), "1");
}

#[test]
fn a_key_may_come_from_a_file_and_never_from_the_command_line() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let file = volume.home(ALICE.uid).join("api-key");
    shell(
        ALICE.uid,
        volume.base(),
        &format!("umask 077; echo {} > {}", ALICE.api_key, file.display()),
    );
    daemon.asked(
        ALICE.uid,
        &["login", "--api-key-file", file.to_str().unwrap()],
        "",
    );
    assert!(is_mounted(&daemon.place(ALICE.uid)));
    let output = daemon.ask(BOB.uid, &["login", BOB.api_key], "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn guessing_keys_gets_slower_for_the_one_who_guesses() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let mut refusals = (0..20).map(|_| said(&daemon.ask(ALICE.uid, &["login"], "a-guess")));
    assert!(refusals.any(|said| said.contains("try again in")));
    let output = daemon.ask(ALICE.uid, &["login"], ALICE.api_key);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    daemon.login(&BOB);
    // A good key in between is no way around that.
    let guess = ["a-guess", "a-guess", BOB.api_key];
    let mut answers = (0..12).map(|round| said(&daemon.ask(BOB.uid, &["login"], guess[round % 3])));
    assert!(answers.any(|said| said.contains("try again in")));
}

#[test]
fn a_login_that_the_volume_refuses_is_told_as_that_and_as_nothing_else() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    let daemon = Daemon::start(&volume, &[]);
    let resource = volume.root().join("schedules");
    let directory = volume.directory(&ALICE, "schedules");
    let aside = volume.root().join("aside");
    let failure = |uid, args: &[&str]| {
        let answer = daemon.json(uid, args, ALICE.api_key);
        assert!(answer["error"].is_object(), "{answer}");
        answer["error"].clone()
    };
    for (errno, spoil) in [
        ("EACCES", "chmod 0 schedules"),
        ("EACCES", "chmod 500 schedules/2bd806c97f0e00af"),
        (
            "ENOTDIR",
            "mv schedules/2bd806c97f0e00af aside; touch schedules/2bd806c97f0e00af",
        ),
        (
            "ELOOP",
            "mv schedules/2bd806c97f0e00af aside; ln -s nowhere schedules/2bd806c97f0e00af",
        ),
    ] {
        success(root_shell(&volume, spoil), "");
        let told = failure(ALICE.uid, &["login"]);
        assert_eq!(told["code"], "volume_failed", "{errno}: {told}");
        let uid = ALICE.uid.to_string();
        let to_root = failure(0, &["login", "--uid", &uid]);
        assert_eq!(to_root["code"], "volume_failed", "{to_root}");
        let message = to_root["message"].as_str().unwrap();
        assert!(message.contains(volume.root().to_str().unwrap()), "{message}");
        assert!(
            daemon.log().contains(message),
            "the operator's log has it too\n{message}"
        );
        common::set_mode(&resource, 0o750);
        if aside.exists() {
            fs::remove_file(&directory).unwrap();
            fs::rename(&aside, &directory).unwrap();
        }
        common::set_mode(&directory, 0o750);
    }
    daemon.login(&ALICE);
}

fn root_shell(volume: &Volume, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(volume.root());
    command
}

#[test]
fn a_login_that_a_logout_overtakes_brings_nothing_back() {
    let volume = Volume::new(Layout::default());
    let service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let daemon = Daemon::start(&volume, &["--auth-url", service.url()]);
    daemon.login(&ALICE);
    service.pause();
    let again = thread::scope(|scope| {
        let again = scope.spawn(|| daemon.ask(ALICE.uid, &["login"], ALICE.api_key));
        thread::sleep(Duration::from_millis(300));
        daemon.asked(ALICE.uid, &["logout"], "");
        service.resume();
        again.join().unwrap()
    });
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("has ended meanwhile"), "{}", said(&again));
    assert_eq!(daemon.state(ALICE.uid), "none");
    daemon.login(&ALICE);
}

#[test]
fn a_terminal_shows_what_is_typed_again_when_the_prompt_for_the_key_is_left() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let program = common::daemon::reachable_program(&volume);
    let prompt = "import fcntl, os, pty, subprocess, sys, termios, time\n\
        program, socket, key = sys.argv[1:]\n\
        for typed in (b'\\x03', b'typed\\x1c', key.encode() + b'\\n'):\n\
        \x20   master, terminal = pty.openpty()\n\
        \x20   before = termios.tcgetattr(terminal)\n\
        \x20   client = subprocess.Popen([program, 'login', '--socket', socket], stdin=terminal, stdout=terminal, stderr=terminal,\n\
        \x20       preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)))\n\
        \x20   while termios.tcgetattr(terminal)[3] & termios.ECHO: time.sleep(0.01)\n\
        \x20   os.write(master, typed)\n\
        \x20   status = client.wait(20)\n\
        \x20   print(status, termios.tcgetattr(terminal) == before)\n\
        \x20   shown = os.read(master, 1000); assert b'typed' not in shown and key.encode() not in shown, shown";
    let args = [
        program.to_str().unwrap(),
        daemon.socket.to_str().unwrap(),
        ALICE.api_key,
    ];
    let ended = python(ALICE.uid, volume.base(), prompt, &args);
    assert_eq!(ended, "-2 True\n-3 True\n0 True\n");
    assert!(is_mounted(&daemon.place(ALICE.uid)));
}

#[test]
fn a_session_that_root_unmounts_is_over() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    daemon.login(&BOB);
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(eventually(Duration::from_secs(5), || daemon.state(ALICE.uid) == "none"));
    assert_eq!(daemon.state(BOB.uid), "active");
    daemon.login(&ALICE);
}

#[test]
fn whoever_abuses_the_control_socket_gets_an_answer_and_keeps_nobody_waiting() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let answer_to = |sent: &[u8]| {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // It may hang up before it has taken all of it.
        let _ = stream.write_all(sent);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    for nonsense in [
        &b"\n"[..],
        b"hello\n",
        b"[1,2\n",
        b"\xff\xfe\n",
        b"{\"login\":{\"key\":7}}\n",
        b"{\"reboot\":{}}\n",
    ] {
        assert!(
            answer_to(nonsense).contains("\"code\":\"bad_request\""),
            "{nonsense:?}"
        );
    }
    assert!(answer_to(&vec![b'x'; 1 << 20]).contains("too long"));
    assert_eq!(
        answer_to(b"\n{\"status\":{}}\n").lines().count(),
        1,
        "nonsense ends a connection"
    );

    // Alice opens far too many, and says nothing on any.
    let flood = "import socket, sys, time\n\
        all = []\n\
        for _ in range(2000):\n    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); all.append(s)\n\
        all[-1].settimeout(5); print(all[-1].recv(1000)); time.sleep(0.5)";
    let socket = daemon.socket.to_str().unwrap();
    let mut flooding = as_user(ALICE.uid, volume.base(), "python3");
    flooding.args(["-c", flood, socket]);
    thread::scope(|scope| {
        let flooded = scope.spawn(|| run(flooding, ""));
        let started = Instant::now();
        daemon.login(&BOB);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        let output = flooded.join().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            printed.contains("too many connections"),
            "{printed} {}",
            said(&output)
        );
    });
    daemon.login(&ALICE);
}

#[test]
fn a_second_daemon_on_the_same_socket_or_mounts_is_refused_and_a_dead_ones_are_taken() {
    let volume = Volume::new(Layout::default());
    let mut daemon = Daemon::start(&volume, &[]);
    let second = run(Daemon::command(&volume, &[]), "");
    assert_eq!(second.status.code(), Some(2), "{}", said(&second));
    assert!(
        said(&second).contains("another daemon listens"),
        "{}",
        said(&second)
    );
    let place = daemon.login(&ALICE);
    let mut command = tenantfs();
    command.arg("daemon").arg("--volume").arg(volume.root());
    command.arg("--static-keys").arg(volume.static_keys_file());
    command.arg("--socket").arg(volume.base().join("run/other.sock"));
    command.arg("--mounts").arg(daemon.mounts.join("{uid}"));
    let second = run(command, "");
    assert_eq!(second.status.code(), Some(2), "{}", said(&second));
    assert!(said(&second).contains("mounts there"), "{}", said(&second));
    assert!(is_mounted(&place));
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
}

#[test]
fn a_flood_by_one_user_leaves_the_others_responsive() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
    shell(BOB.uid, &bobs, "echo '{\"a\":1}' > schedules/x.json");
    let flood = "import os, time, threading\n\
        end = time.time() + 3\n\
        open('schedules/big.json', 'w').write('{\"a\":\"' + 'x' * 4000000 + '\"}')\n\
        def work(i):\n    held = []\n    while time.time() < end:\n\
        \x20       try: held.append(os.open('schedules/big.json', os.O_RDONLY)); os.listdir('schedules'); os.open(f'schedules/{i}-{len(held)}.txt', os.O_CREAT|os.O_RDWR)\n\
        \x20       except OSError: time.sleep(0.001)\n\
        all = [threading.Thread(target=work, args=(i,)) for i in range(8)]\n\
        [t.start() for t in all]; [t.join() for t in all]";
    let mut flooding = as_user(ALICE.uid, &alices, "python3");
    flooding.args(["-B", "-c", flood]);
    thread::scope(|scope| {
        let flooded = scope.spawn(|| run(flooding, ""));
        let measure = "import os, time\nworst = 0\nend = time.time() + 2.5\n\
            while time.time() < end:\n    begun = time.time(); assert open('schedules/x.json').read() == '{\"a\":1}\\n'; os.listdir('results'); worst = max(worst, time.time() - begun); time.sleep(0.002)\n\
            print(worst)";
        let worst: f64 = python(BOB.uid, &bobs, measure, &[]).trim().parse().unwrap();
        assert!(worst < 1.0, "bob waited {worst} s");
        assert!(flooded.join().unwrap().status.success());
    });
}
