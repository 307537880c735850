//! Numbers that must not be mixed up, each a type of its own.
//!
//! A segment is addressed in four units: bytes ([`Offset`]), words of 8 bytes ([`WordIndex`]),
//! granules of 8 or 16 bytes (`first_fit::Granules`, counts and positions of object space), and
//! process records ([`PeerSlot`]).

use std::ops::Add;

/// Bytes in a word.
pub(crate) const WORD_BYTES: u64 = 8;
/// Bytes in a cache line, the distance that keeps two words from sharing one.
pub(crate) const LINE_BYTES: u64 = 64;
/// Words in a cache line.
pub(crate) const LINE_WORDS: usize = (LINE_BYTES / WORD_BYTES) as usize;
/// Bytes in a page of the format: what data and record tables are aligned to. The system's pages
/// may be larger; nothing here depends on that.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// A byte offset from the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offset(pub u64);

impl Offset {
    /// The word that starts here; offsets of words are multiples of 8.
    pub(crate) const fn word(self) -> WordIndex {
        WordIndex(self.0 / WORD_BYTES)
    }
}

/// The number of a word of a segment, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WordIndex(pub u64);

impl WordIndex {
    /// The byte offset at which the word starts.
    pub(crate) const fn offset(self) -> Offset {
        Offset(self.0.wrapping_mul(WORD_BYTES))
    }
}

impl Add<u64> for WordIndex {
    type Output = Self;

    /// Wraps: an index made from hostile bytes is refused by the bounds check, not by the addition.
    #[inline]
    fn add(self, words: u64) -> Self {
        Self(self.0.wrapping_add(words))
    }
}

/// The number of a process record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerSlot(pub u16);

/// `value` rounded up to a multiple of `unit`, a power of two; `None` on overflow.
pub(crate) const fn round_up(value: u64, unit: u64) -> Option<u64> {
    match value.checked_add(unit - 1) {
        Some(sum) => Some(sum & !(unit - 1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_exact_at_the_edges() {
        assert_eq!(round_up(0, 8), Some(0));
        assert_eq!(round_up(1, 8), Some(8));
        assert_eq!(round_up(8, 8), Some(8));
        assert_eq!(round_up(u64::MAX - 7, 8), Some(u64::MAX - 7));
        assert_eq!(round_up(u64::MAX - 6, 8), None);
    }
}
