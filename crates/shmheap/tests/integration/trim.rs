//! Goal: `trim` gives the memory of free units back to the system and nothing else, whoever is
//! killed meanwhile, and memory that cannot be had again is an error, never a signal.
//!
//! Method: what the heap says was given back is compared with what the file system says the file
//! takes; processes are killed in the middle of `trim`; a tmpfs of its own is filled up by another
//! file between `trim` and the next allocation.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use shmheap::{Error, Heap};

use crate::support::process::{Fork, Role, Worker, mount_own_tmpfs, set_word, wait_for_word};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, assert_empty, assert_whole, bytes, first_fit, scalable};

const MIB: u64 = 1 << 20;

/// Bytes that a file takes of its file system.
fn storage(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn trim_gives_back_what_no_object_uses() {
    let name = HeapName::new();
    let heap = scalable(32 * MIB).create(&name).unwrap();
    let peer = Heap::connect(&name).unwrap();
    let large = bytes::alloc(&heap, 8 * MIB).unwrap();
    let objects: Vec<_> = (0..2000).map(|_| bytes::alloc(&heap, 1000).unwrap()).collect();
    for &object in &objects {
        bytes::stamp(object, 1000, 1);
    }
    let before = storage(&name.path());
    let trimmed = heap.trim().unwrap();
    assert!(trimmed > 20 * MIB && trimmed < 24 * MIB, "{trimmed}");
    assert_eq!(before - storage(&name.path()), trimmed);
    assert_eq!(heap.stats().trimmed_bytes, trimmed);
    assert_eq!(peer.trim().unwrap(), 0, "nothing is given back twice");

    bytes::free_handle(&peer, heap.handle(large).unwrap()).unwrap();
    assert_eq!(peer.trim().unwrap(), 8 * MIB);
    let stats = assert_whole(&heap);
    assert_eq!(stats.trimmed_bytes, trimmed + 8 * MIB);
    assert!(objects.iter().all(|&object| bytes::is_stamped(&heap, object, 1000, 1)));

    let again = bytes::alloc(&heap, 20 * MIB).unwrap();
    bytes::stamp(again, 20 * MIB, 2);
    assert_eq!(heap.stats().trimmed_bytes, stats.trimmed_bytes - 20 * MIB);
    let grown = bytes::realloc(&heap, again, 21 * MIB, 1).unwrap();
    assert!(bytes::is_stamped(&heap, grown, 20 * MIB, 2));
    bytes::stamp(grown, 21 * MIB, 3);
    assert_eq!(heap.stats().trimmed_bytes, stats.trimmed_bytes - 21 * MIB);
    for object in objects.into_iter().chain([grown]) {
        bytes::free_handle(&peer, heap.handle(object).unwrap()).unwrap();
    }
    drop(peer);
    assert_empty(&heap);
    assert_eq!(heap.stats().trimmed_bytes, 32 * MIB);
    assert_eq!(before - storage(&name.path()), 32 * MIB);
    let whole = bytes::alloc(&heap, 32 * MIB).unwrap();
    bytes::stamp(whole, 32 * MIB, 4);
    assert_eq!((storage(&name.path()), heap.stats().trimmed_bytes), (before, 0));
}

#[test]
fn first_fit_has_nothing_to_trim() {
    let name = HeapName::new();
    let heap = first_fit(MIB).create(&name).unwrap();
    let before = storage(&name.path());
    assert_eq!(heap.trim().unwrap(), 0);
    assert_eq!((heap.stats().trimmed_bytes, storage(&name.path())), (0, before));
    let observer = Heap::connect_read_only(&name).unwrap();
    assert!(matches!(observer.trim(), Err(Error::ReadOnly { .. })));
}

#[test]
fn a_process_killed_while_it_trims_takes_no_memory_along() {
    let path = "trim::a_process_killed_while_it_trims_takes_no_memory_along";
    let Some(role) = Role::of(path) else {
        return Worker::start(path, &[&seed().to_string()]).finish();
    };
    let mut random = Random::new(role.number(0));
    let board = first_fit(4096).create(HeapName::new()).unwrap();
    let (_, row) = bytes::alloc_words(&board, 1);
    let heap = scalable(2 * MIB).max_len(4 * MIB).create_memfd().unwrap();
    for round in 1..=200 {
        let held = bytes::alloc(&heap, 100).unwrap();
        bytes::stamp(held, 100, round);
        let mut trimmer = Fork::start(|| {
            set_word(&row[0], round);
            loop {
                let object = bytes::alloc(&heap, MIB).unwrap();
                bytes::stamp(object, 4096, 1);
                bytes::free(&heap, object).unwrap();
                heap.trim().unwrap();
            }
        });
        wait_for_word(&row[0], round, || {});
        let mut left = random.log_uniform(1 << 18);
        while left > 0 {
            // Meanwhile in the same units.
            let object = bytes::alloc(&heap, 200_000).unwrap();
            bytes::stamp(object, 1000, round);
            assert!(bytes::is_stamped(&heap, object, 1000, round));
            bytes::free(&heap, object).unwrap();
            left = left.saturating_sub(1000);
        }
        trimmer.kill();
        assert_whole(&heap);
        assert!(bytes::is_stamped(&heap, held, 100, round));
        // What the trimmer had allocated is nobody's.
        for block in heap.blocks().filter(|block| block.live).collect::<Vec<_>>() {
            bytes::free_handle(&heap, block.handle).unwrap();
        }
        let len_bytes = heap.info().len_bytes;
        let whole = bytes::alloc(&heap, len_bytes).unwrap();
        bytes::stamp(whole, len_bytes, round);
        bytes::free(&heap, whole).unwrap();
        assert_empty(&heap);
    }
}

#[test]
fn trimmed_memory_that_is_gone_is_an_error_and_never_a_signal() {
    let path = "trim::trimmed_memory_that_is_gone_is_an_error_and_never_a_signal";
    if Role::of(path).is_none() {
        return Worker::start_with(path, &[], |command| command.stdout(std::io::stdout())).finish();
    }
    let directory = tempfile::tempdir().unwrap();
    if !mount_own_tmpfs(directory.path(), "size=16m") {
        println!("skipped: mounting is not permitted");
        return;
    }
    let at = |name: &str| directory.path().join(name);
    let heap = scalable(8 * MIB).max_len(64 * MIB).create_file(at("heap")).unwrap();
    let peer = Heap::connect_file(at("heap")).unwrap();
    let held: Vec<_> = (0..100).map(|_| bytes::alloc(&heap, 20_000).unwrap()).collect();
    for &object in &held {
        bytes::stamp(object, 20_000, 1);
    }
    let large = bytes::alloc(&peer, 4 * MIB).unwrap();
    bytes::free_handle(&heap, peer.handle(large).unwrap()).unwrap();
    let trimmed = heap.trim().unwrap();
    assert!(trimmed > 4 * MIB);

    fs::write(at("filler"), vec![1; 64 << 20]).unwrap_err();
    for (heap, size) in [&heap, &peer].into_iter().flat_map(|heap| [(heap, 100), (heap, 3 * MIB)]) {
        let error = bytes::alloc(heap, size).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{size}: {error}");
        assert!(error.to_string().contains("free of 16 MiB"), "{error}");
        assert_eq!(error.errno(), libc::ENOSPC);
    }
    let stats = assert_whole(&heap);
    assert_eq!((stats.trimmed_bytes, stats.live_objects), (trimmed, 100));
    assert!(held.iter().all(|&object| bytes::is_stamped(&heap, object, 20_000, 1)));
    bytes::free(&heap, held[7]).unwrap();

    fs::remove_file(at("filler")).unwrap();
    let again = bytes::alloc(&peer, 3 * MIB).unwrap();
    bytes::stamp(again, 3 * MIB, 2);
    assert_whole(&heap);
    // Its files go with the mount, which goes with the process.
}
