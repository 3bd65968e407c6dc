//! What is counted: bytes and files.

use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// What a file takes at least, and in steps of which it grows, in bytes.
const BLOCK: u64 = 4096;

/// Bytes and files; or, where it is a change, how many more or fewer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// In whole blocks.
    pub bytes: i64,
    /// Files and directories.
    pub files: i64,
}

impl Amount {
    /// Nothing.
    pub const NONE: Self = Self { bytes: 0, files: 0 };

    /// A file of so many bytes.
    pub fn file(size: u64) -> Self {
        let blocks = size.div_ceil(BLOCK).max(1);
        Self {
            bytes: i64::try_from(blocks.saturating_mul(BLOCK)).unwrap_or(i64::MAX),
            files: 1,
        }
    }

    /// A directory, without what is in it.
    pub fn directory() -> Self {
        Self::file(0)
    }

    /// In bytes, as far as there are any.
    pub fn bytes(self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(0)
    }

    /// Files and directories, as far as there are any.
    pub fn files(self) -> u64 {
        u64::try_from(self.files).unwrap_or(0)
    }

    /// Each at least as much as in `least` and at most as much as in `most`.
    pub(super) fn within(self, least: Self, most: Self) -> Self {
        Self {
            bytes: self.bytes.max(least.bytes).min(most.bytes.max(least.bytes)),
            files: self.files.max(least.files).min(most.files.max(least.files)),
        }
    }

    /// What is more than nothing of it.
    pub fn growth(self) -> Self {
        Self {
            bytes: self.bytes.max(0),
            files: self.files.max(0),
        }
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            files: self.files.saturating_add(other.files),
        }
    }
}

impl Neg for Amount {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            bytes: self.bytes.saturating_neg(),
            files: self.files.saturating_neg(),
        }
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_whole_blocks_and_one_at_least() {
        for (size, bytes) in [
            (0, 4096),
            (1, 4096),
            (4096, 4096),
            (4097, 8192),
            (u64::MAX, i64::MAX),
        ] {
            assert_eq!(Amount::file(size), Amount { bytes, files: 1 }, "{size}");
        }
    }
}
