//! Vectors: against those of the standard library, killed at every store, and overwritten.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ptr::NonNull;

use proptest::prelude::*;

use crate::collections::ShmVec;
use crate::collections::testing::{POLICIES, Random, get, get_mut, heap_of, make, overwrite, seed};
use crate::object::killed::at_every_store;
use crate::os::testing::in_own_process;
use crate::segment::words::Words;
use crate::{Error, Heap, HeapOptions, Policy};

#[test]
fn every_operation_does_what_it_says() {
    for policy in POLICIES {
        let heap = heap_of(policy);
        let object = make::<ShmVec<u32>>(&heap);
        let vec = get_mut(&heap, object);
        assert!(vec.is_empty(&heap).unwrap());
        assert_eq!(vec.pop(&heap).unwrap(), None);
        assert_eq!(vec.remove(&heap, 0).unwrap(), None);
        vec.push(&heap, 1).unwrap();
        vec.extend_from_slice(&heap, &[2, 3, 4, 5]).unwrap();
        assert_eq!(vec.as_slice(&heap).unwrap(), [1, 2, 3, 4, 5]);
        vec.insert(&heap, 0, 0).unwrap();
        vec.insert(&heap, 6, 6).unwrap();
        assert_eq!(vec.iter(&heap).unwrap().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        let refused = vec.insert(&heap, 8, 8).unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { .. }), "{refused}");
        assert_eq!(vec.remove(&heap, 3).unwrap(), Some(3));
        assert_eq!(vec.remove(&heap, 5).unwrap(), Some(6));
        vec.splice(&heap, 1, 2, &[10, 20, 30]).unwrap();
        assert_eq!(vec.as_slice(&heap).unwrap(), [0, 10, 20, 30, 4, 5]);
        vec.as_mut_slice(&heap).unwrap()[5] = 50;
        assert_eq!((vec.get(&heap, 5).unwrap(), vec.get(&heap, 6).unwrap()), (Some(50), None));
        assert_eq!(vec.pop(&heap).unwrap(), Some(50));
        vec.truncate(&heap, 2).unwrap();
        vec.truncate(&heap, 5).unwrap();
        assert_eq!(vec.as_slice(&heap).unwrap(), [0, 10]);
        vec.reserve(&heap, 1000).unwrap();
        assert!(vec.capacity(&heap).unwrap() >= 1002);
        vec.shrink_to_fit(&heap).unwrap();
        assert!(vec.capacity(&heap).unwrap() < 10);
        assert_eq!(vec.as_slice(&heap).unwrap(), [0, 10]);
        assert_eq!(heap.stats().live_objects, 2);
        vec.clear(&heap).unwrap();
        assert!(vec.is_empty(&heap).unwrap());
        vec.shrink_to_fit(&heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
    }
}

#[test]
fn elements_have_any_size_and_alignment() {
    let heap = heap_of(Policy::Scalable);
    let vec = get_mut(&heap, make::<ShmVec<()>>(&heap));
    vec.extend_from_slice(&heap, &[(); 100]).unwrap();
    vec.insert(&heap, 7, ()).unwrap();
    assert_eq!((vec.pop(&heap).unwrap(), vec.len(&heap).unwrap()), (Some(()), 100));
    vec.shrink_to_fit(&heap).unwrap();
    assert_eq!(vec.as_slice(&heap).unwrap().len(), 100);
    let vec = get_mut(&heap, make::<ShmVec<u128>>(&heap));
    (0..100).for_each(|number| vec.push(&heap, number << 70).unwrap());
    assert!(vec.iter(&heap).unwrap().eq((0..100).map(|number| number << 70)));
    let vec = get_mut(&heap, make::<ShmVec<[u8; 5]>>(&heap));
    (0..100).for_each(|number| vec.push(&heap, [number; 5]).unwrap());
    assert!(vec.iter(&heap).unwrap().eq((0..100).map(|number| [number; 5])));
}

#[test]
fn more_elements_than_can_be_counted_are_refused() {
    let heap = heap_of(Policy::Scalable);
    let vec = get_mut(&heap, make::<ShmVec<()>>(&heap));
    vec.extend_from_slice(&heap, &[(); 2]).unwrap();
    let too_many = |outcome| matches!(outcome, Err(Error::AtCapacity { .. }));
    assert!(too_many(vec.extend_from_slice(&heap, &[(); usize::MAX])));
    assert!(too_many(vec.splice(&heap, 1, 0, &[(); usize::MAX])));
    assert_eq!(vec.len(&heap).unwrap(), 2);
}

#[test]
fn what_does_not_fit_leaves_the_vector_as_it_was() {
    for policy in POLICIES {
        let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
        let vec = get_mut(&heap, make::<ShmVec<u64>>(&heap));
        let full = (0..).find_map(|number| vec.push(&heap, number).err().map(|why| (number, why)));
        let (count, why) = full.unwrap();
        assert!(matches!(why, Error::Full { .. }), "{why}");
        assert!(vec.iter(&heap).unwrap().eq(0..count));
        for more in [usize::MAX, usize::MAX / 8, 1 << 40] {
            let why = vec.reserve(&heap, more).unwrap_err();
            assert!(matches!(why, Error::Full { .. } | Error::InvalidLayout { .. }), "{why}");
        }
        assert_eq!(heap.stats().live_objects, 2);
        assert_eq!(vec.pop(&heap).unwrap(), Some(count - 1));
    }
    let heap = heap_of(Policy::Scalable);
    let mut here = Box::new(ShmVec::<u64>::new());
    assert!(matches!(here.push(&heap, 1), Err(Error::InvalidPointer { .. })));
    assert!(matches!(here.as_slice(&heap), Err(Error::InvalidPointer { .. })));
}

#[derive(Debug, Clone)]
enum Step {
    Push(u16),
    Extend(Vec<u16>),
    Pop,
    Insert(usize, u16),
    Remove(usize),
    Splice(usize, usize, Vec<u16>),
    Truncate(usize),
    Reserve(usize),
    Shrink,
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..60_usize;
    let more = proptest::collection::vec(any::<u16>(), 0..20);
    prop_oneof![
        4 => any::<u16>().prop_map(Step::Push),
        2 => more.clone().prop_map(Step::Extend),
        2 => Just(Step::Pop),
        2 => (index.clone(), any::<u16>()).prop_map(|(at, element)| Step::Insert(at, element)),
        2 => index.clone().prop_map(Step::Remove),
        2 => (index.clone(), 0..9_usize, more)
            .prop_map(|(index, count, more)| Step::Splice(index, count, more)),
        1 => index.clone().prop_map(Step::Truncate),
        1 => index.prop_map(Step::Reserve),
        1 => Just(Step::Shrink),
    ]
}

fn apply(step: Step, heap: &Heap, vec: &mut ShmVec<u16>, model: &mut Vec<u16>) {
    match step {
        Step::Push(element) => {
            vec.push(heap, element).unwrap();
            model.push(element);
        }
        Step::Extend(more) => {
            vec.extend_from_slice(heap, &more).unwrap();
            model.extend(more);
        }
        Step::Pop => assert_eq!(vec.pop(heap).unwrap(), model.pop()),
        Step::Insert(index, element) => {
            assert_eq!(vec.insert(heap, index, element).is_ok(), index <= model.len());
            if index <= model.len() {
                model.insert(index, element);
            }
        }
        Step::Remove(index) => {
            let removed = (index < model.len()).then(|| model.remove(index));
            assert_eq!(vec.remove(heap, index).unwrap(), removed);
        }
        Step::Splice(index, count, more) => {
            assert_eq!(vec.splice(heap, index, count, &more).is_ok(), index <= model.len());
            if index <= model.len() {
                drop(model.splice(index..(index + count).min(model.len()), more));
            }
        }
        Step::Truncate(len) => {
            vec.truncate(heap, len).unwrap();
            model.truncate(len);
        }
        Step::Reserve(more) => vec.reserve(heap, more).unwrap(),
        Step::Shrink => vec.shrink_to_fit(heap).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_row_of_operations_does_what_a_vector_of_the_standard_library_does(
        steps in proptest::collection::vec(step(), 1..100),
        is_first_fit in any::<bool>(),
    ) {
        let heap = heap_of(POLICIES[usize::from(!is_first_fit)]);
        let object = make::<ShmVec<u16>>(&heap);
        let mut model = vec![];
        for step in steps {
            apply(step, &heap, get_mut(&heap, object), &mut model);
            prop_assert_eq!(get(&heap, object).as_slice(&heap).unwrap(), &model);
            prop_assert!(heap.stats().live_objects <= 2);
        }
        get_mut(&heap, object).free(&heap).unwrap();
        prop_assert_eq!(heap.stats().live_objects, 1);
    }
}

type Tested = ShmVec<[u64; 2]>;

/// Kills `operate` at every store in a vector of `before` elements; what is left must be the old
/// content or that after it, and the next change must leave no object behind.
fn kill(before: u64, operate: impl Fn(&Heap, &mut Tested), after: &[u64]) {
    let double = |number: u64| [number, !number];
    let start: Vec<_> = (0..before).map(double).collect();
    let after: Vec<_> = after.iter().copied().map(double).collect();
    let seen = RefCell::new(BTreeSet::new());
    let prepare = |heap: &Heap| {
        let object = make::<Tested>(heap);
        get_mut(heap, object).extend_from_slice(heap, &start).unwrap();
        object
    };
    let judge = |heap: &Heap, object: &NonNull<Tested>| {
        let vec = get_mut(heap, *object);
        let left = vec.as_slice(heap).unwrap().to_vec();
        assert!(left == start || left == after, "{left:?}");
        vec.truncate(heap, left.len()).unwrap();
        assert_eq!(vec.as_slice(heap).unwrap(), left);
        let arrays = u64::from(vec.capacity(heap).unwrap() > 0);
        assert_eq!(heap.stats().live_objects, 1 + arrays, "lost objects");
        vec.push(heap, double(99)).unwrap();
        assert_eq!(vec.pop(heap).unwrap(), Some(double(99)));
        vec.free(heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
        seen.borrow_mut().insert(left);
    };
    let operate = |heap: &Heap, object: &NonNull<Tested>| operate(heap, get_mut(heap, *object));
    let stores = at_every_store(prepare, operate, judge);
    println!("{stores} stores");
    assert_eq!(seen.borrow().len(), if start == after { 1 } else { 2 }, "old and new");
}

#[test]
fn killed_at_every_store_a_vector_is_as_before_or_as_after() {
    let test = "killed_at_every_store_a_vector_is_as_before_or_as_after";
    in_own_process(module_path!(), test, || {
        let double = |number: u64| [number, !number];
        kill(0, |heap, vec| vec.push(heap, double(7)).unwrap(), &[7]);
        kill(3, |heap, vec| vec.push(heap, double(7)).unwrap(), &[0, 1, 2, 7]);
        kill(3, |heap, vec| drop(vec.pop(heap)), &[0, 1]);
        kill(3, |heap, vec| vec.insert(heap, 1, double(7)).unwrap(), &[0, 7, 1, 2]);
        kill(4, |heap, vec| drop(vec.remove(heap, 1)), &[0, 2, 3]);
        kill(4, |heap, vec| drop(vec.remove(heap, 3)), &[0, 1, 2]);
        let grow = |heap: &Heap, vec: &mut Tested| {
            let more: Vec<_> = (4..40).map(double).collect();
            vec.extend_from_slice(heap, &more).unwrap();
        };
        kill(4, grow, &(0..40).collect::<Vec<_>>());
        let splice = |heap: &Heap, vec: &mut Tested| {
            vec.splice(heap, 1, 2, &[double(7), double(8), double(9)]).unwrap();
        };
        kill(4, splice, &[0, 7, 8, 9, 3]);
        kill(4, |heap, vec| vec.clear(heap).unwrap(), &[]);
        kill(4, |heap, vec| vec.reserve(heap, 100).unwrap(), &[0, 1, 2, 3]);
        let shrink = |heap: &Heap, vec: &mut Tested| {
            vec.reserve(heap, 100).unwrap();
            vec.shrink_to_fit(heap).unwrap();
        };
        kill(4, shrink, &[0, 1, 2, 3]);
        kill(4, |heap, vec| vec.free(heap).unwrap(), &[]);
    });
}

#[test]
fn overwritten_words_do_no_harm_beyond_the_vector() {
    let mut random = Random(seed());
    for round in 0..2_000 {
        let heap = heap_of(POLICIES[round % 2]);
        let object = make::<ShmVec<u64>>(&heap);
        get_mut(&heap, object).extend_from_slice(&heap, &[1; 50]).unwrap();
        let at = heap.word_at(object.cast()).unwrap();
        for word in 0..3 {
            let value = match random.below(5) {
                0 => random.next(),
                1 => random.below(100),
                2 => heap.gate().load(at + 1),
                3 => 1 << random.below(64),
                _ => continue,
            };
            overwrite(object, word, value);
        }
        let vec = get_mut(&heap, object);
        let _ = vec.as_slice(&heap).map(<[u64]>::len);
        let _ = vec.push(&heap, 1);
        let _ = vec.insert(&heap, 0, 1);
        let _ = vec.pop(&heap);
        let _ = vec.as_mut_slice(&heap).map(|elements| elements.fill(7));
        let _ = vec.shrink_to_fit(&heap);
        let _ = vec.free(&heap);
        assert!(heap.check().is_sound());
    }
}
