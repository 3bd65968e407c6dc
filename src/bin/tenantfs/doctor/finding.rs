//! How an error is told by the doctor.

use tenantfs::error::Error;

/// An error says itself what to do, where anything can be done.
pub(super) fn explained(error: &Error, mend: &str) -> (String, String) {
    (format!("{error:#}"), mend.to_owned())
}
