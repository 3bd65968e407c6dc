//! Where API keys come from: a file, systemd's credentials, or standard input; never the command line, which everybody
//! on the host can read.

use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tenantfs::auth::{ApiKey, key_hash, open_key_file};
use tenantfs::error::{Error, Kind, Result};
use zeroize::Zeroizing;

/// The key from `file`, else from systemd's credential `api-key`, else from standard input.
pub(crate) fn read(file: Option<&Path>) -> Result<ApiKey> {
    match file.map(Path::to_owned).or_else(credential) {
        Some(path) => read_file(&path),
        None => read_stdin(),
    }
}

/// `tenantfs key-hash`.
pub(crate) fn print_hash() -> Result<()> {
    println!("{}", key_hash(&read_stdin()?));
    Ok(())
}

fn credential() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join("api-key");
    path.exists().then_some(path)
}

fn read_file(path: &Path) -> Result<ApiKey> {
    let shown = path.display();
    let (file, metadata) = open_key_file(path, "API key file", "--api-key-file")?;
    if metadata.mode() & 0o077 != 0 {
        log::warn!("the API key file {shown} is not its owner's alone; run: chmod go= {shown}");
    }
    ApiKey::read_from(file, &shown.to_string())
}

fn read_stdin() -> Result<ApiKey> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return ApiKey::read_from(stdin.lock(), "standard input");
    }
    eprint!("API key: ");
    let mut line = Zeroizing::new(String::new());
    let read = {
        let _silent = Silent::new();
        stdin.lock().read_line(&mut line)
    };
    eprintln!();
    read.map_err(|error| {
        Error::new(
            Kind::Config,
            format!("reading the API key from the terminal: {error}"),
        )
    })?;
    ApiKey::new(&line)
}

/// A terminal that does not show what is typed, as long as this lives.
struct Silent(Option<rustix::termios::Termios>);

impl Silent {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut silent) = before.clone() {
            silent.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(before)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}
