//! What the doctor says of one thing.

use serde::Serialize;
use tenantfs::error::Error;

/// One thing that was looked at.
#[derive(Serialize)]
pub(super) struct Finding {
    /// What, in a word.
    pub(super) check: &'static str,
    pub(super) ok: bool,
    /// What was found.
    pub(super) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

/// Looks at one thing: what was found, or what is wrong and how to mend it.
pub(super) fn look(check: &'static str, found: Result<String, (String, String)>) -> Finding {
    let (ok, message, mend) = match found {
        Ok(message) => (true, message, None),
        Err((message, mend)) => (false, message, Some(mend)),
    };
    Finding {
        check,
        ok,
        message,
        mend,
    }
}

/// An error says itself what to do, where anything can be done.
pub(super) fn explained(error: &Error, mend: &str) -> (String, String) {
    (format!("{error:#}"), mend.to_owned())
}
