//! Replacing parts of a text.

use std::ops::Range;

/// One part of a text, and what goes in its place.
pub(super) type Edit<'r> = (Range<usize>, &'r [u8]);

/// `text` with every edit made. The edits are in order and do not overlap; several insertions at one place keep their
/// order. The result is allocated once, so that no secret stays behind in a buffer that was outgrown.
pub(super) fn splice(text: &[u8], edits: &[Edit<'_>]) -> Vec<u8> {
    let removed: usize = edits.iter().map(|(range, _)| range.len()).sum();
    let added: usize = edits.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut spliced = Vec::with_capacity(text.len() + added - removed);
    let mut copied = 0;
    for (range, bytes) in edits {
        spliced.extend_from_slice(text.get(copied..range.start).unwrap_or_default());
        spliced.extend_from_slice(bytes);
        copied = range.end;
    }
    spliced.extend_from_slice(text.get(copied..).unwrap_or_default());
    spliced
}
