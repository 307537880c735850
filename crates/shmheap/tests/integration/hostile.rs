//! Goal: whatever stands under a name, and whatever is written over a heap's records while
//! processes use it, a healthy process gets an error: no signal, no panic, no endless loop.
//!
//! Method: objects that are no heap, or no longer one, in all kinds, each with the error it must
//! give. Then a *victim*, a program of its own, that goes through all operations over and over in a
//! heap whose file another process overwrites; a victim that dies, panics or stops counting its
//! rounds is a failure. The lock's word is overwritten as well, but only with the number of a peer
//! that does not exist: a heap held by a living peer is waited for, as it should be.
//!
//! `SHMHEAP_MUTATIONS=n` sets how many words are overwritten.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use shmheap::{Error, Handle, Heap, NotAHeap};

use crate::support::first_fit;
use crate::support::process::{Role, Worker};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, bytes};

const LEN_BYTES: u64 = 64 << 10;
/// Where FORMAT.md puts the words that these tests overwrite on purpose.
const VERSION_AT: u64 = 8;
const IDENTITY_BYTES: u64 = 96;
const LENGTH_AT: u64 = 128;
const LOCK_AT: u64 = 192;

/// What connecting to the name says, for writing, for reading, and in the list of all heaps.
#[track_caller]
fn refused(name: &HeapName) -> Error {
    let error = Heap::connect(name).expect_err("a connection for writing");
    let as_observer = Heap::connect_read_only(name).expect_err("a connection for reading");
    assert_eq!(error.to_string(), as_observer.to_string());
    let _ = shmheap::list().unwrap();
    error
}

#[track_caller]
fn assert_not_a_heap(name: &HeapName, expected: NotAHeap) {
    let error = refused(name);
    assert!(matches!(&error, Error::NotAHeap { why, .. } if *why == expected), "{error}");
}

#[test]
fn foreign_objects_are_refused_and_never_removed() {
    let elf = fs::read("/proc/self/exe").unwrap();
    let contents: [(&[u8], NotAHeap); 7] = [
        (b"", NotAHeap::Empty),
        (b"x", NotAHeap::Foreign),
        (b"SHMHEAP", NotAHeap::Foreign),
        (&[0; 4096], NotAHeap::Foreign),
        (&[0xff; 10_000], NotAHeap::Foreign),
        (&elf[..8192], NotAHeap::Foreign),
        (b"SHMHEAQ\0 and so on", NotAHeap::Foreign),
    ];
    for (content, why) in contents {
        let name = HeapName::new();
        fs::write(name.path(), content).unwrap();
        assert_not_a_heap(&name, why);
        let error = Heap::destroy(&name).unwrap_err();
        assert!(matches!(error, Error::NotAHeap { .. }), "{error}");
        let error = first_fit(LEN_BYTES).create(&name).unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(fs::read(name.path()).unwrap(), content, "left alone");
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let make: [fn(&Path); 4] = [
        |path| fs::create_dir(path).unwrap(),
        |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
        |path| drop(UnixListener::bind(path).unwrap()),
        |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
    ];
    for make in make {
        let name = HeapName::new();
        make(&name.path());
        assert_not_a_heap(&name, NotAHeap::NotAFile);
        assert!(matches!(Heap::destroy(&name), Err(Error::NotAHeap { .. })));
        assert!(matches!(first_fit(LEN_BYTES).create(&name), Err(Error::AlreadyExists { .. })));
        assert!(fs::symlink_metadata(name.path()).is_ok(), "left alone");
    }
    let (link, target) = (HeapName::new(), HeapName::new());
    first_fit(LEN_BYTES).create(&target).unwrap();
    std::os::unix::fs::symlink(target.path(), link.path()).unwrap();
    assert_not_a_heap(&link, NotAHeap::NotAFile);
}

/// A heap that nobody is connected to, and its file.
fn abandoned_heap() -> (HeapName, File) {
    let name = HeapName::new();
    let heap = first_fit(LEN_BYTES).max_len(4 * LEN_BYTES).create(&name).unwrap();
    bytes::alloc(&heap, 100).unwrap();
    let file = File::options().read(true).write(true).open(name.path()).unwrap();
    (name, file)
}

fn read_word(file: &File, at: u64) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    u64::from_le_bytes(word)
}

fn write_word(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

#[test]
fn truncated_heaps_are_refused_at_any_length() {
    let (name, file) = abandoned_heap();
    let whole = file.metadata().unwrap().len();
    let pages = (0..whole).step_by(4096);
    let odd = [1, 7, 8, 9, 95, 96, 135, 136, 137, 4095, 4097, whole / 2 + 1, whole - 1];
    let mut lengths: Vec<u64> = pages.chain(odd).collect();
    lengths.sort_unstable();
    for length in lengths.into_iter().rev() {
        file.set_len(length).unwrap();
        match (length, refused(&name)) {
            (0, Error::NotAHeap { why: NotAHeap::Empty, .. })
            | (1..8, Error::NotAHeap { why: NotAHeap::Foreign, .. }) => {}
            (
                8..,
                Error::NotAHeap {
                    why: NotAHeap::Truncated { expected_bytes, found_bytes }, ..
                },
            ) => {
                assert_eq!(found_bytes, length);
                assert!(expected_bytes > length);
            }
            (_, error) => panic!("{length}: {error}"),
        }
        if length >= 8 {
            continue;
        }
        assert!(Heap::destroy(&name).is_err(), "nothing tells that this was a heap");
    }
    file.set_len(0).unwrap();
    drop(name);
    let (name, file) = abandoned_heap();
    file.set_len(5000).unwrap();
    Heap::destroy(&name).expect("a truncated heap is its owner's to remove");
}

#[test]
fn another_version_is_named() {
    let (name, file) = abandoned_heap();
    for version in [0, 1, 77, u64::from(u32::MAX), u64::MAX] {
        write_word(&file, VERSION_AT, version);
        match refused(&name) {
            Error::VersionMismatch { found, supported: 2, .. } => {
                assert_eq!(u64::from(found), version.min(u64::from(u32::MAX)));
            }
            error => panic!("{error}"),
        }
    }
    Heap::destroy(&name).expect("a heap of another version is its owner's to remove");
}

#[test]
fn every_flipped_bit_of_the_identity_is_noticed() {
    let (name, file) = abandoned_heap();
    for at in 0..IDENTITY_BYTES {
        for bit in 0..8 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
            let error = refused(&name);
            let named = match at {
                0..8 => matches!(error, Error::NotAHeap { why: NotAHeap::Foreign, .. }),
                8..16 => matches!(error, Error::VersionMismatch { .. }),
                _ => matches!(error, Error::NotAHeap { why: NotAHeap::BadHeader("checksum"), .. }),
            };
            assert!(named, "byte {at}, bit {bit}: {error}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
    Heap::connect(&name).unwrap();
}

#[test]
fn nonsense_lengths_are_refused() {
    let (name, file) = abandoned_heap();
    let length = read_word(&file, LENGTH_AT);
    assert_eq!(length, LEN_BYTES);
    for nonsense in [0, 1, 8, length + 8, 4 * length + 16, 1 << 46, 1 << 63, u64::MAX] {
        write_word(&file, LENGTH_AT, nonsense);
        assert_not_a_heap(&name, NotAHeap::BadHeader("length"));
    }
    write_word(&file, LENGTH_AT, 2 * length);
    assert!(
        matches!(refused(&name), Error::NotAHeap { why: NotAHeap::Truncated { .. }, .. }),
        "a length that the object does not have"
    );
    write_word(&file, LENGTH_AT, length);
    Heap::connect(&name).unwrap();
}

/// The user and group that owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn without_permission_there_is_an_error_that_says_so() {
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let (name, _file) = abandoned_heap();
    let readable = HeapName::new();
    let _heap = first_fit(LEN_BYTES).mode(0o644).create(&readable).unwrap();
    // The other user must be able to start the program.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let program = directory.path().join("program");
    fs::copy("/proc/self/exe", &program).unwrap();
    Worker::start_program(
        &program,
        "hostile::somebody_else",
        &[name.as_str(), readable.as_str()],
        |command| command.uid(NOBODY).gid(NOBODY),
    )
    .finish();
    Heap::connect(&name).unwrap();
}

#[test]
fn somebody_else() {
    let Some(role) = Role::of("hostile::somebody_else") else { return };
    assert!(!rustix::process::getuid().is_root());
    let (name, readable) = (role.argument(0), role.argument(1));
    let errors = [
        Heap::connect(name).unwrap_err(),
        Heap::connect_read_only(name).unwrap_err(),
        Heap::destroy(name).unwrap_err(),
        Heap::connect(readable).unwrap_err(),
        Heap::destroy(readable).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
        assert_eq!(error.errno(), libc::EACCES);
        assert!(error.to_string().contains("belongs to user 0"), "{error}");
    }
    assert!(matches!(first_fit(LEN_BYTES).create(name), Err(Error::AlreadyExists { .. })));
    let heap = Heap::connect_read_only(readable).unwrap();
    assert_eq!((heap.stats().peers_alive, heap.check().is_sound()), (1, true));
    let error = first_fit(LEN_BYTES).create_file("/proc/heap").unwrap_err();
    assert!(!matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[test]
fn a_search_index_that_hides_free_blocks_is_damage_and_no_endless_loop() {
    let (name, file) = abandoned_heap();
    let records = Heap::connect_read_only(&name).unwrap().info().data_offset_bytes;
    // The maxima, behind 256 regions and the two summaries of them, promise nothing then.
    for at in (659_456 + 256 * 16 + 2 * 64..records).step_by(8) {
        write_word(&file, at, 0);
    }
    survives(&name, 1, &file, &mut Random::new(1));
}

#[test]
fn overwritten_records_give_errors_only() {
    let seed = seed();
    let mutations = setting("SHMHEAP_MUTATIONS", 200_000);
    let mut random = Random::new(seed);
    let name = HeapName::new();
    let heap = first_fit(LEN_BYTES).max_len(4 * LEN_BYTES).create(&name).unwrap();
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

/// Lets a victim use the heap while its file is overwritten so many times.
#[track_caller]
fn survives(name: &HeapName, mutations: u64, file: &File, random: &mut Random) {
    let heartbeat = HeapName::new();
    let beats = first_fit(4096).create(&heartbeat).unwrap();
    let (handle, row) = bytes::alloc_words(&beats, 2);
    let seed = random.next().to_string();
    let arguments = [name.as_str(), heartbeat.as_str(), &handle.to_string(), &seed];
    let mut victim = Worker::start("hostile::victim", &arguments);
    let overwriter = Overwriter::new(file);
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
}

impl<'f> Overwriter<'f> {
    fn new(file: &'f File) -> Self {
        let mut header = [0; 4096];
        file.read_exact_at(&mut header, 0).unwrap();
        let data_offset = u64::from_le_bytes(header[48..56].try_into().unwrap());
        let mut sound = vec![0; data_offset as usize];
        file.read_exact_at(&mut sound, 0).unwrap();
        Self { file, sound }
    }

    /// Everything but the lock, which the victim may hold.
    fn restore(&self) {
        let (lock, behind) = (LOCK_AT as usize, LOCK_AT as usize + 8);
        self.file.write_all_at(&self.sound[..lock], 0).unwrap();
        self.file.write_all_at(&self.sound[behind..], behind as u64).unwrap();
    }

    /// Overwrites a word; where and with what.
    fn overwrite_any(&self, random: &mut Random) -> (u64, u64) {
        let at = 8 * match random.below(5) {
            // The header's words: identity, length, lock, journal, counters.
            0 => random.below(64),
            // The first process records.
            1 => 512 + random.below(64),
            // The first thread records; rarely an owner, for the table has no more of them.
            2 if random.one_in(16) => 135_168 / 8 + random.below(64),
            2 => 135_168 / 8 + random.below(4) * 16 + 1 + random.below(15),
            // The policy's records.
            _ => 659_456 / 8 + random.below(self.sound.len() as u64 / 8 - 659_456 / 8),
        };
        let word = if at == LOCK_AT { lock_of_nobody(random) } else { self.nonsense(at, random) };
        write_word(self.file, at, word);
        (at, word)
    }

    fn nonsense(&self, at: u64, random: &mut Random) -> u64 {
        match random.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(5),
            3 => 1 << random.below(64),
            4 => random.below(4 * LEN_BYTES / 16 + 2),
            5 => random.below(5 * LEN_BYTES / 16) * 16,
            6 => read_word(self.file, at) ^ 1 << random.below(64),
            _ => random.next(),
        }
    }
}

/// The lock's word as a peer would leave it that died with the lock.
fn lock_of_nobody(random: &mut Random) -> u64 {
    random.next() << 17 | random.below(2) << 16 | (900 + random.below(100))
}

#[test]
fn victim() {
    let Some(role) = Role::of("hostile::victim") else { return };
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
        let layout = bytes::layout(size, 1 << random.below(13));
        let made = if random.one_in(2) { heap.alloc(layout) } else { heap.alloc_zeroed(layout) };
        held.extend(made.and_then(|object| heap.handle(object)));
    }
    while held.len() > 20 {
        let index = random.below(held.len() as u64) as usize;
        if let Ok(object) = heap.resolve(held.swap_remove(index)) {
            let align = 1 << random.below(13);
            let moved = bytes::realloc(heap, object, random.log_uniform(20_000), align);
            let _ = bytes::free(heap, moved.unwrap_or(object));
        }
    }
    if random.one_in(4) {
        let _ = heap.grow(random.below(5 * LEN_BYTES));
        let _ = heap.sweep();
    }
}

/// Every operation on cells, which may be anywhere, whatever comes of it.
fn hand_over(heap: &Heap, random: &mut Random) {
    for _ in 0..10 {
        let cell = bytes::cell_anywhere(heap, random.below(5 * LEN_BYTES / 8) * 8);
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
    let base = heap.info().data_offset_bytes;
    for _ in 0..20 {
        let handle = Handle::from_raw(base + random.below(5 * LEN_BYTES / 8) * 8);
        if let Ok(object) = heap.resolve(handle) {
            let _ = heap.usable_size(object);
            let _ = heap.handle(object);
        }
        let anywhere = bytes::displaced(heap.base(), random.below(5 * LEN_BYTES) as isize);
        let _ = heap.usable_size(anywhere);
    }
    let _ = heap.check();
    let _ = heap.stats();
    let _ = heap.peers();
    assert!(heap.blocks().count() as u64 <= 4 * LEN_BYTES / 16);
}
