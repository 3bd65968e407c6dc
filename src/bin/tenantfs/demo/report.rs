//! What the demo prints, and how many of its claims hold.

use std::fmt;
use std::io::{IsTerminal, Write};

use tenantfs::error::{Error, Kind, Result};

/// A claim's outcome: what was found instead, when it does not hold.
pub(super) type Outcome = std::result::Result<(), String>;

pub(super) struct Report {
    begun: bool,
    claims: u32,
    broken: u32,
    colours: bool,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            begun: false,
            claims: 0,
            broken: 0,
            colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    pub(super) fn heading(&mut self, text: &str) {
        if std::mem::replace(&mut self.begun, true) {
            print(format_args!(""));
        }
        print(format_args!("{}", self.paint("1", text)));
    }

    /// Something to know, or a program's output.
    pub(super) fn line(&mut self, text: fmt::Arguments<'_>) {
        print(format_args!("{}", format!("    {text}").trim_end()));
    }

    /// A sentence that was checked.
    pub(super) fn claim(&mut self, sentence: impl fmt::Display, outcome: Outcome) {
        self.claims += 1;
        match outcome {
            Ok(()) => print(format_args!("  {} {sentence}", self.paint("32", "✓"))),
            Err(instead) => {
                self.broken += 1;
                print(format_args!("  {} {sentence}", self.paint("31", "✗")));
                print(format_args!("      but: {instead}"));
            }
        }
    }

    /// # Errors
    /// When a claim does not hold.
    pub(super) fn conclude(&self) -> Result<()> {
        let (claims, broken) = (self.claims, self.broken);
        print(format_args!("\n{} of {claims} claims hold", claims - broken));
        match broken {
            0 => Ok(()),
            _ => Err(Error::new(
                Kind::Io,
                format!(
                    "{broken} of the demo's claims do not hold on this host; please report the lines with ✗"
                ),
            )),
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Nobody reading on is no reason to stop before everything is cleaned up.
fn print(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
