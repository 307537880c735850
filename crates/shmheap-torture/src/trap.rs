//! `Trap`: has this process look up after each of its own instructions.
//!
//! ```text
//!   arm --SIGTRAP to itself--> on_trap sets the trap flag in the context that it returns to
//!   instruction, SIGTRAP --> on_trap: counts, and acts by the plan: record, die, stop
//!   ...
//!   disarm                     on_trap clears the flag
//! ```
//!
//! The processor traps behind every instruction while the flag is set, and the kernel clears it in
//! signal handlers; so `on_trap` itself runs at full speed, five times as fast as another process
//! that follows step by step. The release build runs as it is: it need not know of this.
//!
//! Only in a forked child with one thread: the plan is the process's own.
//!
//! # Unsafe code
//!
//! A signal handler that changes the context that it returns to.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use anyhow::{Result, ensure};

/// Whether instructions can be trapped on this machine.
pub(crate) const IS_POSSIBLE: bool = cfg!(target_arch = "x86_64");

/// Bit of the flags by which the processor traps after the next instruction.
#[cfg(target_arch = "x86_64")]
const TRAP_FLAG: i64 = 1 << 8;

// Relaxed wherever these are used: all of it happens in one thread.
static IS_ARMED: AtomicBool = AtomicBool::new(false);
static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);
/// The plan of the `run` that stands, as a pointer to its `&mut dyn FnMut(u64)`.
static PLAN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Runs `body` instruction by instruction, and returns how many there were; a few at either end are
/// this function's own. `plan` is called after each, with its number, from 1 on: in a signal
/// handler, so it allocates nothing and takes no lock.
pub(crate) fn run(mut plan: &mut dyn FnMut(u64), body: impl FnOnce()) -> Result<u64> {
    install()?;
    PLAN.store((&raw mut plan).cast(), Ordering::Relaxed);
    INSTRUCTIONS.store(0, Ordering::Relaxed);
    IS_ARMED.store(true, Ordering::Relaxed);
    // Also if the body panics, nobody calls the plan when it is gone.
    let armed = Armed;
    send(libc::SIGTRAP);
    body();
    drop(armed);
    Ok(INSTRUCTIONS.load(Ordering::Relaxed))
}

/// Disarms on drop; the trap after that clears the flag.
struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        IS_ARMED.store(false, Ordering::Relaxed);
    }
}

/// Ends this process as the system's memory killer would.
pub(crate) fn die() {
    send(libc::SIGKILL);
}

/// Stops this process until somebody lets it go on.
pub(crate) fn stop() {
    send(libc::SIGSTOP);
}

fn send(signal: c_int) {
    let myself = std::process::id() as libc::pid_t;
    // SAFETY: a signal to this process itself, which is delivered before the call returns, for the
    // process has no other thread.
    unsafe { libc::kill(myself, signal) };
}

fn install() -> Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_trap as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` is a whole one, and its handler has the type that SA_SIGINFO asks for.
    let failed = unsafe { libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()) };
    ensure!(failed == 0, "sigaction: {}", std::io::Error::last_os_error());
    Ok(())
}

extern "C" fn on_trap(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let is_armed = IS_ARMED.load(Ordering::Relaxed);
    set_trap_flag(context, is_armed);
    if !is_armed {
        return;
    }
    let number = INSTRUCTIONS.fetch_add(1, Ordering::Relaxed);
    // The first comes from the call that armed this.
    if number > 0 {
        let plan = PLAN.load(Ordering::Relaxed).cast::<&mut dyn FnMut(u64)>();
        // SAFETY: while armed, `run` stands and has stored its plan, which it does not touch; and
        // a handler does not interrupt itself.
        unsafe { (*plan)(number) };
    }
}

#[cfg(target_arch = "x86_64")]
fn set_trap_flag(context: *mut c_void, is_armed: bool) {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a context, which nobody else has.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let flags = &mut context.uc_mcontext.gregs[libc::REG_EFL as usize];
    *flags = if is_armed { *flags | TRAP_FLAG } else { *flags & !TRAP_FLAG };
}

#[cfg(not(target_arch = "x86_64"))]
fn set_trap_flag(_: *mut c_void, _: bool) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::process::{Fork, is_fine, is_killed};

    /// A process of its own for each, as tests run in threads.
    #[test]
    fn every_store_is_seen_by_itself() {
        let board = Board::new(3).unwrap();
        let child = Fork::start(|| {
            let [target, seen, last] = board.words() else { panic!("three words") };
            let mut look = |_| {
                let now = target.load(Ordering::Relaxed);
                if last.swap(now, Ordering::Relaxed) != now {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            };
            let stores = || (1..=5).for_each(|value| target.store(value, Ordering::SeqCst));
            run(&mut look, stores).map(drop)
        });
        assert!(is_fine(child.unwrap().wait().unwrap()));
        assert_eq!(board.words()[1].load(Ordering::SeqCst), 5);
    }

    #[test]
    fn a_process_dies_at_the_instruction_that_was_named() {
        let board = Board::new(1).unwrap();
        let child = Fork::start(|| {
            let word = &board.words()[0];
            let mut die_late = |number| {
                if number == 10_000 {
                    die();
                }
            };
            let count_for_ever = || {
                loop {
                    word.fetch_add(1, Ordering::Relaxed);
                }
            };
            run(&mut die_late, count_for_ever).map(drop)
        });
        assert!(is_killed(child.unwrap().wait().unwrap()));
        let count = board.words()[0].load(Ordering::SeqCst);
        assert!((1000..10_000).contains(&count), "{count}");
    }
}
