//! Where API keys come from: a file, systemd's credentials, or standard input; never the command line, which everybody
//! on the host can read.

use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tenantfs::auth::{ApiKey, key_hash};
use tenantfs::error::{Doing, Error, Kind, Result};
use tenantfs::escape::quoted;
use tenantfs::keyfile::{self, What};
use zeroize::Zeroizing;

use crate::{config, hygiene};

const WHAT: What = What {
    name: "API key file",
    option: "--api-key-file",
    harm: "add keys",
};

/// The key from `file`, else from systemd's credential `api-key`, else from standard input.
pub(crate) fn read(file: Option<&Path>) -> Result<ApiKey> {
    match (file, config::credential("api-key")) {
        (Some(path), _) => read_file(path),
        (None, Some(path)) => read_credential(&path),
        (None, None) => read_stdin(),
    }
}

/// systemd has put a mere end of line there where there is no key (`SetCredential=`): it would not say which file it looked for.
fn read_credential(path: &Path) -> Result<ApiKey> {
    match std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= 1) {
        true => Err(Error::config(
            "there is no API key: the unit's LoadCredential= names a file that is missing or empty, for tenantfs@NAME.service \
             /etc/tenantfs/keys/NAME.key",
        )),
        false => read_file(path),
    }
}

/// `tenantfs key-hash`.
pub(crate) fn print_hash() -> Result<()> {
    hygiene::hide_memory();
    println!("{}", key_hash(&read_stdin()?));
    Ok(())
}

fn read_file(path: &Path) -> Result<ApiKey> {
    let shown = path.display();
    let (file, metadata) = keyfile::open(path, WHAT)?;
    if metadata.mode() & 0o077 != 0 {
        log::warn!(
            "the API key file {shown} is not its owner's alone; run: chmod go= {}",
            quoted(path)
        );
    }
    ApiKey::read_from(file, &shown.to_string())
}

fn read_stdin() -> Result<ApiKey> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return ApiKey::read_from(stdin.lock(), "standard input");
    }
    eprint!("API key: ");
    let (read, signal) = {
        let (silent, mut stdin) = (Silent::new(), stdin.lock());
        // A terminal gives one line at a time.
        let read = stdin.fill_buf().map(|typed| Zeroizing::new(typed.to_vec()));
        let signal = read.as_ref().ok().and_then(|line| silent.signal(line));
        (read, signal)
    };
    eprintln!();
    if let Some(signal) = signal {
        kill_process(getpid(), signal).doing("ending as the terminal asks")?;
    }
    let line = read
        .doing("reading the API key from the terminal")
        .map_err(|error| error.as_kind(Kind::Config))?;
    let line = std::str::from_utf8(&line);
    ApiKey::new(line.map_err(|_| Error::config("the API key from the terminal is not UTF-8"))?)
}

/// A terminal that does not show what is typed, as long as this lives. Ctrl-C ends the line: would it end the process, the
/// terminal would stay as it is.
struct Silent(Option<Termios>);

impl Silent {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut silent) = before.clone() {
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            silent.special_codes[SpecialCodeIndex::VEOL] = silent.special_codes[SpecialCodeIndex::VINTR];
            silent.special_codes[SpecialCodeIndex::VEOL2] = silent.special_codes[SpecialCodeIndex::VQUIT];
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(before)
    }

    /// The signal that the end of a line stands for.
    fn signal(&self, line: &[u8]) -> Option<Signal> {
        let (codes, last) = (&self.0.as_ref()?.special_codes, *line.last()?);
        [
            (SpecialCodeIndex::VINTR, Signal::INT),
            (SpecialCodeIndex::VQUIT, Signal::QUIT),
        ]
        .into_iter()
        .find_map(|(code, signal)| (codes[code] == last).then_some(signal))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}
