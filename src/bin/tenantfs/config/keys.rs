//! Which keys seal secrets, and sign the audit log: those that the server has, for the operator's commands too.

use std::path::{Path, PathBuf};

use tenantfs::audit::HeadKey;
use tenantfs::error::{Error, Result};
use tenantfs::seal::SealingKeys;

use super::audit::head_key;
use super::file::{self, File};
use crate::cli::KeysArgs;

/// Where the units have systemd look for the sealing keys (systemd.exec(5), `LoadCredential=`), in its order.
const CREDENTIAL_STORES: [&str; 4] = [
    "/etc/credstore",
    "/run/credstore",
    "/usr/local/lib/credstore",
    "/usr/lib/credstore",
];

/// How the units call them there.
const STORED: &str = "tenantfs.sealing-keys";

/// Where they are, where the README's lines were followed.
pub(crate) const STORED_KEYS: &str = "/etc/credstore/tenantfs.sealing-keys";

/// Where sealing keys come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeysFrom {
    /// There are none.
    Nowhere,
    /// A file that the configuration names.
    Named(PathBuf),
    /// What systemd passed to this process.
    Credential,
    /// The file that systemd passes to the units.
    Stored(PathBuf),
}

/// The sealing keys, if there are any.
pub(super) struct Keys {
    pub(super) keys: Option<SealingKeys>,
    pub(super) from: KeysFrom,
}

impl Keys {
    /// Those in the file `named`; else in systemd's credential `sealing-keys`; else, for who may read it, in the file that the units get
    /// that from.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for what is wrong with the file.
    pub(super) fn find(named: Option<PathBuf>) -> Result<Self> {
        let (keys, from) = if let Some(path) = named {
            (Some(SealingKeys::load(&path)?), KeysFrom::Named(path))
        } else if let Some(path) = credential("sealing-keys") {
            (Some(SealingKeys::load_credential(&path)?), KeysFrom::Credential)
        } else if let Some(path) = stored() {
            (Some(SealingKeys::load(&path)?), KeysFrom::Stored(path))
        } else {
            (None, KeysFrom::Nowhere)
        };
        Ok(Self { keys, from })
    }
}

/// The file that the units' credential comes from, for who may see it: root.
fn stored() -> Option<PathBuf> {
    let mut all = CREDENTIAL_STORES
        .iter()
        .map(|store| Path::new(store).join(STORED));
    all.find(|path| path.exists())
}

/// The file of one of systemd's credentials, if there is one (systemd.exec(5), `LoadCredential=`).
pub(crate) fn credential(name: &str) -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.exists().then_some(path)
}

/// What signs audit logs, now and before: with every key of the file that is named, here or in the config file, or else is the server's.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) when the keys cannot be read, or a config file that was named cannot.
pub(crate) fn head_keys(file: Option<PathBuf>, config: Option<&Path>) -> Result<Vec<HeadKey>> {
    let named = match file {
        Some(file) => Some(file),
        None => File::if_readable(config)?.records.sealing_keys,
    };
    let Some(keys) = Keys::find(named)?.keys else {
        return Ok(Vec::new());
    };
    let kids = keys.ids();
    kids.filter_map(|kid| head_key(&keys, kid).transpose()).collect()
}

/// The sealing keys file that is to be made or changed.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) when none is named, or the config file is wrong.
pub(crate) fn sealing_keys_file(args: KeysArgs) -> Result<PathBuf> {
    let configured = match args.file {
        Some(file) => Some(file),
        None => File::read(args.config.as_deref())?.records.sealing_keys,
    };
    configured.or_else(stored).ok_or_else(|| {
        Error::config(format!(
            "no sealing keys file is given: name one, such as {STORED_KEYS}, or set records.sealing_keys in {}",
            file::DEFAULT_FILE
        ))
    })
}
