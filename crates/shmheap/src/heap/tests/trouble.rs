//! The whole heap where things go wrong around it: full systems, lost descriptors, hostile bytes.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::sync::atomic::Ordering;

use crate::first_fit::layout::{Area, LENGTH};
use crate::os::testing::{
    NameGuard, close_all_descriptors, exit_status, fork, in_own_process, tmpfs_of_own,
};
use crate::{Heap, HeapOptions, Policy};

/// A heap whose engine is the first fit.
fn first_fit(len_bytes: u64) -> HeapOptions {
    HeapOptions::new(len_bytes).policy(Policy::FirstFit)
}

/// Where the records of a first-fit heap lie.
fn layout(heap: &Heap) -> &crate::first_fit::layout::Layout {
    match &heap.shape.engine {
        crate::heap::shape::Engine::FirstFit(engine) => engine.layout(),
        crate::heap::shape::Engine::Slabs(_) => panic!("a heap of slabs"),
    }
}

fn area_start(heap: &Heap, area: Area) -> u64 {
    layout(heap).storage(area, 0, 1)[0].start
}

fn bytes(count: usize) -> Layout {
    Layout::from_size_align(count, 1).unwrap()
}

/// /dev/shm is full when a heap wants to grow: an error, not a signal.
#[test]
fn a_full_system_is_an_error_at_growth() {
    in_own_process(module_path!(), "a_full_system_is_an_error_at_growth", || {
        let directory = tempfile::tempdir().unwrap();
        let Some(_mount) = tmpfs_of_own(directory.path(), "size=8m") else { return };
        let path = directory.path().join("heap");
        let child = fork(|| {
            let heap = first_fit(256 << 10).max_len(64 << 20).create_file(&path).unwrap();
            let filler = std::fs::File::create(directory.path().join("filler")).unwrap();
            let mut size = 8 << 20;
            while size >= 4096 {
                let stat = rustix::fs::fstat(&filler).unwrap();
                let flags = rustix::fs::FallocateFlags::empty();
                if rustix::fs::fallocate(&filler, flags, stat.st_size as u64, size).is_err() {
                    size /= 2;
                }
            }
            let refused = heap.alloc(bytes(300 << 10));
            println!("{refused:?}");
            i32::from(refused.is_ok())
        });
        assert_eq!(exit_status(child), 0, "-1 is death by a signal");
    });
}

/// A search index that says "nothing free" where the last block is: an answer, not a hang.
#[test]
fn a_search_index_that_says_too_little_does_not_hang() {
    in_own_process(module_path!(), "a_search_index_that_says_too_little_does_not_hang", || {
        let heap = first_fit(60 << 10).create_memfd().unwrap();
        // The last array of the area is the single word of the root.
        let words = heap.mapping.words(heap.shape.word_count);
        let mut area = words[..(area_start(&heap, Area(1)) / 8) as usize].iter().rev();
        let root = area.find(|word| word.load(Ordering::Relaxed) != 0).unwrap();
        root.store(0, Ordering::Relaxed);
        // SAFETY: plain system call: ends this process if it hangs.
        unsafe { libc::alarm(5) };
        println!("{:?}", heap.alloc(bytes(100)));
    });
}

/// What a daemoniser does to the creator of a heap, and to one that connected.
#[test]
fn creators_outlive_close_range_as_others_do() {
    in_own_process(module_path!(), "creators_outlive_close_range_as_others_do", || {
        for creator in [false, true] {
            let guard = NameGuard::new();
            let name = guard.at().path().file_name().unwrap().to_owned();
            let child = fork(|| {
                let made = first_fit(1 << 16).max_len(1 << 20).create(&name).unwrap();
                let other = Heap::connect(&name).unwrap();
                close_all_descriptors();
                let grown = if creator { made.grow(1 << 20) } else { other.grow(1 << 20) };
                println!("creator {creator}: {grown:?}");
                i32::from(grown.is_err())
            });
            assert_eq!(exit_status(child), 0, "creator: {creator}");
        }
    });
}

/// An iterator that promises to be fused.
#[test]
fn blocks_end_for_good() {
    let heap = first_fit(1 << 12).max_len(1 << 16).create_memfd().unwrap();
    heap.alloc(bytes(1 << 12)).unwrap();
    let mut blocks = heap.blocks();
    assert_eq!(blocks.by_ref().count(), 1);
    heap.grow(1 << 16).unwrap();
    assert_eq!(blocks.next(), None, "fused");
}

/// Heaps that are overwritten; each costs a fork.
const ROUNDS: u64 = 600;

/// The whole interface over a heap with random words overwritten: no signal, no panic, no hang.
#[test]
fn hostile_bytes_never_hurt_a_healthy_process() {
    in_own_process(module_path!(), "hostile_bytes_never_hurt_a_healthy_process", || {
        let mut bad = vec![];
        for seed in 1..=ROUNDS {
            let child = fork(|| {
                // SAFETY: plain system call: ends this process if it hangs.
                unsafe { libc::alarm(3) };
                hostile_round(seed);
                0
            });
            let (_, status) =
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())
                    .unwrap()
                    .unwrap();
            if status.exit_status() != Some(0) {
                bad.push((seed, status.exit_status(), status.terminating_signal()));
            }
        }
        assert!(bad.is_empty(), "{} of {ROUNDS}: {:?}", bad.len(), &bad[..bad.len().min(12)]);
    });
}

fn hostile_round(seed: u64) {
    let mut state = seed;
    let mut below = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let heap = first_fit(60_000).max_len(300_000).create_memfd().unwrap();
    let mut live = vec![];
    for number in 0..300 {
        let object = heap.alloc(bytes(1 + below(200) as usize)).unwrap();
        if number % 3 == 0 {
            // SAFETY: nobody uses it.
            unsafe { heap.free(object) }.unwrap();
        } else {
            live.push(object);
        }
    }
    let words = heap.words();
    for _ in 0..1 + below(4) {
        let at = match below(5) {
            0 => 16 + below(48),
            1 => area_start(&heap, Area::FIRST) / 8 + below(16),
            _ => {
                let [start, end] = [0, 1].map(|area| area_start(&heap, Area(area)) / 8);
                start + below(end - start)
            }
        };
        let value = match below(6) {
            0 => below(5000),
            1 => 1 << below(64),
            2 => u64::MAX,
            3 => 0,
            _ => below(1 << 31) * below(1 << 31) * 4 + below(4),
        };
        crate::segment::words::Words::store(&words, crate::units::WordIndex(at), value);
    }
    for _ in 0..20 {
        let layout = Layout::from_size_align(1 + below(3000) as usize, 1 << below(10)).unwrap();
        if let Ok(object) = heap.alloc_zeroed(layout) {
            let _ = heap.usable_size(object);
            let _ = heap.handle(object).map(|handle| heap.resolve(handle));
            // SAFETY: nobody uses it.
            let _ = unsafe { heap.realloc(object, layout) };
        }
        let object = live[below(live.len() as u64) as usize];
        // SAFETY: nobody uses it.
        let _ = unsafe { heap.free(object) };
        let _ = heap.grow(60_000 + below(300_000));
    }
    let _ = (heap.stats(), heap.blocks().count(), heap.peers(), heap.sweep(), heap.check());
}

/// Callers write to as many bytes as an object is said to have.
#[test]
fn an_object_behind_an_overwritten_end_has_no_bytes() {
    use crate::segment::words::Words;
    let heap = first_fit(60_000).create_memfd().unwrap();
    let rest = heap.stats().largest_free_bytes;
    let last = heap.alloc(bytes(100)).and_then(|_| heap.alloc(bytes(rest as usize - 112))).unwrap();
    let length = crate::units::WordIndex(area_start(&heap, Area::FIRST) / 8 + LENGTH);
    assert!(heap.usable_size(last).unwrap() <= rest as usize);
    for nonsense in [0, 8, 64] {
        heap.words().store(length, nonsense);
        assert!(heap.usable_size(last).is_err(), "{nonsense}");
    }
}
