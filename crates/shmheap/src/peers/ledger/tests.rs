//! The ledger by itself: what hostile entries lead to, which words are cells, and what tags are.

use super::*;
use crate::os::Futex;
use crate::segment::words::Row;
use crate::units::LINE_WORDS;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TABLE: ThreadTable = ThreadTable::new(WordIndex(16), 2, WordIndex(0));
const PEER: PeerSlot = PeerSlot(4);
const WORDS: u64 = 110;
const CELL: WordIndex = WordIndex(71);
const HANDLE: u64 = 0x1230;
const ENOUGH: Reserve<'static> = &|_| Ok(());
/// The last words of the row are behind the end of object space.
const SPACE: Range<Offset> = WordIndex(70).offset()..WordIndex(100).offset();

/// Remembers what it is asked to free, and does as an engine does to which it is all the same.
struct Freed<'r> {
    ledger: Ledger<Row<'r, Futex>>,
    handles: RefCell<Vec<u64>>,
}

impl Objects for Freed<'_> {
    fn free_owned(&self, entry: LedgerEntry, handle: u64) -> Result<()> {
        self.handles.borrow_mut().push(handle);
        self.ledger.clear(entry);
        Ok(())
    }

    fn is_done(&self, _entry: LedgerEntry) -> Result<bool> {
        Ok(true)
    }
}

fn memory() -> Vec<AtomicU64> {
    (0..WORDS).map(|_| AtomicU64::new(0)).collect()
}

fn image(memory: &[AtomicU64]) -> Vec<u64> {
    memory.iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// The table in the module's text, row by row; without the tag, something else is in the cell.
#[test]
fn adoption_makes_of_each_state_what_the_table_says() {
    const ELSE: u64 = 0x4560;
    for (state, has_tag, is_freed, then) in [
        (NONE, true, false, None),
        (OWNED, false, true, Some(ELSE)),
        (OWNED, true, true, None),
        (PUBLISHING, false, true, Some(ELSE)),
        (PUBLISHING, true, false, Some(HANDLE)),
        (PUBLISHED, true, false, Some(HANDLE)),
        (PUBLISHED, false, false, Some(ELSE)),
        (TAKING, false, false, Some(ELSE)),
        (TAKING, true, true, Some(0)),
        (FREEING, false, true, Some(ELSE)),
        (TAKEN, true, true, Some(0)),
        (TAKEN, false, true, Some(ELSE)),
    ] {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let ledger = Ledger::new(row, TABLE);
        let record = TABLE.claim(&row, PEER, ENOUGH).unwrap();
        let entry = TABLE.entries(record).nth(2).unwrap();
        row.store(CELL, if has_tag { tag(entry) } else { ELSE });
        ledger.set_cell(entry, CELL);
        ledger.set(entry, state, HANDLE);
        let owned = ledger.owned_now(entry, &SPACE, || unreachable!());
        assert_eq!(owned, is_freed.then_some(HANDLE), "state {state}, {has_tag}");
        let freed = Freed { ledger, handles: RefCell::default() };
        ledger.adopt(PEER, ENOUGH, &SPACE, &freed).unwrap();
        let expected = if is_freed { vec![HANDLE] } else { vec![] };
        assert_eq!(freed.handles.into_inner(), expected, "state {state}, {has_tag}");
        // Where the cell does not count, the tag is none that this entry has stored.
        assert_eq!(row.load(CELL), then.unwrap_or(tag(entry)), "state {state}, {has_tag}");
        assert!(ledger.is_clear(PEER, ENOUGH).unwrap(), "state {state}, {has_tag}");
    }
}

#[test]
fn what_is_owned_in_a_session_is_told_by_how_that_ends() {
    let memory = memory();
    let row = Row::new(&memory, Futex);
    let ledger = Ledger::new(row, TABLE);
    let entry = TABLE.first_entry(TABLE.claim(&row, PEER, ENOUGH).unwrap());
    for (owns_while, is_done) in [(0, false), (0, true), (1, false), (1, true)] {
        row.store(TABLE.entry_word(entry) + 1, owns_while);
        ledger.set(entry, IN_SESSION, HANDLE);
        let owned = ledger.owned_now(entry, &SPACE, || is_done).is_some();
        assert_eq!(owned, is_done == (owns_while != 0), "{owns_while}, {is_done}");
    }
}

/// What an entry says while the object is taken: whoever is killed there leaves it so.
#[test]
fn a_hand_over_says_what_it_is_about() {
    let memory = memory();
    let row = Row::new(&memory, Futex);
    let ledger = Ledger::new(row, TABLE);
    let entry = TABLE.first_entry(TABLE.claim(&row, PEER, ENOUGH).unwrap());
    let at = TABLE.entry_word(entry);
    row.store(at, owned(HANDLE));
    assert_eq!(ledger.publish(entry, HANDLE, CELL), Ok(()));
    assert_eq!((row.load(at), row.load(at + 1)), (0, CELL.offset().0));
    row.store(at + 1, 0);
    assert_eq!(ledger.take(entry, HANDLE + 8, CELL, || true), Taking::Lost);
    assert_eq!((row.load(at), row.load(CELL)), (0, HANDLE));
    row.store(at + 1, 0);
    let midway = || {
        assert_eq!((row.load(at), row.load(at + 1)), (HANDLE | TAKING, CELL.offset().0));
        assert_eq!(row.load(CELL), tag(entry));
        false
    };
    assert_eq!(ledger.take(entry, HANDLE, CELL, midway), Taking::NotLive);
    assert_eq!((row.load(at), row.load(CELL)), (0, HANDLE));
    assert_eq!(ledger.take(entry, HANDLE, CELL, || true), Taking::Taken);
    assert_eq!((row.load(at), row.load(CELL)), (owned(HANDLE), 0));
    row.store(CELL, HANDLE + 8);
    let refused = ledger.publish(entry, HANDLE, CELL);
    assert_eq!(refused, Err(Content::Object(HANDLE + 8)));
    assert_eq!(row.load(at), owned(HANDLE));
    assert!(!ledger.is_clear(PEER, ENOUGH).unwrap());
}

/// What a stopped publisher is in the middle of is ended by another, and by its adopter or itself
/// once more.
#[test]
fn a_publication_is_hastened() {
    for (state, has_tag, cell_then, state_then) in [
        (PUBLISHING, true, HANDLE, PUBLISHED),
        (PUBLISHED, true, HANDLE, PUBLISHED),
        (PUBLISHING, false, 0, PUBLISHING),
        (PUBLISHED, false, 0, PUBLISHED),
        (OWNED, false, 0, OWNED),
        (TAKING, true, u64::MAX, TAKING),
        (TAKEN, true, u64::MAX, TAKEN),
    ] {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let ledger = Ledger::new(row, TABLE);
        let entry = TABLE.first_entry(TABLE.claim(&row, PEER, ENOUGH).unwrap());
        row.store(CELL, if has_tag { tag(entry) } else { 0 });
        ledger.set_cell(entry, CELL);
        ledger.set(entry, state, HANDLE);
        ledger.hasten(CELL);
        let cell_then = if cell_then == u64::MAX { tag(entry) } else { cell_then };
        assert_eq!(row.load(CELL), cell_then, "{state}");
        assert_eq!(row.load(TABLE.entry_word(entry)), HANDLE | state_then, "{state}");
        if cell_then == HANDLE {
            let freed = Freed { ledger, handles: RefCell::default() };
            ledger.adopt(PEER, ENOUGH, &SPACE, &freed).unwrap();
            assert!(freed.handles.into_inner().is_empty());
            assert_eq!(row.load(CELL), HANDLE);
        }
        // An entry that is in the middle of something else.
        row.store(CELL, tag(entry));
        ledger.set_cell(entry, CELL + 1);
        ledger.set(entry, PUBLISHING, HANDLE);
        ledger.hasten(CELL);
        assert_eq!(row.load(CELL), tag(entry));
    }
}

/// Words in which somebody hastens what is in the cell, right before it is looked at first.
struct Hastened<'m> {
    row: Row<'m, Futex>,
    is_due: Cell<bool>,
}

impl Words for Hastened<'_> {
    fn load(&self, at: WordIndex) -> u64 {
        if at == CELL && self.is_due.take() {
            Ledger::new(self.row, TABLE).hasten(CELL);
        }
        self.row.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.row.load_line(at)
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.row.store(at, value);
    }

    fn compare_exchange(
        &self,
        at: WordIndex,
        current: u64,
        new: u64,
    ) -> std::result::Result<u64, u64> {
        self.row.compare_exchange(at, current, new)
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.row.wait(at, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.row.wake(at);
    }

    fn wake_all(&self, at: WordIndex) {
        self.row.wake_all(at);
    }
}

#[test]
fn what_is_hastened_while_it_is_adopted_is_not_freed() {
    let memory = memory();
    let row = Row::new(&memory, Futex);
    let ledger = Ledger::new(row, TABLE);
    let entry = TABLE.first_entry(TABLE.claim(&row, PEER, ENOUGH).unwrap());
    row.store(CELL, tag(entry));
    ledger.set_cell(entry, CELL);
    ledger.set(entry, PUBLISHING, HANDLE);
    let freed = Freed { ledger, handles: RefCell::default() };
    let words = Hastened { row, is_due: Cell::new(true) };
    Ledger::new(&words, TABLE).adopt(PEER, ENOUGH, &SPACE, &freed).unwrap();
    assert!(!words.is_due.get() && freed.handles.into_inner().is_empty());
    assert_eq!(row.load(CELL), HANDLE);
    assert!(ledger.is_clear(PEER, ENOUGH).unwrap());
}

/// Whatever a dead peer's entries say, nothing changes but they and cells with their tags.
#[test]
fn hostile_entries_lead_nowhere() {
    let offsets = [0, 560, 872, 8, 559, 561, 560 + 29 * 8, 560 + 30 * 8, 1 << 60, u64::MAX - 7];
    let offsets = &offsets[..if cfg!(miri) { 3 } else { 10 }];
    for state in 0..8 {
        for &offset in offsets {
            for has_tag in [false, true] {
                let memory = memory();
                let row = Row::new(&memory, Futex);
                let ledger = Ledger::new(row, TABLE);
                let record = TABLE.claim(&row, PEER, &|_| Ok(())).unwrap();
                let entry = TABLE.entries(record).last().unwrap();
                let at = TABLE.entry_word(entry);
                if has_tag {
                    // Every word there is, but for the records and the header.
                    (64..WORDS).for_each(|at| row.store(WordIndex(at), tag(entry)));
                }
                row.store(at, 0x1230 | state);
                row.store(at + 1, offset);
                let before = image(&memory);
                let objects = Freed { ledger, handles: RefCell::default() };
                ledger.adopt(PEER, &|_| Ok(()), &SPACE, &objects).unwrap();
                let after = image(&memory);
                assert!(ledger.is_clear(PEER, &|_| Ok(())).unwrap());
                let cell = cell_in(&SPACE, offset).map(|cell| cell.0 as usize);
                for (at, (before, after)) in before.iter().zip(&after).enumerate() {
                    let may_change = at == 16 + 14 || (has_tag && cell == Some(at));
                    assert!(before == after || may_change, "state {state}, word {at}");
                }
            }
        }
    }
}

#[test]
fn a_cell_lies_in_object_space_as_a_whole() {
    let cell = |offset| cell_in(&SPACE, offset);
    assert_eq!(cell(560), Some(WordIndex(70)));
    assert_eq!(cell(792), Some(WordIndex(99)));
    for offset in [0, 552, 556, 564, 796, 800, u64::MAX, u64::MAX - 7] {
        assert_eq!(cell(offset), None, "{offset}");
    }
}

#[test]
fn tags_are_no_handles_and_name_their_entry() {
    let memory = memory();
    let row = Row::new(&memory, Futex);
    let ledger = Ledger::new(row, TABLE);
    let at = WordIndex(70);
    for number in [0, 1] {
        for entry in TABLE.entries(TABLE.record(number).unwrap()) {
            row.store(at, tag(entry));
            assert_eq!(ledger.content(at), Content::Midway(entry));
            for bit in (0..64).filter(|bit| ![8, 9, 10, 16].contains(bit)) {
                row.store(at, tag(entry) ^ 1 << bit);
                let content = ledger.content(at);
                assert!(!matches!(content, Content::Midway(_)), "bit {bit}: {content:?}");
            }
        }
    }
    row.store(at, 0);
    assert_eq!(ledger.content(at), Content::Empty);
    row.store(at, 8);
    assert_eq!(ledger.content(at), Content::Object(8));
}
