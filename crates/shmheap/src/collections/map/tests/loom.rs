//! Readers and a writer of one shard under loom: over weak memory, in every order.
//!
//! A scene has a map of one shard with two tables, the second of which has not been used yet. One
//! thread changes the shard, others read a key of it: what they find must be a value that the key
//! had in between, whole, and found in the order of time.

use std::sync::Arc;

use super::super::hash;
use super::super::shard::Shard;
use super::super::table::Table;
use crate::Result;
use crate::collections::cells::Home;
use crate::heap::Span;
use crate::peers::{PeerId, Roll};
use crate::segment::interleaved::{Memory, View, explore, start};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

/// Two words for a value, so that it can be torn.
type Value = [u64; 2];

const CURRENT: WordIndex = WordIndex(1);
const WRITERS: WordIndex = WordIndex(2);
/// Where the tables are, and their handles.
const SPANS: [Span; 2] = [
    Span { first: WordIndex(100), words: 2 + 4 + 9 * 4 },
    Span { first: WordIndex(200), words: 2 + 8 + 13 * 4 },
];
const HANDLES: [u64; 2] = [0x1000, 0x2000];
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// A process of a scene.
struct Process {
    view: View,
    slot: u16,
}

impl Roll for Process {
    fn me(&self) -> Result<PeerId> {
        Ok(PeerId::new(PeerSlot(self.slot), 1))
    }

    fn is_alive(&self, _peer: PeerId) -> bool {
        true
    }
}

impl Home for Process {
    type Words<'h> = &'h View;

    fn words(&self) -> &View {
        &self.view
    }

    fn id(&self) -> u64 {
        1
    }

    fn span(&self, handle: u64) -> Option<Span> {
        let number = HANDLES.iter().position(|&other| other == handle)?;
        Some(SPANS[number])
    }

    fn described_span(&self, handle: u64, _length_at: u64) -> Option<Span> {
        self.span(handle)
    }

    fn place(
        &self,
        words: u64,
        _align_bytes: usize,
        cell: WordIndex,
        fill: impl FnOnce(Span),
    ) -> Result<u64> {
        let number = usize::from(self.view.load(CURRENT) != 0);
        assert!(words <= SPANS[number].words, "{words}");
        fill(SPANS[number]);
        self.view.store(cell, HANDLES[number]);
        Ok(HANDLES[number])
    }

    fn vacate(&self, _cell: WordIndex) -> Result<()> {
        panic!("nobody dies")
    }
}

impl Process {
    fn shard(&self) -> Shard<'_, Self, u64, Value> {
        Shard::new(self, CURRENT, WRITERS)
    }

    fn get(&self, key: u64) -> Option<u64> {
        let [one, other] = self.shard().get(hash::of(&key), &key).unwrap()?;
        assert_eq!(one, other, "a torn value");
        Some(one)
    }

    fn set(&self, key: u64, value: Option<u64>) {
        let new = value.map(|value| [value, value]);
        self.shard().alter(hash::of(&key), &key, PATIENCE, |_| new).unwrap();
    }
}

fn memory() -> Arc<Memory> {
    let tables = SPANS.iter().flat_map(|span| (0..span.words).map(|number| span.word(number)));
    let writers = (0..5).map(|word| WRITERS + word);
    Memory::new([CURRENT].into_iter().chain(writers).chain(tables), [], &[])
}

fn process(memory: &Arc<Memory>, slot: u16) -> Process {
    Process { view: memory.view(), slot }
}

/// Keys of one bucket of the first table.
fn keys() -> [u64; 3] {
    let belongs = |key: &u64| hash::of(key) & 7 == 1;
    let mut keys = (0..).filter(belongs);
    std::array::from_fn(|_| keys.next().unwrap())
}

/// Prepares, lets one process change the shard while another looks twice, and judges what that saw.
fn race<T: std::fmt::Debug + Send + 'static>(
    prepare: impl Fn(&Process) + Send + Sync + 'static,
    change: impl Fn(&Process) + Send + Sync + Copy + 'static,
    look: impl Fn(&Process) -> T + Send + Sync + Copy + 'static,
    judge: impl Fn(&[T; 2]) -> bool + Send + Sync + 'static,
) {
    explore(3, move || {
        let memory = memory();
        prepare(&process(&memory, 0));
        let writer = {
            let memory = Arc::clone(&memory);
            start(move || change(&process(&memory, 1)))
        };
        let reader = {
            let memory = Arc::clone(&memory);
            start(move || [2, 3].map(|slot| look(&process(&memory, slot))))
        };
        writer.join().unwrap();
        let found = reader.join().unwrap();
        assert!(judge(&found), "{found:?}");
    });
}

/// As [`race`] with one who looks for a key.
fn race_for(
    key: u64,
    prepare: impl Fn(&Process) + Send + Sync + 'static,
    change: impl Fn(&Process) + Send + Sync + Copy + 'static,
    judge: impl Fn(&[Option<u64>; 2]) -> bool + Send + Sync + 'static,
) {
    race(prepare, change, move |process| process.get(key), judge);
}

#[test]
fn a_reader_finds_a_whole_value_while_it_is_changed_and_its_entry_used_again() {
    let [key, other, _] = keys();
    race_for(
        key,
        move |process| process.set(key, Some(1)),
        // The entry of the 1 is used again for the other key.
        move |process| {
            process.set(key, Some(2));
            process.set(other, Some(9));
        },
        |found| found.is_sorted() && found.iter().all(|value| value.is_some_and(|value| value < 3)),
    );
}

#[test]
fn a_reader_does_not_miss_a_key_whose_neighbour_goes() {
    let [key, first, last] = keys();
    race_for(
        key,
        move |process| [last, key, first].iter().for_each(|&key| process.set(key, Some(5))),
        // Both times the entry of the key is copied, or the chain behind it changes.
        move |process| {
            process.set(last, None);
            process.set(first, None);
            process.set(last, Some(6));
        },
        |found| *found == [Some(5), Some(5)],
    );
}

/// An entry that a reader stands on comes into another bucket, whose chain does not lead on.
#[test]
fn a_reader_does_not_miss_a_key_behind_one_that_goes() {
    let [key, before, first] = keys();
    let elsewhere = (0..).find(|key| hash::of(key) & 7 == 2).unwrap();
    race_for(
        key,
        move |process| [key, before, first].iter().for_each(|&key| process.set(key, Some(5))),
        move |process| {
            process.set(before, None);
            process.set(elsewhere, Some(6));
        },
        |found| *found == [Some(5), Some(5)],
    );
}

#[test]
fn a_reader_finds_what_is_in_the_old_table_or_in_the_new_one() {
    let [key, other, _] = keys();
    race_for(
        key,
        move |process| {
            process.set(key, Some(1));
        },
        move |process| {
            process.shard().reserve(10, PATIENCE).unwrap();
            process.set(key, Some(2));
            process.set(other, Some(7));
        },
        |found| found.is_sorted() && found.iter().all(|value| value.is_some_and(|value| value < 3)),
    );
}

#[test]
fn a_key_that_comes_and_goes_is_seen_in_that_order() {
    let [key, other, _] = keys();
    race_for(
        key,
        |_| {},
        move |process| {
            process.set(key, Some(1));
            process.set(key, None);
            process.set(other, Some(2));
        },
        |found| found.iter().all(|value| matches!(value, None | Some(1))),
    );
}

#[test]
fn who_looks_at_all_entries_sees_each_of_them_once() {
    let [key, first, last] = keys();
    let look = |process: &Process| {
        let (table, mut entries) = (process.shard().table().unwrap().unwrap(), vec![]);
        table.read_all(1, &mut entries);
        entries.sort_unstable();
        entries.iter().map(|&(key, [one, _])| (key, one)).collect::<Vec<_>>()
    };
    let mut states = [vec![(key, 5), (last, 5)], vec![(key, 5)], vec![(key, 5), (first, 6)]];
    states.iter_mut().for_each(|state| state.sort_unstable());
    race(
        move |process| [last, key].iter().for_each(|&key| process.set(key, Some(5))),
        move |process| {
            process.set(last, None);
            process.set(first, Some(6));
        },
        look,
        move |found| found.iter().all(|seen| states.contains(seen)),
    );
}

#[test]
fn the_scene_s_tables_are_as_large_as_it_takes() {
    let words_for = Table::<&View, u64, Value>::words_for;
    assert_eq!(words_for(4), Some(SPANS[0].words));
    assert!(words_for(8).unwrap() <= SPANS[1].words);
}
