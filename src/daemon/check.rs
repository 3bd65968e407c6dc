//! One thing that serving needs, and how it is.

use serde::{Deserialize, Serialize};

/// What was found of one thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at, in a word.
    pub check: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    /// Of one thing: what was found, or what is wrong and how to mend it.
    pub fn of(check: &str, found: Result<String, (String, String)>) -> Self {
        let (ok, message, mend) = match found {
            Ok(message) => (true, message, None),
            Err((message, mend)) => (false, message, Some(mend)),
        };
        Self {
            check: check.to_owned(),
            ok,
            message,
            mend,
        }
    }
}
