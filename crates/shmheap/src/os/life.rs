//! Proof of life: how the kernel tells a dead process from a slow one.
//!
//! ```text
//!   holder                                          witness
//!   open object --> F_OFD_SETLK byte 2^60 + slot    F_OFD_GETLK byte 2^60 + slot
//!   mmap one page (MADV_DONTFORK), close            locked: alive    not locked: dead
//! ```
//!
//! The lock belongs to the open file description, and the only thing that keeps that alive is one
//! mapped page. So the lock goes exactly when the kernel takes the holder's memory apart: by exit,
//! kill or exec. It stays when the holder is stopped, when it closes every descriptor it has, when
//! one of its threads ends; a forked child does not inherit it; and no process number is involved
//! that another process, or another PID namespace, could have as well.
//!
//! When in doubt, a dead process is taken for alive for some time more; never the reverse. One such
//! case is known: a fork by another thread between the opening and the closing leaves a copy of the
//! descriptor in the child, until that ends or execs.
//!
//! # Unsafe code
//!
//! The lock calls, which `rustix` lacks for ranges, and the mapped page.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::descriptor::Fresh;
#[cfg(test)]
use super::descriptor::Hold;
use super::object::Object;
use super::refused;
use crate::Result;
use crate::units::{PAGE_BYTES, PeerSlot};

/// The byte of the object that stands for slot 0. It is far behind any object's end, where locks
/// may be but never data, so that no other program's lock is likely to be in the way.
const LIFE_BASE: i64 = 1 << 60;
/// Those of all slots that there could be: the first, and how many.
const EVERY_BYTE: (u64, u64) = (0, 1 << u16::BITS);

/// The lock on one slot's byte, held until it is dropped or the process's memory is gone.
#[derive(Debug)]
pub(crate) struct ProofOfLife {
    slot: PeerSlot,
    pin: Pin,
}

impl ProofOfLife {
    /// Takes the slot's byte; `None` while somebody holds it, this process included.
    pub(crate) fn acquire(object: &Object, slot: PeerSlot) -> Result<Option<Self>> {
        Self::acquire_first(object, [slot])
    }

    /// Takes the first byte that nobody holds.
    pub(crate) fn acquire_first(
        object: &Object,
        slots: impl IntoIterator<Item = PeerSlot>,
    ) -> Result<Option<Self>> {
        Self::acquire_through(object.reopen()?, slots)
    }

    /// As [`acquire_first`](Self::acquire_first), through an open file description that was opened
    /// for it.
    pub(crate) fn acquire_through(
        fresh: Object<Fresh>,
        slots: impl IntoIterator<Item = PeerSlot>,
    ) -> Result<Option<Self>> {
        let failed = refused("taking a process record's lock");
        // The page first: once it is mapped, nothing that the program does to descriptors can
        // release a lock that was taken.
        let pin = fresh.with(Pin::new).map_err(&failed)?;
        let taken = slots.into_iter().find_map(|slot| match fresh.with(|fd| lock(fd, slot)) {
            Ok(()) => Some(Ok(slot)),
            Err(Errno::AGAIN | Errno::ACCESS) => None,
            Err(errno) => Some(Err(failed(errno))),
        });
        let taken = taken.transpose()?;
        // Tells that the page and the lock are the object's.
        fresh.close().map_err(&failed)?;
        Ok(taken.map(|slot| Self { slot, pin }))
    }

    /// The slot whose byte is held.
    pub(crate) fn slot(&self) -> PeerSlot {
        self.slot
    }

    /// Gives up the value but not the lock; the token releases it with [`release`].
    pub(crate) fn into_token(self) -> NonZeroU64 {
        let token = self.pin.token();
        std::mem::forget(self);
        token
    }
}

/// Releases the lock behind a token.
///
/// # Safety
///
/// `token` came from [`ProofOfLife::into_token`] in *this* process, not in one that it was forked
/// from, and was not released yet. In a forked child the page is not mapped, and something else may
/// be at its address.
pub(crate) unsafe fn release(token: NonZeroU64) {
    // SAFETY: what the caller promises is what `from_token` asks for.
    drop(unsafe { Pin::from_token(token) });
}

/// The locks on the bytes of all slots: nobody lives, and nobody can join as long as this is held.
#[derive(Debug)]
pub(crate) struct Solitude(Object<Fresh>);

impl Solitude {
    /// Takes all bytes, through an open file description that was opened for it; `None` while
    /// somebody holds one.
    pub(crate) fn acquire_through(fresh: Object<Fresh>) -> Result<Option<Self>> {
        match fresh.with(|fd| set(fd, libc::F_WRLCK, EVERY_BYTE)) {
            Ok(()) => Ok(Some(Self(fresh))),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(errno) => Err(refused("taking the locks of all process records")(errno)),
        }
    }
}

/// By name, not by closing: a child that was forked meanwhile has the descriptor, too.
impl Drop for Solitude {
    fn drop(&mut self) {
        let _ = self.0.with(|fd| set(fd, libc::F_UNLCK, EVERY_BYTE));
    }
}

/// Length of a pin. The kernel rounds it up to a page of its own, whose size need not be asked for:
/// the question cannot be answered under valgrind.
const PIN_BYTES: usize = PAGE_BYTES as usize;

/// One mapped page, which keeps an open file description alive in this process and no other.
#[derive(Debug)]
struct Pin {
    address: NonZeroU64,
}

impl Pin {
    fn new(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: without MAP_FIXED the kernel chooses a range that nothing else uses.
        let page =
            unsafe { rustix::mm::mmap(ptr::null_mut(), PIN_BYTES, protection, flags, fd, 0) }?;
        let pin =
            Self { address: NonZeroU64::new(page.expose_provenance() as u64).ok_or(Errno::FAULT)? };
        // SAFETY: the page was mapped just now and nobody reads it; the advice takes it from
        // children only.
        unsafe { rustix::mm::madvise(page, PIN_BYTES, Advice::LinuxDontFork) }?;
        Ok(pin)
    }

    fn token(&self) -> NonZeroU64 {
        self.address
    }

    /// # Safety
    ///
    /// As for [`release`].
    unsafe fn from_token(address: NonZeroU64) -> Self {
        Self { address }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let page: *mut c_void = ptr::with_exposed_provenance_mut(self.address.get() as usize);
        // SAFETY: `new` mapped the page in this process, nobody reads it, and it is unmapped once.
        let _ = unsafe { rustix::mm::munmap(page, PIN_BYTES) };
    }
}

/// Looks at the proofs of life of others, through a descriptor that never holds a lock itself.
#[derive(Debug)]
pub(crate) struct Witness {
    object: Object,
}

impl Witness {
    /// Opens the object once more: a description that somebody else has, too, could hold locks,
    /// and would not see them.
    #[cfg(test)]
    pub(crate) fn new<H: Hold>(object: &Object<H>) -> Result<Self> {
        Ok(Self { object: object.reopen()?.keep()? })
    }

    /// Looks through the object's own description, which this process has opened and given to
    /// nobody.
    pub(crate) fn through(object: Object) -> Self {
        Self { object }
    }

    /// Whether nobody holds the slot's byte. This process's own counts as held. `false` when the
    /// kernel cannot be asked.
    pub(crate) fn is_dead(&self, slot: PeerSlot) -> bool {
        self.object.with(|fd| is_locked(fd, slot)) == Ok(false)
    }

    /// The object, for more descriptions of it.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }
}

fn lock(fd: BorrowedFd<'_>, slot: PeerSlot) -> Result<(), Errno> {
    set(fd, libc::F_WRLCK, (u64::from(slot.0), 1))
}

fn set(fd: BorrowedFd<'_>, kind: libc::c_int, bytes: (u64, u64)) -> Result<(), Errno> {
    let request = request(kind, bytes);
    // SAFETY: the call reads a `flock` that lives across it; a wrong descriptor is an error code.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
    errno_of(outcome)
}

fn is_locked(fd: BorrowedFd<'_>, slot: PeerSlot) -> Result<bool, Errno> {
    let mut answer = request(libc::F_WRLCK, (u64::from(slot.0), 1));
    // SAFETY: the call reads and writes a `flock` that lives across it and nobody else sees.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut answer) };
    errno_of(outcome).map(|()| i32::from(answer.l_type) != libc::F_UNLCK)
}

/// A lock on so many slots' bytes from the first on. The process number stays 0, as the kernel
/// wants it for locks of open file descriptions.
fn request(kind: libc::c_int, (first, count): (u64, u64)) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: LIFE_BASE + first as i64,
        l_len: count as i64,
        l_pid: 0,
    }
}

fn errno_of(outcome: libc::c_int) -> Result<(), Errno> {
    if outcome == -1 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::in_own_process;

    #[test]
    fn a_lock_through_the_witnessed_description_is_seen() {
        let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
        let slot = PeerSlot(3);
        // As a process might have done that has sent its descriptor here.
        object.with(|fd| lock(fd, slot)).unwrap();
        assert_eq!(object.with(|fd| is_locked(fd, slot)), Ok(false), "its own lock is none to it");
        assert!(!Witness::new(&object).unwrap().is_dead(slot));
        assert!(ProofOfLife::acquire(&object, slot).unwrap().is_none());
    }

    #[test]
    fn the_page_alone_keeps_the_lock() {
        in_own_process(module_path!(), "the_page_alone_keeps_the_lock", || {
            let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
            let witness = Witness::new(&object).unwrap();
            let slots = [PeerSlot(0), PeerSlot(u16::MAX)];
            let first = ProofOfLife::acquire_first(&object, slots).unwrap().unwrap();
            let second = ProofOfLife::acquire_first(&object, slots).unwrap().unwrap();
            assert_eq!((first.slot(), second.slot()), (slots[0], slots[1]));
            assert!(ProofOfLife::acquire_first(&object, slots).unwrap().is_none());
            drop(first);
            assert!(witness.is_dead(slots[0]) && !witness.is_dead(slots[1]));
            let token = second.into_token();
            assert!(!witness.is_dead(slots[1]));
            // SAFETY: the token is of this process and was not released yet.
            unsafe { release(token) };
            assert!(witness.is_dead(slots[1]));
        });
    }
}
