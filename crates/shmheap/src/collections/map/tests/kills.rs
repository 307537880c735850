//! Killed at every store: the map has the old content or the new one, the next writer of the shard
//! finds it in order, and no object is lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::time::Duration;

use super::{Map, content, keys, tables};
use crate::Heap;
use crate::collections::testing::{get, get_mut, make};
use crate::object::killed::at_every_store;
use crate::os::testing::in_own_process;

/// The shard that all happens in.
const SHARD: u64 = 6;

type Content = BTreeMap<u64, u64>;

/// Kills `operate` at every store in a map that has `before` entries of one shard, all in few
/// buckets. What is left must be one of the states that `may_be` accepts, told the content before;
/// and again once the next operation has set things right.
fn kill(
    before: usize,
    operate: impl Fn(&Heap, &Map, &[u64]),
    may_be: impl Fn(&Content, &Content, &[u64]) -> bool,
) -> usize {
    let keys = keys(SHARD, 1, 2, before + 4);
    let start: Content = keys[..before].iter().map(|&key| (key, key + 100)).collect();
    let one_of_each_shard: Vec<_> = (0..16).map(|shard| super::keys(shard, 0, 0, 1)[0]).collect();
    let many = super::keys(SHARD, 0, 0, MANY);
    let seen = RefCell::new(std::collections::BTreeSet::new());
    let prepare = |heap: &Heap| {
        let object = make::<Map>(heap);
        for (&key, &value) in &start {
            get(heap, object).insert(heap, key, value).unwrap();
        }
        object
    };
    let judge = |heap: &Heap, object: &NonNull<Map>| {
        let map = get(heap, *object);
        let left = content(heap, map);
        assert!(may_be(&start, &left, &keys), "{left:?} is left of {start:?}");
        assert_eq!(
            map.len(heap).unwrap(),
            left.len() as u64,
            "counted though nobody has recovered"
        );
        for (key, value) in &left {
            assert_eq!(map.get(heap, key).unwrap(), Some(*value));
        }
        // The next writer: an operation that takes a free entry and one that gives it back.
        let probe = keys[before + 3];
        let soon = Duration::from_secs(5);
        map.alter(heap, &probe, soon, |_| Some(1)).unwrap();
        assert_eq!(map.remove(heap, &probe).unwrap(), Some(1));
        for &key in &one_of_each_shard {
            map.alter(heap, &key, soon, |old| old).unwrap();
        }
        assert_eq!(content(heap, map), left, "nothing else has changed");
        assert_eq!(map.len(heap).unwrap(), left.len() as u64);
        assert_eq!(heap.stats().live_objects, 1 + tables(heap, map), "lost objects");
        // All entries can be had: none was lost.
        let shard = super::shard(heap, map, SHARD);
        let (capacity, tables_before) = (shard.capacity().unwrap(), tables(heap, map));
        let more = many.iter().filter(|key| !left.contains_key(key));
        for &key in more.take((capacity as usize).saturating_sub(left.len())) {
            map.insert(heap, key, 1).unwrap();
        }
        assert_eq!(shard.len().unwrap(), capacity);
        assert_eq!(tables(heap, map), tables_before, "an entry was lost: it has grown");
        get_mut(heap, *object).free(heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
        seen.borrow_mut().insert(left);
    };
    let stores =
        at_every_store(prepare, |heap, object| operate(heap, get(heap, *object), &keys), judge);
    println!("{stores} stores, {} outcomes", seen.borrow().len());
    seen.borrow().len()
}

/// The content before, with some keys that are given values or none.
fn with(start: &Content, changes: &[(u64, Option<u64>)]) -> Content {
    let mut content = start.clone();
    for &(key, value) in changes {
        match value {
            Some(value) => drop(content.insert(key, value)),
            None => drop(content.remove(&key)),
        }
    }
    content
}

macro_rules! killed {
    ($name:ident, $outcomes:expr, $before:expr, $operate:expr, $change:expr) => {
        #[test]
        fn $name() {
            in_own_process(module_path!(), stringify!($name), || {
                let change = $change;
                let outcomes = kill($before, $operate, |start, left, keys: &[u64]| {
                    left == start || *left == with(start, &change(keys))
                });
                assert_eq!(outcomes, $outcomes, "old and new");
            });
        }
    };
}

killed!(
    a_first_insertion_is_done_or_not,
    2,
    0,
    |heap: &Heap, map: &Map, keys: &[u64]| drop(map.insert(heap, keys[0], 5)),
    |keys: &[u64]| [(keys[0], Some(5))]
);

killed!(
    an_insertion_is_done_or_not,
    2,
    3,
    |heap: &Heap, map: &Map, keys: &[u64]| drop(map.insert(heap, keys[3], 5)),
    |keys: &[u64]| [(keys[3], Some(5))]
);

killed!(
    a_new_value_of_the_last_in_the_bucket_is_there_or_not,
    2,
    4,
    |heap: &Heap, map: &Map, keys: &[u64]| drop(map.insert(heap, keys[0], 5)),
    |keys: &[u64]| [(keys[0], Some(5))]
);

killed!(
    a_new_value_of_the_first_in_the_bucket_is_there_or_not,
    2,
    4,
    |heap: &Heap, map: &Map, keys: &[u64]| drop(map.update(heap, &keys[3], |value| value + 1)),
    |keys: &[u64]| [(keys[3], Some(keys[3] + 101))]
);

killed!(
    a_removal_of_the_last_in_the_bucket_is_done_or_not,
    2,
    4,
    |heap: &Heap, map: &Map, keys: &[u64]| drop(map.remove(heap, &keys[0])),
    |keys: &[u64]| [(keys[0], None)]
);

killed!(
    a_removal_of_the_first_in_the_bucket_is_done_or_not,
    2,
    4,
    |heap: &Heap, map: &Map, keys: &[u64]| drop(map.remove(heap, &keys[3])),
    |keys: &[u64]| [(keys[3], None)]
);

/// Enough to fill any table that a test makes.
const MANY: usize = 400;

#[test]
fn a_growth_is_done_or_not() {
    in_own_process(module_path!(), "a_growth_is_done_or_not", || {
        let reserve = |heap: &Heap, map: &Map, _: &[u64]| map.reserve(heap, 300).unwrap();
        assert_eq!(kill(5, reserve, |start, left, _| left == start), 1);
    });
}

#[test]
fn insertions_that_let_the_table_grow_are_done_in_order() {
    in_own_process(module_path!(), "insertions_that_let_the_table_grow_are_done_in_order", || {
        let more = keys(SHARD, 2, 2, 50);
        let insert = |heap: &Heap, map: &Map, _: &[u64]| {
            let before = map.capacity(heap).unwrap();
            // Twice, so that the second growth finds an old table.
            for &key in more.iter().take_while(|_| map.capacity(heap).unwrap() < 3 * before) {
                map.insert(heap, key, 7).unwrap();
            }
        };
        let outcomes = kill(4, insert, |start, left, _| {
            let added: Vec<_> = more.iter().map(|&key| (key, Some(7))).collect();
            *left == with(start, &added[..left.len() - start.len()])
        });
        assert!(outcomes > 10, "{outcomes}");
    });
}

#[test]
fn clearing_removes_some() {
    in_own_process(module_path!(), "clearing_removes_some", || {
        let clear = |heap: &Heap, map: &Map, _: &[u64]| map.clear(heap).unwrap();
        let outcomes = kill(6, clear, |start, left, _| {
            left.iter().all(|(key, value)| start.get(key) == Some(value))
        });
        assert!(outcomes > 1);
    });
}

/// Makes a chain of tables and frees it.
#[test]
fn freeing_old_tables_loses_none_of_them() {
    in_own_process(module_path!(), "freeing_old_tables_loses_none_of_them", || {
        let added = keys(SHARD, 2, 2, 30);
        let free = |heap: &Heap, map: &Map, _: &[u64]| {
            for &key in &added {
                map.insert(heap, key, 7).unwrap();
            }
            get_mut(heap, NonNull::from(map)).free_old_tables(heap).unwrap();
        };
        let outcomes = kill(1, free, |start, left, _| {
            let added: Vec<_> = added.iter().map(|&key| (key, Some(7))).collect();
            *left == with(start, &added[..left.len() - start.len()])
        });
        assert_eq!(outcomes, 31);
    });
}

#[test]
fn freeing_leaves_shards_whole_or_empty() {
    in_own_process(module_path!(), "freeing_leaves_shards_whole_or_empty", || {
        let free = |heap: &Heap, map: &Map, _: &[u64]| {
            get_mut(heap, NonNull::from(map)).free(heap).unwrap();
        };
        let outcomes = kill(4, free, |start, left, _| left == start || left.is_empty());
        assert_eq!(outcomes, 2);
    });
}
