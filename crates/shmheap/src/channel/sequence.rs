//! `Core` of a broadcast: one process writes values, any number of others read all of them, or the
//! last.
//!
//! ```text
//!   word  0     magic, fingerprint, words of a value, capacity
//!         8     writer    the peer that may write; 0: nobody
//!         16    written   how many values were written
//!         24    news      the event that there is a value
//!         32    slots     sequence and value of each, up to the next cache line
//!
//!   sequence    2 n + 1   the n-th value is being written
//!               2 n + 2   it stands there
//! ```
//!
//! The n-th value, counted from 0, stands in slot *n* modulo the capacity, where it replaces the
//! one of a lap before. Readers keep their positions to themselves, so they cost the writer nothing
//! and hold up nobody. A reader looks at the sequence, at the value, and at the sequence again: if
//! that has changed, it has seen a mixture, and the value that it wanted is gone.
//!
//! | the writer is killed or stopped | readers see | the next writer |
//! |---|---|---|
//! | before a sequence is stored | all up to the last value | goes on |
//! | while it writes the n-th value | all before it; the n-th is not there yet | writes it anew |
//! | after its sequence, before *written* | the n-th as well | counts it, and goes on |
//!
//! All stores are release stores, in the order of the table, and all loads acquire: who sees a word
//! of a value being written sees its odd sequence behind it.

use super::event::Event;
use crate::heap::Span;
use crate::object::{Shareable, value};
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, WordIndex, round_up};
use crate::{Error, Result};

const MAGIC: u64 = u64::from_le_bytes(*b"shmbcast");
const FINGERPRINT: u64 = 1;
const VALUE_WORDS: u64 = 2;
const CAPACITY: u64 = 3;
const WRITER: u64 = 8;
const WRITTEN: u64 = 16;
const NEWS: u64 = 24;
const SLOTS: u64 = 32;

pub(super) const CAPACITY_MIN: u64 = 2;
pub(super) const CAPACITY_MAX: u64 = 1 << 20;
const VALUE_WORDS_MAX: u64 = 1 << 16;

/// How often a reader looks for the latest value that finds it replaced meanwhile.
const ATTEMPTS: u32 = 1000;

/// A broadcast's places in its object, and how it works: over any words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Core {
    span: Span,
    capacity: u64,
    stride: u64,
}

impl Core {
    pub(super) fn new(span: Span, capacity: u64, value_words: u64) -> Option<Self> {
        let may_be = capacity.is_power_of_two()
            && (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity)
            && value_words <= VALUE_WORDS_MAX;
        if !may_be {
            return None;
        }
        let stride = round_up(1 + value_words, LINE_WORDS as u64)?;
        span.has(SLOTS, capacity * stride).then_some(Self { span, capacity, stride })
    }

    pub(super) fn layout_words(capacity: u64, value_words: u64) -> Option<u64> {
        let endless = Span { first: WordIndex(0), words: u64::MAX };
        let core = Self::new(endless, capacity, value_words)?;
        Some(SLOTS + capacity * core.stride)
    }

    /// Makes one of an object that nobody else knows of.
    pub(super) fn format<T: Shareable>(
        words: &impl Words,
        span: Span,
        capacity: u64,
    ) -> Result<Self> {
        let core = Self::new(span, capacity, value::words_of::<T>());
        let core = core.ok_or(Error::Damaged { what: "the length of an object" })?;
        for number in 0..span.words {
            words.store(span.word(number), 0);
        }
        words.store(span.word(FINGERPRINT), T::FINGERPRINT.to_raw());
        words.store(span.word(VALUE_WORDS), value::words_of::<T>());
        words.store(span.word(CAPACITY), capacity);
        words.store(span.word(0), MAGIC);
        Ok(core)
    }

    pub(super) fn open<T: Shareable>(words: &impl Words, span: Span) -> Result<Self> {
        let load = |number| words.load(span.word(number));
        let found = [0, FINGERPRINT, VALUE_WORDS].map(load);
        let core = (found == [MAGIC, T::FINGERPRINT.to_raw(), value::words_of::<T>()])
            .then(|| Self::new(span, load(CAPACITY), value::words_of::<T>()))
            .flatten();
        core.ok_or_else(|| Error::WrongType { what: "the broadcast".to_owned() })
    }

    pub(super) fn writer(&self) -> WordIndex {
        self.span.word(WRITER)
    }

    fn written(&self) -> WordIndex {
        self.span.word(WRITTEN)
    }

    pub(super) fn news(&self) -> Event {
        Event(self.span.word(NEWS))
    }

    pub(super) fn slot(&self, number: u64) -> WordIndex {
        self.span.word(SLOTS + (number & (self.capacity - 1)) * self.stride)
    }

    /// Every word that may be accessed but for those of values.
    #[cfg(test)]
    pub(super) fn words(&self) -> impl Iterator<Item = WordIndex> {
        let slots = (0..self.capacity).map(|number| self.slot(number));
        [self.writer(), self.written(), self.news().0].into_iter().chain(slots)
    }

    /// Becomes the writer, if there is none that lives.
    pub(super) fn claim(&self, words: &impl Words, roll: &impl Roll) -> Result<PeerId> {
        let taken = Error::AtCapacity { what: "a broadcast's place for a writer", limit: 1 };
        let me = roll.me()?;
        let found = words.load(self.writer());
        if PeerId::of_word(found).is_some_and(|peer| peer == me || roll.is_alive(peer)) {
            return Err(taken);
        }
        // Acquires what the last one has written: its partner is the store in `release`, or the
        // kernel's word on a death. Of several that find it dead, one becomes the writer.
        if words.compare_exchange(self.writer(), found, me.word()).is_err() {
            return Err(taken);
        }
        let next = words.load(self.written());
        if words.load(self.slot(next)) == complete(next) {
            // The last one did not come to count it.
            words.store(self.written(), next.wrapping_add(1));
        }
        Ok(me)
    }

    /// Is the writer no more. If it fails, somebody has overwritten the word.
    pub(super) fn release(&self, words: &impl Words, me: PeerId) {
        let _ = words.compare_exchange(self.writer(), me.word(), 0);
    }

    /// Writes the next value; the caller is the writer.
    pub(super) fn write<T: Shareable + Copy>(&self, words: &impl Words, value: &T) {
        let number = words.load(self.written());
        let slot = self.slot(number);
        words.store(slot, complete(number).wrapping_sub(1));
        value::store(words, slot + 1, value);
        words.store(slot, complete(number));
        words.store(self.written(), number.wrapping_add(1));
        // Its partner is the fence of who is about to sleep, in `Event::announce`.
        words.fence();
        self.news().notify_all(words);
    }

    /// The value of that number: `None` while it is not there yet, an error if it is gone.
    pub(super) fn read<T: Shareable + Copy>(
        &self,
        words: &impl Words,
        number: u64,
    ) -> Result<Option<T>, Gone> {
        let slot = self.slot(number);
        let sequence = words.load(slot);
        // Sequences may come round, as the number of a value may.
        let ahead = sequence.wrapping_sub(complete(number)) as i64;
        if ahead < 0 {
            return Ok(None);
        }
        let value = value::load(words, slot + 1);
        // Its partner is the first store of a sequence in `write`: if a word of the value was of a
        // later one, this is later as well.
        if ahead > 0 || words.load(slot) != sequence { Err(Gone) } else { Ok(Some(value)) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn count(&self, words: &impl Words) -> u64 {
        words.load(self.written())
    }

    /// The oldest value that is not about to be replaced.
    pub(super) fn oldest(&self, words: &impl Words) -> u64 {
        // The slot of the next value may be under way.
        self.count(words).saturating_sub(self.capacity - 1)
    }

    /// The value written last.
    pub(super) fn latest<T: Shareable + Copy>(&self, words: &impl Words) -> Option<T> {
        for _ in 0..ATTEMPTS {
            let count = self.count(words);
            // The one behind may be there already, uncounted.
            for number in [Some(count), count.checked_sub(1)].into_iter().flatten() {
                if let Ok(Some(value)) = self.read(words, number) {
                    return Some(value);
                }
            }
            if count == 0 {
                return None;
            }
        }
        None
    }

    /// The value at a reader's position, which follows.
    pub(super) fn next<T: Shareable + Copy>(
        &self,
        words: &impl Words,
        position: &mut u64,
    ) -> Option<Received<T>> {
        match self.read(words, *position) {
            Ok(value) => {
                let value = value?;
                *position = position.wrapping_add(1);
                Some(Received::Value(value))
            }
            Err(Gone) => {
                let next = self.oldest(words).max(position.wrapping_add(1));
                let missed = next.wrapping_sub(*position);
                *position = next;
                Some(Received::Lagged { missed })
            }
        }
    }
}

/// The sequence of a value that stands in its slot.
fn complete(number: u64) -> u64 {
    number.wrapping_mul(2).wrapping_add(2)
}

/// The value has been replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What a [`Subscriber`](crate::Subscriber) receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<T> {
    /// The next value.
    Value(T),
    /// The reader was slow, and values were replaced before it came to them. It goes on with the
    /// oldest that is there.
    Lagged {
        /// How many.
        missed: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_document_names_every_word_of_a_broadcast() {
        let document = include_str!("../../../../FORMAT.md");
        let document = &document[document.find("## Broadcasts").unwrap()..];
        let words = [
            (0, "magic"),
            (FINGERPRINT, "fingerprint"),
            (VALUE_WORDS, "value words"),
            (CAPACITY, "capacity"),
            (WRITER, "writer"),
            (WRITTEN, "written"),
            (NEWS, "news"),
            (SLOTS, "slots"),
        ];
        for row in words.map(|(at, name)| format!("\n| {at} | {name} |")) {
            assert!(document.contains(&row), "FORMAT.md lacks {row}");
        }
        assert!(document.contains(&format!("{CAPACITY_MIN} to {CAPACITY_MAX}")));
    }
}
