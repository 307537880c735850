//! The engines' protocols as models: every interleaving of a few actors, with deaths.
//!
//! | module | what it shows |
//! |---|---|
//! | `explorer` | every state of a model is looked at |
//! | `slab` | objects freed by anybody while slabs change hands are never out of reach |
//! | `runs` | runs of units are put together and taken apart whole |
//! | `steal` | the lock of a stopped holder is taken from it, and each operation ends once |
//! | `hand_over` | an object that goes from one peer to another is always somebody's |
//!
//! A model is worth what it catches: each comes with mutations, the mistakes one could make with
//! its protocol, and each of them must be found. `SHMHEAP_WAYS=1` prints by which steps.

// Everything here is test code, also what stands outside the functions marked as tests.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod explorer;

mod hand_over;
mod runs;
mod slab;
mod steal;
