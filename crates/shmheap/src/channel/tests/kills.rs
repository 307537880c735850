//! A process killed at every store of an operation, in a heap of either policy. The next one finds
//! every message that was sent and not received, each once, and a channel that works.

use std::alloc::Layout;
use std::cell::Cell;
use std::time::Duration;

use crate::channel::queue::Claim;
use crate::channel::words::State;
use crate::channel::{Broadcast, Channel, ObjectChannel, Received, ShmChannel, ShmObjectChannel};
use crate::heap::Span;
use crate::object::killed::at_every_store;
use crate::os::testing::in_own_process;
use crate::peers::PeerId;
use crate::segment::words::Words;
use crate::units::PeerSlot;
use crate::{Error, Handle, Heap, Unpublished};

type Pair = [u64; 2];

/// A channel, and words in which the process that is killed says how far it came.
struct Prepared<C> {
    channel: Handle<C>,
    progress: Span,
}

fn pair(number: u64) -> Pair {
    [number, !number]
}

fn progress(heap: &Heap) -> Span {
    let object = heap.alloc_zeroed(Layout::new::<[u64; 8]>()).unwrap();
    heap.span(heap.handle(object).unwrap()).unwrap()
}

/// Nobody that has ever lived in these heaps.
fn dead() -> PeerId {
    PeerId::new(PeerSlot(500), 9)
}

/// A channel of two that holds so many messages, after some turns.
fn channel_with(heap: &Heap, count: u64) -> Prepared<ShmChannel<Pair>> {
    let (handle, channel) = Channel::create(heap, 2).unwrap();
    for number in 100..103 {
        channel.send(pair(number)).unwrap();
        channel.recv().unwrap();
    }
    for number in 0..count {
        channel.send(pair(number)).unwrap();
    }
    Prepared { channel: handle, progress: progress(heap) }
}

fn report(heap: &Heap, progress: Span, number: u64) {
    let at = progress.word(number);
    heap.gate().store(at, heap.gate().load(at) + 1);
}

fn reported(heap: &Heap, progress: Span, number: u64) -> u64 {
    heap.gate().load(progress.word(number))
}

/// Everything that is in the channel; afterwards it works.
fn drain(heap: &Heap, handle: Handle<ShmChannel<Pair>>) -> Vec<u64> {
    let channel = Channel::of(heap, handle).unwrap();
    let mut all = vec![];
    loop {
        match channel.recv_timeout(Duration::ZERO) {
            Ok([number, check]) => {
                assert_eq!(check, !number, "a message is whole");
                all.push(number);
            }
            Err(Error::TimedOut { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for round in 0..50 {
        assert_eq!(channel.try_send_batch(&[pair(round), pair(round + 1), pair(9)]).unwrap(), 2);
        assert_eq!(channel.try_recv().unwrap(), Some(pair(round)));
        assert_eq!(channel.try_recv().unwrap(), Some(pair(round + 1)));
    }
    assert_eq!(heap.stats().live_objects, 2, "the channel, and where progress is reported");
    all
}

#[test]
fn a_value_is_sent_or_not() {
    in_own_process(module_path!(), "a_value_is_sent_or_not", || {
        let outcomes = Cell::new([0, 0]);
        at_every_store(
            |heap| channel_with(heap, 1),
            |heap, prepared| {
                Channel::of(heap, prepared.channel).unwrap().try_send(pair(1)).unwrap();
                report(heap, prepared.progress, 0);
            },
            |heap, prepared| {
                let all = drain(heap, prepared.channel);
                let is_sent = all == [0, 1];
                assert!(is_sent || all == [0], "{all:?}");
                assert!(is_sent || reported(heap, prepared.progress, 0) == 0);
                count(&outcomes, usize::from(is_sent));
            },
        );
        assert!(outcomes.get().iter().all(|&count| count > 2), "{outcomes:?}");
    });
}

fn count<const N: usize>(outcomes: &Cell<[u32; N]>, outcome: usize) {
    let mut counts = outcomes.get();
    counts[outcome] += 1;
    outcomes.set(counts);
}

#[test]
fn a_value_is_received_or_comes_to_another() {
    in_own_process(module_path!(), "a_value_is_received_or_comes_to_another", || {
        let outcomes = Cell::new([0, 0]);
        at_every_store(
            |heap| channel_with(heap, 2),
            |heap, prepared| {
                let channel = Channel::of(heap, prepared.channel).unwrap();
                assert_eq!(channel.try_recv().unwrap(), Some(pair(0)));
                report(heap, prepared.progress, 0);
            },
            |heap, prepared| {
                let mut all = drain(heap, prepared.channel);
                all.sort_unstable();
                let is_received = all == [1];
                assert!(is_received || all == [0, 1], "{all:?}");
                assert!(is_received || reported(heap, prepared.progress, 0) == 0);
                count(&outcomes, usize::from(is_received));
            },
        );
        assert!(outcomes.get().iter().all(|&count| count > 2), "{outcomes:?}");
    });
}

/// Batches through a full ring and around its end; what is reported is a part of what was done.
#[test]
fn batches_lose_nothing_and_double_nothing() {
    in_own_process(module_path!(), "batches_lose_nothing_and_double_nothing", || {
        at_every_store(
            |heap| channel_with(heap, 0),
            |heap, prepared| {
                let channel = Channel::of(heap, prepared.channel).unwrap();
                for round in 0..3 {
                    let pairs = [0, 1].map(|number| pair(2 * round + number));
                    assert_eq!(channel.send_batch(&pairs).unwrap(), 2);
                    report(heap, prepared.progress, 0);
                    let mut into = vec![];
                    assert_eq!(channel.recv_batch(&mut into, 5).unwrap(), 2);
                    assert_eq!(into, pairs);
                    report(heap, prepared.progress, 1);
                }
            },
            |heap, prepared| {
                let mut all = drain(heap, prepared.channel);
                all.sort_unstable();
                let [sent, received] = [0, 1].map(|it| 2 * reported(heap, prepared.progress, it));
                // Of the round that the kill hit, some of the first are sent or received.
                let expected: Vec<_> = (received..sent).collect();
                let is_part = all.iter().all(|number| (received..sent + 2).contains(number));
                assert!(is_part && all.is_sorted_by(|a, b| a < b), "{all:?}");
                assert!(all.len() <= 2 && (all.is_empty() || expected.len() <= 2), "{all:?}");
            },
        );
    });
}

#[test]
fn who_dies_as_it_takes_over_from_the_dead_loses_nothing() {
    in_own_process(module_path!(), "who_dies_as_it_takes_over_from_the_dead_loses_nothing", || {
        let outcomes = Cell::new([0, 0]);
        at_every_store(
            |heap| {
                let prepared = channel_with(heap, 2);
                let channel = Channel::of(heap, prepared.channel).unwrap();
                let queue = channel.port.queue();
                let Claim::Message(_) = queue.claim(dead()).unwrap() else { panic!() };
                // And what a dead sender leaves: a cell, and one that is marked for the next turn,
                // and one for a turn that is over.
                queue.reserve(dead()).unwrap();
                for turn in [5, 4] {
                    let cell = queue.reserve(dead()).unwrap();
                    crate::object::value::store(&heap.gate(), cell.value(), &pair(50 + turn));
                    heap.gate().store(cell.at, State::Queued(turn).word());
                }
                prepared
            },
            |heap, prepared| {
                let channel = Channel::of(heap, prepared.channel).unwrap();
                assert_eq!(channel.recv_timeout(Duration::ZERO).unwrap(), pair(1));
                report(heap, prepared.progress, 0);
                assert_eq!(channel.recv_timeout(Duration::ZERO).unwrap(), pair(0));
                report(heap, prepared.progress, 0);
            },
            |heap, prepared| {
                let mut all = drain(heap, prepared.channel);
                all.retain(|&number| number != 55);
                all.sort_unstable();
                let reported = reported(heap, prepared.progress, 0) as usize;
                let received = 2 - all.len();
                assert!(all == [0, 1] || all == [0] || all.is_empty(), "{all:?}");
                assert!(received == reported || received == reported + 1, "{all:?} {reported}");
                count(&outcomes, usize::from(received == 2));
            },
        );
        assert!(outcomes.get().iter().all(|&count| count > 2), "{outcomes:?}");
    });
}

fn object(heap: &Heap, number: u64) -> Unpublished<'_> {
    let object = heap.alloc_unpublished(Layout::new::<[u64; 4]>()).unwrap();
    let span = heap.span(object.handle()).unwrap();
    heap.gate().store(span.word(0), number);
    object
}

fn number_of(heap: &Heap, object: &Unpublished<'_>) -> u64 {
    heap.gate().load(heap.span(object.handle()).unwrap().word(0))
}

fn objects_with(heap: &Heap, count: u64) -> Prepared<ShmObjectChannel> {
    let (handle, channel) = ObjectChannel::create(heap, 2).unwrap();
    for number in 0..count {
        channel.send(object(heap, number)).unwrap();
    }
    Prepared { channel: handle, progress: progress(heap) }
}

/// The objects in the channel; afterwards it works, and nothing lives but it.
fn drain_objects(heap: &Heap, handle: Handle<ShmObjectChannel>) -> Vec<u64> {
    let channel = ObjectChannel::of(heap, handle).unwrap();
    let mut all = vec![];
    loop {
        match channel.recv_timeout(Duration::ZERO) {
            Ok(object) => all.push(number_of(heap, &object)),
            Err(Error::TimedOut { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(heap.stats().live_objects, 2, "with what was received, all is gone");
    for round in 0..50 {
        channel.try_send(object(heap, round)).unwrap();
        channel.try_send(object(heap, round)).unwrap();
        let refused = channel.try_send(object(heap, round)).unwrap_err();
        assert!(matches!(refused.error, Error::AtCapacity { .. }) && refused.object.is_some());
        drop(refused);
        assert_eq!(number_of(heap, &channel.recv().unwrap()), round);
        assert_eq!(channel.drain().unwrap(), 1);
    }
    assert_eq!(heap.stats().live_objects, 2);
    all
}

#[test]
fn an_object_is_sent_or_freed() {
    in_own_process(module_path!(), "an_object_is_sent_or_freed", || {
        let outcomes = Cell::new([0, 0]);
        at_every_store(
            |heap| objects_with(heap, 1),
            |heap, prepared| {
                let channel = ObjectChannel::of(heap, prepared.channel).unwrap();
                channel.try_send(object(heap, 1)).unwrap();
                report(heap, prepared.progress, 0);
            },
            |heap, prepared| {
                let all = drain_objects(heap, prepared.channel);
                let is_sent = all == [0, 1];
                assert!(is_sent || all == [0], "{all:?}");
                assert!(is_sent || reported(heap, prepared.progress, 0) == 0);
                count(&outcomes, usize::from(is_sent));
            },
        );
        assert!(outcomes.get().iter().all(|&count| count > 2), "{outcomes:?}");
    });
}

#[test]
fn an_object_is_received_once_and_dies_with_its_receiver() {
    in_own_process(module_path!(), "an_object_is_received_once_and_dies_with_its_receiver", || {
        let outcomes = Cell::new([0, 0]);
        at_every_store(
            |heap| objects_with(heap, 2),
            |heap, prepared| {
                let channel = ObjectChannel::of(heap, prepared.channel).unwrap();
                let object = channel.try_recv().unwrap().unwrap();
                assert_eq!(number_of(heap, &object), 0);
                report(heap, prepared.progress, 0);
                // Dies with the process.
                std::mem::forget(object);
            },
            |heap, prepared| {
                let mut all = drain_objects(heap, prepared.channel);
                all.sort_unstable();
                let is_received = all == [1];
                assert!(is_received || all == [0, 1], "{all:?}");
                assert!(is_received || reported(heap, prepared.progress, 0) == 0);
                count(&outcomes, usize::from(is_received));
            },
        );
        assert!(outcomes.get().iter().all(|&count| count > 2), "{outcomes:?}");
    });
}

#[test]
fn a_value_is_broadcast_or_not_and_another_writes_on() {
    in_own_process(module_path!(), "a_value_is_broadcast_or_not_and_another_writes_on", || {
        let outcomes = Cell::new([0, 0]);
        at_every_store(
            |heap| {
                let (channel, broadcast) = Broadcast::create(heap, 2).unwrap();
                let mut publisher = broadcast.publisher().unwrap();
                for number in 0..3 {
                    publisher.send(pair(number)).unwrap();
                }
                Prepared { channel, progress: progress(heap) }
            },
            |heap, prepared| {
                let broadcast = Broadcast::of(heap, prepared.channel).unwrap();
                let mut publisher = broadcast.publisher().unwrap();
                publisher.send(pair(3)).unwrap();
                report(heap, prepared.progress, 0);
            },
            |heap, prepared| {
                let broadcast = Broadcast::of(heap, prepared.channel).unwrap();
                let found = broadcast.latest().unwrap();
                let is_written = found == pair(3);
                assert!(is_written || found == pair(2), "{found:?}");
                assert!(is_written || reported(heap, prepared.progress, 0) == 0);
                count(&outcomes, usize::from(is_written));
                let mut subscriber = broadcast.subscribe_from_oldest();
                // In the middle, its slot's old value is gone and the new one is not there yet.
                let first = std::iter::from_fn(|| subscriber.try_recv()).last();
                assert!(matches!(first, Some(Received::Value(last)) if last == found), "{first:?}");
                let mut publisher = broadcast.publisher().unwrap();
                assert!(matches!(broadcast.publisher(), Err(Error::AtCapacity { .. })));
                for number in 10..20 {
                    publisher.send(pair(number)).unwrap();
                    let received = subscriber.recv_timeout(Duration::from_secs(10));
                    assert_eq!(received, Some(Received::Value(pair(number))), "none is skipped");
                    assert_eq!(broadcast.latest(), Some(pair(number)));
                }
            },
        );
        assert!(outcomes.get().iter().all(|&count| count > 2), "{outcomes:?}");
    });
}
