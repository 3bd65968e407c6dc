//! Where each setting comes from: flag, else environment (clap sees to those two), else config file, else
//! default.

mod audit;
mod file;
mod keys;
mod quota;
mod value;
mod written;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tenantfs::audit::Options as AuditOptions;
use tenantfs::auth::Terms;
use tenantfs::error::{Error, Result};
use tenantfs::layout::Layout;
use tenantfs::name::Resource;
use tenantfs::seal::SealingKeys;
use tenantfs::store::{self, SESSION_KEY_FIELD};
use tenantfs::volume::Durability;

use crate::cli::{ClientArgs, Commit, DaemonArgs, MountArgs, ServeArgs, VolumeArgs};
pub(crate) use audit::{Log, log};
use file::File;
pub(crate) use file::Version;
use keys::Keys;
pub(crate) use keys::{KeysFrom, STORED_KEYS, credential, head_keys, sealing_keys_file};
pub(crate) use quota::Quota;
pub(crate) use value::Endpoint;

/// Where the daemon listens, and where its mounter does, unless configured otherwise.
pub(crate) const DEFAULT_CONTROL: &str = "/run/tenantfs/control.sock";
const DEFAULT_MOUNTER: &str = "/run/tenantfs/mounter.sock";

/// How many sessions one user may have in a daemon, unless configured otherwise.
const DEFAULT_SESSIONS_PER_USER: usize = 4;

/// Where the daemon mounts, unless configured otherwise.
const DEFAULT_MOUNTS: &str = "/run/tenantfs/mnt/{uid}";

/// The shortest lease: every renewal is a question to the auth service.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// Who says whose a key is.
pub(crate) enum AuthSource {
    /// A service.
    Service {
        url: String,
        /// Through which it is reached, where this process has no network.
        socket: Option<PathBuf>,
        /// Whether the key may travel in the clear.
        insecure: bool,
        /// The account that runs it on this host, by name or uid, if that is neither root nor the server's.
        user: Option<String>,
    },
    /// A file.
    StaticKeys(PathBuf),
}

/// Which volume, and how it is to be understood.
pub(crate) struct VolumeSettings {
    pub(crate) path: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) resources: Vec<Resource>,
    /// In bytes.
    pub(crate) max_record: u64,
    pub(crate) keep_removed: Duration,
    pub(crate) secret_fields: Vec<String>,
    pub(crate) keys: Option<Arc<SealingKeys>>,
    /// Where they come from.
    pub(crate) keys_from: KeysFrom,
    /// Where it is told what is done.
    pub(crate) audit: Option<AuditOptions>,
    /// Who works on it, if not its owner.
    pub(crate) server_user: Option<String>,
}

/// What serving needs, for one session or many.
pub(crate) struct Serving {
    pub(crate) on: VolumeSettings,
    pub(crate) store: store::Options,
    pub(crate) auth: AuthSource,
    pub(crate) terms: Terms,
    /// How much each user may have.
    pub(crate) quota: Quota,
    pub(crate) exec: bool,
    /// What publishes the volume, if it has to be; and what fetches what others published.
    pub(crate) commit_command: Option<Vec<String>>,
    pub(crate) reload_command: Option<Vec<String>>,
    /// The socket of a mounter that must be used.
    pub(crate) mounter: Option<PathBuf>,
    /// Where one listens that is used if it is there.
    pub(crate) mounter_beside: PathBuf,
    /// Where metrics can be read.
    pub(crate) metrics: Option<Endpoint>,
}

/// What `mount` is to do.
pub(crate) struct MountSettings {
    pub(crate) serving: Serving,
    pub(crate) mountpoint: PathBuf,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) background: bool,
}

/// What `daemon` is to do.
pub(crate) struct DaemonSettings {
    pub(crate) serving: Serving,
    pub(crate) control: PathBuf,
    /// A path with `{uid}` as its last component.
    pub(crate) mounts: String,
    /// How many sessions one user of the service may have.
    pub(crate) sessions_per_user: usize,
}

impl MountSettings {
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for whatever is missing or wrong.
    pub(crate) fn of(args: MountArgs) -> Result<Self> {
        let mut file = File::read(args.serve.on.config.as_deref())?;
        // One file is for all mounts of a host and its daemon, and only one of them can listen there.
        file.metrics.listen = None;
        Ok(Self {
            mountpoint: args.mountpoint,
            api_key_file: args.api_key_file.or(file.auth.api_key_file.clone()),
            uid: args.uid.or(file.mounts.uid.as_ref().map(|user| user.0)),
            gid: args.gid.or(file.mounts.gid.as_ref().map(|group| group.0)),
            background: args.background.or(file.mounts.background).unwrap_or(false),
            serving: Serving::of(args.serve, file)?,
        })
    }
}

impl DaemonSettings {
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for whatever is missing or wrong.
    pub(crate) fn of(args: DaemonArgs) -> Result<Self> {
        let file = File::read(args.serve.on.config.as_deref())?;
        let mounts = args.mounts.or(file.mounts.path.clone());
        Ok(Self {
            control: control_socket(args.socket, &file),
            mounts: check_mounts(mounts.unwrap_or_else(|| DEFAULT_MOUNTS.to_owned()))?,
            sessions_per_user: args
                .sessions_per_user
                .or(file.mounts.sessions_per_user)
                .map_or(DEFAULT_SESSIONS_PER_USER, NonZeroUsize::get),
            serving: Serving::of(args.serve, file)?,
        })
    }
}

/// The socket of the daemon that a client talks to. A client needs nothing else of the config file, which it
/// may not even be allowed to read.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) when a config file was named and is wrong.
pub(crate) fn client_socket(args: ClientArgs) -> Result<PathBuf> {
    if let Some(socket) = args.socket {
        return Ok(socket);
    }
    Ok(control_socket(None, &File::if_readable(args.config.as_deref())?))
}

/// Whether this text is a config file, with nothing that is not known.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) that says where it is not.
pub(crate) fn check(text: &str) -> Result<()> {
    File::parse(text, Path::new(file::DEFAULT_FILE)).map(drop)
}

/// The config file that is read.
pub(crate) fn shown_file(named: Option<&Path>) -> PathBuf {
    named.unwrap_or(Path::new(file::DEFAULT_FILE)).to_owned()
}

fn control_socket(argument: Option<PathBuf>, file: &File) -> PathBuf {
    let configured = argument.or(file.control.socket.clone());
    configured.unwrap_or_else(|| DEFAULT_CONTROL.into())
}

impl VolumeSettings {
    /// For work on a whole volume.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for whatever is missing or wrong.
    pub(crate) fn alone(args: VolumeArgs) -> Result<Self> {
        let file = File::read(args.config.as_deref())?;
        Self::of(args, file.records, file.volume, file.audit, file.server)
    }

    fn of(
        args: VolumeArgs,
        records: file::Records,
        volume: file::Volume,
        audit: file::Audit,
        server: file::Server,
    ) -> Result<Self> {
        let layout = match (args.layout, volume.layout) {
            (Some(layout), _) => layout,
            (None, Some(layout)) => layout.parse::<Layout>()?,
            (None, None) => Layout::default(),
        };
        let defaults = store::Options::default();
        let resources = args.resources.or(volume.resources);
        let max_size = args.max_size.or(records.max_size.map(|size| size.0));
        let keep_removed = match args.keep_removed.or(records.keep_removed.map(|time| time.0)) {
            Some(text) => value::duration(&text, "time to keep removed records", Duration::ZERO)?,
            None => defaults.keep_removed,
        };
        let Keys { keys, from } = Keys::find(args.sealing_keys.or(records.sealing_keys))?;
        Ok(Self {
            path: volume_path(args.volume.or(volume.path))?,
            layout,
            resources: resources.map_or(Ok(defaults.resources), |names| parse_resources(&names))?,
            keep_removed,
            max_record: match max_size {
                Some(size) => value::size(&size, "record", value::MAX_SIZE)?,
                None => defaults.max_record,
            },
            secret_fields: args
                .secret_fields
                .or(records.secret_fields)
                .map_or(Ok(defaults.secret_fields), value::secret_fields)?,
            audit: audit::options(
                args.audit_log.or(audit.path),
                args.audit_level.or(audit.level),
                args.audit_user_rate.or(audit.user_rate.map(|rate| rate.0)),
                keys.as_ref(),
            )?,
            keys: keys.map(Arc::new),
            keys_from: from,
            server_user: args.server_user.or(server.user),
        })
    }
}

impl Serving {
    fn of(args: ServeArgs, file: File) -> Result<Self> {
        let commit = args.commit.or(file.volume.commit);
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        let commit_command = args
            .commit_command
            .map(words)
            .or(file.volume.commit_command.clone());
        let reload_command = args
            .reload_command
            .map(words)
            .or(file.volume.reload_command.clone());
        let attach = args
            .attach_session_key
            .or(file.records.attach_session_key.clone())
            .unwrap_or_default();
        let on = VolumeSettings::of(args.on, file.records, file.volume, file.audit, file.server)?;
        let insecure = args.insecure.or(file.auth.insecure).unwrap_or(false);
        let socket = args.auth_socket.or(file.auth.socket);
        let user = args.auth_service_user.or(file.auth.service_user);
        let auth = match auth_source(args.auth_url, args.static_keys)? {
            Some(auth) => Some(auth),
            None => auth_source(file.auth.url, file.auth.static_keys)?,
        };
        let auth = auth.map(|auth| match auth {
            Either::Url(url) => AuthSource::Service {
                url,
                socket,
                insecure,
                user,
            },
            Either::File(path) => AuthSource::StaticKeys(path),
        });
        let period = |text: Option<String>, what, least, default| match text {
            Some(text) => value::duration(&text, what, least),
            None => Ok(default),
        };
        let terms = Terms::default();
        Ok(Self {
            store: store::Options {
                layout: on.layout,
                resources: on.resources.clone(),
                durability: match commit {
                    Some(Commit::Fsync) => Durability::Ordered,
                    Some(Commit::Close) | None => Durability::Durable,
                },
                read_only: args.read_only.or(file.mounts.read_only).unwrap_or(false),
                max_record: on.max_record,
                max_attachment: quota::max_attachment(
                    args.max_attachment_size
                        .or(file.attachments.max_size.map(|size| size.0)),
                )?,
                // Read as the account that serves: see `Quota::quotas`.
                quotas: None,
                keep_removed: on.keep_removed,
                secret_fields: on.secret_fields.clone(),
                keys: on.keys.clone(),
                attach_session_key: check_attach(&attach, &on)?,
                remembered: store::Options::default().remembered,
            },
            on,
            auth: auth.ok_or_else(|| {
                missing(
                    "way to authenticate",
                    "auth.url or auth.static_keys",
                    "--auth-url URL or --static-keys FILE",
                )
            })?,
            terms: Terms {
                lease: period(
                    args.lease.or(file.auth.lease.map(|time| time.0)),
                    "lease",
                    SHORTEST_LEASE,
                    terms.lease,
                )?,
                grace: period(
                    args.grace.or(file.auth.grace.map(|time| time.0)),
                    "grace period",
                    Duration::ZERO,
                    terms.grace,
                )?,
            },
            quota: Quota::of(args.quota, file.quota)?,
            exec: args.exec.or(file.mounts.exec).unwrap_or(false),
            commit_command,
            reload_command,
            mounter: args.mounter,
            mounter_beside: file.mounts.mounter.unwrap_or_else(|| DEFAULT_MOUNTER.into()),
            metrics: match args.metrics_listen.or(file.metrics.listen) {
                Some(text) => Some(value::endpoint(&text)?),
                None => None,
            },
        })
    }
}

fn volume_path(path: Option<PathBuf>) -> Result<PathBuf> {
    let path = path.ok_or_else(|| missing("volume", "volume.path", "--volume DIR"))?;
    match path.starts_with("~") {
        // In a config file, or behind `--volume=`, where the shell has left it.
        true => Err(Error::config(format!(
            "the volume {}: ~ is not expanded here; write the whole path",
            path.display()
        ))),
        false => Ok(path),
    }
}

fn check_attach(names: &[String], on: &VolumeSettings) -> Result<Vec<Resource>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if on.keys.is_none() {
        return Err(Error::config(
            "session keys are attached sealed, and there are no sealing keys: use --sealing-keys FILE, or no \
             --attach-session-key",
        ));
    }
    if !on.secret_fields.iter().any(|field| field == SESSION_KEY_FIELD) {
        return Err(Error::config(format!(
            "session keys are attached as {SESSION_KEY_FIELD}, which is not a secret field; see --secret-fields and \
             --attach-session-key"
        )));
    }
    let unknown = names
        .iter()
        .find(|name| !on.resources.iter().any(|resource| resource.as_str() == *name));
    match unknown {
        Some(name) => Err(Error::config(format!(
            "there is no resource {name:?} to attach session keys in; see --attach-session-key"
        ))),
        None => parse_resources(names),
    }
}

fn missing(what: &str, key: &str, flag: &str) -> Error {
    Error::config(format!(
        "no {what} is given: set {key} in the config file ({} unless --config names another), or use {flag}",
        file::DEFAULT_FILE
    ))
}

/// What one level of configuration says.
enum Either {
    Url(String),
    File(PathBuf),
}

fn auth_source(url: Option<String>, static_keys: Option<PathBuf>) -> Result<Option<Either>> {
    match (url, static_keys) {
        (Some(_), Some(_)) => Err(Error::config(
            "both an auth service and a static keys file are given; keep one of them",
        )),
        (Some(url), None) => Ok(Some(Either::Url(url))),
        (None, Some(file)) => Ok(Some(Either::File(file))),
        (None, None) => Ok(None),
    }
}

/// Each uid has a place of its own, directly in a directory that has nothing else.
fn check_mounts(path: String) -> Result<String> {
    let places = path.strip_suffix("/{uid}");
    match places {
        Some(places) if Path::new(places).is_absolute() && !places.contains(['{', '}']) => Ok(path),
        _ => Err(Error::config(format!(
            "{path:?} does not give each uid a place to mount at: use an absolute path that ends in /{{uid}}, such as \
             {DEFAULT_MOUNTS}"
        ))),
    }
}

fn parse_resources(names: &[String]) -> Result<Vec<Resource>> {
    let mut resources: Vec<Resource> = Vec::new();
    for name in names {
        let resource = Resource::new(name)?;
        if resources.contains(&resource) {
            return Err(Error::config(format!("the resource {name:?} is given twice")));
        }
        resources.push(resource);
    }
    match resources.is_empty() {
        true => Err(Error::config("at least one resource is needed; see --resources")),
        false => Ok(resources),
    }
}
