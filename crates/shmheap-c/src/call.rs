//! The gate that every function of the header passes: no panic out, failures as `errno` and text.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{self, Failure};
use crate::handles::{Connection, HEAPS};
use crate::options::MemoryHandle;
use crate::pins;

/// Runs a call on the heap that `mem` names; gives `failed` if it fails.
#[inline]
pub(crate) fn on_heap<T>(
    mem: MemoryHandle,
    failed: T,
    body: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> T {
    let handle = mem.addr();
    // A null handle must not look like "outside every call" to the panic hook.
    run(handle.max(pins::NO_HEAP), failed, |pin| body(HEAPS.find(handle, pin)?))
}

/// Runs a call that concerns no connected heap; gives `failed` if it fails.
pub(crate) fn elsewhere<T>(failed: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    run(pins::NO_HEAP, failed, |_pin| body())
}

#[inline]
fn run<T>(inside: usize, failed: T, body: impl FnOnce(&pins::Pin) -> Result<T, Failure>) -> T {
    let Some(pin) = pins::enter(inside) else {
        error::report(&Failure::NoRoom("the process has no memory for this thread's record"));
        return failed;
    };
    let errno_before = pin.errno().get();
    // AssertUnwindSafe: nothing of the caller's is left half-changed but the shared heap, which is
    // made for processes that stop at any instruction.
    match panic::catch_unwind(AssertUnwindSafe(|| body(&pin))) {
        Ok(Ok(value)) => {
            // The system calls within may have set it.
            pin.errno().set(errno_before);
            value
        }
        Ok(Err(failure)) => {
            error::report(&failure);
            failed
        }
        Err(_panic) => {
            error::report(&Failure::Panicked);
            failed
        }
    }
}

/// Keeps a panic inside this library from printing. Others' panics, where a Rust program links
/// this library statically and shares its standard library, print as before.
pub(crate) fn silence_own_panics() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Relaxed) || DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !pins::inside_a_call() {
            others(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;
    use std::ffi::CStr;

    #[test]
    fn a_panic_becomes_an_error() {
        silence_own_panics();
        let value = elsewhere(-1, || panic!("on purpose"));
        assert_eq!(value, -1);
        assert_eq!(Errno::of_this_thread().get(), libc::ENOTRECOVERABLE);
        assert!(!pins::inside_a_call());
    }

    #[test]
    #[allow(unsafe_code)]
    fn success_leaves_errno_and_text_alone() {
        elsewhere((), || Err(Failure::Argument("the text")));
        Errno::of_this_thread().set(77);
        let value = elsewhere(0, || {
            Errno::of_this_thread().set(libc::EAGAIN);
            Ok(5)
        });
        assert_eq!((value, Errno::of_this_thread().get()), (5, 77));
        // SAFETY: a C string that stands until this thread's next failure.
        assert_eq!(unsafe { CStr::from_ptr(error::last_text()) }, c"the text");
    }
}
