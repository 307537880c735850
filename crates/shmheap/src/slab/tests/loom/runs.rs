//! Runs of units that are claimed, freed and resized at once.

use super::{Hand, ME, OTHER, Scene, THIRD};
use crate::error::NotLive;
use crate::segment::fault::Fault;
use crate::segment::interleaved::explore;
use crate::slab::Place;

impl Scene {
    /// Without a sweep, all of the heap but so many units can be allocated.
    fn fill_units(&self, held: u64) {
        let hand = self.hand(ME);
        let found = std::iter::from_fn(|| hand.alloc_large(1)).count() as u64;
        assert_eq!(held + found, self.units, "units out of reach");
    }
}

#[test]
fn a_run_that_is_freed_while_others_claim_is_given_out_once() {
    for wanted in [1, 2] {
        explore(4, move || {
            let scene = Scene::new(2);
            let freed = scene.hand(ME).alloc_large(2).unwrap();
            let freeing = scene.hand(OTHER).spawn(move |hand| hand.free(freed));
            let claiming = scene.hand(THIRD).spawn(move |hand| hand.alloc_large(wanted));
            freeing.join().unwrap();
            let (_, claimed) = claiming.join().unwrap();
            scene.check(claimed.is_some().into());
            scene.fill_units(claimed.map_or(0, |_| wanted));
        });
    }
}

#[test]
fn of_two_who_claim_overlapping_runs_one_gets_its_own() {
    for wanted in [[2, 2], [3, 1], [1, 3]] {
        explore(4, move || {
            let scene = Scene::new(3);
            let claiming = [(OTHER, wanted[0]), (THIRD, wanted[1])]
                .map(|(peer, units)| scene.hand(peer).spawn(move |hand| hand.alloc_large(units)));
            let claimed = claiming.map(|claiming| claiming.join().unwrap().1);
            let got = (0..2).filter(|&number| claimed[number].is_some());
            let held: Vec<_> = got.map(|number| wanted[number]).collect();
            assert!(!held.is_empty());
            scene.check(held.len() as u64);
            scene.fill_units(held.iter().sum());
        });
    }
}

#[test]
fn a_hint_that_is_found_stale_while_its_unit_is_freed_is_not_lost() {
    explore(4, || {
        let scene = Scene::new(1);
        let passing = scene.hand(OTHER).spawn(|hand| {
            let place = hand.alloc_large(1);
            place.into_iter().for_each(|place| hand.free(place));
        });
        let claiming = scene.hand(THIRD).spawn(|hand| hand.alloc_large(1));
        passing.join().unwrap();
        let (_, claimed) = claiming.join().unwrap();
        scene.check(claimed.is_some().into());
        scene.fill_units(claimed.is_some().into());
    });
}

#[test]
fn of_two_who_free_a_large_object_at_once_one_is_told() {
    explore(4, || {
        let scene = Scene::new(2);
        let freed = scene.hand(ME).alloc_large(2).unwrap();
        let freeing =
            [OTHER, THIRD].map(|peer| scene.hand(peer).spawn(move |hand| hand.try_free(freed)));
        let mut results = freeing.map(|freeing| freeing.join().unwrap().1);
        results.sort_by_key(Result::is_err);
        assert!(results[0].is_ok());
        let told = [NotLive::Freed, NotLive::NoObject, NotLive::Foreign].map(Fault::NotLive);
        assert!(results[1].is_err_and(|fault| told.contains(&fault)));
        scene.check(0);
        scene.fill_units(0);
    });
}

#[test]
fn a_slab_given_back_at_the_time_of_a_claim_is_reused_whole() {
    explore(4, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let freed = owning.alloc().unwrap();
        owning.free(freed);
        let owning = owning.spawn(Hand::let_all_go);
        let claiming = scene.hand(THIRD).spawn(|hand| hand.alloc_large(1));
        owning.join().unwrap();
        let (_, claimed) = claiming.join().unwrap();
        scene.check(claimed.is_some().into());
        scene.fill_units(claimed.is_some().into());
    });
}

#[test]
fn a_unit_goes_to_the_object_that_grows_or_to_who_claims_it() {
    explore(4, || {
        let scene = Scene::new(2);
        assert_eq!(scene.hand(ME).alloc_large(1), Some(Place(0)));
        let growing = scene.hand(OTHER).spawn(|hand| hand.resize_large(1, 2));
        let claiming = scene.hand(THIRD).spawn(|hand| hand.alloc_large(1));
        let (_, has_grown) = growing.join().unwrap();
        let (_, claimed) = claiming.join().unwrap();
        assert_ne!(has_grown, claimed.is_some());
        scene.check(1 + u64::from(claimed.is_some()));
        scene.fill_units(2);
    });
}

#[test]
fn a_unit_that_a_shrinking_object_leaves_is_given_out_once() {
    explore(4, || {
        let scene = Scene::new(2);
        assert_eq!(scene.hand(ME).alloc_large(2), Some(Place(0)));
        let shrinking = scene.hand(OTHER).spawn(|hand| hand.resize_large(2, 1));
        let claiming = scene.hand(THIRD).spawn(|hand| hand.alloc_large(1));
        assert!(shrinking.join().unwrap().1);
        let (_, claimed) = claiming.join().unwrap();
        scene.check(1 + u64::from(claimed.is_some()));
        scene.fill_units(1 + u64::from(claimed.is_some()));
    });
}
