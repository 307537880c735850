//! Hand-overs under loom: those who publish and take at once, over weak memory.

use std::sync::Arc;

use super::{Content, Ledger, Taking};
use crate::peers::{LedgerEntry, THREAD_WORDS, ThreadTable};
use crate::segment::interleaved::{Memory, View, explore, start};
use crate::segment::words::Words;
use crate::units::WordIndex;

const USED: WordIndex = WordIndex(0);
const RECORDS: u16 = 3;
const TABLE: ThreadTable = ThreadTable::new(WordIndex(16), RECORDS, USED);
const CELL: WordIndex = WordIndex(100);
/// The content of each object.
const OBJECTS: [WordIndex; 2] = [WordIndex(101), WordIndex(102)];
const HANDLES: [u64; 2] = [0x1230, 0x4560];
const CONTENT: u64 = 7;

fn memory() -> Arc<Memory> {
    let records = (0..u64::from(RECORDS) * THREAD_WORDS).map(|word| WordIndex(16 + word));
    Memory::new(records.chain([USED, CELL]).chain(OBJECTS), [], &[])
}

fn entry(record: u64) -> LedgerEntry {
    TABLE.first_entry(TABLE.record(record).unwrap())
}

/// Writes the object, then puts it into the cell; whether that was empty.
fn publish(view: &View, record: u64, object: usize) -> bool {
    view.store(OBJECTS[object], CONTENT);
    view.store(TABLE.entry_word(entry(record)), super::owned(HANDLES[object]));
    Ledger::new(view, TABLE).publish(entry(record), HANDLES[object], CELL).is_ok()
}

/// Takes the object that is in the cell, if there is one, and finds its content.
fn take(view: &View, record: u64) -> Option<u64> {
    let ledger = Ledger::new(view, TABLE);
    let Content::Object(handle) = ledger.content(CELL) else { return None };
    let object = HANDLES.iter().position(|&other| other == handle).unwrap();
    let taking = ledger.take(entry(record), handle, CELL, || true);
    if taking == Taking::Lost {
        return None;
    }
    assert_eq!(view.load(OBJECTS[object]), CONTENT, "the object as it was published");
    Some(handle)
}

/// Once all is quiet: each published object is in the cell or somebody's, and nowhere else.
fn check(memory: &Arc<Memory>, published: &[u64], taken: &[u64]) {
    let view = memory.view();
    let in_cell = match Ledger::new(&view, TABLE).content(CELL) {
        Content::Empty => None,
        Content::Object(handle) => Some(handle),
        other => panic!("{other:?} is left in the cell"),
    };
    let mut all: Vec<_> = taken.iter().copied().chain(in_cell).collect();
    all.sort_unstable();
    assert_eq!(all, published);
    let owned = (0..RECORDS).map(|record| view.load(TABLE.entry_word(entry(record.into()))));
    let owned: Vec<_> = owned.filter(|&word| word != 0).collect();
    let expected: Vec<_> = taken.iter().map(|&handle| super::owned(handle)).collect();
    assert_eq!(owned, expected, "the entries of those who own something");
}

#[test]
fn a_published_object_is_taken_once() {
    explore(3, || {
        let memory = memory();
        let view = memory.view();
        let publishing = start(move || assert!(publish(&view, 0, 0)));
        let taking = [1, 2].map(|record| {
            let view = memory.view();
            start(move || take(&view, record).or_else(|| take(&view, record)))
        });
        publishing.join().unwrap();
        let taken: Vec<_> =
            taking.into_iter().filter_map(|taking| taking.join().unwrap()).collect();
        check(&memory, &HANDLES[..1], &taken);
    });
}

/// Two publish in one cell, the first perhaps before all else, and somebody takes once.
fn two_publish(is_empty: bool) {
    explore(3, move || {
        let memory = memory();
        let publish_as = |record, object: usize| {
            let view = memory.view();
            start(move || {
                let is_published = publish(&view, record, object);
                if !is_published {
                    let at = TABLE.entry_word(entry(record));
                    assert_eq!(view.load(at), super::owned(HANDLES[object]), "kept");
                    Ledger::new(&view, TABLE).clear(entry(record));
                }
                is_published.then_some(HANDLES[object])
            })
        };
        let first = publish_as(0, 0);
        let first = if is_empty { Err(first) } else { Ok(first.join().unwrap()) };
        let second = publish_as(2, 1);
        let view = memory.view();
        let taken = start(move || take(&view, 1)).join().unwrap();
        let first = first.unwrap_or_else(|publishing| publishing.join().unwrap());
        let published: Vec<_> = first.into_iter().chain(second.join().unwrap()).collect();
        assert!(!published.is_empty());
        check(&memory, &published, taken.as_slice());
    });
}

#[test]
fn of_two_who_publish_in_an_empty_cell_one_succeeds() {
    two_publish(true);
}

#[test]
fn who_publishes_in_a_full_cell_waits_for_a_taker() {
    two_publish(false);
}

/// Once all is quiet the first object is in the cell. What is in the entry loom cannot tell: it
/// does not know that an exchange that met one store of the entry's owner comes before the next.
fn check_hastened(memory: &Arc<Memory>) {
    assert_eq!(memory.view().load(CELL), HANDLES[0]);
}

#[test]
fn who_hastens_a_publication_does_no_harm() {
    explore(4, || {
        let memory = memory();
        let view = memory.view();
        let publishing = start(move || assert!(publish(&view, 0, 0)));
        let view = memory.view();
        Ledger::new(&view, TABLE).hasten(CELL);
        if let Content::Object(_) = Ledger::new(&view, TABLE).content(CELL) {
            assert_eq!(view.load(OBJECTS[0]), CONTENT, "the object as it was published");
        }
        publishing.join().unwrap();
        check_hastened(&memory);
    });
}

/// Remembers whether it was asked to free.
struct Freed<'v>(&'v View, std::cell::Cell<bool>);

impl super::Objects for Freed<'_> {
    fn free_owned(&self, entry: LedgerEntry, _handle: u64) -> crate::Result<()> {
        self.1.set(true);
        Ledger::new(self.0, TABLE).clear(entry);
        Ok(())
    }

    fn is_done(&self, _entry: LedgerEntry) -> crate::Result<bool> {
        Ok(true)
    }
}

/// The publisher was killed with its tag in the cell; one adopts it while another hastens.
#[test]
fn what_is_hastened_and_adopted_at_once_is_in_the_cell() {
    explore(4, || {
        let memory = memory();
        let view = memory.view();
        let tag = super::tag(entry(0));
        view.store(TABLE.entry_word(entry(0)), HANDLES[0] | super::PUBLISHING);
        view.store(TABLE.entry_word(entry(0)) + 1, CELL.offset().0);
        view.store(CELL, tag);
        let other = memory.view();
        let hastening = start(move || Ledger::new(&other, TABLE).hasten(CELL));
        let freed = Freed(&view, std::cell::Cell::new(false));
        let space = CELL.offset()..(CELL + 1).offset();
        Ledger::new(&view, TABLE).adopt_entry(entry(0), &space, &freed).unwrap();
        hastening.join().unwrap();
        assert!(!freed.1.get(), "it is in the cell");
        check_hastened(&memory);
    });
}
