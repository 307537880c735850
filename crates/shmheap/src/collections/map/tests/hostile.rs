//! Overwritten maps: wrong answers or errors, but no panic, no fault and no endless loop.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Map, keys};
use crate::collections::testing::{POLICIES, Random, get, get_mut, heap_of, make, overwrite, seed};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Handle, Heap};

const SOON: Duration = Duration::from_millis(2);

/// Does some of everything; whatever comes of it.
fn use_it(heap: &Heap, object: NonNull<Map>, random: &mut Random) {
    let map = get(heap, object);
    for _ in 0..30 {
        let key = random.below(200);
        let new = (random.below(3) > 0).then_some(key);
        let _ = map.get(heap, &key);
        let _ = map.alter(heap, &key, SOON, |_| new);
    }
    let _ = map.len(heap);
    let _ = map.capacity(heap);
    let _ = map.iter(heap).unwrap().count();
}

/// What somebody could write: anything, small numbers, handles, words of other places.
fn nonsense(heap: &Heap, random: &mut Random, places: &[WordIndex]) -> u64 {
    match random.below(6) {
        0 => random.next(),
        1 => random.below(64),
        2 => heap.gate().load(places[random.below(places.len() as u64) as usize]),
        3 => 1 << random.below(64),
        4 => random.next() << 28 | random.below(30),
        _ => 0,
    }
}

/// The words of the map and of all its tables.
fn places(heap: &Heap, object: NonNull<Map>) -> Vec<WordIndex> {
    let at = heap.word_at(object.cast()).unwrap();
    let mut places: Vec<_> = (0..size_of::<Map>() as u64 / 8).map(|word| at + word).collect();
    for shard in 0..16 {
        let mut handle = heap.gate().load(at + shard);
        for _ in 0..8 {
            let Ok(span) = heap.span(Handle::from_raw(handle)) else { break };
            places.extend((0..span.words).map(|number| span.word(number)));
            handle = heap.gate().load(span.word(0));
        }
    }
    places
}

#[test]
fn overwritten_words_do_no_harm_beyond_the_map() {
    let mut random = Random(seed());
    for round in 0..400 {
        let heap = heap_of(POLICIES[round % 2]);
        let object = make::<Map>(&heap);
        for key in 0..150 {
            get(&heap, object).insert(&heap, key, key).unwrap();
        }
        let places = places(&heap, object);
        for _ in 0..3 {
            for _ in 0..=random.below(6) {
                let at = places[random.below(places.len() as u64) as usize];
                heap.gate().store(at, nonsense(&heap, &mut random, &places));
            }
            use_it(&heap, object, &mut random);
        }
        let _ = get(&heap, object).alter(&heap, &1, SOON, |_| None);
        // With a lock that nobody has, whatever was there.
        for shard in 0..16 {
            overwrite(object, 16 + 8 * shard, 0);
        }
        let _ = get_mut(&heap, object).free_old_tables(&heap);
        let _ = get_mut(&heap, object).free(&heap);
        assert!(heap.check().is_sound());
    }
}

#[test]
fn maps_are_overwritten_while_they_are_in_use() {
    let mut random = Random(seed());
    for round in 0..12 {
        let heap = heap_of(POLICIES[round % 2]);
        let object = make::<Map>(&heap);
        for key in 0..150 {
            get(&heap, object).insert(&heap, key, key).unwrap();
        }
        let places = places(&heap, object);
        let is_over = AtomicBool::new(false);
        let (heap, is_over, places) = (&heap, &is_over, &places);
        let seeds = [random.next(), random.next(), random.next()];
        let address = object.addr().get();
        std::thread::scope(|scope| {
            for seed in &seeds[1..] {
                scope.spawn(move || {
                    let object = NonNull::new(std::ptr::with_exposed_provenance_mut(address));
                    let mut random = Random(*seed);
                    for _ in 0..20 {
                        use_it(heap, object.unwrap(), &mut random);
                    }
                    is_over.store(true, Ordering::Relaxed);
                });
            }
            let mut random = Random(seeds[0]);
            while !is_over.load(Ordering::Relaxed) {
                let at = places[random.below(places.len() as u64) as usize];
                heap.gate().store(at, nonsense(heap, &mut random, places));
            }
        });
    }
}

/// Chains that lead round in a circle, out of the table and into other buckets come to an end.
#[test]
fn chains_that_lead_astray_end() {
    let heap = heap_of(crate::Policy::FirstFit);
    let object = make::<Map>(&heap);
    let map = get(&heap, object);
    let keys = keys(0, 0, 4, 5);
    for &key in &keys {
        map.insert(&heap, key, 1).unwrap();
    }
    let handle = heap.gate().load(heap.word_at(object.cast()).unwrap());
    let span = heap.span(Handle::from_raw(handle)).unwrap();
    let absent = super::keys(0, 0, 4, 9)[8];
    let saved: Vec<_> = (0..span.words).map(|number| heap.gate().load(span.word(number))).collect();
    for number in 2..span.words {
        for name in (0..20).chain([(1 << 28) - 1]) {
            let word = saved[number as usize] & !((1 << 28) - 1) | name;
            heap.gate().store(span.word(number), word);
            let _ = map.get(&heap, &absent).unwrap();
            assert!(map.iter(&heap).unwrap().count() <= 16);
        }
        heap.gate().store(span.word(number), saved[number as usize]);
    }
    assert_eq!(map.len(&heap).unwrap(), 5);
    // All buckets lead to the same chain, which belongs to one of them.
    let first = (0..4).map(|bucket| heap.gate().load(span.word(2 + bucket))).max().unwrap();
    (0..4).for_each(|bucket| heap.gate().store(span.word(2 + bucket), first));
    assert_eq!(map.iter(&heap).unwrap().count(), 5);
}
