//! Tests of the heap as its users see it: several processes, the public interface and nothing else.
//!
//! | module | what it shows |
//! |---|---|
//! | `api` | every operation, valid and invalid, in one process |
//! | `lifecycle` | create, connect, pass on, destroy; races for a name |
//! | `ephemeral` | heaps that go with their last process, whoever is killed |
//! | `events` | what a program hears of its heaps |
//! | `processes` | many processes share a heap and hand each other objects |
//! | `handover` | objects in cells: none lost, none doubled, whoever is killed |
//! | `roots` | names and shared values, whoever is killed or stopped |
//! | `operations` | any row of operations keeps content and count, by threads, too |
//! | `handles` | a handle names one object in its one life |
//! | `labels` | who has what, and quotas that hold |
//! | `kills` | processes killed at any moment cost the others nothing, by first fit |
//! | `aimed` | kills between a change and the hint at it |
//! | `storm` | the same for slabs, and for processes of several threads |
//! | `stops` | processes stopped at any moment cost the others nothing |
//! | `sync` | locks of a heap, whose owners are killed and stopped |
//! | `thefts` | processes stopped with the lock of first fit are robbed of it |
//! | `threads` | threads that end leave nothing in their hands |
//! | `trim` | memory given back, and needed again |
//! | `growth` | growth under the feet of others; storage and address space that end |
//! | `unpublished` | the operations of a hand-over, valid and invalid |
//! | `same_address` | heaps that lie at one address, or fail to |
//! | `allocator` | collections in heaps, this process's own and everybody's |
//! | `examples` | the examples do what they say |
//! | `channel` | messages between processes that are killed and stopped; overwritten channels |
//! | `refused` | what channels refuse |
//! | `fork` | a heap that was made before a fork |
//! | `hostile` | what is no heap, or no longer one |
//! | `collections` | maps whose users are killed and stopped at any moment |
//! | `overwritten` | heaps whose records are overwritten |
//!
//! All are one program, so that what they share is used by it, and a test that needs processes of
//! its own starts this program again for one of its tests: see `support::process`.
//!
//! `SHMHEAP_SEED=n` replays a random test; each prints the seed it ran with.

// Everything here is test code, also what stands outside the functions marked as tests.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

mod aimed;
#[cfg(feature = "allocator-api2")]
mod allocator;
mod api;
mod channel;
mod collections;
mod ephemeral;
#[cfg(feature = "tracing")]
mod events;
mod examples;
mod fork;
mod growth;
mod handles;
mod handover;
mod hostile;
mod kills;
mod labels;
mod lifecycle;
mod operations;
mod overwritten;
mod processes;
mod refused;
mod roots;
mod same_address;
mod stops;
mod storm;
mod sync;
mod thefts;
mod threads;
mod trim;
mod unpublished;
