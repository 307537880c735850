//! One error type; one variant for each thing a caller can do about it.
//!
//! Every text says what happened, to what, and what to do next. Whatever is returned, the heap is
//! as it was before the call: no operation fails half-way.

use std::fmt;
use std::io;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a heap was refused.
///
/// ```
/// use shmheap::{Error, Heap};
/// let error = Heap::connect("/no-such-heap").unwrap_err();
/// assert!(matches!(error, Error::NotFound { .. }));
/// assert_eq!(error.errno(), 2, "ENOENT, as the C library sets it");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot name a heap on any machine: choose another.
    #[error("{name:?} cannot name a heap: {why}")]
    InvalidName {
        /// The name as it was given.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },

    /// An option has a value that no heap can have: change it.
    #[error("{option} cannot be {value}: {why}")]
    InvalidOption {
        /// Which option.
        option: &'static str,
        /// The value that was asked for.
        value: u64,
        /// The rule that it breaks.
        why: &'static str,
    },

    /// Something of that name stands: connect to it, destroy it, or choose another name.
    #[error("'{name}' exists already; connect to it, or destroy it first")]
    AlreadyExists {
        /// The name that is taken.
        name: String,
    },

    /// Nothing of that name stands: create it first, or check the spelling.
    #[error("there is no heap '{name}' (`shmheap ls` lists those there are)")]
    NotFound {
        /// The name that was looked for.
        name: String,
    },

    /// The system does not let this user do that: change the mode or group, or the user.
    #[error("no permission to {action} '{name}'; {hint}")]
    PermissionDenied {
        /// What was tried.
        action: &'static str,
        /// On what.
        name: String,
        /// Owner and mode where they could be read, else what to look at.
        hint: String,
    },

    /// The object is not a heap, or no longer a whole one. Nothing in it was touched.
    #[error("'{name}' is not a usable heap: {why}")]
    NotAHeap {
        /// The object.
        name: String,
        /// What is wrong with it.
        why: NotAHeap,
    },

    /// The heap was made by an incompatible version: use that version, or recreate it.
    #[error(
        "'{name}' has format {found}, this library reads format {supported}; \
         use a matching library, or remove the heap"
    )]
    VersionMismatch {
        /// The heap.
        name: String,
        /// The format version in its header.
        found: u32,
        /// The one this library reads.
        supported: u32,
    },

    /// The system's storage is full: free some, raise its limit, or use another backend.
    #[error(
        "the system has no room for {needed_bytes} more bytes: {where_full}; \
         free some there, raise its size (docker: --shm-size), or put the heap in a file or memfd"
    )]
    NoSpace {
        /// What the operation asked the system for.
        needed_bytes: u64,
        /// Which storage is full.
        where_full: String,
    },

    /// The heap does not fit the address space of this process: ask for less or raise the limit.
    #[error(
        "cannot map {bytes} bytes into this process; lower max_len or raise `ulimit -v` (RLIMIT_AS)"
    )]
    AddressSpace {
        /// The size of the mapping that was refused.
        bytes: u64,
    },

    /// The heap has to lie at one address in every process, and here something else has that:
    /// connect earlier in the process, or make the heap anew. What lies there was not touched.
    #[error(
        "'{name}' has to lie at {address:#x} in every process, and that is taken here, by \
         {occupant}; use that connection if it is one, else connect before anything is mapped \
         there (start the process anew, or with `setarch -R` if only some runs fail), or make the \
         heap anew, at another address"
    )]
    AddressTaken {
        /// The heap.
        name: String,
        /// Where it has to start.
        address: usize,
        /// What /proc/self/maps says lies there.
        occupant: String,
    },

    /// No free range of the heap holds the object: free objects or make the heap larger.
    #[error(
        "the heap is full: no free range of {requested_bytes} bytes \
         ({free_bytes} bytes free of {len_bytes}, limit {max_len_bytes}); free objects, or make it \
         with a larger max_len: under the scalable policy each thread takes 64 KiB for each size \
         class it uses"
    )]
    Full {
        /// The size that was asked for.
        requested_bytes: u64,
        /// Free bytes in all, in pieces too small for it.
        free_bytes: u64,
        /// What the heap holds now.
        len_bytes: u64,
        /// What it may grow to.
        max_len_bytes: u64,
    },

    /// A quota is used up: free objects, or raise it.
    #[error(
        "{what} may have {quota_bytes} bytes and has {used_bytes}, so {requested_bytes} more are \
         too many; free objects, or raise the quota (set_quota, or `shmheap quota`)"
    )]
    QuotaExceeded {
        /// What has the quota: the heap, this process, or a tag.
        what: String,
        /// The bytes that were asked for, rounded up.
        requested_bytes: u64,
        /// The bytes that it has.
        used_bytes: u64,
        /// The bytes that it may have.
        quota_bytes: u64,
    },

    /// The heap was made without labels, so it has no quotas: make it with them.
    #[error(
        "the heap was made without labels, so nobody counts who has what; make it with \
         HeapOptions::labels (`shmheap create --labels`)"
    )]
    NotLabelled,

    /// The text cannot be a tag: choose another.
    #[error("{name:?} cannot be a tag: {why}")]
    InvalidTag {
        /// The text as it was given.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },

    /// Every tag that a heap can have is taken: use fewer.
    #[error("the heap has {limit} tags, which is all it can; use one of them (`shmheap stat`)")]
    TooManyTags {
        /// How many a heap has.
        limit: u32,
    },

    /// Every label is in use, a pair of a process and a tag that has objects: free those of dead
    /// processes, or use fewer tags.
    #[error(
        "all {limit} labels of the heap are in use, one for each process and tag with objects; \
         free the objects of dead processes (`shmheap stat`), or use fewer tags"
    )]
    TooManyLabels {
        /// How many a heap has.
        limit: u32,
    },

    /// No heap can serve the layout: the alignment is above 2 MiB, or above 4096 bytes under first
    /// fit; or the size overflows.
    #[error("no heap can hold {size_bytes} bytes aligned to {align_bytes}: {why}")]
    InvalidLayout {
        /// The size that was asked for.
        size_bytes: u64,
        /// The alignment that was asked for.
        align_bytes: u64,
        /// The rule that it breaks.
        why: &'static str,
    },

    /// The pointer is not a live object of this heap: the caller has a bug.
    #[error("{address:#x} is not a live object of this heap: {why}")]
    InvalidPointer {
        /// The address that was passed.
        address: usize,
        /// What is wrong with it.
        why: NotLive,
    },

    /// The handle names no live object of this heap: it is stale, or from another heap.
    #[error("handle {handle} names no live object of this heap: {why}")]
    InvalidHandle {
        /// The handle that was passed.
        handle: crate::Handle,
        /// What is wrong with it.
        why: NotLive,
    },

    /// The handle's object was freed, and its place perhaps given to another since: forget the
    /// handle. Heaps of [`Policy::FirstFit`](crate::Policy::FirstFit) cannot tell.
    #[error("handle {handle} is stale: its object was freed; drop the handle")]
    Stale {
        /// The handle that was passed.
        handle: crate::Handle,
    },

    /// This connection may only read: connect without `read_only` to change the heap.
    #[error("this connection is read-only; connect for writing to {action}")]
    ReadOnly {
        /// What was tried.
        action: &'static str,
    },

    /// Every process record is in use: disconnect some processes.
    #[error("all {limit} process records of the heap are in use; disconnect some processes")]
    TooManyPeers {
        /// How many processes a heap takes at once.
        limit: u32,
    },

    /// The address is no place for a cell: the caller has a bug.
    #[error(
        "{address:#x} cannot be a cell of this heap: \
         a cell is eight bytes inside an object, at a multiple of 8"
    )]
    InvalidCell {
        /// The address that was passed.
        address: usize,
    },

    /// The cell holds an object, or will in a moment: take that first, or choose another cell.
    #[error("the cell at {address:#x} is not empty; take what it holds, or choose another")]
    Occupied {
        /// The cell.
        address: usize,
    },

    /// The object belongs to the process that this one was forked from: let that one hand it over.
    #[error(
        "the unpublished object at {address:#x} belongs to the process that this one was forked \
         from; publish it there, or allocate another here"
    )]
    Inherited {
        /// The object.
        address: usize,
    },

    /// Every thread record is in use: end some threads or processes that use the heap.
    #[error("all {limit} thread records of the heap are in use; end some threads that use it")]
    TooManyThreads {
        /// How many a heap has.
        limit: u32,
    },

    /// No place is left to remember one more unpublished object: publish, keep or free some.
    /// Processes keep the places that they have had in use until they disconnect.
    #[error(
        "{limit} unpublished objects are as many as a heap remembers; publish, keep or free some, \
         or disconnect processes that had many"
    )]
    TooManyUnpublished {
        /// How many a heap remembers.
        limit: u32,
    },

    /// Nothing has the name: make it, or check the spelling.
    #[error("the heap has no root '{name}'; make it with find_or_create, or look at roots()")]
    NoRoot {
        /// The name that was looked for.
        name: String,
    },

    /// The name is taken: use what has it, remove it first, or choose another.
    #[error("the heap has a root '{name}' already; find it, or remove it first")]
    RootExists {
        /// The name.
        name: String,
    },

    /// The object was made as another type than it is used as, or is too small for that: use the
    /// type that it was made as, from the same version of the program.
    #[error("{what} was made as another type than it is used as here; use the type it was made as")]
    WrongType {
        /// Which object.
        what: String,
    },

    /// The process that held it died in the middle of a change: repair the value, or make it anew.
    #[error("the process that held {what} died and may have left it half changed; repair it")]
    OwnerDied {
        /// What was held.
        what: &'static str,
    },

    /// This process does not have it, so it cannot give it up: the caller has a bug.
    #[error("{what} is not this process's, so it cannot be given up here")]
    NotOwner {
        /// What was to be given up.
        what: &'static str,
    },

    /// It did not come about in time: try again, wait longer, or look for who holds it up.
    #[error("{what} did not come about in time; try again, or look at peers() for who holds it up")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
    },

    /// It has been closed for good: stop using it.
    #[error(
        "{what} is closed for good; to begin anew under its name, remove that (remove_root), and \
         make another"
    )]
    Closed {
        /// What is closed.
        what: &'static str,
    },

    /// It holds as much as it was made for: take something out, or make it larger.
    #[error("{what} holds {limit} already, which is all it can; take some out, or make it larger")]
    AtCapacity {
        /// What is full.
        what: &'static str,
        /// How much it holds.
        limit: u64,
    },

    /// The heap's own records contradict each other: stop using it and run `shmheap check`.
    #[error(
        "the heap's metadata is damaged ({what}); stop using it, \
         run `shmheap check` for the extent, and make a new heap"
    )]
    Damaged {
        /// The record that makes no sense.
        what: &'static str,
    },

    /// The system refused something for a reason of its own.
    #[error("{operation} failed: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What keeps an object from being used as a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAHeap {
    /// It is empty.
    Empty,
    /// It ends before a header does, or before what its header says it holds.
    Truncated {
        /// Bytes that should be there.
        expected_bytes: u64,
        /// Bytes that are.
        found_bytes: u64,
    },
    /// It does not begin with a heap's magic.
    Foreign,
    /// Its header fails the checksum or contradicts itself.
    BadHeader(
        /// Which part.
        &'static str,
    ),
    /// It is a directory, a device or a socket.
    NotAFile,
}

impl fmt::Display for NotAHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty; remove it if no program owns it"),
            Self::Truncated { expected_bytes, found_bytes } => {
                write!(f, "it is truncated ({found_bytes} bytes of {expected_bytes}); remove it")
            }
            Self::Foreign => write!(f, "it belongs to another program"),
            Self::BadHeader(part) => write!(f, "its header is damaged ({part}); remove it"),
            Self::NotAFile => write!(f, "it is not a regular file or shared-memory object"),
        }
    }
}

/// Why an address or handle does not name a live object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotLive {
    /// It lies outside the heap's data.
    Foreign,
    /// It is not a multiple of the heap's granule, so no object can start there.
    Misaligned,
    /// A free block starts there: the object was freed already.
    Freed,
    /// No block starts there: it points into an object, or the object was freed and joined.
    NoObject,
}

impl fmt::Display for NotLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "it lies outside the heap",
            Self::Misaligned => "it is not a multiple of the granule",
            Self::Freed => "it was freed already",
            Self::NoObject => "no object starts there (interior pointer, or freed already)",
        })
    }
}

impl Error {
    /// The `errno` value that stands for this error in the C library.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::InvalidName { .. }
            | Self::InvalidOption { .. }
            | Self::InvalidLayout { .. }
            | Self::InvalidTag { .. }
            | Self::InvalidPointer { .. }
            | Self::InvalidHandle { .. }
            | Self::InvalidCell { .. } => libc::EINVAL,
            Self::Occupied { .. } => libc::EBUSY,
            Self::NoRoot { .. } => libc::ENOENT,
            Self::RootExists { .. } => libc::EEXIST,
            Self::WrongType { .. } => libc::EPROTOTYPE,
            Self::OwnerDied { .. } => libc::EOWNERDEAD,
            Self::NotOwner { .. } => libc::EPERM,
            Self::TimedOut { .. } => libc::ETIMEDOUT,
            Self::Closed { .. } => libc::EPIPE,
            Self::AtCapacity { .. } => libc::ENOBUFS,
            Self::Inherited { .. } => libc::EPERM,
            Self::AlreadyExists { .. } => libc::EEXIST,
            Self::NotFound { .. } => libc::ENOENT,
            Self::PermissionDenied { .. } => libc::EACCES,
            Self::NotAHeap { .. } => libc::EBADF,
            Self::VersionMismatch { .. } => libc::EPROTO,
            Self::NoSpace { .. } => libc::ENOSPC,
            Self::AddressSpace { .. } | Self::Full { .. } => libc::ENOMEM,
            Self::AddressTaken { .. } => libc::EADDRINUSE,
            Self::QuotaExceeded { .. } => libc::EDQUOT,
            Self::NotLabelled => libc::EOPNOTSUPP,
            Self::Stale { .. } => libc::ESTALE,
            Self::ReadOnly { .. } => libc::EROFS,
            Self::TooManyPeers { .. }
            | Self::TooManyThreads { .. }
            | Self::TooManyTags { .. }
            | Self::TooManyLabels { .. }
            | Self::TooManyUnpublished { .. } => libc::EUSERS,
            Self::Damaged { .. } => libc::EUCLEAN,
            Self::System { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}
