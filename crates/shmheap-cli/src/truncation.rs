//! What the command says when a heap is cut short under it.
//!
//! Whoever may write to a heap's object may also shorten it. The kernel has nothing then to give to
//! a process that reads what was cut off, and sends SIGBUS. No check before the read could help:
//! the object may be shortened behind the check. So the signal is taken for what it is. The library
//! leaves it to the program, to which signals belong; the command is a program.
//!
//! A terminal that is drawn on is given back before.
//!
//! # Unsafe code
//!
//! A signal handler that writes a line and ends the process.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::OnceLock;

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

/// How the terminal was before it was drawn on.
static TERMINAL: OnceLock<libc::termios> = OnceLock::new();
/// Leaves the screen that is drawn on, and shows the cursor.
const LEAVE: &[u8] = b"\x1b[?1049l\x1b[?25h";

/// Has the terminal given back in that case as it is now.
pub(crate) fn remember_terminal() {
    // SAFETY: all-zero is a valid `termios`, numbers as it consists of.
    let mut terminal: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `terminal` is a whole one, and may be written to.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &raw mut terminal) } == 0 {
        // The first to be told is the one to go back to.
        let _ = TERMINAL.set(terminal);
    }
}

extern "C" fn on_bus_error(_: c_int) {
    // A load and a comparison: nothing that waits.
    if let Some(terminal) = TERMINAL.get() {
        // SAFETY: the range is that of a static text, and `write` may be called in signal handlers.
        unsafe { libc::write(libc::STDOUT_FILENO, LEAVE.as_ptr().cast(), LEAVE.len()) };
        // SAFETY: `terminal` is a whole one, never changed, and `tcsetattr` may be called here too.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, terminal) };
    }
    // SAFETY: the range is that of a static text, and `write` may be called in signal handlers.
    unsafe { libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    // SAFETY: ends the process at once, as signal handlers may.
    unsafe { libc::_exit(EXIT_FAILED.into()) }
}
