//! What a heap tells about itself: plain values, copied out of the segment.

use std::num::NonZeroUsize;

use crate::{Granule, Handle, Label, Policy};

/// Facts that never change in a heap's life, but for its length.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Info {
    /// Version of the segment's format.
    pub format_version: u32,
    /// How objects are placed.
    pub policy: Policy,
    /// Unit of placement in bytes.
    pub granule_bytes: u64,
    /// Bytes for objects now.
    pub len_bytes: u64,
    /// Bytes for objects at the most.
    pub max_len_bytes: u64,
    /// Bytes of the object's start that hold the heap's own records.
    pub data_offset_bytes: u64,
    /// How many processes may be connected at once.
    pub peer_limit: u32,
    /// When the heap was made: nanoseconds since 1970, by the maker's clock.
    pub created_unix_ns: u64,
    /// A random number that tells this heap from every other, also of the same name.
    pub id: u128,
    /// Where the heap starts in every process, if it was made with
    /// [`same_address`](crate::HeapOptions::same_address); [`Heap::base`](crate::Heap::base) lies
    /// `data_offset_bytes` behind it.
    pub address: Option<NonZeroUsize>,
    /// Whether it is removed with its last process: see
    /// [`ephemeral`](crate::HeapOptions::ephemeral).
    pub is_ephemeral: bool,
    /// Whether objects have labels: see [`labels`](crate::HeapOptions::labels).
    pub has_labels: bool,
}

impl Info {
    /// The granule as the option that made it.
    #[must_use]
    pub fn granule(&self) -> Granule {
        if self.granule_bytes == 8 { Granule::Eight } else { Granule::Sixteen }
    }
}

/// How full a heap is. Exact when no process changes the heap meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Bytes for objects now.
    pub len_bytes: u64,
    /// Bytes for objects at the most.
    pub max_len_bytes: u64,
    /// Bytes held by live objects, each rounded up to the granule or to its size class.
    pub live_bytes: u64,
    /// Number of live objects.
    pub live_objects: u64,
    /// Bytes in free blocks.
    pub free_bytes: u64,
    /// Bytes that no object can use: what is left of slabs behind their last object. With
    /// `live_bytes` and `free_bytes` they make up the length.
    pub tail_bytes: u64,
    /// Of the free bytes, those whose memory was given back to the system until it is needed again.
    pub trimmed_bytes: u64,
    /// The largest single free block in bytes: what an `alloc` can get without growth.
    pub largest_free_bytes: u64,
    /// Bytes of the heap's own records that storage is reserved for; under the first-fit policy, of
    /// those in use.
    pub metadata_bytes: u64,
    /// How often the heap's lock was taken since the heap was made, modulo 2^37; 0 under the
    /// scalable policy, which has no lock.
    pub operations: u64,
    /// The slot of the peer that is inside an operation at this moment. One that stays there is
    /// stopped or dead, and the next operation will go on without it.
    pub lock_holder: Option<u16>,
    /// Processes connected now.
    pub peers_alive: u32,
    /// Processes that died without disconnecting, not yet swept.
    pub peers_dead: u32,
    /// Each size class that has slabs, smallest first; none under the first-fit policy.
    pub classes: Vec<ClassStats>,
    /// Each peer that owns slabs; none under the first-fit policy.
    pub owners: Vec<OwnerStats>,
}

/// What a heap has of one size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Slabs that threads own.
    pub owned_slabs: u64,
    /// Slabs that are nobody's, until somebody needs what is free in them.
    pub shared_slabs: u64,
    /// Live objects.
    pub live_objects: u64,
    /// Free objects in owned slabs: for their owners, who find what others have freed when they
    /// have used up what they know of.
    pub free_owned: u64,
    /// Free objects in slabs that are nobody's: for everybody.
    pub free_shared: u64,
    /// Bytes of the slabs that no object can use.
    pub tail_bytes: u64,
}

/// What a peer has in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OwnerStats {
    /// The peer's slot.
    pub slot: u16,
    /// Live objects in the slabs of its threads, whoever uses them.
    pub live_objects: u64,
}

impl Stats {
    /// Share of the free bytes that lies outside the largest free block, 0 to 1.
    #[must_use]
    pub fn fragmentation(&self) -> f64 {
        if self.free_bytes == 0 {
            return 0.0;
        }
        // A heap that changes meanwhile, or a damaged one, may state more than there is.
        1.0 - (self.largest_free_bytes as f64 / self.free_bytes as f64).min(1.0)
    }
}

/// One block of a heap: an object or a free range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Block {
    /// The object's handle; for a free range, the handle an object at its start would have.
    pub handle: Handle,
    /// How far behind [`Heap::base`](crate::Heap::base) it starts.
    pub offset_bytes: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is an object (`true`) or free. Under the scalable policy, free objects of slabs
    /// are blocks of their own.
    pub live: bool,
    /// What it is a part of.
    pub site: Site,
    /// Who allocated the object and what for, if the heap has labels. An object has none whose
    /// process was killed in the moment that it was being allocated or freed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub label: Option<Label>,
}

/// What a block is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Site {
    /// The one row of blocks that a heap is under the first-fit policy.
    Row,
    /// A slab. All blocks of a slab have the bytes of its size class.
    Slab {
        /// The slot of the peer one of whose threads owns the slab; `None` if it is nobody's.
        owner: Option<u16>,
    },
    /// Units of its own: a large object, or free units.
    Units,
}

/// An object that a process has made, or taken from a cell, and not given away yet: see
/// [`Unpublished`](crate::Unpublished).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InHand {
    /// The object.
    pub handle: Handle,
    /// The slot of the peer that owns it.
    pub owner: u16,
    /// Whether that peer is alive. What a dead one has in hand is freed by whoever adopts it: the
    /// next [`sweep`](crate::Heap::sweep) at the latest.
    pub alive: bool,
}

/// A process connected to a heap, or one that died connected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Peer {
    /// Its record's number.
    pub slot: u16,
    /// Whether the kernel still knows its proof of life. A stopped process is alive.
    pub alive: bool,
    /// Whether it is the process that asks.
    pub is_self: bool,
    /// Its process number in its own PID namespace. Information only: nothing depends on it.
    pub pid: u32,
    /// The inode of its PID namespace; process numbers of different namespaces do not compare.
    pub pid_namespace: u64,
    /// When it connected: nanoseconds since 1970.
    pub connected_unix_ns: u64,
    /// The start of its command line, its words joined by spaces.
    pub command: String,
}

/// What a full audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// Everything that contradicts the format; empty for a sound heap.
    pub findings: Vec<Finding>,
    /// More findings than [`Report::FINDINGS_MAX`] were made and are not listed.
    pub more_findings: bool,
    /// Whether the heap stood still during the audit. If not, findings may come from the changes:
    /// audit again, or connect for writing.
    pub stood_still: bool,
    /// A read-only audit found the heap's lock in the hands of a dead peer. Findings may come from
    /// the operation that it left half done, which the next operation, or an audit by a connection
    /// for writing, finishes first.
    pub recovery_pending: bool,
    /// Blocks walked, live and free.
    pub blocks: u64,
    /// Live objects among them.
    pub live_objects: u64,
    /// Bytes in live objects.
    pub live_bytes: u64,
    /// Bytes in free blocks.
    pub free_bytes: u64,
    /// Bytes that no object can use. With `live_bytes` and `free_bytes` they make up the whole
    /// length of a sound heap.
    pub tail_bytes: u64,
}

impl Report {
    /// How many findings a report lists at the most.
    pub const FINDINGS_MAX: usize = 64;

    /// Whether nothing was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// One contradiction in a heap's records.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// Which rule of FORMAT.md is broken.
    pub rule: &'static str,
    /// Byte offset in the segment of the record or block concerned.
    pub offset_bytes: u64,
    /// What is there and what should be.
    pub detail: String,
}
