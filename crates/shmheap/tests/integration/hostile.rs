//! Goal: whatever stands under a name, a process that connects to it gets a heap or an error that
//! says what is wrong: no signal, no panic, no endless loop; and what is no heap stays.
//!
//! Method: objects that are no heap, or no longer one, in all kinds, each with the error it must
//! give.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use shmheap::{Error, Heap, NotAHeap, Policy};

use crate::support::process::{Role, Worker};
use crate::support::{HeapName, POLICIES, bytes, first_fit, heap_of};

const LEN_BYTES: u64 = 64 << 10;
/// Where FORMAT.md puts the words that these tests overwrite on purpose.
const VERSION_AT: u64 = 8;
const IDENTITY_BYTES: u64 = 104;
const LENGTH_AT: u64 = 128;

/// What connecting to the name says.
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
fn abandoned_heap(policy: Policy) -> (HeapName, File) {
    let name = HeapName::new();
    let heap = heap_of(policy, LEN_BYTES).max_len(4 * LEN_BYTES).create(&name).unwrap();
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
    for policy in POLICIES {
        let (name, file) = abandoned_heap(policy);
        let whole = file.metadata().unwrap().len();
        let pages = (0..whole).step_by(4096);
        let odd =
            [1, 7, 8, 9, 95, 96, 103, 104, 135, 136, 137, 4095, 4097, whole / 2 + 1, whole - 1];
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
                        why: NotAHeap::Truncated { expected_bytes, found_bytes },
                        ..
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
        let (name, file) = abandoned_heap(policy);
        file.set_len(5000).unwrap();
        Heap::destroy(&name).expect("a truncated heap is its owner's to remove");
    }
}

#[test]
fn another_version_is_named() {
    for policy in POLICIES {
        let (name, file) = abandoned_heap(policy);
        for version in [0, 1, 2, 3, 4, 5, 6, 7, 8, 77, u64::from(u32::MAX), u64::MAX] {
            write_word(&file, VERSION_AT, version);
            match refused(&name) {
                Error::VersionMismatch { found, supported: 9, .. } => {
                    assert_eq!(u64::from(found), version.min(u64::from(u32::MAX)));
                }
                error => panic!("{error}"),
            }
        }
        Heap::destroy(&name).expect("a heap of another version is its owner's to remove");
    }
}

#[test]
fn every_flipped_bit_of_the_identity_is_noticed() {
    for policy in POLICIES {
        let (name, file) = abandoned_heap(policy);
        for at in 0..IDENTITY_BYTES {
            for bit in 0..8 {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
                let error = refused(&name);
                let named = match at {
                    0..8 => matches!(error, Error::NotAHeap { why: NotAHeap::Foreign, .. }),
                    8..16 => matches!(error, Error::VersionMismatch { .. }),
                    _ => matches!(
                        error,
                        Error::NotAHeap { why: NotAHeap::BadHeader("checksum"), .. }
                    ),
                };
                assert!(named, "byte {at}, bit {bit}: {error}");
                file.write_all_at(&byte, at).unwrap();
            }
        }
        Heap::connect(&name).unwrap();
    }
}

#[test]
fn nonsense_lengths_are_refused() {
    for policy in POLICIES {
        let (name, file) = abandoned_heap(policy);
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
}

/// The user and group that owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn without_permission_there_is_an_error_that_says_so() {
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let (name, _file) = abandoned_heap(Policy::Scalable);
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
