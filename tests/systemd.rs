//! The files in systemd/: accepted by systemd as they are, as strict as they claim, and in agreement with the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{require_root, run, tenantfs};
use tempfile::TempDir;

const UNITS: [&str; 8] = [
    "tenantfs.service",
    "tenantfs.socket",
    "tenantfs-auth.service",
    "tenantfs-auth.socket",
    "tenantfs-metrics.socket",
    "tenantfs-mounter.service",
    "tenantfs-mounter.socket",
    "tenantfs@.service",
];
const SERVICES: [&str; 3] = [
    "tenantfs.service",
    "tenantfs-mounter.service",
    "tenantfs@.service",
];

/// Where the units expect the program.
const PROGRAM: &str = "/usr/bin/tenantfs";

/// What gives a service a mount namespace of its own, in systemd 252 or a later version, or takes its right to mount in
/// the host's: `exec_needs_mount_namespace()` of systemd's src/core/execute.c, and what implies or configures those.
const MOUNT_NAMESPACE: [&str; 46] = [
    "BindLogSockets",
    "BindPaths",
    "BindReadOnlyPaths",
    "CacheDirectory",
    "ConfigurationDirectory",
    "DelegateNamespaces",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "IPCNamespacePath",
    "InaccessibleDirectories",
    "InaccessiblePaths",
    "JoinsNamespaceOf",
    "LogNamespace",
    "LogsDirectory",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NetworkNamespacePath",
    "NoExecPaths",
    "PAMName",
    "PrivateBPF",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivatePIDs",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "RuntimeDirectory",
    "StateDirectory",
    "TemporaryFileSystem",
    "UserNamespacePath",
];

/// The path of a file in systemd/.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// The directives of a unit, in order, as (name, value).
fn directives(unit: &str) -> Vec<(String, String)> {
    parse(&text(unit))
}

fn parse(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The value of a directive that a unit has once.
fn value(unit: &str, name: &str) -> String {
    let all = directives(unit);
    let mut values = all.iter().filter(|(other, _)| other == name);
    let (_, value) = values.next().unwrap_or_else(|| panic!("{unit} has no {name}="));
    assert!(values.next().is_none(), "{unit} has {name}= twice");
    value.clone()
}

/// The values of an option that a unit's command has, as `--option VALUE`.
fn option(unit: &str, option: &str) -> Vec<String> {
    let command = value(unit, "ExecStart");
    let words: Vec<_> = command.split(' ').collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == option);
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// systemd's program, which must say nothing and succeed.
fn silent(mut command: Command) {
    command.env("SYSTEMD_COLORS", "0");
    let said = format!("{command:?}");
    let output = run(command, "");
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && text.is_empty(),
        "{said}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&text)
    );
}

/// A directory with the units as they would be if the program that was built were installed.
fn installed() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("tenantfs-test-")
        .tempdir()
        .unwrap();
    for unit in UNITS {
        let text = text(unit).replace(PROGRAM, env!("CARGO_BIN_EXE_tenantfs"));
        fs::write(directory.path().join(unit), text).unwrap();
    }
    directory
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let installed = installed();
    for unit in UNITS.iter().chain(&["tenantfs@alice.service"]) {
        let mut command = Command::new("systemd-analyze");
        // The manual is in the package, and tests/systemd_real installs that.
        command.args(["verify", "--recursive-errors=yes", "--man=no"]);
        command.arg(installed.path().join(unit));
        silent(command);
    }
}

#[test]
fn the_units_are_strict() {
    // In tenths, by the weights of systemd 252.
    for (unit, threshold) in [
        ("tenantfs.service", 12),
        ("tenantfs@.service", 12),
        ("tenantfs-mounter.service", 34),
        ("tenantfs-auth.service", 20),
    ] {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=yes", "--no-pager"]);
        command.arg(format!("--threshold={threshold}")).arg(file(unit));
        let output = run(command, "");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{unit}: {}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[test]
fn both_servers_have_the_same_sandbox() {
    let [server, view] = ["tenantfs.service", "tenantfs@.service"].map(|unit| {
        let text = text(unit);
        let (_, sandbox) = text.split_once("\n# The sandbox.").expect(unit);
        let (sandbox, _) = sandbox.split_once("\n[Install]\n").expect(unit);
        parse(sandbox)
    });
    assert!(server.len() > 25, "{server:?}");
    assert_eq!(server, view);
}

#[test]
fn no_servers_unit_takes_openat2_away() {
    // systemd cannot see into its arguments, so these have it fail with ENOSYS: seccomp_restrict_suid_sgid() of
    // src/shared/seccomp-util.c. Isolation is built on it.
    for unit in ["tenantfs.service", "tenantfs@.service"] {
        for (name, _) in directives(unit) {
            assert!(
                !["RestrictSUIDSGID", "DynamicUser"].contains(&name.as_str()),
                "{unit}: {name}"
            );
        }
    }
}

#[test]
fn the_mounters_mounts_are_the_hosts() {
    for (name, value) in directives("tenantfs-mounter.service") {
        assert!(
            !MOUNT_NAMESPACE.contains(&name.as_str()),
            "{name}={value} gives the mounter a mount namespace: nobody on the host would see its mounts"
        );
    }
}

#[test]
fn the_program_has_every_command_option_and_variable_that_the_units_use() {
    let mut missing = Vec::new();
    let mut look_for = |what: &str, subcommand: &str| {
        let mut command = tenantfs();
        command.args([subcommand, "--help"]);
        let output = run(command, "");
        let help = String::from_utf8(output.stdout).unwrap();
        let mut words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        if !output.status.success() || !words.any(|word| word == what) {
            missing.push(format!("{what} of `tenantfs {subcommand}`"));
        }
    };
    for unit in SERVICES {
        let command = value(unit, "ExecStart");
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some(PROGRAM), "{unit}");
        let subcommand = words.next().unwrap();
        look_for("--help", subcommand);
        for option in words.filter(|word| word.starts_with("--")) {
            look_for(option, subcommand);
        }
    }
    assert!(text("tenantfs@.service").contains("TENANTFS_UID="));
    look_for("TENANTFS_UID", "mount");
    assert!(missing.is_empty(), "the units use what is not there: {missing:?}");
}

#[test]
fn the_units_and_the_config_file_mean_the_same_places() {
    let config: toml::Table = text("config.toml").parse().unwrap();
    let configured = |section: &str, key: &str| {
        let value = config[section][key].as_str();
        value
            .unwrap_or_else(|| panic!("{section}.{key} is no string"))
            .to_owned()
    };
    let control = configured("control", "socket");
    assert_eq!(control, value("tenantfs.socket", "ListenStream"));
    let mounter = configured("mounts", "mounter");
    assert_eq!(
        mounter,
        value("tenantfs-mounter.socket", "ListenSequentialPacket")
    );
    assert_eq!(option("tenantfs@.service", "--mounter"), [mounter]);
    let auth = value("tenantfs-auth.socket", "ListenStream");
    assert!(
        text("config.toml").contains(&format!("#socket = {auth:?}")),
        "{auth}"
    );

    let metrics = value("tenantfs-metrics.socket", "ListenStream");
    assert!(
        text("config.toml").contains(&format!("#listen = {metrics:?}")),
        "{metrics}"
    );

    // The mounter mounts below the directories of the sessions and of the views, and those exist.
    let sessions = configured("mounts", "path");
    let (sessions, _) = sessions.split_once("/{uid}").unwrap();
    let command = value("tenantfs@.service", "ExecStart");
    let views = command
        .split(' ')
        .find_map(|word| word.strip_suffix("/%i"))
        .unwrap();
    assert_eq!(option("tenantfs-mounter.service", "--beneath"), [sessions, views]);
    let created = text("tenantfs.tmpfiles");
    let created: Vec<_> = created
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert!(
        created.contains(&sessions) && created.contains(&views),
        "{created:?}"
    );

    let audit = configured("audit", "path");
    for unit in ["tenantfs.service", "tenantfs@.service"] {
        let directory = format!("/var/log/{}", value(unit, "LogsDirectory"));
        assert_eq!(Path::new(&audit).parent(), Some(Path::new(&directory)), "{unit}");
    }
    assert!(include_str!("../scripts/tenantfs.logrotate").contains(&format!("\n{audit} {{\n")));

    let volume = configured("volume", "path");
    for unit in ["tenantfs.service", "tenantfs@.service"] {
        assert_eq!(value(unit, "ReadWritePaths"), format!("-{volume}"), "{unit}");
        assert_eq!(value(unit, "RequiresMountsFor"), volume, "{unit}");
    }
    assert_eq!(
        option("tenantfs.service", "--config"),
        ["/etc/tenantfs/config.toml"]
    );
}

#[test]
fn one_account_serves_and_only_it_reaches_the_mounter() {
    let account = value("tenantfs.service", "User");
    assert_eq!(value("tenantfs@.service", "User"), account);
    assert_eq!(value("tenantfs-mounter.socket", "SocketUser"), account);
    assert_eq!(value("tenantfs-auth.socket", "SocketUser"), account);
    for socket in ["tenantfs-mounter.socket", "tenantfs-auth.socket"] {
        assert_eq!(value(socket, "SocketMode"), "0600");
    }
    assert_eq!(option("tenantfs-mounter.service", "--admit"), [account.as_str()]);

    require_root();
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let mut command = Command::new("systemd-sysusers");
    command
        .arg(format!("--root={}", root.path().display()))
        .arg(file("tenantfs.sysusers"));
    let said = String::from_utf8(run(command, "").stderr).unwrap();
    let accounts = fs::read_to_string(root.path().join("etc/passwd")).expect(&said);
    let entry = accounts
        .lines()
        .find(|line| line.starts_with(&format!("{account}:")));
    assert!(entry.unwrap().ends_with("/nologin"), "{accounts}");
}

#[test]
fn the_directories_are_roots_and_the_keys_are_nobody_elses() {
    require_root();
    let root = TempDir::new().unwrap();
    let mut command = Command::new("systemd-tmpfiles");
    command
        .arg("--create")
        .arg(format!("--root={}", root.path().display()))
        .arg(file("tenantfs.tmpfiles"));
    silent(command);
    for (directory, mode) in [
        ("run/tenantfs", 0o755),
        ("run/tenantfs/mnt", 0o755),
        ("run/tenantfs/service", 0o755),
        ("etc/tenantfs", 0o755),
        ("etc/tenantfs/instances", 0o755),
        ("etc/tenantfs/keys", 0o700),
        ("etc/tenantfs/users", 0o700),
        ("etc/credstore", 0o700),
    ] {
        let metadata = fs::metadata(root.path().join(directory)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{directory}");
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{directory}");
    }
    // A name instead of a path is looked up in /etc/credstore, and need not be there (systemd.exec(5)).
    let sealing_keys = "sealing-keys:tenantfs.sealing-keys";
    assert_eq!(value("tenantfs.service", "LoadCredential"), sealing_keys);
    let template = directives("tenantfs@.service");
    let credentials = template.iter().filter(|(name, _)| name == "LoadCredential");
    let credentials: Vec<&str> = credentials.map(|(_, value)| value.as_str()).collect();
    assert_eq!(credentials, ["api-key:/etc/tenantfs/keys/%i.key", sealing_keys]);
    assert_eq!(
        value("tenantfs@.service", "EnvironmentFile"),
        "-/etc/tenantfs/instances/%i.env"
    );
}
