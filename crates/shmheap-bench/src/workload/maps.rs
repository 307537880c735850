//! Maps: gets of keys that are there and of keys that are not, and a mix of gets and inserts.
//!
//! Every value is checked: its two halves say the same in two ways, so a map that mixes up values,
//! or shows half of one, has no figure.

use std::hint::black_box;

use anyhow::Result;

use super::random::Random;
use super::{Seat, Tally};
use crate::measure::{Stopwatch, repeat_for};
use crate::typed::{Map, Maps, Value};

/// One of so many operations of the mix is an insert.
const INSERT_EVERY: u64 = 10;

/// Fills the map with its share of the entries, then measures. The tally's span is that of gets;
/// the others are those of absent keys, of the mix, and of filling.
pub(crate) fn run<M: Maps>(site: &M, entries: usize, seat: Seat<'_>) -> Result<Tally> {
    let map = site.map()?;
    let entries = seat.effort.entries(entries);
    let stopwatch = Stopwatch::start();
    let own = (seat.number..entries).step_by(seat.workers);
    let own_count = own.len() as u64;
    own.for_each(|at| map.insert(key(at), value(key(at), 0)));
    let filling = stopwatch.stop(own_count.max(1));

    let mut random = Random::of_worker(seat.number);
    seat.all_ready();
    let gets = repeat_for(seat.effort.measured(), || {
        let key = key(Random::below(random.next(), entries));
        check(key, map.get(key));
    });
    seat.meet(3);
    let absent = repeat_for(seat.effort.measured(), || {
        let key = key(entries + Random::below(random.next(), entries));
        assert_eq!(black_box(map.get(key)), None, "a key that nobody has inserted");
    });
    seat.meet(4);
    let mix = repeat_for(seat.effort.measured(), || {
        let bits = random.next();
        let key = key(Random::below(bits, entries));
        if bits.is_multiple_of(INSERT_EVERY) {
            map.insert(key, value(key, bits));
        } else {
            check(key, map.get(key));
        }
    });
    Ok(Tally { others: vec![absent, mix, filling], ..Tally::from(gets) })
}

/// Keys look random, and none comes twice.
#[inline]
fn key(at: usize) -> u64 {
    (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A value of the key: any number, and that with the key.
#[inline]
fn value(key: u64, number: u64) -> Value {
    [number, number ^ key]
}

#[inline]
fn check(key: u64, found: Option<Value>) {
    let [number, with_key] = black_box(found).expect("a key that was inserted");
    assert_eq!(number ^ with_key, key, "a value of another key, or half of one");
}
