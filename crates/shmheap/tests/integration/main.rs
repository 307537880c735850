//! Tests of the heap as its users see it: several processes, the public interface and nothing else.
//!
//! | module | what it shows |
//! |---|---|
//! | `api` | every operation, valid and invalid, in one process |
//! | `lifecycle` | create, connect, pass on, destroy; races for a name |
//! | `processes` | many processes share a heap and hand each other objects |
//! | `kills` | processes killed at any moment cost the others nothing |
//! | `handover` | objects in cells: none lost, none doubled, whoever is killed |
//! | `growth` | growth under the feet of others; storage and address space that end |
//! | `unpublished` | the operations of a hand-over, valid and invalid |
//! | `fork` | a heap that was made before a fork |
//! | `hostile` | what is no heap, and heaps whose records are overwritten |
//!
//! All are one program, so that what they share is used by it, and a test that needs processes of
//! its own starts this program again for one of its tests: see `support::process`.
//!
//! `SHMHEAP_SEED=n` replays a random test; each prints the seed it ran with.

// Everything here is test code, also what stands outside the functions marked as tests.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

mod api;
mod fork;
mod growth;
mod handover;
mod hostile;
mod kills;
mod lifecycle;
mod processes;
mod storm;
mod unpublished;
