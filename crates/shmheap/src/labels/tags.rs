//! Tags: names under which programs have their allocations counted.
//!
//! ```text
//!   hash of the name, or 0 | length | name        bytes | quota
//! ```
//!
//! A tag gets its place by one exchange, of 0 for the hash of its name, and keeps it. The first
//! place that is free is taken, so whoever looks for a name finds it before the first that is free,
//! or nowhere; of two that bring the same name at once, one fails and finds it there. The name
//! itself is written by everybody who finds it missing, all the same bytes: so a process killed
//! between the exchange and the name leaves nothing to repair. (Two names with one hash, brought at
//! the same moment, may mix; then both get places of their own behind that.)
//!
//! The first tag has no name: what has no tag is counted there.

use super::Tally;
use super::layout::{TAG_HASH, TAG_NAME, TAG_NAME_BYTES, TAGS};
use crate::segment::format;
use crate::segment::words::Words;
use crate::units::WORD_BYTES;

/// Bytes of a name at the most.
pub(crate) const NAME_BYTES_MAX: usize = 48;
const NAME_WORDS: usize = NAME_BYTES_MAX / WORD_BYTES as usize;

/// The number of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(pub u8);

impl Tag {
    /// That of what has none.
    pub(crate) const NONE: Self = Self(0);
}

/// What keeps a name from being a tag's, if anything.
pub(crate) fn why_no_name(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        Some("a tag has 48 bytes at the most")
    } else if name.chars().any(char::is_control) {
        Some("a tag has no control characters")
    } else {
        None
    }
}

/// A name as it stands in the words of its tag, and what finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    hash: u64,
    bytes: u64,
    words: [u64; NAME_WORDS],
}

impl Name {
    fn of(name: &str) -> Self {
        let mut words = [0; NAME_WORDS];
        for (number, byte) in name.bytes().take(NAME_BYTES_MAX).enumerate() {
            words[number / 8] |= u64::from(byte) << (number % 8 * 8);
        }
        // Never 0, which is the hash of what is free.
        let hash = format::fingerprint(&words) | 1;
        Self { hash, bytes: name.len().min(NAME_BYTES_MAX) as u64, words }
    }
}

impl<W: Words> Tally<'_, W> {
    /// The tag of that name, which gets a place unless it has one; `None` if there is none left.
    pub(crate) fn tag(&self, name: &str) -> Option<Tag> {
        if name.is_empty() {
            return Some(Tag::NONE);
        }
        let name = Name::of(name);
        for tag in 1..=u8::MAX {
            let at = self.layout.tag(tag, TAG_HASH);
            let mut hash = self.words.load(at);
            if hash == 0 {
                hash = match self.words.compare_exchange(at, 0, name.hash) {
                    Ok(_) => name.hash,
                    Err(found) => found,
                };
            }
            if hash == name.hash && self.name_agrees(tag, &name) {
                return Some(Tag(tag));
            }
        }
        None
    }

    /// Whether the tag has that name; written now if it has none yet.
    fn name_agrees(&self, tag: u8, name: &Name) -> bool {
        let word = |number: usize| self.layout.tag(tag, TAG_NAME + number as u64);
        let bytes_at = self.layout.tag(tag, TAG_NAME_BYTES);
        if self.words.load(bytes_at) == 0 {
            for (number, &value) in name.words.iter().enumerate() {
                self.words.store(word(number), value);
            }
            self.words.store(bytes_at, name.bytes);
        }
        self.words.load(bytes_at) == name.bytes
            && name.words.iter().enumerate().all(|(n, &value)| self.words.load(word(n)) == value)
    }

    /// All tags that have a place, the one without a name first.
    pub(crate) fn tags(&self) -> impl Iterator<Item = Tag> {
        let has_place =
            |&Tag(tag): &Tag| tag == 0 || self.words.load(self.layout.tag(tag, TAG_HASH)) != 0;
        (0..TAGS).map(|tag| Tag(tag as u8)).take_while(has_place)
    }

    /// The tag's name, safe to print; "" if it has none, or none yet.
    pub(crate) fn tag_name(&self, Tag(tag): Tag) -> String {
        let count = self.words.load(self.layout.tag(tag, TAG_NAME_BYTES));
        let word = |number| self.words.load(self.layout.tag(tag, TAG_NAME + number));
        let bytes: Vec<u8> = (0..NAME_WORDS as u64).flat_map(|n| word(n).to_le_bytes()).collect();
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(NAME_BYTES_MAX);
        String::from_utf8_lossy(&bytes[..count])
            .chars()
            .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
            .collect()
    }
}
