//! `Mapping`: an object in this process's address space, until the last clone is dropped.
//!
//! A mapping may be longer than its object: address space for the largest heap is taken at once, so
//! that growth, by whichever process, needs nothing here. Bytes behind the object's end must not be
//! touched (`SIGBUS`) before [`Object::reserve`] has given them storage.
//!
//! # Unsafe code
//!
//! Mapping, unmapping, and the view of mapped bytes as words.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::descriptor::{Access, Hold};
use super::object::Object;
use super::occupant::occupant;
use super::refused;
use crate::units::{PAGE_BYTES, WORD_BYTES};
use crate::{Error, Result};

/// A shared mapping of an object from its start; see the module's text. Clones are the same
/// mapping: what is needed to use it is in each, so that it is one load away.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
    /// The bytes that are states of objects, reached one by one: a part of the mapping.
    states: (NonNull<u8>, usize),
    mapped: Arc<Mapped>,
}

/// A mapping that may be gone: it does not keep it.
#[derive(Debug)]
pub(crate) struct WeakMapping {
    base: NonNull<u8>,
    len_bytes: usize,
    states: (NonNull<u8>, usize),
    mapped: Weak<Mapped>,
}

impl WeakMapping {
    /// The mapping, unless its last clone was dropped.
    pub(crate) fn upgrade(&self) -> Option<Mapping> {
        let Self { base, len_bytes, states, ref mapped } = *self;
        Some(Mapping { base, len_bytes, states, mapped: mapped.upgrade()? })
    }
}

/// The range that is mapped.
#[derive(Debug)]
struct Mapped {
    base: NonNull<u8>,
    len: usize,
    /// Whether the address was a matter of choice: the place is another's then when this is gone.
    chosen: bool,
}

/// Where the last aligned mapping was that is gone, 0 if another was put there: whoever connects,
/// disconnects and connects again finds that place free, and needs no room around it. Never one
/// that an object was mapped to because it had to be there: it will have to be again.
static VACATED: AtomicUsize = AtomicUsize::new(0);
/// What makes a place worth remembering.
const VACATED_ALIGN: usize = 2 << 20;

impl Mapped {
    /// Puts a mapping where one was, if that is aligned and nothing else is there by now.
    fn where_one_was<H: Hold>(object: &Object<H>, len: usize, align: usize) -> Option<Self> {
        if align <= PAGE_BYTES as usize {
            return None;
        }
        // Relaxed: the address is no more than a wish.
        let vacated = VACATED.swap(0, Ordering::Relaxed);
        if vacated == 0 {
            return None;
        }
        let wish = ptr::without_provenance_mut(vacated);
        let mapped = Self::at(object, wish, len, MapFlags::empty()).ok()?;
        mapped.base.addr().get().is_multiple_of(align).then_some(mapped)
    }

    /// Puts a mapping into room that is made for it.
    fn in_room<H: Hold>(object: &Object<H>, len: usize, align: usize) -> Result<Self, Errno> {
        let room = Room::reserve(len, align)?;
        let mapped = Self::at(object, room.start(), len, room.flags())?;
        room.give_up(len);
        Ok(mapped)
    }

    /// Puts a mapping where it has to be, or nowhere: what lies there stays.
    fn exactly<H: Hold>(object: &Object<H>, len: usize, at: NonZeroUsize) -> Result<Self, Errno> {
        let wish = ptr::without_provenance_mut(at.get());
        Self::at(object, wish, len, MapFlags::FIXED_NOREPLACE)?.only_at(at)
    }

    /// Kernels before 4.17 take the flag of `exactly` for none, and the address for a wish.
    fn only_at(mut self, at: NonZeroUsize) -> Result<Self, Errno> {
        if self.base.addr() != at {
            return Err(Errno::EXIST);
        }
        self.chosen = false;
        Ok(self)
    }

    fn at<H: Hold>(
        object: &Object<H>,
        at: *mut c_void,
        len: usize,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        let protection = match object.access() {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // NORESERVE: behind the object's end nothing is promised, and nothing should be counted.
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | flags;
        let mapped = object.with(|fd| {
            // SAFETY: the kernel chooses a range that nothing else uses, or refuses one that
            // something uses, or, with MAP_FIXED, the range is one that a room has and gives up.
            unsafe { rustix::mm::mmap(at, len, protection, flags, fd, 0) }
        })?;
        let base = NonNull::new(mapped.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { base, len, chosen: true })
    }
}

// SAFETY: a mapping belongs to the process, not to a thread, and unmapping works from any.
unsafe impl Send for Mapped {}
// SAFETY: as above; nothing but the drop changes the mapping.
unsafe impl Sync for Mapped {}
// SAFETY: the bytes are handed out as atomics, and as a base address whose use is the caller's to
// argue.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len_bytes` bytes of the object, which may be shorter, for what it was
    /// opened for, at an address that is a multiple of `align_bytes`, a power of two. Storing to a
    /// mapping of a read-only object is a fault.
    pub(crate) fn aligned<H: Hold>(
        object: &Object<H>,
        len_bytes: u64,
        align_bytes: u64,
    ) -> Result<Self> {
        let len = length(len_bytes)?;
        let align = align_bytes as usize;
        let mapped = match Mapped::where_one_was(object, len, align) {
            Some(mapped) => mapped,
            None => {
                Mapped::in_room(object, len, align).map_err(|errno| not_mapped(errno, len_bytes))?
            }
        };
        Ok(Self::of(mapped))
    }

    /// As [`aligned`](Self::aligned), at that address and nowhere else. What lies there stays, and
    /// makes this an error.
    pub(crate) fn at<H: Hold>(
        object: &Object<H>,
        len_bytes: u64,
        address: NonZeroUsize,
    ) -> Result<Self> {
        let len = length(len_bytes)?;
        let mapped = Mapped::exactly(object, len, address).map_err(|errno| match errno {
            Errno::EXIST => {
                let (name, address) = (object.label().to_owned(), address.get());
                let range = address..address.saturating_add(len);
                let occupant = occupant(range, object.identity());
                Error::AddressTaken { name, address, occupant }
            }
            errno => not_mapped(errno, len_bytes),
        })?;
        Ok(Self::of(mapped))
    }

    fn of(mapped: Mapped) -> Self {
        let (base, len_bytes) = (mapped.base, mapped.len);
        Self { base, len_bytes, states: (base, 0), mapped: Arc::new(mapped) }
    }

    /// The same mapping, not kept.
    pub(crate) fn downgrade(&self) -> WeakMapping {
        let Self { base, len_bytes, states, ref mapped } = *self;
        WeakMapping { base, len_bytes, states, mapped: Arc::downgrade(mapped) }
    }

    /// The same mapping, a range of whose bytes are states; cut where the mapping ends.
    pub(crate) fn with_states(mut self, range: Range<u64>) -> Self {
        let end = range.end.min(self.len_bytes());
        let start = range.start.min(end);
        // SAFETY: `start` is at most the length of the mapping.
        let first = unsafe { self.base.add(start as usize) };
        self.states = (first, (end - start) as usize);
        self
    }

    /// Where the object starts in this process.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How much of the address space is taken.
    #[inline]
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes as u64
    }

    /// The first `count` words; fewer if the mapping ends before. Of them, those behind the
    /// object's end must not be touched yet, and none of a read-only mapping be stored to.
    #[inline]
    pub(crate) fn words(&self, count: u64) -> &[AtomicU64] {
        let available = self.len_bytes() / WORD_BYTES;
        let count = usize::try_from(count.min(available)).unwrap_or(0);
        // SAFETY: the range is mapped as long as `self` lives, its start is page-aligned, and words
        // may have any bits. Other processes change them, as `AtomicU64` allows.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), count) }
    }

    /// The states of objects; as for [`words`](Self::words). The caller reaches no byte of them as
    /// a part of a word as well.
    #[inline]
    pub(crate) fn states(&self) -> &[AtomicU8] {
        // SAFETY: the range lies in the mapping, which stands as long as `self` lives; bytes have
        // no alignment and may have any bits. Other processes change them, as `AtomicU8` allows.
        unsafe { std::slice::from_raw_parts(self.states.0.as_ptr().cast(), self.states.1) }
    }
}

fn length(len_bytes: u64) -> Result<usize> {
    let len = isize::try_from(len_bytes).map_err(|_| Error::AddressSpace { bytes: len_bytes })?;
    Ok(len.unsigned_abs())
}

fn not_mapped(errno: Errno, len_bytes: u64) -> Error {
    match errno {
        Errno::NOMEM => Error::AddressSpace { bytes: len_bytes },
        errno => refused("mapping the object")(errno),
    }
}

/// Address space to put an aligned mapping into; none where pages are aligned enough.
struct Room {
    range: Option<(*mut c_void, usize)>,
    start: *mut c_void,
}

impl Room {
    fn reserve(len: usize, align: usize) -> Result<Self, Errno> {
        if align <= PAGE_BYTES as usize {
            return Ok(Self { range: None, start: ptr::null_mut() });
        }
        let aligned = len.checked_next_multiple_of(align).ok_or(Errno::NOMEM)?;
        let room = Self::of(aligned, align)?;
        if room.range.is_some_and(|(first, _)| first == room.start) {
            // Since Linux 6.7 large ranges start where huge pages could.
            return Ok(room);
        }
        drop(room);
        Self::of(len.checked_add(align).ok_or(Errno::NOMEM)?, align)
    }

    fn of(size: usize, align: usize) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: without MAP_FIXED the kernel chooses a range that nothing else uses.
        let first = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), size, ProtFlags::empty(), flags)
        }?;
        let start = first.map_addr(|address| address.next_multiple_of(align));
        Ok(Self { range: Some((first, size)), start })
    }

    fn start(&self) -> *mut c_void {
        self.start
    }

    fn flags(&self) -> MapFlags {
        if self.range.is_some() { MapFlags::FIXED } else { MapFlags::empty() }
    }

    /// Unmaps what lies before and behind the `len` bytes at `start`, which are another's now.
    fn give_up(mut self, len: usize) {
        if let Some((first, size)) = self.range.take() {
            let before = self.start.addr() - first.addr();
            // The object's last page is used in part, and mapped as a whole.
            let used = len.next_multiple_of(PAGE_BYTES as usize);
            unmap(first, before);
            unmap(self.start.wrapping_byte_add(used), (size - before).saturating_sub(used));
        }
    }
}

/// A room that was not given up goes as a whole.
impl Drop for Room {
    fn drop(&mut self) {
        if let Some((first, size)) = self.range {
            unmap(first, size);
        }
    }
}

/// Unmaps a part of a room that nothing was put into.
fn unmap(start: *mut c_void, len: usize) {
    if len > 0 {
        // SAFETY: the range belongs to a room, nothing was put into it, and nobody knows it.
        let _ = unsafe { rustix::mm::munmap(start, len) };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range was mapped for this, and no borrow of it outlives the last clone.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
        if self.chosen && self.base.addr().get().is_multiple_of(VACATED_ALIGN) {
            // Relaxed: as in `where_one_was`.
            VACATED.store(self.base.addr().get(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::in_own_process;

    fn map(object: &Object, len_bytes: u64) -> Result<Mapping> {
        Mapping::aligned(object, len_bytes, PAGE_BYTES)
    }

    #[test]
    fn a_mapping_reaches_behind_the_end_and_growth_needs_nothing() {
        let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
        let here = map(&object, 1 << 40).unwrap();
        let there = map(&object, 1 << 40).unwrap();
        object.reserve(0..1 << 20).unwrap();
        let last = (1 << 17) - 1;
        here.words(u64::MAX)[last].store(7, Ordering::Release);
        assert_eq!(there.words(1 << 17)[last].load(Ordering::Acquire), 7);
        assert_eq!(here.words(u64::MAX).len(), 1 << 37, "clamped");
    }

    #[test]
    fn an_aligned_mapping_is_the_whole_of_its_room() {
        let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
        object.reserve(0..8192).unwrap();
        for align_bytes in [4096, 64 << 10, 2 << 20] {
            for len_bytes in [1, 4096, 5000, 3 << 20] {
                let mapping = Mapping::aligned(&object, len_bytes, align_bytes).unwrap();
                assert_eq!(mapping.base().addr().get() as u64 % align_bytes, 0);
                assert_eq!(mapping.len_bytes(), len_bytes);
                drop(mapping);
            }
        }
    }

    #[test]
    fn a_place_that_something_else_has_is_left_alone() {
        in_own_process(module_path!(), "a_place_that_something_else_has_is_left_alone", || {
            let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
            object.reserve(0..8192).unwrap();
            let aligned = || Mapping::aligned(&object, 8 << 20, 2 << 20).unwrap();
            let first = aligned();
            let place = first.base();
            drop(first);
            let again = aligned();
            assert_eq!(again.base(), place, "where the first was");
            again.words(1)[0].store(7, Ordering::Release);
            VACATED.store(place.addr().get(), Ordering::Relaxed);
            let other = aligned();
            assert!(other.base() != place && other.base().addr().get().is_multiple_of(2 << 20));
            assert_eq!(again.words(1)[0].load(Ordering::Acquire), 7);
        });
    }

    #[test]
    fn what_lies_at_the_address_stays() {
        in_own_process(module_path!(), "what_lies_at_the_address_stays", || {
            let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
            object.reserve(0..8192).unwrap();
            let place = NonZeroUsize::new(0x2345_6780_0000).unwrap();
            let there = Mapping::at(&object, 8 << 20, place).unwrap();
            assert_eq!((there.base().addr(), there.len_bytes()), (place, 8 << 20));
            there.words(1)[0].store(7, Ordering::Release);
            for (start, len) in [(0, 1), (-1, 2), (7, 2), (-4, 16)] {
                let at = place.get().strict_add_signed(start << 20);
                let error = Mapping::at(&object, len << 20, NonZeroUsize::new(at).unwrap());
                let Err(Error::AddressTaken { address, occupant, .. }) = error else {
                    panic!("{error:?}");
                };
                assert_eq!(address, at);
                assert!(occupant.contains("heap itself"), "{occupant}");
            }
            // An old kernel takes the address for a wish, and maps the object elsewhere.
            let wish = ptr::without_provenance_mut(place.get());
            let elsewhere = Mapped::at(&object, wish, 8 << 20, MapFlags::empty()).unwrap();
            let found = elsewhere.base.addr();
            assert_ne!(found, place);
            assert_eq!(elsewhere.only_at(place).unwrap_err(), Errno::EXIST);
            drop(Mapping::at(&object, 8 << 20, found).expect("nothing is left there"));
            assert_eq!(there.words(1)[0].load(Ordering::Acquire), 7);
        });
    }

    #[test]
    fn a_place_that_had_to_be_is_given_to_no_other() {
        in_own_process(module_path!(), "a_place_that_had_to_be_is_given_to_no_other", || {
            let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
            let place = NonZeroUsize::new(0x2345_6780_0000).unwrap();
            drop(Mapping::at(&object, 8 << 20, place).unwrap());
            let other = Mapping::aligned(&object, 8 << 20, 2 << 20).unwrap();
            assert_ne!(other.base().addr(), place);
            drop(other);
            drop(Mapping::at(&object, 8 << 20, place).expect("free again"));
        });
    }

    #[test]
    fn an_address_that_cannot_be_is_an_error() {
        let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
        // Behind what user programs have, on any machine; below it, but not to the end.
        for at in [1 << 60, (1 << 56) - (1 << 20)] {
            let error = Mapping::at(&object, 2 << 20, NonZeroUsize::new(at).unwrap()).unwrap_err();
            assert!(matches!(error, Error::AddressSpace { .. }), "{error}");
        }
        let error = Mapping::at(&object, 8192, NonZeroUsize::new(1 << 45 | 1).unwrap());
        assert_eq!(error.unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
        for len in [u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 60] {
            let error = map(&object, len).unwrap_err();
            assert!(matches!(error, Error::AddressSpace { bytes } if bytes == len), "{error}");
        }
        assert_eq!(map(&object, 0).unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn the_limit_of_address_space_is_an_error() {
        in_own_process(module_path!(), "the_limit_of_address_space_is_an_error", || {
            let object = Object::memfd(0o600, None).unwrap().keep().unwrap();
            let limit = rustix::process::Rlimit { current: Some(4 << 30), maximum: None };
            rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
            let error = map(&object, 8 << 30).unwrap_err();
            assert!(matches!(error, Error::AddressSpace { bytes } if bytes == 8 << 30), "{error}");
            map(&object, 1 << 30).unwrap();
        });
    }
}
