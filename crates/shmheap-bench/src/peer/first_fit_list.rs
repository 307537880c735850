//! First fit over a list of all blocks, under one lock: what shared memory allocators are before
//! anybody makes them fast, and what the library was whose nine functions shmheap has kept.
//!
//! ```text
//!  | mutex | header | object  | header | gap     | ... | header |
//!            bytes             bytes                     0, ends the list
//!            bytes of the block before                   (never freed)
//! ```
//!
//! An alloc walks the blocks from the first on, used or not, to the first gap that is long enough,
//! so its cost grows with the number of objects. A free finds its neighbours by the lengths in the
//! headers and joins gaps at once. The lock is the C library's mutex, shared by processes; whoever
//! dies with it leaves it locked, as it was with the original.
//!
//! # Unsafe code
//!
//! Headers and objects in a mapping, and calls of C functions.
#![allow(unsafe_code)]

use std::fs::File;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use anyhow::{Result, ensure};
use memmap2::{MmapOptions, MmapRaw};

use super::{Demand, Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker, file};

#[derive(Debug)]
pub(crate) struct FirstFitList;

/// 80,000 take 6 s to fill, and twice as many four times as long.
const LIVE_OBJECTS_MAX: usize = 100_000;

const HEADER_BYTES: usize = size_of::<Header>();
/// Offset of the first block. The mutex lies before it.
const FIRST: usize = 64;
/// Offset of the header that ends the list.
const LAST: usize = HEAP_BYTES_MAX as usize - HEADER_BYTES;

/// Set in a length: the block is an object. Lengths are multiples of 16.
const USED: u64 = 1;

/// What stands in front of every object and gap.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Header {
    /// Bytes of this block, header included, and [`USED`].
    bytes: u64,
    /// Bytes of the block before, 0 for the first.
    bytes_before: u64,
}

impl Header {
    fn is_used(self) -> bool {
        self.bytes & USED != 0
    }

    fn len(self) -> usize {
        (self.bytes & !USED) as usize
    }
}

/// A heap in this process's address space.
#[derive(Debug)]
pub(crate) struct List(MmapRaw);

/// The lock, held until this is dropped.
struct Locked<'l>(&'l List);

impl Peer for FirstFitList {
    type Worker = List;

    fn name(&self) -> &'static str {
        "first-fit list"
    }

    fn description(&self) -> String {
        "the first gap in a list of all blocks, headers of 16 bytes, one lock".to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn refuses(&self, demand: Demand) -> Option<&'static str> {
        let too_many = demand.live_objects > LIVE_OBJECTS_MAX;
        too_many.then_some("O(n): to fill it would take a quarter of an hour")
    }

    fn create(&self, name: &str) -> Result<List> {
        let file = file::create(name)?;
        file.set_len(HEAP_BYTES_MAX)?;
        let list = List::map(&file)?;
        list.initialize()?;
        Ok(list)
    }

    fn connect(&self, name: &str, _number: usize) -> Result<List> {
        List::map(&file::open(name)?)
    }

    fn remove(&self, name: &str) {
        file::remove(name);
    }
}

impl List {
    fn map(file: &File) -> Result<Self> {
        Ok(Self(MmapOptions::new().len(HEAP_BYTES_MAX as usize).map_raw(file)?))
    }

    /// Makes the lock and one gap of everything, in a mapping that nobody else knows yet.
    fn initialize(&self) -> Result<()> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: it initialises what it is given.
        let made = unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
        ensure!(made == 0, "no mutex attributes");
        // SAFETY: initialised above.
        let shared = unsafe {
            libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            )
        };
        ensure!(shared == 0, "no mutexes that processes share");
        // SAFETY: there is room for a mutex, in memory that nobody else uses yet.
        let made = unsafe { libc::pthread_mutex_init(self.mutex(), attributes.as_ptr()) };
        ensure!(made == 0, "no mutex");
        let list = self.lock();
        let gap_bytes = (LAST - FIRST) as u64;
        list.set(FIRST, Header { bytes: gap_bytes, bytes_before: 0 });
        list.set(LAST, Header { bytes: USED, bytes_before: gap_bytes });
        Ok(())
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= FIRST) };
        self.0.as_mut_ptr().cast()
    }

    fn lock(&self) -> Locked<'_> {
        // SAFETY: `create` initialised the mutex, or does so and is alone.
        let error = unsafe { libc::pthread_mutex_lock(self.mutex()) };
        assert_eq!(error, 0, "a mutex that is no mutex");
        Locked(self)
    }

    #[inline]
    fn address(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= LAST, "an offset outside the mapping");
        // SAFETY: the offset lies in the mapping.
        let address = unsafe { self.0.as_mut_ptr().add(offset) };
        NonNull::new(address).expect("a mapping does not start at 0")
    }

    #[inline]
    fn offset(&self, object: &Object<Self>) -> usize {
        object.address().addr().get() - self.0.as_ptr().addr()
    }

    /// The object at an offset.
    ///
    /// # Safety
    ///
    /// A live object starts there, and nobody else uses it.
    #[inline]
    unsafe fn object(&self, offset: usize) -> Object<Self> {
        // SAFETY: offsets of objects are multiples of 16, objects have at least 16 bytes, and the
        // rest is the caller's promise.
        unsafe { Object::new(self.address(offset)) }
    }
}

impl Locked<'_> {
    #[inline]
    fn get(&self, at: usize) -> Header {
        let header = self.0.address(at).cast::<Header>();
        // SAFETY: headers lie in the mapping, aligned, and are used under the lock only; any bytes
        // make one.
        unsafe { header.read() }
    }

    #[inline]
    fn set(&self, at: usize, header: Header) {
        let place = self.0.address(at).cast::<Header>();
        // SAFETY: as in `get`.
        unsafe { place.write(header) }
    }

    /// Makes an object of so many bytes, header included, and returns where its block starts.
    fn allocate(&self, bytes: usize) -> Option<usize> {
        let mut at = FIRST;
        loop {
            let block = self.get(at);
            if !block.is_used() && block.len() >= bytes {
                self.carve(at, block, bytes);
                return Some(at);
            }
            if at == LAST {
                return None;
            }
            at += block.len();
        }
    }

    /// Makes an object of the head of a gap.
    fn carve(&self, at: usize, gap: Header, bytes: usize) {
        let rest_bytes = gap.len() - bytes;
        if rest_bytes <= HEADER_BYTES {
            return self.set(at, Header { bytes: gap.bytes | USED, ..gap });
        }
        self.set(at, Header { bytes: bytes as u64 | USED, ..gap });
        let rest = Header { bytes: rest_bytes as u64, bytes_before: bytes as u64 };
        self.set(at + bytes, rest);
        self.tell_next(at + bytes, rest);
    }

    /// Makes a gap of an object, and one of that and the gaps beside it.
    fn free(&self, at: usize) {
        let object = self.get(at);
        let (mut start, mut gap) = (at, Header { bytes: object.len() as u64, ..object });
        let next = self.get(at + object.len());
        if !next.is_used() {
            gap.bytes += next.bytes;
        }
        if object.bytes_before != 0 {
            let before = self.get(at - object.bytes_before as usize);
            if !before.is_used() {
                start -= before.len();
                gap = Header { bytes: gap.bytes + before.bytes, ..before };
            }
        }
        self.set(start, gap);
        self.tell_next(start, gap);
    }

    /// Writes the length of the block at `at` into the header of the one behind it.
    fn tell_next(&self, at: usize, block: Header) {
        let next_at = at + block.len();
        let next = self.get(next_at);
        self.set(next_at, Header { bytes_before: block.len() as u64, ..next });
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread locked it.
        unsafe { libc::pthread_mutex_unlock(self.0.mutex()) };
    }
}

impl Worker for List {
    fn alloc(&self, bytes: usize) -> Object<Self> {
        let block = self.lock().allocate(HEADER_BYTES + bytes.next_multiple_of(16));
        let block = block.expect("the workloads fit the heap");
        // SAFETY: the object is new, and nobody else knows it.
        unsafe { self.object(block + HEADER_BYTES) }
    }

    fn free(&self, object: Object<Self>) {
        self.lock().free(self.offset(&object) - HEADER_BYTES);
    }

    #[inline]
    fn give(&self, object: Object<Self>) -> u64 {
        self.offset(&object) as u64
    }

    #[inline]
    unsafe fn take(&self, given: u64) -> Object<Self> {
        // SAFETY: the giver gave up a live object, and the caller is its only taker.
        unsafe { self.object(given as usize) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let name = format!("shmheap-bench-test-list-{:?}", std::thread::current().id());
        let name = format!("{name}-{}", std::process::id());
        let list = FirstFitList.create(&name).unwrap();
        FirstFitList.remove(&name);
        list
    }

    #[test]
    fn the_first_gap_that_is_long_enough_is_taken() {
        let list = list();
        let [a, b, c] = [100, 200, 16].map(|bytes| list.alloc(bytes));
        let (at_a, at_b) = (list.offset(&a), list.offset(&b));
        list.free(a);
        let large = list.alloc(113);
        assert!(list.offset(&large) > list.offset(&c), "too long for the gap");
        let small = list.alloc(112);
        assert_eq!(list.offset(&small), at_a);
        list.free(b);
        let part = list.alloc(16);
        assert_eq!(list.offset(&part), at_b);
        for object in [large, small, part, c] {
            list.free(object);
        }
    }

    #[test]
    fn neighbouring_gaps_become_one() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let list = list();
            let mut objects = [48, 16, 300].map(|bytes| Some(list.alloc(bytes)));
            for at in order {
                list.free(objects[at].take().unwrap());
            }
            let all = list.lock().get(FIRST);
            assert_eq!((all.is_used(), all.len()), (false, LAST - FIRST), "{order:?}");
        }
    }
}
