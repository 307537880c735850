//! Objects of the demo's heap, seen as atomic words.
#![allow(unsafe_code)]
//!
//! Everything the demo keeps in the heap is an array of 64-bit words that several processes read
//! and write, so every access is atomic and no lock is needed.
//!
//! # Safety
//!
//! Three facts carry the unsafe calls. The heap vouches that the object is live, where it
//! starts and how long it is. Its memory stays mapped for as long as the borrow of the `Heap`, also
//! when the object is freed meanwhile. And any bytes make valid words: a view of an object that was
//! freed and used again shows wrong numbers, which the demo's final count would find, but is no
//! undefined behaviour, since every process of the demo writes by atomic stores only.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use shmheap::{Handle, Heap, Result};

/// Bytes in a word.
pub(super) const WORD_BYTES: usize = 8;

/// The words of an object.
pub(super) type Words<'h> = &'h [AtomicU64];

/// Allocates an object of `count` words, all of them 0.
pub(super) fn allocate(heap: &Heap, count: usize) -> Result<(Handle, Words<'_>)> {
    let layout = Layout::array::<u64>(count).map_err(|_| shmheap::Error::InvalidLayout {
        size_bytes: u64::MAX,
        align_bytes: WORD_BYTES as u64,
        why: "the size overflows",
    })?;
    let object = heap.alloc(layout)?;
    let words = view_words(heap, object)?;
    for word in words {
        // Published later, by whoever stores the handle where others find it.
        word.store(0, Ordering::Relaxed);
    }
    Ok((heap.handle(object)?, words))
}

/// The words of the live object `handle`; those of a size that is no multiple of 8 are cut off.
pub(super) fn view(heap: &Heap, handle: Handle) -> Result<Words<'_>> {
    view_words(heap, heap.resolve(handle)?)
}

fn view_words(heap: &Heap, object: NonNull<u8>) -> Result<Words<'_>> {
    let count = heap.usable_size(object)? / WORD_BYTES;
    // SAFETY: `usable_size` vouches for a live object of that many bytes, mapped as long as `heap`;
    // objects start at multiples of the granule, 8 or 16, and all accesses are atomic, see above.
    Ok(unsafe { std::slice::from_raw_parts(object.cast::<AtomicU64>().as_ptr(), count) })
}

/// Frees the object `handle`.
pub(super) fn free(heap: &Heap, handle: Handle) -> Result<()> {
    free_object(heap, heap.resolve(handle)?)
}

/// Frees an object.
pub(super) fn free_object(heap: &Heap, object: NonNull<u8>) -> Result<()> {
    // SAFETY: views of it that remain are sound, see above; the demo follows none of them.
    unsafe { heap.free(object) }
}

/// Words that `bytes` bytes of text take.
pub(super) fn text_words(bytes: usize) -> usize {
    bytes.div_ceil(WORD_BYTES)
}

/// Writes text, 8 bytes a word.
pub(super) fn store_text(words: &[AtomicU64], text: &[u8]) {
    for (word, chunk) in words.iter().zip(text.chunks(WORD_BYTES)) {
        let mut bytes = [0; WORD_BYTES];
        bytes.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// Reads `bytes` bytes of text, fewer if the object is shorter.
pub(super) fn load_text(words: &[AtomicU64], bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.min(words.len() * WORD_BYTES));
    for word in words.iter().take(text_words(bytes)) {
        text.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    text.truncate(bytes);
    text
}

/// Whether the words hold just `text`.
pub(super) fn is_text(words: &[AtomicU64], text: &[u8]) -> bool {
    words.len() >= text_words(text.len())
        && words
            .iter()
            .zip(text.chunks(WORD_BYTES))
            .all(|(word, chunk)| word.load(Ordering::Relaxed).to_le_bytes().starts_with(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let words: [AtomicU64; 3] = Default::default();
        for text in ["", "a", "12345678", "123456789", "exactly twenty-four byte"] {
            store_text(&words, text.as_bytes());
            assert_eq!(load_text(&words, text.len()), text.as_bytes());
            assert!(is_text(&words, text.as_bytes()));
        }
        assert!(!is_text(&words, b"exactly twenty-four bytf"));
        assert!(!is_text(&words, b"exactly twenty-four bytes"), "longer than the object");
        assert_eq!(load_text(&words, 1000).len(), 24, "cut at the object's end");
    }
}
