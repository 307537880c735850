//! Everything that is chosen when a heap is made.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::Path;

use crate::heap::address::Address;
use crate::{Error, Heap, Result};

/// How a heap places objects. Chosen at creation and recorded in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Policy {
    /// Exact first fit: every object gets the lowest address that holds it. Operations take turns;
    /// a process that is stopped in its turn loses it after 20 ms.
    FirstFit,
    /// Size classes and slabs that threads own: as fast as `malloc`, on many cores at once. Killed
    /// and stopped processes cost the others nothing.
    Scalable,
}

/// The unit in which the first-fit policy places objects: every object starts at a multiple of it
/// and every size is rounded up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Granule {
    /// 8 bytes: the least waste for tiny objects; what the original C library promises.
    Eight,
    /// 16 bytes: every object is aligned for any C type, as `malloc` does.
    Sixteen,
}

impl Granule {
    /// The granule's size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    /// The granule of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] unless `bytes` is 8 or 16.
    pub fn from_bytes(bytes: u64) -> Result<Self> {
        match bytes {
            8 => Ok(Self::Eight),
            16 => Ok(Self::Sixteen),
            value => {
                Err(Error::InvalidOption { option: "granule", value, why: "it is 8 or 16 bytes" })
            }
        }
    }
}

/// Builder for a new heap.
///
/// ```
/// use shmheap::{Granule, HeapOptions};
/// # let name = format!("/doc-options-{}", std::process::id());
/// let heap = HeapOptions::new(1 << 20)       // 1 MiB now,
///     .max_len(1 << 30)                      // up to 1 GiB on demand,
///     .mode(0o660)                           // for owner and group, whatever the umask
///     .granule(Granule::Sixteen)
///     .create(&name)?;
/// assert_eq!(heap.info().max_len_bytes, 1 << 30);
/// shmheap::Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a heap is made by `create`, `create_file` or `create_memfd`"]
pub struct HeapOptions {
    pub(crate) len_bytes: u64,
    pub(crate) max_len_bytes: Option<u64>,
    pub(crate) granule: Granule,
    pub(crate) policy: Policy,
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    pub(crate) address: Address,
    pub(crate) is_ephemeral: bool,
    pub(crate) has_labels: bool,
}

impl HeapOptions {
    /// A heap for `len_bytes` bytes of objects, rounded up to 64 KiB, or to the granule under
    /// [`Policy::FirstFit`]. All of it is usable: the heap's own records lie outside and are added
    /// to it.
    pub fn new(len_bytes: u64) -> Self {
        Self {
            len_bytes,
            max_len_bytes: None,
            granule: Granule::Sixteen,
            policy: Policy::Scalable,
            mode: 0o600,
            group: None,
            address: Address::Any,
            is_ephemeral: false,
            has_labels: false,
        }
    }

    /// Lets the heap grow to `max_len_bytes` bytes of objects, on demand, from any process. Address
    /// space for it is taken at once, storage only as it grows. Default: it never grows.
    pub fn max_len(mut self, max_len_bytes: u64) -> Self {
        self.max_len_bytes = Some(max_len_bytes);
        self
    }

    /// Unit of placement under [`Policy::FirstFit`]. Default: [`Granule::Sixteen`].
    pub fn granule(mut self, granule: Granule) -> Self {
        self.granule = granule;
        self
    }

    /// How objects are placed. Default: [`Policy::Scalable`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Permission bits, set exactly, whatever the umask. Default: `0o600`, the owner alone.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Numeric group that owns the heap. Default: the group of this process.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Has the heap lie at one address in every process, which is chosen now and recorded in it. So
    /// addresses of objects mean the same everywhere: raw pointers in objects, and collections that
    /// hold such, can be followed by all. Default: each process maps the heap where it has room.
    ///
    /// Whoever connects gets the heap at that address, or [`Error::AddressTaken`] if anything lies
    /// there; nothing is ever moved or replaced. Therefore a process connects to such a heap once
    /// at a time: a second [`Heap`] for it, also in a child forked with the first, is that error.
    ///
    /// The address is drawn from 48 TiB that are empty in ordinary programs on x86-64 and ARM64
    /// (with 48 bits of addresses). Two heaps of 1 GiB that one process connects to meet there once
    /// in 25,000 times, two of 1 TiB once in 25: where a process needs several large ones, give
    /// them places by [`at_address`](Self::at_address). Programs under ThreadSanitizer,
    /// MemorySanitizer or Valgrind may have no room there. Pointers to functions, and so objects
    /// with a table of them (`dyn Trait`, virtual functions), mean nothing in another process in
    /// spite of this.
    ///
    /// ```
    /// use shmheap::HeapOptions;
    /// use std::{alloc::Layout, ptr::NonNull};
    ///
    /// let heap = HeapOptions::new(1 << 20).same_address().create_memfd()?;
    /// let object = heap.alloc(Layout::new::<Option<NonNull<u8>>>())?;
    /// let next = heap.alloc(Layout::new::<u64>())?;
    /// // SAFETY: the object is ours, large enough and aligned.
    /// unsafe { object.cast().write(Some(next)) }; // a plain pointer, good in every process
    /// assert!(heap.is_same_address());
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn same_address(mut self) -> Self {
        self.address = Address::Chosen;
        self
    }

    /// As [`same_address`](Self::same_address), with this as the address at which the heap starts:
    /// for programs that have a plan of their address space. A multiple of 4096, or of 2 MiB under
    /// [`Policy::Scalable`], from 4 GiB on; [`max_len`](Self::max_len), a ninth more for records,
    /// and 2 MiB have to fit below 80 TiB. [`Heap::base`] lies behind the records.
    ///
    /// Creation fails with [`Error::InvalidOption`] for an address that cannot be, and with
    /// [`Error::AddressTaken`] if anything lies there in this process.
    pub fn at_address(mut self, address: NonZeroUsize) -> Self {
        self.address = Address::At(address);
        self
    }

    /// Has the heap's name go with its last process: whoever disconnects as the last removes it.
    /// Processes that were killed do not count, for the kernel says who lives. Default: a heap
    /// stays until [`Heap::destroy`].
    ///
    /// If the last processes are killed all at once, nobody is left to do it. Then the heap counts
    /// as gone: who wants to connect gets [`Error::NotFound`], and the memory is given back by
    /// whoever comes next, be it to connect, to create a heap of that name or any ephemeral one, or
    /// by [`sweep_abandoned`](crate::sweep_abandoned). Observers do not keep it. Where only its
    /// owner may remove it, as in `/dev/shm`, that is left to processes of that user; those of
    /// others may connect to it until then. A memfd is gone with its last process anyway.
    ///
    /// ```
    /// use shmheap::{Error, Heap, HeapOptions};
    /// # let name = format!("/doc-ephemeral-{}", std::process::id());
    /// let heap = HeapOptions::new(1 << 20).ephemeral().create(&name)?;
    /// let peer = Heap::connect(&name)?;
    /// drop(heap); // another is there
    /// assert!(Heap::connect(&name).is_ok());
    /// drop(peer);
    /// assert!(matches!(Heap::connect(&name), Err(Error::NotFound { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn ephemeral(mut self) -> Self {
        self.is_ephemeral = true;
        self
    }

    /// Has every object know who allocated it and what for, and lets the heap, each process and
    /// each tag have a quota: see [`Heap::with_tag`], [`Heap::set_quota`], [`Heap::usage`].
    /// Default: without, which costs next to nothing.
    ///
    /// With labels an allocation and its free take some 2,000 instructions more together, and
    /// threads and processes share counters: they scale no more. And memory: 353 KiB, and for each
    /// 64 KiB of object space 8 KiB under [`Policy::FirstFit`] (16 KiB with a granule of 8 bytes),
    /// under [`Policy::Scalable`] 2 KiB where objects are of 64 bytes and more, 8 KiB where they
    /// are of 16.
    pub fn labels(mut self) -> Self {
        self.has_labels = true;
        self
    }

    /// Creates a named heap in POSIX shared memory. The name follows `shm_open(3)`: an optional
    /// leading slash, no other, at most 254 bytes.
    ///
    /// The heap appears under its name complete or not at all: no process sees a half-made one, and
    /// a creator killed on the way leaves nothing under the name.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`], [`Error::InvalidName`], [`Error::InvalidOption`],
    /// [`Error::NoSpace`], [`Error::AddressSpace`], [`Error::AddressTaken`],
    /// [`Error::PermissionDenied`].
    pub fn create(&self, name: impl AsRef<OsStr>) -> Result<Heap> {
        Heap::create_named(name.as_ref(), self)
    }

    /// Connects to the heap of that name, or creates it if there is none: for programs that do not
    /// care who is first. A heap that stands keeps the options that it was made with.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`Heap::connect`], but for [`Error::AlreadyExists`] and
    /// [`Error::NotFound`].
    ///
    /// ```
    /// use shmheap::{Heap, HeapOptions};
    /// # let name = format!("/doc-either-{}", std::process::id());
    /// let options = HeapOptions::new(1 << 20).ephemeral();
    /// let first = options.connect_or_create(&name)?;
    /// let second = options.connect_or_create(&name)?;
    /// assert_eq!(first.info().id, second.info().id);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn connect_or_create(&self, name: impl AsRef<OsStr>) -> Result<Heap> {
        let name = name.as_ref();
        loop {
            match Heap::connect(name) {
                Err(Error::NotFound { .. }) => {}
                connected => return connected,
            }
            match self.create(name) {
                // Made, and perhaps removed again, since the look.
                Err(Error::AlreadyExists { .. }) => {}
                created => return created,
            }
        }
    }

    /// Creates a heap in a regular file on disk.
    ///
    /// The file outlives a reboot, but only a clean one: after a power failure its content is
    /// whatever the file system kept.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<Heap> {
        Heap::create_in_file(path.as_ref(), self)
    }

    /// Creates a heap without a name, in a memfd: it is passed on with
    /// [`Heap::send_to`] or inherited, and is gone with its last process.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_memfd(&self) -> Result<Heap> {
        Heap::create_in_memfd(self)
    }
}
