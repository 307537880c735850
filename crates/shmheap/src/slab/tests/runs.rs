//! Runs claimed and given back, step by step, where hints mislead, others are faster, and storage
//! lacks.

use super::memory::{DEAD, ME, Memory, NoStates, OTHER, Store, actor, at_work, census, heap, set};
use crate::segment::fault::Fault;
use crate::slab::hints::Hint;
use crate::slab::unit::{Unit, Use};
use crate::slab::{Slabs, runs::Claimed};
use crate::units::PeerSlot;

const CLAIM_OF_OTHER: Use = Use::Claim { peer: OTHER, units: 2 };

fn uses<const UNITS: usize>(engine: &Slabs, memory: &Memory) -> [Option<Use>; UNITS] {
    std::array::from_fn(|unit| engine.load(&memory, Unit(unit as u64)).get())
}

fn hinted(engine: &Slabs, memory: &Memory) -> Vec<u64> {
    let is_hinted = |&unit: &u64| engine.hints.is_set(&memory, Hint::Free, Unit(unit));
    (0..engine.end(memory).0).filter(is_hinted).collect()
}

fn claim(engine: &Slabs, memory: &Memory, units: u64) -> Claimed {
    at_work(engine, memory, ME).claim_run(units, 1).unwrap().unwrap()
}

fn claim_of(peer: PeerSlot, units: u64) -> [Option<Use>; 2] {
    [Some(Use::Claim { peer, units }), Some(Use::Rest { peer, distance: 1 })]
}

#[test]
fn who_meets_another_gives_back_what_it_had_and_goes_on() {
    for (first, given_back) in [(Use::Free, Use::Free), (Use::Hole, Use::Hole)] {
        let (engine, memory) = heap(6, 6);
        set(&engine, &memory, &[Use::Free, first, CLAIM_OF_OTHER, Use::Free]);
        let claimed = claim(&engine, &memory, 3);
        assert_eq!((claimed.start, claimed.units), (Unit(3), 3));
        let [zero, one, two, ..] = uses::<6>(&engine, &memory);
        assert_eq!([zero, one, two], [given_back, given_back, CLAIM_OF_OTHER].map(Some));
        assert_eq!(hinted(&engine, &memory), [0, 1]);
    }
}

/// Of more units than a word of hints stands for, those behind the first word are found.
#[test]
fn a_run_is_found_behind_a_group_that_has_none() {
    let (engine, memory) = heap(130, 130);
    let uses = |unit| if unit == 5 { Use::Free } else { Use::Large { units: 1 } };
    set(&engine, &memory, &(0..65).map(uses).collect::<Vec<_>>());
    (0..65).filter(|&unit| unit != 5).for_each(|unit| {
        engine.hints.clear(&&memory, Hint::Free, Unit(unit));
    });
    assert_eq!(claim(&engine, &memory, 2).start, Unit(65));
    assert_eq!(claim(&engine, &memory, 1).start, Unit(5));
}

#[test]
fn another_claim_is_left_alone_where_a_hint_leads_to_it() {
    let (engine, memory) = heap(4, 4);
    set(&engine, &memory, &[CLAIM_OF_OTHER, Use::Rest { peer: OTHER, distance: 1 }]);
    assert_eq!(claim(&engine, &memory, 2).start, Unit(2));
    let [other, mine] = [claim_of(OTHER, 2), claim_of(ME, 2)];
    assert_eq!(uses::<4>(&engine, &memory), [other[0], other[1], mine[0], mine[1]]);
    assert_eq!(hinted(&engine, &memory), [] as [u64; 0]);
}

#[test]
fn holes_get_storage_when_they_are_claimed_and_only_they() {
    let (engine, memory) = heap(4, 4);
    assert_eq!(at_work(&engine, &memory, ME).trim().unwrap(), 4);
    let claimed = claim(&engine, &memory, 2);
    assert!(memory.has_storage(Unit(0)) && memory.has_storage(Unit(1)));
    // They have storage now, so they are holes no more.
    at_work(&engine, &memory, ME).give_back(claimed);
    let (free, hole) = (Some(Use::Free), Some(Use::Hole));
    assert_eq!(uses::<4>(&engine, &memory), [free, free, hole, hole]);
    let (_, stores) = memory.record(|| claim(&engine, &memory, 2));
    assert!(!stores.iter().any(|store| matches!(store, Store::Storage(..))));
}

#[test]
fn where_the_system_has_no_storage_units_that_have_some_are_found() {
    let (engine, memory) = heap(4, 4);
    set(&engine, &memory, &[Use::Hole, Use::Hole, Use::Free, Use::Large { units: 1 }]);
    let worker = engine.worker(&memory, NoStates, actor(ME));
    assert_eq!(worker.claim_run(1, 1).unwrap().map(|claimed| claimed.start), Some(Unit(2)));
    let refused = worker.claim_run(1, 1).unwrap_err();
    assert!(matches!(refused, Fault::NoStorage));
    let [zero, one, ..] = uses::<4>(&engine, &memory);
    assert_eq!(([zero, one], hinted(&engine, &memory)), ([Some(Use::Hole); 2], vec![0, 1]));
}

/// Whatever stands behind a head that a dead peer left: only what the head has is freed.
#[test]
fn only_the_units_of_a_run_are_freed() {
    let (engine, memory) = heap(8, 8);
    let rest = |distance| Use::Rest { peer: DEAD, distance };
    let (large, hole) = (Use::Large { units: 1 }, Use::Hole);
    let head = Use::Claim { peer: DEAD, units: 1000 };
    set(&engine, &memory, &[large, rest(1), head, rest(1), rest(1), rest(3), large, rest(5)]);
    (0..8).for_each(|unit| engine.hints.clear(&&memory, Hint::Free, Unit(unit)));
    at_work(&engine, &memory, DEAD).free_units(Unit(2), 1000, Use::Hole);
    let expected = [large, rest(1), hole, hole, rest(1), hole, large, hole];
    assert_eq!(uses::<8>(&engine, &memory), expected.map(Some));
    assert_eq!(hinted(&engine, &memory), [2, 3, 5, 7]);
}

/// A claim that is another's by now, for a broken process has written there.
#[test]
fn a_claim_that_is_lost_is_not_made_anything() {
    let (engine, memory) = heap(4, 4);
    let worker = at_work(&engine, &memory, ME);
    let claimed = claim(&engine, &memory, 2);
    for other in [CLAIM_OF_OTHER, Use::Claim { peer: ME, units: 1 }, Use::Free] {
        set(&engine, &memory, &[other]);
        let refused = worker.establish(claimed, Use::Large { units: 2 });
        assert!(matches!(refused, Err(Fault::Damaged(_))));
        assert_eq!(uses::<1>(&engine, &memory), [Some(other)]);
    }
    set(&engine, &memory, &[Use::Claim { peer: ME, units: 2 }]);
    assert_eq!(worker.establish(claimed, Use::Large { units: 2 }), Ok(1));
    assert_eq!(census(&engine, &memory).flaws, []);
}
