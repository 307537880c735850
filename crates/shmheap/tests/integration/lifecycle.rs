//! Goal: a heap comes and goes as its documentation says: names, modes, ways to pass it on, and
//! races for a name, in which nobody ever meets half a heap.
//!
//! Method: each way once, in one process or two; races by many processes that start on one signal;
//! creators killed at random moments.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::Mode;
use rustix::process::umask;
use shmheap::{Error, Handle, Heap};

use crate::support::process::{
    Fork, Role, Worker, close_all_descriptors, count_in_word, set_word, wait_for_word,
};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, POLICIES, assert_empty, assert_whole, bytes, first_fit, heap_of};

const LEN_BYTES: u64 = 64 << 10;

#[test]
fn a_heap_stands_until_it_is_destroyed() {
    for policy in POLICIES {
        let name = HeapName::new();
        assert!(matches!(Heap::connect(&name), Err(Error::NotFound { .. })));
        assert!(matches!(Heap::destroy(&name), Err(Error::NotFound { .. })));
        let heap = heap_of(policy, LEN_BYTES).create(&name).unwrap();
        let error = heap_of(policy, LEN_BYTES).create(&name).unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(error.errno(), libc::EEXIST);
        let object = bytes::alloc(&heap, 100).unwrap();
        bytes::stamp(object, 100, 1);
        let handle = heap.handle(object).unwrap();
        heap.disconnect();

        let heap = Heap::connect(&name).unwrap();
        let object = heap.resolve(handle).unwrap();
        assert!(bytes::is_stamped(&heap, object, 100, 1), "objects outlive connections");
        assert_eq!(heap.peers().len(), 1);
        bytes::free(&heap, object).unwrap();
        drop(heap);
        let listed = shmheap::list().unwrap();
        assert!(
            listed.iter().any(|listing| name.as_str().ends_with(listing.name.to_str().unwrap()))
        );
        Heap::destroy(&name).unwrap();
        assert!(!name.path().exists());
        assert!(matches!(Heap::connect(&name), Err(Error::NotFound { .. })));
    }
}

#[test]
fn an_observer_sees_all_and_changes_nothing() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = heap_of(policy, LEN_BYTES).create(&name).unwrap();
        let object = bytes::alloc(&heap, 100).unwrap();
        bytes::stamp(object, 100, 1);
        let handle = heap.handle(object).unwrap();
        fs::set_permissions(name.path(), Permissions::from_mode(0o400)).unwrap();
        let before = fs::read(name.path()).unwrap();

        let observer = Heap::connect_read_only(&name).unwrap();
        assert!(observer.is_read_only() && !heap.is_read_only());
        let seen = observer.resolve(handle).unwrap();
        assert!(bytes::is_stamped(&observer, seen, 100, 1));
        assert_eq!(observer.usable_size(seen).unwrap(), 112);
        let refused = [
            bytes::alloc(&observer, 1).unwrap_err(),
            bytes::free(&observer, seen).unwrap_err(),
            bytes::realloc(&observer, seen, 1, 1).unwrap_err(),
            observer.grow(LEN_BYTES).unwrap_err(),
            observer.sweep().unwrap_err(),
            observer.trim().unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
            assert_eq!(error.errno(), libc::EROFS);
        }
        assert_eq!(observer.blocks().collect::<Vec<_>>(), heap.blocks().collect::<Vec<_>>());
        assert_eq!(observer.stats(), heap.stats());
        assert_whole(&observer);
        assert_eq!(heap.peers().len(), 1, "nobody knows of an observer");
        assert_eq!(fs::read(name.path()).unwrap(), before);
    }
}

#[test]
fn names_follow_the_rules_of_shm_open() {
    let longest = format!("/shmheap-test-{}-{}", std::process::id(), "x".repeat(254));
    let longest = &longest[..255];
    first_fit(4096).create(longest).unwrap();
    Heap::connect(longest).unwrap();
    Heap::destroy(longest).unwrap();
    let name = HeapName::new();
    first_fit(4096).create(&name).unwrap();
    Heap::connect(&name.as_str()[1..]).expect("the slash may be missing");
    Heap::connect(format!("/{}", name.as_str())).expect("or be there twice");

    let too_long = format!("/{}", "x".repeat(255));
    let huge = "x".repeat(1 << 20);
    for bad in ["", "/", "//", "/a/b", "a/b", ".", "/..", "/a\0b", "/a/", &too_long, &huge] {
        let results = [
            first_fit(4096).create(bad),
            Heap::connect(bad),
            Heap::destroy(bad).map(|()| unreachable!()),
        ];
        for error in results.map(Result::unwrap_err) {
            assert!(matches!(error, Error::InvalidName { .. }), "{bad:.20}: {error:.100}");
            assert_eq!(error.errno(), libc::EINVAL);
        }
    }
    let missing_directory = Heap::connect_file("/no/such/directory/heap").unwrap_err();
    assert!(matches!(missing_directory, Error::NotFound { .. }), "{missing_directory}");
    assert!(first_fit(4096).create_file("/no/such/directory/heap").is_err());
}

#[test]
fn mode_and_group_are_exact_whatever_the_umask() {
    let path = "lifecycle::mode_and_group_are_exact_whatever_the_umask";
    if Role::of(path).is_none() {
        return Worker::start(path, &[]).finish();
    }
    let directory = tempfile::tempdir().unwrap();
    let group = fs::metadata(directory.path()).unwrap().gid();
    for mask in [0o000, 0o022, 0o077, 0o777] {
        umask(Mode::from_raw_mode(mask));
        for mode in [None, Some(0o660), Some(0o644), Some(0o400), Some(0o000), Some(0o777)] {
            let options = first_fit(4096);
            let options = mode.map_or(options.clone(), |mode| options.mode(mode));
            let name = HeapName::new();
            options.create(&name).unwrap();
            let file = directory.path().join(format!("{mask}-{mode:?}"));
            options.group(group).create_file(&file).unwrap();
            for made in [name.path(), file] {
                let stat = fs::metadata(&made).unwrap();
                assert_eq!(stat.mode() & 0o7777, mode.unwrap_or(0o600), "{made:?} {mask:o}");
                assert_eq!(stat.gid(), group);
            }
        }
    }
}

#[test]
fn a_group_is_set_or_refused() {
    let name = HeapName::new();
    match first_fit(4096).group(12_345).mode(0o640).create(&name) {
        Ok(_) => assert_eq!(fs::metadata(name.path()).unwrap().gid(), 12_345),
        Err(error) => {
            assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
            assert!(!name.path().exists());
        }
    }
}

#[test]
fn a_heap_in_a_file_persists() {
    for policy in POLICIES {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heap");
        let heap = heap_of(policy, 4096).max_len(LEN_BYTES).create_file(&file).unwrap();
        let object = bytes::alloc(&heap, 10_000).unwrap();
        bytes::stamp(object, 10_000, 1);
        let handle = heap.handle(object).unwrap();
        drop(heap);
        let copy = directory.path().join("copy");
        fs::copy(&file, &copy).unwrap();
        for path in [&file, &copy] {
            let observer = Heap::connect_file_read_only(path).unwrap();
            let heap = Heap::connect_file(path).unwrap();
            for heap in [&observer, &heap] {
                assert!(bytes::is_stamped(heap, heap.resolve(handle).unwrap(), 10_000, 1));
            }
            bytes::free_handle(&heap, handle).unwrap();
            assert_empty(&heap);
            Heap::destroy_file(path).unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(matches!(Heap::connect_file(&file), Err(Error::NotFound { .. })));
    }
}

#[test]
fn a_memfd_goes_over_a_socket() {
    for policy in POLICIES {
        let mut worker = Worker::start("lifecycle::receiver", &[]);
        let heap = heap_of(policy, LEN_BYTES).create_memfd().unwrap();
        heap.send_to(worker.socket()).unwrap();
        let handle: Handle = worker.hear().parse().unwrap();
        let object = heap.resolve(handle).unwrap();
        assert!(bytes::is_stamped(&heap, object, 100, 7));
        assert_eq!(heap.peers().len(), 2);
        bytes::free(&heap, object).unwrap();
        worker.say("end");
        worker.finish();
        assert_empty(&heap);
        let file = fs::File::from(heap.to_fd().unwrap());
        assert!(file.set_len(0).is_err(), "nobody can take the memory away");
    }
}

#[test]
fn receiver() {
    let Some(mut role) = Role::of("lifecycle::receiver") else { return };
    let heap = Heap::receive_from(role.socket()).unwrap();
    let object = bytes::alloc(&heap, 100).unwrap();
    bytes::stamp(object, 100, 7);
    role.say(&heap.handle(object).unwrap().to_string());
    role.hear().unwrap();
}

#[test]
fn a_descriptor_gives_what_it_was_opened_for() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = heap_of(policy, LEN_BYTES).create(&name).unwrap();
        let read_only = Heap::connect_fd(fs::File::open(name.path()).unwrap().into()).unwrap();
        assert!(read_only.is_read_only());
        let writable = Heap::connect_fd(heap.to_fd().unwrap()).unwrap();
        let object = bytes::alloc(&writable, 1).unwrap();
        assert_eq!(read_only.stats().live_objects, 1);
        bytes::free(&writable, object).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let error = Heap::connect_fd(OwnedFd::from(reader)).unwrap_err();
        assert!(matches!(error, Error::NotAHeap { .. }), "{error}");
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        assert!(Heap::connect_fd(stdin).is_err());
    }
}

#[test]
fn two_heaps_and_one_heap_twice_in_a_process() {
    for policy in POLICIES {
        let (a, b) = (HeapName::new(), HeapName::new());
        let (first, other) = (
            heap_of(policy, LEN_BYTES).create(&a).unwrap(),
            heap_of(policy, LEN_BYTES).create(&b).unwrap(),
        );
        let second = Heap::connect(&a).unwrap();
        assert_ne!(first.base(), second.base());
        let object = bytes::alloc(&first, 10).unwrap();
        let handle = first.handle(object).unwrap();
        assert!(other.resolve(handle).is_err());
        bytes::free_handle(&second, handle).unwrap();
        assert_eq!(first.peers().len(), 2, "each connection is a peer");
        drop(first);
        assert_eq!(second.peers().len(), 1);
        for heap in [&second, &other] {
            let object = bytes::alloc(heap, 10).unwrap();
            bytes::free(heap, object).unwrap();
            assert_empty(heap);
        }
    }
}

#[test]
fn destroyed_while_in_use() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = heap_of(policy, 4096).max_len(LEN_BYTES).create(&name).unwrap();
        let mut worker = Worker::start("lifecycle::left_behind", &[name.as_str()]);
        assert_eq!(worker.hear(), "connected");
        Heap::destroy(&name).unwrap();
        let successor = heap_of(policy, LEN_BYTES).create(&name).unwrap();
        worker.say("go on");
        let handle: Handle = worker.hear().parse().unwrap();
        assert!(bytes::is_stamped(&heap, heap.resolve(handle).unwrap(), 20_000, 1));
        worker.say("end");
        worker.finish();
        assert_empty(&successor);
        assert_ne!(successor.info().id, heap.info().id);
    }
}

#[test]
fn left_behind() {
    let Some(mut role) = Role::of("lifecycle::left_behind") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    role.say("connected");
    role.hear().unwrap();
    let object = bytes::alloc(&heap, 20_000).expect("it grows without a name, too");
    bytes::stamp(object, 20_000, 1);
    assert_eq!(heap.peers().len(), 2);
    role.say(&heap.handle(object).unwrap().to_string());
    role.hear().unwrap();
}

#[test]
fn closing_every_descriptor_costs_nothing() {
    let path = "lifecycle::closing_every_descriptor_costs_nothing";
    if Role::of(path).is_none() {
        return Worker::start(path, &[]).finish();
    }
    for policy in POLICIES {
        let name = HeapName::new();
        let created = heap_of(policy, 4096).max_len(LEN_BYTES * 256).create(&name).unwrap();
        let connected = Heap::connect(&name).unwrap();
        close_all_descriptors();
        for (which, heap) in [("connected", &connected), ("created", &created)] {
            let object = bytes::alloc(heap, 2 * heap.info().len_bytes);
            let object = object.unwrap_or_else(|error| panic!("{which}: {error}"));
            bytes::stamp(object, 8192, 1);
            bytes::free(heap, object).unwrap();
            assert_empty(heap);
            assert_eq!(heap.peers().len(), 2);
        }
    }
}

const RACERS: usize = 8;
const RACES: u64 = 50;
/// Room for a slab of each racer at the same time.
const RACE_LEN_BYTES: u64 = RACERS as u64 * (64 << 10);

#[test]
fn many_race_to_create_a_name() {
    let path = "lifecycle::many_race_to_create_a_name";
    if Role::of(path).is_none() {
        return Worker::start(path, &[]).finish();
    }
    for policy in POLICIES {
        let board = heap_of(policy, 4096).create(HeapName::new()).unwrap();
        let (_, row) = bytes::alloc_words(&board, 3);
        let [round, created, finished] = row else { unreachable!() };
        let name = HeapName::new();
        let racers: Vec<_> = (0..RACERS)
            .map(|_| {
                Fork::start(|| {
                    for number in 1..=RACES {
                        wait_for_word(round, number, || {});
                        let heap = match heap_of(policy, RACE_LEN_BYTES).create(&name) {
                            Ok(heap) => {
                                created.fetch_add(1, Ordering::SeqCst);
                                heap
                            }
                            Err(Error::AlreadyExists { .. }) => Heap::connect(&name).unwrap(),
                            Err(error) => panic!("{error}"),
                        };
                        assert!(heap.check().is_sound());
                        let object = bytes::alloc(&heap, 100).unwrap();
                        bytes::free(&heap, object).unwrap();
                        drop(heap);
                        count_in_word(finished);
                    }
                })
            })
            .collect();
        for number in 1..=RACES {
            set_word(round, number);
            wait_for_word(finished, number * RACERS as u64, || {});
            assert_eq!(created.load(Ordering::SeqCst), number, "one creates, the others connect");
            assert_empty(&Heap::connect(&name).unwrap());
            Heap::destroy(&name).unwrap();
        }
        for racer in racers {
            racer.finish();
        }
    }
}

#[test]
fn a_creator_killed_on_the_way_leaves_a_whole_heap_or_nothing() {
    let path = "lifecycle::a_creator_killed_on_the_way_leaves_a_whole_heap_or_nothing";
    let Some(role) = Role::of(path) else {
        return Worker::start(path, &[&seed().to_string()]).finish();
    };
    for policy in POLICIES {
        let mut random = Random::new(role.number(0));
        let board = heap_of(policy, 4096).create(HeapName::new()).unwrap();
        let (_, row) = bytes::alloc_words(&board, 2);
        let [begun, created] = row else { unreachable!() };
        let (mut whole, mut nothing) = (0, 0);
        for round in 1..=100 {
            let name = HeapName::new();
            let options = heap_of(policy, 16 << 20);
            let mut creator = Fork::start(|| {
                set_word(begun, round);
                let _heap = options.create(&name).unwrap();
                set_word(created, round);
                wait_for_word(begun, 0, || {});
            });
            wait_for_word(begun, round, || {});
            for _ in 0..random.log_uniform(1 << 21) {
                std::hint::spin_loop();
                if created.load(Ordering::Relaxed) == round {
                    break;
                }
            }
            creator.kill();
            match Heap::connect(&name) {
                Ok(heap) => {
                    assert_empty(&heap);
                    whole += 1;
                    drop(heap);
                    Heap::destroy(&name).unwrap();
                }
                Err(Error::NotFound { .. }) => nothing += 1,
                Err(error) => panic!("{error}"),
            }
            assert_empty(&options.create(&name).unwrap());
            assert_no_leftovers(Path::new("/dev/shm"));
        }
        assert!(nothing > 0, "no creator was caught in time ({whole} whole)");
    }
}

/// Other tests may be creating heaps at this moment, but those have no names meanwhile.
fn assert_no_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().starts_with(".shmheap-"), "{name:?} was left behind");
    }
}

#[test]
fn what_is_no_descriptor_is_no_heap() {
    let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    here.write_all(b"x").unwrap();
    let error = Heap::receive_from(&there).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error}");
}
