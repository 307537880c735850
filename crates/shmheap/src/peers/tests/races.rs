//! What another process does between two looks at a word, put there at that moment.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::USED;
use crate::os::Futex;
use crate::os::testing::{NameGuard, in_own_process};
use crate::peers::subject::{BASE, Scene};
use crate::peers::{RECORD_WORDS, RecordTable, THREAD_WORDS, ThreadTable, list};
use crate::segment::words::{Row, Words};
use crate::units::{LINE_WORDS, PeerSlot, WordIndex};

/// A row of words in which another stores a value right before a word is looked at once more.
struct Meddled<'r> {
    row: Row<'r, Futex>,
    at: WordIndex,
    /// How many looks are left until then.
    looks: Cell<u32>,
    value: u64,
}

impl Meddled<'_> {
    fn look(&self, at: WordIndex) {
        if at == self.at {
            let left = self.looks.get();
            self.looks.set(left.saturating_sub(1));
            if left == 1 {
                self.row.store(at, self.value);
            }
        }
    }
}

impl Words for Meddled<'_> {
    fn load(&self, at: WordIndex) -> u64 {
        self.look(at);
        self.row.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.row.load_line(at)
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.row.store(at, value);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.look(at);
        self.row.compare_exchange(at, current, new)
    }

    fn wait(&self, _at: WordIndex, _expected: u64, _timeout: Duration) -> Duration {
        Duration::ZERO
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

#[test]
fn who_leaves_while_the_peers_are_listed_is_no_casualty() {
    in_own_process(module_path!(), "who_leaves_while_the_peers_are_listed_is_no_casualty", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 8);
        let (here, lost) = (scene.join(), scene.join());
        drop(lost);
        assert_eq!(list(&scene.row(), scene.table, here.witness(), here.slot(), USED).len(), 2);
        let at = WordIndex(BASE + RECORD_WORDS);
        // Two looks are for the record.
        let leaving = Meddled { row: scene.row(), at, looks: Cell::new(3), value: 0 };
        assert_eq!(list(&leaving, scene.table, here.witness(), here.slot(), USED).len(), 1);
    });
}

/// The word that says how many records were used is raised though another has raised it less.
#[test]
fn of_two_who_raise_a_count_the_higher_stays() {
    let words = 16 + 4 * RECORD_WORDS.max(THREAD_WORDS);
    let memory: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let row = Row::new(&memory, Futex);
    let (used, first) = (WordIndex(2), WordIndex(16));
    let meddled = || {
        row.store(used, 0);
        Meddled { row, at: used, looks: Cell::new(2), value: 2 }
    };
    let processes = RecordTable::new(first, 4, used);
    processes.raise_used(&meddled(), 3);
    assert_eq!(processes.used(&row), 3);
    // Records 0 to 2 are others'.
    let threads = ThreadTable::new(first, 4, used);
    (0..3).for_each(|record| row.store(first + record * THREAD_WORDS, 9));
    row.store(used, 3);
    let raised = Meddled { row, at: used, looks: Cell::new(3), value: 2 };
    let record = threads.claim(&raised, PeerSlot(0), &|_| Ok(())).unwrap();
    assert_eq!((record.number(), threads.used(&row)), (3, 4));
}
