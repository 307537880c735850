//! `Port`: a queue in a heap as one process has it open, whatever it holds.

use std::alloc::Layout;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::event::{Look, Patience};
use super::queue::Queue;
use super::shape::{CAPACITY_MAX, Kind, Shape, layout_words};
use super::transfer::{Cargo, Transfer};
use crate::heap::Gate;
#[cfg(feature = "async")]
use crate::object::Lease;
use crate::object::{Fingerprint, Held};
use crate::peers::Roll;
use crate::units::{LINE_BYTES, WORD_BYTES};
use crate::{Error, Handle, Heap, Result, Unpublished};

/// So many attempts in a row that find nothing, and the next one looks for what the dead have left.
const EMPTY_LOOKS: u32 = 64;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Port<'h, C> {
    pub(super) heap: &'h Heap,
    pub(super) handle: Handle,
    pub(super) shape: Shape,
    pub(super) cargo: C,
    /// Keeps the object of one that was found by its name.
    _held: Option<Held<'h>>,
    /// Attempts in a row that found nothing.
    empty_looks: AtomicU32,
}

impl<'h, C: Cargo<Gate<'h>>> Port<'h, C> {
    /// The queue that is the root of that name, or a new one.
    pub(super) fn find_or_create(
        heap: &'h Heap,
        name: &str,
        capacity: u64,
        kind: Kind,
        cargo: C,
    ) -> Result<Self> {
        // The type of the messages stands in the queue itself: see `Shape::open`.
        let fingerprint = Fingerprint::from_raw(kind.magic);
        let make = || make(heap, capacity, kind);
        let held = heap.find_or_create_object(name, fingerprint, make)?;
        let port = Self::open(heap, held.handle(), kind, cargo)?;
        Ok(Self { _held: Some(held), ..port })
    }

    pub(super) fn open(heap: &'h Heap, handle: Handle, kind: Kind, cargo: C) -> Result<Self> {
        let shape = Shape::open(&heap.gate(), heap.span(handle)?, kind)?;
        Ok(Self::new(heap, handle, shape, cargo))
    }

    /// What keeps the object, without the borrow of its heap.
    #[cfg(feature = "async")]
    pub(super) fn into_lease(self) -> Option<Lease> {
        self._held.map(Held::into_lease)
    }

    fn new(heap: &'h Heap, handle: Handle, shape: Shape, cargo: C) -> Self {
        Self { heap, handle, shape, cargo, _held: None, empty_looks: AtomicU32::new(0) }
    }

    #[inline]
    pub(super) fn queue(&self) -> Queue<'h, Gate<'h>, Heap> {
        Queue { words: self.heap.gate(), roll: self.heap, shape: self.shape }
    }

    #[inline]
    pub(super) fn transfer(&self) -> Transfer<'h, '_, Gate<'h>, Heap, C> {
        Transfer { queue: self.queue(), cargo: &self.cargo }
    }

    pub(super) fn patience(&self, timeout: Option<Duration>) -> Patience {
        self.transfer().patience(timeout)
    }

    pub(super) fn try_recv(&self) -> Result<Option<C::Item>> {
        let outcome = self.transfer().try_receive(Look::Quick)?;
        // Relaxed: a count that orders nothing.
        if outcome.is_some() {
            self.empty_looks.store(0, Ordering::Relaxed);
        } else if self.empty_looks.fetch_add(1, Ordering::Relaxed) >= EMPTY_LOOKS {
            self.empty_looks.store(0, Ordering::Relaxed);
            return self.transfer().try_receive(Look::Thorough);
        }
        Ok(outcome)
    }

    /// Receives; `timeout` `None`: waits for ever.
    pub(super) fn recv(&self, timeout: Option<Duration>) -> Result<C::Item> {
        let item = self.transfer().receive(self.patience(timeout))?;
        item.ok_or(Error::TimedOut { what: "a message" })
    }

    /// Waits for one message, and takes what else is there, up to `limit` in all.
    pub(super) fn recv_batch(
        &self,
        into: &mut Vec<C::Item>,
        limit: usize,
        timeout: Option<Duration>,
    ) -> Result<usize> {
        if limit == 0 {
            return Ok(0);
        }
        into.push(self.recv(timeout)?);
        let transfer = self.transfer();
        let mut count = 1;
        // An error comes again with the next call.
        while count < limit
            && let Ok(Some(item)) = transfer.try_receive(Look::Quick)
        {
            into.push(item);
            count += 1;
        }
        Ok(count)
    }

    pub(super) fn close(&self) -> Result<()> {
        // Whoever may only read must not even try to write.
        Roll::me(self.heap)?;
        self.transfer().close();
        Ok(())
    }

    /// Why nothing could be sent.
    pub(super) fn at_capacity(&self) -> Error {
        Error::AtCapacity { what: "the channel", limit: self.shape.laps.capacity() }
    }
}

/// Makes a queue that dies with this process until it is published or kept.
pub(super) fn make(heap: &Heap, capacity: u64, kind: Kind) -> Result<Unpublished<'_>> {
    let refuse = |option, value, why| Error::InvalidOption { option, value, why };
    if capacity == 0 || capacity > CAPACITY_MAX {
        return Err(refuse("a channel's capacity", capacity, "it is 1 to 1048576"));
    }
    let capacity = capacity.next_power_of_two();
    let words = layout_words(capacity, kind.value_words).ok_or_else(|| {
        let why = "a value in a channel has at most 524288 bytes; send objects instead";
        refuse("a value's size", kind.value_words.saturating_mul(WORD_BYTES), why)
    })?;
    let layout = Layout::from_size_align((words * WORD_BYTES) as usize, LINE_BYTES as usize);
    let layout = layout.map_err(|_| Error::InvalidLayout {
        size_bytes: words * WORD_BYTES,
        align_bytes: LINE_BYTES,
        why: "it overflows",
    })?;
    let object = heap.alloc_unpublished(layout)?;
    let span = heap.span(object.handle())?;
    Shape::format(&heap.gate(), span, capacity, kind)?;
    Ok(object)
}
