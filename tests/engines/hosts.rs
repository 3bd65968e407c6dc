//! Two hosts that serve one volume of a cluster: two client mounts of its file system, and a daemon on each.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::common::daemon::Daemon;
use super::common::{BOB, LAYOUTS, Layout, SERVICE_UID, Tenant, Volume, eventually, run, set_mode, tenantfs};

/// Where scripts/engines has the clusters.
const CLUSTERS: &str = "/var/tmp/tenantfs-engines";

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    A,
    B,
}

pub(crate) const HOSTS: [Host; 2] = [Host::A, Host::B];

impl Host {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// The cluster that scripts/test has brought up.
pub(crate) struct Cluster {
    engine: String,
}

impl Cluster {
    /// The one that TENANTFS_ENGINE names.
    pub(crate) fn of_environment() -> Self {
        let Some(engine) = std::env::var("TENANTFS_ENGINE")
            .ok()
            .filter(|engine| !engine.is_empty())
        else {
            panic!("TENANTFS_ENGINE names no engine: run these tests with scripts/test --engines");
        };
        let cluster = Self { engine };
        for host in HOSTS {
            let mount = cluster.mount(host);
            assert!(
                super::common::is_mounted(&mount),
                "nothing is mounted on {}: scripts/engines up {}",
                mount.display(),
                cluster.engine
            );
            // A test of faults may have left it dead: CephFS lets no client in again that hung for a minute.
            if !cluster.answers(host) {
                cluster.order("restart", Some(host));
            }
        }
        cluster
    }

    /// Whether a client answers at all.
    pub(crate) fn answers(&self, host: Host) -> bool {
        let mut asks = Command::new("ls");
        asks.arg(self.mount(host))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut asks = asks.spawn().unwrap();
        let answered = eventually(Duration::from_secs(2), || asks.try_wait().unwrap().is_some());
        // What hangs for good is not waited for.
        let _ = asks.kill();
        answered && asks.wait().unwrap().success()
    }

    pub(crate) fn mount(&self, host: Host) -> PathBuf {
        Path::new(CLUSTERS).join(&self.engine).join(host.name())
    }

    /// What the README says of this engine: after so long a host shows what was done on another one. The second of tenantfs'
    /// own, the engine's, and some for a machine that is busy.
    pub(crate) fn freshness(&self) -> Duration {
        Duration::from_millis(match self.engine.as_str() {
            "ceph" => 6_500,
            _ => 2_500,
        })
    }

    /// scripts/engines ACTION ENGINE [HOST].
    pub(crate) fn order(&self, action: &str, host: Option<Host>) {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/engines"));
        command.args([action, &self.engine]).args(host.map(Host::name));
        let output = run(command, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/engines {action}: {said}");
    }

    /// A line of the table that `scripts/test --engines` ends with.
    pub(crate) fn report(&self, promise: &str, figure: &str) {
        use std::io::Write as _;
        let line = format!("ENGINES: {} | {promise} | {figure}\n", self.engine);
        // Not eprintln!: the test runner would swallow it.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

/// As long as it takes to be sure, or, for a short run, as long as it takes to notice what is plainly broken.
pub(crate) fn at_length<T>(full: T, short: T) -> T {
    match std::env::var_os("TENANTFS_ENGINES_SHORT") {
        Some(_) => short,
        None => full,
    }
}

/// Both layouts, for what holds in either; in a short run, the one that no other test has.
pub(crate) fn layouts() -> Vec<Layout> {
    at_length(LAYOUTS.to_vec(), vec![Layout::UserFirst])
}

/// A volume of a test's own on the cluster, as both hosts have it.
pub(crate) struct TwoHosts {
    pub(crate) cluster: Cluster,
    place: String,
    volumes: [Volume; 2],
}

impl TwoHosts {
    pub(crate) fn new(layout: Layout) -> Self {
        let cluster = Cluster::of_environment();
        let volumes = HOSTS.map(|_| Volume::new(layout));
        let place = volumes[0]
            .base()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let made = cluster.mount(Host::A).join(&place);
        fs::create_dir(&made).unwrap();
        chown(&made, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        set_mode(&made, 0o750);
        for (host, volume) in HOSTS.into_iter().zip(&volumes) {
            fs::remove_dir(volume.root()).unwrap();
            symlink(cluster.mount(host).join(&place), volume.root()).unwrap();
        }
        let hosts = Self {
            cluster,
            place,
            volumes,
        };
        hosts.wait_until(Host::B, "the volume itself", |volume| volume.root().is_dir());
        hosts
    }

    pub(crate) fn volume(&self, host: Host) -> &Volume {
        match host {
            Host::A => &self.volumes[0],
            Host::B => &self.volumes[1],
        }
    }

    /// A daemon on each.
    pub(crate) fn daemons(&self, options: &[&str]) -> [Daemon<'_>; 2] {
        HOSTS.map(|host| {
            let mut command = Daemon::command(self.volume(host), options);
            // What is measured is not the writing of each request to a log.
            command.env("TENANTFS_LOG", "info");
            Daemon::start_command(self.volume(host), command)
        })
    }

    /// Waits until one host sees something of the volume.
    pub(crate) fn wait_until(&self, host: Host, what: &str, so: impl Fn(&Volume) -> bool) {
        let deadline = 3 * self.cluster.freshness();
        let came = eventually(deadline, || so(self.volume(host)));
        assert!(came, "{host:?} does not see {what} within {deadline:?}");
    }

    /// Waits until both see what was done on the other one.
    pub(crate) fn settle(&self) {
        thread::sleep(self.cluster.freshness() + Duration::from_millis(500));
    }

    /// Plants a file as the service on the first host, and waits until the second one has it.
    pub(crate) fn plant(&self, tenant: &Tenant, resource: &str, name: &str, text: &str) {
        let path = self.volume(Host::A).path(tenant, resource, name);
        let new = format!("{name}.new");
        let planted = self.volume(Host::A).plant(tenant, resource, &new, text);
        fs::rename(planted, &path).unwrap();
        self.wait_until(Host::B, name, |volume| {
            fs::read_to_string(volume.path(tenant, resource, name)).is_ok_and(|read| read == text)
        });
    }

    /// A command of the operator's, run on one host: `erase`, `migrate`, `reseal`.
    pub(crate) fn operator(&self, host: Host, name: &str, options: &[&str]) -> Command {
        let volume = self.volume(host);
        let mut command = tenantfs();
        command.env("TENANTFS_LOG", "error").arg(name);
        command.args(["--audit-log", volume.audit_log().to_str().unwrap(), "--volume"]);
        command.arg(volume.root()).args(options);
        if name != "migrate" {
            command.args(["--layout", &volume.layout.to_string()]);
        }
        command
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        // What stays goes with the cluster.
        let _ = fs::remove_dir_all(self.cluster.mount(Host::A).join(&self.place));
    }
}

/// A record of a user's, as the service stores it.
pub(crate) fn record(user: &str, number: usize) -> String {
    format!(r#"{{"n": {number}, "words": "words-of-{user}", "user_id": "{user}"}}"#)
}

/// Something of bob's that nobody else may ever see.
pub(crate) fn secret_of_bob() -> String {
    record(BOB.user, 1)
}
