//! Sizes and durations as people write them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tenantfs::error::{Error, Result};
use tenantfs::quota::parse_bytes;

/// The largest `max_size`, in bytes: a record is held in memory as a whole, several times while it is
/// committed.
pub(super) const MAX_SIZE: u64 = 256 << 20;

/// The longest lease and grace period: beyond a week nothing is revoked any more.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where metrics can be read.
pub(crate) enum Endpoint {
    /// By whoever is on this host.
    Tcp(SocketAddr),
    /// By whoever may connect to it.
    Unix(PathBuf),
}

/// What one user may add to the audit log in a second, in bytes: between a few lines and what no disk writes.
const USER_RATES: RangeInclusive<u64> = 4 << 10..=1 << 30;

/// `16MiB`, `512 KiB`, `1000000`; up to `most`. `what` names the setting in errors.
pub(super) fn size(text: &str, what: &str, most: u64) -> Result<u64> {
    match parse_bytes(text) {
        Some(size) if (1..=most).contains(&size) => Ok(size),
        _ => Err(Error::config(format!(
            "{text:?} is not a size that a {what} can have: use one like 16MiB{}",
            match most {
                MAX_SIZE => ", of at most 256MiB",
                _ => "",
            }
        ))),
    }
}

/// What one user may add to the audit log in a second: `512KiB`.
pub(super) fn user_rate(text: &str) -> Result<u64> {
    match parse_bytes(text) {
        Some(rate) if USER_RATES.contains(&rate) => Ok(rate),
        _ => Err(Error::config(format!(
            "{text:?} cannot be what a user adds to the audit log in a second: use a size like 512KiB, from 4KiB to 1GiB"
        ))),
    }
}

/// `60s`, `1m 30s`, `500ms`; from `least` to a week. `what` names the setting in errors.
pub(super) fn duration(text: &str, what: &str, least: Duration) -> Result<Duration> {
    let parsed = match text.trim() {
        "0" => Some(Duration::ZERO),
        text => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| duration.try_into().ok()),
    };
    match parsed {
        Some(duration) if (least..=MAX_DURATION).contains(&duration) => Ok(duration),
        _ => Err(Error::config(format!(
            "{text:?} cannot be the {what}: use a time like 60s or 5m, from {least:?} to a week"
        ))),
    }
}

/// `127.0.0.1:9641`, `[::1]:9641`, `/run/tenantfs/metrics.sock`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint> {
    const HINT: &str = "use an address of this host such as 127.0.0.1:9641, or the path of a Unix socket";
    if Path::new(text).is_absolute() {
        return Ok(Endpoint::Unix(text.into()));
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| Error::config(format!("metrics cannot be read at {text:?}: {HINT}")))?;
    match address.ip().to_canonical().is_loopback() {
        true => Ok(Endpoint::Tcp(address)),
        false => Err(Error::config(format!(
            "metrics cannot be read at {text:?}, where other hosts would read them too: {HINT}"
        ))),
    }
}

/// Names of members.
pub(super) fn secret_fields(fields: Vec<String>) -> Result<Vec<String>> {
    if fields.iter().any(String::is_empty) {
        return Err(Error::config(
            "a secret field needs a name, and one has none; see --secret-fields",
        ));
    }
    if fields.iter().any(|field| field == "user_id") {
        return Err(Error::config(
            "user_id says whose a record is, and cannot be a secret field; see --secret-fields",
        ));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_for_this_host() {
        for good in [
            "127.0.0.1:9641",
            "127.9.9.9:1",
            "[::1]:9641",
            "[::ffff:127.0.0.1]:9641",
            "/run/x.sock",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "9641",
            ":9641",
            "0.0.0.0:9641",
            "[::]:9641",
            "192.0.2.1:9641",
            "x.sock",
            "127.0.0.1",
            "localhost:9641",
        ] {
            let error = endpoint(bad).err().unwrap().to_string();
            assert!(
                error.contains("127.0.0.1:9641") && error.contains("Unix socket"),
                "{error}"
            );
        }
        assert!(
            endpoint("0.0.0.0:9641")
                .err()
                .unwrap()
                .to_string()
                .contains("other hosts")
        );
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("1 KiB", 1024),
            ("7", 7),
            ("5B", 5),
            ("256MiB", 256 << 20),
        ] {
            assert_eq!(size(text, "record", MAX_SIZE).unwrap(), bytes, "{text}");
        }
        for bad in [
            "",
            "MiB",
            "0",
            "-1",
            "1.5MiB",
            "1MB",
            "257MiB",
            "99999999999999GiB",
            "16MiB!",
        ] {
            assert!(size(bad, "record", MAX_SIZE).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units_and_limits() {
        let second = Duration::from_secs(1);
        for (text, seconds) in [
            ("60s", 60),
            ("5m", 300),
            ("1m 30s", 90),
            ("1h", 3600),
            ("168h", 604_800),
        ] {
            assert_eq!(
                duration(text, "lease", second).unwrap().as_secs(),
                seconds,
                "{text}"
            );
        }
        for bad in ["", "60", "0", "0s", "500ms", "-5s", "169h", "1d", "soon"] {
            assert!(duration(bad, "lease", second).is_err(), "{bad}");
        }
        for zero in ["0", "0s"] {
            assert_eq!(
                duration(zero, "grace period", Duration::ZERO).unwrap(),
                Duration::ZERO
            );
        }
    }
}
