//! What a path on a command line means in the mount.

use std::path::{Component, Path, PathBuf};

use tenantfs::error::{Error, Result};

/// The meanings of a path, as in the mount: `schedules/nightly.json`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Meant {
    /// The likelier one.
    pub(super) first: String,
    /// What it means if nothing is known of the first.
    pub(super) other: Option<String>,
}

/// What `path` means, said in the directory `here` by the user of the view at `mountpoint`. In the view it is relative to `here` as
/// everywhere; but for whoever copies it from a list of ours, it is from the mountpoint on.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) when it leads out of the view, or can be no path in it.
pub(super) fn meant(path: &Path, here: Option<&Path>, mountpoint: Option<&Path>) -> Result<Meant> {
    if path.is_absolute() {
        let below = match mountpoint {
            Some(mountpoint) => {
                let whole = whole(path);
                let below = whole
                    .strip_prefix(mountpoint)
                    .or_else(|_| path.strip_prefix(mountpoint));
                below.map(Path::to_owned).map_err(|_| {
                    Error::config(format!(
                        "{} is not below your view, which is {}",
                        path.display(),
                        mountpoint.display()
                    ))
                })?
            }
            None => path.components().skip(1).collect(),
        };
        return in_mount(&below).map(|first| Meant { first, other: None });
    }
    let as_printed = in_mount(path);
    let below = here
        .zip(mountpoint)
        .and_then(|(here, mountpoint)| here.strip_prefix(mountpoint).ok());
    match below.map(|below| in_mount(&below.join(path))) {
        Some(Ok(first)) => {
            let other = as_printed.ok().filter(|other| *other != first);
            Ok(Meant { first, other })
        }
        Some(Err(_)) | None => as_printed.map(|first| Meant { first, other: None }),
    }
}

/// A path as the daemon and the volume's records have it: without `.` and `..`.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) when it leads out of the mount, or can be no path in it.
pub(super) fn in_mount(path: &Path) -> Result<String> {
    let mut names: Vec<&str> = Vec::new();
    for component in path.components() {
        let fits = match component {
            Component::CurDir => true,
            Component::ParentDir => names.pop().is_some(),
            Component::Normal(name) => name.to_str().map(|name| names.push(name)).is_some(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !fits {
            return Err(unfit(path));
        }
    }
    match names.is_empty() {
        true => Err(unfit(path)),
        false => Ok(names.join("/")),
    }
}

fn unfit(path: &Path) -> Error {
    Error::config(format!(
        "{} is no path in the view, such as schedules/nightly.json",
        path.display()
    ))
}

/// A mountpoint without symbolic links on the way, as the kernel says where somebody is. The last step is not looked at: root is
/// not let in.
pub(super) fn real(mountpoint: &Path) -> PathBuf {
    match (mountpoint.parent(), mountpoint.file_name()) {
        (Some(parent), Some(name)) => parent
            .canonicalize()
            .map_or_else(|_| mountpoint.to_owned(), |parent| parent.join(name)),
        _ => mountpoint.to_owned(),
    }
}

/// An absolute path without symbolic links in what there is of it: what was removed is not there any more.
fn whole(path: &Path) -> PathBuf {
    let there = path.ancestors().skip(1).find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    });
    there.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn means(path: &str, here: &str) -> Option<(String, Option<String>)> {
        let meant = meant(Path::new(path), Some(Path::new(here)), Some(Path::new("/mnt/7"))).ok()?;
        Some((meant.first, meant.other))
    }

    #[test]
    fn a_path_is_relative_in_the_view_and_from_the_mountpoint_on_elsewhere() {
        let one = |first: &str| Some((first.to_owned(), None));
        let two = |first: &str, other: &str| Some((first.to_owned(), Some(other.to_owned())));
        for (path, here, meaning) in [
            ("schedules/x.json", "/home/alice", one("schedules/x.json")),
            ("./schedules//a/../x.json", "/", one("schedules/x.json")),
            ("schedules/x.json", "/mnt/7", one("schedules/x.json")),
            (
                "x.json",
                "/mnt/7/schedules/a",
                two("schedules/a/x.json", "x.json"),
            ),
            ("../x.json", "/mnt/7/schedules/a", one("schedules/x.json")),
            (
                "schedules/x.json",
                "/mnt/7/schedules",
                two("schedules/schedules/x.json", "schedules/x.json"),
            ),
            ("/mnt/7/schedules/x.json", "/", one("schedules/x.json")),
            (
                "/mnt/7/schedules/../results/x.json",
                "/mnt/7",
                one("results/x.json"),
            ),
            ("/mnt/70/schedules/x.json", "/", None),
            ("/mnt/7", "/", None),
            ("/mnt/7/../8/x.json", "/", None),
            ("../x.json", "/home/alice", None),
            ("..", "/mnt/7", None),
            (".", "/home/alice", None),
            ("", "/home/alice", None),
        ] {
            assert_eq!(means(path, here), meaning, "{path} in {here}");
        }
    }

    #[test]
    fn without_a_session_any_path_is_one_to_ask_about() {
        let meant = meant(Path::new("/mnt/7/schedules/x.json"), None, None).unwrap();
        assert_eq!(meant.first, "mnt/7/schedules/x.json");
    }
}
