//! How a heap comes to be found: create and connect.
//!
//! Creation fills an object that nobody can see, joins it as its first peer, and gives it its name
//! last; so whoever finds the name finds a whole heap with a live peer. Connecting judges a
//! stranger's header by `pread` before a byte of it is mapped.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64};

use crate::error::NotAHeap;
use crate::first_fit::layout::Area;
use crate::heap::address::{self, Address};
use crate::heap::connection::Connection;
use crate::heap::entries::Entries;
use crate::heap::labelled::Labelling;
use crate::heap::lifetime;
use crate::heap::shape::{Engine, Shape};
use crate::heap::storage::Verified;
use crate::heap::threads::Threads;
use crate::heap::{Heap, HeapOptions, Space};
use crate::os::{
    Access, Fresh, Futex, Hold, Mapping, Object, ObjectPath, Unpublished, WipeOnFork, Witness,
    socket,
};
use crate::peers::{Membership, Stay};
use crate::segment::format::{self, Identity, Refused};
use crate::segment::words::{Row, Words};
use crate::slab::UNIT_BYTES;
use crate::units::{Offset, WordIndex};
use crate::{Error, Result, events};

impl Heap {
    /// Creates a named heap of fixed length with the default options: see [`HeapOptions`].
    ///
    /// # Errors
    ///
    /// As [`HeapOptions::create`].
    pub fn create(name: impl AsRef<OsStr>, len_bytes: u64) -> Result<Self> {
        HeapOptions::new(len_bytes).create(name)
    }

    pub(super) fn create_named(name: &OsStr, options: &HeapOptions) -> Result<Self> {
        if options.is_ephemeral {
            // What cannot be listed is no reason to make no heap.
            let _ = lifetime::sweep_abandoned();
        }
        Self::create_at(&ObjectPath::named(name)?, options)
    }

    pub(super) fn create_in_file(path: &Path, options: &HeapOptions) -> Result<Self> {
        Self::create_at(&ObjectPath::file(path)?, options)
    }

    fn create_at(at: &ObjectPath, options: &HeapOptions) -> Result<Self> {
        match Self::create_anew(at, options) {
            Err(Error::AlreadyExists { .. }) if lifetime::is_abandoned(at) => {
                Self::create_anew(at, options)
            }
            created => created,
        }
    }

    fn create_anew(at: &ObjectPath, options: &HeapOptions) -> Result<Self> {
        let (shape, len_bytes) = Shape::of_options(options)?;
        let Unpublished { object, name } = Unpublished::create(at, options.mode, options.group)?;
        let heap = Self::fill(object, |object| name.reopen(object), shape, len_bytes, options)?;
        name.give(heap.connection.object())?;
        events::created(&heap.label, len_bytes);
        Ok(heap)
    }

    pub(super) fn create_in_memfd(options: &HeapOptions) -> Result<Self> {
        let (shape, len_bytes) = Shape::of_options(options)?;
        let object = Object::memfd(options.mode, options.group)?;
        let heap = Self::fill(object, Object::reopen, shape, len_bytes, options)?;
        heap.connection.object().seal_against_shrinking()?;
        events::created(&heap.label, len_bytes);
        Ok(heap)
    }

    /// Makes an empty object a heap, and this process its first peer, who opens it with `reopen`
    /// once more.
    fn fill(
        object: Object<Fresh>,
        reopen: impl FnOnce(&Object) -> Result<Object<Fresh>>,
        mut shape: Shape,
        len_bytes: u64,
        options: &HeapOptions,
    ) -> Result<Self> {
        // Looked at with each use from here on: this may take long, and writes.
        let object = object.keep()?;
        // The end first: the rest does not make the object longer then.
        object.reserve(shape.data_offset.0..shape.end_of_data(len_bytes))?;
        // Of process and thread records the first page; the others come when they are needed.
        object.reserve(0..shape.records.storage(1).end)?;
        object.reserve(shape.threads.storage(1))?;
        let ranges = shape.records_storage(Area::FIRST, 0, len_bytes);
        for range in &ranges {
            object.reserve(range.clone())?;
        }
        let mapping = match options.address {
            Address::Chosen => {
                let choices = address::choices(shape.identity.id, shape.mapped_bytes());
                map_at_free(&object, &mut shape, choices)?
            }
            Address::Any | Address::At(_) => map(&object, &shape)?,
        };
        let words = Row::new(mapping.words(shape.word_count), Futex);
        for start in ranges.iter().map(|range| range.start).chain([0]) {
            // A page that is read first brings its neighbours along; one that is written, none.
            words.load(Offset(start).word());
        }
        match &shape.engine {
            Engine::FirstFit(engine) => engine.format(&words, shape.granules(len_bytes)),
            Engine::Slabs(slabs) => slabs.format(&words, len_bytes / UNIT_BYTES),
        }
        for (at, word) in (0..).zip(shape.identity.words()) {
            words.store(WordIndex(at), word);
        }
        // Only now: a child that is forked while it is open holds what is locked through it.
        let again = reopen(&object)?;
        let heap = Self::of_parts(Witness::through(object), shape, mapping, len_bytes)?;
        heap.join_through(again)?;
        Ok(heap)
    }

    /// Connects to a named heap.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::NotAHeap`], [`Error::VersionMismatch`] for what is no usable
    /// heap; [`Error::PermissionDenied`], [`Error::AddressSpace`], [`Error::TooManyPeers`]. For a
    /// heap made with [`same_address`](HeapOptions::same_address) also [`Error::AddressTaken`]:
    /// something lies where it has to lie, for instance this heap, to which this process is
    /// connected already.
    pub fn connect(name: impl AsRef<OsStr>) -> Result<Self> {
        Self::connect_to(Object::open(&ObjectPath::named(name.as_ref())?, Access::ReadWrite)?)
    }

    /// Connects to a named heap to look at it: objects can be resolved and read, and the heap
    /// inspected. Nothing can be changed, read permission is enough, and no peer knows of it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_read_only(name: impl AsRef<OsStr>) -> Result<Self> {
        Self::connect_to(Object::open(&ObjectPath::named(name.as_ref())?, Access::ReadOnly)?)
    }

    /// Connects to a heap in a file.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::connect_to(Object::open(&ObjectPath::file(path.as_ref())?, Access::ReadWrite)?)
    }

    /// Connects to a heap in a file to look at it: see
    /// [`connect_read_only`](Self::connect_read_only).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_file_read_only(path: impl AsRef<Path>) -> Result<Self> {
        Self::connect_to(Object::open(&ObjectPath::file(path.as_ref())?, Access::ReadOnly)?)
    }

    /// Connects to a heap through a descriptor of its object, inherited or received. A descriptor
    /// open for reading alone makes a read-only connection.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_fd(fd: OwnedFd) -> Result<Self> {
        // Others have the descriptor, too: this process looks for locks through one of its own.
        let shared = Object::from_fd(fd)?;
        let (shape, len_bytes) = judge(&shared)?;
        Self::connected(shared.reopen()?, shape, len_bytes)
    }

    /// Sends the heap to the process at the other end of a Unix socket, which takes it with
    /// [`receive_from`](Self::receive_from).
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the socket refuses.
    ///
    /// ```
    /// use shmheap::{Heap, HeapOptions};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (here, there) = UnixStream::pair().unwrap();
    /// let heap = HeapOptions::new(1 << 16).create_memfd()?;
    /// heap.send_to(&here)?;
    /// let same = Heap::receive_from(&there)?;
    /// assert_eq!(same.info().id, heap.info().id);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn send_to(&self, socket: &UnixStream) -> Result<()> {
        let fd = self.to_fd()?;
        socket::send_fd(socket, std::os::fd::AsFd::as_fd(&fd))
    }

    /// Connects to the heap that [`send_to`](Self::send_to) sent.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if no descriptor comes; else as [`connect`](Self::connect).
    pub fn receive_from(socket: &UnixStream) -> Result<Self> {
        Self::connect_fd(socket::receive_fd(socket)?)
    }

    /// A new descriptor of the heap's object, closed on exec, for
    /// [`connect_fd`](Self::connect_fd) elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the process may open no more.
    pub fn to_fd(&self) -> Result<OwnedFd> {
        self.connection.object().duplicate()
    }

    fn connect_to(object: Object<Fresh>) -> Result<Self> {
        let (shape, len_bytes) = judge(&object)?;
        match (object.access(), shape.is_ephemeral()) {
            (Access::ReadWrite, true) => Self::connect_to_ephemeral(object, shape, len_bytes),
            _ => Self::connected(object, shape, len_bytes),
        }
    }

    /// The heap in a segment that is known to be sound, with this process as a peer or an observer
    /// of it.
    pub(super) fn connected(object: Object<Fresh>, shape: Shape, len_bytes: u64) -> Result<Self> {
        let mapping = map(&object, &shape)?;
        let again = match object.access() {
            Access::ReadOnly => None,
            Access::ReadWrite => Some(object.reopen()?),
        };
        let witness = Witness::through(object.keep()?);
        let heap = Self::of_parts(witness, shape, mapping, len_bytes)?;
        if let Some(again) = again {
            heap.join_through(again)?;
        }
        events::connected(&heap.label, heap.is_read_only());
        Ok(heap)
    }

    /// The heap in a mapped segment, before this process has joined it.
    fn of_parts(witness: Witness, shape: Shape, mapping: Mapping, len_bytes: u64) -> Result<Self> {
        let label = witness.object().label().to_owned();
        let connection = match witness.object().access() {
            Access::ReadOnly => Connection::Observer(witness),
            Access::ReadWrite => Connection::Peer(Membership::new(witness, shape.records)?),
        };
        let (stay, place) = match &connection {
            Connection::Peer(membership) => (Stay::of(membership), membership.place()),
            Connection::Observer(_) => (Stay::none(), Arc::new(WipeOnFork::new()?)),
        };
        // Whoever made the current area so gave it storage for that length.
        let area = shape.current_area(&Row::new(mapping.words(shape.word_count), Futex));
        let verified_len_bytes = std::array::from_fn(|number| {
            AtomicU64::new(if number == usize::from(area.0) { len_bytes } else { 0 })
        });
        Ok(Self {
            label,
            verified_states: Verified::new(shape.state_block_count()),
            space: Space::new(mapping.base(), shape.data_offset, shape.granule_bytes()),
            mapping,
            threads: Threads::new(stay, shape.labels.is_none()),
            labelling: shape.labels.as_ref().map(|_| Box::new(Labelling::of_environment())),
            connection,
            entries: Entries::new(place),
            verified_len_bytes,
            // The creator gave storage to the first pages, as to what `len_bytes` needs.
            verified_processes: AtomicU16::new(shape.records.in_first_page()),
            verified_threads: AtomicU16::new(shape.threads.in_first_page()),
            shape,
        })
    }

    /// Disconnects, as dropping does; for those who like to see it.
    pub fn disconnect(self) {}
}

/// Maps the segment for the largest that it may become.
fn map<H: Hold>(object: &Object<H>, shape: &Shape) -> Result<Mapping> {
    let mapping = match shape.address() {
        None => Mapping::aligned(object, shape.mapped_bytes(), shape.align_bytes())?,
        Some(address) => Mapping::at(object, shape.mapped_bytes(), address)?,
    };
    Ok(mapping.with_states(shape.states()))
}

/// Maps the segment at the first of the addresses that is free here, and makes it the heap's.
pub(super) fn map_at_free<H: Hold>(
    object: &Object<H>,
    shape: &mut Shape,
    mut addresses: impl Iterator<Item = NonZeroUsize>,
) -> Result<Mapping> {
    loop {
        let Some(address) = addresses.next() else { return map(object, shape) };
        shape.identity.address = address.get() as u64;
        match map(object, shape) {
            Err(Error::AddressTaken { .. }) => {}
            mapped => return mapped,
        }
    }
}

/// The shape and the length of an object that claims to be a heap, if it is one.
pub(super) fn judge(object: &Object<Fresh>) -> Result<(Shape, u64)> {
    let refuse = |why| Error::NotAHeap { name: object.label().to_owned(), why };
    let mut prologue = [0; format::PROLOGUE_BYTES];
    let found = object.read_at(&mut prologue, 0)?;
    let (identity, len_bytes) =
        Identity::read(&prologue[..found]).map_err(|refused| match refused {
            Refused::NotAHeap(why) => refuse(why),
            Refused::Version(found) => Error::VersionMismatch {
                name: object.label().to_owned(),
                found,
                supported: format::VERSION,
            },
        })?;
    let shape = Shape::of_identity(identity).map_err(refuse)?;
    if len_bytes == 0
        || !len_bytes.is_multiple_of(shape.unit_bytes())
        || len_bytes > identity.len_max_bytes
    {
        return Err(refuse(NotAHeap::BadHeader("length")));
    }
    let expected_bytes = shape.end_of_data(len_bytes);
    let found_bytes = object.size_if_not(expected_bytes)?;
    if found_bytes < expected_bytes {
        return Err(refuse(NotAHeap::Truncated { expected_bytes, found_bytes }));
    }
    Ok((shape, len_bytes))
}
