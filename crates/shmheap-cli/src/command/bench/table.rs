//! A map of a heap beside a map of a process: each thread inserts, reads and removes its own keys.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use shmheap::{Heap, ShmMap};

use super::rate;

/// Keys of a thread.
const KEYS: u64 = 1024;

pub(super) fn of_heap(heap: &Heap, threads: u16, time: Duration) -> Result<f64> {
    let map = heap.find_or_create::<ShmMap<u64, u64>>("map", |_| {})?;
    let first = AtomicU64::new(0);
    rate(threads, time, |ends| {
        rounds(&first, ends, |key| {
            map.insert(heap, key, key)?;
            map.get(heap, &key)?;
            map.remove(heap, &key)?;
            Ok(())
        })
    })
}

pub(super) fn of_process(threads: u16, time: Duration) -> Result<f64> {
    let map = Mutex::new(HashMap::new());
    let lock = || map.lock().unwrap_or_else(PoisonError::into_inner);
    let first = AtomicU64::new(0);
    rate(threads, time, |ends| {
        rounds(&first, ends, |key| {
            lock().insert(key, key);
            std::hint::black_box(lock().get(&key).copied());
            lock().remove(&key);
            Ok(())
        })
    })
}

/// Counts operations, three to a key, until it ends.
fn rounds(
    first: &AtomicU64,
    ends: &AtomicBool,
    operate: impl Fn(u64) -> Result<()>,
) -> Result<u64> {
    let first = first.fetch_add(KEYS, Ordering::Relaxed);
    let mut count = 0;
    // Looked at for each key: many threads on few processors would be long over a round.
    for key in (first..first + KEYS).cycle().take_while(|_| !ends.load(Ordering::Relaxed)) {
        operate(key)?;
        count += 3;
    }
    Ok(count)
}
