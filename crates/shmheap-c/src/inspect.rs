//! What a program can ask: statistics, an audit, the last error's text, the version.
//!
//! # Safety
//!
//! `shmheap_stats` writes as many bytes as the caller's struct says it has.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

use crate::call;
use crate::error::{self, Audit, Errno, Failure};
use crate::options::{MemoryHandle, Statistics};

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// `shmheap_stats`.
///
/// # Safety
///
/// `statistics` is null or a struct as long as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_stats(mem: MemoryHandle, statistics: *mut Statistics) -> c_int {
    call::on_heap(mem, -1, |connection| {
        // SAFETY: the caller's promise.
        unsafe { Statistics::copy_to(&connection.heap.stats(), statistics) }?;
        Ok(0)
    })
}

/// `shmheap_check`: number of findings, the first as the thread's error text.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_check(mem: MemoryHandle) -> c_int {
    let Some(report) = call::on_heap(mem, None, |connection| Ok(Some(connection.heap.check())))
    else {
        return -1;
    };
    let audit = Audit { findings: report.findings.len(), stood_still: report.stood_still };
    if let Some(first) = report.findings.into_iter().next() {
        error::report(&Failure::Unsound(first, audit));
    }
    c_int::try_from(audit.findings).unwrap_or(c_int::MAX)
}

/// `shmheap_last_error`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_last_error() -> *const c_char {
    error::last_text()
}

/// `shmheap_strerror`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_strerror(errnum: c_int) -> *const c_char {
    let errno = Errno::of_this_thread();
    let errno_before = errno.get();
    let text = error::describe(errnum);
    errno.set(errno_before);
    text
}

/// `shmheap_version`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_version() -> *const c_char {
    VERSION.as_ptr()
}
