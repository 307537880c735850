//! Goal: a heap that is made to lie at one address lies there in every process, or the connection
//! fails and says why; and nothing that lies there is ever touched.
//!
//! Method: lists linked by raw pointers that another program follows and lengthens; addresses that
//! are taken on purpose; headers with addresses that no heap may have.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;

use shmheap::{Error, Heap, HeapOptions, NotAHeap, Policy};

use crate::support::process::{Fork, Role, Worker};
use crate::support::{HeapName, POLICIES, assert_empty, assert_whole, bytes, heap_of};

const LEN_BYTES: u64 = 1 << 20;
const NODES: u64 = 1000;
/// What is large enough to lie in growth.
const LARGE_BYTES: u64 = 3 << 20;
/// Where FORMAT.md puts the words that these tests overwrite on purpose.
const ADDRESS_AT: u64 = 88;
const CHECKSUM_AT: u64 = 112;

fn same_address(policy: Policy) -> HeapOptions {
    heap_of(policy, LEN_BYTES).max_len(16 * LEN_BYTES).same_address()
}

fn address_of(heap: &Heap) -> NonZeroUsize {
    assert!(heap.is_same_address());
    let info = heap.info();
    let address = info.address.unwrap();
    assert_eq!(heap.base().addr().get(), address.get() + info.data_offset_bytes as usize);
    address
}

/// Puts `count` nodes before `head`: each an address and a number. Returns the new head.
fn lengthen(heap: &Heap, mut head: u64, count: u64) -> u64 {
    for number in 0..count {
        let node = bytes::alloc(heap, 16).unwrap();
        bytes::write_words(node, [head, number]);
        head = node.addr().get() as u64;
    }
    head
}

/// The object at an address, by nothing but the address.
fn at(address: u64) -> NonNull<u8> {
    let pointer = std::ptr::with_exposed_provenance_mut(address as usize);
    NonNull::new(pointer).unwrap()
}

/// Follows the list by addresses alone; how many nodes, and the sum of their numbers.
fn walk(heap: &Heap, head: u64) -> (u64, u64) {
    let (mut node, mut count, mut sum) = (head, 0, 0);
    while node != 0 {
        let [next, number] = bytes::read_words(heap, at(node));
        (node, count, sum) = (next, count + 1, sum + number);
    }
    (count, sum)
}

#[test]
fn raw_pointers_mean_the_same_in_every_process() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = same_address(policy).create(&name).unwrap();
        let mut workers: Vec<_> =
            (0..3).map(|_| Worker::start("same_address::follower", &[name.as_str()])).collect();
        let mut head = lengthen(&heap, 0, NODES);
        for worker in &mut workers {
            assert_eq!(worker.hear(), format!("at {:#x}", address_of(&heap)));
            worker.say(&head.to_string());
            head = worker.hear().parse().unwrap();
        }
        let (count, sum) = (4 * NODES, 4 * (NODES * (NODES - 1) / 2));
        assert_eq!(walk(&heap, head), (count, sum));
        for worker in workers {
            worker.finish();
        }
        assert_eq!(assert_whole(&heap).live_objects, count + 3);
        assert!(heap.info().len_bytes > LEN_BYTES, "it has grown under all of them");
    }
}

#[test]
fn follower() {
    let Some(mut role) = Role::of("same_address::follower") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    role.say(&format!("at {:#x}", address_of(&heap)));
    let head = role.hear().unwrap().parse().unwrap();
    let (count, _) = walk(&heap, head);
    assert!(count.is_multiple_of(NODES) && count > 0);
    // Behind what the heap had at first, so that others see growth that they did not make.
    let large = bytes::alloc(&heap, LARGE_BYTES).unwrap();
    bytes::stamp(large, LARGE_BYTES, 7);
    let head = lengthen(&heap, head, NODES);
    role.say(&head.to_string());
}

#[test]
fn observers_lie_there_too() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = same_address(policy).create(&name).unwrap();
        let head = lengthen(&heap, 0, 10);
        Worker::start("same_address::observer", &[name.as_str(), &head.to_string()]).finish();
        drop(heap);
    }
}

#[test]
fn observer() {
    let Some(role) = Role::of("same_address::observer") else { return };
    let heap = Heap::connect_read_only(role.argument(0)).unwrap();
    address_of(&heap);
    assert_eq!(walk(&heap, role.number(1)), (10, 45));
}

#[test]
fn every_kind_of_heap_can_have_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heap");
    for policy in POLICIES {
        let in_file = same_address(policy).create_file(&path).unwrap();
        let address = address_of(&in_file);
        drop(in_file);
        assert_eq!(address_of(&Heap::connect_file(&path).unwrap()), address);
        std::fs::remove_file(&path).unwrap();
        let memfd = same_address(policy).create_memfd().unwrap();
        let (fd, address) = (memfd.to_fd().unwrap(), address_of(&memfd));
        drop(memfd);
        assert_eq!(address_of(&Heap::connect_fd(fd).unwrap()), address);
        assert!(address.get().is_multiple_of(2 << 20));
        let anywhere = heap_of(policy, LEN_BYTES).create_memfd().unwrap();
        assert!(!anywhere.is_same_address() && anywhere.info().address.is_none());
    }
}

/// That connecting fails because of what lies at the address, and what it says lies there.
#[track_caller]
fn taken(connected: Result<Heap, Error>, at: NonZeroUsize) -> String {
    let error = connected.expect_err("it must lie elsewhere");
    assert_eq!(error.errno(), libc::EADDRINUSE);
    let text = error.to_string();
    assert!(text.contains(&format!("{at:#x}")) && text.contains("connect before"), "{text}");
    let Error::AddressTaken { address, occupant, .. } = error else { panic!("{error}") };
    assert_eq!(address, at.get());
    occupant
}

#[test]
fn a_second_connection_of_a_process_is_refused() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = same_address(policy).create(&name).unwrap();
        let head = lengthen(&heap, 0, 10);
        for connect in [|name| Heap::connect(name), |name| Heap::connect_read_only(name)] {
            let occupant = taken(connect(&name), address_of(&heap));
            assert!(occupant.contains("the heap itself"), "{occupant}");
        }
        let listed =
            shmheap::list().unwrap().into_iter().find(|heap| *heap.name == name.as_str()[1..]);
        taken(listed.unwrap().heap, address_of(&heap));
        assert_eq!(walk(&heap, head), (10, 45));
        let address = address_of(&heap);
        drop(heap);
        for _ in 0..3 {
            // Not even a heap without an address takes the place meanwhile.
            let other = heap_of(policy, LEN_BYTES).create_memfd().unwrap();
            let heap = Heap::connect(&name).unwrap();
            assert_eq!(address_of(&heap), address);
            assert_eq!(walk(&heap, head), (10, 45));
            drop(other);
        }
    }
}

#[test]
fn what_lies_at_the_address_stays_and_is_named() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = same_address(policy).create(&name).unwrap();
        let address = address_of(&heap);
        drop(heap);
        // Another heap, in a file, that ends in the middle of the first.
        let other_address = NonZeroUsize::new(address.get() - (4 << 20)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other heap");
        let other = heap_of(policy, 4 * LEN_BYTES).at_address(other_address);
        drop(other.create_file(&path).unwrap());
        // Connected to by its name, which a creator's own mapping does not have.
        let other = Heap::connect_file(&path).unwrap();
        assert_eq!(address_of(&other), other_address);
        let object = bytes::alloc(&other, 5000).unwrap();
        bytes::stamp(object, 5000, 3);
        for connect in [|name| Heap::connect(name), |name| Heap::connect_read_only(name)] {
            let occupant = taken(connect(&name), address);
            assert!(occupant.ends_with("/other heap'"), "{occupant}");
        }
        let at_once = heap_of(policy, LEN_BYTES).at_address(address);
        taken(at_once.create_memfd(), address);
        let unborn = HeapName::new();
        taken(at_once.create(&unborn), address);
        assert!(!unborn.path().exists());
        assert!(bytes::is_stamped(&other, object, 5000, 3));
        bytes::free(&other, object).unwrap();
        assert_empty(&other);
        drop(other);
        assert_eq!(address_of(&Heap::connect(&name).unwrap()), address);
        Heap::destroy(&name).unwrap();
    }
}

#[test]
fn forked_children_keep_the_mapping() {
    for policy in POLICIES {
        let name = HeapName::new();
        let policy = if policy == Policy::FirstFit { "first fit" } else { "scalable" };
        Worker::start("same_address::parent", &[name.as_str(), policy]).finish();
    }
}

#[test]
fn parent() {
    let Some(role) = Role::of("same_address::parent") else { return };
    let policy = if role.argument(1) == "scalable" { Policy::Scalable } else { Policy::FirstFit };
    let name = role.argument(0);
    let heap = same_address(policy).create(name).unwrap();
    let root = bytes::alloc(&heap, 16).unwrap();
    bytes::write_words(root, [lengthen(&heap, 0, 10), 0]);
    Fork::start(|| {
        let [head, _] = bytes::read_words(&heap, root);
        bytes::write_words(root, [lengthen(&heap, head, 10), 0]);
        let occupant = taken(Heap::connect(name), address_of(&heap));
        assert!(occupant.contains("forked from"), "{occupant}");
    })
    .finish();
    let [head, _] = bytes::read_words(&heap, root);
    assert_eq!(walk(&heap, head), (20, 90));
}

/// The checksum of FORMAT.md, from its words alone.
fn checksum(identity: &[u8]) -> u64 {
    identity.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Puts an address into a header, with the checksum that belongs to it.
fn forge(file: &File, address: u64) {
    file.write_all_at(&address.to_le_bytes(), ADDRESS_AT).unwrap();
    let mut identity = [0; CHECKSUM_AT as usize];
    file.read_exact_at(&mut identity, 0).unwrap();
    file.write_all_at(&checksum(&identity).to_le_bytes(), CHECKSUM_AT).unwrap();
}

#[test]
fn hostile_addresses_are_refused() {
    let local = 0_u8;
    let stack = (&raw const local).addr() as u64 & !((2 << 20) - 1);
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = same_address(policy).create(&name).unwrap();
        let address = address_of(&heap).get() as u64;
        let mapped = heap.info().data_offset_bytes + heap.info().max_len_bytes;
        drop(heap);
        let file = File::options().read(true).write(true).open(name.path()).unwrap();
        for hostile in [
            1,
            8,
            4096,
            2 << 20,
            (1 << 32) - (2 << 20),
            address + 1,
            address + 8,
            address + 2048,
            (80 << 40) - mapped.next_multiple_of(2 << 20) + (2 << 20),
            80 << 40,
            stack,
            stack - (16 << 20),
            (1 << 47) - (2 << 20),
            1 << 47,
            1 << 48,
            1 << 63,
            u64::MAX - 4095,
            u64::MAX - (2 << 20) + 1,
            u64::MAX,
        ] {
            forge(&file, hostile);
            for connect in [|name| Heap::connect(name), |name| Heap::connect_read_only(name)] {
                let error = connect(&name).expect_err("an address that no heap may have");
                let why = NotAHeap::BadHeader("address");
                let named = matches!(&error, Error::NotAHeap { why: w, .. } if *w == why);
                assert!(named, "{hostile:#x}: {error}");
            }
        }
        forge(&file, address + 4096);
        let page = Heap::connect(&name);
        match policy {
            Policy::FirstFit => assert_eq!(address_of(&page.unwrap()).get() as u64, address + 4096),
            _ => assert!(matches!(page, Err(Error::NotAHeap { .. })), "not a multiple of 2 MiB"),
        }
        forge(&file, 0);
        assert!(!Heap::connect(&name).unwrap().is_same_address());
        forge(&file, address);
        assert_eq!(address_of(&Heap::connect(&name).unwrap()).get() as u64, address);
    }
}

#[test]
fn options_that_no_heap_can_have_are_refused() {
    for policy in POLICIES {
        for address in [1, 4096, 1 << 31, 80 << 40, (1 << 45) + 8, 1 << 63, usize::MAX] {
            let options =
                heap_of(policy, LEN_BYTES).at_address(NonZeroUsize::new(address).unwrap());
            let error = options.create_memfd().unwrap_err();
            let named = matches!(error, Error::InvalidOption { option: "address", value, .. }
                if value == address as u64);
            assert!(named, "{error}");
        }
        let error = heap_of(policy, LEN_BYTES).max_len(48 << 40).same_address().create_memfd();
        let error = error.unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "max_len", .. }), "{error}");
    }
}
