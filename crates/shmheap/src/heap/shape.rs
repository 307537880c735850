//! From options, or from a stranger's header, to offsets: where everything in a segment lies.
//!
//! A header is believed only if the offsets it states are those that this library computes from
//! its options: nothing read from a segment is used as an offset itself.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::error::NotAHeap;
use crate::first_fit::layout::{
    AREAS, Area, FAN_OUT, HEAD_WORDS, Layout, REGION_GRANULES, REGION_WORDS,
};
use crate::first_fit::{FirstFit, HeaderWords};
use crate::heap::address::{self, Address};
use crate::heap::{Granule, HeapOptions, Policy};
use crate::labels;
use crate::os::process;
use crate::peers::{
    ENTRY_WORDS, RECORD_WORDS, RECORDS, RecordTable, THREAD_WORDS, THREADS, ThreadTable,
};
use crate::segment::format::{self, EPHEMERAL, Identity, KEPT, LABELLED, PLAIN};
use crate::segment::words::Words;
use crate::slab::layout::StateBlock;
use crate::slab::{self, CLASS_COUNT, Slabs, UNIT_BYTES};
use crate::units::{Offset, PAGE_BYTES, WORD_BYTES, round_up};
use crate::{Error, Result};

/// The header's number of each policy.
const FIRST_FIT: u64 = 1;
const SCALABLE: u64 = 2;

/// Object space of the scalable policy starts at a multiple of the largest alignment of an object.
const SLAB_ALIGN_BYTES: u64 = slab::ALIGN_BYTES_MAX;

/// Changes with every constant that places something, so that a library with other constants
/// refuses the segment instead of misreading it.
const LAYOUT: u64 = format::fingerprint(&[
    format::RECORDS.0,
    RECORDS as u64,
    RECORD_WORDS,
    THREADS as u64,
    THREAD_WORDS,
    ENTRY_WORDS,
    format::THREADS_USED_AT.0,
    format::PROCESSES_USED_AT.0,
    REGION_GRANULES,
    REGION_WORDS,
    FAN_OUT,
    format::LENGTH_AT.0,
    format::LOCK_AT.0,
    format::CURRENT_AT.0,
    format::PINS_AT.0,
    AREAS,
    HEAD_WORDS,
    PAGE_BYTES,
    UNIT_BYTES,
    CLASS_COUNT as u64,
    SLAB_ALIGN_BYTES,
    labels::layout::HEAD_WORDS,
    labels::layout::TAGS,
    labels::layout::TAG_WORDS,
    labels::layout::PEER_WORDS,
    labels::layout::LABELS,
    labels::layout::LABEL_WORDS,
    labels::layout::LANE_BITS,
]);

/// The first byte behind the process records, where the thread records start.
pub(super) const END_OF_PROCESSES: Offset =
    Offset(format::RECORDS.0 + RECORDS as u64 * RECORD_WORDS * WORD_BYTES);
const THREAD_TABLE: ThreadTable =
    ThreadTable::new(END_OF_PROCESSES.word(), THREADS, format::THREADS_USED_AT);
/// The first byte behind the records that every heap has, where those of the policy start.
pub(super) const END_OF_RECORDS: Offset = THREAD_TABLE.end();

/// The engine of the heap's policy.
#[derive(Debug)]
pub(super) enum Engine {
    FirstFit(FirstFit),
    Slabs(Slabs),
}

/// Where everything in one segment lies; private to the process.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) identity: Identity,
    pub(super) granule: Granule,
    pub(super) policy: Policy,
    pub(super) data_offset: Offset,
    pub(super) records: RecordTable,
    pub(super) threads: ThreadTable,
    pub(super) engine: Engine,
    /// Where the records of labels lie, if objects have any.
    pub(super) labels: Option<labels::Layout>,
    /// How many words of the segment's start are records.
    pub(super) word_count: u64,
    /// `granule_bytes` is this power of two.
    granule_shift: u32,
}

impl Shape {
    /// The shape of a new heap, and its length in bytes at the start.
    pub(super) fn of_options(options: &HeapOptions) -> Result<(Self, u64)> {
        let granule_bytes = options.granule.bytes();
        let (policy, unit_bytes) = match options.policy {
            Policy::FirstFit => (FIRST_FIT, granule_bytes),
            Policy::Scalable => (SCALABLE, UNIT_BYTES),
        };
        let len_bytes = whole_units("len", options.len_bytes, unit_bytes)?;
        let max_len_bytes = match options.max_len_bytes {
            None => len_bytes,
            Some(bytes) => whole_units("max_len", bytes, unit_bytes)?,
        };
        if max_len_bytes < len_bytes {
            let why = "it is less than the length at the start";
            return Err(Error::InvalidOption { option: "max_len", value: max_len_bytes, why });
        }
        let mut identity = Identity {
            layout: LAYOUT,
            policy,
            granule_bytes,
            len_max_bytes: max_len_bytes,
            data_offset: Offset(0),
            peer_limit: u64::from(RECORDS),
            created_unix_ns: process::unix_time_ns(),
            id: process::random_bits()?,
            address: 0,
            lifetime: if options.is_ephemeral { EPHEMERAL } else { KEPT },
            labels: if options.has_labels { LABELLED } else { PLAIN },
        };
        let shape = Self::new(identity).ok_or(Error::InvalidOption {
            option: "max_len",
            value: max_len_bytes,
            why: "no heap is that large",
        })?;
        identity.data_offset = shape.data_offset;
        identity.address = shape.first_address(options.address)?;
        Ok((Self { identity, ..shape }, len_bytes))
    }

    /// The shape that a header describes, if it is one that this library would make.
    pub(super) fn of_identity(identity: Identity) -> Result<Self, NotAHeap> {
        let shape = Self::new(identity).ok_or(NotAHeap::BadHeader("options"))?;
        let matches = identity.layout == LAYOUT
            && identity.data_offset == shape.data_offset
            && identity.peer_limit == u64::from(RECORDS);
        if !matches {
            return Err(NotAHeap::BadHeader("layout"));
        }
        if !matches!(identity.lifetime, KEPT | EPHEMERAL) {
            return Err(NotAHeap::BadHeader("lifetime"));
        }
        if !matches!(identity.labels, PLAIN | LABELLED) {
            return Err(NotAHeap::BadHeader("labels"));
        }
        match identity.address {
            0 => Ok(shape),
            address if shape.may_start_at(address) => Ok(shape),
            _ => Err(NotAHeap::BadHeader("address")),
        }
    }

    /// Whether the heap is removed with its last process.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.identity.lifetime == EPHEMERAL
    }

    /// Where a new heap has to start, or may start as the first choice; 0: anywhere.
    fn first_address(&self, address: Address) -> Result<u64> {
        let bytes = self.mapped_bytes();
        match address {
            Address::Any => Ok(0),
            Address::Chosen => {
                let first = address::choices(self.identity.id, bytes).next();
                first.map(|first| first.get() as u64).ok_or(Error::InvalidOption {
                    option: "max_len",
                    value: self.identity.len_max_bytes,
                    why: "a heap with an address of its own has 48 TiB at the most, its records \
                          included; choose the address yourself, or none",
                })
            }
            Address::At(at) if self.may_start_at(at.get() as u64) => Ok(at.get() as u64),
            Address::At(at) => Err(Error::InvalidOption {
                option: "address",
                value: at.get() as u64,
                why: "the heap must start at a multiple of 4096, under the scalable policy of \
                      2 MiB, and lie between 4 GiB and 80 TiB with all it may grow to",
            }),
        }
    }

    fn may_start_at(&self, address: u64) -> bool {
        address::is_possible(address, self.mapped_bytes(), self.align_bytes())
    }

    /// Where the segment has to be mapped, if not anywhere.
    pub(super) fn address(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.identity.address as usize)
    }

    fn new(identity: Identity) -> Option<Self> {
        let granule = Granule::from_bytes(identity.granule_bytes).ok()?;
        let (bytes, len_max) = (granule.bytes(), identity.len_max_bytes);
        if len_max > format::LEN_MAX_BYTES {
            return None;
        }
        let has_labels = identity.labels != PLAIN;
        let labels_behind = |end: Offset, places, states| match has_labels {
            true => labels::Layout::new(end, places, states).map(Some),
            false => Some(None),
        };
        let (policy, engine, records_end, labels) = match identity.policy {
            FIRST_FIT if len_max.is_multiple_of(bytes) => {
                let layout = Layout::new(END_OF_RECORDS, len_max / bytes)?;
                let header = HeaderWords {
                    lock: format::LOCK_AT,
                    current: format::CURRENT_AT,
                    pins: format::PINS_AT,
                    length: format::LENGTH_AT,
                };
                let labels = labels_behind(layout.end(), len_max / bytes, 0)?;
                let engine = FirstFit::new(&layout, header, THREAD_TABLE, bytes);
                (Policy::FirstFit, Engine::FirstFit(engine), layout.end(), labels)
            }
            SCALABLE if len_max.is_multiple_of(UNIT_BYTES) => {
                let layout = slab::layout::Layout::new(END_OF_RECORDS, len_max / UNIT_BYTES)?;
                let states = layout.states();
                let labels =
                    labels_behind(layout.end(), len_max / UNIT_BYTES, states.end - states.start)?;
                let engine = Slabs::new(&layout, format::LENGTH_AT);
                (Policy::Scalable, Engine::Slabs(engine), layout.end(), labels)
            }
            _ => return None,
        };
        let align_bytes = data_align_bytes(policy);
        let records_end = labels.as_ref().map_or(records_end, labels::Layout::end);
        let data_offset = round_up(records_end.0, align_bytes)?;
        let word_count = match &engine {
            Engine::FirstFit(_) => Offset(data_offset).word().0,
            Engine::Slabs(slabs) => Offset(slabs.layout().states().start).word().0,
        };
        Some(Self {
            identity,
            granule,
            policy,
            word_count,
            data_offset: Offset(data_offset),
            records: RecordTable::new(format::RECORDS.word(), RECORDS, format::PROCESSES_USED_AT),
            threads: THREAD_TABLE,
            engine,
            labels,
            granule_shift: bytes.trailing_zeros(),
        })
    }

    /// The byte ranges of the policy's records, in the area, that must have storage before the heap
    /// goes from `from_bytes` bytes of object space to `to_bytes`.
    pub(super) fn records_storage(
        &self,
        area: Area,
        from_bytes: u64,
        to_bytes: u64,
    ) -> Vec<Range<u64>> {
        let ((from, to), mut ranges) = match &self.engine {
            Engine::FirstFit(engine) => {
                let (from, to) = (self.granules(from_bytes), self.granules(to_bytes));
                ((from, to), engine.layout().storage(area, from, to))
            }
            Engine::Slabs(slabs) => {
                let (from, to) = (from_bytes / UNIT_BYTES, to_bytes / UNIT_BYTES);
                ((from, to), slabs.layout().storage(from, to))
            }
        };
        if let Some(labels) = &self.labels {
            if from == 0 {
                ranges.push(labels.tables());
            }
            ranges.push(labels.places_storage(from, to));
        }
        ranges
    }

    /// The byte ranges that must have storage before an object has a state of the block.
    pub(super) fn states_storage(&self, slabs: &Slabs, block: StateBlock) -> Vec<Range<u64>> {
        let layout = slabs.layout();
        let (bytes, first) = (layout.block_bytes(block), layout.states().start);
        let lanes =
            |labels: &labels::Layout| labels.states_storage(bytes.start - first..bytes.end - first);
        let of_labels = self.labels.as_ref().map(lanes);
        [bytes.clone()].into_iter().chain(of_labels).collect()
    }

    /// Which bytes of the segment are states of objects.
    pub(super) fn states(&self) -> Range<u64> {
        match &self.engine {
            Engine::FirstFit(_) => 0..0,
            Engine::Slabs(slabs) => slabs.layout().states(),
        }
    }

    /// How many blocks of states there are, which get storage one by one.
    pub(super) fn state_block_count(&self) -> u64 {
        match &self.engine {
            Engine::FirstFit(_) => 0,
            Engine::Slabs(slabs) => slabs.layout().block_count(),
        }
    }

    /// The area of the records that readers look at.
    #[inline]
    pub(super) fn current_area(&self, words: &impl Words) -> Area {
        match &self.engine {
            Engine::FirstFit(engine) => engine.current(words),
            Engine::Slabs(_) => Area::FIRST,
        }
    }

    /// Bytes of object space now, as the area has it. Hostile lengths are cut to what the records
    /// are made for.
    #[inline]
    pub(super) fn len_bytes(&self, words: &impl Words, area: Area) -> u64 {
        match &self.engine {
            Engine::FirstFit(engine) => self.bytes(engine.end(words, area).0),
            Engine::Slabs(slabs) => slabs.end(words).start().0,
        }
    }

    /// What the length of the heap is a multiple of.
    pub(super) fn unit_bytes(&self) -> u64 {
        match self.policy {
            Policy::FirstFit => self.granule_bytes(),
            Policy::Scalable => UNIT_BYTES,
        }
    }

    /// What the address of the segment must be a multiple of.
    pub(super) fn align_bytes(&self) -> u64 {
        data_align_bytes(self.policy)
    }

    #[inline]
    pub(super) fn granule_bytes(&self) -> u64 {
        1 << self.granule_shift
    }

    /// How many granules hold so many bytes.
    #[inline]
    pub(super) fn granules(&self, bytes: u64) -> u64 {
        (bytes >> self.granule_shift) + u64::from(bytes & (self.granule_bytes() - 1) != 0)
    }

    /// How many bytes so many granules are.
    #[inline]
    pub(super) fn bytes(&self, granules: u64) -> u64 {
        granules << self.granule_shift
    }

    /// The first byte behind an object space of `len_bytes`.
    pub(super) fn end_of_data(&self, len_bytes: u64) -> u64 {
        self.data_offset.0 + len_bytes
    }

    /// What the generations in handles are mixed with, so that those of another heap do not fit.
    #[inline]
    pub(super) fn handle_salt(&self) -> u64 {
        u64::from(self.identity.id as u16)
    }

    /// What tells the cells of this heap's values from those of other heaps.
    #[inline]
    pub(super) fn home_id(&self) -> u64 {
        self.identity.id as u64
    }

    /// What the mapping of the segment covers.
    pub(super) fn mapped_bytes(&self) -> u64 {
        self.end_of_data(self.identity.len_max_bytes)
    }
}

/// What object space starts at a multiple of.
fn data_align_bytes(policy: Policy) -> u64 {
    match policy {
        Policy::FirstFit => PAGE_BYTES,
        Policy::Scalable => SLAB_ALIGN_BYTES,
    }
}

fn whole_units(option: &'static str, bytes: u64, unit_bytes: u64) -> Result<u64> {
    let refuse = |why| Err(Error::InvalidOption { option, value: bytes, why });
    match round_up(bytes, unit_bytes) {
        Some(0) => refuse("a heap has room for one object at the least"),
        Some(rounded) if rounded <= format::LEN_MAX_BYTES => Ok(rounded),
        _ => refuse("no heap is larger than 64 TiB"),
    }
}
