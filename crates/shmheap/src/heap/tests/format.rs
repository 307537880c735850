//! FORMAT.md says what the constants say: every number of its tables is looked up here.

use crate::first_fit::JOURNAL_WORDS;
use crate::first_fit::layout::{FAN_OUT, Layout, REGION_GRANULES, REGION_WORDS};
use crate::heap::HeapOptions;
use crate::heap::shape::{END_OF_PROCESSES, END_OF_RECORDS, Shape};
use crate::peers::ledger::TAG_MARK;
use crate::peers::threads::ENTRIES;
use crate::peers::{ENTRY_WORDS, RECORD_WORDS, RECORDS, THREAD_WORDS, THREADS};
use crate::segment::format::{
    CHECKSUM_AT, COUNTERS_AT, CREATED_AT, DATA_OFFSET_AT, GRANULE_AT, HEADER_BYTES, ID_AT,
    JOURNAL_AT, LAYOUT_AT, LEN_MAX_AT, LEN_MAX_BYTES, LENGTH_AT, LOCK_AT, MAGIC_AT, PEERS_AT,
    POLICY_AT, PROLOGUE_BYTES, RECORDS as RECORDS_AT, THREADS_USED_AT, VERSION, VERSION_AT,
};
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
        (CHECKSUM_AT, "checksum"),
        (LENGTH_AT, "length"),
        (LOCK_AT, "lock"),
        (JOURNAL_AT, "journal"),
        (COUNTERS_AT, "counters"),
        (THREADS_USED_AT, "threads used"),
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
        format!("| journal | {JOURNAL_WORDS} words"),
        format!("A *region* is {REGION_GRANULES} granules"),
        format!("| regions | {REGION_WORDS} R |"),
        format!("the maximum of {FAN_OUT} words"),
        format!("from byte {} on", END_OF_RECORDS.0),
        format!("{HEADER_BYTES} {} {} data_offset", END_OF_PROCESSES.0, END_OF_RECORDS.0),
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
        let mut at = 921_600_u64;
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
        assert_eq!(Layout::new(END_OF_RECORDS, granules).unwrap().end().0, at);
        let options = HeapOptions::new(len_bytes)
            .policy(crate::Policy::FirstFit)
            .granule(crate::Granule::from_bytes(granule_bytes).unwrap());
        let (shape, _) = Shape::of_options(&options).unwrap();
        assert_eq!(shape.data_offset.0, at.next_multiple_of(4096));
    }
}
