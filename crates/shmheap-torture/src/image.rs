//! `Image`: the bytes of a segment at one moment, and the heap that whoever comes then would find.
//!
//! # Unsafe code
//!
//! The lock call that keeps a peer alive in a copy, which `rustix` lacks for ranges.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context, Result, ensure};
use rustix::fs::MemfdFlags;
use shmheap::Heap;

use crate::log::{PAGE_WORDS, Store};

/// Where FORMAT.md puts the byte whose lock says that the peer of slot 0 lives.
const LIFE_BASE: i64 = 1 << 60;

/// The words of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    words: Vec<u64>,
    len_bytes: u64,
}

impl Image {
    /// An image of an object of this length, whose words behind the given ones are 0.
    pub(crate) fn new(words: Vec<u64>, len_bytes: u64) -> Self {
        Self { words, len_bytes }
    }

    pub(crate) fn apply(&mut self, store: Store) {
        self.words[store.word] = store.new;
    }

    /// A new object with these bytes. Nobody is connected to it, so all peers are dead.
    pub(crate) fn object(&self) -> Result<File> {
        let memory = rustix::fs::memfd_create("shmheap-torture", MemfdFlags::CLOEXEC)
            .context("no memory for a copy")?;
        let file = File::from(memory);
        file.set_len(self.len_bytes)?;
        for (number, page) in self.words.chunks(PAGE_WORDS).enumerate() {
            if page.iter().all(|&word| word == 0) {
                continue;
            }
            let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_le_bytes()).collect();
            file.write_all_at(&bytes, (number * PAGE_WORDS * size_of::<u64>()) as u64)?;
        }
        Ok(file)
    }
}

/// Connects to an object as anybody would.
pub(crate) fn connect(object: &File) -> Result<Heap> {
    Ok(Heap::connect_fd(OwnedFd::from(object.try_clone()?))?)
}

/// Has the peer of a slot live in a copy, as long as what this returns.
pub(crate) fn keep_alive(object: &File, slot: u16) -> Result<File> {
    let path = format!("/proc/self/fd/{}", object.as_raw_fd());
    // Opened anew: the lock is that of the open file, and goes with it.
    let life = File::options().read(true).write(true).open(path)?;
    // SAFETY: an all-zero `flock` is a valid value of it.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = LIFE_BASE + i64::from(slot);
    lock.l_len = 1;
    // SAFETY: the descriptor is open, and the call reads a whole `flock`.
    let failed = unsafe { libc::fcntl(life.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    ensure!(failed == 0, "a lock: {}", std::io::Error::last_os_error());
    Ok(life)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes;

    fn copy(heap: &Heap) -> Image {
        let words = bytes::segment(heap).unwrap().iter();
        let words: Vec<_> =
            words.map(|word| word.load(std::sync::atomic::Ordering::SeqCst)).collect();
        let len_bytes = words.len() as u64 * 8;
        Image::new(words, len_bytes)
    }

    #[test]
    fn in_a_copy_everybody_is_dead_who_is_not_kept_alive() {
        let heap = shmheap::HeapOptions::new(1 << 20).create_memfd().unwrap();
        bytes::alloc(&heap, 100).unwrap();
        let image = copy(&heap);
        let object = image.object().unwrap();
        let life = keep_alive(&object, 0).unwrap();
        let other = connect(&object).unwrap();
        assert_eq!((other.sweep().unwrap(), other.peers().len()), (0, 2));
        drop(life);
        assert_eq!((other.sweep().unwrap(), other.peers().len()), (1, 1));
        assert_eq!(other.stats().live_objects, 1);
    }
}
