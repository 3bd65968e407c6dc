//! `mount.tenantfs`, which mount(8) runs for `mount -t tenantfs` and lines of /etc/fstab: the same program by another name.
//!
//! Its options are those of `tenantfs mount`; what is systemd's, mount's own, or true of every view is left out.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use clap::CommandFactory as _;
use tenantfs::error::{Error, Result};

use crate::cli::Cli;

const NAME: &str = "mount.tenantfs";

/// What others understand, or what every view is anyway.
const LEFT_OUT: [&str; 25] = [
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "group",
    "loud",
    "nodev",
    "noatime",
    "noauto",
    "nodiratime",
    "noexec",
    "nofail",
    "nosuid",
    "nosymfollow",
    "nouser",
    "owner",
    "relatime",
    "rw",
    "silent",
    "sync",
    "user",
    "users",
    "comment",
    "helper",
];

/// What no view is, and why.
const REFUSED: [(&str, &str); 6] = [
    ("suid", "set-id programs never gain anything in a view"),
    ("dev", "there are no devices in a view"),
    ("remount", "unmount it, and mount it again"),
    ("bind", "a view is no other directory"),
    ("rbind", "a view is no other directory"),
    ("allow_other", "a view is one user's: name the user, uid=NAME"),
];

/// What mount(8) asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// As `tenantfs` is told it, with the program's name.
    Mount(Vec<OsString>),
    /// To do as if.
    Nothing,
}

/// Whether this process was started as mount(8)'s helper.
pub(crate) fn is_here() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name() == Some(OsStr::new(NAME)))
}

/// What it was started for.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) for an option that `tenantfs mount` does not have.
pub(crate) fn asked() -> Result<Asked> {
    understand(std::env::args_os().skip(1))
}

fn understand(mut arguments: impl Iterator<Item = OsString>) -> Result<Asked> {
    let usage = || {
        Error::config(format!(
            "usage: {NAME} VOLUME MOUNTPOINT [-o uid=USER,…]; see {NAME}(8)"
        ))
    };
    let (mut places, mut options, mut sloppy, mut fake) = (Vec::new(), Vec::new(), false, false);
    while let Some(argument) = arguments.next() {
        let Some(flags) = argument
            .as_bytes()
            .strip_prefix(b"-")
            .filter(|flags| !flags.is_empty())
        else {
            places.push(argument);
            continue;
        };
        for (at, flag) in flags.iter().enumerate() {
            let rest = flags.get(at + 1..).unwrap_or_default();
            let mut value = || match rest {
                [] => arguments.next().ok_or_else(usage),
                rest => Ok(OsStr::from_bytes(rest).to_owned()),
            };
            match flag {
                b'o' => options.extend(split(&value()?)),
                b't' | b'N' => drop(value()?),
                b'r' => options.push("ro".into()),
                b's' => sloppy = true,
                b'f' => fake = true,
                b'n' | b'v' | b'w' => continue,
                _ => return Err(usage()),
            }
            if matches!(flag, b'o' | b't' | b'N') {
                break;
            }
        }
    }
    let [source, mountpoint] = places.as_slice() else {
        return Err(usage());
    };
    let mut told: Vec<OsString> = ["tenantfs", "mount", "--background"].map(OsString::from).to_vec();
    // Whatever else stands there is but a name.
    let is_volume = Path::new(source).is_absolute() && !options.iter().any(|option| name(option) == "volume");
    if is_volume {
        told.push(flag("volume", Some(source)));
    }
    for option in &options {
        told.extend(translate(option, sloppy)?);
    }
    told.extend([OsString::from("--"), mountpoint.clone()]);
    Ok(if fake { Asked::Nothing } else { Asked::Mount(told) })
}

/// The options between commas; a comma in quotes is part of a value.
fn split(options: &OsStr) -> Vec<OsString> {
    let (mut all, mut quoted) = (vec![Vec::new()], false);
    for byte in options.as_bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => all.push(Vec::new()),
            byte => all
                .last_mut()
                .into_iter()
                .for_each(|option: &mut Vec<u8>| option.push(*byte)),
        }
    }
    all.into_iter()
        .filter(|option| !option.is_empty())
        .map(OsString::from_vec)
        .collect()
}

fn name(option: &OsStr) -> String {
    let bytes = option.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

/// The option as `tenantfs mount` has it, if it is anything to it.
fn translate(option: &OsStr, sloppy: bool) -> Result<Option<OsString>> {
    let name = name(option);
    let value = option.as_bytes().get(name.len() + 1..).map(OsStr::from_bytes);
    if name.starts_with("x-") || name.starts_with("X-") || LEFT_OUT.contains(&name.as_str()) {
        return Ok(None);
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(Error::config(format!(
            "{NAME}: the option {name} cannot be had: {why}"
        )));
    }
    let known = match name.as_str() {
        "ro" => "read-only".to_owned(),
        _ => name.replace('_', "-"),
    };
    let mount = Cli::command();
    let mount = mount.find_subcommand("mount");
    let is_known = mount.is_some_and(|mount| {
        mount
            .get_arguments()
            .any(|argument| argument.get_long() == Some(&known))
    });
    match (is_known, sloppy) {
        (true, _) => Ok(Some(flag(&known, value))),
        (false, true) => Ok(None),
        (false, false) => Err(Error::config(format!(
            "{NAME}: there is no option {name}; those of `tenantfs mount --help` are, without their dashes"
        ))),
    }
}

fn flag(name: &str, value: Option<&OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}"));
    if let Some(value) = value {
        flag.push("=");
        flag.push(value);
    }
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<Asked> {
        understand(line.split(' ').map(OsString::from))
    }

    fn mount(line: &str) -> Asked {
        let line = format!("tenantfs mount --background {line}");
        Asked::Mount(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn a_line_of_fstab_is_a_mount() {
        let line = "/srv/records /mnt/alice -o rw,uid=alice,api_key_file=/etc/k,ro,_netdev,nofail,noauto,x-systemd.automount";
        let expected = "--volume=/srv/records --uid=alice --api-key-file=/etc/k --read-only -- /mnt/alice";
        assert_eq!(told(line).unwrap(), mount(expected));
        let named = told("tenantfs /mnt/a -n -o volume=/v -r -t tenantfs").unwrap();
        assert_eq!(named, mount("--volume=/v --read-only -- /mnt/a"));
        assert_eq!(
            told("/v /mnt/a -o volume=/w").unwrap(),
            mount("--volume=/w -- /mnt/a")
        );
        assert_eq!(
            told("/v /m -vo exec,resources=\"a,b\"").unwrap(),
            mount("--volume=/v --exec --resources=a,b -- /m")
        );
        assert_eq!(
            told("/v -m -o uid=1").unwrap_err().to_string().split(' ').next(),
            Some("usage:")
        );
    }

    #[test]
    fn what_is_no_option_is_named_unless_it_is_all_the_same() {
        for (line, named) in [
            ("-o uif=alice", "uif"),
            ("-o suid", "suid"),
            ("-o remount", "remount"),
            ("-x", "usage"),
        ] {
            let error = told(&format!("/v /m {line}")).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert_eq!(told("/v /m -so uif=alice").unwrap(), mount("--volume=/v -- /m"));
        assert_eq!(told("/v /m -f").unwrap(), Asked::Nothing);
    }

    #[test]
    fn a_key_cannot_be_an_option() {
        assert!(
            told("/v /m -o api-key=secret")
                .unwrap_err()
                .to_string()
                .contains("no option api-key")
        );
    }
}
