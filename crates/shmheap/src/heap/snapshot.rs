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
//! - *Homes*, the words that say that a cell is one of this heap, say it of the copy.
//! - *Peers* are not copied, but how often each slot was taken is, after all that names them: who
//!   joins the copy is another than any who held something in the heap.
//! - *The header's cells* come first: what they name is in the records.
//! - *Labels* come last, object by object, through a connection to the copy: so their lanes have
//!   storage, and the counters are what the copy has. A label may be that of an object that came
//!   later to the same place.
//!
//! Not promised is that two objects are of one moment, or that what one names by a handle is there:
//! it may have come or gone meanwhile. For what types own, the object layer sees to that before the
//! copy gets its name (`object/snapshot`). Who needs more holds a lock that the others take.

use std::time::{Duration, Instant};

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
/// Bits of the id that the copy has in common with the heap: those that handles are mixed with.
const ID_BITS_KEPT: u128 = u16::MAX as u128;
/// How long an observer looks for a moment at which a first-fit heap rests.
const PATIENCE: Duration = Duration::from_secs(1);

/// The heap that is being made.
struct Copy {
    object: Object,
    shape: Shape,
    mapping: Mapping,
}

impl Heap {
    /// A copy of the heap there, to which `finish` is connected before others can be.
    pub(crate) fn snapshot_at(
        &self,
        at: &ObjectPath,
        finish: impl FnOnce(&Heap) -> Result<()>,
    ) -> Result<()> {
        let Unpublished { object, name } = Unpublished::create(at, MODE, None)?;
        let copy = Copy::new(object.keep()?, self.shape.identity)?;
        let cells = [format::ROOTS_AT, format::SHARED_AT];
        let mut held = [0; 2];
        for (held, cell) in held.iter_mut().zip(cells) {
            *held = self.settled(cell, self.words().load(cell))?;
        }
        match &self.shape.engine {
            Engine::FirstFit(engine) => self.copy_row(engine, &copy)?,
            Engine::Slabs(slabs) => self.copy_slabs(slabs, &copy)?,
        }
        self.copy_joins(&copy)?;
        let words = copy.words();
        for (cell, content) in cells.into_iter().zip(held) {
            words.store(cell, content);
        }
        for (at, word) in (0..).map(WordIndex).zip(copy.shape.identity.words()) {
            words.store(at, word);
        }
        let there = copy.connect(name.reopen(&copy.object)?)?;
        if let Some(labels) = &self.shape.labels {
            self.copy_labels(labels, &there)?;
        }
        finish(&there)?;
        drop(there);
        name.give(&copy.object)
    }

    /// Gives the objects of a copy that is complete otherwise their labels.
    fn copy_labels(&self, labels: &labels::Layout, there: &Heap) -> Result<()> {
        let tally = there.tally(labels);
        for block in there.blocks().filter(|block| block.live) {
            let object = there.resolve(block.handle)?;
            if let Some(label) = self.label_at(block.offset_bytes) {
                tally.exchange(there.lane_of(labels, object)?.0, Some(label));
            }
        }
        self.tally(labels).copy_to(&tally);
        match there.recount_labels()? {
            true => Ok(()),
            false => Err(Error::Damaged { what: "the records of labels" }),
        }
    }

    /// Copies a heap of first fit.
    fn copy_row(&self, engine: &FirstFit, copy: &Copy) -> Result<()> {
        let mut len_bytes = self.len_bytes();
        copy.reserve_row(0, len_bytes)?;
        let end = Instant::now() + PATIENCE;
        loop {
            if self.copy_row_records(engine, copy, len_bytes)? {
                break;
            }
            let longer_bytes = self.len_bytes();
            if longer_bytes > len_bytes {
                copy.reserve_row(len_bytes, longer_bytes)?;
                len_bytes = longer_bytes;
            } else if !self.is_read_only() {
                return Err(Error::Damaged { what: "the length of the heap" });
            } else if Instant::now() >= end {
                return Err(Error::ReadOnly { action: "copy a first-fit heap that is at work" });
            }
            std::thread::yield_now();
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

    /// Copies bytes of object space, with cells that are in the middle of nothing, and are at home
    /// in the copy.
    fn copy_bytes(&self, copy: &Copy, start: u64, end: u64) -> Result<()> {
        let range = self.shape.end_of_data(start)..self.shape.end_of_data(end);
        let (home, new_home) = (self.home_id(), copy.shape.home_id());
        self.connection.object().copy_to(&copy.object, range, |start, bytes| {
            let (words, _) = bytes.as_chunks_mut::<{ WORD_BYTES as usize }>();
            for (at, bytes) in (start..).step_by(WORD_BYTES as usize).zip(words) {
                let word = u64::from_le_bytes(*bytes);
                let new = match word == home {
                    true => new_home,
                    false => self.settled(Offset(at).word(), word)?,
                };
                if new != word {
                    *bytes = new.to_le_bytes();
                }
            }
            Ok(())
        })
    }

    fn settled(&self, cell: WordIndex, word: u64) -> Result<u64> {
        self.ledger().settled(cell, word, &|count| match self.is_read_only() {
            true => Ok(()),
            false => self.reserve_threads(count),
        })
    }

    /// Says of each slot in the copy how often it was taken, and that it is free.
    fn copy_joins(&self, copy: &Copy) -> Result<()> {
        let (records, words) = (copy.shape.records, copy.words());
        let used = records.used(&self.words());
        if !self.is_read_only() {
            self.reserve_processes(used)?;
        }
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

    /// A connection to the copy, which is complete, through another description of it. There it is
    /// anywhere: at its address, if it has one, is the heap.
    fn connect(&self, again: Object<Fresh>) -> Result<Heap> {
        let refuse = |why: NotAHeap| Error::NotAHeap { name: again.label().to_owned(), why };
        let identity = Identity { address: 0, ..self.shape.identity };
        let shape = Shape::of_identity(identity).map_err(refuse)?;
        Heap::connected(again, shape, self.shape.len_bytes(&self.words(), Area::FIRST))
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
