//! The tool that watches this program, if one does: AddressSanitizer, or Memcheck of Valgrind.
//!
//! Either keeps a *shadow*, which says of every byte of the process whether the program may touch
//! it, and reports a touch of one that it may not. Of the bytes in a heap it knows nothing unless
//! it is told:
//!
//! | | AddressSanitizer | Memcheck |
//! |---|---|---|
//! | is here if | the program has its functions | it answers a client request |
//! | is told by | calling them: `asan.rs` | client requests: `memcheck.rs` |
//! | reports | `use-after-poison` | `Invalid read`, `Invalid write` |
//!
//! A library built without the feature `sanitizers` has `no_tool.rs` in place of this file.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::{asan, memcheck};

/// A tool that watches this program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    AddressSanitizer,
    Memcheck,
}

const NOT_LOOKED: u8 = 0;
const NOBODY: u8 = 1;
const ADDRESS_SANITIZER: u8 = 2;
const MEMCHECK: u8 = 3;

/// Who was found. A program does not gain or lose its tool on the way.
static FOUND: AtomicU8 = AtomicU8::new(NOT_LOOKED);

impl Tool {
    /// Who watches this program. Quick where nobody does.
    #[inline]
    pub(crate) fn here() -> Option<Self> {
        // Relaxed: threads that look at once find the same.
        if FOUND.load(Ordering::Relaxed) == NOBODY { None } else { Self::found() }
    }

    #[cold]
    fn found() -> Option<Self> {
        match FOUND.load(Ordering::Relaxed) {
            ADDRESS_SANITIZER => Some(Self::AddressSanitizer),
            MEMCHECK => Some(Self::Memcheck),
            _ => Self::look(),
        }
    }

    fn look() -> Option<Self> {
        let (found, tool) = if asan::is_here() {
            (ADDRESS_SANITIZER, Some(Self::AddressSanitizer))
        } else if memcheck::is_here() {
            (MEMCHECK, Some(Self::Memcheck))
        } else {
            (NOBODY, None)
        };
        FOUND.store(found, Ordering::Relaxed);
        tool
    }

    /// The program may touch the bytes at these addresses. Their values count as defined: whether
    /// another process has written them, nobody here knows.
    pub(crate) fn open(self, bytes: Range<usize>) {
        match self {
            Self::AddressSanitizer => asan::unpoison(bytes),
            Self::Memcheck => memcheck::make_defined(bytes),
        }
    }

    /// The program must not touch the bytes at these addresses.
    pub(crate) fn close(self, bytes: Range<usize>) {
        match self {
            Self::AddressSanitizer => asan::poison(bytes),
            Self::Memcheck => memcheck::make_inaccessible(bytes),
        }
    }

    /// As [`close`](Self::close), because an object is being freed: a tool that can say where that
    /// was will do so in its report.
    pub(crate) fn close_freed(self, bytes: Range<usize>) {
        match self {
            Self::AddressSanitizer => asan::poison(bytes),
            Self::Memcheck => memcheck::make_freed(bytes),
        }
    }
}

/// Between which addresses of a heap something may be closed.
#[derive(Debug)]
pub(crate) struct Closed {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Closed {
    pub(crate) fn nothing() -> Self {
        Self { start: AtomicUsize::new(usize::MAX), end: AtomicUsize::new(0) }
    }

    pub(crate) fn include(&self, bytes: &Range<usize>) {
        // Relaxed: whoever disconnects has waited for all calls to end.
        self.start.fetch_min(bytes.start, Ordering::Relaxed);
        self.end.fetch_max(bytes.end, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> Range<usize> {
        self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }
}
