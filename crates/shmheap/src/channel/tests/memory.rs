//! A queue in plain memory: against a model, and with somebody stopped at every place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{DEAD, Peer, id, memory, row, shape, transfer};
use crate::channel::event::{Event, Look};
use crate::channel::queue::{Claim, Sending};
use crate::channel::sequence::{Core, Received};
use crate::channel::shape::Shape;
use crate::channel::words::State;
use crate::heap::Span;
use crate::object::value;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

const ME: Peer = Peer(0);
const OTHER: Peer = Peer(1);

/// Passes so many messages, one after the other.
fn pass(words: &impl Words, shape: Shape, count: u64) {
    let it = transfer(words, &ME, shape);
    for number in 0..count {
        assert_eq!(it.try_send(&number, Look::Quick).unwrap(), Some(()), "{number}");
        assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(number));
    }
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), None);
}

/// Splitmix64, for rows of operations that can be had again.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 7
}

#[test]
fn messages_come_in_order_and_never_more_than_the_capacity() {
    for capacity in [1, 2, 8, 64] {
        let memory = memory(capacity);
        let it = transfer(row(&memory), &ME, shape(capacity));
        let mut model = VecDeque::new();
        let mut seed = capacity;
        for number in 0..20_000_u64 {
            if random(&mut seed).is_multiple_of(3) != (number / 500).is_multiple_of(2) {
                let sent = it.try_send(&number, Look::Quick).unwrap().is_some();
                assert_eq!(sent, (model.len() as u64) < capacity);
                if sent {
                    model.push_back(number);
                }
            } else {
                assert_eq!(it.try_receive(Look::Quick).unwrap(), model.pop_front());
            }
            assert_eq!(it.queue.len(), model.len() as u64);
            assert_eq!(it.queue.has_items(), !model.is_empty());
            assert_eq!(it.queue.has_room(), (model.len() as u64) < capacity);
        }
    }
}

#[test]
fn counters_that_lag_are_helped_on() {
    for capacity in [1, 2, 8] {
        let memory = memory(capacity);
        let (words, shape) = (row(&memory), shape(capacity));
        let it = transfer(words, &ME, shape);
        for number in 0..5 * capacity {
            it.try_send(&number, Look::Quick).unwrap().unwrap();
            // As if its sender had been stopped before it said so.
            words.store(shape.tail(), number);
            assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(number));
            words.store(shape.head(), number);
            assert_eq!(it.queue.len(), 0);
        }
        assert_eq!(it.try_receive(Look::Quick).unwrap(), None);
        pass(&words, shape, 100);
    }
}

#[test]
fn who_is_stopped_in_a_call_blocks_nobody() {
    for capacity in [1, 2, 8] {
        let memory = memory(capacity);
        let (words, shape) = (row(&memory), shape(capacity));
        let stopped = transfer(words, &OTHER, shape);
        // With a cell in hand; with a mark for the turn that comes next.
        stopped.queue.reserve(id(1)).unwrap();
        let marked = stopped.queue.reserve(id(1)).unwrap();
        words.store(marked.at, State::Queued(0).word());
        pass(&words, shape, 10_000);
        // With a message claimed, its slot and the head as before.
        let it = transfer(words, &ME, shape);
        it.try_send(&1, Look::Quick).unwrap().unwrap();
        let (slot, head) = (shape.slot(10_000), words.load(shape.head()));
        let filled = words.load(slot);
        let Claim::Message(claimed) = stopped.queue.claim(id(1)).unwrap() else { panic!() };
        words.store(slot, filled);
        words.store(shape.head(), head);
        assert_eq!(it.try_receive(Look::Thorough).unwrap(), None, "its receiver lives");
        pass(&words, shape, 10_000);
        assert_eq!(value::load::<u64>(&words, claimed.value()), 1, "and has it still");
        assert!(stopped.queue.done(claimed));
        // The sender goes on, and finds that the turn is over.
        value::store(&words, marked.value(), &7_u64);
        assert_eq!(stopped.queue.commit(marked).unwrap(), Sending::Sent);
        assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(7));
    }
}

#[test]
fn a_sender_makes_the_room_that_a_stopped_receiver_did_not_come_to_make() {
    for looks_before in [false, true] {
        let memory = memory(1);
        let (words, shape) = (row(&memory), shape(1));
        let it = transfer(words, &ME, shape);
        it.try_send(&1, Look::Quick).unwrap().unwrap();
        let (filled, head) = (words.load(shape.slot(0)), words.load(shape.head()));
        let Claim::Message(_) = it.queue.claim(id(1)).unwrap() else { panic!() };
        words.store(shape.slot(0), filled);
        words.store(shape.head(), head);
        assert!(!looks_before || it.queue.has_room());
        assert_eq!(it.try_send(&2, Look::Quick).unwrap(), Some(()));
        assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(2));
    }
}

#[test]
fn what_the_dead_had_claimed_is_received_once() {
    let memory = memory(4);
    let (words, shape) = (row(&memory), shape(4));
    let it = transfer(words, &ME, shape);
    for number in 0..3 {
        it.try_send(&number, Look::Quick).unwrap().unwrap();
    }
    let Claim::Message(claimed) = it.queue.claim(id(DEAD)).unwrap() else { panic!() };
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), Some(1));
    assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(2));
    assert_eq!(it.try_receive(Look::Quick).unwrap(), None);
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), Some(0));
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), None);
    assert!(!it.queue.done(claimed), "who was taken for dead does not have it as well");
    // What was put back is anybody's.
    it.try_send(&3, Look::Quick).unwrap().unwrap();
    let Claim::Message(claimed) = it.queue.claim(id(1)).unwrap() else { panic!() };
    it.queue.put_back(claimed);
    assert_eq!(it.receive(it.patience(Some(Duration::ZERO))).unwrap(), Some(3));
    pass(&words, shape, 100);
}

#[test]
fn what_the_dead_had_marked_is_sent_or_its_cell_becomes_free() {
    let memory = memory(2);
    let (words, shape) = (row(&memory), shape(2));
    let it = transfer(words, &ME, shape);
    let mark = |turn| {
        let cell = it.queue.reserve(id(DEAD)).unwrap();
        value::store(&words, cell.value(), &(100 + turn));
        words.store(cell.at, State::Queued(turn).word());
        cell
    };
    // Of several that died with a mark for one turn, one is sent.
    let marked = [mark(0), mark(0), mark(0)];
    assert_eq!(it.try_receive(Look::Quick).unwrap(), None);
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), Some(100));
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), None);
    assert!(marked.iter().all(|cell| words.load(cell.at) == 0), "their cells are free");
    // Whoever lives keeps its mark, whatever the turn.
    let living = it.queue.reserve(id(1)).unwrap();
    for turn in [0, 1, 2] {
        words.store(living.at, State::Queued(turn).word());
        assert_eq!(it.try_receive(Look::Thorough).unwrap(), None);
        assert_eq!(words.load(living.at), State::Queued(turn).word());
    }
    it.queue.abandon(living);
    // A message that waits is not taken for a mark, though its sender has died.
    let cell = it.queue.reserve(id(DEAD)).unwrap();
    value::store(&words, cell.value(), &5_u64);
    assert_eq!(it.queue.commit(cell).unwrap(), Sending::Sent);
    let held: Vec<_> = std::iter::from_fn(|| it.queue.reserve(id(1))).collect();
    assert!(it.try_reserve(Look::Thorough).unwrap().is_none(), "there was nothing to find");
    held.into_iter().for_each(|cell| it.queue.abandon(cell));
    assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(5));
    pass(&words, shape, 100);
}

#[test]
fn a_sender_without_a_free_cell_takes_those_of_the_dead() {
    let memory = memory(2);
    let (words, shape) = (row(&memory), shape(2));
    let it = transfer(words, &ME, shape);
    let mut dead = vec![];
    while let Some(cell) = it.queue.reserve(id(DEAD)) {
        dead.push(cell);
    }
    assert_eq!(dead.len() as u64, shape.cells);
    // One of them had claimed a message: that is left for a receiver.
    words.store(dead[0].at, State::Receiving(Some(id(DEAD))).word());
    value::store(&words, dead[0].value(), &9_u64);
    assert_eq!(it.try_send(&1, Look::Quick).unwrap(), None);
    assert_eq!(it.try_send(&1, Look::Thorough).unwrap(), Some(()));
    assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(1));
    assert_eq!(it.try_receive(Look::Thorough).unwrap(), Some(9));
    pass(&words, shape, 100);
    // Those of the living stay theirs.
    while it.queue.reserve(id(1)).is_some() {}
    assert_eq!(it.try_send(&1, Look::Thorough).unwrap(), None);
}

#[test]
fn a_closed_queue_gives_what_it_holds_and_takes_nothing() {
    let memory = memory(2);
    let (words, shape) = (row(&memory), shape(2));
    let it = transfer(words, &ME, shape);
    it.try_send(&1, Look::Quick).unwrap().unwrap();
    it.try_send(&2, Look::Quick).unwrap().unwrap();
    let Claim::Message(_) = it.queue.claim(id(DEAD)).unwrap() else { panic!() };
    // Somebody on the way when it is closed.
    let late = it.queue.reserve(id(1)).unwrap();
    it.close();
    let is_closed = |result: Result<Option<u64>>| matches!(result, Err(Error::Closed { .. }));
    assert!(matches!(it.try_send(&3, Look::Quick), Err(Error::Closed { .. })));
    assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(2));
    assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(1), "what the dead had is not forgotten");
    assert!(is_closed(it.try_receive(Look::Quick)));
    assert_eq!(it.queue.commit(late).unwrap(), Sending::Closed, "never sent to nobody");
    assert!(is_closed(it.receive(it.patience(None))));
}

#[test]
fn somebody_on_the_way_when_it_is_closed_may_still_be_received() {
    let memory = memory(2);
    let it = transfer(row(&memory), &ME, shape(2));
    let late = it.queue.reserve(id(1)).unwrap();
    value::store(&row(&memory), late.value(), &4_u64);
    it.close();
    assert_eq!(it.queue.commit(late).unwrap(), Sending::Sent);
    assert_eq!(it.try_receive(Look::Quick).unwrap(), Some(4));
    assert!(it.try_receive(Look::Quick).is_err());
}

#[test]
fn without_sleepers_nothing_is_woken_and_a_mark_is_taken_once() {
    let memory = memory(1);
    let (words, event) = (row(&memory), Event(shape(1).items()));
    event.notify(&words);
    assert_eq!(words.load(event.0), 0);
    let announced = event.announce(&words);
    assert_eq!(event.announce(&words), announced);
    event.notify(&words);
    assert_eq!(words.load(event.0), announced + 1);
    // Not asleep: somebody was woken since.
    assert!(!event.sleep(&words, announced, Duration::from_secs(600)));
    event.pass_on(&words, || true);
    assert_eq!(words.load(event.0), announced + 3);
    event.pass_on(&words, || false);
    assert_eq!(words.load(event.0), announced + 4, "others may sleep");
}

#[test]
fn threads_pass_every_message_once_and_sleep_meanwhile() {
    const COUNT: u64 = 20_000;
    for capacity in [1, 4, 64] {
        let memory = memory(capacity);
        let shape = shape(capacity);
        let received = std::thread::scope(|scope| {
            let receivers = [10_u16, 11].map(|slot| {
                let memory = &memory;
                scope.spawn(move || {
                    let peer = Peer(slot);
                    let it = transfer(row(memory), &peer, shape);
                    let mut all: Vec<u64> = vec![];
                    while let Ok(Some(number)) = it.receive(it.patience(None)) {
                        all.push(number);
                    }
                    all
                })
            });
            std::thread::scope(|scope| {
                for slot in [1_u16, 2] {
                    let memory = &memory;
                    scope.spawn(move || {
                        let peer = Peer(slot);
                        let it = transfer(row(memory), &peer, shape);
                        for number in 0..COUNT {
                            let value = u64::from(slot) << 32 | number;
                            it.send(&value, it.patience(None)).unwrap().unwrap();
                        }
                    });
                }
            });
            transfer(row(&memory), &ME, shape).close();
            receivers.map(|receiver| receiver.join().unwrap())
        });
        for all in &received {
            for slot in [1, 2] {
                let of_slot: Vec<_> = all.iter().filter(|&&it| it >> 32 == slot).collect();
                assert!(of_slot.is_sorted(), "in the order in which they were sent");
            }
        }
        let mut all = received.concat();
        all.sort_unstable();
        let expected =
            [1, 2].into_iter().flat_map(|slot| (0..COUNT).map(move |it| slot << 32 | it));
        assert!(all.into_iter().eq(expected), "each once");
    }
}

#[test]
fn whatever_stands_in_a_queue_no_call_hangs_or_panics() {
    let mut seed = 5;
    for capacity in [1, 4] {
        let memory = memory(capacity);
        let (words, shape) = (row(&memory), shape(capacity));
        let it = transfer(words, &ME, shape);
        for number in 0..100_000_u64 {
            let at = (random(&mut seed) % memory.len() as u64) as usize;
            let word = match random(&mut seed) % 8 {
                0 => random(&mut seed),
                1 => random(&mut seed) % 64,
                2 => u64::MAX - random(&mut seed) % 4,
                3 => memory[at].load(Ordering::SeqCst) ^ 1 << (random(&mut seed) % 64),
                4 => State::Queued(random(&mut seed) % 16).word(),
                5 => State::Receiving(Some(id(DEAD))).word(),
                6 => ((random(&mut seed) % 16) << 24) | (random(&mut seed) % 40),
                _ => 0,
            };
            memory[at].store(word, Ordering::SeqCst);
            let patience = it.patience(Some(Duration::ZERO));
            match random(&mut seed) % 4 {
                0 | 1 => drop(it.try_send(&number, Look::Thorough)),
                2 => drop(it.try_receive(Look::Thorough)),
                _ => drop(it.receive(patience)),
            }
            let _ = (it.queue.len(), it.queue.has_items(), it.queue.has_room());
        }
    }
}

#[test]
fn readers_of_a_broadcast_see_every_value_or_how_many_they_missed() {
    let length = Core::layout_words(4, 2).unwrap();
    let memory: Vec<AtomicU64> = (0..length).map(|_| AtomicU64::new(0)).collect();
    let words = row(&memory);
    let span = Span { first: WordIndex(0), words: length };
    let core = Core::new(span, 4, 2).unwrap();
    assert!(Core::new(Span { words: length - 1, ..span }, 4, 2).is_none());
    assert!(Core::new(span, 3, 2).is_none() && Core::new(span, 1, 2).is_none());
    assert_eq!(core.latest::<[u64; 2]>(&words), None);
    let me = core.claim(&words, &ME).unwrap();
    assert!(core.claim(&words, &OTHER).is_err() && core.claim(&words, &ME).is_err());
    let mut seed = 3;
    let (mut position, mut count) = (0, 0);
    for _ in 0..20_000 {
        if random(&mut seed).is_multiple_of(3) {
            let before = position;
            match core.next::<[u64; 2]>(&words, &mut position) {
                Some(Received::Value(value)) => {
                    assert_eq!(value, [before, !before]);
                    assert!(count - before <= 4 && position == before + 1);
                }
                Some(Received::Lagged { missed }) => {
                    assert_eq!((position, missed), (count - 3, count - 3 - before));
                    assert!(count - before > 4);
                }
                None => assert_eq!(before, count),
            }
        } else {
            core.write(&words, &[count, !count]);
            count += 1;
            assert_eq!(core.latest(&words), Some([count - 1, !(count - 1)]));
        }
    }
    // Stopped as it writes: only the next value is not there yet.
    words.store(core.slot(count), 2 * count + 1);
    assert_eq!(core.latest(&words), Some([count - 1, !(count - 1)]));
    let mut position = core.oldest(&words);
    for number in count - 3..count {
        let received = core.next(&words, &mut position);
        assert_eq!(received, Some(Received::Value([number, !number])));
    }
    assert_eq!(core.next::<[u64; 2]>(&words, &mut position), None);
    let mut behind = count - 4;
    let lagged = core.next::<[u64; 2]>(&words, &mut behind);
    assert_eq!(lagged, Some(Received::Lagged { missed: 1 }));
    core.release(&words, me);
    assert!(core.claim(&words, &OTHER).is_ok());
    // A dead one's place is free.
    words.store(core.writer(), id(DEAD).word());
    assert!(core.claim(&words, &ME).is_ok());
}

#[test]
fn whatever_stands_in_a_broadcast_no_call_hangs_or_panics() {
    let length = Core::layout_words(2, 1).unwrap();
    let memory: Vec<AtomicU64> = (0..length).map(|_| AtomicU64::new(0)).collect();
    let core = Core::new(Span { first: WordIndex(0), words: length }, 2, 1).unwrap();
    let (words, mut seed, mut position) = (row(&memory), 9, 0);
    for number in 0..100_000_u64 {
        let at = (random(&mut seed) % length) as usize;
        let word = random(&mut seed) >> (random(&mut seed) % 64);
        memory[at].store(if number % 3 == 0 { !word } else { word }, Ordering::SeqCst);
        match random(&mut seed) % 4 {
            0 => core.write(&words, &number),
            1 => drop(core.claim(&words, &ME)),
            2 => drop(core.latest::<u64>(&words)),
            _ => {
                let before = position;
                if core.next::<u64>(&words, &mut position).is_some() {
                    assert_ne!(position, before);
                }
            }
        }
    }
}
