//! Goal: collections that take an allocator live in a heap, with the heap as this process's
//! allocator, and, in a heap at one address, as a whole and for every process.
//!
//! Method: the trait's functions one by one, compared with what it demands; vectors of vectors that
//! two programs change in turn; and the example, which is two processes by itself.
//!
//! # Unsafe code
//!
//! The functions of the trait that take a block, and a root that two processes share.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::process::Command;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2::boxed::Box as BoxIn;
use allocator_api2::vec::Vec as VecIn;
use shmheap::{Heap, Policy, SharedAllocator};

use crate::support::process::{Role, Worker};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, POLICIES, assert_empty, bytes, for_each_policy, heap_of};

const LEN_BYTES: u64 = 4 << 20;

/// A heap at one address that stays connected, and its allocator for every process.
fn for_good(heap: Heap) -> (&'static Heap, SharedAllocator) {
    let heap: &'static Heap = Box::leak(Box::new(heap));
    (heap, heap.shared_allocator().unwrap())
}

/// Runs a test with either allocator of a heap, under each policy, in the end of which the heap
/// must be empty.
fn for_each_allocator(test: impl Fn(&Heap, &dyn Allocator)) {
    for_each_policy(|options| {
        let heap = options.create_memfd().unwrap();
        assert!(for_good_is_refused(options.create_memfd().unwrap()));
        test(&heap, &&heap);
        assert_empty(&heap);
        let (heap, shared) = for_good(options.same_address().create_memfd().unwrap());
        test(heap, &shared);
        assert_empty(heap);
    });
}

/// A heap that lies anywhere has no allocator for everybody.
fn for_good_is_refused(heap: Heap) -> bool {
    let heap: &'static Heap = Box::leak(Box::new(heap));
    heap.shared_allocator().is_none()
}

/// The functions of the trait that take a block, which is the test's own and fits its layout.
struct Blocks<'a>(&'a dyn Allocator);

impl Blocks<'_> {
    fn free(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the block is the test's, who forgets it.
        unsafe { self.0.deallocate(block, layout) };
    }

    fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the block is the test's, and the new size no smaller.
        unsafe { self.0.grow(block, old, new) }
    }

    fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> NonNull<[u8]> {
        // SAFETY: as in `grow`.
        unsafe { self.0.grow_zeroed(block, old, new) }.unwrap()
    }

    fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> NonNull<[u8]> {
        // SAFETY: the block is the test's, and the new size no larger.
        unsafe { self.0.shrink(block, old, new) }.unwrap()
    }
}

fn is_zero(heap: &Heap, object: NonNull<u8>, range: std::ops::Range<u64>) -> bool {
    let content = bytes::content(heap, object, range.end);
    content[range.start as usize..].iter().all(|&byte| byte == 0)
}

#[test]
fn blocks_are_objects_of_the_heap() {
    for_each_allocator(|heap, allocator| {
        for align in [1, 8, 64, 4096] {
            for size in [1, 15, 16, 100, 5000] {
                let layout = bytes::layout(size, align);
                let block = allocator.allocate(layout).unwrap();
                let object = block.cast();
                assert_eq!(block.len() as u64, size);
                assert!(object.addr().get().is_multiple_of(align as usize));
                assert!(heap.usable_size(object).unwrap() as u64 >= size);
                bytes::stamp(object, size, 5);
                Blocks(allocator).free(object, layout);
                assert_eq!(heap.stats().live_objects, 0);
                let zeroed = allocator.allocate_zeroed(layout).unwrap().cast();
                assert!(is_zero(heap, zeroed, 0..size));
                Blocks(allocator).free(zeroed, layout);
            }
        }
        for wrong in [bytes::layout(1, 4 << 20), bytes::layout(1 << 40, 1)] {
            assert!(allocator.allocate(wrong).is_err());
            assert!(allocator.allocate_zeroed(wrong).is_err());
        }
    });
}

#[test]
fn nothing_is_no_object() {
    for_each_allocator(|heap, allocator| {
        let nothing = bytes::layout(0, 64);
        let block = allocator.allocate(nothing).unwrap();
        assert_eq!((block.len(), block.addr().get() % 64), (0, 0));
        assert_eq!(allocator.allocate_zeroed(nothing).unwrap().len(), 0);
        assert_eq!(heap.stats().live_objects, 0);
        let some = bytes::layout(100, 64);
        let blocks = Blocks(allocator);
        blocks.free(block.cast(), nothing);
        let grown = blocks.grow_zeroed(block.cast(), nothing, some);
        assert!(is_zero(heap, grown.cast(), 0..100) && heap.stats().live_objects == 1);
        let still = blocks.shrink(grown.cast(), some, nothing);
        assert_eq!((still.len(), heap.stats().live_objects), (0, 0));
        assert_eq!(blocks.shrink(still.cast(), nothing, nothing).len(), 0);
        assert_eq!(blocks.grow(still.cast(), nothing, nothing).unwrap().len(), 0);
    });
}

#[test]
fn blocks_grow_and_shrink_with_their_content() {
    let seed = seed();
    for_each_allocator(|heap, allocator| {
        let (blocks, mut random) = (Blocks(allocator), Random::new(seed));
        let mut layout = bytes::layout(10, 8);
        let mut object = allocator.allocate(layout).unwrap().cast();
        bytes::stamp(object, 10, 1);
        for stamp in 2..300 {
            let size = random.log_uniform(20_000);
            let new = bytes::layout(size, 8 << random.below(4));
            let old = layout.size() as u64;
            let block = match size >= old {
                true if random.one_in(2) => {
                    let block = blocks.grow_zeroed(object, layout, new);
                    assert!(is_zero(heap, block.cast(), old..size), "{old} to {size}");
                    block
                }
                true => blocks.grow(object, layout, new).unwrap(),
                false => blocks.shrink(object, layout, new),
            };
            object = block.cast();
            assert_eq!(block.len() as u64, size);
            assert!(object.addr().get().is_multiple_of(new.align()));
            assert!(bytes::is_stamped(heap, object, size.min(old), stamp - 1));
            bytes::stamp(object, size, stamp);
            layout = new;
        }
        blocks.free(object, layout);
    });
}

#[test]
fn a_full_heap_is_an_error_and_shrinks_all_the_same() {
    for_each_allocator(|heap, allocator| {
        let large = bytes::layout(3000, 16);
        let mut objects = vec![];
        while let Ok(block) = allocator.allocate(large) {
            objects.push(block.cast::<u8>());
        }
        let mut small = vec![];
        for size in [2048, 256, 16] {
            while let Ok(object) = bytes::alloc(heap, size) {
                small.push(object);
            }
        }
        let first = objects[0];
        let blocks = Blocks(allocator);
        assert!(blocks.grow(first, large, bytes::layout(900_000, 16)).is_err());
        objects[0] = blocks.shrink(first, large, bytes::layout(32, 16)).cast();
        for object in objects.into_iter().chain(small) {
            bytes::free(heap, object).unwrap();
        }
        let mut numbers = VecIn::<u64, _>::new_in(heap);
        assert!(numbers.try_reserve(1 << 20).is_err(), "a larger one than the heap");
        numbers.extend(0..10);
        assert_eq!(numbers.iter().sum::<u64>(), 45);
    });
}

type Rows = VecIn<VecIn<u64, SharedAllocator>, SharedAllocator>;

#[test]
fn collections_lie_in_the_heap_for_every_process() {
    for policy in POLICIES {
        let name = HeapName::new();
        let options = heap_of(policy, LEN_BYTES).max_len(16 * LEN_BYTES).same_address();
        let (heap, shared) = for_good(options.create(&name).unwrap());
        let mut root: BoxIn<Rows, _> = BoxIn::new_in(VecIn::new_in(shared), shared);
        root.push(VecIn::new_in(shared));
        root[0].extend(0..1000);
        let root = BoxIn::into_raw(root);
        let address = root.expose_provenance().to_string();
        let mut worker = Worker::start("allocator::worker", &[name.as_str(), &address]);
        assert_eq!(worker.hear(), "done");
        // SAFETY: the worker is done with it.
        let root = unsafe { BoxIn::from_raw_in(root, shared) };
        assert_eq!(root.len(), 101);
        assert_eq!(root[0].iter().sum::<u64>(), 2999 * 3000 / 2);
        assert!(root[1..].iter().zip(0..).all(|(row, number)| row.iter().eq(&[number; 50])));
        assert_eq!(heap.stats().live_objects, 1 + 1 + 101);
        drop(root);
        worker.finish();
        assert_empty(heap);
    }
}

#[test]
fn worker() {
    let Some(mut role) = Role::of("allocator::worker") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let root: *mut Rows = std::ptr::with_exposed_provenance_mut(role.number(1) as usize);
    // SAFETY: the test has made it, is the same program, and waits.
    let root = unsafe { &mut *root };
    assert_eq!(root[0].iter().sum::<u64>(), 499_500);
    // Before the heap is known here, nothing is allocated, and what is freed stays.
    let shared = *root.allocator();
    assert!(shared.allocate(Layout::new::<u64>()).is_err());
    assert!(root[0].try_reserve(100_000).is_err());
    let live = heap.stats().live_objects;
    let object = bytes::alloc(&heap, 8).unwrap();
    // SAFETY: nobody uses it.
    unsafe { shared.deallocate(object, Layout::new::<u64>()) };
    assert_eq!(heap.stats().live_objects, live + 1);
    bytes::free(&heap, object).unwrap();

    // Of several heaps each allocator finds its own.
    let (_other, others) =
        for_good(heap_of(Policy::FirstFit, LEN_BYTES).same_address().create_memfd().unwrap());
    assert!(shared.allocate(Layout::new::<u64>()).is_err());
    let (heap, mine) = for_good(heap);
    assert_eq!(heap.shared_allocator(), Some(mine), "again");
    assert!(mine == shared && others != shared);
    root[0].extend(1000..3000);
    root.extend((0..100).map(|number| {
        let mut row = VecIn::new_in(shared);
        row.resize(50, number);
        row
    }));
    role.say("done");
}

#[test]
fn the_example_does_what_it_says() {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
        command.args(["--quiet", "--example", "same_address", "--features", "allocator-api2"]);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "{}", text(output.stderr));
        text(output.stdout)
    };
    let said = cargo(&["run"]);
    let (first, rest) = said.split_once(':').unwrap();
    let address = first.strip_prefix("first, heap at ").unwrap();
    let text = format!(
        "first, heap at {address}: list [1, 2, 3], sums of the rows [0]\n\
         second, heap at {address}: list [1, 2, 3], sums of the rows [0]\n\
         first, heap at {address}: list [4, 5, 1, 2, 3], sums of the rows [10, 333283335000]\n\
         first: 0 objects left\n"
    );
    assert_eq!(format!("{first}:{rest}"), text);
}
