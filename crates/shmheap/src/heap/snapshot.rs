//! Snapshots: a copy of a heap that is a heap itself, taken while others work.
//!
//! ```text
//!   names, shared    records of       bytes of        joins of       copy gets
//!   values: cells -> the engine    -> the objects  -> the peers   -> its name
//!      of the header    (first_fit/copy, slab/copy)
//! ```
//!
//! The heap is not held still, so the copy is of no single moment. Still it is a sound heap, in
//! which each object that lived all the time is there, under the same handle:
//!
//! - *Records* are those of one moment under first fit, whose lock is held for them alone, and of
//!   one moment for each slab and large object under the scalable policy. All peers are dead for
//!   the copy, as it has none of their locks; so it is made as if all had left: nothing is
//!   announced, claimed or owned in it.
//! - *Bytes* come after the records. An object that the records have was made before, so what it
//!   was first filled with is there, or what came later. What a page had is of one moment, if it
//!   stood still for one: see `os/copying`.
//! - *Cells* that were in the middle of a hand-over get their object, as if the hand-over had just
//!   been done or not begun; in the copy, nobody would end it. An object that was in a hand stays:
//!   whether its process was about to give it away, and the cell was copied after that, cannot be
//!   known, and to free it might free what is in use. So it is an object that nothing leads to.
//! - *Peers* are not copied, but how often each slot was taken is, after all that names them: who
//!   joins the copy is another than any who held something in the heap.
//! - *Labels* come last, object by object, through a connection to the copy: so their lanes have
//!   storage, and the counters are what the copy has. A label may be that of an object that came
//!   later to the same place.
//! - *The header's cells* come first. The chains that they begin only ever grow, so what they name
//!   is in the records. A later link of a chain may be missing in them; who adds the next finds
//!   that out (`object/registry/chain`).
//!
//! Not promised is that two objects are of one moment, or that what one names by a handle is there:
//! it may have come or gone meanwhile. Who needs more than that holds a lock that the others take.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::NotAHeap;
use crate::first_fit::layout::Area;
use crate::first_fit::{FirstFit, Surroundings};
use crate::heap::Heap;
use crate::heap::connection::Host;
use crate::heap::scalable::Records;
use crate::heap::shape::{Engine, Shape};
use crate::heap::storage::Ensured;
use crate::labels;
use crate::os::{Fresh, Futex, Mapping, Object, ObjectPath, Unpublished, process};
use crate::segment::fault::Fault;
use crate::segment::format::{self, Identity};
use crate::segment::states::StateRow;
use crate::segment::words::{Row, Words};
use crate::slab::layout::StateBlock;
use crate::slab::{self, Actor, Slabs, UNIT_BYTES, Unit};
use crate::units::{Offset, PAGE_BYTES, PeerSlot, WORD_BYTES, WordIndex};
use crate::{Error, Result};

/// Permissions of a copy: those who made it decide who else may have it.
const MODE: u32 = 0o600;
/// Bits of the id that the copy has in common with the heap: handles are mixed with some of them,
/// and the cells of values tell by them that they are at home.
const ID_BITS_KEPT: u128 = u64::MAX as u128;
/// How often an observer tries to find a first-fit heap at rest.
const TRIES: u32 = 20;

/// The heap that is being made.
struct Copy {
    object: Object,
    shape: Shape,
    mapping: Mapping,
}

impl Heap {
    /// Copies the heap to a new one of that name, while others work in it. In the copy are all
    /// objects that lived while it was made, under the same handles, with their names; nobody is
    /// connected to it. What changed meanwhile may be there as before or after, object by object:
    /// who needs several as of one moment keeps the others from changing them.
    ///
    /// The copy has an id of its own, mode `0o600`, and the same address if the heap was made with
    /// [`same_address`](crate::HeapOptions::same_address). Objects that were unpublished stay in it
    /// as ordinary ones that nothing leads to. It stays until it is destroyed, also if the heap was
    /// made [`ephemeral`](crate::HeapOptions::ephemeral).
    ///
    /// Under [`Policy::FirstFit`](crate::Policy::FirstFit) others wait while the records are
    /// copied, 2.5 % of the heap's length, but no longer than for a process that is stopped.
    /// Through a read-only connection such a heap can be copied only if it is at rest for that
    /// long.
    ///
    /// Killed inside: there is no copy.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`], [`Error::InvalidName`], [`Error::NoSpace`],
    /// [`Error::PermissionDenied`]; [`Error::ReadOnly`] for a first-fit heap at work,
    /// [`Error::Damaged`].
    ///
    /// ```
    /// use shmheap::Heap;
    /// use std::alloc::Layout;
    /// # let name = format!("/doc-snapshot-{}", std::process::id());
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// let object = heap.alloc_zeroed(Layout::new::<u64>())?;
    /// heap.snapshot(&name)?;
    /// let copy = Heap::connect_read_only(&name)?;
    /// assert!(copy.resolve(heap.handle(object)?).is_ok());
    /// # Heap::destroy(&name)?;
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn snapshot(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.snapshot_at(&ObjectPath::named(name.as_ref())?)
    }

    /// As [`snapshot`](Self::snapshot), to a heap in a file, which
    /// [`connect_file_read_only`](Self::connect_file_read_only) looks into, and whose own snapshot
    /// brings it back.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn snapshot_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.snapshot_at(&ObjectPath::file(path.as_ref())?)
    }

    fn snapshot_at(&self, at: &ObjectPath) -> Result<()> {
        let Unpublished { object, name } = Unpublished::create(at, MODE, None)?;
        let copy = Copy::new(object.keep()?, self.shape.identity)?;
        let cells = [format::ROOTS_AT, format::SHARED_AT];
        let cells = cells.map(|cell| (cell, self.settled(cell, self.words().load(cell))));
        match &self.shape.engine {
            Engine::FirstFit(engine) => self.copy_row(engine, &copy)?,
            Engine::Slabs(slabs) => self.copy_slabs(slabs, &copy)?,
        }
        self.copy_joins(&copy)?;
        let words = copy.words();
        for (cell, content) in cells {
            words.store(cell, content);
        }
        for (at, word) in (0..).map(WordIndex).zip(copy.shape.identity.words()) {
            words.store(at, word);
        }
        if let Some(labels) = &self.shape.labels {
            self.copy_labels(labels, &copy, name.reopen(&copy.object)?)?;
        }
        name.give(&copy.object)
    }

    /// Gives the objects of a copy that is complete otherwise their labels, through `again`.
    fn copy_labels(
        &self,
        labels: &labels::Layout,
        copy: &Copy,
        again: Object<Fresh>,
    ) -> Result<()> {
        let refuse = |why: NotAHeap| Error::NotAHeap { name: self.label.clone(), why };
        // Here it is not at its address: there is the heap, if it has one.
        let identity = Identity { address: 0, ..copy.shape.identity };
        let shape = Shape::of_identity(identity).map_err(refuse)?;
        let len_bytes = copy.shape.len_bytes(&copy.words(), Area::FIRST);
        let there = Heap::connected(again, shape, len_bytes)?;
        let tally = there.tally(labels);
        for block in there.blocks().filter(|block| block.live) {
            let object = there.resolve(block.handle)?;
            if let Some(label) = self.label_at(block.offset_bytes) {
                tally.exchange(there.lane_of(labels, object)?.0, Some(label));
            }
        }
        self.tally(labels).copy_to(&tally);
        there.recount_labels().map(drop)
    }

    /// Copies a heap of first fit.
    fn copy_row(&self, engine: &FirstFit, copy: &Copy) -> Result<()> {
        let mut len_bytes = self.len_bytes();
        copy.reserve_row(0, len_bytes)?;
        let mut tries = 0;
        loop {
            tries += 1;
            if self.copy_row_records(engine, copy, len_bytes)? {
                break;
            }
            let longer_bytes = self.len_bytes();
            if longer_bytes > len_bytes {
                copy.reserve_row(len_bytes, longer_bytes)?;
                len_bytes = longer_bytes;
            } else if tries == TRIES {
                return Err(Error::ReadOnly { action: "copy a first-fit heap that is at work" });
            }
        }
        let runs = engine.live_runs(&copy.words(), self.shape.granules(PAGE_BYTES));
        for run in runs {
            self.copy_bytes(copy, self.shape.bytes(run.start), self.shape.bytes(run.end))?;
        }
        Ok(())
    }

    /// Whether it was done; not if the heap has become longer than that, or does not rest.
    fn copy_row_records(&self, engine: &FirstFit, copy: &Copy, len_bytes: u64) -> Result<bool> {
        let (host, granules) = (Host(self), self.shape.granules(len_bytes));
        if self.is_read_only() {
            let area = engine.current(&self.words());
            let known = host.ensure_storage(area, self.shape.granules(self.len_bytes_in(area)));
            known.map_err(|fault| self.explain(fault, 0))?;
            return Ok(engine.copy_if_quiet(&self.words(), &host, &copy.words(), granules));
        }
        let session = engine.operator(self.words(), self.me("copy")?, &host).session();
        let session = session.map_err(|fault| self.explain(fault, 0))?;
        let fits = session.end().0 <= granules;
        if fits {
            session.copy_to(&copy.words());
        }
        Ok(fits)
    }

    /// Copies a heap of slabs.
    fn copy_slabs(&self, slabs: &Slabs, copy: &Copy) -> Result<()> {
        let copied = self.reader(slabs).copy_to(&copy.records(), copy);
        let filled = copied.map_err(|fault| match fault {
            Fault::NoStorage => copy.object.no_space(UNIT_BYTES),
            fault => self.explain(fault, 0),
        })?;
        for units in filled {
            let (start, end) = (units.start.start().0, units.end.start().0);
            copy.object.reserve(self.shape.end_of_data(start)..self.shape.end_of_data(end))?;
            self.copy_bytes(copy, start, end)?;
        }
        copy.make_hints(slabs).map_err(|fault| self.explain(fault, 0))
    }

    /// Copies bytes of object space, with cells that are in the middle of nothing.
    fn copy_bytes(&self, copy: &Copy, start: u64, end: u64) -> Result<()> {
        let range = self.shape.end_of_data(start)..self.shape.end_of_data(end);
        self.connection.object().copy_to(&copy.object, range, |start, bytes| {
            let (words, _) = bytes.as_chunks_mut::<{ WORD_BYTES as usize }>();
            for (at, bytes) in (start..).step_by(WORD_BYTES as usize).zip(words) {
                let word = u64::from_le_bytes(*bytes);
                let settled = self.settled(Offset(at).word(), word);
                if settled != word {
                    *bytes = settled.to_le_bytes();
                }
            }
        })
    }

    fn settled(&self, cell: WordIndex, word: u64) -> u64 {
        self.ledger().settled(cell, word)
    }

    /// Says of each slot in the copy how often it was taken, and that it is free.
    fn copy_joins(&self, copy: &Copy) -> Result<()> {
        let (records, words) = (copy.shape.records, copy.words());
        let used = self.processes_used().unwrap_or(0);
        copy.object.reserve(records.storage(used.max(1)))?;
        records.raise_used(&words, used);
        for slot in records.slots().take(usize::from(used)) {
            records.set_joins(&words, slot, records.joins(&self.words(), slot));
        }
        Ok(())
    }
}

impl Copy {
    /// An empty object as a segment of zeros, with storage for the records that every heap has.
    fn new(object: Object, of: Identity) -> Result<Self> {
        let id = process::random_bits()?;
        let id = id & !ID_BITS_KEPT | of.id & ID_BITS_KEPT;
        // Nobody is connected to it: one that goes with its last process would be gone at once.
        let lifetime = format::KEPT;
        let created_unix_ns = process::unix_time_ns();
        let identity = Identity { id, lifetime, created_unix_ns, ..of };
        let refuse = |why: NotAHeap| Error::NotAHeap { name: object.label().to_owned(), why };
        let shape = Shape::of_identity(identity).map_err(refuse)?;
        object.reserve(0..shape.records.storage(1).end)?;
        object.reserve(shape.threads.storage(1))?;
        // Wherever there is room: at the heap's own address, if it has one, is the heap.
        let mapping = Mapping::aligned(&object, shape.mapped_bytes(), shape.align_bytes())?;
        let mapping = mapping.with_states(shape.states());
        Ok(Self { object, shape, mapping })
    }

    fn words(&self) -> Row<'_, Futex> {
        Row::new(self.mapping.words(self.shape.word_count), Futex)
    }

    fn records(&self) -> Records<'_> {
        Records::new(self.words(), StateRow(self.mapping.states()))
    }

    /// Storage for what is between two lengths, objects and records.
    fn reserve_row(&self, from_bytes: u64, to_bytes: u64) -> Result<()> {
        let shape = &self.shape;
        self.object.reserve(shape.end_of_data(from_bytes)..shape.end_of_data(to_bytes))?;
        for range in shape.records_storage(Area::FIRST, from_bytes, to_bytes) {
            self.object.reserve(range)?;
        }
        Ok(())
    }

    fn make_hints(&self, slabs: &Slabs) -> Result<(), Fault> {
        // Nobody else is there, so any peer's number will do.
        let notes =
            self.shape.threads.record(0).map(|record| self.shape.threads.first_note(record));
        let actor = Actor { peer: PeerSlot(0), notes: notes.unwrap_or(Actor::NOBODY.notes) };
        slabs.worker(self.records(), Ensured, actor).sweep()
    }
}

impl slab::Site for Copy {
    /// Also for the last page of the units: so the object is long enough. The units themselves are
    /// holes, until they are found to have something in them.
    fn ensure_units(&self, end: Unit) -> Result<(), Fault> {
        let len_bytes = end.start().0;
        let end = self.shape.end_of_data(len_bytes);
        let mut ranges = self.shape.records_storage(Area::FIRST, 0, len_bytes);
        ranges.push(end.saturating_sub(PAGE_BYTES)..end);
        let mut ranges = ranges.into_iter();
        ranges.try_for_each(|range| self.object.reserve(range)).map_err(|_| Fault::NoStorage)
    }

    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault> {
        let Engine::Slabs(slabs) = &self.shape.engine else { return Ok(()) };
        let mut ranges = self.shape.states_storage(slabs, block).into_iter();
        ranges.try_for_each(|range| self.object.reserve(range)).map_err(|_| Fault::NoStorage)
    }
}
