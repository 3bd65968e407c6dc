//! How much each user may have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenantfs::error::{Error, Result};
use tenantfs::quota::{Limits, Quotas, Users, UsersFile, parse_bytes};
use tenantfs::store::Options;

use super::{file, value};
use crate::cli::QuotaArgs;

/// The largest file that is no record, in bytes.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) for what is no size.
pub(super) fn max_attachment(text: Option<String>) -> Result<u64> {
    match text {
        Some(text) => value::size(&text, "file", u64::MAX),
        None => Ok(Options::default().max_attachment),
    }
}

/// What is said of quotas; nothing is counted where nothing is said.
#[derive(Default)]
pub(crate) struct Quota {
    everybody: Limits,
    users: Option<PathBuf>,
}

impl Quota {
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for what is no size.
    pub(super) fn of(args: QuotaArgs, file: file::Quota) -> Result<Self> {
        let bytes = match args.quota_bytes.or(file.bytes.map(|size| size.0)) {
            Some(text) => Some(parse_bytes(&text).ok_or_else(|| {
                Error::config(format!(
                    "{text:?} is not a quota: use a size like 10GiB; see --quota-bytes"
                ))
            })?),
            None => None,
        };
        Ok(Self {
            everybody: Limits {
                bytes,
                files: args.quota_files.or(file.files),
            },
            users: args.quota_users.or(file.users),
        })
    }

    /// For who only looks.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for what is wrong in the config file.
    pub(crate) fn alone(args: QuotaArgs, config: Option<&Path>) -> Result<Self> {
        Self::of(args, file::File::read(config)?.quota)
    }

    /// The file of what single users may have.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.users.as_deref()
    }

    /// What each user may have, and the file that says so of some, if there is one.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(crate) fn users(&self) -> Result<(Users, Option<UsersFile>)> {
        match &self.users {
            Some(path) => {
                let (file, users) = UsersFile::open(path, self.everybody)?;
                Ok((users, Some(file)))
            }
            None => Ok((Users::everybody(self.everybody), None)),
        }
    }

    /// For sessions; none where there are no quotas.
    ///
    /// # Errors
    /// As [`users`](Self::users).
    pub(crate) fn quotas(&self) -> Result<Option<Arc<Quotas>>> {
        if self.users.is_none() && self.everybody == Limits::default() {
            return Ok(None);
        }
        let (users, file) = self.users()?;
        Ok(Some(Quotas::new(users, file)))
    }
}
