//! Memory that a forked child finds empty.
//!
//! What a process has told the kernel and other processes about itself does not hold for its
//! children, and a library cannot count on being told of a fork: `pthread_atfork` misses a raw
//! `clone`. The kernel empties these words in every child, so one load tells whether what they say
//! was said by this process.
//!
//! # Unsafe code
//!
//! Mapping, unmapping, and the view of the mapped page as words; a pointer to a word that is kept
//! together with its page.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::refused;
use crate::Result;

/// Words in two of the smallest pages that Linux has: what one mapping holds costs one.
const WORDS: usize = 2 * 4096 / size_of::<AtomicU64>();

/// Pages that are in use no more, all zero, or none: for the next heap of this process, or of its
/// child, where they are as empty.
static SPARE: AtomicPtr<[AtomicU64; WORDS]> = AtomicPtr::new(ptr::null_mut());

/// A few private words, all zero in the process that made them at first and in each child.
#[derive(Debug)]
pub(crate) struct WipeOnFork {
    page: NonNull<[AtomicU64; WORDS]>,
}

// SAFETY: the page belongs to the process and is only reached as atomics.
unsafe impl Send for WipeOnFork {}
// SAFETY: as above.
unsafe impl Sync for WipeOnFork {}

impl WipeOnFork {
    pub(crate) fn new() -> Result<Self> {
        // Acquire; its partner is the release in `drop`: the words are seen as zeros.
        if let Some(page) = NonNull::new(SPARE.swap(ptr::null_mut(), Ordering::Acquire)) {
            return Ok(Self { page });
        }
        let failed = refused("mapping pages that children find empty");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let len = size_of::<[AtomicU64; WORDS]>();
        // SAFETY: without MAP_FIXED the kernel chooses a range that nothing else uses.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE)
        };
        let page = NonNull::new(mapped.map_err(&failed)?.cast());
        let words = Self { page: page.ok_or_else(|| failed(Errno::FAULT))? };
        // SAFETY: the range was mapped just now; the advice changes nothing in this process.
        unsafe { rustix::mm::madvise(words.address(), len, Advice::LinuxWipeOnFork) }
            .map_err(failed)?;
        Ok(words)
    }

    /// The word of that number; numbers beyond the last start over.
    #[inline]
    pub(crate) fn word(&self, number: usize) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as `self` lives, zero-filled, aligned, and only ever
        // reached as atomics.
        let words = unsafe { self.page.as_ref() };
        &words[number % WORDS]
    }

    fn address(&self) -> *mut c_void {
        self.page.as_ptr().cast()
    }
}

impl Drop for WipeOnFork {
    fn drop(&mut self) {
        for number in 0..WORDS {
            let word = self.word(number);
            // Relaxed: nobody else has the words; the release below publishes them.
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        let (none, page) = (ptr::null_mut(), self.page.as_ptr());
        // Release; its partner is the acquire in `new`.
        if SPARE.compare_exchange(none, page, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: `new` mapped the page, a child has it too, no borrow of it outlives `self`,
            // and it is not the spare one.
            let _ = unsafe { rustix::mm::munmap(self.address(), size_of::<[AtomicU64; WORDS]>()) };
        }
    }
}

/// A word of a page, and what keeps the page: for those who look at it so often that the way
/// through the page would tell.
#[derive(Debug)]
pub(crate) struct KeptWord {
    word: NonNull<AtomicU64>,
    _page: Option<Arc<WipeOnFork>>,
}

// SAFETY: the word is only reached as an atomic, and the page may move between threads.
unsafe impl Send for KeptWord {}
// SAFETY: as above.
unsafe impl Sync for KeptWord {}

impl KeptWord {
    /// The word of that number.
    pub(crate) fn of(page: &Arc<WipeOnFork>, number: usize) -> Self {
        Self { word: NonNull::from(page.word(number)), _page: Some(Arc::clone(page)) }
    }

    /// A word that is always 0.
    pub(crate) fn zero() -> Self {
        static ZERO: AtomicU64 = AtomicU64::new(0);
        Self { word: NonNull::from(&ZERO), _page: None }
    }

    #[inline]
    pub(crate) fn get(&self) -> &AtomicU64 {
        // SAFETY: the word lies in a page that `self` keeps mapped where it is, or in a static.
        unsafe { self.word.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{exit_status, fork, in_own_process, raw_clone};

    #[test]
    fn pages_that_come_back_are_empty() {
        in_own_process(module_path!(), "pages_that_come_back_are_empty", || {
            for round in 0..3 {
                let pages = [0, 1].map(|_| WipeOnFork::new().unwrap());
                assert!(!ptr::eq(pages[0].word(0), pages[1].word(0)));
                for word in pages.iter().flat_map(|page| (0..WORDS).map(|n| page.word(n))) {
                    assert_eq!(word.swap(7, Ordering::Relaxed), 0, "{round}");
                }
            }
            let spare = fork(|| {
                let page = WipeOnFork::new().unwrap();
                page.word(0).store(1, Ordering::Relaxed);
                let child = fork(|| i32::from(page.word(0).load(Ordering::Relaxed) != 0));
                exit_status(child)
            });
            assert_eq!(exit_status(spare), 0, "in a child it is emptied for that one's children");
        });
    }

    #[test]
    fn children_and_their_children_find_nothing() {
        in_own_process(module_path!(), "children_and_their_children_find_nothing", || {
            let words = WipeOnFork::new().unwrap();
            let all = 0..WORDS;
            assert!(all.clone().all(|number| words.word(number).load(Ordering::Relaxed) == 0));
            words.word(0).store(1, Ordering::Relaxed);
            words.word(WORDS - 1).store(2, Ordering::Relaxed);
            let empty = || all.clone().all(|n| words.word(n).load(Ordering::Relaxed) == 0);
            for make_child in [fork, raw_clone] {
                let child = make_child(|| {
                    let child_empty = empty();
                    words.word(0).store(3, Ordering::Relaxed);
                    let grandchild = fork(|| i32::from(!empty()));
                    i32::from(!child_empty || exit_status(grandchild) != 0)
                });
                assert_eq!(exit_status(child), 0);
            }
            assert_eq!(words.word(0).load(Ordering::Relaxed), 1);
            assert_eq!(words.word(WORDS - 1).load(Ordering::Relaxed), 2);
        });
    }
}
