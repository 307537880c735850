//! Goal: unpublished objects and cells do what they say, whoever uses them and however.
//!
//! Method: each operation of a hand-over in one process, its children and its readers, and what is
//! refused. What kills do to it is in `handover`.

use std::sync::atomic::AtomicU64;

use shmheap::{Error, Heap};

use crate::support::process::{Fork, Role, Worker};
use crate::support::{HeapName, assert_empty, bytes, for_each_policy, scalable};

#[test]
fn a_refused_object_comes_back_and_any_number_may_be_held() {
    for_each_policy(|options| {
        let heap = options.create_memfd().unwrap();
        let (handle, cells) = bytes::alloc_words(&heap, 2);
        let held: Vec<_> =
            (0..100).map(|_| heap.alloc_unpublished(bytes::layout(50, 1)).unwrap()).collect();
        assert_eq!(heap.stats().live_objects, 101);
        let mut held = held.into_iter();
        let first = bytes::publish(held.next().unwrap(), &cells[0]).unwrap();
        let refused = bytes::publish(held.next().unwrap(), &cells[0]).unwrap_err();
        assert!(matches!(refused.error, Error::Occupied { .. }), "{}", refused.error);
        assert_eq!(refused.error.errno(), libc::EBUSY);
        let second = bytes::publish(refused.object, &cells[1]).unwrap();
        assert_eq!(bytes::peek(&heap, &cells[0]), Some(first));
        let taken = bytes::take(&heap, &cells[1]).unwrap().unwrap();
        assert_eq!((taken.handle(), bytes::peek(&heap, &cells[1])), (second, None));
        assert_eq!(heap.resolve(second).unwrap(), taken.as_ptr());
        drop((held, taken));
        assert_eq!(heap.stats().live_objects, 2);
        // Another thread hands over what this one made, and the other way round.
        let object = bytes::take(&heap, &cells[0]).unwrap().unwrap();
        let object = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    bytes::publish(object, &cells[1]).unwrap();
                    bytes::take(&heap, &cells[1]).unwrap().unwrap()
                })
                .join()
                .unwrap()
        });
        bytes::free(&heap, object.keep()).unwrap();
        bytes::free_handle(&heap, handle).unwrap();
        assert_empty(&heap);
    });
}

#[test]
fn what_is_no_cell_is_an_error() {
    for_each_policy(|options| {
        let heap = options.create_memfd().unwrap();
        let elsewhere = AtomicU64::new(0);
        let object = heap.alloc_unpublished(bytes::layout(50, 1)).unwrap();
        let refused = bytes::publish(object, &elsewhere).unwrap_err();
        assert!(matches!(refused.error, Error::InvalidCell { .. }), "{}", refused.error);
        assert_eq!(refused.error.errno(), libc::EINVAL);
        assert!(matches!(bytes::take(&heap, &elsewhere), Err(Error::InvalidCell { .. })));
        assert_eq!(bytes::peek(&heap, &elsewhere), None);
        assert!(matches!(bytes::alloc_into(&heap, 1, &elsewhere), Err(Error::InvalidCell { .. })));
        drop(refused);
        assert_eq!(elsewhere.into_inner(), 0);
        assert_empty(&heap);
    });
}

#[test]
fn a_guard_that_is_forgotten_frees_its_object_when_the_process_leaves() {
    for_each_policy(|options| {
        let name = HeapName::new();
        let heap = options.create(&name).unwrap();
        let other = Heap::connect(&name).unwrap();
        let (handle, _) = bytes::alloc_words(&other, 1);
        std::mem::forget(other.alloc_unpublished(bytes::layout(50, 1)).unwrap());
        assert_eq!(heap.stats().live_objects, 2);
        drop(other);
        assert_eq!(heap.stats().live_objects, 1);
        bytes::free_handle(&heap, handle).unwrap();
        assert_empty(&heap);
    });
}

#[test]
fn readers_peek_and_do_no_more() {
    for_each_policy(|options| {
        let name = HeapName::new();
        let heap = options.create(&name).unwrap();
        let (handle, cells) = bytes::alloc_words(&heap, 1);
        bytes::alloc_into(&heap, 8, &cells[0]).unwrap();
        let reader = Heap::connect_read_only(&name).unwrap();
        let cell = &bytes::words(&reader, handle, 1)[0];
        assert_eq!(bytes::peek(&reader, cell), bytes::peek(&heap, &cells[0]));
        assert!(matches!(bytes::take(&reader, cell), Err(Error::ReadOnly { .. })));
        let refused = reader.alloc_unpublished(bytes::layout(8, 1));
        assert!(matches!(refused, Err(Error::ReadOnly { .. })));
    });
}

/// What a forked child inherits is its parent's: dropped or published there, nothing happens.
#[test]
fn a_forked_child_leaves_its_parents_objects_alone() {
    let path = "unpublished::a_forked_child_leaves_its_parents_objects_alone";
    if Role::of(path).is_none() {
        return Worker::start(path, &[]).finish();
    }
    let heap = scalable(4 << 20).create_memfd().unwrap();
    let (handle, cells) = bytes::alloc_words(&heap, 1);
    let [dropped, kept, published] =
        [(); 3].map(|()| Some(heap.alloc_unpublished(bytes::layout(50, 1)).unwrap()));
    let mut guards = [dropped, kept, published];
    for has_joined in [false, true] {
        let child = Fork::start(|| {
            if has_joined {
                drop(heap.alloc_unpublished(bytes::layout(50, 1)).unwrap());
            }
            let [dropped, kept, published] = guards.each_mut().map(|guard| guard.take().unwrap());
            drop(dropped);
            let _ = kept.keep();
            let refused = bytes::publish(published, &cells[0]).unwrap_err();
            assert!(matches!(refused.error, Error::Inherited { .. }), "{}", refused.error);
            drop(refused);
            let own = heap.alloc_unpublished(bytes::layout(50, 1)).unwrap();
            bytes::publish(own, &cells[0]).unwrap();
        });
        child.finish();
        assert_eq!(heap.stats().live_objects, 5, "the board, three of ours, one of the child's");
        drop(bytes::take(&heap, &cells[0]).unwrap().unwrap());
    }
    drop(guards);
    bytes::free_handle(&heap, handle).unwrap();
    assert_empty(&heap);
}
