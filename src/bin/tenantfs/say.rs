//! What is printed, of which a part may be somebody else's words: nothing of it acts on a terminal.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;
use tenantfs::error::{Doing, Error, Kind, Result};
use tenantfs::escape::{self, plain};

/// One line on standard error.
pub(crate) fn note(line: impl Display) {
    eprintln!("{}", plain(&line.to_string()));
}

/// One line on standard output.
///
/// # Errors
/// That it cannot be printed.
pub(crate) fn line(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{}", plain(&line.to_string())).doing("printing")
}

/// One line on standard output, with styles where a terminal shows them: what others wrote is escaped by the caller.
pub(crate) fn styled(line: impl Display) -> Result<()> {
    writeln!(anstream::stdout(), "{line}").doing("printing")
}

/// One line of JSON on standard output.
///
/// # Errors
/// That it cannot be printed.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    writeln!(std::io::stdout(), "{}", json_text(value)?).doing("printing")
}

/// That line.
///
/// # Errors
/// [`Kind::Io`] for what is no JSON.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|error| Error::new(Kind::Io, error.to_string()));
    text.map(escape::json)
}
