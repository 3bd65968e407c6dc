//! Values of the config file that people write in more than one way, and what is said when they write them wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::account;

/// A time, such as `"60s"`: as it is written.
pub(super) struct Time(pub(super) String);

/// A size, such as `"16MiB"`: as it is written.
pub(super) struct Size(pub(super) String);

/// A user of this host, by name or uid.
pub(super) struct OfUser(pub(super) u32);

/// A group of this host, by name or gid.
pub(super) struct OfGroup(pub(super) u32);

/// What is written as a text, and by some of them as a number.
trait Written: Sized {
    /// What is expected, for who wrote something else.
    const EXPECTED: &'static str;

    fn of_text(text: &str) -> Result<Self, String>;

    /// None where a number alone says too little.
    fn of_number(number: u64) -> Option<Self>;
}

impl Written for Time {
    const EXPECTED: &'static str = "a time in quotes, with its unit, such as \"60s\" or \"5m\"";

    fn of_text(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn of_number(_: u64) -> Option<Self> {
        None
    }
}

impl Written for Size {
    const EXPECTED: &'static str = "a size in quotes, such as \"16MiB\"";

    fn of_text(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn of_number(_: u64) -> Option<Self> {
        None
    }
}

impl Written for OfUser {
    const EXPECTED: &'static str = "a user of this host: a name in quotes, or a uid";

    fn of_text(text: &str) -> Result<Self, String> {
        account::uid(text)
            .map(Self)
            .map_err(|why| format!("{text:?}: {why}"))
    }

    fn of_number(number: u64) -> Option<Self> {
        number.try_into().ok().map(Self)
    }
}

impl Written for OfGroup {
    const EXPECTED: &'static str = "a group of this host: a name in quotes, or a gid";

    fn of_text(text: &str) -> Result<Self, String> {
        account::gid(text)
            .map(Self)
            .map_err(|why| format!("{text:?}: {why}"))
    }

    fn of_number(number: u64) -> Option<Self> {
        number.try_into().ok().map(Self)
    }
}

struct AsWritten<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for AsWritten<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::of_text(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let unexpected = serde::de::Unexpected::Unsigned(number);
        T::of_number(number).ok_or_else(|| E::invalid_type(unexpected, &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let unexpected = serde::de::Unexpected::Signed(number);
        let own = u64::try_from(number).ok().and_then(T::of_number);
        own.ok_or_else(|| E::invalid_type(unexpected, &self))
    }
}

macro_rules! as_written {
    ($($kind:ty),*) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(AsWritten(PhantomData))
            }
        }
    )*};
}

as_written!(Time, Size, OfUser, OfGroup);

#[cfg(test)]
mod tests {
    use super::super::file::File;

    #[test]
    fn what_is_written_wrong_is_told_as_it_is_written_right() {
        for (text, said) in [
            (
                "[auth]\nlease = 60",
                "a time in quotes, with its unit, such as \"60s\"",
            ),
            ("[records]\nmax_size = 16", "a size in quotes, such as \"16MiB\""),
            ("volume = \"x\"", "a section [volume] with its keys below it"),
            ("[mounts]\nuid = \"no-such-account\"", "there is no such account"),
            ("[mounts]\nuid = -1", "a name in quotes, or a uid"),
            ("[mounts]\ngid = true", "a name in quotes, or a gid"),
        ] {
            let error = toml::from_str::<File>(text).err().unwrap().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let named = toml::from_str::<File>("[mounts]\nuid = \"root\"\ngid = 7").unwrap();
        assert_eq!(
            (
                named.mounts.uid.map(|uid| uid.0),
                named.mounts.gid.map(|gid| gid.0)
            ),
            (Some(0), Some(7))
        );
    }
}
