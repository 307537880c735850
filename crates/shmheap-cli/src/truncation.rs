//! What the command says when a heap is cut short under it.
//!
//! Whoever may write to a heap's object may also shorten it. The kernel has nothing then to give to
//! a process that reads what was cut off, and sends SIGBUS. No check before the read could help:
//! the object may be shortened behind the check. So the signal is taken for what it is. The library
//! leaves it to the program, to which signals belong; the command is a program.
//!
//! # Unsafe code
//!
//! A signal handler that writes a line and ends the process.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::ptr;

use crate::EXIT_FAILED;

const MESSAGE: &str = "shmheap: another process shortened the heap's object while it was read; \
                       what is left is no heap any more: remove it with `shmheap destroy --yes`\n";

/// From now on, reading what has been cut off ends this process with a message and the exit code of
/// an operation that failed.
pub(crate) fn explain() -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    // SAFETY: `action` is a whole one, and its handler has the type that no SA_SIGINFO asks for.
    let failed = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_bus_error(_: c_int) {
    // SAFETY: the range is that of a static text, and `write` may be called in signal handlers.
    unsafe { libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    // SAFETY: ends the process at once, as signal handlers may.
    unsafe { libc::_exit(EXIT_FAILED.into()) }
}
