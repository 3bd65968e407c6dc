//! What is to be done on this host: only what is not as it should be.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tenantfs::error::{At, Doing, Error, Result};

use super::auth::Auth;
use super::host::{self, Account, Becomes, DEFAULT_ACCOUNT, Volume};
use super::pam;
use super::settings::{self, Setting};
use super::step::Step;
use super::units::Wanted;
use crate::cli::SetupArgs;
use crate::config;

/// What is written, beside drop-ins.
pub(super) const CONFIG: &str = "/etc/tenantfs/config.toml";
pub(super) const AUTH_HOST: &str = "/etc/tenantfs/auth.env";
pub(super) const LOGROTATE: &str = "/etc/logrotate.d/tenantfs";

/// Where the units find the keys that seal secrets.
const SEALING_KEYS: &str = "/etc/credstore/tenantfs.sealing-keys";

/// Where the server reaches tenantfs-auth.service.
const AUTH_SOCKET: &str = "/run/tenantfs/auth.sock";

/// Every unit that setup may start, in the order in which they stop.
pub(super) const UNITS: [&str; 6] = [
    "tenantfs.service",
    "tenantfs.socket",
    "tenantfs-mounter.service",
    "tenantfs-mounter.socket",
    "tenantfs-auth.service",
    "tenantfs-auth.socket",
];

/// Those that are enabled; the others come with them.
pub(super) const ENABLED: [&str; 2] = ["tenantfs.service", "tenantfs-auth.socket"];

/// What is to be done, and what there is to know.
pub(super) struct Plan {
    pub(super) notes: Vec<String>,
    pub(super) steps: Vec<Step>,
}

/// What the steps so far ask of the units.
#[derive(Default)]
struct Changed {
    /// They are to be read again, and started anew with their sockets.
    units: bool,
    /// The server is to be started anew.
    server: bool,
}

impl Plan {
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for what cannot be set up so, with what to do instead.
    pub(super) fn of(args: &SetupArgs) -> Result<Self> {
        let volume = args
            .volume
            .as_deref()
            .ok_or_else(|| Error::config("no volume is given; use --volume DIR"))?;
        let volume = host::volume(volume, args.account.as_deref())?;
        let mut notes = notes_on(&volume);
        let auth = Auth::of(args, &volume.account, &mut notes)?;
        let (mut steps, mut changed) = (Vec::new(), Changed::default());
        match volume.becomes {
            Becomes::Made => steps.push(Step::MakeVolume(volume.path.clone(), volume.account.clone())),
            Becomes::Given => steps.push(Step::GiveVolume(volume.path.clone(), volume.account.clone())),
            Becomes::AsItIs | Becomes::AnothersStill => {}
        }
        if let Auth::Keys(file) = &auth {
            steps.extend(readable(file, &volume.account)?);
        }
        let configuration = configuration(args, &volume, &auth)?;
        changed.server |= configuration.is_some();
        steps.extend(configuration);
        if let Auth::Tls { host, .. } = &auth {
            let step = file(AUTH_HOST, format!("TENANTFS_AUTH_HOST={host}\n"));
            changed.units |= step.is_some();
            steps.extend(step);
        }
        steps.extend(file(LOGROTATE, logrotate(&volume.account)));
        if args.sealing_keys && !Path::new(SEALING_KEYS).exists() {
            changed.server = true;
            steps.push(Step::MakeKeys(SEALING_KEYS.into()));
        }
        let pam = args.pam || pam::is_enabled();
        let wanted = Wanted {
            volume: &volume,
            auth: &auth,
            pam,
            systemd: host::systemd_version(),
        };
        let drop_ins: Vec<Step> = wanted.all().into_iter().filter_map(drop_in).collect();
        changed.units |= !drop_ins.is_empty();
        steps.extend(drop_ins);
        steps.extend(starting(&auth, &changed));
        if args.pam {
            steps.extend(pam::enabling()?);
        }
        Ok(Self { notes, steps })
    }
}

fn notes_on(volume: &Volume) -> Vec<String> {
    let (path, account) = (volume.path.display(), &volume.account.name);
    let mut notes = vec![format!("The account {account} serves the volume {path}.")];
    if volume.becomes == Becomes::AnothersStill {
        notes.push(format!(
            "{path} belongs to another account, which has to let {account} read and write all of it."
        ));
    }
    notes
}

/// Lets the server read the file of static keys, if it cannot.
fn readable(path: &Path, account: &Account) -> Result<Option<Step>> {
    const LOOKING: &str = "looking at the static keys file";
    let shown = path.display();
    if ["/home", "/root", "/tmp", "/var/tmp"]
        .iter()
        .any(|hidden| path.starts_with(hidden))
    {
        return Err(Error::config(format!(
            "the static keys file {shown}: the server's sandbox hides what is there; move it to /etc/tenantfs"
        )));
    }
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::config(format!(
                "there is no static keys file {shown}; write it: {{\"keys\": [{{\"sha256\": \"…\", \"user_id\": \"alice\"}}]}}, where \
                 `tenantfs key-hash` makes the hash of a key"
            )));
        }
        metadata => metadata.doing(LOOKING).at(path)?,
    };
    let by_group = metadata.gid() == account.gid && metadata.mode() & 0o040 != 0;
    let is_read = by_group || metadata.mode() & 0o004 != 0;
    Ok((!is_read).then(|| Step::LetRead(path.to_owned(), account.clone())))
}

/// The configuration with what was asked for, if it is another one.
fn configuration(args: &SetupArgs, volume: &Volume, auth: &Auth) -> Result<Option<Step>> {
    let mut settings = vec![Setting::path("volume", "path", &volume.path)?];
    if let Some(layout) = args.layout {
        settings.push(Setting::text("volume", "layout", &layout.to_string())?);
    }
    let none = |name| Setting::none("auth", name);
    settings.extend(match auth {
        Auth::Tls { url, .. } => [
            Setting::text("auth", "url", url)?,
            Setting::text("auth", "socket", AUTH_SOCKET)?,
            none("service_user"),
            none("static_keys"),
        ],
        Auth::Loopback { url, service_user } => [
            Setting::text("auth", "url", url)?,
            none("socket"),
            match service_user {
                Some(name) => Setting::text("auth", "service_user", name)?,
                None => none("service_user"),
            },
            none("static_keys"),
        ],
        Auth::Keys(path) => [
            none("url"),
            none("socket"),
            none("service_user"),
            Setting::path("auth", "static_keys", path)?,
        ],
    });
    settings.push(match volume.becomes {
        // The operator's commands become the volume's owner, unless they are told.
        Becomes::AnothersStill => Setting::text("server", "user", &volume.account.name)?,
        _ => Setting::none("server", "user"),
    });
    let now = read(CONFIG)?;
    let (text, changes) = settings::apply(now.as_deref().unwrap_or(settings::COMMENTED), &settings);
    config::check(&text)
        .map_err(|error| error.context(format!("{CONFIG} would be wrong, so edit it by hand")))?;
    Ok((now.as_deref() != Some(text.as_str())).then(|| Step::Write {
        path: CONFIG.into(),
        text,
        changes: Some(changes),
    }))
}

/// The file, if it is not there or another one.
fn file(path: &str, text: String) -> Option<Step> {
    (read(path).ok().flatten().as_ref() != Some(&text)).then(|| Step::Write {
        path: path.into(),
        text,
        changes: None,
    })
}

fn drop_in((path, wanted): (PathBuf, Option<String>)) -> Option<Step> {
    let now = std::fs::read_to_string(&path).ok();
    match wanted {
        Some(text) if now.as_ref() != Some(&text) => Some(Step::Write {
            path,
            text,
            changes: None,
        }),
        None if now.is_some() => Some(Step::Remove(path)),
        _ => None,
    }
}

fn read(path: &str) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        text => text
            .map(Some)
            .doing("reading a file of the host's configuration")
            .at(path),
    }
}

/// As the package has it, for the account that serves: whoever owns the directory of a log must not lead root astray in it.
fn logrotate(account: &Account) -> String {
    let packaged = include_str!("../../../../scripts/tenantfs.logrotate");
    let from = format!("su {DEFAULT_ACCOUNT} {DEFAULT_ACCOUNT}\n");
    packaged.replace(&from, &format!("su {} {}\n", account.name, account.group))
}

/// What has the units run as they are to, in an order in which that succeeds: a socket is not made anew while its service runs.
fn starting(auth: &Auth, changed: &Changed) -> Vec<Step> {
    let systemctl = |arguments: &[&str]| Step::run("systemctl", arguments);
    let mut steps = Vec::new();
    if changed.units {
        steps.push(systemctl(&["daemon-reload"]));
    }
    let mut enabled = vec!["tenantfs.service"];
    if auth.is_proxied() {
        enabled.insert(0, "tenantfs-auth.socket");
    }
    if !enabled.iter().all(|unit| host::systemctl("is-enabled", unit)) {
        steps.push(Step::try_run("systemctl", &["enable", "--quiet"], &enabled));
    }
    if !auth.is_proxied() && host::systemctl("is-enabled", "tenantfs-auth.socket") {
        steps.push(systemctl(&[
            "disable",
            "--now",
            "--quiet",
            "tenantfs-auth.service",
            "tenantfs-auth.socket",
        ]));
    }
    // They end before the mounter does, which will not know their account any more.
    let views = if changed.units {
        host::instances()
    } else {
        Vec::new()
    };
    let views: Vec<&str> = views.iter().map(String::as_str).collect();
    if changed.units && UNITS.iter().any(|unit| host::systemctl("is-active", unit)) {
        let all = [&UNITS, views.as_slice()].concat();
        steps.push(Step::try_run("systemctl", &["stop"], &all));
    }
    // tenantfs.socket comes and goes with the server.
    let mut sockets = vec!["tenantfs-mounter.socket"];
    sockets.extend(auth.is_proxied().then_some("tenantfs-auth.socket"));
    let is_active = |unit: &&str| host::systemctl("is-active", unit);
    if changed.units || !sockets.iter().all(is_active) {
        steps.push(systemctl(&[&["start"], sockets.as_slice()].concat()));
    }
    if changed.units || !is_active(&"tenantfs.service") {
        steps.push(systemctl(&["start", "tenantfs.service"]));
    } else if changed.server {
        steps.push(systemctl(&["restart", "tenantfs.service"]));
    }
    if !views.is_empty() {
        steps.push(Step::try_run("systemctl", &["start"], &views));
    }
    steps
}
