//! malloc for shared memory.
//!
//! A process creates a named heap; any other process connects by name; all of them allocate and
//! free objects in it, hand them to each other as position-independent handles, and go on when one
//! of them is killed at any instruction.
//!
//! ```text
//!   process A                     segment                      process B
//!   Heap::create("/demo", ..)   +------------------------+     Heap::connect("/demo")
//!   alloc -> pointer            | header, peers, records |
//!   handle(pointer) -> 0x22040 -|- - - - - - - - - - - - |-->  resolve(0x22040) -> pointer
//!                               | objects                |     free
//!                               +------------------------+
//! ```
//!
//! ```
//! use shmheap::Heap;
//! use std::alloc::Layout;
//!
//! # let name = format!("/doc-crate-{}", std::process::id());
//! let heap = Heap::create(&name, 1 << 20)?;
//! let text = heap.alloc(Layout::new::<[u8; 5]>())?;
//! // SAFETY: the object is ours and has five bytes.
//! unsafe { text.cast::<[u8; 5]>().write(*b"hello") };
//! let handle = heap.handle(text)?; // a plain integer: send it anywhere
//!
//! let other = Heap::connect(&name)?; // usually in another process
//! // SAFETY: the handle names a live object of five bytes that nobody writes.
//! assert_eq!(unsafe { other.resolve(handle)?.cast::<[u8; 5]>().read() }, *b"hello");
//! Heap::destroy(&name)?;
//! # Ok::<(), shmheap::Error>(())
//! ```
//!
//! The layers, lowest first; each uses only lower ones:
//!
//! | module | gives |
//! |---|---|
//! | `error`, `events` | what goes wrong, and what happens |
//! | `handle`, `units` | what is handed on, and numbers that must not be mixed up |
//! | `os` | everything the system gives, nothing about heaps |
//! | `segment` | the shared bytes: the gate to them, and their header |
//! | `peers` | who is connected, and the kernel's word on who is dead |
//! | `labels` | who has how much of a heap, and what for |
//! | `first_fit`, `slab` | the engines, one for each policy: which bytes belong to which object |
//! | `heap` | the public [`Heap`] |
//! | `object` | typed objects |
//! | `sync` | locks and their kin in a heap |
//! | `channel` | messages between processes |
//! | `collections` | maps, vectors and texts whose elements lie in a heap |

mod error;
mod events;
mod handle;
mod units;

mod os;
mod segment;

mod peers;

mod labels;

mod first_fit;
mod slab;

mod heap;

mod object;

mod sync;

mod channel;
mod collections;

#[cfg(feature = "async")]
pub use channel::{AsyncChannel, RecvFuture, SendFuture};
pub use channel::{
    Broadcast, ByteChannel, Channel, NotSent, ObjectChannel, Publisher, Received, ShmBroadcast,
    ShmChannel, ShmObjectChannel, Subscriber,
};
pub use collections::{Iter as ShmMapIter, ShmMap, ShmString, ShmVec};
pub use error::{Error, NotAHeap, NotLive, Result};
pub use handle::{Handle, Untyped};
#[cfg(feature = "allocator-api2")]
pub use heap::SharedAllocator;
pub use heap::{
    Block, Blocks, ClassStats, Finding, Granule, Heap, HeapOptions, InHand, Info, Label, Listing,
    NotPublished, OwnerStats, Peer, PeerUsage, Policy, Quota, Report, Site, Stats, TagScope,
    TagUsage, Unpublished, Usage, list, sweep_abandoned, sweep_unfinished,
};
#[doc(hidden)]
pub use object::derived;
pub use object::{
    Fingerprint, NotHandedOver, OwnedCell, Reached, Root, Shareable, ShmArc, ShmBox, ShmCell,
    ShmPtr, ShmWeak,
};
pub use sync::{
    Locked, RawMutex, ShmCondvar, ShmMutex, ShmMutexGuard, ShmOnce, ShmPermit, ShmPermits,
    ShmReadGuard, ShmRwLock, ShmSemaphore, ShmWriteGuard,
};

/// The programs in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[path = "../tests/book/chapters.rs"]
mod book;
