//! Goal: a map goes on whatever becomes of its users. Killed at any instruction, one leaves each
//! key with its old value or its new one; stopped, it holds up neither readers nor, but for a
//! sixteenth of the keys, writers.
//!
//! Method: a *conductor* forks writers, each with keys of its own, which says in words of the heap
//! what it is about to do and what it has done; and readers, which look whether values are whole.
//! The conductor kills writers at random moments, compares each key of the dead with those words,
//! and starts successors. In the end the map is freed, and no object may be left.
//!
//! `SHMHEAP_KILLS=n` and `SHMHEAP_STOPS=n` set the numbers of kills and stops.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmheap::{Error, Handle, Heap, HeapOptions, Policy, ShmMap};

use crate::support::process::{Fork, Role, Worker, wait_until};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, POLICIES, assert_empty, bytes, heap_of};

/// A number, and the same in disguise, so that a torn value shows.
type Map = ShmMap<u64, [u64; 3]>;

const WRITERS: u64 = 3;
const READERS: u64 = 2;
/// Keys of each writer.
const KEYS: u64 = 600;
const KILLS: u64 = 400;
const STOPS: u64 = 200;
const SPIN_MAX: u64 = 1 << 18;
/// Nobody is stopped, so nobody waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_micros(200);

fn value(key: u64, number: u64) -> [u64; 3] {
    [number, number ^ key, !number]
}

/// The number of a value; 0 for none.
#[track_caller]
fn number(key: u64, found: Option<[u64; 3]>) -> u64 {
    let Some(found) = found else { return 0 };
    assert_eq!(found, value(key, found[0]), "a torn value");
    found[0]
}

/// What a writer says: what it is about to do, and what it has done for each of its keys.
#[derive(Clone, Copy)]
struct Words<'h>(&'h [AtomicU64]);

impl<'h> Words<'h> {
    const COUNT: usize = 3 + KEYS as usize;

    /// Its changes so far.
    fn changes(self) -> &'h AtomicU64 {
        &self.0[0]
    }

    /// The key + 1 that it is changing, and the number that it is to have; 0 is none.
    fn intent(self) -> [&'h AtomicU64; 2] {
        [&self.0[1], &self.0[2]]
    }

    /// The number that a key has.
    fn done(self, index: u64) -> &'h AtomicU64 {
        &self.0[3 + index as usize]
    }
}

fn write(heap: &Heap, map: &Map, words: Words<'_>, writer: u64, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let index = random.below(KEYS);
        let key = writer * KEYS + index;
        let new = if random.one_in(3) { 0 } else { random.next() | 1 };
        words.intent()[1].store(new, Ordering::SeqCst);
        words.intent()[0].store(index + 1, Ordering::SeqCst);
        let old = map.alter(heap, &key, PATIENCE, |_| (new != 0).then(|| value(key, new)));
        assert_eq!(number(key, old.unwrap().0), words.done(index).load(Ordering::SeqCst));
        words.done(index).store(new, Ordering::SeqCst);
        words.intent()[0].store(0, Ordering::SeqCst);
        words.changes().fetch_add(1, Ordering::SeqCst);
    }
}

fn read(heap: &Heap, map: &Map, reads: &AtomicU64, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let key = random.below(WRITERS * KEYS);
        number(key, map.get(heap, &key).unwrap());
        if random.one_in(5_000) {
            for (key, found) in map.iter(heap).unwrap() {
                number(key, Some(found));
            }
        }
        reads.fetch_add(1, Ordering::SeqCst);
    }
}

/// Everybody at work in one heap.
struct Scene<'h> {
    heap: &'h Heap,
    map: &'h Map,
    words: Vec<Words<'h>>,
    reads: &'h AtomicU64,
    objects: Vec<Handle>,
    map_handle: Handle,
    writers: Vec<Fork>,
    readers: Vec<Fork>,
    random: Random,
}

impl<'h> Scene<'h> {
    fn start(heap: &'h Heap, seed: u64) -> Self {
        let (map_handle, map) = bytes::alloc_object::<Map>(heap);
        let rows: Vec<_> = (0..WRITERS).map(|_| bytes::alloc_words(heap, Words::COUNT)).collect();
        let (reads_handle, reads) = bytes::alloc_words(heap, 1);
        let mut scene = Self {
            heap,
            map,
            words: rows.iter().map(|row| Words(row.1)).collect(),
            reads: &reads[0],
            objects: rows.iter().map(|row| row.0).chain([reads_handle, map_handle]).collect(),
            map_handle,
            writers: vec![],
            readers: vec![],
            random: Random::new(seed),
        };
        scene.writers = (0..WRITERS).map(|writer| scene.start_writer(writer)).collect();
        for _ in 0..READERS {
            let (reads, seed) = (scene.reads, scene.random.next());
            scene.readers.push(Fork::start(|| read(heap, map, reads, seed)));
        }
        scene
    }

    fn start_writer(&mut self, writer: u64) -> Fork {
        let (heap, map, words) = (self.heap, self.map, self.words[writer as usize]);
        let seed = self.random.next();
        Fork::start(|| write(heap, map, words, writer, seed))
    }

    fn run_for_a_while(&mut self) {
        for _ in 0..self.random.log_uniform(SPIN_MAX) {
            std::hint::spin_loop();
        }
    }

    /// Compares each key of a writer that is dead with what it said; whether it was in the middle
    /// of a change, and whether that is done.
    fn settle(&self, writer: u64) -> (bool, bool) {
        let words = self.words[writer as usize];
        let [under_way, new] = words.intent().map(|word| word.load(Ordering::SeqCst));
        let mut is_done = false;
        for index in 0..KEYS {
            let key = writer * KEYS + index;
            let found = number(key, self.map.get(self.heap, &key).unwrap());
            let done = words.done(index).load(Ordering::SeqCst);
            if index + 1 == under_way && found == new {
                is_done = found != done;
                words.done(index).store(new, Ordering::SeqCst);
            } else {
                assert_eq!(found, done, "key {key}");
            }
        }
        words.intent()[0].store(0, Ordering::SeqCst);
        (under_way != 0, is_done)
    }

    /// Ends everybody; nothing may be left of the map.
    fn end(mut self) {
        self.writers.iter_mut().chain(&mut self.readers).for_each(Fork::kill);
        self.heap.sweep().unwrap();
        let mut live = 0;
        for writer in 0..WRITERS {
            self.settle(writer);
            let words = self.words[writer as usize];
            live += (0..KEYS).filter(|&i| words.done(i).load(Ordering::SeqCst) != 0).count();
        }
        assert_eq!(self.map.len(self.heap).unwrap(), live as u64);
        assert_eq!(self.map.iter(self.heap).unwrap().count(), live);
        let map = bytes::exclusive::<Map>(self.heap, self.map_handle);
        map.free_old_tables(self.heap).unwrap();
        assert_eq!(map.iter(self.heap).unwrap().count(), live);
        map.free(self.heap).unwrap();
        for object in self.objects {
            bytes::free_handle(self.heap, object).unwrap();
        }
        assert_empty(self.heap);
    }
}

#[test]
fn killed_writers_leave_every_key_as_before_or_as_after() {
    let path = "collections::killed_writers_leave_every_key_as_before_or_as_after";
    let Some(mut role) = Role::of(path) else {
        let kills = setting("SHMHEAP_KILLS", KILLS).to_string();
        let mut worker = Worker::start(path, &[&seed().to_string(), &kills]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let (mut in_the_middle, mut done) = (0, 0);
    for (policy, part) in POLICIES.into_iter().zip(1..) {
        let heap = heap_of(policy, 16 << 20).create(HeapName::new()).unwrap();
        let mut scene = Scene::start(&heap, role.number(0) ^ part);
        for _ in 0..role.number(1) / 2 {
            let victim = scene.random.below(WRITERS);
            let before = scene.words[victim as usize].changes().load(Ordering::SeqCst);
            let changes =
                |scene: &Scene<'_>| scene.words[victim as usize].changes().load(Ordering::SeqCst);
            wait_until("the victim is at work", || changes(&scene) > before);
            scene.run_for_a_while();
            scene.writers[victim as usize].kill();
            let (was_inside, is_done) = scene.settle(victim);
            in_the_middle += u64::from(was_inside);
            done += u64::from(is_done);
            // The others get on at once.
            let at = |scene: &Scene<'_>| -> Vec<u64> {
                let changes = scene.words.iter().map(|words| words.changes());
                changes.chain([scene.reads]).map(|word| word.load(Ordering::SeqCst)).collect()
            };
            let start = at(&scene);
            let gets_on = |scene: &Scene<'_>| {
                let now = at(scene);
                (0..now.len()).all(|who| who == victim as usize || now[who] > start[who])
            };
            wait_until("the others get on", || gets_on(&scene));
            scene.writers[victim as usize] = scene.start_writer(victim);
        }
        scene.end();
    }
    role.say(&format!("{in_the_middle} killed in the middle of a change, {done} behind its store"));
}

#[test]
fn nobody_reads_behind_a_stopped_writer_and_few_write() {
    let path = "collections::nobody_reads_behind_a_stopped_writer_and_few_write";
    let Some(mut role) = Role::of(path) else {
        let stops = setting("SHMHEAP_STOPS", STOPS).to_string();
        let mut worker = Worker::start(path, &[&seed().to_string(), &stops]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let heap = heap_of(Policy::Scalable, 16 << 20).create(HeapName::new()).unwrap();
    let mut scene = Scene::start(&heap, role.number(0));
    let (mut held, mut longest) = (0, Duration::ZERO);
    for _ in 0..role.number(1) {
        scene.run_for_a_while();
        // The only writer that is left, so that nobody else holds a lock.
        for other in 1..WRITERS as usize {
            if scene.writers.len() > other {
                scene.writers.truncate(1);
            }
        }
        scene.writers[0].stop();
        let start = Instant::now();
        for key in 0..WRITERS * KEYS {
            number(key, scene.map.get(&heap, &key).unwrap());
        }
        for (key, found) in scene.map.iter(&heap).unwrap() {
            number(key, Some(found));
        }
        longest = longest.max(start.elapsed());
        // Keys that nobody has, so that nothing changes.
        let attempt = |key: u64| scene.map.alter(&heap, &(key + (1 << 40)), SOON, |_| None);
        let outcomes: Vec<_> = (0..160).map(attempt).collect();
        let timed_out = outcomes.iter().filter(|outcome| match outcome {
            Ok(_) => false,
            Err(Error::TimedOut { .. }) => true,
            Err(error) => panic!("{error}"),
        });
        let timed_out = timed_out.count();
        assert!(timed_out < 40, "{timed_out} of 160, more than those of one shard");
        held += u64::from(timed_out > 0);
        scene.writers[0].send(rustix::process::Signal::CONT);
    }
    for writer in 1..WRITERS {
        scene.settle(writer);
        let successor = scene.start_writer(writer);
        scene.writers.push(successor);
    }
    scene.end();
    role.say(&format!("{held} stopped with a lock; all keys read in {longest:?} at most"));
}

#[test]
fn threads_of_a_process_share_a_map() {
    const THREADS: u64 = 4;
    const TURNS: u64 = 20_000;
    const COUNTERS: u64 = 50;
    for policy in POLICIES {
        let heap = HeapOptions::new(16 << 20).policy(policy).create_memfd().unwrap();
        let (_, map) = bytes::alloc_object::<ShmMap<u64, u64>>(&heap);
        let heap = &heap;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        let counter = (turn * 7 + thread) % COUNTERS;
                        let count = |old: Option<u64>| Some(old.unwrap_or(0) + 1);
                        map.alter(heap, &counter, PATIENCE, count).unwrap();
                        // Others of its own, which come and go and let tables grow.
                        let own = 1000 + turn * THREADS + thread;
                        assert_eq!(map.insert_if_absent(heap, own, own).unwrap(), None);
                        if turn % 3 > 0 {
                            assert_eq!(map.remove(heap, &own).unwrap(), Some(own));
                        }
                    }
                });
            }
            scope.spawn(move || {
                let mut last = [0; COUNTERS as usize];
                while last.iter().sum::<u64>() < THREADS * TURNS {
                    for (counter, last) in (0..).zip(&mut last) {
                        let now = map.get(heap, &counter).unwrap().unwrap_or(0);
                        assert!(now >= *last, "a counter goes back");
                        *last = now;
                    }
                }
            });
        });
        assert_eq!(map.len(heap).unwrap(), COUNTERS + THREADS * TURNS.div_ceil(3));
    }
}
