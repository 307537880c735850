//! Frees in slabs of others, step by step: what is noted before, and hinted at after.

use super::memory::{ME, Memory, OTHER, at_work, heap, notes};
use crate::error::NotLive;
use crate::segment::fault::Fault;
use crate::segment::words::Words;
use crate::slab::hints::Hint;
use crate::slab::unit::{Place, UNIT_BYTES, Unit, Use};
use crate::slab::{Cache, Class, Effort, Note, Slabs};

/// Two of them make a slab of one unit.
const OBJECT_BYTES: u64 = UNIT_BYTES / 2;

fn class() -> Class {
    Class::of(OBJECT_BYTES, 8).unwrap()
}

fn alloc(engine: &Slabs, memory: &Memory, cache: &mut Cache, count: usize) -> Vec<Place> {
    let worker = at_work(engine, memory, ME);
    let alloc = || worker.alloc_small(cache, class(), Effort::Usual, |_, _| {}).unwrap();
    std::iter::from_fn(alloc).take(count).collect()
}

fn frees_note(memory: &Memory) -> Option<Note> {
    Note::read(memory.load(notes(OTHER).last().unwrap()))
}

#[test]
fn frees_elsewhere_are_noted_until_their_slabs_are_looked_at() {
    let (engine, memory) = heap(8, 8);
    let (mut mine, mut others) = (Cache::new(), Cache::new());
    let objects = alloc(&engine, &memory, &mut mine, 10);
    at_work(&engine, &memory, ME).let_all_go(&mut mine);
    let is_hinted = |unit| engine.hints.is_set(&&memory, Hint::Shared, Unit(unit));
    let worker = at_work(&engine, &memory, OTHER);
    for (object, noted) in [
        (objects[6], Note::Frees(Unit(3), 1)),
        (objects[2], Note::Frees(Unit(1), 3)),
        (objects[5], Note::Frees(Unit(1), 3)),
        (objects[9], Note::Frees(Unit(1), 4)),
    ] {
        worker.free(&mut others, object).unwrap();
        assert_eq!(frees_note(&memory), Some(noted));
        let refused = worker.free(&mut others, object).unwrap_err();
        assert!(matches!(refused, Fault::NotLive(NotLive::Freed)), "{refused:?}");
    }
    assert!(!(0..8).any(is_hinted), "put off");
    worker.catch_up(&mut others);
    assert_eq!((0..8).filter(|&unit| is_hinted(unit)).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(frees_note(&memory), None);
    assert!(others.pending().is_empty());
}

/// The owner looks for itself.
#[test]
fn a_slab_that_is_somebodys_is_not_hinted_at() {
    let (engine, memory) = heap(8, 8);
    let (mut mine, mut others) = (Cache::new(), Cache::new());
    let objects = alloc(&engine, &memory, &mut mine, 2);
    let worker = at_work(&engine, &memory, OTHER);
    worker.free(&mut others, objects[0]).unwrap();
    worker.catch_up(&mut others);
    assert!(!engine.hints.is_set(&&memory, Hint::Shared, Unit(0)));
    assert_eq!(alloc(&engine, &memory, &mut mine, 1), [objects[0]]);
}

#[test]
fn a_slab_is_given_back_with_its_last_object_unless_it_is_open() {
    let (engine, memory) = heap(8, 8);
    let mut mine = Cache::new();
    let objects = alloc(&engine, &memory, &mut mine, 4);
    let worker = at_work(&engine, &memory, ME);
    objects.iter().for_each(|&object| worker.free(&mut mine, object).unwrap());
    assert_eq!(engine.load(&&memory, Unit(0)).get(), Some(Use::Free));
    assert_eq!(engine.load(&&memory, Unit(1)).get(), Some(worker.own(class())));
    worker.let_all_go(&mut mine);
    assert_eq!(engine.load(&&memory, Unit(1)).get(), Some(Use::Free));
}
