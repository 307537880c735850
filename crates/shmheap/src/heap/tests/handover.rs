//! Hand-overs of processes that die in the middle of them, put there word by word.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::heap::handover::Unpublished;
use crate::os::testing::{exit_status, fork, in_own_process};
use crate::peers::ledger::TAG_MARK;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Handle, Heap, HeapOptions, Policy};

const STATE_MASK: u64 = 7;

type Look = &'static dyn Fn(&Heap, NonNull<u64>);

const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

fn heap_and_cell(policy: Policy) -> (Heap, NonNull<u64>) {
    let heap = HeapOptions::new(256 << 10).policy(policy).create_memfd().unwrap();
    let cell = heap.alloc_zeroed(Layout::new::<u64>()).unwrap().cast();
    (heap, cell)
}

fn object(heap: &Heap) -> Unpublished<'_> {
    heap.alloc_unpublished(Layout::new::<[u8; 40]>()).unwrap()
}

fn peek(heap: &Heap, cell: NonNull<u64>) -> Option<Handle> {
    // SAFETY: the cell is an object of its own, zeroed, and nothing else.
    #[allow(unsafe_code)]
    unsafe {
        heap.peek(cell)
    }
}

fn take(heap: &Heap, cell: NonNull<u64>) -> crate::Result<Option<Unpublished<'_>>> {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        heap.take(cell)
    }
}

fn publish(object: Unpublished<'_>, cell: NonNull<u64>) -> crate::Result<Handle> {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    Ok(unsafe { object.publish(cell) }?)
}

/// The row of all words, and in it the word of the cell.
fn word_of(heap: &Heap, cell: NonNull<u64>) -> (&std::sync::atomic::AtomicU64, u64) {
    let at = heap.cell(cell).unwrap();
    (&heap.mapping.words(u64::MAX)[at.0 as usize], at.offset().0)
}

/// The entry's first word, the only one in use.
fn entry_word(heap: &Heap) -> WordIndex {
    let threads = heap.shape.threads;
    let words = heap.words();
    let records = (0..threads.used(&words)).filter_map(|number| threads.record(number.into()));
    let entries = records.flat_map(|record| threads.entries(record));
    entries.map(|entry| threads.entry_word(entry)).find(|&at| words.load(at) != 0).unwrap()
}

fn tag(heap: &Heap, at: WordIndex) -> u64 {
    let mut entries = (0..).map_while(|number| heap.shape.threads.entry_of_number(number));
    let entry = entries.find(|&entry| heap.shape.threads.entry_word(entry) == at).unwrap();
    let record = u64::from(entry.record().number());
    TAG_MARK | record << 16 | u64::from(entry.number()) << 8 | 1
}

/// A child that owns an object dies in `state`, with or without its tag in the cell; whether the
/// object is in the cell after the next one has looked.
fn dies(policy: Policy, state: u64, has_tag: bool, look: Look) -> bool {
    let (heap, cell) = heap_and_cell(policy);
    let child = fork(|| {
        std::mem::forget(object(&heap));
        let at = entry_word(&heap);
        let owned = heap.words().load(at);
        let (word, offset) = word_of(&heap, cell);
        heap.words().store(at + 1, offset);
        heap.words().store(at, (owned & !STATE_MASK) | state);
        if has_tag {
            word.store(tag(&heap, at), Ordering::SeqCst);
        }
        0
    });
    assert_eq!(exit_status(child), 0);
    assert_eq!(heap.stats().live_objects, 2, "the cell and the object");
    look(&heap, cell);
    let is_tag = word_of(&heap, cell).0.load(Ordering::SeqCst) & STATE_MASK != 0;
    assert!(!is_tag, "nothing was left to the next look");
    let found = peek(&heap, cell);
    heap.sweep().unwrap();
    assert_eq!(found, peek(&heap, cell), "nothing was left to the sweep");
    assert_eq!(word_of(&heap, cell).0.load(Ordering::SeqCst), found.map_or(0, Handle::to_raw));
    assert_eq!(heap.stats().live_objects, 1 + u64::from(found.is_some()));
    assert!(heap.check().is_sound());
    let own = heap.me("test").unwrap();
    let words = heap.words();
    let threads = heap.shape.threads;
    for number in 0..threads.used(&words) {
        let record = threads.record(number.into()).unwrap();
        let owner = threads.owner(&words, record, &|_| Ok(())).unwrap();
        assert!(owner.is_none_or(|owner| owner == own), "the records of the dead are free");
    }
    found.is_some()
}

/// Who comes across a dead one's tag, by whichever operation, finishes what that was doing.
#[test]
fn whoever_meets_the_tag_of_a_dead_peer_adopts_it() {
    in_own_process(module_path!(), "whoever_meets_the_tag_of_a_dead_peer_adopts_it", || {
        let looks: [Look; 3] = [
            &|heap, cell| _ = peek(heap, cell),
            &|heap, cell| {
                // What the dead one had published is there to be taken, and is put back.
                if let Some(taken) = take(heap, cell).unwrap() {
                    publish(taken, cell).unwrap();
                }
            },
            &|heap, cell| {
                // The cell of a dead taker is free, that of a dead publisher is not.
                if publish(object(heap), cell).is_ok() {
                    drop(take(heap, cell).unwrap().expect("it was published"));
                }
            },
        ];
        for (policy, look) in POLICIES.into_iter().flat_map(|policy| looks.map(|l| (policy, l))) {
            for state in [2, 3] {
                assert!(dies(policy, state, true, look), "published in state {state}");
            }
            for state in [4, 6] {
                assert!(!dies(policy, state, true, look), "taken in state {state}");
            }
        }
    });
}

#[test]
fn what_a_dead_peer_owned_is_freed() {
    in_own_process(module_path!(), "what_a_dead_peer_owned_is_freed", || {
        let sweep: Look = &|heap, _| assert_eq!(heap.sweep().unwrap(), 1);
        for policy in POLICIES {
            for state in [1, 2, 5, 6] {
                assert!(!dies(policy, state, false, sweep), "state {state}");
            }
        }
    });
}

/// The tag of a living peer: empty for who reads, occupied for who writes, and left alone.
#[test]
fn the_tag_of_a_living_peer_is_left_alone() {
    let (heap, cell) = heap_and_cell(Policy::FirstFit);
    let held = object(&heap);
    let (word, _) = word_of(&heap, cell);
    let its_tag = tag(&heap, entry_word(&heap));
    word.store(its_tag, Ordering::SeqCst);
    assert_eq!(peek(&heap, cell), None);
    assert!(take(&heap, cell).unwrap().is_none());
    assert!(matches!(publish(object(&heap), cell), Err(Error::Occupied { .. })));
    assert_eq!(word.load(Ordering::SeqCst), its_tag);
    drop(held);
}

#[test]
fn hostile_cells_are_errors_and_stay() {
    let (heap, cell) = heap_and_cell(Policy::FirstFit);
    let (word, _) = word_of(&heap, cell);
    for nonsense in [1, 7, 8, u64::MAX, TAG_MARK | 1 | 7 << 8, TAG_MARK | 1 | 0xffff << 16, 1 << 60]
    {
        word.store(nonsense, Ordering::SeqCst);
        assert!(matches!(take(&heap, cell), Err(Error::InvalidHandle { .. })), "{nonsense:#x}");
        assert!(matches!(publish(object(&heap), cell), Err(Error::Occupied { .. })));
        assert_eq!(word.load(Ordering::SeqCst), nonsense);
    }
    // The tag of a record that nobody has: it cannot be told from one that was just given back.
    word.store(TAG_MARK | 4000 << 16 | 1, Ordering::SeqCst);
    assert!(take(&heap, cell).unwrap().is_none());
    assert_eq!(heap.stats().live_objects, 1);
}

/// As many as the table has entries, and one more.
#[test]
fn the_number_of_unpublished_objects_ends_with_the_records() {
    let heap = HeapOptions::new(4 << 20).policy(Policy::FirstFit).create_memfd().unwrap();
    let all: Vec<_> = (0..6 * 3072).map(|_| object(&heap)).collect();
    let error = heap.alloc_unpublished(Layout::new::<u8>()).unwrap_err();
    assert!(matches!(error, Error::TooManyUnpublished { limit: 18_432 }), "{error}");
    drop(all);
    assert_eq!(heap.stats().live_objects, 0);
    let _one_more = object(&heap);
}

#[test]
fn an_entry_is_used_again_unless_it_still_owns_something() {
    let (heap, _) = heap_and_cell(Policy::FirstFit);
    let me = heap.me("test").unwrap();
    let first = heap.hold_entry(me).unwrap().entry;
    let mut held = heap.hold_entry(me).unwrap();
    assert_eq!(held.entry, first);
    held.is_in_use = true;
    drop(held);
    assert_ne!(heap.hold_entry(me).unwrap().entry, first);
}

/// The object, its entry and the cell are the parent's, whatever the child does with its copy.
#[test]
fn a_forked_child_leaves_its_parents_object_alone() {
    in_own_process(module_path!(), "a_forked_child_leaves_its_parents_object_alone", || {
        for policy in POLICIES {
            let (heap, cell) = heap_and_cell(policy);
            let mut held = Some(object(&heap));
            let uses: [&dyn Fn(Unpublished<'_>) -> bool; 3] = [
                &|object| {
                    drop(object);
                    true
                },
                &|object| matches!(publish(object, cell), Err(Error::Inherited { .. })),
                &|object| {
                    let _ = object.keep();
                    true
                },
            ];
            for used in uses {
                let child = fork(|| i32::from(!used(held.take().unwrap())));
                assert_eq!(exit_status(child), 0);
                heap.sweep().unwrap();
                assert_eq!(heap.stats().live_objects, 2);
                assert_eq!(word_of(&heap, cell).0.load(Ordering::SeqCst), 0);
            }
            let handle = publish(held.unwrap(), cell).unwrap();
            assert_eq!(peek(&heap, cell), Some(handle));
        }
    });
}

#[test]
fn a_cell_lies_in_object_space() {
    for policy in POLICIES {
        let (heap, cell) = heap_and_cell(policy);
        let len_bytes = heap.len_bytes();
        let [first, last] = [0, len_bytes - 8].map(|byte| heap.space().at(byte).cast::<u64>());
        for inside in [first, cell, last] {
            assert!(heap.cell(inside).is_ok(), "{policy:?}");
        }
        let outside = [
            first.as_ptr().wrapping_sub(1),
            first.as_ptr().wrapping_byte_add(4),
            last.as_ptr().wrapping_byte_add(4),
            last.as_ptr().wrapping_add(1),
            std::ptr::without_provenance_mut(8),
        ];
        for address in outside.map(|address| NonNull::new(address).unwrap()) {
            let refused = heap.cell(address);
            assert!(matches!(refused, Err(Error::InvalidCell { .. })), "{policy:?}, {address:?}");
        }
    }
}
