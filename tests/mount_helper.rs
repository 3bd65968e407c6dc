//! `mount.tenantfs`, as mount(8) runs it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{ALICE, Layout, Volume, eventually, is_mounted, require_root, run, shell};

/// The helper by its name, and a mountpoint, which is unmounted also when a test fails.
struct Helper<'v> {
    volume: &'v Volume,
    program: PathBuf,
    mountpoint: PathBuf,
}

impl<'v> Helper<'v> {
    fn new(volume: &'v Volume) -> Self {
        require_root();
        let (program, mountpoint) = (volume.base().join("mount.tenantfs"), volume.base().join("helped"));
        symlink(env!("CARGO_BIN_EXE_tenantfs"), &program).unwrap();
        fs::create_dir(&mountpoint).unwrap();
        Self {
            volume,
            program,
            mountpoint,
        }
    }

    /// Runs it as mount(8) does, with these options beyond those that say whose the view is.
    fn mount(&self, source: &Path, options: &str) -> Output {
        let mut command = Command::new(&self.program);
        command.arg(source).arg(&self.mountpoint).arg("-o").arg(format!(
            "uid={},api_key_file={},static_keys={},audit_log=none{options}",
            ALICE.uid,
            self.volume.api_key_file(&ALICE).display(),
            self.volume.static_keys_file().display(),
        ));
        run(command, "")
    }

    /// The processes that have the mountpoint on their command line.
    fn servers(&self) -> usize {
        let mountpoint = self.mountpoint.to_str().unwrap();
        let commands = fs::read_dir("/proc").unwrap().flatten();
        let commands = commands.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        commands.filter(|command| command.contains(mountpoint)).count()
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.mountpoint)
            .output();
    }
}

#[test]
fn a_view_is_mounted_as_fstab_says_and_umount_ends_its_server() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"n":1,"user_id":"alice"}"#);
    let helper = Helper::new(&volume);
    let others = ",rw,nosuid,nodev,_netdev,nofail,noauto,x-systemd.automount,x-systemd.idle-timeout=1min";
    let output = helper.mount(&volume.root(), others);
    assert!(output.status.success(), "{output:?}");
    let seen = || shell(ALICE.uid, &helper.mountpoint, "cat schedules/x.json");
    assert_eq!(seen(), r#"{"n":1,"user_id":"alice"}"#);
    let unmounted = Command::new("umount").arg(&helper.mountpoint).status().unwrap();
    assert!(unmounted.success());
    assert!(eventually(Duration::from_secs(10), || helper.servers() == 0));

    // The first field may be a mere name; and a view may be read-only.
    let output = helper.mount(
        Path::new("records"),
        &format!(",ro,volume={}", volume.root().display()),
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(seen(), r#"{"n":1,"user_id":"alice"}"#);
    let refused = shell(
        ALICE.uid,
        &helper.mountpoint,
        "echo {} 2>&1 >schedules/y.json || :",
    );
    assert!(refused.contains("Read-only"), "{refused}");
}

#[test]
fn what_is_wrong_is_said_and_mounts_nothing() {
    let volume = Volume::new(Layout::ResourceFirst);
    let helper = Helper::new(&volume);
    for (options, code, said) in [
        (",uif=alice", 1, "there is no option uif"),
        (",suid", 1, "suid cannot be had"),
        (",lease=soon", 1, "lease"),
        (",api-key=secret", 1, "there is no option api-key"),
    ] {
        let output = helper.mount(&volume.root(), options);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{options}: {error}");
        assert!(error.contains(said), "{options}: {error}");
    }
    fs::write(helper.mountpoint.join("file"), "").unwrap();
    let output = helper.mount(&volume.root(), "");
    assert_eq!(output.status.code(), Some(32), "{output:?}");
    assert!(!is_mounted(&helper.mountpoint) && helper.servers() == 0);
}
