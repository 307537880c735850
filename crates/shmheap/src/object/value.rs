//! Values in words: how a plain value is stored into a row of words and loaded from it.
//!
//! Objects that many processes write at once hold their values so: each word of a value is read
//! and written as an atomic, so a reader that meets a writer gets words of two values and no
//! undefined behaviour; its protocol tells it to look again. The last word of a value is filled up
//! with zeros.
//!
//! # Unsafe code
//!
//! A value is looked at as bytes, and made of them.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

use crate::object::Shareable;
use crate::segment::words::Words;
use crate::units::{WORD_BYTES, WordIndex};

/// Words that a value of the type takes.
pub(crate) const fn words_of<T>() -> u64 {
    (size_of::<T>() as u64).div_ceil(WORD_BYTES)
}

/// Stores a value into the words from `at` on.
#[inline]
pub(crate) fn store<T: Shareable + Copy>(words: &impl Words, at: WordIndex, value: &T) {
    for number in 0..words_of::<T>() {
        words.store(at + number, word(value, number));
    }
}

/// The value in the words from `at` on.
#[inline]
pub(crate) fn load<T: Shareable + Copy>(words: &impl Words, at: WordIndex) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    for number in 0..words_of::<T>() {
        let bytes = words.load(at + number).to_ne_bytes();
        let (from, count) = extent::<T>(number);
        let to = value.as_mut_ptr().wrapping_byte_add(from).cast();
        // SAFETY: `count` bytes from `from` on lie in the value, and in the word.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, count) };
    }
    // SAFETY: all bytes are set, and any bytes are a value of a shareable type.
    unsafe { value.assume_init() }
}

/// Whether the value in the words from `at` on has the same bytes.
#[inline]
pub(crate) fn equals<T: Shareable + Copy>(words: &impl Words, at: WordIndex, value: &T) -> bool {
    (0..words_of::<T>()).all(|number| words.load(at + number) == word(value, number))
}

/// The word of that number of a value.
#[inline]
pub(crate) fn word<T: Shareable + Copy>(value: &T, number: u64) -> u64 {
    // Ends the compilation if a generic type has padding with these parameters.
    let _no_padding = T::FINGERPRINT;
    let mut bytes = [0; WORD_BYTES as usize];
    let (from, count) = extent::<T>(number);
    let from = ptr::from_ref(value).wrapping_byte_add(from).cast();
    // SAFETY: `count` bytes from `from` on lie in the value, and in the word; a shareable type has
    // no padding, so all of them are set.
    unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), count) };
    u64::from_ne_bytes(bytes)
}

/// The first byte of a value that stands in the word of that number, and how many do.
#[inline]
fn extent<T>(number: u64) -> (usize, usize) {
    let from = (number * WORD_BYTES) as usize;
    (from, size_of::<T>().saturating_sub(from).min(WORD_BYTES as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use std::sync::atomic::AtomicU64;

    fn round_trips<T: Shareable + Copy + PartialEq + std::fmt::Debug>(value: T, words: u64) {
        let memory: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(u64::MAX)).collect();
        let row = Row::new(&memory, Futex);
        let at = WordIndex(1);
        store(&row, at, &value);
        assert_eq!(words_of::<T>(), words);
        assert_eq!(load::<T>(&row, at), value);
        assert!(equals(&row, at, &value));
        assert_eq!(row.load(WordIndex(0)), u64::MAX);
        assert_eq!(row.load(at + words), u64::MAX);
        if words > 0 {
            row.store(at + (words - 1), !row.load(at + (words - 1)));
            assert!(!equals(&row, at, &value));
        }
        // Outside the row a value is zeros, and is stored nowhere.
        store(&row, WordIndex(u64::MAX), &value);
        let _ = load::<T>(&row, WordIndex(u64::MAX));
    }

    #[test]
    fn values_of_any_size_round_trip() {
        round_trips((), 0);
        round_trips(7_u8, 1);
        round_trips(0x0102_0304_0506_0708_u64, 1);
        round_trips([1_u8, 2, 3, 4, 5, 6, 7, 8, 9], 2);
        round_trips([1.5_f32, -2.5, 3.5], 2);
        round_trips(u128::MAX - 5, 2);
    }
}
