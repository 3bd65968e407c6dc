//! `tenantfs doctor`: a line for each thing that serving needs, and how to mend what is not there.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Output, Stdio};
use std::time::Duration;

use common::auth::AuthService;
use common::daemon::Daemon;
use common::{ALICE, BOB, Layout, SERVICE_UID, Volume, as_user, run, set_mode, tenantfs};
use tenantfs::session;

/// What the doctor says of a daemon with these options, to root.
fn doctor(volume: &Volume, options: &[&str]) -> Output {
    let daemon = Daemon::command(volume, options);
    let mut command = tenantfs();
    command.arg("doctor").args(daemon.get_args().skip(1));
    run(command, "")
}

/// The check's finding, as (ok, message, mend).
fn finding(output: &Output, check: &str) -> (bool, String, String) {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {report}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (found["ok"].as_bool().unwrap(), text("message"), text("mend"))
}

fn assert_problem(output: &Output, check: &str, message: &str, mend: &str) {
    assert_eq!(output.status.code(), Some(1));
    let (ok, said, how) = finding(output, check);
    assert!(
        !ok && said.contains(message) && how.contains(mend),
        "{check}: {said:?}, {how:?}"
    );
}

#[test]
fn all_is_well_beside_a_running_daemon() {
    let volume = Volume::new(Layout::default());
    let service = AuthService::start(&[ALICE, BOB].map(|tenant| (tenant.user, tenant.api_key)));
    let options = ["--auth-url", service.url()];
    let daemon = Daemon::start(&volume, &options);
    let threads = || {
        let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
        fs::read_dir(tasks).unwrap().count()
    };
    // With the first come some that all sessions have in common; with the next, as many as the doctor counts on for each.
    let settled = || {
        std::thread::sleep(Duration::from_millis(500));
        threads()
    };
    daemon.login(&ALICE);
    let before = settled();
    daemon.login(&BOB);
    assert_eq!(settled(), before + session::IDLE_THREADS);
    let output = doctor(&volume, &options);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.lines().filter(|line| line.starts_with("ok ")).count() >= 20
            && text
                .lines()
                .all(|line| line.starts_with("ok ") || line == "as the running server sees it:"),
        "{text}"
    );
    for said in [
        "there are no sealing keys",
        "/dev/fuse is there",
        "a session has 5 threads, 9 at most",
        "refuses a key that nobody has",
        "uid 61000, without any capability",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    volume.has_keys("k1", &["k1"]);
    let keys = volume.sealing_keys_file();
    let output = doctor(
        &volume,
        &[&options[..], &["--sealing-keys", keys.to_str().unwrap()]].concat(),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("sealed with the key k1"), "{text}");
    // It looked, and touched nothing.
    assert_eq!(volume.files(&ALICE), Vec::<std::path::PathBuf>::new());
}

#[test]
fn each_problem_is_named_with_how_to_mend_it() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[]);
    let url = service.url().to_owned();
    let with_service = ["--auth-url", &url, "--json"];
    assert_problem(
        &doctor(&volume, &with_service),
        "daemon",
        "nobody listens",
        "systemctl enable --now tenantfs.socket",
    );

    service.kill();
    assert_problem(
        &doctor(&volume, &with_service),
        "auth",
        "refused",
        "start the service",
    );
    // What says yes to everybody is no auth service.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let yes = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let body = "{\"user_id\":\"anybody\"}";
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    });
    assert_problem(
        &doctor(&volume, &["--auth-url", &yes, "--json"]),
        "auth",
        "accepts a key that nobody has",
        "auth.url",
    );
    server.join().unwrap();

    fs::write(volume.static_keys_file(), "{").unwrap();
    assert_problem(
        &doctor(&volume, &["--json"]),
        "auth",
        "static keys file",
        "let the server's account read it",
    );
    set_mode(&volume.root(), 0o500);
    assert_problem(
        &doctor(&volume, &["--json"]),
        "volume",
        "uid 61000 may make no files here",
        "let the server's account write",
    );
    set_mode(&volume.root(), 0o777);
    assert_problem(
        &doctor(&volume, &["--json"]),
        "account",
        "writable by others",
        "volume.path",
    );
    set_mode(&volume.root(), 0o750);

    fs::create_dir(volume.base().join("mnt")).unwrap();
    set_mode(&volume.base().join("mnt"), 0o777);
    assert_problem(
        &doctor(&volume, &["--json"]),
        "mounts",
        "not root's alone",
        "chmod 755",
    );
    // Root's alone, but not where it is.
    set_mode(&volume.base().join("mnt"), 0o755);
    set_mode(volume.base(), 0o777);
    assert_problem(
        &doctor(&volume, &["--json"]),
        "mounts",
        "others than root can rename what is in",
        "mounts.path",
    );
    let refused = run(Daemon::command(&volume, &[]), "");
    let said = String::from_utf8(refused.stderr).unwrap();
    // The socket is looked at first, and could be replaced there too.
    assert!(said.contains("can be written by others"), "{said}");
    set_mode(volume.base(), 0o755);
    assert_problem(
        &doctor(&volume, &["--mounter", "/nowhere", "--json"]),
        "mounter",
        "/nowhere",
        "tenantfs-mounter.socket",
    );
    volume.has_keys("k1", &["k1"]);
    let keys = volume.sealing_keys_file();
    set_mode(&keys, 0o640);
    assert_problem(
        &doctor(&volume, &["--sealing-keys", keys.to_str().unwrap(), "--json"]),
        "config",
        "chmod 600",
        "systemd/config.toml",
    );
    assert_problem(
        &doctor(&volume, &["--lease", "soon", "--json"]),
        "config",
        "soon",
        "systemd/config.toml",
    );
    let config = volume.base().join("config.toml");
    fs::write(&config, "").unwrap();
    set_mode(&config, 0o666);
    let output = doctor(&volume, &["--config", config.to_str().unwrap(), "--json"]);
    assert_problem(
        &output,
        "config",
        "can be written by others (mode 0666), who could put something else in its place; run: chmod go-w",
        "systemd/config.toml",
    );
}

#[test]
fn who_is_not_root_is_told_what_that_means() {
    let volume = Volume::new(Layout::default());
    let program = common::daemon::reachable_program(&volume);
    let mut command = as_user(ALICE.uid, volume.base(), program.to_str().unwrap());
    command
        .args(["doctor", "--json", "--static-keys", "/nowhere", "--volume"])
        .arg(volume.root());
    let output = run(command, "");
    assert_problem(
        &output,
        "account",
        "may not be read by uid 61001",
        "run doctor as root",
    );
    // The account that serves sees it all.
    set_mode(&volume.static_keys_file(), 0o644);
    let mut command = as_user(SERVICE_UID, volume.base(), program.to_str().unwrap());
    command
        .args(["doctor", "--json", "--static-keys"])
        .arg(volume.static_keys_file());
    command.arg("--volume").arg(volume.root());
    let output = run(command, "");
    for check in [
        "kernel", "landlock", "fuse", "account", "volume", "clock", "auth", "quota",
    ] {
        let (ok, message, _) = finding(&output, check);
        assert!(ok, "{check}: {message}");
    }
}

#[test]
fn a_stranger_in_the_auth_services_place_is_named() {
    let volume = Volume::new(Layout::default());
    let listen = "import socket, time\n\
                  listener = socket.create_server(('127.0.0.1', 0))\n\
                  print(listener.getsockname()[1], flush=True)\n\
                  time.sleep(60)\n";
    let mut stranger = as_user(4501, volume.base(), "python3");
    stranger.args(["-c", listen]).stdout(Stdio::piped());
    let mut stranger = stranger.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(stranger.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let url = format!("http://127.0.0.1:{}/", port.trim());
    let output = doctor(&volume, &["--auth-url", &url, "--json"]);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_problem(&output, "auth", "belongs to uid 4501", "auth.service_user");
    let nobody = [
        "--auth-url",
        &url,
        "--auth-service-user",
        "no-such-account",
        "--json",
    ];
    assert_problem(
        &doctor(&volume, &nobody),
        "auth",
        "no account \"no-such-account\"",
        "auth.service_user",
    );
}
