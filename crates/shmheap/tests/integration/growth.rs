//! Goal: a heap that grows does so unnoticed by its other users, up to where it may, and where the
//! system's storage or address space ends there is an error, never a signal.
//!
//! Method: growth by several processes at once, by explicit calls, and by processes that are killed
//! on the way; a tmpfs of a few hundred KiB; a limit on the address space of a process.

use rustix::process::{Resource, Rlimit, setrlimit};
use shmheap::{Error, Handle, Heap, Policy};

use crate::support::process::{Fork, Role, Worker, mount_own_tmpfs, set_word, wait_for_word};
use crate::support::random::{Random, seed};
use crate::support::{
    HeapName, POLICIES, assert_empty, assert_whole, bytes, first_fit, heap_of, scalable,
};

const MIB: u64 = 1 << 20;

#[test]
fn processes_grow_a_heap_under_each_other() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = heap_of(policy, 64 << 10).max_len(64 * MIB).create(&name).unwrap();
        let mut workers: Vec<_> = (0..4_u64)
            .map(|n| Worker::start("growth::grower", &[name.as_str(), &n.to_string()]))
            .collect();
        for worker in &mut workers {
            assert_eq!(worker.hear(), "connected", "to a heap of 64 KiB");
        }
        for worker in &mut workers {
            worker.say("go");
        }
        let mut objects = 0;
        for (stamp, worker) in workers.iter_mut().enumerate() {
            loop {
                let line = worker.hear();
                if line == "done" {
                    break;
                }
                let handle: Handle = line.parse().unwrap();
                let object =
                    heap.resolve(handle).expect("an object beyond the end at the connection");
                assert!(bytes::is_stamped(&heap, object, 30_000, stamp as u64));
                objects += 1;
            }
        }
        let stats = assert_whole(&heap);
        assert_eq!((objects, stats.live_objects), (4 * 300, 4 * 300));
        assert!(stats.len_bytes > 1200 * 30_000 && stats.len_bytes <= 64 * MIB);
        for worker in &mut workers {
            worker.say("free");
        }
        for worker in workers {
            worker.finish();
        }
        assert_empty(&heap);
    }
}

#[test]
fn grower() {
    let Some(mut role) = Role::of("growth::grower") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let stamp = role.number(1);
    role.say("connected");
    role.hear().unwrap();
    let mut handles = vec![];
    for _ in 0..300 {
        let object = bytes::alloc(&heap, 30_000).unwrap();
        bytes::stamp(object, 30_000, stamp);
        handles.push(heap.handle(object).unwrap());
    }
    for handle in &handles {
        role.say(&handle.to_string());
    }
    role.say("done");
    role.hear().unwrap();
    for handle in handles {
        let object = heap.resolve(handle).unwrap();
        assert!(bytes::is_stamped(&heap, object, 30_000, stamp));
        bytes::free(&heap, object).unwrap();
    }
}

#[test]
fn growth_on_request_and_its_end() {
    let name = HeapName::new();
    let heap = first_fit(64 << 10).max_len(MIB).create(&name).unwrap();
    let peer = Heap::connect(&name).unwrap();
    assert_eq!(heap.grow(100_000).unwrap(), 100_000);
    assert_eq!(heap.grow(50_000).unwrap(), 100_000, "a heap never shrinks");
    assert_eq!(heap.grow(100_001).unwrap(), 100_016, "rounded up to the granule");
    assert_eq!(peer.info().len_bytes, 100_016);
    assert_eq!(
        std::fs::metadata(name.path()).unwrap().len(),
        heap.info().data_offset_bytes + 100_016
    );
    let error = heap.grow(MIB + 1).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "len", .. }), "{error}");
    assert_eq!(heap.grow(MIB).unwrap(), MIB);
    assert_empty(&heap);
    let whole = bytes::alloc(&peer, MIB).unwrap();
    bytes::stamp(whole, MIB, 1);
    bytes::free(&peer, whole).unwrap();
    assert_empty(&heap);
}

#[test]
fn a_full_heap_says_so_and_goes_on() {
    // What an object takes, and what the error names.
    for (policy, taken, named) in [(Policy::FirstFit, 1008, 1008), (Policy::Scalable, 1024, 1000)] {
        let heap = heap_of(policy, 64 << 10).max_len(256 << 10).create_memfd().unwrap();
        let mut objects = vec![];
        let error = loop {
            match bytes::alloc(&heap, 1000) {
                Ok(object) => objects.push(object),
                Err(error) => break error,
            }
        };
        let expected = (256 << 10) / taken;
        assert_eq!(objects.len() as u64, expected);
        let Error::Full { requested_bytes, free_bytes, len_bytes, max_len_bytes } = error else {
            panic!("{error}");
        };
        assert_eq!((requested_bytes, len_bytes, max_len_bytes), (named, 256 << 10, 256 << 10));
        assert_eq!(free_bytes, (256 << 10) - expected * taken);
        assert_eq!(assert_whole(&heap).live_objects, expected);
        bytes::free(&heap, objects.swap_remove(7)).unwrap();
        objects.push(bytes::alloc(&heap, 1000).unwrap());
        for object in objects {
            bytes::free(&heap, object).unwrap();
        }
        assert_empty(&heap);
    }
}

#[test]
fn an_aligned_object_makes_the_heap_grow_enough() {
    for lead in [0, 16, 4080, 4096] {
        let heap = first_fit(8192).max_len(MIB).create_memfd().unwrap();
        let filler = (lead > 0).then(|| bytes::alloc(&heap, lead).unwrap());
        let object = heap.alloc(bytes::layout(100_000, 4096)).unwrap();
        bytes::stamp(object, 100_000, 1);
        bytes::free(&heap, object).unwrap();
        if let Some(filler) = filler {
            bytes::free(&heap, filler).unwrap();
        }
        assert_empty(&heap);
    }
}

#[test]
fn growth_of_slabs_goes_by_units() {
    let name = HeapName::new();
    let heap = scalable(1).max_len(16 * MIB).create(&name).unwrap();
    let peer = Heap::connect(&name).unwrap();
    assert_eq!(heap.grow(100_000).unwrap(), 128 << 10, "rounded up to 64 KiB");
    assert_eq!(heap.grow(1).unwrap(), 128 << 10, "a heap never shrinks");
    assert_eq!(peer.info().len_bytes, 128 << 10);
    let error = heap.grow(16 * MIB + 1).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "len", .. }), "{error}");
    for align in [1, 64 << 10, MIB, 2 * MIB] {
        // Alone in the heap, and behind another.
        let object = peer.alloc(bytes::layout(3 * MIB, align)).unwrap();
        let other = peer.alloc(bytes::layout(2 * MIB, align)).unwrap();
        bytes::stamp(object, 3 * MIB, align);
        bytes::stamp(other, 2 * MIB, align + 1);
        assert!(bytes::is_stamped(&peer, object, 3 * MIB, align));
        bytes::free(&peer, object).unwrap();
        bytes::free(&peer, other).unwrap();
    }
    assert!(heap.info().len_bytes < 16 * MIB, "no more than is needed, and a little");
    let whole = bytes::alloc(&heap, 16 * MIB).expect("once all hands are empty");
    bytes::stamp(whole, 16 * MIB, 1);
    bytes::free(&heap, whole).unwrap();
    drop(peer);
    assert_empty(&heap);
}

#[test]
fn a_killed_grower_costs_the_others_nothing() {
    let Some(role) = Role::of("growth::a_killed_grower_costs_the_others_nothing") else {
        let seed = seed().to_string();
        Worker::start("growth::a_killed_grower_costs_the_others_nothing", &[&seed]).finish();
        return;
    };
    for policy in POLICIES {
        let mut random = Random::new(role.number(0));
        let board = heap_of(policy, 4096).create(HeapName::new()).unwrap();
        let (_, row) = bytes::alloc_words(&board, 1);
        for round in 1..=150 {
            let heap = heap_of(policy, 4096).max_len(1024 * MIB).create_memfd().unwrap();
            let mut grower = Fork::start(|| {
                set_word(&row[0], round);
                for step in 1..200_000 {
                    heap.grow(4096 + step * 4096).unwrap();
                }
            });
            wait_for_word(&row[0], round, || {});
            for _ in 0..random.log_uniform(1 << 20) {
                std::hint::spin_loop();
            }
            grower.kill();
            let stats = assert_whole(&heap);
            let object = bytes::alloc(&heap, stats.len_bytes + 5000).unwrap();
            assert_whole(&heap);
            bytes::free(&heap, object).unwrap();
            assert_empty(&heap);
        }
    }
}

#[test]
fn a_full_file_system_is_an_error_and_never_a_signal() {
    let path = "growth::a_full_file_system_is_an_error_and_never_a_signal";
    if Role::of(path).is_none() {
        return Worker::start_with(path, &[], |command| command.stdout(std::io::stdout())).finish();
    }
    for policy in POLICIES {
        let directory = tempfile::tempdir().unwrap();
        if !mount_own_tmpfs(directory.path(), "size=1m") {
            println!("skipped: mounting is not permitted");
            return;
        }
        let at = |name: &str| directory.path().join(name);
        let error = heap_of(policy, 2 * MIB).create_file(at("large")).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );

        let heap = heap_of(policy, 64 << 10).max_len(64 * MIB).create_file(at("heap")).unwrap();
        let peer = Heap::connect_file(at("heap")).unwrap();
        let mut objects = vec![];
        let error = loop {
            match bytes::alloc(&heap, 10_000) {
                Ok(object) => objects.push(object),
                Err(error) => break error,
            }
            bytes::stamp(*objects.last().unwrap(), 10_000, 1);
        };
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert!(objects.len() > 60, "{}", objects.len());
        let error = heap.grow(32 * MIB).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        let error = bytes::alloc(&peer, MIB).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("free of 1024 KiB"), "{error}");
        assert_whole(&peer);
        for object in objects {
            assert!(bytes::is_stamped(&heap, object, 10_000, 1));
            bytes::free(&heap, object).unwrap();
        }
        bytes::alloc(&peer, 10_000).unwrap();
        drop((heap, peer));
        // Its files go with the mount, which goes with the process.
    }
}

#[test]
fn a_false_length_on_a_full_file_system_is_no_signal() {
    let path = "growth::a_false_length_on_a_full_file_system_is_no_signal";
    if Role::of(path).is_none() {
        return Worker::start_with(path, &[], |command| command.stdout(std::io::stdout())).finish();
    }
    for policy in POLICIES {
        let directory = tempfile::tempdir().unwrap();
        if !mount_own_tmpfs(directory.path(), "size=1m") {
            println!("skipped: mounting is not permitted");
            return;
        }
        let path = directory.path().join("heap");
        let heap = heap_of(policy, 64 << 10).max_len(64 * MIB).create_file(&path).unwrap();
        let observer = Heap::connect_file_read_only(&path).unwrap();
        while bytes::alloc(&heap, 10_000).is_ok() {}
        std::fs::write(directory.path().join("filler"), vec![0; 1 << 20]).unwrap_err();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        // The header's length, and under first fit that of the area which holds the truth.
        let lengths: &[u64] = if policy == Policy::FirstFit { &[128, 659_536] } else { &[128] };
        for &at in lengths {
            std::os::unix::fs::FileExt::write_all_at(&file, &(64 * MIB).to_le_bytes(), at).unwrap();
            assert!(!observer.check().is_sound());
        }
        for heap in [&heap, &observer] {
            for distance in (0..64 * MIB).step_by(100_000 / 16 * 16) {
                let anywhere = bytes::displaced(heap.base(), distance as isize);
                let handle = Handle::from_raw(heap.info().data_offset_bytes + distance);
                let _ = (heap.usable_size(anywhere), heap.handle(anywhere), heap.resolve(handle));
            }
            let _ = (heap.stats(), heap.blocks().count(), heap.peers(), heap.info());
            assert!(!heap.check().is_sound());
        }
        assert!(matches!(bytes::alloc(&heap, 1), Err(Error::Damaged { .. })));
        assert!(matches!(heap.grow(64 * MIB), Err(Error::Damaged { .. }) | Ok(_)));
    }
}

#[test]
fn address_space_that_ends_is_an_error() {
    let path = "growth::address_space_that_ends_is_an_error";
    if Role::of(path).is_none() {
        return Worker::start(path, &[]).finish();
    }
    for policy in POLICIES {
        let name = HeapName::new();
        let large = heap_of(policy, 4096).max_len(8 << 30);
        let heap = large.create(&name).unwrap();
        let limit = Rlimit { current: Some(12 << 30), maximum: None };
        setrlimit(Resource::As, limit).unwrap();
        let error = Heap::connect(&name).unwrap_err();
        assert!(matches!(error, Error::AddressSpace { .. }), "{error}");
        let other = HeapName::new();
        let error = large.create(&other).unwrap_err();
        assert!(matches!(error, Error::AddressSpace { .. }), "{error}");
        assert!(!other.path().exists());
        let object = bytes::alloc(&heap, 100_000).unwrap();
        bytes::free(&heap, object).unwrap();
        assert_empty(&heap);
        assert_eq!(heap.peers().len(), 1, "no record is left of a connection that failed");
    }
}
