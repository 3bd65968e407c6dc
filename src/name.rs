//! The only parsers of names: what a directory entry may be called, and what its name makes it.

use std::fmt;

use crate::error::{Doing, Error, Kind, Result};

/// Names that begin so are ours: invisible in the mount, and refused to users.
pub const RESERVED_PREFIX: &str = ".tenantfs";

/// The longest name of a directory entry, in bytes (NAME_MAX).
pub const MAX_NAME: usize = 255;

/// How the names of records end.
const RECORD_ENDING: &str = ".json";

/// Whether a regular file of this name is a record. Every other regular file is an attachment.
pub fn is_record(name: &str) -> bool {
    record_stem(name).is_some()
}

/// The name of a record without its ending; none when a regular file of this name is no record.
pub fn record_stem(name: &str) -> Option<&str> {
    name.strip_suffix(RECORD_ENDING)
}

/// A kind of record, and the name of its directory: `schedules`, `results`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Resource(EntryName);

impl Resource {
    /// A resource called `name`.
    ///
    /// # Errors
    /// [`Kind::Config`] unless `name` is a directory entry's name that does not look like a record.
    pub fn new(name: &str) -> Result<Self> {
        EntryName::parse(name.as_bytes())
            .ok()
            .filter(|entry| !entry.is_record())
            .map(Self)
            .ok_or_else(|| {
                Error::config(format!(
                    "{name:?} cannot name a resource: use a plain directory name such as \"schedules\""
                ))
            })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as the entry of the mount's root that it is.
    pub fn as_entry(&self) -> &EntryName {
        &self.0
    }
}

/// The resources a volume has unless it is configured otherwise.
pub fn default_resources() -> Vec<Resource> {
    ["schedules", "results"]
        .into_iter()
        .filter_map(|name| Resource::new(name).ok())
        .collect()
}

/// The name of one entry of a tenant's directory: UTF-8, no control characters, no slash, at most 255 bytes, neither
/// `.` nor `..`, and not one of ours.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EntryName(String);

impl EntryName {
    /// The one gate through which bytes become a name.
    ///
    /// # Errors
    /// [`Kind::NameTooLong`], [`Kind::InvalidName`], or [`Kind::NotPermitted`] for a reserved name. A lookup answers
    /// the last two like an absent file.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_NAME {
            return Err(Error::new(Kind::NameTooLong, "the name is longer than 255 bytes"));
        }
        let invalid = |why| Err(Error::new(Kind::InvalidName, why));
        let Ok(name) = std::str::from_utf8(bytes) else {
            return invalid("the name is not UTF-8");
        };
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return invalid("the name is not that of a directory entry");
        }
        if name.chars().any(char::is_control) {
            return invalid("the name has control characters");
        }
        if name.starts_with(RESERVED_PREFIX) {
            return Err(Error::new(
                Kind::NotPermitted,
                "names beginning with .tenantfs are reserved",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a regular file of this name is a record.
    pub fn is_record(&self) -> bool {
        is_record(&self.0)
    }

    /// What a service calls the record of this name; none when it is the name of no record.
    pub fn record_id(&self) -> Option<RecordId> {
        let id = record_stem(&self.0).filter(|id| !id.is_empty());
        id.map(|id| RecordId(id.to_owned()))
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a service calls a record: the name of its file without `.json`.
///
/// ```
/// use tenantfs::name::RecordId;
///
/// # fn main() -> tenantfs::error::Result<()> {
/// assert_eq!(RecordId::new("nightly")?.file_name().as_str(), "nightly.json");
/// assert!(RecordId::new("../bob/nightly").is_err());
/// assert_ne!(RecordId::random()?, RecordId::random()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RecordId(String);

impl RecordId {
    /// The id `id`, of 1 to 250 bytes.
    ///
    /// # Errors
    /// As [`EntryName::parse`] of the file's name; [`Kind::InvalidName`] when it is empty.
    pub fn new(id: &str) -> Result<Self> {
        let name = EntryName::parse(format!("{id}{RECORD_ENDING}").as_bytes())?;
        name.record_id()
            .ok_or_else(|| Error::new(Kind::InvalidName, "the id of the record is empty"))
    }

    /// An id for a new record: 128 random bits, in 32 hex digits.
    ///
    /// # Errors
    /// [`Kind::Io`] when the kernel has no random bytes.
    pub fn random() -> Result<Self> {
        let mut bits = [0; 16];
        rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
            .doing("getting random bytes")?;
        Ok(Self(hex::encode(bits)))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the record's file.
    pub fn file_name(&self) -> EntryName {
        EntryName(format!("{}{RECORD_ENDING}", self.0))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_once_and_strictly() {
        for good in [
            "x.json",
            "a b",
            "ünïcode",
            ".hidden",
            "...",
            ".tenant",
            &"n".repeat(255),
        ] {
            assert_eq!(EntryName::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let kind = |bytes: &[u8]| EntryName::parse(bytes).unwrap_err().kind();
        for bad in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b"a\nb",
            b"\x7f",
            b"\xc2\x85",
            b"\xff",
            b"a\0",
        ] {
            assert_eq!(kind(bad), Kind::InvalidName, "{bad:?}");
        }
        assert_eq!(kind(b".tenantfs-owner"), Kind::NotPermitted);
        assert_eq!(kind(b".tenantfs"), Kind::NotPermitted);
        assert_eq!(kind(&[b'n'; 256]), Kind::NameTooLong);
    }

    #[test]
    fn the_ending_makes_the_record() {
        let is_record = |name: &str| EntryName::parse(name.as_bytes()).unwrap().is_record();
        assert!(is_record("x.json"));
        assert!(is_record(".json"));
        assert!(!is_record("x.json~"));
        assert!(!is_record("x.JSON"));
        assert!(!is_record("json"));
    }

    #[test]
    fn a_records_id_is_its_name_without_the_ending() {
        for good in ["a", "a b", ".x", "..", "x.json", &"n".repeat(250)] {
            let id = RecordId::new(good).unwrap();
            assert_eq!(id.as_str(), good);
            assert_eq!(id.file_name().as_str(), format!("{good}.json"));
            assert_eq!(id.file_name().record_id(), Some(id));
        }
        let kind = |id: &str| RecordId::new(id).unwrap_err().kind();
        for bad in ["", "a/b", "../a", "a\nb", "a\0"] {
            assert_eq!(kind(bad), Kind::InvalidName, "{bad:?}");
        }
        assert_eq!(kind(".tenantfs-owner"), Kind::NotPermitted);
        assert_eq!(kind(&"n".repeat(251)), Kind::NameTooLong);
        for other in ["x", ".json", "x.json~"] {
            assert_eq!(EntryName::parse(other.as_bytes()).unwrap().record_id(), None);
        }
        assert_eq!(RecordId::random().unwrap().as_str().len(), 32);
    }

    #[test]
    fn resources_are_plain_directory_names() {
        assert!(Resource::new("schedules").is_ok());
        for bad in ["", "a/b", "..", ".tenantfs-x", "a.json"] {
            assert_eq!(Resource::new(bad).unwrap_err().kind(), Kind::Config, "{bad}");
        }
    }
}
