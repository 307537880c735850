//! Who is inside a heap: what lets `disconnect` unmap while other threads call.
//!
//! Every thread has a record in which it notes the memory handle it is working with. `disconnect`
//! first makes the handle stale, then waits until no record names it, then unmaps. So a call that
//! races with `disconnect` either finishes before the memory goes, or sees the stale handle.
//!
//! ```text
//!  a call                                disconnect
//!  record.inside = handle                table: handle is stale
//!  light fence                           heavy fence
//!  table: is the handle live?            any record.inside == handle? wait
//!  ... work ...                          unmap
//!  record.inside = 0
//! ```
//!
//! Of the two fences at least one side must see the other. The light one is a compiler fence,
//! because the heavy one is membarrier(2), which runs a full fence on every thread of the process;
//! where the kernel refuses membarrier, both are full fences.
//!
//! # Safety
//!
//! Records are never freed, so a `&'static Record` taken from the list stays valid; the unsafe
//! blocks are those that follow the list, and system calls without pointers.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc};
use std::cell::Cell;
use std::io;
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering, compiler_fence, fence,
};

use crate::error::Errno;

/// What a record holds during a call that concerns no heap yet, such as create.
pub(crate) const NO_HEAP: usize = 1;

/// One thread's note. A cache line of its own: it is written twice in every call.
#[repr(align(64))]
struct Record {
    /// The handle that the thread works with, [`NO_HEAP`], or 0 outside every call.
    inside: AtomicUsize,
    /// Whether a thread has it. Given back when the thread ends.
    claimed: AtomicBool,
    /// Set before the record is published, and never changed.
    next: *mut Record,
}

/// All records, newest first.
static RECORDS: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());

/// Which fences are in use: 0 not known yet, [`ASYMMETRIC`] or [`SYMMETRIC`].
static FENCES: AtomicU8 = AtomicU8::new(0);
const ASYMMETRIC: u8 = 1;
const SYMMETRIC: u8 = 2;

/// What a thread looks at in every call.
#[derive(Clone, Copy)]
struct Mine {
    record: &'static Record,
    /// Looked up once a thread: finding it costs more than using it.
    errno: Errno,
}

/// Gives the thread's record back at the thread's end.
struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(mine) = MINE.take() {
            mine.record.claimed.store(false, Ordering::Release); // with the Acquire in `claim`
        }
    }
}

thread_local! {
    // Without a destructor, so that a call finds it with nothing else to ask.
    static MINE: Cell<Option<Mine>> = const { Cell::new(None) };
    static AT_END: AtEnd = const { AtEnd };
}

/// Proof that this thread is noted. Dropping it ends the note.
pub(crate) struct Pin {
    mine: Mine,
    /// The thread's own record is gone (it is ending): this one serves a single call.
    for_one_call: bool,
}

impl Pin {
    /// The thread's `errno`.
    #[inline]
    pub(crate) fn errno(&self) -> Errno {
        self.mine.errno
    }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        // Release: what the call did to the heap comes before the Acquire load in
        // `wait_until_unused`, and so before the unmapping.
        self.mine.record.inside.store(0, Ordering::Release);
        if self.for_one_call {
            self.mine.record.claimed.store(false, Ordering::Release); // with the Acquire in `claim`
        }
    }
}

/// Notes that this thread works with `handle`. `None` if there is no memory for its record.
#[inline]
pub(crate) fn enter(handle: usize) -> Option<Pin> {
    let pin = match MINE.get() {
        Some(mine) => Pin { mine, for_one_call: false },
        None => first_pin()?,
    };
    // Relaxed: the fence orders it before the table's load, with the fence of `heavy_fence`.
    pin.mine.record.inside.store(handle, Ordering::Relaxed);
    light_fence();
    Some(pin)
}

/// A pin for a thread that has no record: from now on, or, if it is ending, for one call.
#[cold]
fn first_pin() -> Option<Pin> {
    let errno = Errno::of_this_thread();
    let errno_before = errno.get();
    let claimed = claim();
    // Memory for the record may have been asked of the system.
    errno.set(errno_before);
    let mine = Mine { record: claimed?, errno };
    let stays = AT_END.try_with(|_at_end| MINE.set(Some(mine))).is_ok();
    Some(Pin { mine, for_one_call: !stays })
}

/// Whether this thread is inside a call.
pub(crate) fn inside_a_call() -> bool {
    // Relaxed: this thread has stored it itself.
    MINE.get().is_some_and(|mine| mine.record.inside.load(Ordering::Relaxed) != 0)
}

/// Waits until no thread works with `handle`, which the caller has made stale.
///
/// # Errors
///
/// Where the kernel takes back the membarrier(2) that it granted before; nothing is known then.
pub(crate) fn wait_until_unused(handle: usize) -> io::Result<()> {
    heavy_fence()?;
    for record in records() {
        // Acquire: with the Release in `Pin::drop`.
        while record.inside.load(Ordering::Acquire) == handle {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Chooses the fences and arranges for fork. Called before the first handle is given out.
pub(crate) fn prepare() {
    if FENCES.load(Ordering::Relaxed) != 0 {
        return;
    }
    let granted = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED).is_ok()
        && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).is_ok();
    let fences = if granted { ASYMMETRIC } else { SYMMETRIC };
    // A thread that still reads 0 makes full fences, which serve either choice.
    if FENCES.compare_exchange(0, fences, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        // SAFETY: the handler only stores to records, which live for ever. Failure is ENOMEM; a
        // forked child of a process with threads inside calls might then wait in disconnect.
        unsafe { libc::pthread_atfork(None, None, Some(forget_other_threads)) };
    }
}

/// After fork only the forking thread exists, and it is inside no call.
extern "C" fn forget_other_threads() {
    let own = MINE.get();
    // Relaxed: there is no other thread.
    for record in records() {
        let is_own = own.is_some_and(|own| ptr::eq(own.record, record));
        record.inside.store(0, Ordering::Relaxed);
        record.claimed.store(is_own, Ordering::Relaxed);
    }
}

#[inline]
fn light_fence() {
    // Relaxed: either answer is right, see `prepare`.
    if FENCES.load(Ordering::Relaxed) == ASYMMETRIC {
        // With the membarrier of `heavy_fence`, which runs a full fence on this thread.
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst); // with the SeqCst fence of `heavy_fence`
    }
}

fn heavy_fence() -> io::Result<()> {
    fence(Ordering::SeqCst); // with the SeqCst fence of `light_fence`
    if FENCES.load(Ordering::Relaxed) == ASYMMETRIC {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)?;
    }
    Ok(())
}

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A record that no thread has: one given back, or a new one.
#[cold]
fn claim() -> Option<&'static Record> {
    let given_back = records().find(|record| {
        // Acquire: with the Release stores of `false`.
        record.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    });
    given_back.or_else(add)
}

fn add() -> Option<&'static Record> {
    // SAFETY: the layout is not empty. `alloc`, not `Box`: having no memory is not fatal here.
    let memory = unsafe { alloc(Layout::new::<Record>()) }.cast::<Record>();
    if memory.is_null() {
        return None;
    }
    let mut next = RECORDS.load(Ordering::Relaxed);
    loop {
        let (inside, claimed) = (AtomicUsize::new(0), AtomicBool::new(true));
        // SAFETY: `memory` has the record's size and alignment, and is not shared yet.
        unsafe { memory.write(Record { inside, claimed, next }) };
        // Release: with the Acquire in `records`.
        match RECORDS.compare_exchange_weak(next, memory, Ordering::Release, Ordering::Relaxed) {
            // SAFETY: initialised above, never freed, and from now on only its atomics change.
            Ok(_) => return Some(unsafe { &*memory }),
            Err(newer) => next = newer,
        }
    }
}

fn records() -> impl Iterator<Item = &'static Record> {
    let follow = |record: *mut Record| {
        // SAFETY: null, or a record that `add` published and that is never freed.
        unsafe { record.as_ref() }
    };
    // Acquire: with the Release in `add`.
    let newest = follow(RECORDS.load(Ordering::Acquire));
    std::iter::successors(newest, move |record| follow(record.next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn waiting_ends_when_the_last_thread_has_left() {
        prepare();
        let handle = 0x1000;
        let (entered, wait_entered) = mpsc::channel();
        let (leave, wait_leave) = mpsc::channel::<()>();
        let left = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let pin = enter(handle).unwrap();
                entered.send(()).unwrap();
                wait_leave.recv().unwrap();
                left.store(true, Ordering::SeqCst);
                drop(pin);
            });
            wait_entered.recv().unwrap();
            wait_until_unused(handle + 1).unwrap();
            assert!(!left.load(Ordering::SeqCst), "another handle does not wait");
            leave.send(()).unwrap();
            wait_until_unused(handle).unwrap();
            assert!(left.load(Ordering::SeqCst), "waited until the thread left");
        });
    }

    #[test]
    fn a_thread_is_inside_exactly_while_it_holds_a_pin() {
        assert!(!inside_a_call());
        let pin = enter(NO_HEAP).unwrap();
        assert!(inside_a_call());
        drop(pin);
        assert!(!inside_a_call());
    }
}
