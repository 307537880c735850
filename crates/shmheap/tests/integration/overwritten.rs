//! Goal: whatever is written over a heap's records while processes use it, a healthy process gets
//! an error: no signal, no panic, no endless loop.
//!
//! Method: a *victim*, a program of its own, goes through all operations over and over in a heap
//! whose file another process overwrites; a victim that dies, panics or stops counting its rounds
//! is a failure. The lock's word is overwritten as well, but only with the number of a peer that
//! does not exist: a heap held by a living peer is waited for, as it should be.
//!
//! `SHMHEAP_MUTATIONS=n` sets how many words are overwritten under each policy.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmheap::{Handle, Heap, Policy};

use crate::support::process::{Role, Worker};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, POLICIES, bytes, first_fit, heap_of};

const LEN_BYTES: u64 = 64 << 10;
const MUTATIONS: u64 = 60_000;
/// Where FORMAT.md puts the words that these tests overwrite on purpose.
const LOCK_AT: u64 = 192;
const THREADS_AT: u64 = 4096 + 1024 * 128;
const POLICY_AT: u64 = THREADS_AT + 4096 * 128;
const HEAD_BYTES: u64 = 4096;

fn read_word(file: &File, at: u64) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    u64::from_le_bytes(word)
}

fn write_word(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

#[test]
fn a_search_index_that_hides_free_blocks_is_damage_and_no_endless_loop() {
    let name = HeapName::new();
    let heap = first_fit(LEN_BYTES).max_len(4 * LEN_BYTES).create(&name).unwrap();
    bytes::alloc(&heap, 100).unwrap();
    drop(heap);
    let file = File::options().read(true).write(true).open(name.path()).unwrap();
    let records = Heap::connect_read_only(&name).unwrap().info().data_offset_bytes;
    // The maxima, behind 256 regions and the two summaries of them, promise nothing then.
    for at in (POLICY_AT + HEAD_BYTES + 256 * 16 + 2 * 64..records).step_by(8) {
        write_word(&file, at, 0);
    }
    survives(&name, 1, &file, &mut Random::new(1));
}

#[test]
fn an_object_that_is_said_to_be_longer_than_the_heap_is_damage() {
    let name = HeapName::new();
    let maker = heap_of(Policy::Scalable, 16 * LEN_BYTES).create(&name).unwrap();
    let file = File::options().read(true).write(true).open(name.path()).unwrap();
    // A large object, and behind it, up to the heap's end, a slab.
    let [large, small] = [15, 1].map(|units| bytes::alloc(&maker, units * LEN_BYTES).unwrap());
    assert_eq!(bytes::displaced(large, 15 * LEN_BYTES as isize), small);
    let units = [17, 100, 1 << 20, u64::from(u32::MAX)].map(|units| (0, units));
    let classes = (100..107).map(|class| (15, class));
    // What a thread has in hand it knows without the records, so another connection looks at them.
    let heap = Heap::connect(&name).unwrap();
    for (unit, operand) in units.into_iter().chain(classes) {
        let object = bytes::displaced(heap.base(), (unit * LEN_BYTES) as isize);
        let at = POLICY_AT + 8 * unit;
        let word = read_word(&file, at);
        write_word(&file, at, word >> 32 << 32 | operand);
        assert!(heap.usable_size(object).is_err(), "{operand}");
        // Copies nothing from behind the heap, and looks for no units there.
        assert!(bytes::realloc(&heap, object, 100, 1).is_err(), "{operand}");
        assert!(bytes::realloc(&heap, object, 16 * LEN_BYTES, 1).is_err(), "{operand}");
        assert!(bytes::free(&heap, object).is_err());
        let _ = (heap.check(), heap.trim(), heap.stats());
        write_word(&file, at, word);
    }
}

#[test]
fn a_slab_that_is_said_to_reach_behind_the_heap_is_not_allocated_from() {
    let name = HeapName::new();
    let maker = heap_of(Policy::Scalable, 16 * LEN_BYTES).create(&name).unwrap();
    let file = File::options().read(true).write(true).open(name.path()).unwrap();
    bytes::alloc(&maker, 15 * LEN_BYTES).unwrap();
    // In the last unit a slab that is nobody's, with free objects.
    std::thread::scope(|scope| scope.spawn(|| bytes::alloc(&maker, 48).map(drop)).join())
        .unwrap()
        .unwrap();
    let heap = Heap::connect(&name).unwrap();
    let at = POLICY_AT + 8 * 15;
    let word = read_word(&file, at);
    for (class, size) in [(106, 512 << 10), (98, 256 << 10), (90, 128 << 10)] {
        write_word(&file, at, word >> 32 << 32 | class);
        let object = bytes::alloc(&heap, size);
        assert!(object.is_err(), "{size} bytes at {object:?}, in the last 64 KiB");
    }
    write_word(&file, at, word);
    bytes::alloc(&heap, 48).unwrap();
}

#[test]
fn overwritten_records_give_errors_only() {
    let seed = seed();
    let mutations = setting("SHMHEAP_MUTATIONS", MUTATIONS);
    let mut random = Random::new(seed);
    for policy in POLICIES {
        let name = HeapName::new();
        // Slabs of some size classes need more room than the objects in them.
        let len_bytes = if policy == Policy::Scalable { 16 * LEN_BYTES } else { LEN_BYTES };
        let heap = heap_of(policy, len_bytes).max_len(4 * len_bytes).create(&name).unwrap();
        for size in (1..200).map(|n| n * 7 % 500 + 1) {
            bytes::alloc(&heap, size).unwrap();
        }
        for (_, block) in
            heap.blocks().filter(|block| block.live).enumerate().filter(|(n, _)| n % 3 == 0)
        {
            bytes::free_handle(&heap, block.handle).unwrap();
        }
        drop(heap);
        let file = File::options().read(true).write(true).open(name.path()).unwrap();
        survives(&name, mutations, &file, &mut random);
    }
}

/// Lets a victim use the heap while its file is overwritten so many times.
#[track_caller]
fn survives(name: &HeapName, mutations: u64, file: &File, random: &mut Random) {
    let heartbeat = HeapName::new();
    let beats = first_fit(4096).create(&heartbeat).unwrap();
    let (handle, row) = bytes::alloc_words(&beats, 2);
    let seed = random.next().to_string();
    let arguments = [name.as_str(), heartbeat.as_str(), &handle.to_string(), &seed];
    let overwriter = Overwriter::new(&Heap::connect_read_only(name).unwrap(), file);
    let mut victim = Worker::start("overwritten::victim", &arguments);
    let mut done = 0;
    let mut burst = vec![];
    loop {
        wait_for_rounds(&mut victim, row, &burst, 2);
        if done >= mutations {
            break;
        }
        if random.one_in(8) {
            overwriter.restore();
        }
        burst.clear();
        for _ in 0..random.log_uniform(64).min(mutations - done) {
            burst.push(overwriter.overwrite_any(random));
            done += 1;
        }
    }
    row[1].store(1, Ordering::SeqCst);
    victim.finish();
}

/// Waits until the victim has gone through all operations once more.
#[track_caller]
fn wait_for_rounds(victim: &mut Worker, row: &[AtomicU64], burst: &[(u64, u64)], rounds: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let goal = row[0].load(Ordering::SeqCst) + rounds;
    while row[0].load(Ordering::SeqCst) < goal {
        if let Some(status) = victim.ended() {
            panic!("the victim ended with {status} after {burst:x?}");
        }
        assert!(Instant::now() < deadline, "the victim hangs after {burst:x?}");
        std::thread::yield_now();
    }
}

/// Writes over the records of a heap, through its file.
struct Overwriter<'f> {
    file: &'f File,
    /// All bytes before the objects, as they were.
    sound: Vec<u8>,
    policy: Policy,
    max_len_bytes: u64,
}

impl<'f> Overwriter<'f> {
    fn new(heap: &Heap, file: &'f File) -> Self {
        let mut header = [0; 4096];
        file.read_exact_at(&mut header, 0).unwrap();
        let data_offset = u64::from_le_bytes(header[48..56].try_into().unwrap());
        // Behind that, records of slabs are left out that so short a heap does not use.
        let mut sound = vec![0; data_offset.min(1 << 20) as usize];
        file.read_exact_at(&mut sound, 0).unwrap();
        let (policy, max_len_bytes) = (heap.info().policy, heap.info().max_len_bytes);
        Self { file, sound, policy, max_len_bytes }
    }

    /// Everything but the lock, which the victim may hold.
    fn restore(&self) {
        let (lock, behind) = (LOCK_AT as usize, LOCK_AT as usize + 8);
        self.file.write_all_at(&self.sound[..lock], 0).unwrap();
        self.file.write_all_at(&self.sound[behind..], behind as u64).unwrap();
    }

    /// Overwrites a word; where and with what.
    fn overwrite_any(&self, random: &mut Random) -> (u64, u64) {
        let policys = self.sound.len() as u64 - POLICY_AT;
        let at = match (random.below(8), self.policy) {
            // The header's words: identity, length, lock, current area, pins.
            (0..2, _) => 8 * random.below(64),
            // The first process records.
            (2, _) => 4096 + 8 * random.below(64),
            // The first thread records; rarely an owner, for the table has no more of them.
            (3, _) if random.one_in(16) => THREADS_AT + 8 * random.below(96),
            (3, _) => THREADS_AT + random.below(4) * 128 + 8 * (1 + random.below(15)),
            // The head of the area that holds the truth: journal, counters, length.
            (4, Policy::FirstFit) => POLICY_AT + 8 * random.below(20),
            // The arrays of that area.
            (5..7, Policy::FirstFit) => POLICY_AT + HEAD_BYTES + 8 * random.below(policys / 40),
            // Units and hints.
            (4..7, Policy::Scalable) => POLICY_AT + 8 * random.below(80),
            // All that is the policy's.
            _ => POLICY_AT + 8 * random.below(policys / 8),
        };
        let word = if at == LOCK_AT { lock_of_nobody(random) } else { self.nonsense(at, random) };
        write_word(self.file, at, word);
        (at, word)
    }

    fn nonsense(&self, at: u64, random: &mut Random) -> u64 {
        match random.below(9) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(5),
            3 => 1 << random.below(64),
            4 => random.below(self.max_len_bytes / 16 + 2),
            5 => random.below(self.max_len_bytes / 16 * 5 / 4) * 16,
            6 => read_word(self.file, at) ^ 1 << random.below(64),
            7 if self.policy == Policy::Scalable => {
                let operand = if random.one_in(4) { random.next() } else { random.below(120) };
                let head = random.below(7) << 60 | random.below(8) << 48 | random.below(4) << 32;
                head | operand & 0xffff_ffff
            }
            _ => random.next(),
        }
    }
}

/// The lock's word as a peer would leave it that died with the lock; nearly always in the area that
/// holds the truth, for of another one there would be nothing to find ever after.
fn lock_of_nobody(random: &mut Random) -> u64 {
    let areas = if random.one_in(64) { random.below(16) } else { 0 };
    random.next() << 21 | areas << 17 | random.below(2) << 16 | (900 + random.below(100))
}

#[test]
fn victim() {
    let Some(role) = Role::of("overwritten::victim") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let observer = Heap::connect_read_only(role.argument(0)).unwrap();
    let beats = Heap::connect(role.argument(1)).unwrap();
    let row = bytes::words(&beats, role.argument(2).parse().unwrap(), 2);
    let mut random = Random::new(role.number(3));
    let mut held = vec![];
    while row[1].load(Ordering::SeqCst) == 0 {
        change(&heap, &mut held, &mut random);
        hand_over(&heap, &mut random);
        look(&heap, &mut random);
        look(&observer, &mut random);
        let _ = Heap::connect(role.argument(0));
        let _ = Heap::connect_read_only(role.argument(0));
        row[0].fetch_add(1, Ordering::SeqCst);
    }
}

/// Every operation that changes a heap, whatever comes of it.
fn change(heap: &Heap, held: &mut Vec<Handle>, random: &mut Random) {
    for _ in 0..10 {
        let size = random.log_uniform(20_000);
        let size = if random.one_in(8) { size * 8 } else { size };
        let layout = bytes::layout(size, 1 << random.below(13));
        let made = if random.one_in(2) { heap.alloc(layout) } else { heap.alloc_zeroed(layout) };
        held.extend(made.and_then(|object| heap.handle(object)));
    }
    while held.len() > 20 {
        let index = random.below(held.len() as u64) as usize;
        if let Ok(object) = heap.resolve(held.swap_remove(index)) {
            let align = 1 << random.below(13);
            let moved = bytes::realloc(heap, object, random.log_uniform(160_000), align);
            let _ = bytes::free(heap, moved.unwrap_or(object));
        }
    }
    if random.one_in(4) {
        let _ = heap.grow(random.below(heap.info().max_len_bytes / 4 * 5));
        let _ = heap.sweep();
        let _ = heap.trim();
    }
}

/// Every operation on cells, which may be anywhere, whatever comes of it.
fn hand_over(heap: &Heap, random: &mut Random) {
    let most = heap.info().max_len_bytes;
    for _ in 0..10 {
        let cell = bytes::cell_anywhere(heap, random.below(most / 4 * 5 / 8) * 8);
        let layout = bytes::layout(random.log_uniform(1000), 1);
        match random.below(5) {
            0 => drop(heap.alloc_unpublished(layout).map(|object| bytes::publish(object, cell))),
            1 => drop(bytes::take(heap, cell)),
            2 => _ = bytes::alloc_into(heap, 16, cell),
            3 => _ = bytes::peek(heap, cell),
            _ => drop(heap.alloc_unpublished(layout).map(shmheap::Unpublished::keep)),
        }
    }
}

/// Every operation that looks at a heap, whatever it sees.
fn look(heap: &Heap, random: &mut Random) {
    let (base, most) = (heap.info().data_offset_bytes, heap.info().max_len_bytes);
    for _ in 0..20 {
        let handle = Handle::from_raw(base + random.below(most / 4 * 5 / 8) * 8);
        if let Ok(object) = heap.resolve(handle) {
            let _ = heap.usable_size(object);
            let _ = heap.handle(object);
        }
        let anywhere = bytes::displaced(heap.base(), random.below(most / 4 * 5) as isize);
        let _ = heap.usable_size(anywhere);
    }
    let _ = heap.check();
    let _ = heap.stats();
    let _ = heap.peers();
    assert!(heap.blocks().count() as u64 <= most / 16);
}
