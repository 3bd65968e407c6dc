//! The temporary volume, written as a web service would, and the two mounts.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tenantfs::auth::{ApiKey, key_hash};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::identity::UserId;
use tenantfs::layout::Layout;
use tenantfs::name::Resource;

use super::actor::Actor;
use crate::account;
use crate::trusted::Trust;

/// The account of the web service. Like the tenants' uids it is in a range that distributions leave alone, and needs no
/// entry in /etc/passwd.
pub(super) const SERVICE_UID: u32 = 61000;
/// Who works on the volume: nothing there is touched by root, who would follow whatever that account puts in its way.
pub(super) const SERVICE: Actor = Actor {
    uid: SERVICE_UID,
    gid: SERVICE_UID,
};
const ALICE_UID: u32 = 61001;
const BOB_UID: u32 = 61002;

/// How long a server may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Stage {
    pub(super) layout: Layout,
    pub(super) alice: Tenant,
    pub(super) bob: Tenant,
    /// Everything else is below it.
    base: PathBuf,
}

/// A user of the web service who has a uid on this host.
pub(super) struct Tenant {
    pub(super) name: &'static str,
    pub(super) actor: Actor,
    pub(super) mountpoint: PathBuf,
    server: Option<Child>,
}

impl Stage {
    /// Makes the volume and mounts both tenants' views of it.
    ///
    /// # Errors
    /// What is wrong; nothing is left behind then.
    pub(super) fn set(layout: Layout) -> Result<Self> {
        let base = make_base()?;
        let tenant = |name: &'static str, uid| Tenant {
            name,
            actor: Actor {
                uid,
                gid: account::primary_group(uid),
            },
            mountpoint: base.join(name),
            server: None,
        };
        // From here on its Drop cleans up.
        let mut stage = Self {
            layout,
            alice: tenant("alice", ALICE_UID),
            bob: tenant("bob", BOB_UID),
            base: base.clone(),
        };
        stage.furnish().doing("furnishing the demo").at(&base)?;
        stage.write_keys()?;
        let command = |tenant: &Tenant| stage.mount_command(tenant);
        let servers = (command(&stage.alice), command(&stage.bob));
        stage.alice.mount(servers.0, &base)?;
        stage.bob.mount(servers.1, &base)?;
        Ok(stage)
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.base.join("volume")
    }

    pub(super) fn mountpoints(&self) -> [PathBuf; 2] {
        [&self.alice, &self.bob].map(|tenant| tenant.mountpoint.clone())
    }

    /// Where the volume has the file `name` of the tenant.
    ///
    /// # Errors
    /// Never, for the names used here.
    pub(super) fn stored(&self, tenant: &Tenant, resource: &str, name: &str) -> Result<PathBuf> {
        let user = UserId::new(tenant.name)?.hash();
        let mut path = self.volume();
        path.extend(self.layout.components(&Resource::new(resource)?, &user));
        Ok(path.join(name))
    }

    /// Saves a record the way the web service does, with its owner and, where it has one, an API key in it.
    ///
    /// # Errors
    /// Any error of making directories and files.
    pub(super) fn save(&self, tenant: &Tenant, resource: &str, name: &str, record: &str) -> Result<()> {
        let path = self.stored(tenant, resource, name)?;
        let written = SERVICE.act(|| self.write(&path, record));
        written.doing("writing a record").at(path)
    }

    fn write(&self, path: &Path, record: &str) -> std::io::Result<()> {
        let volume = self.volume();
        let mut parents: Vec<_> = path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != volume)
            .collect();
        parents.reverse();
        for parent in parents.into_iter().filter(|parent| !parent.exists()) {
            fs::DirBuilder::new().mode(0o750).create(parent)?;
        }
        // Renamed into place, so that no reader meets a part of it.
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, record)?;
        readable_by_its_group(&temporary)?;
        fs::rename(&temporary, path)
    }

    /// Ends the mounts and removes everything; returns the directory that is gone now.
    ///
    /// # Errors
    /// What is left.
    pub(super) fn clear(mut self) -> Result<PathBuf> {
        self.strike()?;
        Ok(self.base.clone())
    }

    fn strike(&mut self) -> Result<()> {
        let ended = [self.alice.end(), self.bob.end()];
        ended.into_iter().collect::<Result<()>>()?;
        match fs::remove_dir_all(&self.base) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.doing("removing the demo's directory").at(&self.base),
        }
    }

    fn furnish(&self) -> std::io::Result<()> {
        make_directory(&self.volume(), SERVICE_UID, 0o750)?;
        for tenant in [&self.alice, &self.bob] {
            make_directory(&tenant.mountpoint, 0, 0o755)?;
            let key = self.base.join(format!("{}.key", tenant.name));
            write_private(&key, &format!("{}\n", tenant.api_key()))?;
        }
        Ok(())
    }

    fn write_keys(&self) -> Result<()> {
        let mut entries = Vec::new();
        for tenant in [&self.alice, &self.bob] {
            let sha256 = key_hash(&ApiKey::new(&tenant.api_key())?);
            entries.push(serde_json::json!({"sha256": sha256, "user_id": tenant.name}));
        }
        let path = self.keys();
        write_private(&path, &serde_json::json!({"keys": entries}).to_string())
            .doing("writing the static keys")
            .at(path)?;
        for tenant in [&self.alice, &self.bob] {
            for (resource, name, record) in tenant.records() {
                self.save(tenant, resource, name, &record)?;
            }
        }
        Ok(())
    }

    fn keys(&self) -> PathBuf {
        self.base.join("static-keys.json")
    }

    /// The same command that a user would give, undisturbed by the configuration of this host.
    fn mount_command(&self, tenant: &Tenant) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("tenantfs").arg("mount").arg(&tenant.mountpoint);
        command.args(["--config", "/dev/null", "--layout", &self.layout.to_string()]);
        command.arg("--volume").arg(self.volume());
        command.arg("--static-keys").arg(self.keys());
        // The host's is another account's.
        command.args(["--audit-log", "none"]);
        command
            .arg("--api-key-file")
            .arg(self.base.join(format!("{}.key", tenant.name)));
        command.args(["--uid", &tenant.actor.uid.to_string()]);
        command.env_clear().env("TENANTFS_LOG", "warn");
        // Ctrl-C is for the demo, which then ends its servers in order.
        command.process_group(0);
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.strike() {
            log::error!("cleaning up: {error:#}");
        }
    }
}

impl Tenant {
    /// Where the mount shows the file `name`.
    pub(super) fn shown(&self, resource: &str, name: &str) -> PathBuf {
        self.mountpoint.join(resource).join(name)
    }

    /// The key that the web service keeps in this tenant's nightly schedule.
    pub(super) fn secret(&self) -> String {
        format!("sk-{}-1f7c", self.name)
    }

    pub(super) fn server(&self) -> u32 {
        self.server.as_ref().map_or(0, Child::id)
    }

    fn api_key(&self) -> String {
        format!("demo-key-of-{}", self.name)
    }

    /// The records that the volume has of them when the demo begins.
    fn records(&self) -> [(&'static str, &'static str, String); 2] {
        let (name, secret) = (self.name, self.secret());
        let of = match name {
            "alice" => ("0 2 * * *", "run-1.json", "[0.25, 1.50]"),
            _ => ("30 4 * * *", "run-9.json", "[8, 13, 21]"),
        };
        let (cron, run, rows) = of;
        [
            (
                "schedules",
                "nightly.json",
                format!(
                    "{{\n  \"cron\": \"{cron}\",\n  \"api_key\": \"{secret}\",\n  \"user_id\": \"{name}\"\n}}"
                ),
            ),
            (
                "results",
                run,
                format!("{{\n  \"rows\": {rows},\n  \"user_id\": \"{name}\"\n}}"),
            ),
        ]
    }

    fn mount(&mut self, mut command: Command, base: &Path) -> Result<()> {
        let log = base.join(format!("{}.log", self.name));
        let doing = format!("mounting for {}", self.name);
        let mut server = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).doing(doing.clone())?)
            .spawn()
            .doing(doing.clone())?;
        let stdout = server.stdout.take();
        self.server = Some(server);
        let mut ready = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut ready).doing(doing)?;
        }
        match ready.is_empty() {
            false => Ok(()),
            true => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let last = said
                    .trim()
                    .lines()
                    .last()
                    .unwrap_or("the server ended without a word");
                Err(Error::new(
                    Kind::MountFailed,
                    last.strip_prefix("tenantfs: ").unwrap_or(last).to_owned(),
                ))
            }
        }
    }

    /// Ends the server as an operator would, or by force.
    fn end(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        // Not waited for yet, so the number is still its own.
        let _ = kill_process(Pid::from_child(&server), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(Some(_)) = server.try_wait() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        // The mounter ends the mount then.
        let _ = server.kill();
        let _ = server.wait();
        Err(Error::new(
            Kind::Io,
            format!(
                "the server of {} did not end within {PATIENCE:?} and was killed",
                self.name
            ),
        ))
    }
}

/// The mount options of what is mounted at `path`, if anything: those of the mount, and those of the file system.
pub(super) fn mount_options(path: &Path) -> Option<(String, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let here = fields.next().is_some_and(|field| Path::new(field) == path);
        here.then(|| {
            let of_mount = fields.next().unwrap_or_default();
            let of_file_system = file_system.split(' ').nth(2).unwrap_or_default();
            (of_mount.to_owned(), of_file_system.to_owned())
        })
    })
}

/// A directory that every uid may pass through, and nobody else can have made.
fn make_base() -> Result<PathBuf> {
    let parent = std::env::temp_dir();
    // The mount table has paths without symbolic links.
    let made = parent
        .canonicalize()
        .map(|parent| parent.join(format!("tenantfs-demo-{}", std::process::id())));
    const MAKING: &str = "making a directory for the demo where TMPDIR says";
    let base = made.doing(MAKING).at(&parent)?;
    Trust::of_caller("TMPDIR").place(&base)?;
    make_directory(&base, 0, 0o755)
        .map(|()| base)
        .doing(MAKING)
        .at(parent)
}

fn make_directory(path: &Path, owner: u32, mode: u32) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    chown(path, Some(owner), Some(owner))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Nobody else's to read, from the beginning.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// What the web service's own files look like.
pub(super) fn readable_by_its_group(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o640))
}
