//! The table of process records: who is connected, in the segment's own words.
//!
//! ```text
//!   word  0        joins << 8 | state    state: 0 free, 1 joined; joins: how often it was taken
//!         1        process number, in the process's own PID namespace
//!         2        inode of that namespace
//!         3        when it joined, nanoseconds since 1970
//!         4        0
//!         5 .. 16  88 bytes of command line, padded with NULs
//! ```
//!
//! Only word 0 means anything to a heap, and even that is not the truth about who lives: the lock
//! on the slot's byte is. A record is written by the holder of that lock alone, word 0 last. The
//! rest is information for people, and may hold anything that a broken process put there.
//!
//! The table is sparse, as that of thread records is: the header's word *processes used* says from
//! where on no record was ever taken. It is raised, and storage reserved, before one is.

use std::ops::Range;

use crate::os::process::{self, COMMAND_BYTES, Known};
use crate::segment::words::Words;
use crate::units::{PAGE_BYTES, PeerSlot, WORD_BYTES, WordIndex};

/// Words of a record: two cache lines, so that records do not share any.
pub(crate) const RECORD_WORDS: u64 = 16;
/// Records of a table, which is how many processes can be connected at once.
pub(crate) const RECORDS: u16 = 1024;

const FREE: u64 = 0;
const JOINED: u64 = 1;
const STATE_BITS: u32 = 8;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

const PID: u64 = 1;
const PID_NAMESPACE: u64 = 2;
const CONNECTED: u64 = 3;
const COMMAND: u64 = 5;
const COMMAND_WORDS: u64 = RECORD_WORDS - COMMAND;
const _: () = assert!(COMMAND_WORDS * WORD_BYTES == COMMAND_BYTES as u64);

/// How often a record is read again that changes meanwhile.
const READ_TRIES: u32 = 8;

/// Where the records of a segment are; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordTable {
    first: WordIndex,
    used: WordIndex,
    count: u16,
}

/// What a joined process has said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    pub(crate) pid_namespace: u64,
    pub(crate) connected_unix_ns: u64,
    pub(crate) command: [u8; COMMAND_BYTES],
}

impl Record {
    /// This process, at this moment.
    pub(crate) fn of_this_process() -> Self {
        let Known { pid, pid_namespace, command } = Known::of_this_process();
        Self { pid, pid_namespace, connected_unix_ns: process::unix_time_ns(), command }
    }

    /// The command line as text that is safe to print.
    pub(crate) fn command_text(&self) -> String {
        let end = self.command.iter().position(|&byte| byte == 0).unwrap_or(COMMAND_BYTES);
        String::from_utf8_lossy(&self.command[..end])
            .chars()
            .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
            .collect()
    }
}

impl RecordTable {
    /// The table of `count` records whose first starts at `first`; `used` is the header's word.
    pub(crate) fn new(first: WordIndex, count: u16, used: WordIndex) -> Self {
        Self { first, used, count }
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = PeerSlot> + use<> {
        (0..self.count).map(PeerSlot)
    }

    /// The bytes of the first `count` records, in whole pages.
    pub(crate) fn storage(&self, count: u16) -> Range<u64> {
        let base = self.first.offset().0;
        let bytes = u64::from(count.min(self.count)) * RECORD_WORDS * WORD_BYTES;
        base..base + bytes.next_multiple_of(PAGE_BYTES)
    }

    /// How many records a page holds.
    pub(crate) fn in_first_page(&self) -> u16 {
        self.count.min((PAGE_BYTES / WORD_BYTES / RECORD_WORDS) as u16)
    }

    /// How many records may be in use: none from there on.
    pub(crate) fn used(&self, words: &impl Words) -> u16 {
        u16::try_from(words.load(self.used)).unwrap_or(u16::MAX).min(self.count)
    }

    /// Says that the first `count` records may be in use.
    pub(crate) fn raise_used(&self, words: &impl Words, count: u16) {
        let mut used = words.load(self.used);
        while used < u64::from(count) {
            match words.compare_exchange(self.used, used, u64::from(count)) {
                Err(found) if found != used => used = found,
                _ => break,
            }
        }
    }

    /// Whether the slot's holder has joined and not left, dead or alive.
    pub(crate) fn is_joined(&self, words: &impl Words, slot: PeerSlot) -> bool {
        words.load(self.word(slot, 0)) & STATE_MASK == JOINED
    }

    /// How often the record was taken, counting the present holder.
    pub(crate) fn joins(&self, words: &impl Words, slot: PeerSlot) -> u64 {
        words.load(self.word(slot, 0)) >> STATE_BITS
    }

    /// Says how often a record was taken that nobody has.
    pub(crate) fn set_joins(&self, words: &impl Words, slot: PeerSlot, joins: u64) {
        words.store(self.word(slot, 0), joins << STATE_BITS | FREE);
    }

    /// Takes the record out of the list. The caller holds the slot's lock.
    pub(crate) fn set_free(&self, words: &impl Words, slot: PeerSlot) {
        let joins = words.load(self.word(slot, 0)) & !STATE_MASK;
        words.store(self.word(slot, 0), joins | FREE);
    }

    /// Puts the record into the list. The caller holds the slot's lock.
    pub(crate) fn set_joined(&self, words: &impl Words, slot: PeerSlot, record: &Record) {
        let joins = words.load(self.word(slot, 0)) >> STATE_BITS;
        // Free while it changes, and joined by its last store: whoever is killed in between leaves
        // no half-written record in the list.
        self.set_free(words, slot);
        words.store(self.word(slot, PID), u64::from(record.pid));
        words.store(self.word(slot, PID_NAMESPACE), record.pid_namespace);
        words.store(self.word(slot, CONNECTED), record.connected_unix_ns);
        words.store(self.word(slot, CONNECTED + 1), 0);
        let (command, _) = record.command.as_chunks::<{ WORD_BYTES as usize }>();
        for (number, bytes) in (COMMAND..).zip(command) {
            words.store(self.word(slot, number), u64::from_le_bytes(*bytes));
        }
        words.store(self.word(slot, 0), (joins.wrapping_add(1) << STATE_BITS) | JOINED);
    }

    /// The record, if its slot is joined and it stands still long enough to be read.
    pub(crate) fn read(&self, words: &impl Words, slot: PeerSlot) -> Option<Record> {
        for _ in 0..READ_TRIES {
            let before = words.load(self.word(slot, 0));
            if before & STATE_MASK != JOINED {
                return None;
            }
            let record = self.read_once(words, slot);
            // The loads are acquire and the stores release: had any of them seen a later record,
            // this one would see that the state has changed as well.
            if words.load(self.word(slot, 0)) == before {
                return Some(record);
            }
        }
        None
    }

    fn read_once(&self, words: &impl Words, slot: PeerSlot) -> Record {
        let mut command = [0; COMMAND_BYTES];
        let (chunks, _) = command.as_chunks_mut::<{ WORD_BYTES as usize }>();
        for (number, bytes) in (COMMAND..).zip(chunks) {
            *bytes = words.load(self.word(slot, number)).to_le_bytes();
        }
        Record {
            // A number that no process can have is cut, not refused: it is information only.
            pid: words.load(self.word(slot, PID)) as u32,
            pid_namespace: words.load(self.word(slot, PID_NAMESPACE)),
            connected_unix_ns: words.load(self.word(slot, CONNECTED)),
            command,
        }
    }

    fn word(&self, slot: PeerSlot, number: u64) -> WordIndex {
        self.first + u64::from(slot.0) * RECORD_WORDS + number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use std::sync::atomic::AtomicU64;

    const USED: WordIndex = WordIndex(2);
    const BASE: WordIndex = WordIndex(5);
    const COUNT: u16 = 4;

    fn memory(fill: u64) -> Vec<AtomicU64> {
        let words = BASE.0 + u64::from(COUNT) * RECORD_WORDS;
        (0..words).map(|_| AtomicU64::new(fill)).collect()
    }

    fn record(pid: u32, command: &[u8]) -> Record {
        let mut padded = [0; COMMAND_BYTES];
        padded[..command.len()].copy_from_slice(command);
        Record { pid, pid_namespace: 3, connected_unix_ns: 4, command: padded }
    }

    #[test]
    fn a_record_reads_back_and_its_neighbours_stay_free() {
        let memory = memory(0);
        let row = Row::new(&memory, Futex);
        let table = RecordTable::new(BASE, COUNT, USED);
        let written = record(4321, b"worker --fast");
        table.set_joined(&row, PeerSlot(2), &written);
        assert_eq!(table.read(&row, PeerSlot(2)), Some(written));
        for other in [0, 1, 3, 4, u16::MAX] {
            assert!(!table.is_joined(&row, PeerSlot(other)));
            assert_eq!(table.read(&row, PeerSlot(other)), None);
        }
        table.set_free(&row, PeerSlot(2));
        assert_eq!(table.read(&row, PeerSlot(2)), None);
        table.set_joined(&row, PeerSlot(2), &record(1, b""));
        assert_eq!(row.load(BASE + 2 * RECORD_WORDS), (2 << STATE_BITS) | JOINED, "two joins");
    }

    #[test]
    fn hostile_bytes_are_shown_and_do_no_harm() {
        let table = RecordTable::new(BASE, COUNT, USED);
        for fill in [u64::MAX, 0x0a1b_5b41_ff80_c301, 1] {
            let memory = memory(fill);
            let row = Row::new(&memory, Futex);
            for slot in table.slots() {
                if let Some(record) = table.read(&row, slot) {
                    assert!(!record.command_text().chars().any(char::is_control));
                }
                table.set_joined(&row, slot, &record(7, b"x"));
                assert_eq!(table.read(&row, slot), Some(record(7, b"x")));
            }
        }
        assert_eq!(record(1, b"a\x1b[2Jb\nc\xff").command_text(), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
        assert_eq!(record(1, &[b'y'; COMMAND_BYTES]).command_text().len(), COMMAND_BYTES);
    }

    #[test]
    fn storage_covers_the_records_in_whole_pages() {
        let table = RecordTable::new(BASE, 70, USED);
        assert_eq!(table.slots().collect::<Vec<_>>(), (0..70).map(PeerSlot).collect::<Vec<_>>());
        assert_eq!((table.count(), table.in_first_page()), (70, 32));
        assert_eq!(RecordTable::new(BASE, COUNT, USED).in_first_page(), COUNT);
        for (count, pages) in [(0, 0), (1, 1), (32, 1), (33, 2), (65, 3), (u16::MAX, 3)] {
            assert_eq!(table.storage(count), 40..40 + pages * 4096, "{count}");
        }
    }

    #[test]
    fn the_number_of_records_used_only_rises() {
        let memory = memory(0);
        let row = Row::new(&memory, Futex);
        let table = RecordTable::new(BASE, COUNT, USED);
        for (raised, used) in [(0, 0), (1, 1), (3, 3), (2, 3), (COUNT, COUNT)] {
            table.raise_used(&row, raised);
            assert_eq!(table.used(&row), used);
        }
        row.store(USED, u64::MAX);
        assert_eq!(table.used(&row), COUNT, "bounded");
        // Nothing is raised where no word is; and it ends.
        RecordTable::new(BASE, COUNT, WordIndex(u64::MAX)).raise_used(&row, 1);
    }

    #[test]
    fn a_table_outside_the_segment_is_empty() {
        let memory = memory(JOINED);
        let row = Row::new(&memory, Futex);
        let table = RecordTable::new(WordIndex(u64::MAX - 3), u16::MAX, USED);
        table.set_joined(&row, PeerSlot(u16::MAX), &record(1, b"x"));
        let _ = table.slots().filter(|&slot| table.is_joined(&row, slot)).count();
    }
}
