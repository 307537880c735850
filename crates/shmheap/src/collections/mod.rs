//! Collections: containers whose elements lie in a heap, for all processes that share it.
//!
//! | file | holds |
//! |---|---|
//! | `map` | [`ShmMap`]: for everybody at once |
//! | `vec` | [`ShmVec`]: for one user at a time |
//! | `string` | [`ShmString`]: text, likewise |
//! | `hash` | where a key belongs, in every process |
//! | `turn` | whose turn it is to change something |
//! | `cells` | the objects that a collection allocates |
//! | `elements` | the one unsafe file: slices, and what is shareable |
//!
//! ```text
//!   the collection, in an object or a value of the user's       objects of its own
//!   +----------------------------------------------------+     +-----------------------+
//!   | words: locks, lengths, cells with handles ---------|---->| table of a map,       |
//!   +----------------------------------------------------+     | array of a vector     |
//!                                                              +-----------------------+
//! ```
//!
//! A collection of zeros is an empty one. Every change of it comes about by *one* store, so a
//! process that is killed has made it or not. Its objects are made unpublished and handed over to
//! cells of the collection, so that none is lost; what a killed process leaves over is freed by the
//! next one that changes the same.
//!
//! What the words say is bounded by the objects that they lead to, and how large those are is
//! known by the heap. Whoever overwrites a collection finds other things in it, or an error.

mod cells;
mod elements;
mod hash;
mod map;
mod string;
mod turn;
mod vec;

#[cfg(test)]
mod owned;
#[cfg(test)]
mod testing;

pub use map::{Iter, ShmMap};
pub use string::ShmString;
pub use vec::ShmVec;
