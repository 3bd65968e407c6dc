//! How much is logged: TENANTFS_LOG at first, then what SIGUSR1 and SIGUSR2 make of it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use log::{Level, LevelFilter, Record};
use signal_hook::consts::{SIGUSR1, SIGUSR2};
use tenantfs::error::{Doing, Result};
use tenantfs::escape::plain;
use tokio::signal::unix::{SignalKind, signal};

const VARIABLE: &str = "TENANTFS_LOG";
const DEFAULT: LevelFilter = LevelFilter::Warn;

/// Begins to log. A variable that is more than one level keeps the meaning that env_logger gives it.
pub(crate) fn init() {
    match plain_level() {
        // Whatever gets here is written: what gets here, can be changed.
        Some(level) => {
            logger(env_logger::Builder::new().filter_level(LevelFilter::Trace));
            log::set_max_level(level);
        }
        None => logger(&mut env_logger::Builder::from_env(VARIABLE)),
    }
    // Sent to every process called tenantfs, they must not end the mounter, or a daemon that has yet to begin.
    let sent = Arc::new(AtomicBool::new(false));
    for number in [SIGUSR1, SIGUSR2] {
        if let Err(error) = signal_hook::flag::register(number, Arc::clone(&sent)) {
            log::warn!("ignoring signal {number}: {error}");
        }
    }
}

/// One line for each message, whoever's words are in it.
fn logger(builder: &mut env_logger::Builder) {
    let write = |out: &mut env_logger::fmt::Formatter, record: &Record<'_>| {
        let (level, message) = (record.level(), record.args().to_string());
        let (time, style) = (out.timestamp(), out.default_level_style(level));
        let target = record.target();
        writeln!(
            out,
            "[{time} {style}{level:<5}{style:#} {target}] {}",
            plain(&message)
        )
    };
    builder.format(write).init();
}

/// The level, where that is all the variable says.
fn plain_level() -> Option<LevelFilter> {
    match std::env::var(VARIABLE) {
        Ok(text) => text.trim().parse().ok(),
        Err(_) => Some(DEFAULT),
    }
}

/// From now on SIGUSR1 has more logged and SIGUSR2 less, as long as this runtime goes on.
///
/// # Errors
/// [`Kind::Io`](tenantfs::error::Kind::Io) when the signals cannot be waited for.
pub(crate) fn follow_signals() -> Result<()> {
    const WAITING: &str = "waiting for signals";
    let mut more = signal(SignalKind::user_defined1()).doing(WAITING)?;
    let mut less = signal(SignalKind::user_defined2()).doing(WAITING)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = more.recv() => change(true),
                _ = less.recv() => change(false),
            }
        }
    });
    Ok(())
}

fn change(more: bool) {
    if plain_level().is_none() {
        return log::warn!("{VARIABLE} is more than one level, which signals cannot change");
    }
    let level = next(log::max_level(), more);
    log::set_max_level(level);
    let mut record = Record::builder();
    record.level(Level::Info).target(module_path!());
    // Whatever the level is now: whoever changed it wants to see that it is.
    log::logger().log(
        &record
            .args(format_args!(
                "the log level is {} now",
                level.as_str().to_lowercase()
            ))
            .build(),
    );
}

/// One level more, or one less. The errors are always logged.
fn next(level: LevelFilter, more: bool) -> LevelFilter {
    let levels = LevelFilter::iter().filter(|level| *level != LevelFilter::Off);
    let mut other = levels.filter(|other| if more { *other > level } else { *other < level });
    match more {
        true => other.next(),
        false => other.last(),
    }
    .unwrap_or(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_go_step_by_step_and_end_at_errors_and_traces() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        for (level, more, less) in [
            (Off, Error, Off),
            (Error, Warn, Error),
            (Warn, Info, Error),
            (Info, Debug, Warn),
            (Debug, Trace, Info),
            (Trace, Trace, Debug),
        ] {
            assert_eq!((next(level, true), next(level, false)), (more, less), "{level}");
        }
    }
}
