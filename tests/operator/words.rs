//! What is said to who mistypes names what is wrong, where, and what to do.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::path::Path;

use crate::common::daemon::Daemon;
use crate::common::{ALICE, Layout, SERVICE_UID, Volume, run, set_mode, tenantfs};
use crate::stderr;

/// What a daemon with this configuration says, which is wrong.
fn refused(volume: &Volume, config: &str) -> String {
    let path = volume.base().join("config.toml");
    fs::write(&path, config).unwrap();
    let mut command = tenantfs();
    command.args(["daemon", "--check", "--config"]).arg(&path);
    command.env("TENANTFS_LOG", "warn");
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(2), "{config}: {}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_config_file_that_is_wrong_is_told_as_it_would_be_right() {
    let volume = Volume::new(Layout::default());
    let keys = volume.base().join("list.json");
    fs::write(&keys, r#"[{"sha256":"00","user_id":"alice"}]"#).unwrap();
    set_mode(&keys, 0o644);
    let with = |rest: &str| format!("[volume]\npath = {:?}\n{rest}", volume.root());
    for (config, said) in [
        (
            with("[auth]\nlease = 60\n"),
            "a time in quotes, with its unit, such as \"60s\"",
        ),
        (
            "volume = \"/srv/records\"\n".to_owned(),
            "a section [volume] with its keys below it",
        ),
        (
            with(""),
            "no way to authenticate is given: set auth.url or auth.static_keys in the config file",
        ),
        (
            "[auth]\nurl = \"https://x/\"\n".to_owned(),
            "no volume is given: set volume.path in the config file",
        ),
        (
            with(&format!("[auth]\nstatic_keys = {keys:?}\n")),
            "it is a list, which belongs into an object); expected {\"keys\":[{",
        ),
        (
            with("[auth]\nstatic_keys = \"~/keys.json\"\n"),
            "~ is not expanded here",
        ),
        (
            "[volume]\npath = \"~/vol\"\n[auth]\nurl = \"https://x/\"\n".to_owned(),
            "~ is not expanded here",
        ),
        (
            with(&format!(
                "[auth]\nurl = \"https://x/\"\n[mounts]\npath = \"{}/mnt/{{uid}}\"\n",
                volume.root().display()
            )),
            "is inside the volume",
        ),
    ] {
        let error = refused(&volume, &config);
        assert!(error.contains(said), "{config}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_volume_behind_a_closed_door_names_the_door() {
    let volume = Volume::new(Layout::default());
    let home = volume.base().join("home");
    fs::create_dir_all(home.join("data/vol")).unwrap();
    chown(home.join("data/vol"), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    set_mode(&home.join("data/vol"), 0o750);
    set_mode(&home, 0o700);
    let root = home.join("data/vol");
    let error = refused(
        &volume,
        &format!(
            "[volume]\npath = {root:?}\n[auth]\nstatic_keys = {:?}\n[server]\nuser = \"{SERVICE_UID}\"\n",
            volume.static_keys_file()
        ),
    );
    assert!(
        error.contains(&format!(
            "whom {} does not let through; run: chmod o+x '{}'",
            home.display(),
            home.display()
        )),
        "{error}"
    );
}

#[test]
fn no_place_in_the_volume_is_mounted_on() {
    let volume = Volume::new(Layout::default());
    let place = volume.root().join("mnt");
    fs::create_dir(&place).unwrap();
    let output = run(volume.mount_command(&place, &ALICE, &[]), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("is inside the volume"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_copy_to_a_volume_that_is_not_there_names_its_own_option() {
    let volume = Volume::new(Layout::default());
    let mut command = tenantfs();
    command.args([
        "migrate",
        "--from",
        "resource-first",
        "--to",
        "user-first",
        "--to-volume",
        "/nowhere",
        "--volume",
    ]);
    let output = run(
        {
            command.arg(volume.root());
            command
        },
        "",
    );
    assert!(
        stderr(&output).contains("/nowhere does not exist; create it or correct --to-volume"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn new_keys_where_the_units_look_need_no_option() {
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    command.arg("mkdir -p /etc/credstore; mount -t tmpfs none /etc/credstore; \"$0\" keys generate /etc/credstore/tenantfs.sealing-keys");
    command.arg(env!("CARGO_BIN_EXE_tenantfs"));
    let said = stderr(&run(command, ""));
    assert!(
        said.contains("systemctl restart tenantfs") && !said.contains("--sealing-keys"),
        "{said}"
    );
}

/// What a login says when its auth service is not to be had as configured.
fn login(volume: &Volume, options: &[&str]) -> String {
    let daemon = Daemon::start(volume, options);
    let output = daemon.ask(ALICE.uid, &["login"], ALICE.api_key);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn an_auth_service_that_is_not_to_be_had_is_told_with_where_to_look() {
    let volume = Volume::new(Layout::default());
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = plain.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let said = login(&volume, &["--auth-url", &format!("https://127.0.0.1:{port}/")]);
    server.join().unwrap();
    assert!(
        said.contains("does not speak TLS; is it the port of http://?"),
        "{said}"
    );

    let socket = volume.base().join("auth.sock");
    for url in [
        "https://auth.example.org/validate",
        "http://auth.example.org/validate",
    ] {
        let said = login(
            &volume,
            &["--auth-url", url, "--auth-socket", socket.to_str().unwrap()],
        );
        for words in [
            socket.to_str().unwrap(),
            "tenantfs-auth.socket",
            "TENANTFS_AUTH_HOST=",
            "/etc/tenantfs/auth.env",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    assert!(!Path::new(&socket).exists());
}
