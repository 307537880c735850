//! How a failure reaches a C program: an `errno` value and a text.
//!
//! The text lives in a fixed buffer of the thread that failed, so that reporting never allocates
//! (memory may be what has run out) and threads do not overwrite each other's.
//!
//! # Safety
//!
//! The two unsafe operations are reads and writes of `errno`, which is this thread's own.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};
use std::fmt::{self, Write};
use std::io;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The heap refused.
    Heap(shmheap::Error),
    /// The memory handle names no heap of this process.
    MemoryHandle(usize),
    /// The arguments make no sense; the text says which and what to pass.
    Argument(&'static str),
    /// No heap can be that large.
    TooLarge,
    /// The process has no memory, or no table entry, for the call's own records.
    NoRoom(&'static str),
    /// The system refused something.
    System(&'static str, io::Error),
    /// The audit found something.
    Unsound(shmheap::Finding, Audit),
    /// The root is to be removed, but a process is still making it.
    RootInTheMaking,
    /// The library has a bug.
    Panicked,
}

/// What else there is to say about an audit that found something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audit {
    pub(crate) findings: usize,
    pub(crate) stood_still: bool,
}

impl From<shmheap::Error> for Failure {
    fn from(error: shmheap::Error) -> Self {
        Self::Heap(error)
    }
}

impl Failure {
    pub(crate) fn errno(&self) -> c_int {
        match self {
            Self::Heap(error) => error.errno(),
            Self::MemoryHandle(_) | Self::Argument(_) => libc::EINVAL,
            Self::TooLarge | Self::NoRoom(_) => libc::ENOMEM,
            Self::System(_, error) => error.raw_os_error().unwrap_or(libc::EIO),
            Self::Unsound(..) => libc::EUCLEAN,
            Self::RootInTheMaking => libc::EBUSY,
            Self::Panicked => libc::ENOTRECOVERABLE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap(error) => error.fmt(f),
            Self::MemoryHandle(0) => f.write_str(
                "the memory handle is NULL; check what shmheap_create or shmheap_connect returned",
            ),
            Self::MemoryHandle(value) => write!(
                f,
                "{value:#x} is not a memory handle of this process: it was disconnected already, \
                 comes from another process, or was never one"
            ),
            Self::Argument(why) | Self::NoRoom(why) => f.write_str(why),
            Self::TooLarge => f.write_str("no heap can hold an object that large"),
            Self::System(operation, error) => write!(f, "{operation} failed: {error}"),
            Self::Unsound(finding, audit) => {
                let shmheap::Finding { rule, offset_bytes, detail, .. } = finding;
                write!(f, "{rule}, at byte {offset_bytes}: {detail}")?;
                if audit.findings > 1 {
                    write!(f, " (and {} more; run `shmheap check`)", audit.findings - 1)?;
                }
                if !audit.stood_still {
                    f.write_str(" (the heap was changed during the audit: audit again)")?;
                }
                Ok(())
            }
            Self::RootInTheMaking => f.write_str(
                "a process is still making that root; try again when it has made it, or is gone",
            ),
            Self::Panicked => f.write_str(
                "internal error in libshmheap; the heap is as a killed process leaves it: \
                 disconnect, and report the bug",
            ),
        }
    }
}

/// Longest text in bytes, its final NUL included.
const TEXT_BYTES: usize = 512;

/// A C string of bounded length. Invariant: a NUL stands within `bytes`.
struct Text {
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

impl Text {
    const fn empty() -> Self {
        Self { bytes: [0; TEXT_BYTES], len: 0 }
    }

    fn set(&mut self, content: &dyn fmt::Display) {
        self.len = 0;
        // An error means that the text was cut: what fits is still worth having.
        let _cut = write!(self, "{content}");
        self.bytes[self.len] = 0;
    }
}

impl Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = TEXT_BYTES - 1 - self.len;
        let fits = whole_characters(piece, room);
        for &byte in &piece.as_bytes()[..fits] {
            // A name may hold any byte but NUL; a NUL from elsewhere would cut the text here.
            self.bytes[self.len] = if byte == 0 { b'?' } else { byte };
            self.len += 1;
        }
        if fits == piece.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Length of the longest prefix of at most `bytes` bytes that cuts no character.
fn whole_characters(text: &str, bytes: usize) -> usize {
    let end = bytes.min(text.len());
    (0..=end).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0)
}

/// The texts of one thread: the last failure, and the last number that `strerror` had to format.
struct Texts {
    failure: Text,
    strerror: Text,
}

thread_local! {
    // Without a destructor, so that it can be used until the very end of a thread.
    static TEXTS: UnsafeCell<Texts> =
        const { UnsafeCell::new(Texts { failure: Text::empty(), strerror: Text::empty() }) };
}

/// Records `failure` as this thread's last and sets `errno`.
#[cold]
pub(crate) fn report(failure: &Failure) {
    TEXTS.with(|texts| {
        // SAFETY: only this thread reaches its cell, and formatting a failure does not come back
        // here, so this is the only reference.
        let texts = unsafe { &mut *texts.get() };
        texts.failure.set(failure);
    });
    Errno::of_this_thread().set(failure.errno());
}

/// This thread's last failure, empty before the first. Valid until the next one.
pub(crate) fn last_text() -> *const c_char {
    TEXTS.with(|texts| {
        // SAFETY: as in `report`; the pointer outlives the reference, the cell does not move.
        let texts = unsafe { &*texts.get() };
        texts.failure.bytes.as_ptr().cast()
    })
}

/// What the C library's `errno` values mean when a function of shmheap sets them.
pub(crate) fn describe(errno: c_int) -> *const c_char {
    let text = match errno {
        0 => c"success",
        libc::EINVAL => c"invalid argument: a name, option, pointer or handle that cannot be",
        libc::EEXIST => c"something of that name exists already",
        libc::ENOENT => c"no heap, or no root, of that name",
        libc::EBUSY => c"a process is still making the root of that name",
        libc::EACCES => c"permission denied",
        libc::EBADF => c"not a heap, or not a whole one",
        libc::EPROTO => c"made by an incompatible version of shmheap",
        libc::ENOSPC => c"the system's storage is full",
        libc::ENOMEM => c"the heap is full, or the process has no address space left",
        libc::EADDRINUSE => c"the address at which the heap has to lie is taken in this process",
        libc::EDQUOT => c"a quota of the heap, of the process or of a tag is used up",
        libc::EOPNOTSUPP => c"the heap was made without labels",
        libc::EROFS => c"connected for reading only",
        libc::EUSERS => c"the heap has no place for one more process, thread, tag or label",
        libc::ESTALE => c"the object of that handle was freed",
        libc::EUCLEAN => c"the heap's metadata is damaged",
        libc::ENOTRECOVERABLE => c"internal error in libshmheap",
        other => return describe_system(other),
    };
    text.as_ptr()
}

fn describe_system(errno: c_int) -> *const c_char {
    TEXTS.with(|texts| {
        // SAFETY: as in `report`.
        let texts = unsafe { &mut *texts.get() };
        texts.strerror.set(&io::Error::from_raw_os_error(errno));
        texts.strerror.bytes.as_ptr().cast()
    })
}

/// This thread's `errno`.
#[derive(Clone, Copy)]
pub(crate) struct Errno(*mut c_int);

impl Errno {
    #[inline]
    pub(crate) fn of_this_thread() -> Self {
        // SAFETY: has no preconditions.
        Self(unsafe { libc::__errno_location() })
    }

    #[inline]
    pub(crate) fn get(self) -> c_int {
        // SAFETY: the address is valid for this thread, which a raw pointer does not leave.
        unsafe { self.0.read() }
    }

    #[inline]
    pub(crate) fn set(self, value: c_int) {
        // SAFETY: as in `get`.
        unsafe { self.0.write(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> String {
        // SAFETY: `last_text` gives a C string that stands until this thread's next report.
        unsafe { CStr::from_ptr(last_text()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_report_sets_errno_and_text_of_its_thread_only() {
        report(&Failure::Argument("first"));
        std::thread::spawn(|| {
            assert_eq!(last(), "");
            report(&Failure::Argument("second"));
        })
        .join()
        .unwrap();
        assert_eq!(last(), "first");
        assert_eq!(Errno::of_this_thread().get(), libc::EINVAL);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut text = Text::empty();
        text.set(&"\u{20ac}".repeat(400));
        let shown = CStr::from_bytes_until_nul(&text.bytes).unwrap().to_str().unwrap();
        assert_eq!(shown.chars().count(), (TEXT_BYTES - 1) / 3);
        text.set(&"short");
        assert_eq!(CStr::from_bytes_until_nul(&text.bytes).unwrap(), c"short");
    }

    #[test]
    fn a_nul_in_a_name_does_not_cut_the_text() {
        let mut text = Text::empty();
        text.set(&"a\0b");
        assert_eq!(CStr::from_bytes_until_nul(&text.bytes).unwrap(), c"a?b");
    }

    #[test]
    fn every_errno_has_a_text() {
        for errno in -1..200 {
            // SAFETY: `describe` gives a C string that stands until the next call.
            let text = unsafe { CStr::from_ptr(describe(errno)) };
            assert!(!text.is_empty(), "{errno}");
        }
    }
}
