//! A victim: a healthy process in a heap whose records are overwritten, which does all that the
//! interface has, whatever comes of it.
//!
//! It writes to the ends of each object that it gets: an object that is not inside the segment is
//! an access outside, and a signal.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use shmheap::{Handle, Heap};

use crate::bytes;
use crate::random::Random;

const HELD_MAX: usize = 30;
const SIZE_MAX: u64 = 40_000;

#[derive(Debug)]
pub(crate) struct Victim<'h> {
    pub(crate) heap: &'h Heap,
    pub(crate) observer: &'h Heap,
    pub(crate) name: &'h str,
    pub(crate) held: Vec<Handle>,
}

impl Victim<'_> {
    /// An operation. An error is one of the torture: those of the heap are what is expected.
    pub(crate) fn act(&mut self, random: &mut Random) -> Result<()> {
        match random.below(64) {
            0..24 => self.alloc(random)?,
            24..40 => self.free(random),
            40..44 => self.resize(random)?,
            44..52 => self.hand_over(random),
            52..60 => self.resolve(random)?,
            60 => {
                let most = self.heap.info().max_len_bytes;
                let _ = self.heap.grow(random.below(most / 4 * 5));
            }
            61 => drop((self.heap.sweep(), self.heap.trim())),
            62 if random.one_in(4) => self.look(random)?,
            63 if random.one_in(4) => {
                drop((Heap::connect(self.name), Heap::connect_read_only(self.name)));
            }
            _ => {}
        }
        Ok(())
    }

    fn alloc(&mut self, random: &mut Random) -> Result<()> {
        let most = if random.one_in(16) { 20 * SIZE_MAX } else { SIZE_MAX };
        let size = random.log_uniform(most);
        let layout = bytes::layout(size, 1 << random.below(13));
        let zeroed = random.one_in(4);
        let made = if zeroed { self.heap.alloc_zeroed(layout) } else { self.heap.alloc(layout) };
        let Ok(object) = made else { return Ok(()) };
        self.use_object(object, size)?;
        self.held.extend(self.heap.handle(object));
        if self.held.len() > HELD_MAX {
            self.free(random);
        }
        Ok(())
    }

    /// An object may lie in another one, but never outside object space.
    fn use_object(&self, object: NonNull<u8>, size: u64) -> Result<()> {
        let place = bytes::place(self.heap, object);
        let most = self.heap.info().max_len_bytes;
        let is_inside = place.checked_add(size).is_some_and(|end| end <= most);
        ensure!(is_inside, "{size} bytes at {place:#x} of {most:#x}");
        let words = bytes::words(self.heap, object, (size / 8) as usize);
        for word in words.first().into_iter().chain(words.last()) {
            // Relaxed: nobody reads it.
            word.store(size, Ordering::Relaxed);
        }
        Ok(())
    }

    fn any_held(&mut self, random: &mut Random) -> Option<NonNull<u8>> {
        if self.held.is_empty() {
            return None;
        }
        let which = random.below(self.held.len() as u64) as usize;
        self.heap.resolve(self.held.swap_remove(which)).ok()
    }

    fn free(&mut self, random: &mut Random) {
        if let Some(object) = self.any_held(random) {
            let _ = bytes::free(self.heap, object);
        }
    }

    fn resize(&mut self, random: &mut Random) -> Result<()> {
        let size = random.log_uniform(SIZE_MAX);
        let Some(object) = self.any_held(random) else { return Ok(()) };
        if let Ok(object) = bytes::realloc(self.heap, object, size) {
            self.use_object(object, size)?;
            self.held.extend(self.heap.handle(object));
        }
        Ok(())
    }

    /// Every operation on cells, which may be anywhere.
    fn hand_over(&self, random: &mut Random) {
        let most = self.heap.info().max_len_bytes;
        let cell = bytes::cell_anywhere(self.heap, random.below(most / 4 * 5 / 8) * 8);
        let layout = bytes::layout(random.log_uniform(1000), 1);
        let made = || self.heap.alloc_unpublished(layout);
        match random.below(4) {
            0 => drop(made().map(|object| bytes::publish(object, cell))),
            1 => drop(bytes::take(self.heap, cell)),
            2 => drop(bytes::alloc_into(self.heap, 16, cell)),
            _ => drop(made().map(shmheap::Unpublished::keep)),
        }
    }

    fn resolve(&self, random: &mut Random) -> Result<()> {
        let (base, most) = (self.heap.info().data_offset_bytes, self.heap.info().max_len_bytes);
        for heap in [self.heap, self.observer] {
            let offset = base + random.below(most / 4 * 5 / 8) * 8;
            let handle = Handle::from_raw(offset | random.below(4) << 48);
            if let Ok(object) = heap.resolve(handle) {
                let place = bytes::place(heap, object);
                ensure!(place < most, "{handle} resolves to {place:#x} of {most:#x}");
                let _ = (heap.usable_size(object), heap.handle(object));
            }
        }
        Ok(())
    }

    /// Everything that tells about a heap.
    fn look(&self, random: &mut Random) -> Result<()> {
        let most = self.heap.info().max_len_bytes;
        for heap in [self.heap, self.observer] {
            match random.below(4) {
                0 => drop(heap.check()),
                1 => drop(heap.stats()),
                2 => drop(heap.peers()),
                _ => {
                    let count = heap.blocks().count() as u64;
                    ensure!(count <= most / 8, "{count} blocks in {most} bytes");
                }
            }
        }
        if random.one_in(16) {
            drop(shmheap::list());
        }
        Ok(())
    }
}
