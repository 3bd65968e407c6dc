//! Where on the volume a tenant's directories are. Paths only: nothing here touches a disk.
//!
//! ```
//! use tenantfs::identity::UserId;
//! use tenantfs::layout::Layout;
//! use tenantfs::name::Resource;
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! let (alice, schedules) = (UserId::new("alice")?.hash(), Resource::new("schedules")?);
//! let below = |layout: Layout| layout.components(&schedules, &alice).join("/");
//! assert_eq!(below(Layout::ResourceFirst), "schedules/2bd806c97f0e00af");
//! assert_eq!(below("user-first".parse()?), "users/2bd806c97f0e00af/schedules");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};
use crate::identity::UserHash;
use crate::name::Resource;

/// The two arrangements of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// `{volume}/{resource}/{hash}/{id}.json`
    #[default]
    ResourceFirst,
    /// `{volume}/users/{hash}/{resource}/{id}.json`
    UserFirst,
}

impl Layout {
    /// The directories from the volume's root down to the one that holds `resource` for `user`, outermost first.
    pub fn components<'a>(self, resource: &'a Resource, user: &'a UserHash) -> Vec<&'a str> {
        match self {
            Self::ResourceFirst => vec![resource.as_str(), user.as_str()],
            Self::UserFirst => vec!["users", user.as_str(), resource.as_str()],
        }
    }

    /// The one that it is not.
    pub fn other(self) -> Self {
        match self {
            Self::ResourceFirst => Self::UserFirst,
            Self::UserFirst => Self::ResourceFirst,
        }
    }

    /// The directories in the volume's root that have everybody's.
    pub fn outermost(self, resources: &[Resource]) -> Vec<&str> {
        match self {
            Self::ResourceFirst => resources.iter().map(|resource| resource.as_str()).collect(),
            Self::UserFirst => vec!["users"],
        }
    }

    /// How many of [`components`](Self::components) lead to the hash directory, where the owner marker is.
    pub fn marker_depth(self) -> usize {
        2
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "resource-first" => Ok(Self::ResourceFirst),
            "user-first" => Ok(Self::UserFirst),
            _ => Err(Error::new(
                Kind::Config,
                format!("unknown layout {text:?}: use resource-first or user-first"),
            )),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ResourceFirst => "resource-first",
            Self::UserFirst => "user-first",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::UserId;

    #[test]
    fn both_layouts_name_the_same_directories_the_service_does() {
        let hash = UserId::new("alice").unwrap().hash();
        let results = Resource::new("results").unwrap();
        let path = |layout: Layout| layout.components(&results, &hash).join("/");
        assert_eq!(path(Layout::ResourceFirst), "results/2bd806c97f0e00af");
        assert_eq!(path(Layout::UserFirst), "users/2bd806c97f0e00af/results");
    }

    #[test]
    fn layouts_are_spelled_as_they_are_read() {
        for layout in [Layout::ResourceFirst, Layout::UserFirst] {
            assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
        }
        assert_eq!("flat".parse::<Layout>().unwrap_err().kind(), Kind::Config);
    }
}
