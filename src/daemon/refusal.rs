//! Why a request was not done: a code for programs, chosen where its meaning is known, and the error for people.

use super::wire::{Code, Failure};
use crate::error::{Error, Kind, Result};

/// The answer to a request, or why there is none.
pub(super) type Answer<T> = std::result::Result<T, Refusal>;

/// A request that was not done.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) error: Error,
}

impl Refusal {
    pub(super) fn new(code: Code, error: Error) -> Self {
        Self { code, error }
    }

    /// Later it may be done.
    pub(super) fn busy(why: &'static str) -> Self {
        Self::new(Code::Busy, Error::new(Kind::Busy, why))
    }

    /// As it is told to a client: where on the volume it went wrong, to operators only.
    pub(super) fn told(&self, to_operator: bool) -> Failure {
        let message = match to_operator {
            true => format!("{:#}", self.error),
            false => self.error.to_string(),
        };
        Failure {
            code: self.code,
            message,
        }
    }

    /// Whether the operator should know of it: nobody who asks can do anything about it.
    pub(super) fn is_operators(&self) -> bool {
        matches!(self.code, Code::VolumeFailed | Code::MountFailed | Code::Failed)
    }
}

/// An error that answers a request.
pub(super) trait RefusedAs<T> {
    /// By this code: the same error is another thing to whoever asked for something else.
    ///
    /// # Errors
    /// That of `self`.
    fn refused_as(self, code: Code) -> Answer<T>;
}

impl<T> RefusedAs<T> for Result<T> {
    fn refused_as(self, code: Code) -> Answer<T> {
        self.map_err(|error| Refusal::new(code, error))
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_operators_are_told_where_on_the_volume_it_went_wrong() {
        let error = Error::os(Errno::NOENT, "opening a directory").at("/vol/schedules");
        let refusal = Refusal::new(Code::VolumeFailed, error);
        assert_eq!(
            refusal.told(false).message,
            "opening a directory: No such file or directory"
        );
        assert!(refusal.told(true).message.contains("(/vol/schedules)"));
    }
}
