//! How much a user may have.

use super::amount::Amount;

/// The most that a user may have; none where there is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// In bytes.
    pub bytes: Option<u64>,
    /// Files and directories.
    pub files: Option<u64>,
}

impl Limits {
    /// By how much `wanted` would be more than may be had on top of what is `taken`, if it would. Of what does not grow,
    /// nothing is too much.
    pub(super) fn excess(&self, taken: Amount, wanted: Amount) -> Option<Amount> {
        let of = |limit: Option<u64>, taken: i64, wanted: i64| match limit {
            Some(limit) if wanted > 0 => {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                taken.saturating_add(wanted).saturating_sub(limit).max(0)
            }
            _ => 0,
        };
        let excess = Amount {
            bytes: of(self.bytes, taken.bytes, wanted.bytes),
            files: of(self.files, taken.files, wanted.files),
        };
        (excess != Amount::NONE).then_some(excess)
    }

    /// Whether so much is nearly all, or more.
    pub fn is_nearly_full(&self, used: Amount) -> bool {
        let nearly = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used >= limit - limit / 20);
        nearly(self.bytes, used.bytes()) || nearly(self.files, used.files())
    }
}

/// The units that sizes have.
const UNITS: [(&str, u32); 6] = [
    ("", 0),
    ("B", 0),
    ("KiB", 10),
    ("MiB", 20),
    ("GiB", 30),
    ("TiB", 40),
];

/// Understands `16MiB`, `512 KiB`, `1000000`; none when it is no size.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(digits)?.trim();
    let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_grow_is_never_too_much() {
        let limits = Limits {
            bytes: Some(10),
            files: Some(2),
        };
        let amount = |bytes, files| Amount { bytes, files };
        for (taken, wanted, excess) in [
            (amount(4, 0), amount(6, 2), None),
            (amount(4, 0), amount(7, 2), Some(amount(1, 0))),
            (amount(4, 1), amount(7, 2), Some(amount(1, 1))),
            (amount(99, 9), amount(0, 0), None),
            (amount(99, 9), amount(-1, 0), None),
            (amount(99, 0), amount(0, 1), None),
        ] {
            assert_eq!(limits.excess(taken, wanted), excess, "{taken:?} {wanted:?}");
        }
        assert_eq!(
            Limits::default().excess(amount(i64::MAX, 1), amount(i64::MAX, 1)),
            None
        );
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("5B", Some(5)),
            ("1 KiB", Some(1024)),
            ("2TiB", Some(2 << 40)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("1MB", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
