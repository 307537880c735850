//! `ShmVec`: a growable row of values for one user at a time.
//!
//! ```text
//!   word 0   63                        1   0
//!           +----------------------------+---+
//!           | elements                   | w |    w: which cell holds the array
//!           +----------------------------+---+
//!   word 1, 2   cells: the array, and the one that it is being moved to or from, else 0
//!   word 3      to which heap the array belongs; 0 before the first
//! ```
//!
//! Every change is one store to word 0. What is added is written behind the elements before; what
//! is put between others is written into another array. Moving to another array:
//!
//! | step | a process killed behind it leaves | the next change |
//! |---|---|---|
//! | new array, filled | nothing: an unpublished object | |
//! | the other cell = new array | the vector as it was | frees the new array |
//! | word 0 | the vector as it shall be | frees the old array |
//! | the cell it was in = 0, freed | the vector as it shall be | |

use std::fmt;
use std::marker::{PhantomData, PhantomPinned};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::cells::Home;
use super::elements;
use crate::heap::{Gate, Heap, Span};
use crate::object::{OwnedCell, Shareable};
use crate::segment::words::Words;
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Result};

const WORDS: usize = 4;
const HOME: u64 = 3;
/// Elements of the first array, unless more are asked for.
const CAPACITY_MIN: usize = 4;
/// More than an address space holds, and so that a length fits beside a bit.
const LEN_MAX: usize = usize::MAX >> 8;
const TOO_LONG: Error = Error::AtCapacity { what: "a ShmVec", limit: LEN_MAX as u64 };

/// A growable array in shared memory, for one user at a time: inside what a lock guards, or in an
/// object that one process has for itself.
///
/// It lies in an object of a heap, or inside a value that does, and its elements in an object that
/// it allocates there; every operation is told the heap. All bytes 0 is an empty vector.
///
/// Whoever changes it may be killed at any instruction: the vector is then as before the operation,
/// or as after it. (Elements that are changed in place by way of
/// [`as_mut_slice`](Self::as_mut_slice) are the caller's to care for.) What is left over is freed
/// by the next operation that changes it.
///
/// What it has allocated goes with the root, [`ShmArc`](crate::ShmArc) or [`ShmBox`](crate::ShmBox)
/// that it is a part of. In an object that is freed by hand it is to be [freed](Self::free) before.
///
/// ```
/// use shmheap::{HeapOptions, ShmBox, ShmVec};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let mut vec = ShmBox::<ShmVec<u32>>::new_zeroed(&heap)?;
///
/// vec.extend_from_slice(&heap, &[1, 2, 4])?;
/// vec.insert(&heap, 2, 3)?;
/// assert_eq!(vec.as_slice(&heap)?, [1, 2, 3, 4]);
/// assert_eq!(vec.pop(&heap)?, Some(4));
/// # Ok::<(), shmheap::Error>(())
/// ```
///
/// # Errors
///
/// All operations can give [`Error::InvalidPointer`] if the vector does not lie in that heap, and
/// [`Error::Damaged`] if somebody has overwritten it. Those that change it, besides:
/// [`Error::ReadOnly`]; and those that need a larger array the errors of
/// [`Heap::alloc_unpublished`]. The vector is as it was then.
#[repr(C)]
pub struct ShmVec<T> {
    words: [AtomicU64; WORDS],
    elements: PhantomData<fn() -> T>,
    /// Its words are reached by way of the heap while somebody has it for himself.
    pinned: PhantomPinned,
}

/// The words of a vector, found in a heap.
struct Place<'h> {
    heap: &'h Heap,
    words: Gate<'h>,
    at: WordIndex,
}

/// What word 0 says, and the array that follows from it.
#[derive(Clone, Copy)]
struct State {
    len: usize,
    which: u64,
    array: Option<Span>,
}

impl<T> ShmVec<T> {
    /// The cells of its arrays.
    pub(super) fn cells() -> impl Iterator<Item = OwnedCell> {
        [1, 2].into_iter().map(|word| OwnedCell {
            offset_bytes: word * WORD_BYTES as usize,
            home_bytes: (HOME * WORD_BYTES) as usize,
            starts_chain: false,
        })
    }
}

impl<'h> Place<'h> {
    fn of<T>(vec: &ShmVec<T>, heap: &'h Heap) -> Result<Self> {
        let at = heap.word_at(NonNull::from(vec).cast())?;
        let words = heap.gate();
        match words.load(at + HOME) {
            home if home == heap.home_id() || home == 0 => Ok(Self { heap, words, at }),
            _ => Err(Error::Damaged { what: "a ShmVec whose array is in another heap" }),
        }
    }

    fn cell(&self, which: u64) -> WordIndex {
        self.at + 1 + which
    }

    fn state<T: Shareable + Copy>(&self) -> Result<State> {
        let word = self.words.load(self.at);
        let (len, which) = (usize::try_from(word >> 1).unwrap_or(LEN_MAX), word & 1);
        let damaged = Error::Damaged { what: "the array of a ShmVec" };
        let array = match self.words.load(self.cell(which)) {
            0 => None,
            handle => Some(Home::span(self.heap, handle).ok_or(damaged)?),
        };
        Ok(State { len: len.min(capacity::<T>(self.heap, array)), which, array })
    }

    /// The moment of any change.
    fn commit(&self, len: usize, which: u64) {
        // Release; its partner is the load of whoever has the vector next.
        self.words.store(self.at, (len as u64) << 1 | which);
    }

    /// As it is before a change; nothing is left over from one that was cut short.
    fn settled<T: Shareable + Copy>(&self) -> Result<State> {
        let state = self.state::<T>()?;
        self.heap.vacate(self.cell(state.which ^ 1))?;
        Ok(state)
    }
}

fn capacity<T: Shareable + Copy>(heap: &Heap, array: Option<Span>) -> usize {
    if size_of::<T>() == 0 {
        return LEN_MAX;
    }
    array.map_or(0, |array| elements::capacity::<T>(heap, array))
}

impl<T: Shareable + Copy> ShmVec<T> {
    /// An empty vector, to be put into an object.
    #[must_use]
    pub const fn new() -> Self {
        let words = [const { AtomicU64::new(0) }; WORDS];
        Self { words, elements: PhantomData, pinned: PhantomPinned }
    }

    /// How many elements there are.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn len(&self, heap: &Heap) -> Result<usize> {
        Ok(Place::of(self, heap)?.state::<T>()?.len)
    }

    /// Whether there are no elements.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn is_empty(&self, heap: &Heap) -> Result<bool> {
        Ok(self.len(heap)? == 0)
    }

    /// How many elements the array has room for.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn capacity(&self, heap: &Heap) -> Result<usize> {
        Ok(capacity::<T>(heap, Place::of(self, heap)?.state::<T>()?.array))
    }

    /// The elements.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn as_slice<'a>(&'a self, heap: &'a Heap) -> Result<&'a [T]> {
        let state = Place::of(self, heap)?.state::<T>()?;
        Ok(elements::of(self, heap, state.array, state.len))
    }

    /// The elements, to be changed in place. A process killed in between leaves what it has stored
    /// by then.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn as_mut_slice<'a>(&'a mut self, heap: &'a Heap) -> Result<&'a mut [T]> {
        let state = Place::of(self, heap)?.state::<T>()?;
        Ok(elements::of_mut(self, heap, state.array, state.len))
    }

    /// The element of that number, if there is one.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn get(&self, heap: &Heap, index: usize) -> Result<Option<T>> {
        Ok(self.as_slice(heap)?.get(index).copied())
    }

    /// A copy of each element, in order.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn iter<'a>(
        &'a self,
        heap: &'a Heap,
    ) -> Result<std::iter::Copied<std::slice::Iter<'a, T>>> {
        Ok(self.as_slice(heap)?.iter().copied())
    }

    /// Adds an element at the end. Cost: constant on the average; at times the elements move to an
    /// array twice as large.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn push(&mut self, heap: &Heap, element: T) -> Result<()> {
        self.extend_from_slice(heap, &[element])
    }

    /// Adds elements at the end: all of them or, killed inside, none.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn extend_from_slice(&mut self, heap: &Heap, more: &[T]) -> Result<()> {
        let place = Place::of(self, heap)?;
        let state = place.settled::<T>()?;
        let len = state.len.saturating_add(more.len());
        let capacity = capacity::<T>(heap, state.array);
        match state.array {
            _ if len > LEN_MAX => return Err(TOO_LONG),
            _ if size_of::<T>() == 0 => place.commit(len, state.which),
            Some(array) if len <= capacity => {
                elements::write(heap, array, state.len, more);
                place.commit(len, state.which);
            }
            _ => {
                let room = len.max(2 * capacity).max(CAPACITY_MIN);
                let old = elements::of(self, heap, state.array, state.len);
                place.rebuild(state, room, &[old, more])?;
            }
        }
        Ok(())
    }

    /// Removes the last element and returns it.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn pop(&mut self, heap: &Heap) -> Result<Option<T>> {
        let place = Place::of(self, heap)?;
        let state = place.settled::<T>()?;
        let last = elements::of(self, heap, state.array, state.len).last().copied();
        if last.is_some() {
            place.commit(state.len - 1, state.which);
        }
        Ok(last)
    }

    /// Puts an element before the one of that number. Unless it is at the end, all elements move to
    /// another array, so that no kill leaves them half shifted.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors); [`Error::InvalidOption`] if there are fewer elements than that.
    pub fn insert(&mut self, heap: &Heap, index: usize, element: T) -> Result<()> {
        self.splice(heap, index, 0, &[element])
    }

    /// Removes the element of that number and returns it; `None` if there is none. As
    /// [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn remove(&mut self, heap: &Heap, index: usize) -> Result<Option<T>> {
        let Some(element) = self.get(heap, index)? else { return Ok(None) };
        self.splice(heap, index, 1, &[])?;
        Ok(Some(element))
    }

    /// Puts `more` in the place of `count` elements from number `index` on, or of as many as there
    /// are: all of that or, killed inside, nothing. At the end it costs as much as there is to
    /// write, elsewhere all elements move to another array.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors); [`Error::InvalidOption`] if there are fewer elements than that.
    pub fn splice(&mut self, heap: &Heap, index: usize, count: usize, more: &[T]) -> Result<()> {
        let place = Place::of(self, heap)?;
        let state = place.settled::<T>()?;
        let old = elements::of(self, heap, state.array, state.len);
        let Some((before, rest)) = old.split_at_checked(index) else {
            let why = "the vector has fewer elements";
            return Err(Error::InvalidOption { option: "index", value: index as u64, why });
        };
        let after = &rest[count.min(rest.len())..];
        if rest.is_empty() {
            return self.extend_from_slice(heap, more);
        }
        if after.is_empty() && more.is_empty() {
            return self.truncate(heap, index);
        }
        let len = (before.len() + after.len()).saturating_add(more.len());
        if len > LEN_MAX {
            return Err(TOO_LONG);
        }
        if size_of::<T>() == 0 {
            place.commit(len, state.which);
            return Ok(());
        }
        let capacity = capacity::<T>(heap, state.array);
        let room = if len <= capacity { capacity } else { len.max(2 * capacity) };
        place.rebuild(state, room, &[before, more, after])
    }

    /// Removes all elements but the first `len`.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn truncate(&mut self, heap: &Heap, len: usize) -> Result<()> {
        let place = Place::of(self, heap)?;
        let state = place.settled::<T>()?;
        if len < state.len {
            place.commit(len, state.which);
        }
        Ok(())
    }

    /// Removes all elements and keeps the array.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn clear(&mut self, heap: &Heap) -> Result<()> {
        self.truncate(heap, 0)
    }

    /// Makes room for so many more elements.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn reserve(&mut self, heap: &Heap, more: usize) -> Result<()> {
        let place = Place::of(self, heap)?;
        let state = place.settled::<T>()?;
        let len = state.len.saturating_add(more);
        if len <= capacity::<T>(heap, state.array) {
            return Ok(());
        }
        place.rebuild(state, len, &[elements::of(self, heap, state.array, state.len)])
    }

    /// Moves the elements to an array that is no larger than they need, if that is smaller.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn shrink_to_fit(&mut self, heap: &Heap) -> Result<()> {
        let place = Place::of(self, heap)?;
        let state = place.settled::<T>()?;
        if state.len == 0 {
            return self.free(heap);
        }
        // Size classes are at most an eighth apart; nothing is gained within one.
        let capacity = capacity::<T>(heap, state.array);
        if size_of::<T>() == 0 || capacity - state.len <= capacity / 8 {
            return Ok(());
        }
        place.rebuild(state, state.len, &[elements::of(self, heap, state.array, state.len)])
    }

    /// Frees all that the vector has allocated; it is empty then, and may be used again. To be
    /// called before the object is freed that it lies in.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn free(&mut self, heap: &Heap) -> Result<()> {
        let place = Place::of(self, heap)?;
        // Also what is not as it should be.
        let which = place.words.load(place.at) & 1;
        place.commit(0, which);
        heap.vacate(place.cell(which ^ 1))?;
        heap.vacate(place.cell(which))?;
        place.words.store(place.at + HOME, 0);
        Ok(())
    }
}

impl Place<'_> {
    /// Puts the parts into an array with room for `room` elements, in place of the one there is.
    fn rebuild<T: Shareable + Copy>(
        &self,
        state: State,
        room: usize,
        parts: &[&[T]],
    ) -> Result<()> {
        let other = state.which ^ 1;
        let words = (room as u64).checked_mul(size_of::<T>() as u64);
        let words = words.map_or(u64::MAX, |bytes| bytes.div_ceil(WORD_BYTES));
        let mut len = 0;
        self.words.store(self.at + HOME, self.heap.home_id());
        self.heap.place(words, align_of::<T>(), self.cell(other), |array| {
            for part in parts {
                elements::write(self.heap, array, len, part);
                len += part.len();
            }
        })?;
        self.commit(len, other);
        // Done by then: what could not be freed is, by the next change.
        let _ = self.heap.vacate(self.cell(state.which));
        Ok(())
    }
}

impl<T: Shareable + Copy> Default for ShmVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for ShmVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmVec").field("words", &self.words).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
