//! `Broadcast`: one process writes values, and any number of others read all of them, or the last.
//!
//! ```text
//!   word  0     magic, fingerprint, words of a value, capacity
//!         8     writer    the peer that may write; 0: nobody
//!         16    written   how many values were written
//!         24    news      the event that there is a value
//!         32    slots     sequence and value of each, up to the next cache line
//!
//!   sequence    2 n + 1   the n-th value is being written
//!               2 n + 2   it stands there
//! ```
//!
//! The n-th value, counted from 0, stands in slot *n* modulo the capacity, where it replaces the one
//! of a lap before. Readers keep their positions to themselves, so they cost the writer nothing and
//! hold up nobody. A reader looks at the sequence, at the value, and at the sequence again: if that
//! has changed, it has seen a mixture, and the value that it wanted is gone.
//!
//! | the writer is killed or stopped | readers see | the next writer |
//! |---|---|---|
//! | before a sequence is stored | all up to the last value | goes on |
//! | while it writes the n-th value | all but those at *n*, where it is not there yet | writes the n-th anew |
//! | after its sequence, before *written* | the n-th as well | counts it, and goes on |
//!
//! All stores are release stores, in the order of the table, and all loads acquire: who sees a word
//! of a value being written sees its odd sequence behind it.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::event::{Event, Look, Patience};
use crate::heap::Span;
use crate::object::{Shareable, value};
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::{LINE_BYTES, LINE_WORDS, WORD_BYTES, WordIndex, round_up};
use crate::{Error, Handle, Heap, Result, Unpublished};

const MAGIC: u64 = u64::from_le_bytes(*b"shmbcast");
const FINGERPRINT: u64 = 1;
const VALUE_WORDS: u64 = 2;
const CAPACITY: u64 = 3;
const WRITER: u64 = 8;
const WRITTEN: u64 = 16;
const NEWS: u64 = 24;
const SLOTS: u64 = 32;

const CAPACITY_MIN: u64 = 2;
const CAPACITY_MAX: u64 = 1 << 20;
const VALUE_WORDS_MAX: u64 = 1 << 16;

/// How often a reader looks for the latest value that finds it replaced meanwhile.
const ATTEMPTS: u32 = 1000;

/// How often a read-only connection looks for news.
const POLL: Duration = Duration::from_millis(1);

/// A broadcast's places in its object, and how it works: over any words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Core {
    span: Span,
    capacity: u64,
    stride: u64,
}

impl Core {
    pub(super) fn new(span: Span, capacity: u64, value_words: u64) -> Option<Self> {
        let may_be = capacity.is_power_of_two()
            && (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity)
            && value_words <= VALUE_WORDS_MAX;
        if !may_be {
            return None;
        }
        let stride = round_up(1 + value_words, LINE_WORDS as u64)?;
        span.has(SLOTS, capacity * stride).then_some(Self { span, capacity, stride })
    }

    pub(super) fn layout_words(capacity: u64, value_words: u64) -> Option<u64> {
        let endless = Span { first: WordIndex(0), words: u64::MAX };
        let core = Self::new(endless, capacity, value_words)?;
        Some(SLOTS + capacity * core.stride)
    }

    /// Makes one of an object that nobody else knows of.
    fn format<T: Shareable>(words: &impl Words, span: Span, capacity: u64) -> Result<Self> {
        let core = Self::new(span, capacity, value::words_of::<T>());
        let core = core.ok_or(Error::Damaged { what: "the length of an object" })?;
        for number in 0..span.words {
            words.store(span.word(number), 0);
        }
        words.store(span.word(FINGERPRINT), T::FINGERPRINT.to_raw());
        words.store(span.word(VALUE_WORDS), value::words_of::<T>());
        words.store(span.word(CAPACITY), capacity);
        words.store(span.word(0), MAGIC);
        Ok(core)
    }

    fn open<T: Shareable>(words: &impl Words, span: Span) -> Result<Self> {
        let load = |number| words.load(span.word(number));
        let found = [0, FINGERPRINT, VALUE_WORDS].map(load);
        let core = (found == [MAGIC, T::FINGERPRINT.to_raw(), value::words_of::<T>()])
            .then(|| Self::new(span, load(CAPACITY), value::words_of::<T>()))
            .flatten();
        core.ok_or_else(|| Error::WrongType { what: "the broadcast".to_owned() })
    }

    pub(super) fn writer(&self) -> WordIndex {
        self.span.word(WRITER)
    }

    fn written(&self) -> WordIndex {
        self.span.word(WRITTEN)
    }

    pub(super) fn news(&self) -> Event {
        Event(self.span.word(NEWS))
    }

    pub(super) fn slot(&self, number: u64) -> WordIndex {
        self.span.word(SLOTS + (number & (self.capacity - 1)) * self.stride)
    }

    /// Every word that may be accessed but for those of values.
    #[cfg(test)]
    pub(super) fn words(&self) -> impl Iterator<Item = WordIndex> {
        let slots = (0..self.capacity).map(|number| self.slot(number));
        [self.writer(), self.written(), self.news().0].into_iter().chain(slots)
    }

    /// Becomes the writer, if there is none that lives.
    pub(super) fn claim(&self, words: &impl Words, roll: &impl Roll) -> Result<PeerId> {
        let taken = Error::AtCapacity { what: "a broadcast's place for a writer", limit: 1 };
        let me = roll.me()?;
        let found = words.load(self.writer());
        if PeerId::of_word(found).is_some_and(|peer| peer == me || roll.is_alive(peer)) {
            return Err(taken);
        }
        // Acquires what the last one has written: its partner is the store in `release`, or the
        // kernel's word on a death. Of several that find it dead, one becomes the writer.
        if words.compare_exchange(self.writer(), found, me.word()).is_err() {
            return Err(taken);
        }
        let next = words.load(self.written());
        if words.load(self.slot(next)) == complete(next) {
            // The last one did not come to count it.
            words.store(self.written(), next.wrapping_add(1));
        }
        Ok(me)
    }

    /// Is the writer no more. If it fails, somebody has overwritten the word.
    pub(super) fn release(&self, words: &impl Words, me: PeerId) {
        let _ = words.compare_exchange(self.writer(), me.word(), 0);
    }

    /// Writes the next value; the caller is the writer.
    pub(super) fn write<T: Shareable + Copy>(&self, words: &impl Words, value: &T) {
        let number = words.load(self.written());
        let slot = self.slot(number);
        words.store(slot, complete(number).wrapping_sub(1));
        value::store(words, slot + 1, value);
        words.store(slot, complete(number));
        words.store(self.written(), number.wrapping_add(1));
        // Its partner is the fence of who is about to sleep, in `Event::announce`.
        words.fence();
        self.news().notify_all(words);
    }

    /// The value of that number: `None` while it is not there yet, an error if it is gone.
    pub(super) fn read<T: Shareable + Copy>(
        &self,
        words: &impl Words,
        number: u64,
    ) -> Result<Option<T>, Gone> {
        let slot = self.slot(number);
        let sequence = words.load(slot);
        // Sequences may come round, as the number of a value may.
        let ahead = sequence.wrapping_sub(complete(number)) as i64;
        if ahead < 0 {
            return Ok(None);
        }
        let value = value::load(words, slot + 1);
        // Its partner is the first store of a sequence in `write`: if a word of the value was of a
        // later one, this is later as well.
        if ahead > 0 || words.load(slot) != sequence { Err(Gone) } else { Ok(Some(value)) }
    }

    pub(super) fn count(&self, words: &impl Words) -> u64 {
        words.load(self.written())
    }

    /// The oldest value that is not about to be replaced.
    pub(super) fn oldest(&self, words: &impl Words) -> u64 {
        // The slot of the next value may be under way.
        self.count(words).saturating_sub(self.capacity - 1)
    }

    /// The value written last.
    pub(super) fn latest<T: Shareable + Copy>(&self, words: &impl Words) -> Option<T> {
        for _ in 0..ATTEMPTS {
            let count = self.count(words);
            // The one behind may be there already, uncounted.
            for number in [Some(count), count.checked_sub(1)].into_iter().flatten() {
                if let Ok(Some(value)) = self.read(words, number) {
                    return Some(value);
                }
            }
            if count == 0 {
                return None;
            }
        }
        None
    }

    /// The value at a reader's position, which follows.
    pub(super) fn next<T: Shareable + Copy>(
        &self,
        words: &impl Words,
        position: &mut u64,
    ) -> Option<Received<T>> {
        match self.read(words, *position) {
            Ok(value) => {
                let value = value?;
                *position = position.wrapping_add(1);
                Some(Received::Value(value))
            }
            Err(Gone) => {
                let next = self.oldest(words).max(position.wrapping_add(1));
                let missed = next.wrapping_sub(*position);
                *position = next;
                Some(Received::Lagged { missed })
            }
        }
    }
}

/// The sequence of a value that stands in its slot.
fn complete(number: u64) -> u64 {
    number.wrapping_mul(2).wrapping_add(2)
}

/// The value has been replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What a handle to a [`Broadcast`] names: the last values of type `T` that somebody has written.
#[derive(Debug)]
pub struct ShmBroadcast<T>(PhantomData<fn() -> T>);

/// What a [`Subscriber`] receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<T> {
    /// The next value.
    Value(T),
    /// The reader was slow, and values were replaced before it came to them. It goes on with the
    /// oldest that is there.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// The last values that one process has written, for any number of others to read.
///
/// The writer never waits, and readers cost it nothing; a reader that is slower than the writer by
/// more than the capacity loses values, and is told how many. A writer that is *killed* or *stopped*
/// anywhere leaves every value that it had written; a stopped one holds up nobody but those who want
/// its next. When it is dead, another may take its place.
///
/// ```
/// use shmheap::{Broadcast, HeapOptions, Received};
///
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let (handle, broadcast) = Broadcast::<u64>::create(&heap, 4)?;
/// let mut publisher = broadcast.publisher()?;
/// publisher.send(1)?;
///
/// // Usually in another process, which was told the handle:
/// let other = Broadcast::open(&heap, handle)?;
/// assert_eq!(other.latest(), Some(1));
/// let mut subscriber = other.subscribe();
/// publisher.send(2)?;
/// assert_eq!(subscriber.recv(), Received::Value(2));
/// for number in 3..10 {
///     publisher.send(number)?;
/// }
/// assert_eq!(subscriber.recv(), Received::Lagged { missed: 4 });
/// assert_eq!(subscriber.recv(), Received::Value(7));
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct Broadcast<'h, T> {
    heap: &'h Heap,
    handle: Handle<ShmBroadcast<T>>,
    core: Core,
}

impl<'h, T: Shareable + Copy> Broadcast<'h, T> {
    /// Makes a broadcast of the last `capacity` values, rounded up to a power of two, of which the
    /// oldest may be under replacement.
    ///
    /// It stays until its object is freed ([`Heap::free`]); nobody may use it then.
    ///
    /// Cost: memory for as many values, each with 8 bytes more and rounded up to 64 bytes. Killed
    /// inside: one that nobody knows may be left; [`create_unpublished`](Self::create_unpublished)
    /// leaves none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if the capacity is below 2 or above 1048576, or a value larger than
    /// 512 KiB; as [`Heap::alloc_unpublished`].
    pub fn create(heap: &'h Heap, capacity: u64) -> Result<(Handle<ShmBroadcast<T>>, Self)> {
        let (object, broadcast) = Self::create_unpublished(heap, capacity)?;
        let _ = object.keep();
        Ok((broadcast.handle, broadcast))
    }

    /// As [`create`](Self::create), but it dies with this process until it is published or kept.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_unpublished(heap: &'h Heap, capacity: u64) -> Result<(Unpublished<'h>, Self)> {
        let refuse = |option, value, why| Error::InvalidOption { option, value, why };
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) {
            return Err(refuse("a broadcast's capacity", capacity, "it is 2 to 1048576"));
        }
        let capacity = capacity.next_power_of_two();
        let words = Core::layout_words(capacity, value::words_of::<T>()).ok_or_else(|| {
            let why = "a value in a broadcast has at most 524288 bytes";
            refuse("a value's size", size_of::<T>() as u64, why)
        })?;
        let size_bytes = words * WORD_BYTES;
        let layout = Layout::from_size_align(size_bytes as usize, LINE_BYTES as usize);
        let layout = layout.map_err(|_| Error::InvalidLayout {
            size_bytes,
            align_bytes: LINE_BYTES,
            why: "it overflows",
        })?;
        let object = heap.alloc_unpublished(layout)?;
        let handle = object.handle().cast();
        let core = Core::format::<T>(&heap.gate(), heap.span(handle)?, capacity)?;
        Ok((object, Self { heap, handle, core }))
    }

    /// Opens a broadcast that somebody has made.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the object is no broadcast of values of this type; as
    /// [`Heap::resolve`] if it is not live.
    pub fn open(heap: &'h Heap, handle: Handle<ShmBroadcast<T>>) -> Result<Self> {
        let core = Core::open::<T>(&heap.gate(), heap.span(handle)?)?;
        Ok(Self { heap, handle, core })
    }

    /// The broadcast's handle, for others to open it by.
    #[must_use]
    pub fn handle(&self) -> Handle<ShmBroadcast<T>> {
        self.handle
    }

    /// Becomes the one that writes, until what is returned is dropped or this process dies.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] if another process that lives, or another thread, is the writer;
    /// [`Error::ReadOnly`].
    pub fn publisher(&self) -> Result<Publisher<'h, T>> {
        let me = self.core.claim(&self.heap.gate(), self.heap)?;
        Ok(Publisher { heap: self.heap, core: self.core, me, of: PhantomData })
    }

    /// Reads all that is written from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber<'h, T> {
        let position = self.core.count(&self.heap.gate());
        Subscriber { heap: self.heap, core: self.core, position, of: PhantomData }
    }

    /// Reads all that is there, the oldest first, and all that is written from now on.
    #[must_use]
    pub fn subscribe_from_oldest(&self) -> Subscriber<'h, T> {
        let position = self.core.oldest(&self.heap.gate());
        Subscriber { position, ..self.subscribe() }
    }

    /// The value that was written last; `None` if none was.
    ///
    /// Cost: a load for each word, and again if it was replaced meanwhile. `None` as well if it is
    /// replaced a thousand times while this looks.
    #[must_use]
    pub fn latest(&self) -> Option<T> {
        self.core.latest(&self.heap.gate())
    }

    /// How many values a reader may be behind before it loses some; the oldest of them may be under
    /// replacement.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.core.capacity
    }
}

impl<T> fmt::Debug for Broadcast<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// The writer of a [`Broadcast`]; another may be when this is dropped, or its process dead.
pub struct Publisher<'h, T> {
    heap: &'h Heap,
    core: Core,
    me: PeerId,
    of: PhantomData<fn() -> T>,
}

impl<T: Shareable + Copy> Publisher<'_, T> {
    /// Writes the next value, in place of the oldest, and wakes those who wait for it.
    ///
    /// Cost: three stores, one for each word of the value and a fence; a system call if somebody
    /// waits. Killed inside: it is written or not.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] in a forked child, whose parent is the writer; [`Error::ReadOnly`].
    pub fn send(&mut self, value: T) -> Result<()> {
        if Roll::me(self.heap)? != self.me {
            return Err(Error::AtCapacity { what: "a broadcast's place for a writer", limit: 1 });
        }
        self.core.write(&self.heap.gate(), &value);
        Ok(())
    }
}

impl<T> Drop for Publisher<'_, T> {
    fn drop(&mut self) {
        // Not for the parent of this process.
        if Roll::me(self.heap).is_ok_and(|me| me == self.me) {
            self.core.release(&self.heap.gate(), self.me);
        }
    }
}

impl<T> fmt::Debug for Publisher<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// A reader of a [`Broadcast`], with a position of its own.
pub struct Subscriber<'h, T> {
    heap: &'h Heap,
    core: Core,
    position: u64,
    of: PhantomData<fn() -> T>,
}

impl<T: Shareable + Copy> Subscriber<'_, T> {
    /// The next value, or how many were lost, if there is one.
    ///
    /// Cost: a load for each word of the value and two more. Killed inside: nothing, for only
    /// this process knows of its reader.
    pub fn try_recv(&mut self) -> Option<Received<T>> {
        self.core.next(&self.heap.gate(), &mut self.position)
    }

    /// The next value, or how many were lost; waits for it. (A read-only connection looks every
    /// millisecond instead, for nobody can wake it.)
    pub fn recv(&mut self) -> Received<T> {
        loop {
            if let Some(received) = self.wait(None) {
                return received;
            }
        }
    }

    /// The next value, or how many were lost; `None` if none came in time.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Received<T>> {
        self.wait(Some(timeout))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Option<Received<T>> {
        if self.heap.is_read_only() {
            return self.poll(timeout);
        }
        let (core, words, position) = (self.core, self.heap.gate(), &mut self.position);
        // Every sleeper is woken, so there is nothing to pass on; and the dead leave nothing.
        let attempt = |_: Look| Ok(core.next(&words, position));
        core.news().wait(&words, Patience::new(timeout, 0), attempt, || false).unwrap_or(None)
    }

    /// For whoever may not say that it sleeps.
    fn poll(&mut self, timeout: Option<Duration>) -> Option<Received<T>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let received = self.try_recv();
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if received.is_some() || is_late {
                return received;
            }
            std::thread::sleep(POLL);
        }
    }

    /// How many values it has read or lost, and were written before it came.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl<T> fmt::Debug for Subscriber<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("position", &self.position).finish_non_exhaustive()
    }
}
