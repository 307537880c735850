//! FORMAT.md says what the constants say: every number of its tables is looked up here.

use std::alloc;
use std::os::unix::fs::FileExt;

use crate::first_fit::layout::{
    AREAS, Area, COUNTERS, DONE, FAN_OUT, HELPED, JOURNAL, LENGTH, Layout, REGION_GRANULES,
    REGION_WORDS,
};
use crate::heap::HeapOptions;
use crate::heap::address::{ADDRESS_END, ADDRESS_MIN};
use crate::heap::shape::{END_OF_PROCESSES, END_OF_RECORDS, Shape};
use crate::labels::layout::{
    HEAD_WORDS as LABELS_HEAD_WORDS, LABEL_WORDS, LABELS, PEER_WORDS, TAG_WORDS, TAGS,
};
use crate::labels::tags::NAME_BYTES_MAX;
use crate::peers::ledger::TAG_MARK;
use crate::peers::threads::ENTRIES;
use crate::peers::{ENTRY_WORDS, RECORD_WORDS, RECORDS, THREAD_WORDS, THREADS};
use crate::segment::format::{
    ADDRESS_AT, CHECKSUM_AT, CREATED_AT, CURRENT_AT, DATA_OFFSET_AT, GRANULE_AT, HEADER_BYTES,
    ID_AT, LABELS_AT, LAYOUT_AT, LEN_MAX_AT, LEN_MAX_BYTES, LENGTH_AT, LOCK_AT, MAGIC_AT, PEERS_AT,
    PINS_AT, POLICY_AT, PROCESSES_USED_AT, PROLOGUE_BYTES, RECORDS as RECORDS_AT, ROOTS_AT,
    SHARED_AT, THREADS_USED_AT, VERSION, VERSION_AT,
};
use crate::segment::states::GENERATION_BITS;
use crate::slab::layout::{BLOCK_UNITS, GROUP_UNITS, GROUP_WORDS};
use crate::slab::{self, ALIGN_BYTES_MAX, CLASS_COUNT, Class, UNIT_BYTES};
use crate::units::WORD_BYTES;

const DOCUMENT: &str = include_str!("../../../../../FORMAT.md");

/// Whether the document has this text, however its lines are broken.
fn says(text: &str) -> bool {
    let words: Vec<&str> = DOCUMENT.split_whitespace().collect();
    words.join(" ").contains(text)
}

#[test]
fn format_document_names_every_word_of_the_header() {
    let words = [
        (MAGIC_AT, "magic"),
        (VERSION_AT, "version"),
        (LAYOUT_AT, "layout"),
        (POLICY_AT, "policy"),
        (GRANULE_AT, "granule"),
        (LEN_MAX_AT, "max length"),
        (DATA_OFFSET_AT, "data offset"),
        (PEERS_AT, "peer limit"),
        (CREATED_AT, "created"),
        (ID_AT, "id"),
        (ADDRESS_AT, "address"),
        (LABELS_AT, "labels"),
        (CHECKSUM_AT, "checksum"),
        (LENGTH_AT, "length"),
        (LOCK_AT, "lock"),
        (CURRENT_AT, "current"),
        (PINS_AT, "pins"),
        (ROOTS_AT, "roots"),
        (SHARED_AT, "shared"),
        (THREADS_USED_AT, "threads used"),
        (PROCESSES_USED_AT, "processes used"),
    ];
    for (at, name) in words {
        let row = format!("| {} | {} | {name} |", at.0, at.offset().0);
        assert!(says(&row), "FORMAT.md lacks {row}");
    }
}

#[test]
fn format_document_states_every_constant() {
    let records = RECORDS_AT.0;
    for text in [
        format!("Format version {VERSION}."),
        format!("| version | {VERSION} |"),
        format!("takes the first {PROLOGUE_BYTES} bytes"),
        format!("of bytes 0 to {}", CHECKSUM_AT.offset().0 - 1),
        format!("| peer limit | {RECORDS} |"),
        format!("lies at byte {records} + {} s", RECORD_WORDS * WORD_BYTES),
        format!("{RECORDS} x {} bytes", RECORD_WORDS * WORD_BYTES),
        format!("lies at byte {} + {} t", END_OF_PROCESSES.0, THREAD_WORDS * WORD_BYTES),
        format!("{THREADS} x {} bytes", THREAD_WORDS * WORD_BYTES),
        format!("{ENTRIES} entries of {ENTRY_WORDS} words"),
        format!("the bytes `{}`", str::from_utf8(&TAG_MARK.to_le_bytes()[4..]).unwrap()),
        format!("at most 2^{}", LEN_MAX_BYTES.ilog2()),
        format!("| pins | {AREAS} words"),
        format!("There are {AREAS} areas"),
        format!("| {JOURNAL} | journal |"),
        format!("| {COUNTERS} | live objects |"),
        format!("| {LENGTH} | length |"),
        format!("| {HELPED} | helped | {AREAS} words"),
        format!("| {DONE} | done | {} words", (u64::from(THREADS) * u64::from(ENTRIES)) / 64),
        format!("A *region* is {REGION_GRANULES} granules"),
        format!("| regions | {REGION_WORDS} R |"),
        format!("the maximum of {FAN_OUT} words"),
        format!("from byte {} on", END_OF_RECORDS.0),
        format!("{HEADER_BYTES} {} {} data_offset", END_OF_PROCESSES.0, END_OF_RECORDS.0),
        format!("A *unit* is {UNIT_BYTES} bytes"),
        format!("under policy 2 of {ALIGN_BYTES_MAX}"),
        format!("the next multiple of {ALIGN_BYTES_MAX}"),
        format!("within bytes 2^{} to {} * 2^40 of", ADDRESS_MIN.ilog2(), ADDRESS_END >> 40),
        format!("There are {CLASS_COUNT} classes"),
        format!("each group of {GROUP_UNITS} units"),
        format!("| hints | {GROUP_WORDS} G words |"),
        format!("the rows of one kind of {BLOCK_UNITS} units"),
        format!("its state's {GENERATION_BITS} bits"),
        format!("| tags | {TAGS} of {TAG_WORDS} |"),
        format!("| peers | {RECORDS} of {PEER_WORDS} |"),
        format!("| labels | {LABELS} of {LABEL_WORDS} |"),
        format!("| head | {LABELS_HEAD_WORDS} | see"),
        format!("at most {NAME_BYTES_MAX}; 0: not written"),
    ] {
        assert!(says(&text), "FORMAT.md lacks: {text}");
    }
}

/// The layout as FORMAT.md describes it, computed from its sentences alone.
#[test]
fn format_document_describes_the_layout() {
    for (granule_bytes, len_bytes) in [(8, 3024), (16, 4096), (16, 1 << 20), (16, 1 << 33)] {
        let granules = u64::div_ceil(len_bytes, granule_bytes);
        let regions = granules.div_ceil(64);
        let mut at = 659_456_u64 + 4096;
        let mut array = |words: u64| at = (at + words * 8).next_multiple_of(64);
        array(2 * regions);
        let mut words = regions.div_ceil(64);
        array(words);
        while words > 1 {
            words = words.div_ceil(64);
            array(words);
        }
        words = regions;
        array(words);
        while words > 1 {
            words = words.div_ceil(8);
            array(words);
        }
        let layout = Layout::new(END_OF_RECORDS, granules).unwrap();
        let area_bytes = (at - 659_456).next_multiple_of(4096);
        assert_eq!(layout.storage(Area(2), 0, 1)[0].start, 659_456 + 2 * area_bytes);
        let at = 659_456 + 4 * area_bytes;
        assert_eq!(layout.end().0, at);
        let options = HeapOptions::new(len_bytes)
            .policy(crate::Policy::FirstFit)
            .granule(crate::Granule::from_bytes(granule_bytes).unwrap());
        let (shape, _) = Shape::of_options(&options).unwrap();
        assert_eq!(shape.data_offset.0, at);
    }
}

/// The size classes as FORMAT.md describes them: bytes of an object, units of a slab, capacity.
fn classes() -> Vec<(u64, u64, u64)> {
    let mut sizes = vec![16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128];
    let mut base = 128;
    while base < 524_288 {
        sizes.extend((1..=8).map(|eighths| base + eighths * base / 8));
        base *= 2;
    }
    let slab = |bytes: u64| {
        let fits = |&units: &u64| {
            let slab_bytes = units * 65536;
            slab_bytes >= bytes && slab_bytes % bytes <= slab_bytes / 8
        };
        let units = (1..).find(fits).unwrap();
        (bytes, units, units * 65536 / bytes)
    };
    sizes.into_iter().map(slab).collect()
}

#[test]
fn format_document_describes_the_size_classes() {
    let described = classes();
    assert_eq!(described.len(), CLASS_COUNT);
    for (class, (bytes, units, capacity)) in Class::all().zip(described) {
        assert_eq!((class.object_bytes(), class.units()), (bytes, units));
        assert_eq!(class.capacity(), capacity);
        assert!(capacity <= 4096);
    }
}

/// Where the records of the scalable policy start: units, hints, summary, states of each kind, and
/// object space; as FORMAT.md describes them.
fn slab_records(units: u64) -> [u64; 7] {
    let (groups, rows) = (units.div_ceil(64), units.next_multiple_of(16));
    let mut at = 659_456_u64;
    let mut starts = [0; 7];
    for (number, words) in [units, 2 * groups, groups.div_ceil(64)].into_iter().enumerate() {
        starts[number] = at;
        at = (at + words * 8).next_multiple_of(64);
    }
    at = at.next_multiple_of(4096);
    for kind in 0..3 {
        starts[3 + kind] = at;
        at += (1024 << kind) * rows;
    }
    starts[6] = at.next_multiple_of(2_097_152);
    starts
}

#[test]
fn format_document_describes_the_layout_of_slabs() {
    for units in [1, 15, 17, 64, 65, 4097, 1 << 20] {
        let options = HeapOptions::new(units << 16);
        let (shape, _) = Shape::of_options(&options).unwrap();
        let starts = slab_records(units);
        assert_eq!(shape.data_offset.0, starts[6]);
        let layout = slab::layout::Layout::new(END_OF_RECORDS, units).unwrap();
        assert_eq!(layout.states().start, starts[3]);
        assert_eq!(layout.end().0, starts[5] + 4096 * units.next_multiple_of(16));
    }
}

/// The records of labels as FORMAT.md describes them, of a heap read without the library.
#[test]
fn format_document_describes_labels() {
    for (policy, places, lanes) in
        [(crate::Policy::FirstFit, 65_536, 1), (crate::Policy::Scalable, 16, 2)]
    {
        let options = HeapOptions::new(1 << 20).policy(policy);
        let (plain, _) = Shape::of_options(&options).unwrap();
        let heap = options.labels().create_memfd().unwrap();
        let records_end = match policy {
            crate::Policy::FirstFit => plain.data_offset.0,
            crate::Policy::Scalable => slab_records(16)[5] + 4096 * 16,
        };
        let head = u64::next_multiple_of(records_end, 4096);
        let [tags, peers] = [head + 64 * 8, head + 64 * 8 + 256 * 128];
        let labels = peers + 1024 * 64;
        let of_places = (labels + 4096 * 64).next_multiple_of(4096);
        let of_states = (of_places + 2 * places).next_multiple_of(4096);
        let object = heap.with_tag("abc", || heap.alloc(alloc::Layout::new::<[u64; 6]>())).unwrap();
        let second = heap.alloc(alloc::Layout::new::<[u64; 6]>()).unwrap();
        heap.set_quota(crate::Quota::Tag("abc"), Some(500)).unwrap();
        let file = std::fs::File::from(heap.to_fd().unwrap());
        let word = |at: u64| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).unwrap();
            u64::from_le_bytes(bytes)
        };
        let me = u64::from(heap.peers()[0].slot) + 1;
        assert_eq!((word(104), word(head + 8 * 8)), (1, 96));
        let name = u64::from(u32::from_le_bytes(*b"abc\0"));
        assert_eq!([1, 2, 8, 9].map(|n| word(tags + 128 + 8 * n)), [3, name, 48, 501]);
        let peer = peers + (me - 1) * 64;
        assert_eq!((word(peer), word(peer + 8)), (2 << 16, 1 << 48 | 96));
        assert_eq!([0, 1, 2].map(|n| word(labels + 64 + 8 * n)), [me | 1 << 32 | 1 << 16, 48, 1]);
        assert_eq!([0, 1, 2].map(|n| word(labels + 128 + 8 * n)), [me | 1 << 32, 48, 1]);
        let lane = |number: u64| {
            let first = if lanes == 1 { of_places } else { of_states };
            word(first + number / 4 * 8) >> (number % 4 * 16) & 0xffff
        };
        // Of a slab of 48-byte objects the states are of kind 1, behind the rows of kind 0.
        let numbers = if lanes == 1 { [0, 3] } else { [16 * 1024, 16 * 1024 + 1] };
        assert_eq!(numbers.map(lane), [1, 2]);
        assert!(object.unwrap() < second);
    }
}

/// A heap read without the library, by the sentences of FORMAT.md alone.
#[test]
fn format_document_describes_a_heap_of_slabs() {
    let heap = HeapOptions::new(16 << 16).create_memfd().unwrap();
    let small = heap.alloc(alloc::Layout::new::<[u64; 6]>()).unwrap();
    let second = heap.alloc(alloc::Layout::new::<[u64; 6]>()).unwrap();
    let large = heap.alloc(alloc::Layout::from_size_align(600_000, 8).unwrap()).unwrap();
    let me = u64::from(heap.peers()[0].slot) + 1;
    let file = std::fs::File::from(heap.to_fd().unwrap());
    let byte = |at: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        u64::from(byte[0])
    };
    let word = |at: u64| (0..8).fold(0, |word, number| word | byte(at + number) << (8 * number));
    let [units, hints, summary, .., kind_1, _, data] = slab_records(16);

    let class = classes().iter().position(|&(bytes, ..)| bytes == 48).unwrap() as u64;
    assert_eq!(classes()[class as usize].2, 1365, "so its states are of kind 1");
    assert_eq!(word(units), 4 << 60 | 1 << 48 | me << 32 | class, "a slab");
    assert_eq!((byte(kind_1), byte(kind_1 + 1), byte(kind_1 + 2)), (1, 1, 0), "two live");
    assert_eq!(word(units + 8), 5 << 60 | 1 << 48 | 10, "a large object of ten units");
    for distance in 1..10 {
        assert_eq!(word(units + 8 * (1 + distance)), 3 << 60 | me << 32 | distance, "its rest");
    }
    assert_eq!((word(units + 8 * 11), word(hints), word(summary)), (0, 0x1f << 11, 1), "free");
    let mixed = |generation: u64| (generation ^ (word(72) & 0xffff)) << 48;
    assert_eq!(heap.handle(small).unwrap().to_raw(), mixed(1 << 7) | data);
    assert_eq!(heap.handle(second).unwrap().to_raw(), mixed(1 << 7) | (data + 48));
    assert_eq!(heap.handle(large).unwrap().to_raw(), mixed(1) | (data + 65536));

    // SAFETY: nobody else knows of the object.
    #[allow(unsafe_code)]
    unsafe {
        heap.free(large).unwrap();
    }
    assert_eq!(heap.trim().unwrap(), 15 << 16);
    assert_eq!(word(units), 4 << 60 | 1 << 48 | class, "nobody's now");
    assert_eq!(word(hints + 8), 1, "and hinted at");
    assert_eq!(word(units + 8), 1 << 60 | 1 << 48, "a hole");
    let table = 135_168;
    assert_eq!((word(table), word(table + 8)), (me, 0), "the thread has left no note");
}
