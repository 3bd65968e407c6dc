//! A configuration is checked before it counts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::daemon::Daemon;
use crate::common::{ALICE, Layout, Volume, eventually, is_mounted, run, set_mode};
use crate::stderr;

fn check(volume: &Volume, config: &Path) -> (Option<i32>, String) {
    let mut command = Daemon::command(volume, &["--config", config.to_str().unwrap()]);
    command.arg("--check").env("TENANTFS_LOG", "warn");
    let output = run(command, "");
    (output.status.code(), stderr(&output))
}

#[test]
fn a_check_says_whether_a_daemon_could_begin_and_begins_nothing() {
    let volume = Volume::new(Layout::default());
    let config = volume.base().join("config.toml");
    fs::write(&config, "[auth]\nlease = \"60s\"\n").unwrap();
    assert_eq!(
        check(&volume, &config),
        (Some(0), "tenantfs: the configuration is good\n".to_owned())
    );
    assert!(!Daemon::socket_of(&volume).exists() && !volume.base().join("mnt").exists());
    assert!(
        !volume.root().join(".tenantfs-layout").exists(),
        "nothing is written"
    );
    // Beside a daemon that runs, too.
    let daemon = Daemon::start(&volume, &[]);
    assert_eq!(check(&volume, &config).0, Some(0));
    drop(daemon);
    for (text, said) in [
        ("[auth]\nlaese = \"60s\"\n", "laese"),
        ("[auth]\nlease = \"soon\"\n", "cannot be the lease"),
        (
            "[records]\nsealing_keys = \"/nowhere/keys.json\"\n",
            "/nowhere/keys.json",
        ),
        (
            "[quota]\nusers = \"/nowhere/quota.json\"\n",
            "/nowhere/quota.json",
        ),
        ("[volume]\npath = 7\n", "path"),
    ] {
        fs::write(&config, text).unwrap();
        let (code, error) = check(&volume, &config);
        assert_eq!(code, Some(2), "{text}: {error}");
        assert!(error.contains(said), "{text}: {error}");
    }
    fs::write(&config, "").unwrap();
    set_mode(&volume.root(), 0o500);
    let (code, error) = check(&volume, &config);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("may make no files here"), "{error}");
    set_mode(&volume.root(), 0o750);
    fs::write(volume.static_keys_file(), "[]").unwrap();
    let (code, error) = check(&volume, &config);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("it is a list"), "{error}");
}

#[test]
fn a_daemon_that_is_told_to_reload_a_wrong_file_says_so_and_goes_on_with_the_old_one() {
    let volume = Volume::new(Layout::default());
    let config = volume.base().join("config.toml");
    fs::write(&config, "[auth]\nlease = \"60s\"\n").unwrap();
    let daemon = Daemon::start(&volume, &["--config", config.to_str().unwrap()]);
    let place = daemon.login(&ALICE);
    let logged = |words: &str| {
        assert!(
            eventually(Duration::from_secs(5), || daemon.log().contains(words)),
            "{}",
            daemon.log()
        )
    };
    fs::write(&config, "[auth]\nlaese = \"60s\"\n").unwrap();
    daemon.signal(Signal::HUP);
    logged("this goes on with what it read when it began");
    assert!(daemon.log().contains("laese"));
    fs::write(&config, "[auth]\nlease = \"30s\"\n").unwrap();
    daemon.signal(Signal::HUP);
    logged("it holds from the next start on");
    assert_eq!(daemon.state(ALICE.uid), "active");
    assert!(is_mounted(&place));
}
