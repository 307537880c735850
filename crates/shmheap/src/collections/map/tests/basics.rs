//! One process: every operation against a map of the standard library, and what tables are made of.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::super::table::Table;
use super::{Map, content, keys, tables};
use crate::collections::ShmMap;
use crate::collections::testing::{POLICIES, Random, get, get_mut, heap_of, make, seed};
use crate::object::Shareable;
use crate::os::Futex;
use crate::segment::words::Row;
use crate::units::WordIndex;
use crate::{Error, HeapOptions, Policy};

#[test]
fn every_operation_does_what_it_says() {
    for policy in POLICIES {
        let heap = heap_of(policy);
        let map: &Map = get(&heap, make(&heap));
        assert_eq!(map.get(&heap, &1).unwrap(), None);
        assert_eq!(map.remove(&heap, &1).unwrap(), None);
        assert!(map.is_empty(&heap).unwrap());
        assert_eq!(map.capacity(&heap).unwrap(), 0);
        assert_eq!(map.insert(&heap, 1, 10).unwrap(), None);
        assert_eq!(map.insert(&heap, 1, 11).unwrap(), Some(10));
        assert_eq!(map.insert_if_absent(&heap, 1, 12).unwrap(), Some(11));
        assert_eq!(map.insert_if_absent(&heap, 2, 20).unwrap(), None);
        assert_eq!(map.get_or_insert_with(&heap, 2, || unreachable!()).unwrap(), 20);
        assert_eq!(map.get_or_insert_with(&heap, 3, || 30).unwrap(), 30);
        assert_eq!(map.update(&heap, &3, |value| value + 1).unwrap(), Some(31));
        assert_eq!(map.update(&heap, &4, |_| unreachable!()).unwrap(), None);
        assert!(map.replace_if(&heap, &3, &31, 32).unwrap());
        assert!(!map.replace_if(&heap, &3, &31, 33).unwrap());
        assert!(!map.replace_if(&heap, &4, &31, 33).unwrap());
        assert!(map.contains_key(&heap, &3).unwrap() && !map.contains_key(&heap, &4).unwrap());
        assert_eq!(content(&heap, map), BTreeMap::from([(1, 11), (2, 20), (3, 32)]));
        assert_eq!(map.len(&heap).unwrap(), 3);
        assert_eq!(map.remove(&heap, &2).unwrap(), Some(20));
        let mut keys: Vec<_> = map.keys(&heap).unwrap().collect();
        let mut values: Vec<_> = map.values(&heap).unwrap().collect();
        keys.sort_unstable();
        values.sort_unstable();
        assert_eq!((keys, values), (vec![1, 3], vec![11, 32]));
        map.clear(&heap).unwrap();
        assert!(map.is_empty(&heap).unwrap() && content(&heap, map).is_empty());
        assert_eq!(map.insert(&heap, 3, 7).unwrap(), None);
    }
}

#[test]
fn a_map_grows_and_gives_everything_back() {
    for policy in POLICIES {
        let heap = heap_of(policy);
        let object = make::<Map>(&heap);
        let map = get(&heap, object);
        for key in 0..20_000 {
            assert_eq!(map.insert(&heap, key, !key).unwrap(), None);
        }
        assert_eq!(map.len(&heap).unwrap(), 20_000);
        assert!(map.capacity(&heap).unwrap() < 3 * 20_000);
        for key in 0..20_000 {
            assert_eq!(map.get(&heap, &key).unwrap(), Some(!key));
        }
        assert_eq!(heap.stats().live_objects, 1 + tables(&heap, map));
        let grown = tables(&heap, map);
        // All that is removed is used again.
        for key in 0..100_000 {
            assert!(map.remove(&heap, &key).unwrap().is_some());
            map.insert(&heap, key + 20_000, !(key + 20_000)).unwrap();
        }
        assert!(tables(&heap, map) <= grown + 4, "{} after {grown}", tables(&heap, map));
        let map = get_mut(&heap, object);
        map.free_old_tables(&heap).unwrap();
        assert_eq!(tables(&heap, map), 16);
        assert_eq!(heap.stats().live_objects, 1 + 16);
        assert_eq!(map.get(&heap, &100_000).unwrap(), Some(!100_000));
        map.free(&heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
        assert!(map.is_empty(&heap).unwrap());
        assert_eq!(map.insert(&heap, 1, 1).unwrap(), None);
        map.free(&heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
    }
}

#[test]
fn old_tables_are_together_as_large_as_those_in_use() {
    let heap = heap_of(Policy::Scalable);
    let map: &Map = get(&heap, make(&heap));
    let before = heap.stats().live_bytes;
    for key in 0..30_000 {
        map.insert(&heap, key, key).unwrap();
    }
    let all = heap.stats().live_bytes - before;
    let object = std::ptr::NonNull::from(map);
    get_mut(&heap, object).free_old_tables(&heap).unwrap();
    let current = heap.stats().live_bytes - before;
    assert!(all <= 2 * current + current / 50, "{all} bytes, {current} of them current");
}

#[test]
fn a_map_that_was_reserved_does_not_grow() {
    let heap = heap_of(Policy::Scalable);
    let map: &Map = get(&heap, make(&heap));
    map.reserve(&heap, 5_000).unwrap();
    assert_eq!(tables(&heap, map), 16);
    for key in 0..5_000 {
        map.insert(&heap, key, key).unwrap();
    }
    assert_eq!(tables(&heap, map), 16);
    map.reserve(&heap, 5_000).unwrap();
    assert_eq!(tables(&heap, map), 16);
    assert!(matches!(map.reserve(&heap, u64::MAX), Err(Error::AtCapacity { .. })));
    assert!(matches!(map.reserve(&heap, 1 << 30), Err(Error::Full { .. })));
}

#[test]
fn keys_of_one_bucket_are_told_apart() {
    let heap = heap_of(Policy::FirstFit);
    let map: &Map = get(&heap, make(&heap));
    let keys = keys(3, 5, 12, 12);
    let mut model = BTreeMap::new();
    for round in 0..4 {
        for (number, &key) in keys.iter().enumerate() {
            if (number + round) % 3 == 0 {
                assert_eq!(map.remove(&heap, &key).unwrap(), model.remove(&key));
            } else {
                let value = key ^ round as u64;
                assert_eq!(map.insert(&heap, key, value).unwrap(), model.insert(key, value));
            }
            assert_eq!(content(&heap, map), model);
        }
    }
}

#[test]
fn a_full_heap_leaves_the_map_as_it_was() {
    for policy in POLICIES {
        let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
        let map: &Map = get(&heap, make(&heap));
        let full =
            (0..).find_map(|key| map.insert(&heap, key, key).err().map(|error| (key, error)));
        let (count, error) = full.unwrap();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert_eq!(content(&heap, map), (0..count).map(|key| (key, key)).collect());
        assert_eq!(map.len(&heap).unwrap(), count);
        assert_eq!(heap.stats().live_objects, 1 + tables(&heap, map));
        assert_eq!(map.remove(&heap, &0).unwrap(), Some(0), "it goes on");
    }
}

#[test]
fn keys_and_values_have_any_size() {
    fn put<K, V>(heap: &crate::Heap, one: K, other: K, value: V)
    where
        K: Shareable + Copy + PartialEq + std::fmt::Debug,
        V: Shareable + Copy + PartialEq + std::fmt::Debug,
    {
        let map: &ShmMap<K, V> = get(heap, make(heap));
        assert_eq!(map.insert(heap, one, value).unwrap(), None);
        assert_eq!(map.get(heap, &one).unwrap(), Some(value));
        assert_eq!(map.get(heap, &other).unwrap().is_some(), one == other);
        assert_eq!(map.remove(heap, &one).unwrap(), Some(value));
    }
    let heap = heap_of(Policy::Scalable);
    put(&heap, (), (), ());
    put(&heap, 1_u8, 2, [7_u8; 3]);
    put(&heap, [1_u8; 13], [2; 13], [1.5_f64; 9]);
    put(&heap, *b"a key that is longer than a line", [0; 32], ());
    put(&heap, 5_u128, 6, 7_u16);
    put(&heap, 1.5_f64, 2.5, crate::Handle::from_raw(64).cast::<u8>());
}

#[test]
fn what_lies_elsewhere_is_refused() {
    let heap = heap_of(Policy::Scalable);
    let here = Box::new(Map::new());
    assert!(matches!(here.get(&heap, &1), Err(Error::InvalidPointer { .. })));
    assert!(matches!(here.insert(&heap, 1, 1), Err(Error::InvalidPointer { .. })));
    assert!(matches!(here.iter(&heap), Err(Error::InvalidPointer { .. })));
}

#[test]
fn a_writer_that_does_not_come_to_an_end_costs_others_their_patience_and_readers_nothing() {
    let heap = heap_of(Policy::Scalable);
    let object = make::<Map>(&heap);
    let map = get(&heap, object);
    let [one, other] = keys(2, 0, 0, 2)[..] else { unreachable!() };
    let elsewhere = keys(3, 0, 0, 1)[0];
    map.insert(&heap, one, 1).unwrap();
    let soon = Duration::from_millis(5);
    let within = |_| {
        let error = map.alter(&heap, &other, soon, |_| Some(2)).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert_eq!(map.get(&heap, &one).unwrap(), Some(1));
        assert_eq!(map.get(&heap, &other).unwrap(), None);
        assert_eq!(map.len(&heap).unwrap(), 1);
        assert_eq!(map.alter(&heap, &elsewhere, soon, |_| None).unwrap(), (None, None));
        Some(7)
    };
    map.alter(&heap, &one, soon, within).unwrap();
    assert_eq!(map.get(&heap, &one).unwrap(), Some(7));
}

#[test]
fn a_change_that_panics_changes_nothing_and_lets_go() {
    let heap = heap_of(Policy::Scalable);
    let map: &Map = get(&heap, make(&heap));
    map.insert(&heap, 1, 1).unwrap();
    let panics = || map.update(&heap, &1, |_| panic!("of the test's own"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    let soon = Duration::from_millis(5);
    assert_eq!(map.alter(&heap, &1, soon, |_| Some(2)).unwrap(), (Some(1), Some(2)));
}

#[test]
fn an_observer_reads_and_changes_nothing() {
    let name = crate::os::testing::NameGuard::new();
    let name = name.at().path().file_name().unwrap();
    let heap = HeapOptions::new(1 << 20).create(name).unwrap();
    let object = make::<Map>(&heap);
    get(&heap, object).insert(&heap, 1, 2).unwrap();
    let observer = crate::Heap::connect_read_only(name).unwrap();
    let seen = observer.resolve(heap.handle(object.cast()).unwrap()).unwrap().cast::<Map>();
    let map = get(&observer, seen);
    assert_eq!(map.get(&observer, &1).unwrap(), Some(2));
    assert_eq!(map.len(&observer).unwrap(), 1);
    assert_eq!(map.iter(&observer).unwrap().count(), 1);
    assert!(matches!(map.insert(&observer, 1, 3), Err(Error::ReadOnly { .. })));
}

#[test]
fn a_table_has_the_buckets_and_entries_that_it_was_made_for() {
    fn confirm<K: Shareable + Copy, V: Shareable + Copy>() {
        let words = Row::new(&[], Futex);
        let table = |words_count| {
            let span = crate::heap::Span { first: WordIndex(0), words: words_count };
            Table::<Row<'_, Futex>, K, V>::new(words, span)
        };
        for bits in 2..27 {
            let buckets = 1 << bits;
            let words_count = Table::<Row<'_, Futex>, K, V>::words_for(buckets).unwrap();
            for more in [0, 1, words_count / 8] {
                let table = table(words_count + more).unwrap();
                assert_eq!(table.buckets, buckets);
                assert!(table.entries > buckets + buckets / 8);
            }
            let entries = table(words_count).unwrap().entries;
            assert!(Table::<Row<'_, Futex>, K, V>::buckets_for(entries).unwrap() <= 2 * buckets);
        }
        for words_count in (0..200).chain([u64::MAX, 1 << 60, u64::MAX / 8]) {
            let _ = table(words_count);
        }
        assert_eq!(Table::<Row<'_, Futex>, K, V>::buckets_for(u64::MAX), None);
        assert_eq!(Table::<Row<'_, Futex>, K, V>::words_for(1 << 40), None);
    }
    confirm::<(), ()>();
    confirm::<u64, u64>();
    confirm::<[u64; 5], [u8; 1001]>();
}

/// FORMAT.md says what the constants say.
#[test]
fn format_document_states_the_words_of_collections() {
    let words: Vec<&str> = include_str!("../../../../../../FORMAT.md").split_whitespace().collect();
    let document = words.join(" ");
    for text in [
        format!("A map is {} words", size_of::<Map>() / 8),
        format!("It has {} *shards*", super::SHARDS),
        format!("| {} + {} s | lock |", super::SHARDS, super::super::WRITER_WORDS),
        format!("at most 2^28 - {}", (1 << 28) - super::super::table::ENTRIES_MAX),
        format!("A vector is {} words", size_of::<crate::ShmVec<u8>>() / 8),
    ] {
        assert!(document.contains(&text), "FORMAT.md lacks {text}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, u64),
    Absent(u64, u64),
    Update(u64),
    ReplaceIf(u64, u64),
    Remove(u64),
    Clear,
    Reserve(u64),
    FreeOld,
}

fn step() -> impl Strategy<Value = Step> {
    // Keys meet often, values sometimes.
    let (key, value) = (0..300_u64, 0..4_u64);
    prop_oneof![
        6 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::Absent(key, value)),
        2 => key.clone().prop_map(Step::Update),
        2 => (key.clone(), value).prop_map(|(key, value)| Step::ReplaceIf(key, value)),
        4 => key.prop_map(Step::Remove),
        1 => Just(Step::Clear),
        1 => (0..500_u64).prop_map(Step::Reserve),
        1 => Just(Step::FreeOld),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_row_of_operations_does_what_a_map_of_the_standard_library_does(
        steps in proptest::collection::vec(step(), 1..400),
        is_first_fit in any::<bool>(),
    ) {
        let heap = heap_of(POLICIES[usize::from(!is_first_fit)]);
        let object = make::<Map>(&heap);
        let map = get(&heap, object);
        let mut model = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    let old = model.insert(key, value);
                    prop_assert_eq!(map.insert(&heap, key, value).unwrap(), old);
                }
                Step::Absent(key, value) => {
                    let old = model.get(&key).copied();
                    model.entry(key).or_insert(value);
                    prop_assert_eq!(map.insert_if_absent(&heap, key, value).unwrap(), old);
                }
                Step::Update(key) => {
                    let new = model.get_mut(&key).map(|value| { *value += 5; *value });
                    prop_assert_eq!(map.update(&heap, &key, |value| value + 5).unwrap(), new);
                }
                Step::ReplaceIf(key, value) => {
                    let is_it = model.get(&key) == Some(&value);
                    if is_it { model.insert(key, 9); }
                    prop_assert_eq!(map.replace_if(&heap, &key, &value, 9).unwrap(), is_it);
                }
                Step::Remove(key) => {
                    prop_assert_eq!(map.remove(&heap, &key).unwrap(), model.remove(&key));
                }
                Step::Clear => { map.clear(&heap).unwrap(); model.clear(); }
                Step::Reserve(count) => map.reserve(&heap, count).unwrap(),
                Step::FreeOld => get_mut(&heap, object).free_old_tables(&heap).unwrap(),
            }
            prop_assert_eq!(map.len(&heap).unwrap(), model.len() as u64);
        }
        prop_assert_eq!(content(&heap, map), model.into_iter().collect::<BTreeMap<_, _>>());
        prop_assert_eq!(heap.stats().live_objects, 1 + tables(&heap, map));
        get_mut(&heap, object).free(&heap).unwrap();
        prop_assert_eq!(heap.stats().live_objects, 1);
    }
}

/// Long rows, which proptest would take long to make.
#[test]
fn many_random_operations_do_what_a_map_of_the_standard_library_does() {
    let mut random = Random(seed());
    for policy in POLICIES {
        let heap = heap_of(policy);
        let map: &Map = get(&heap, make(&heap));
        let mut model = HashMap::new();
        for _ in 0..200_000 {
            let (key, value) = (random.below(3_000), random.next());
            if random.below(5) < 3 {
                assert_eq!(map.insert(&heap, key, value).unwrap(), model.insert(key, value));
            } else {
                assert_eq!(map.remove(&heap, &key).unwrap(), model.remove(&key));
            }
            let key = random.below(3_000);
            assert_eq!(map.get(&heap, &key).unwrap(), model.get(&key).copied());
        }
        assert_eq!(content(&heap, map), model.into_iter().collect());
    }
}
