//! Snapshots, of heaps at rest and of heaps that several processes storm.

use std::alloc::Layout;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::heap::{Gate, Span};
use crate::os::testing::{NameGuard, exit_status, fork, in_own_process};
use crate::peers::ledger::Content;
use crate::segment::words::Words;
use crate::{Error, Handle, Heap, HeapOptions, Policy, ShmArc, ShmMutex, ShmVec};

const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];
const STORMERS: u64 = 3;
const SNAPSHOTS: usize = 12;
/// Objects that each process makes, and nobody changes.
const STILL: u64 = 300;
const CELLS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(120);

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn layout(bytes: u64) -> Layout {
    Layout::from_size_align(bytes as usize, 8).unwrap()
}

/// An object of so many words, each of which follows from the first.
fn still_object(heap: &Heap, words: u64, seed: u64) -> Handle {
    let handle = heap.handle(heap.alloc(layout(words * 8)).unwrap()).unwrap();
    let (gate, span) = (heap.gate(), heap.span(handle).unwrap());
    for number in 0..words {
        gate.store(span.word(number), seed.wrapping_mul(2 * number + 1));
    }
    handle
}

fn free(heap: &Heap, object: NonNull<u8>) {
    // SAFETY: the object is this process's, which forgets it.
    #[allow(unsafe_code)]
    unsafe { heap.free(object) }.unwrap();
}

fn is_still(heap: &Heap, handle: Handle, words: u64, seed: u64) -> bool {
    let mut bytes = vec![0; (words * 8) as usize];
    let Ok(count) = heap.read_at(handle, 0, &mut bytes) else { return false };
    let (found, _) = bytes.as_chunks::<8>();
    let expected = (0..words).map(|number| seed.wrapping_mul(2 * number + 1));
    count == bytes.len() && found.iter().map(|word| u64::from_le_bytes(*word)).eq(expected)
}

/// The size and the content of one of the objects that nobody changes.
fn of_number(number: u64) -> (u64, u64) {
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = match random(&mut seed) % 20 {
        0 => 8192 + random(&mut seed) % 30_000,
        1..5 => 100 + random(&mut seed) % 2000,
        _ => 1 + random(&mut seed) % 60,
    };
    (words, seed)
}

fn copied(heap: &Heap, directory: &Path, number: usize) -> std::path::PathBuf {
    let path = directory.join(format!("copy-{number}"));
    heap.snapshot_file(&path).unwrap();
    path
}

#[test]
fn a_copy_has_what_the_heap_has() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let options = HeapOptions::new(2 << 20).max_len(64 << 20).policy(policy);
        let heap = options.create_memfd().unwrap();
        heap.find_or_create::<u64>("number", |number| *number = 5).unwrap();
        let handles: Vec<_> =
            (0..50).map(|n| still_object(&heap, of_number(n).0, of_number(n).1)).collect();
        let unpublished = heap.alloc_unpublished(layout(100)).unwrap();
        let freed = still_object(&heap, 100, 1);
        free(&heap, heap.resolve(freed).unwrap());
        let path = copied(&heap, directory.path(), policy as usize);
        assert!(matches!(heap.snapshot_file(&path), Err(Error::AlreadyExists { .. })));
        for copy in [Heap::connect_file_read_only(&path), Heap::connect_file(&path)] {
            let copy = copy.unwrap();
            let report = copy.check();
            assert!(report.is_sound() && report.stood_still, "{policy:?}: {:?}", report.findings);
            for (number, &handle) in (0..).zip(&handles) {
                let (words, seed) = of_number(number);
                assert!(is_still(&copy, handle, words, seed), "{policy:?}: {number}");
            }
            assert!(copy.resolve(freed).is_err());
            assert!(copy.resolve(unpublished.handle()).is_ok() && copy.in_hand().is_empty());
            assert_eq!(copy.root_handle("number").unwrap(), heap.root_handle("number").unwrap());
            let [here, there] = [heap.stats(), copy.stats()];
            assert_eq!((here.live_bytes, here.len_bytes), (there.live_bytes, there.len_bytes));
            let [here, there] = [heap.info(), copy.info()];
            assert!(here.id != there.id && here.max_len_bytes == there.max_len_bytes);
            assert_eq!(here.address, there.address);
        }
        let copy = Heap::connect_file(&path).unwrap();
        assert_eq!(*copy.find_root::<u64>("number").unwrap(), 5);
        copy.find_or_create::<u64>("another", |_| {}).unwrap();
        assert_eq!(copy.peers().len(), 1, "this process alone");
        let back = directory.path().join(format!("back-{}", policy as usize));
        drop(copy);
        Heap::connect_file_read_only(&path).unwrap().snapshot_file(&back).unwrap();
        assert!(Heap::connect_file(&back).unwrap().root_handle("another").is_ok());
    }
}

#[test]
fn what_is_free_takes_no_storage_in_a_scalable_copy() {
    let directory = tempfile::tempdir().unwrap();
    let heap = HeapOptions::new(64 << 20).create_memfd().unwrap();
    still_object(&heap, 1000, 7);
    let path = copied(&heap, directory.path(), 0);
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.size() > 64 << 20);
    assert!(metadata.blocks() * 512 < 2 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn a_copy_of_a_same_address_heap_lies_there_too() {
    let directory = tempfile::tempdir().unwrap();
    let heap = HeapOptions::new(1 << 20).same_address().create_memfd().unwrap();
    let object = heap.alloc(layout(64)).unwrap();
    let handle = heap.handle(object).unwrap();
    let path = copied(&heap, directory.path(), 0);
    assert!(matches!(Heap::connect_file(&path), Err(Error::AddressTaken { .. })));
    drop(heap);
    assert_eq!(Heap::connect_file(&path).unwrap().resolve(handle).unwrap(), object);
}

#[test]
fn a_copy_of_an_ephemeral_heap_stays() {
    let (directory, name) = (tempfile::tempdir().unwrap(), NameGuard::new());
    let heap = HeapOptions::new(1 << 20).ephemeral().create(name.at().label()).unwrap();
    let path = copied(&heap, directory.path(), 0);
    assert!(heap.info().is_ephemeral);
    drop(Heap::connect_file(&path).unwrap());
    assert!(!Heap::connect_file(&path).unwrap().info().is_ephemeral);
}

#[test]
fn what_values_own_is_theirs_in_the_copy() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let heap = HeapOptions::new(2 << 20).policy(policy).create_memfd().unwrap();
        let list = heap.find_or_create::<ShmMutex<ShmVec<u64>>>("list", |_| {}).unwrap();
        (0..100).for_each(|number| list.lock(&heap).unwrap().push(&heap, number).unwrap());
        let copy = Heap::connect_file(copied(&heap, directory.path(), policy as usize)).unwrap();
        let copied_list = copy.find_root::<ShmMutex<ShmVec<u64>>>("list").unwrap();
        copied_list.lock(&copy).unwrap().push(&copy, 100).unwrap();
        let len = copied_list.lock(&copy).unwrap().len(&copy).unwrap();
        assert_eq!(len, 101, "{policy:?}");
        let live = copy.stats().live_objects;
        copy.remove_root("list").unwrap();
        drop(copied_list);
        assert_eq!(copy.stats().live_objects, live - 2, "{policy:?}: with its elements");
    }
}

#[test]
fn who_held_something_holds_nothing_in_the_copy() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let heap = HeapOptions::new(2 << 20).policy(policy).create_memfd().unwrap();
        let held = ShmArc::new(&heap, 5_u64).unwrap();
        let weak = ShmArc::downgrade(&held);
        let copy = Heap::connect_file(copied(&heap, directory.path(), policy as usize)).unwrap();
        // Its first peer has the slot that the holder has in the heap, and is another.
        assert_eq!((copy.peers()[0].slot, heap.peers()[0].slot), (0, 0));
        copy.sweep_shared().unwrap();
        assert!(weak.upgrade(&copy).unwrap().is_none(), "{policy:?}");
        assert_eq!(*held, 5);
    }
}

#[test]
fn a_hand_over_under_way_has_its_object_in_the_cell() {
    let directory = tempfile::tempdir().unwrap();
    for (number, policy) in POLICIES.into_iter().enumerate() {
        for state in [2, 3, 4, 6] {
            let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
            let cell = heap.alloc_zeroed(layout(8)).unwrap().cast();
            let at = heap.cell(cell).unwrap();
            let object = heap.alloc_unpublished(layout(40)).unwrap();
            let record = heap.thread_records().last().unwrap();
            let entry = heap.shape.threads.first_entry(record);
            let word = heap.shape.threads.entry_word(entry);
            let raw = heap.words().load(word) & !7;
            heap.words().store(word + 1, at.offset().0);
            heap.words().store(word, raw | state);
            let tag = crate::peers::ledger::TAG_MARK | u64::from(record.number()) << 16 | 1;
            heap.gate().store(at, tag);
            assert!(matches!(heap.ledger().content(at), Content::Midway(_)), "{state}");
            let path = copied(&heap, directory.path(), number * 10 + state as usize);
            let copy = Heap::connect_file(path).unwrap();
            assert_eq!(copy.ledger().content(at), Content::Object(raw), "{policy:?}: {state}");
            heap.gate().store(at, 0);
            heap.ledger().own(entry, raw);
            drop(object);
        }
    }
}

/// What the storm and its judge share: objects of the heap.
struct Shared<'h> {
    gate: Gate<'h>,
    /// Not 0: stop.
    stop: Span,
    cells: NonNull<u64>,
    /// The handles of the objects that nobody changes, process by process.
    handles: Span,
}

impl<'h> Shared<'h> {
    fn new(heap: &'h Heap) -> Self {
        let words = |count: u64| heap.alloc_zeroed(layout(count * 8)).unwrap();
        let span = |count| heap.span(heap.handle(words(count)).unwrap()).unwrap();
        let (stop, handles) = (span(1), span(STORMERS * STILL));
        Self { gate: heap.gate(), stop, cells: words(CELLS).cast(), handles }
    }

    #[allow(unsafe_code)]
    fn cell(&self, number: u64) -> NonNull<u64> {
        // SAFETY: the object has as many words.
        unsafe { self.cells.add(number as usize) }
    }

    fn still(&self, number: u64) -> u64 {
        self.gate.load(self.handles.word(number))
    }
}

/// Allocates, frees, resizes, hands over and names objects until it is told to stop.
#[allow(unsafe_code)]
fn storm(heap: &Heap, shared: &Shared<'_>, number: u64, seed: u64) -> i32 {
    for still in number * STILL..(number + 1) * STILL {
        let (words, content) = of_number(still);
        let handle = still_object(heap, words, content);
        shared.gate.store(shared.handles.word(still), handle.to_raw());
    }
    let mut seed = seed ^ (number + 1) << 32;
    let mut held: Vec<NonNull<u8>> = vec![];
    while shared.gate.load(shared.stop.first) == 0 {
        let cell = shared.cell(random(&mut seed) % CELLS);
        let bytes = if random(&mut seed).is_multiple_of(50) { 200_000 } else { 700 };
        let bytes = 1 + random(&mut seed) % bytes;
        match random(&mut seed) % 16 {
            0..6 if held.len() < 500 => held.extend(heap.alloc(layout(bytes)).ok()),
            0..10 if !held.is_empty() => {
                let object = held.swap_remove(random(&mut seed) as usize % held.len());
                free(heap, object);
            }
            10..12 if !held.is_empty() => {
                let place = random(&mut seed) as usize % held.len();
                // SAFETY: the object is this process's, which forgets the old address.
                if let Ok(moved) = unsafe { heap.realloc(held[place], layout(bytes)) } {
                    held[place] = moved;
                }
            }
            12 => {
                if let Ok(object) = heap.alloc_unpublished(layout(64)) {
                    // SAFETY: the cell is a word of an object that is nothing else.
                    let _ = unsafe { object.publish(cell) };
                }
            }
            // SAFETY: as above.
            13 => drop(unsafe { heap.take(cell) }),
            14 => {
                let name = format!("root {}", random(&mut seed) % 40);
                let _ = heap.find_or_create::<[u64; 4]>(&name, |_| {}).map(drop);
                if random(&mut seed).is_multiple_of(2) {
                    let _ = heap.remove_root(&name);
                }
            }
            _ => drop(ShmArc::new(heap, seed)),
        }
    }
    0
}

/// A copy is sound, has what stood still, and can be worked with.
fn judge(path: &Path, shared: &Shared<'_>, stirred: u64) {
    let observer = Heap::connect_file_read_only(path).unwrap();
    let report = observer.check();
    assert!(report.is_sound() && report.stood_still, "{:?}", report.findings);
    assert!(!report.recovery_pending);
    for number in 0..STORMERS * STILL {
        let raw = shared.still(number);
        let (words, content) = of_number(number);
        assert!(is_still(&observer, Handle::from_raw(raw), words, content), "object {number}");
    }
    drop(observer);
    let copy = Heap::connect_file(path).unwrap();
    copy.sweep().unwrap();
    copy.sweep_shared().unwrap();
    for number in 0..100 {
        copy.find_or_create::<u64>(&format!("new {number}"), |_| {}).unwrap();
        drop(copy.alloc_unpublished(layout(1 + (stirred * 31 + number * 977) % 9000)));
    }
    let report = copy.check();
    assert!(report.is_sound(), "after work: {:?}", report.findings);
    drop(copy);
    std::fs::remove_file(path).unwrap();
}

/// The processes of a storm, which end with the test that they are for.
struct Stormers(Vec<Pid>);

impl Drop for Stormers {
    fn drop(&mut self) {
        for &child in &self.0 {
            let _ = kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
    }
}

fn snapshots_in_a_storm(policy: Policy, stops: bool) {
    let given = std::env::var("SHMHEAP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| crate::os::process::random_bits().unwrap() as u64 | 1);
    println!("replay with SHMHEAP_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let options = HeapOptions::new(4 << 20).max_len(256 << 20).policy(policy);
    let heap = options.create_memfd().unwrap();
    let shared = Shared::new(&heap);
    let fork_one = |number| fork(|| storm(&heap, &shared, number, seed));
    let mut children = Stormers((0..STORMERS).map(fork_one).collect());
    let deadline = Instant::now() + PATIENCE;
    while (0..STORMERS * STILL).any(|number| shared.still(number) == 0) {
        assert!(Instant::now() < deadline, "the storm does not begin");
        std::thread::yield_now();
    }
    for number in 0..SNAPSHOTS {
        let stopped = children.0[number % children.0.len()];
        if stops {
            kill_process(stopped, Signal::STOP).unwrap();
        }
        let path = copied(&heap, directory.path(), number);
        if stops {
            kill_process(stopped, Signal::CONT).unwrap();
        }
        judge(&path, &shared, seed % 1000 + number as u64);
    }
    shared.gate.store(shared.stop.first, 1);
    let statuses = std::mem::take(&mut children.0).into_iter().map(exit_status);
    assert_eq!(statuses.collect::<Vec<_>>(), [0; STORMERS as usize]);
    assert!(heap.check().is_sound());
}

#[test]
fn snapshots_of_slabs_in_a_storm() {
    in_own_process(module_path!(), "snapshots_of_slabs_in_a_storm", || {
        snapshots_in_a_storm(Policy::Scalable, false);
    });
}

#[test]
fn snapshots_of_first_fit_in_a_storm() {
    in_own_process(module_path!(), "snapshots_of_first_fit_in_a_storm", || {
        snapshots_in_a_storm(Policy::FirstFit, false);
    });
}

#[test]
fn snapshots_while_processes_are_stopped_anywhere() {
    in_own_process(module_path!(), "snapshots_while_processes_are_stopped_anywhere", || {
        for policy in POLICIES {
            snapshots_in_a_storm(policy, true);
        }
    });
}

#[test]
fn an_observer_copies_a_heap_at_rest() {
    let directory = tempfile::tempdir().unwrap();
    for (number, policy) in POLICIES.into_iter().enumerate() {
        let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
        let handle = still_object(&heap, 500, 3);
        let first = copied(&heap, directory.path(), 10 + number);
        let observer = Heap::connect_file_read_only(first).unwrap();
        let copy = Heap::connect_file(copied(&observer, directory.path(), number)).unwrap();
        assert!(is_still(&copy, handle, 500, 3) && copy.check().is_sound());
    }
}
