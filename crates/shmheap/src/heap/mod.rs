//! `Heap`: the public face of a segment, and this process's connection to it.
//!
//! | file | holds |
//! |---|---|
//! | `options`, `report` | plain values of the interface |
//! | `shape` | from options, or a stranger's header, to offsets: where everything lies |
//! | `address` | where heaps may lie that lie at one address in every process |
//! | `open` | create and connect: how a heap comes to be found |
//! | `lifetime` | how a heap comes to its end: by hand, or with its last process |
//! | `connection` | who this process is to the others; what the engine asks of it |
//! | `allocate` | objects: alloc, free, realloc, handles |
//! | `allocator` | the heap as an allocator for collections |
//! | `scalable` | the same for the scalable policy: hands and room |
//! | `storage` | what the slab engine asks of the process that runs it |
//! | `threads` | what each thread of this process has in hand |
//! | `labelled` | objects that are counted under a label |
//! | `tags` | under which tag this thread allocates |
//! | `usage` | what is counted, and quotas |
//! | `handover` | objects that die with their process, until they are in a cell |
//! | `custody` | who owns those meanwhile, and after |
//! | `entries` | what this process has of the ledger |
//! | `objects` | what the layers above ask of a heap |
//! | `grow` | more room, from any process, unnoticed by the others |
//! | `space` | the one unsafe file: the bytes of objects |
//! | `inspect` | stats, audit, blocks, peers |
//! | `in_hand` | unpublished objects, of the living and the dead |
//! | `survey` | stats, audit and blocks of the scalable policy |
//! | `snapshot` | a copy of the heap, while others work |
//! | `catalog` | all heaps of the machine |

mod address;
mod allocate;
#[cfg(feature = "allocator-api2")]
mod allocator;
mod catalog;
mod connection;
mod custody;
mod entries;
mod grow;
mod handover;
mod in_hand;
mod inspect;
mod labelled;
mod lifetime;
mod objects;
mod open;
mod options;
mod report;
mod scalable;
mod shape;
mod snapshot;
mod space;
mod storage;
mod survey;
mod tags;
mod threads;
mod usage;

use crate::Handle;
#[cfg(feature = "allocator-api2")]
pub use allocator::SharedAllocator;
pub use catalog::{Listing, list, sweep_unfinished};
use connection::Connection;
use entries::Entries;
pub use handover::{NotPublished, Unpublished};
pub use inspect::Blocks;
use labelled::Labelling;
pub use lifetime::sweep_abandoned;
pub(crate) use objects::{Gate, Span};
pub use options::{Granule, HeapOptions, Policy};
pub use report::{Block, ClassStats, Finding, InHand, Info, OwnerStats, Peer, Report, Site, Stats};
use shape::Shape;
use space::Space;
use storage::Verified;
pub use tags::TagScope;
use threads::Threads;
pub use usage::{Label, PeerUsage, Quota, TagUsage, Usage};

use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU64};

use crate::events;
use crate::first_fit::layout::AREAS;
use crate::os::{Futex, Mapping};
use crate::segment::words::Row;

/// A heap in shared memory that this process is connected to.
///
/// Any thread may use it at any time. Dropping it disconnects: the heap and its objects stay, for
/// the other processes and for whoever connects later, until [`Heap::destroy`].
///
/// A forked child may use the heap of its parent as it is: it becomes a peer of its own with its
/// first operation. Pointers into the heap stay valid in the child.
///
/// # Killed and stopped processes
///
/// A process killed at any instruction leaves the heap sound: an operation that it was in the
/// middle of is undone or completed by others on their way, or by [`sweep`](Self::sweep). Objects
/// that it had allocated stay, but for [`Unpublished`] ones.
///
/// A process that is *stopped* in the middle of an operation keeps nobody waiting. Under
/// [`Policy::FirstFit`], where operations take turns, the next one waits 20 ms for it and then goes
/// on in a copy of the heap's records, 2.5 % of its length, while there is storage for that, and
/// while no more than two processes are stopped so at once; behind a third the others may have to
/// wait until one of them goes on or is killed. What a stopped one was doing is done when it goes
/// on.
///
/// ```
/// use shmheap::{Handle, Heap};
/// use std::alloc::Layout;
/// # let name = format!("/doc-heap-{}", std::process::id());
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let number = heap.alloc(Layout::new::<u64>())?.cast::<u64>();
/// // SAFETY: the object is ours, large enough and aligned.
/// unsafe { number.write(42) };
/// let handle: Handle = heap.handle(number.cast())?;
///
/// // Another process would do this:
/// let peer = Heap::connect(&name)?;
/// let number = peer.resolve(handle)?.cast::<u64>();
/// // SAFETY: the handle names a live object that holds a u64.
/// assert_eq!(unsafe { number.read() }, 42);
/// // SAFETY: nobody uses the object from here on.
/// unsafe { peer.free(number.cast())? };
///
/// Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct Heap {
    label: String,
    shape: Shape,
    mapping: Mapping,
    /// Object space in the mapping.
    space: Space,
    /// What the threads of this process have in hand.
    threads: Threads,
    connection: Connection,
    entries: Entries,
    /// What this process knows of the labels, if the heap has any.
    labelling: Option<Box<Labelling>>,
    /// For each area of records, the bytes of object space whose records in it this process knows
    /// to have storage; never more than the heap's length. The fast paths compare with it and
    /// nothing else.
    verified_len_bytes: [AtomicU64; AREAS as usize],
    /// Process records that this process knows to have storage.
    verified_processes: AtomicU16,
    /// Thread records likewise.
    verified_threads: AtomicU16,
    /// Blocks of states that this process knows to have storage.
    verified_states: Verified,
}

impl Heap {
    /// The records of the heap.
    #[inline]
    fn words(&self) -> Row<'_, Futex> {
        Row::new(self.mapping.words(self.shape.word_count), Futex)
    }

    /// The bytes of the objects.
    #[inline]
    fn space(&self) -> Space {
        self.space
    }

    /// Whether this connection can look but not change: see
    /// [`connect_read_only`](Self::connect_read_only).
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.connection.is_observer()
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("name", &self.label).finish_non_exhaustive()
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if let Connection::Peer(membership) = &self.connection {
            self.threads.end(membership.stay());
        }
        // What cannot be given back is, when the slot's next holder is adopted or leaves.
        self.connection.leave(&self.words(), &|slot| drop(self.give_back(slot)));
        events::disconnected(&self.label);
        self.retire_if_last();
    }
}

#[cfg(test)]
mod tests;
