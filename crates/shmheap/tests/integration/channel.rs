//! Goal: messages between processes are received once each, whoever is killed, and nobody waits for
//! a process that is stopped; whatever is written over a channel, a healthy process gets an error.
//!
//! Method: a *conductor*, a program of its own, forks senders and receivers. Each message is a
//! ticket; a sender marks it as sent after the call, a receiver as received. The conductor kills
//! one after the other with SIGKILL at random moments and starts another in its place. In the end
//! every ticket must have been received once, if it was sent, but for one for each receiver that
//! was killed: with that one it was received, and not marked yet. Others are stopped at random
//! moments, while messages are passed by them; and a *victim* uses channels that another process
//! overwrites.
//!
//! `SHMHEAP_KILLS=n`, `SHMHEAP_STOPS=n` and `SHMHEAP_MUTATIONS=n` set how much of each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shmheap::{
    Broadcast, Channel, Error, Handle, Heap, ObjectChannel, Policy, Received, ShmBroadcast,
    ShmChannel, ShmObjectChannel,
};

use crate::support::process::{Fork, PATIENCE, Role, Worker, wait_until};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_whole, bytes, channels, first_fit, heap_of, scalable};

const KILLS: u64 = 200;
const STOPS: u64 = 40;
const MUTATIONS: u64 = 20_000;
const SENDERS: usize = 2;
const WORKERS: usize = 4;
const CAPACITY: u64 = 8;
const BATCH: u64 = 5;
const TICKETS: usize = 1 << 20;
/// Messages that pass by somebody who is stopped.
const PASSED: u64 = 10_000;
/// A victim runs for so many turns of an empty loop at the most.
const SPIN_MAX: u64 = 1 << 18;
const LEN_BYTES: u64 = 48 << 20;
const STILL_ALIVE: &str = "still alive";

const SENT: u64 = 1;
const RECEIVED: u64 = 1 << 8;

/// Tickets that were given out, messages that were received, and what became of each ticket.
#[derive(Clone, Copy)]
struct Board<'h>(&'h [AtomicU64]);

impl Board<'_> {
    const WORDS: usize = 2 + TICKETS;

    /// Senders stay when there is none any more.
    fn next_ticket(self) -> u64 {
        let ticket = self.0[0].fetch_add(1, Ordering::SeqCst);
        if ticket >= TICKETS as u64 {
            loop {
                std::thread::park();
            }
        }
        ticket
    }

    fn received(self) -> u64 {
        self.0[1].load(Ordering::SeqCst)
    }

    fn mark_sent(self, ticket: u64) {
        self.0[2 + ticket as usize].fetch_add(SENT, Ordering::SeqCst);
    }

    fn mark_received(self, [ticket, check]: [u64; 2]) {
        assert_eq!(check, !ticket, "a message is whole");
        self.0[2 + ticket as usize].fetch_add(RECEIVED, Ordering::SeqCst);
        self.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

fn message(ticket: u64) -> [u64; 2] {
    [ticket, !ticket]
}

/// What messages go through.
trait Post: Copy {
    fn send(self, board: Board<'_>, random: &mut Random);
    /// Receives a message if there is one, with all means.
    fn receive(self, random: &mut Random) -> Option<[u64; 2]>;
    /// What there is, also what the dead have left.
    fn receive_at_last(self) -> Option<[u64; 2]>;
}

#[derive(Clone, Copy)]
struct OfValues<'h>(&'h Channel<'h, [u64; 2]>);

impl Post for OfValues<'_> {
    fn send(self, board: Board<'_>, random: &mut Random) {
        let count = if random.one_in(3) { random.below(BATCH) + 1 } else { 1 };
        let tickets: Vec<_> = (0..count).map(|_| board.next_ticket()).collect();
        let messages: Vec<_> = tickets.iter().map(|&ticket| message(ticket)).collect();
        assert_eq!(self.0.send_batch(&messages).unwrap(), messages.len());
        tickets.into_iter().for_each(|ticket| board.mark_sent(ticket));
    }

    fn receive(self, random: &mut Random) -> Option<[u64; 2]> {
        match random.below(4) {
            0 => self.0.try_recv().unwrap(),
            1 => self.0.recv().ok(),
            _ => timely(self.0.recv_timeout(Duration::from_millis(random.below(3)))),
        }
    }

    fn receive_at_last(self) -> Option<[u64; 2]> {
        timely(self.0.recv_timeout(Duration::ZERO))
    }
}

#[derive(Clone, Copy)]
struct OfObjects<'h>(&'h ObjectChannel<'h>, &'h Heap);

impl Post for OfObjects<'_> {
    fn send(self, board: Board<'_>, _random: &mut Random) {
        let ticket = board.next_ticket();
        let object = self.1.alloc_unpublished(bytes::layout(16, 8)).unwrap();
        bytes::write_words(object.as_ptr(), message(ticket));
        self.0.send(object).unwrap();
        board.mark_sent(ticket);
    }

    fn receive(self, random: &mut Random) -> Option<[u64; 2]> {
        let received = match random.below(4) {
            0 => self.0.try_recv().unwrap(),
            1 => self.0.recv().ok(),
            _ => timely(self.0.recv_timeout(Duration::from_millis(random.below(3)))),
        };
        received.map(|object| bytes::read_words(self.1, object.as_ptr()))
    }

    fn receive_at_last(self) -> Option<[u64; 2]> {
        let received = timely(self.0.recv_timeout(Duration::ZERO));
        received.map(|object| bytes::read_words(self.1, object.as_ptr()))
    }
}

#[track_caller]
fn timely<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(Error::TimedOut { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_kill_loses_or_doubles_a_value() {
    run_storm(&["values", "first fit"]);
}

#[test]
fn no_kill_loses_or_doubles_an_object_under_first_fit() {
    run_storm(&["objects", "first fit"]);
}

#[test]
fn no_kill_loses_or_doubles_an_object_among_slabs() {
    run_storm(&["objects", "scalable"]);
}

fn run_storm(what: &[&str]) {
    let (seed, kills) = (seed().to_string(), setting("SHMHEAP_KILLS", KILLS).to_string());
    let arguments = [&[seed.as_str(), kills.as_str()], what].concat();
    let mut conductor = Worker::start("channel::conductor", &arguments);
    let outcome = loop {
        let line = conductor.hear();
        if line != STILL_ALIVE {
            break line;
        }
    };
    println!("{outcome}");
    conductor.finish();
}

#[test]
fn conductor() {
    let Some(mut role) = Role::of("channel::conductor") else { return };
    let options = match role.argument(3) {
        "scalable" => scalable(LEN_BYTES),
        _ => first_fit(LEN_BYTES),
    };
    let heap = options.create(HeapName::new()).unwrap();
    let (_, words) = bytes::alloc_words(&heap, Board::WORDS);
    if role.argument(2) == "values" {
        let (_, channel) = Channel::create(&heap, CAPACITY).unwrap();
        storm(&heap, Board(words), OfValues(&channel), &mut role);
    } else {
        let (_, channel) = ObjectChannel::create(&heap, CAPACITY).unwrap();
        storm(&heap, Board(words), OfObjects(&channel, &heap), &mut role);
    }
}

fn storm(heap: &Heap, board: Board<'_>, post: impl Post, role: &mut Role) {
    let mut random = Random::new(role.number(0));
    let start = |number: usize, seed| {
        Fork::start(|| {
            let mut random = Random::new(seed);
            loop {
                if number < SENDERS {
                    post.send(board, &mut random);
                } else if let Some(message) = post.receive(&mut random) {
                    board.mark_received(message);
                }
            }
        })
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|number| start(number, random.next())).collect();
    let mut receivers_killed = (WORKERS - SENDERS) as u64;
    for kill in 0..role.number(1) {
        for _ in 0..random.log_uniform(SPIN_MAX) {
            std::hint::spin_loop();
        }
        let victim = random.below(WORKERS as u64) as usize;
        let before = board.received();
        workers[victim].kill();
        // The survivors go on, if there is something to pass on.
        if board.0[0].load(Ordering::SeqCst) < TICKETS as u64 {
            wait_until("messages pass", || board.received() > before);
        }
        receivers_killed += u64::from(victim >= SENDERS);
        workers[victim] = start(victim, random.next());
        if kill.is_multiple_of(50) {
            role.say(STILL_ALIVE);
        }
    }
    drop(workers);
    heap.sweep().unwrap();
    while let Some(message) = post.receive_at_last() {
        board.mark_received(message);
    }
    let tickets = (board.0[0].load(Ordering::SeqCst) as usize).min(TICKETS);
    let (mut lost, mut unsent) = (0, 0);
    for (ticket, word) in board.0[2..2 + tickets].iter().enumerate() {
        let word = word.load(Ordering::SeqCst);
        assert!(word / RECEIVED <= 1, "ticket {ticket} was received {} times", word / RECEIVED);
        match (word & SENT, word / RECEIVED) {
            (SENT, 0) => lost += 1,
            (_, 0) => unsent += 1,
            _ => {}
        }
    }
    assert!(lost <= receivers_killed, "{lost} lost, {receivers_killed} receivers killed");
    let live = assert_whole(heap).live_objects - 2;
    // Among slabs an object that is dropped is an ordinary one for a moment.
    let may_live = if heap.info().policy == Policy::Scalable { receivers_killed } else { 0 };
    assert!(live <= may_live, "{live} objects live that are nowhere");
    role.say(&format!(
        "{tickets} tickets, {receivers_killed} receivers killed: {lost} died with them, {unsent} \
         were not sent, {live} objects leaked"
    ));
}

#[test]
fn nobody_waits_for_a_stopped_sender_or_receiver() {
    let path = "channel::nobody_waits_for_a_stopped_sender_or_receiver";
    let Some(mut role) = Role::of(path) else {
        let stops = setting("SHMHEAP_STOPS", STOPS).to_string();
        let mut worker = Worker::start(path, &[&seed().to_string(), &stops]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let mut random = Random::new(role.number(0));
    let heap = scalable(4 << 20).create(HeapName::new()).unwrap();
    let (_, values) = Channel::<u64>::create(&heap, 4).unwrap();
    let (_, objects) = ObjectChannel::create(&heap, 4).unwrap();
    let peer = Fork::start(|| {
        loop {
            let _ = values.try_send(7);
            let _ = values.try_recv().unwrap();
            let object = heap.alloc_unpublished(bytes::layout(16, 8)).unwrap();
            let _ = objects.try_send(object);
            let _ = objects.try_recv().unwrap();
        }
    });
    let mut times = vec![];
    for _ in 0..role.number(1) {
        for _ in 0..random.log_uniform(SPIN_MAX) {
            std::hint::spin_loop();
        }
        peer.stop();
        let start = Instant::now();
        // Room for one message, whatever the peer has left.
        let _ = (values.try_recv().unwrap(), objects.try_recv().unwrap());
        for number in 0..PASSED {
            values.send_timeout(number, PATIENCE).unwrap();
            values.recv_timeout(PATIENCE).unwrap();
            let object = heap.alloc_unpublished(bytes::layout(16, 8)).unwrap();
            objects.send_timeout(object, PATIENCE).unwrap();
            drop(objects.recv_timeout(PATIENCE).unwrap());
        }
        times.push(start.elapsed());
        peer.send(Signal::CONT);
    }
    times.sort();
    let (stops, most) = (times.len(), times[times.len() - 1]);
    role.say(&format!(
        "{stops} stops, {PASSED} values and objects: median {:?}, most {most:?}",
        times[stops / 2]
    ));
}

#[test]
fn a_sleeper_in_another_process_is_woken_and_told_of_the_end() {
    let path = "channel::a_sleeper_in_another_process_is_woken_and_told_of_the_end";
    let Some(mut role) = Role::of(path) else {
        let mut worker = Worker::start(path, &[]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let heap = scalable(4 << 20).create(HeapName::new()).unwrap();
    let (_, there) = Channel::<u64>::create(&heap, 4).unwrap();
    let (_, back) = Channel::<u64>::create(&heap, 4).unwrap();
    let peer = Fork::start(|| {
        while let Ok(number) = there.recv() {
            back.send(number + 1).unwrap();
        }
        back.close().unwrap();
    });
    const ROUNDS: u32 = 2000;
    let start = Instant::now();
    for number in 0..u64::from(ROUNDS) {
        there.send(number).unwrap();
        assert_eq!(back.recv().unwrap(), number + 1);
    }
    let round = start.elapsed() / ROUNDS;
    there.close().unwrap();
    assert!(matches!(back.recv(), Err(Error::Closed { .. })));
    peer.finish();
    role.say(&format!("{round:?} there and back"));
}

#[test]
fn a_writer_that_is_killed_or_stopped_leaves_what_it_had_written() {
    let path = "channel::a_writer_that_is_killed_or_stopped_leaves_what_it_had_written";
    let Some(role) = Role::of(path) else {
        return Worker::start(path, &[&seed().to_string()]).finish();
    };
    let mut random = Random::new(role.number(0));
    let heap = scalable(4 << 20).create(HeapName::new()).unwrap();
    let (_, broadcast) = Broadcast::<[u64; 4]>::create(&heap, 4).unwrap();
    let mut subscriber = broadcast.subscribe();
    let mut last = 0;
    for round in 0..100 {
        let mut writer = Fork::start(|| {
            let mut publisher = broadcast.publisher().unwrap();
            for number in last + 1.. {
                publisher.send([number; 4]).unwrap();
            }
        });
        wait_until("values come", || broadcast.latest().is_some_and(|[it, ..]| it > last + 10));
        for _ in 0..random.log_uniform(SPIN_MAX) {
            match subscriber.try_recv() {
                Some(Received::Value(value)) => assert_eq!(value, [value[0]; 4], "a mixture"),
                Some(Received::Lagged { missed }) => assert!(missed > 0),
                None => {}
            }
        }
        if round % 2 == 0 {
            writer.stop();
            assert!(matches!(broadcast.publisher(), Err(Error::AtCapacity { .. })));
            let value = broadcast.latest().unwrap();
            assert_eq!(value, [value[0]; 4], "a mixture");
        }
        writer.kill();
        last = broadcast.latest().unwrap()[0];
        while subscriber.try_recv().is_some() {}
        assert!(subscriber.recv_timeout(Duration::ZERO).is_none());
    }
}

#[test]
fn overwritten_channels_give_errors_only() {
    let mut random = Random::new(seed());
    let mutations = setting("SHMHEAP_MUTATIONS", MUTATIONS);
    let (name, heartbeat) = (HeapName::new(), HeapName::new());
    let heap = heap_of(Policy::Scalable, 4 << 20).create(&name).unwrap();
    let beats = first_fit(4096).create(&heartbeat).unwrap();
    let (beat, row) = bytes::alloc_words(&beats, 2);
    let values = Channel::<u64>::create(&heap, 2).unwrap().0;
    let objects = ObjectChannel::create(&heap, 2).unwrap().0;
    let broadcast = Broadcast::<u64>::create(&heap, 2).unwrap().0;
    let raws = [values.to_raw(), objects.to_raw(), broadcast.to_raw()];
    let targets = raws.map(|raw| {
        let object = heap.resolve(Handle::from_raw(raw)).unwrap();
        bytes::words(&heap, Handle::from_raw(raw), heap.usable_size(object).unwrap() / 8)
    });
    let images = targets
        .map(|words| words.iter().map(|word| word.load(Ordering::SeqCst)).collect::<Vec<_>>());
    let mut arguments = vec![name.as_str().to_owned(), heartbeat.as_str().to_owned()];
    arguments.push(beat.to_raw().to_string());
    arguments.extend(raws.map(|raw| raw.to_string()));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut victim = Worker::start("channel::victim", &arguments);
    let mut next_beat = || {
        let (goal, start) = (row[0].load(Ordering::SeqCst) + 1, Instant::now());
        while row[0].load(Ordering::SeqCst) < goal {
            assert!(victim.ended().is_none(), "the victim ended: its words stand above");
            assert!(start.elapsed() < PATIENCE, "the victim hangs");
            std::thread::yield_now();
        }
    };
    // It has opened them by then.
    next_beat();
    for mutation in 0..mutations {
        let target = random.below(3) as usize;
        let words = targets[target];
        if random.one_in(64) {
            for (word, &image) in words.iter().zip(&images[target]) {
                word.store(image, Ordering::SeqCst);
            }
        }
        // The first words are met most often.
        let at = random.log_uniform(words.len() as u64 - 1) as usize;
        let word = match random.below(4) {
            0 => random.next(),
            1 => random.below(70),
            2 => words[at].load(Ordering::SeqCst) ^ 1 << random.below(64),
            _ => random.below(8) << 16 | random.below(4) | random.below(3) << 32,
        };
        words[at].store(word, Ordering::SeqCst);
        if mutation % 16 == 0 {
            next_beat();
        }
    }
    row[1].store(1, Ordering::SeqCst);
    victim.finish();
}

#[test]
fn victim() {
    let Some(role) = Role::of("channel::victim") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let beats = Heap::connect(role.argument(1)).unwrap();
    let row = bytes::words(&beats, Handle::from_raw(role.number(2)), 2);
    let handle = |number| Handle::from_raw(role.number(number));
    let values: Handle<ShmChannel<u64>> = handle(3).cast();
    let objects: Handle<ShmObjectChannel> = handle(4).cast();
    let broadcast: Handle<ShmBroadcast<u64>> = handle(5).cast();
    let open = (
        channels::values(&heap, values).unwrap(),
        channels::objects(&heap, objects).unwrap(),
        channels::broadcast(&heap, broadcast).unwrap(),
    );
    let moment = Duration::from_micros(50);
    while row[1].load(Ordering::SeqCst) == 0 {
        let again = (
            channels::values(&heap, values),
            channels::objects(&heap, objects),
            channels::broadcast(&heap, broadcast),
        );
        for channel in [Some(&open.0), again.0.as_ref().ok()].into_iter().flatten() {
            let _ = (channel.try_send(1), channel.send_timeout(2, moment), channel.len());
            let _ =
                (channel.try_recv(), channel.recv_timeout(moment), channel.recv_timeout(moment));
        }
        for channel in [Some(&open.1), again.1.as_ref().ok()].into_iter().flatten() {
            let object = heap.alloc_unpublished(bytes::layout(16, 8)).unwrap();
            let _ = channel.send_timeout(object, moment);
            let _ = (channel.try_recv(), channel.recv_timeout(moment), channel.len());
        }
        for broadcast in [Some(&open.2), again.2.as_ref().ok()].into_iter().flatten() {
            let mut subscriber = broadcast.subscribe_from_oldest();
            let _ = broadcast.publisher().map(|mut publisher| publisher.send(1));
            let _ = (subscriber.try_recv(), subscriber.recv_timeout(moment), broadcast.latest());
        }
        row[0].fetch_add(1, Ordering::SeqCst);
    }
}
