//! Objects that are freed while their slab is released, claimed, adopted or swept.

use std::sync::Arc;

use super::{Hand, ME, OTHER, Scene, THIRD};
use crate::segment::interleaved::{Memory, View, explore, start};
use crate::slab::Unit;
use crate::slab::hints::Hint;

/// What a thread sees of the fences that it passes.
type ViewOf = fn(&Arc<Memory>) -> View;

/// The owner of a slab lets it go while somebody frees one of its two objects.
fn free_and_release(freer: ViewOf, owner: ViewOf) {
    explore(4, move || {
        let scene = Scene::new(1);
        let mut owning = scene.hand_with(ME, owner(&scene.memory));
        let [_kept, freed] = [0, 1].map(|_| owning.alloc().unwrap());
        let freeing = scene.hand_with(OTHER, freer(&scene.memory)).spawn(move |hand| {
            hand.free(freed);
            hand.catch_up();
        });
        let owning = owning.spawn(Hand::let_all_go);
        owning.join().unwrap();
        freeing.join().unwrap();
        scene.check(1);
        assert!(scene.is_shared_hinted(Unit(0)));
    });
}

#[test]
fn a_free_at_the_time_of_a_release_is_hinted_at() {
    free_and_release(Memory::view, Memory::view);
}

#[test]
#[should_panic(expected = "a flaw")]
fn without_the_fence_of_the_free_the_hint_is_lost() {
    free_and_release(Memory::view_without_fences, Memory::view);
}

#[test]
#[should_panic(expected = "a flaw")]
fn without_the_fence_of_the_release_the_hint_is_lost() {
    free_and_release(Memory::view, Memory::view_without_fences);
}

#[test]
fn a_free_that_is_put_off_is_noted_and_found_by_who_adopts() {
    explore(4, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [_kept, freed] = [0, 1].map(|_| owning.alloc().unwrap());
        let freeing = scene.hand(OTHER).spawn(move |hand| hand.free(freed));
        let owning = owning.spawn(Hand::let_all_go);
        freeing.join().unwrap();
        owning.join().unwrap();
        scene.check(1);
        scene.adopt(OTHER);
        scene.check(1);
        assert!(scene.is_shared_hinted(Unit(0)));
    });
}

/// A thread that has freed is dead; its notes are looked at while the owner lets the slab go.
fn adoption_and_release(adopter: ViewOf) {
    explore(4, move || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [_kept, freed] = [0, 1].map(|_| owning.alloc().unwrap());
        let mut dying = scene.hand(OTHER);
        let dead = start(move || dying.free(freed));
        let owning = owning.spawn(Hand::let_all_go);
        let adopting = scene.hand_with(OTHER, adopter(&scene.memory));
        let adopting = start(move || {
            dead.join().unwrap();
            adopting.adopt_notes();
        });
        owning.join().unwrap();
        adopting.join().unwrap();
        scene.check(1);
    });
}

#[test]
fn an_adopted_free_at_the_time_of_a_release_is_hinted_at() {
    adoption_and_release(Memory::view);
}

#[test]
#[should_panic(expected = "a flaw")]
fn without_the_fence_of_the_adoption_the_hint_is_lost() {
    adoption_and_release(Memory::view_without_fences);
}

#[test]
fn two_frees_at_the_time_of_a_release_are_found() {
    explore(3, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let places = [0, 1].map(|_| owning.alloc().unwrap());
        let freeing = [(OTHER, places[0]), (THIRD, places[1])].map(|(peer, place)| {
            scene.hand(peer).spawn(move |hand| {
                hand.free(place);
                hand.catch_up();
            })
        });
        let owning = owning.spawn(Hand::let_all_go);
        owning.join().unwrap();
        for freeing in freeing {
            freeing.join().unwrap();
        }
        scene.check(0);
        scene.fill([]);
    });
}

#[test]
fn an_object_that_is_freed_while_its_slab_changes_hands_is_given_out_once() {
    explore(4, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [kept, freed] = [0, 1].map(|_| owning.alloc().unwrap());
        let freeing = scene.hand(OTHER).spawn(move |hand| {
            hand.free(freed);
            hand.catch_up();
        });
        let claiming = scene.hand(THIRD).spawn(Hand::alloc);
        let owning = owning.spawn(Hand::let_all_go);
        owning.join().unwrap();
        freeing.join().unwrap();
        let (mut claiming, claimed) = claiming.join().unwrap();
        scene.check(1 + u64::from(claimed.is_some()));
        claiming.let_all_go();
        scene.fill([kept].into_iter().chain(claimed));
    });
}

#[test]
fn a_free_while_a_stale_hint_leads_to_a_claim_is_hinted_at() {
    explore(5, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [kept, freed] = [0, 1].map(|_| owning.alloc().unwrap());
        owning.let_all_go();
        scene.engine.hints.set(&scene.memory.view(), Hint::Shared, Unit(0));
        let freeing = scene.hand(OTHER).spawn(move |hand| {
            hand.free(freed);
            hand.catch_up();
        });
        let claiming = scene.hand(THIRD).spawn(Hand::alloc);
        freeing.join().unwrap();
        let (mut claiming, claimed) = claiming.join().unwrap();
        scene.check(1 + u64::from(claimed.is_some()));
        claiming.let_all_go();
        scene.fill([kept].into_iter().chain(claimed));
    });
}

#[test]
fn of_two_who_claim_a_slab_one_gets_it() {
    explore(5, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [kept, freed] = [0, 1].map(|_| owning.alloc().unwrap());
        owning.free(freed);
        owning.let_all_go();
        let claiming = [OTHER, THIRD].map(|peer| scene.hand(peer).spawn(Hand::alloc));
        let claimed = claiming.map(|claiming| claiming.join().unwrap());
        let places: Vec<_> = claimed.iter().filter_map(|&(_, place)| place).collect();
        assert_eq!(places, [freed]);
        scene.check(2);
        scene.fill([kept, freed]);
    });
}

#[test]
fn two_who_claim_two_slabs_get_one_each() {
    explore(5, || {
        let scene = Scene::new(2);
        let mut owning = scene.hand(ME);
        let places = [0; 4].map(|_| owning.alloc().unwrap());
        owning.free(places[1]);
        owning.free(places[2]);
        owning.let_all_go();
        let claiming = [OTHER, THIRD].map(|peer| scene.hand(peer).spawn(Hand::alloc));
        let claimed = claiming.map(|claiming| claiming.join().unwrap());
        let mut found = claimed.map(|(_, place)| place.unwrap());
        found.sort();
        assert_eq!(found, [places[1], places[2]]);
        scene.check(4);
        scene.fill(places);
    });
}

#[test]
fn a_free_at_the_time_of_a_sweep_and_a_claim_is_found() {
    explore(3, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [first, last] = [0, 1].map(|_| owning.alloc().unwrap());
        owning.free(first);
        owning.let_all_go();
        let freeing = scene.hand(OTHER).spawn(move |hand| {
            hand.free(last);
            hand.catch_up();
        });
        let sweeping = scene.hand(ME).spawn(Hand::sweep);
        let claiming = scene.hand(THIRD).spawn(Hand::alloc);
        freeing.join().unwrap();
        sweeping.join().unwrap();
        let (mut claiming, claimed) = claiming.join().unwrap();
        scene.check(u64::from(claimed.is_some()));
        claiming.let_all_go();
        scene.fill(claimed);
    });
}

#[test]
fn an_object_that_is_allocated_at_the_time_of_a_sweep_keeps_its_slab() {
    explore(4, || {
        let scene = Scene::new(1);
        let mut owning = scene.hand(ME);
        let [first, last] = [0, 1].map(|_| owning.alloc().unwrap());
        owning.free(first);
        owning.let_all_go();
        owning.free(last);
        owning.catch_up();
        let sweeping = scene.hand(OTHER).spawn(Hand::sweep);
        let claiming = scene.hand(THIRD).spawn(|hand| {
            let claimed = hand.alloc();
            hand.let_all_go();
            claimed
        });
        sweeping.join().unwrap();
        let (_, claimed) = claiming.join().unwrap();
        scene.check(u64::from(claimed.is_some()));
        scene.fill(claimed);
    });
}
