//! A volume that is served in the other layout is refused, not shown empty.

use std::fs;
use std::process::{Command, Output};

use crate::common::daemon::Daemon;
use crate::common::{ALICE, LAYOUTS, Layout, SERVICE_UID, Volume, run, set_mode, tenantfs};
use crate::{stderr, stdout};

fn on(volume: &Volume, name: &str, layout: Layout, options: &[&str]) -> Output {
    let mut command = tenantfs();
    command.arg(name).arg("--volume").arg(volume.root());
    command.args(["--layout", &layout.to_string()]).args(options);
    run(command, "")
}

fn mount(volume: &Volume, layout: Layout) -> Command {
    let place = volume.base().join("mnt-tried");
    fs::create_dir_all(&place).unwrap();
    let mut command = volume.mount_command(&place, &ALICE, &[]);
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = tenantfs();
    let mut named = false;
    for arg in args {
        let is_layout = std::mem::replace(&mut named, arg == "--layout");
        command.arg(if is_layout { layout.to_string().into() } else { arg });
    }
    command
}

#[test]
fn the_other_layouts_data_are_met_with_a_refusal_that_says_so() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
        let (wrong, told) = (layout.other(), format!("the volume is {layout}, for "));
        let tried = run(mount(&volume, wrong), "");
        assert_eq!(tried.status.code(), Some(2), "{}", stderr(&tried));
        for output in [
            tried,
            run(
                {
                    let mut command = Daemon::command(&volume, &[]);
                    command.env("TENANTFS_LAYOUT", wrong.to_string());
                    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
                    let at = args.iter().position(|arg| arg == "--layout").unwrap();
                    let mut command = tenantfs();
                    command.env("TENANTFS_LAYOUT", wrong.to_string());
                    command.args(&args[..at]).args(&args[at + 2..]);
                    command
                },
                "",
            ),
            on(&volume, "verify", wrong, &[]),
            on(&volume, "list", wrong, &["--all"]),
            on(&volume, "export", wrong, &["--user-id", "alice", "--to", "-"]),
        ] {
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.contains(&told)
                    && said.contains(&format!("tenantfs migrate --from {layout} --to {wrong}")),
                "{said}"
            );
        }
        set_mode(&volume.static_keys_file(), 0o644);
        let keys = volume.static_keys_file();
        let looked = on(
            &volume,
            "doctor",
            wrong,
            &["--static-keys", keys.to_str().unwrap()],
        );
        let said = stdout(&looked);
        assert!(said.contains(&format!("problem  volume   {told}")), "{said}");
        assert!(!volume.root().join(".tenantfs-layout").exists());
        assert_eq!(volume.files(&ALICE).len(), 1, "and nothing was made");
        assert!(on(&volume, "verify", layout, &[]).status.success());
        // What is asked for is done.
        assert!(
            on(
                &volume,
                "migrate",
                layout,
                &["--from", &layout.to_string(), "--to", &wrong.to_string()]
            )
            .status
            .success()
        );
        assert!(on(&volume, "verify", wrong, &[]).status.success());
        assert_eq!(on(&volume, "verify", layout, &[]).status.code(), Some(2));
    }
}

#[test]
fn a_volume_says_its_layout_from_the_first_start_on() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let mark = volume.root().join(".tenantfs-layout");
        let mut read_only = Daemon::command(&volume, &["--read-only"]);
        read_only.env("TENANTFS_LOG", "warn");
        drop(Daemon::start_command(&volume, read_only));
        assert!(!mark.exists(), "nothing is written on what is read-only");
        drop(Daemon::start(&volume, &[]));
        assert_eq!(
            fs::read_to_string(&mark).unwrap(),
            format!("{{\"layout\":\"{layout}\"}}\n")
        );
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&mark).unwrap());
        assert_eq!(owner, SERVICE_UID);
        // An empty volume has a layout, too.
        let refused = on(&volume, "verify", layout.other(), &[]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            stderr(&refused).contains("by its .tenantfs-layout"),
            "{}",
            stderr(&refused)
        );
    }
}

#[test]
fn a_volume_with_both_is_served_as_it_is_asked_for_and_the_log_names_what_nobody_sees() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    let stray = volume.root().join("users/2bd806c97f0e00af/schedules");
    fs::create_dir_all(stray).unwrap();
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let said = daemon.log();
    assert!(
        said.contains("users/2bd806c97f0e00af of the volume is as in user-first, and nobody sees it"),
        "{said}"
    );
    assert!(
        said.contains("tenantfs migrate --from user-first --to resource-first"),
        "{said}"
    );
}
