//! `States`: the gate to the state bytes of objects, as [`Words`](super::words::Words) is to words.
//!
//! ```text
//!   bit 7            1   0
//!  +-------------------+---+
//!  |    generation     | L |     L: the object lives. Allocation and free both add one, so a
//!  +-------------------+---+     state is a counter whose upper bits tell one life from the next.
//! ```
//!
//! The row is total as a row of words is: outside it every state reads as free and never changes.
//! It lies in memory of its own, apart from the words, so that no byte is ever reached as part of a
//! word.
//!
//! # Unsafe code
//!
//! Sixteen states are looked at by one load, which Rust's atomics do not offer.
#![allow(unsafe_code)]

use std::ops::Add;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::words::Words;
use crate::units::{LINE_WORDS, WordIndex};

/// States that are looked at together: a cache line of them, a bit each in a word.
pub(crate) const STATES_PER_LINE: u64 = 64;

/// The number of a state byte, counted from the first of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StateIndex(pub u64);

impl Add<u64> for StateIndex {
    type Output = Self;

    /// Wraps: an index made from hostile bytes is refused by the bounds check, not by the addition.
    #[inline]
    fn add(self, states: u64) -> Self {
        Self(self.0.wrapping_add(states))
    }
}

/// The state of one object, and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub u8);

/// Bits of a generation.
pub(crate) const GENERATION_BITS: u32 = 7;

impl State {
    #[inline]
    pub(crate) fn is_live(self) -> bool {
        self.0 & 1 != 0
    }

    /// The state after the allocation of a free object, or the free of a live one.
    #[inline]
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// A free state as far from all lives of this one, past and to come, as there is.
    pub(crate) fn far(self) -> Self {
        Self(self.0.wrapping_add(1 << (GENERATION_BITS - 1) << 1))
    }

    /// Which life of the object this is; the free state before a life has the number of that life.
    #[inline]
    pub(crate) fn generation(self) -> u64 {
        u64::from(self.0 >> 1)
    }
}

/// A row of state bytes; see the module's text.
pub(crate) trait States {
    /// The state. Acquire; its partner is `store_state`.
    fn load_state(&self, at: StateIndex) -> State;

    /// Sets the state. Release; its partner is `load_state`.
    fn store_state(&self, at: StateIndex, state: State);

    /// Which of the states from `at` on, a multiple of 64, are free: bit i is state `at + i`.
    ///
    /// Each is as an acquire load of its own, in no particular order; none is earlier than an
    /// operation on a word that comes before.
    fn free_states(&self, at: StateIndex) -> u64;
}

impl<S: States> States for &S {
    #[inline]
    fn load_state(&self, at: StateIndex) -> State {
        (**self).load_state(at)
    }

    #[inline]
    fn store_state(&self, at: StateIndex, state: State) {
        (**self).store_state(at, state);
    }

    #[inline]
    fn free_states(&self, at: StateIndex) -> u64 {
        (**self).free_states(at)
    }
}

/// A row of states over any memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateRow<'m>(pub(crate) &'m [AtomicU8]);

impl<'m> StateRow<'m> {
    #[inline]
    fn get(&self, at: StateIndex) -> Option<&'m AtomicU8> {
        self.0.get(usize::try_from(at.0).ok()?)
    }
}

impl States for StateRow<'_> {
    #[inline]
    fn load_state(&self, at: StateIndex) -> State {
        // Acquire; its partner is `store_state`.
        self.get(at).map_or(State(0), |byte| State(byte.load(Ordering::Acquire)))
    }

    #[inline]
    fn store_state(&self, at: StateIndex, state: State) {
        if let Some(byte) = self.get(at) {
            // Release; its partner is `load_state`.
            byte.store(state.0, Ordering::Release);
        }
    }

    #[inline]
    fn free_states(&self, at: StateIndex) -> u64 {
        let first = usize::try_from(at.0).unwrap_or(usize::MAX);
        let line = self.0.get(first..).and_then(<[AtomicU8]>::first_chunk);
        line.map_or(u64::MAX, |line| !live_bits(line))
    }
}

/// A row of words and a row of states, as one memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WithStates<W, S> {
    words: W,
    states: S,
}

impl<W, S> WithStates<W, S> {
    #[inline]
    pub(crate) fn new(words: W, states: S) -> Self {
        Self { words, states }
    }
}

impl<W: Words, S> Words for WithStates<W, S> {
    #[inline]
    fn load(&self, at: WordIndex) -> u64 {
        self.words.load(at)
    }

    #[inline]
    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.words.load_line(at)
    }

    #[inline]
    fn store(&self, at: WordIndex, value: u64) {
        self.words.store(at, value);
    }

    #[inline]
    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.words.compare_exchange(at, current, new)
    }

    fn fence(&self) {
        self.words.fence();
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.words.wait(at, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.words.wake(at);
    }

    fn wake_all(&self, at: WordIndex) {
        self.words.wake_all(at);
    }
}

impl<W, S: States> States for WithStates<W, S> {
    #[inline]
    fn load_state(&self, at: StateIndex) -> State {
        self.states.load_state(at)
    }

    #[inline]
    fn store_state(&self, at: StateIndex, state: State) {
        self.states.store_state(at, state);
    }

    #[inline]
    fn free_states(&self, at: StateIndex) -> u64 {
        self.states.free_states(at)
    }
}

/// The lowest bit of each state.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn live_bits(line: &[AtomicU8; STATES_PER_LINE as usize]) -> u64 {
    const TOGETHER: usize = 16;
    let (chunks, _) = line.as_chunks::<TOGETHER>();
    chunks.iter().enumerate().fold(0, |bits, (number, chunk)| {
        let mask: u32;
        // SAFETY: the sixteen bytes are those of `chunk`, and nothing is stored. To the abstract
        // machine the first instruction is sixteen acquire loads of a byte: the processor reads no
        // byte in parts, and does not let a load be overtaken by what comes behind it. The others
        // move the lowest bit of each byte to its highest, and those together.
        unsafe {
            std::arch::asm!(
                "movdqu {states}, xmmword ptr [{chunk}]",
                "psllw {states}, 7",
                "pmovmskb {mask:e}, {states}",
                states = out(xmm_reg) _,
                chunk = in(reg) chunk.as_ptr(),
                mask = out(reg) mask,
                options(nostack, preserves_flags, readonly),
            );
        }
        bits | u64::from(mask) << (number * TOGETHER)
    })
}

/// The lowest bit of each state.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn live_bits(line: &[AtomicU8; STATES_PER_LINE as usize]) -> u64 {
    line.iter().enumerate().fold(0, |bits, (number, byte)| {
        // Acquire; its partner is `store_state`.
        bits | u64::from(byte.load(Ordering::Acquire) & 1) << number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_states_are_the_even_ones() {
        let memory: Vec<AtomicU8> =
            (0..300_u32).map(|at| AtomicU8::new((at * 7 + at / 3) as u8)).collect();
        let row = StateRow(&memory);
        for first in [0, 64, 128, 192] {
            let expected = (0..64)
                .filter(|bit| !row.load_state(StateIndex(first + bit)).is_live())
                .fold(0, |bits, bit| bits | 1_u64 << bit);
            assert_eq!(row.free_states(StateIndex(first)), expected);
        }
    }

    #[test]
    fn outside_the_row_everything_is_free_and_stays_so() {
        let memory: Vec<AtomicU8> = (0..64).map(|_| AtomicU8::new(1)).collect();
        let row = StateRow(&memory);
        for at in [64, 1 << 20, u64::MAX].map(StateIndex) {
            row.store_state(at, State(1));
            assert!(!row.load_state(at).is_live());
            assert_eq!(row.free_states(at), u64::MAX);
        }
        assert_eq!(row.free_states(StateIndex(0)), 0);
    }

    #[test]
    fn a_life_begins_and_ends_with_a_step_and_generations_come_again_after_128() {
        let mut state = State(0);
        for life in 0..300 {
            assert!(!state.is_live());
            assert_eq!(state.generation(), life % 128);
            state = state.next();
            assert!(state.is_live());
            assert_eq!(state.generation(), life % 128);
            state = state.next();
        }
    }
}
