//! Adoption, case by case, of words that are put there by hand.
//!
//! The kill tests cut what two peers do one after the other, so nobody but the dead is ever in the
//! middle of anything there, and every thread has a record for its notes. Here a living peer is in
//! the middle of everything at once, and the dead one has no record.

use super::memory::{DEAD, ME, Memory, NoStates, OTHER, actor, at_work, census, heap, set};
use crate::segment::states::{State, States};
use crate::segment::words::Words;
use crate::slab::hints::Hint;
use crate::slab::unit::{UNIT_BYTES, Unit, UnitWord, Use};
use crate::slab::{Actor, Class, Note};
use crate::units::WordIndex;

/// The most that fits a note's fields.
const MOST: u64 = (1 << 31) - 1;

#[test]
fn every_note_reads_back() {
    for unit in [0, 1, 64, MOST].map(Unit) {
        for units in [0, 1, 64, MOST] {
            for note in [Note::Slab(unit), Note::Run(unit, units), Note::Frees(unit, units)] {
                assert_eq!(Note::read(note.word()), Some(note));
            }
        }
    }
    for nonsense in [0, 1, MOST, 1 << 61] {
        assert_eq!(Note::read(nonsense), None, "{nonsense:#x}");
    }
}

#[test]
fn a_note_is_about_its_units_and_one_kind_of_hint() {
    let about = |note: Note| {
        [Hint::Shared, Hint::Free]
            .map(|hint| (0..8).filter(|&unit| note.is_about(hint, Unit(unit))).collect::<Vec<_>>())
    };
    assert_eq!(about(Note::Slab(Unit(3))), [vec![3], vec![]]);
    assert_eq!(about(Note::Frees(Unit(3), 2)), [vec![3, 4], vec![]]);
    assert_eq!(about(Note::Run(Unit(3), 2)), [vec![], vec![3, 4]]);
}

#[test]
fn what_the_living_are_in_the_middle_of_is_left_alone() {
    let (engine, memory) = heap(8, 8);
    let (peer, class) = (OTHER, Class::SMALLEST.number() as u64);
    set(
        &engine,
        &memory,
        &[
            Use::Claim { peer, units: 2 },
            Use::Rest { peer, distance: 1 },
            Use::Freeing { peer, units: 2 },
            Use::Rest { peer, distance: 1 },
            Use::Slab { owner: Some(peer), class },
            // As of a large object that is being resized: no head has it.
            Use::Rest { peer, distance: 5 },
            Use::Claim { peer, units: 1 },
        ],
    );
    let before = memory.image();
    let worker = engine.worker(&memory, NoStates, actor(DEAD));
    worker.adopt_units().unwrap();
    assert!(memory.image() == before);
}

#[test]
fn a_unit_that_no_head_reaches_becomes_a_hole() {
    let (engine, memory) = heap(14, 14);
    let two_units = Class::all().find(|class| class.units() == 2).unwrap().number() as u64;
    let rest = |distance| Use::Rest { peer: DEAD, distance };
    let uses = [
        Use::Large { units: 2 },
        rest(1),
        rest(2),
        Use::Slab { owner: None, class: two_units },
        rest(1),
        rest(2),
        Use::Freeing { peer: OTHER, units: 2 },
        rest(1),
        rest(2),
        Use::Claim { peer: OTHER, units: 2 },
        rest(1),
        // Its head is before the first unit.
        rest(12),
    ];
    set(&engine, &memory, &uses);
    at_work(&engine, &memory, DEAD).adopt_units().unwrap();
    for (unit, &was) in (0..).zip(&uses) {
        let is = engine.load(&&memory, Unit(unit)).get();
        let is_stray = [2, 5, 8, 10, 11].contains(&unit);
        assert_eq!(is, Some(if is_stray { Use::Hole } else { was }), "unit {unit}");
        assert!(!is_stray || engine.hints.is_set(&&memory, Hint::Free, Unit(unit)));
    }
}

#[test]
fn a_place_is_its_slabs_owners() {
    let (engine, memory) = heap(8, 8);
    let two_units = Class::all().find(|class| class.units() == 2).unwrap().number() as u64;
    let (of_dead, of_other) = (Some(DEAD), Some(OTHER));
    let uses = [
        Use::Slab { owner: of_dead, class: two_units },
        Use::Rest { peer: DEAD, distance: 1 },
        Use::Slab { owner: of_other, class: 0 },
        Use::Slab { owner: None, class: 0 },
        Use::Large { units: 1 },
        Use::Claim { peer: DEAD, units: 1 },
    ];
    set(&engine, &memory, &uses);
    let worker = at_work(&engine, &memory, ME);
    let of = |peer| {
        let has = |unit: &u64| worker.is_owned_by(Unit(*unit).start(), peer);
        (0..8).filter(has).collect::<Vec<_>>()
    };
    assert_eq!((of(DEAD), of(OTHER), of(ME)), (vec![0, 1], vec![2], vec![]));
}

/// All that is free is found again, though no hint was left; nothing else is hinted at.
#[test]
fn a_sweep_finds_everything_without_hints() {
    let (engine, memory) = heap(8, 8);
    let (full, idle, half) = (Unit(0), Unit(1), Unit(2));
    let class = Class::of(UNIT_BYTES / 2, 8).unwrap();
    let nobodys = Use::Slab { owner: None, class: class.number() as u64 };
    let owned = Use::Slab { owner: Some(OTHER), class: class.number() as u64 };
    set(&engine, &memory, &[nobodys, nobodys, nobodys, owned, Use::Free, Use::Hole]);
    let row = |unit| engine.layout.row(class.geometry(), unit);
    for at in [row(full), row(full) + 1, row(half) + 1] {
        memory.store_state(at, State(1));
    }
    for unit in (0..8).map(Unit) {
        engine.hints.clear(&&memory, Hint::Free, unit);
    }
    engine.hints.set(&&memory, Hint::Shared, idle);
    at_work(&engine, &memory, ME).sweep().unwrap();
    let hinted = |hint| {
        (0..8).filter(|&unit| engine.hints.is_set(&&memory, hint, Unit(unit))).collect::<Vec<_>>()
    };
    assert_eq!(hinted(Hint::Shared), [half.0]);
    assert_eq!(hinted(Hint::Free), [idle.0, 4, 5, 6, 7]);
    assert_eq!(engine.load(&&memory, idle).get(), Some(Use::Free));
    assert_eq!(engine.load(&&memory, full).get(), Some(nobodys));
}

/// A unit whose storage the system did not take back may have lost it all the same.
#[test]
fn a_trim_makes_holes_of_the_free_units_and_stops_when_the_system_refuses() {
    let (engine, memory) = heap(4, 4);
    set(&engine, &memory, &[Use::Large { units: 1 }]);
    let uses = || [0, 1, 2, 3].map(|unit| engine.load(&&memory, Unit(unit)).get());
    let large = Some(Use::Large { units: 1 });
    let (hole, free) = (Some(Use::Hole), Some(Use::Free));
    assert_eq!(engine.worker(&memory, NoStates, actor(ME)).trim().unwrap(), 0);
    assert_eq!(uses(), [large, hole, free, free]);
    assert_eq!(at_work(&engine, &memory, ME).trim().unwrap(), 2);
    assert_eq!(uses(), [large, hole, hole, hole]);
    assert_eq!([0, 1, 2, 3].map(|unit| memory.has_storage(Unit(unit))), [true, true, false, false]);
    assert_eq!(at_work(&engine, &memory, ME).trim().unwrap(), 0);
    assert_eq!(census(&engine, &memory).flaws, []);
}

/// What is done for a peer that has no thread record is noted nowhere.
#[test]
fn who_has_no_record_is_adopted_and_no_word_but_its_own_changes() {
    let (engine, memory) = heap(4, 4);
    let (peer, class) = (DEAD, Class::of(UNIT_BYTES / 2, 8).unwrap().number() as u64);
    let records = |memory: &Memory| memory.image().words[..engine.layout.units.0 as usize].to_vec();
    (1..engine.layout.units.0).for_each(|at| memory.store(WordIndex(at), 7));
    let before = records(&memory);
    set(&engine, &memory, &[Use::Claim { peer, units: 1 }, Use::Slab { owner: Some(peer), class }]);
    let nobody = Actor { peer, notes: Actor::NOBODY.notes };
    engine.worker(&memory, &memory, nobody).adopt_units().unwrap();
    let uses = [0, 1].map(|unit| engine.load(&&memory, Unit(unit)).get());
    assert_eq!(uses, [Some(Use::Hole), Some(Use::Free)]);
    assert!(records(&memory) == before);
}

#[test]
fn no_unit_behind_the_last_is_changed() {
    let (engine, memory) = heap(4, 4);
    let worker = at_work(&engine, &memory, DEAD);
    for unit in [4, 5, u64::MAX].map(Unit) {
        let word = UnitWord(memory.load(engine.word_of(unit)));
        assert!(!worker.exchange(unit, word, UnitWord(1 << 60)), "{unit:?}");
    }
}
