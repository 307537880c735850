//! `ByteChannel`: a queue of messages whose size is known at run time alone, as programs in C and
//! Python need it.
//!
//! It is the queue of a [`Channel`](super::Channel) of values of the same size, so one side may use
//! the one and the other side the other.
//!
//! # Unsafe code
//!
//! Opening by handle, whose contract is the caller's.
#![allow(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::event::Look;
use super::port::Port;
use super::shape::{self, Kind};
use super::transfer::{Cargo, Stuck};
use super::values::MAGIC;
use crate::object::Fingerprint;
use crate::segment::words::Words;
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Handle, Heap, Result};

/// So many words of bytes.
#[derive(Debug)]
struct Bytes {
    words: u64,
}

impl<W: Words> Cargo<W> for Bytes {
    type Item = Vec<u8>;

    fn unload(&self, words: &W, at: WordIndex) -> Result<Option<Vec<u8>>, Stuck> {
        let bytes = (0..self.words).flat_map(|number| words.load(at + number).to_ne_bytes());
        Ok(Some(bytes.collect()))
    }

    fn discard(&self, _words: &W, _at: WordIndex) -> bool {
        true
    }
}

fn store(words: &impl Words, at: WordIndex, message: &[u8]) {
    for (number, chunk) in (0..).zip(message.chunks(WORD_BYTES as usize)) {
        let mut bytes = [0; WORD_BYTES as usize];
        bytes[..chunk.len()].copy_from_slice(chunk);
        words.store(at + number, u64::from_ne_bytes(bytes));
    }
}

/// A queue of messages of bytes, each of the same size, which any number of processes send to and
/// receive from. What [`Channel`](super::Channel) promises holds here, too.
///
/// ```
/// use shmheap::{ByteChannel, Channel, HeapOptions};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let bytes = ByteChannel::find_or_create(&heap, "numbers", 100, 8)?;
/// bytes.send(&7_u64.to_ne_bytes(), None)?;
/// // A program that knows the type:
/// let numbers = Channel::<u64>::find_or_create(&heap, "numbers", 100)?;
/// assert_eq!(numbers.recv()?, 7);
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct ByteChannel<'h> {
    port: Port<'h, Bytes>,
}

impl<'h> ByteChannel<'h> {
    /// The channel of that name, or a new one for `capacity` messages of `message_bytes` bytes,
    /// rounded up to a power of two and to a multiple of 8. It stays while it has the name
    /// ([`Heap::remove_root`]), or a process has it open so.
    ///
    /// # Errors
    ///
    /// As [`Channel::find_or_create`](super::Channel::find_or_create), and
    /// [`Error::WrongType`] if there is one whose messages have another size.
    pub fn find_or_create(
        heap: &'h Heap,
        name: &str,
        capacity: u64,
        message_bytes: usize,
    ) -> Result<Self> {
        let words = (message_bytes as u64).div_ceil(WORD_BYTES);
        let port = Port::find_or_create(heap, name, capacity, kind(words), Bytes { words })?;
        Ok(Self { port })
    }

    /// Opens a channel that somebody has made, of values or of bytes.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the object is none; as [`Heap::resolve`] if it is not live.
    ///
    /// # Safety
    ///
    /// Nobody frees the channel's object as long as what is returned is in use. What was opened by
    /// name ([`find_or_create`](Self::find_or_create)) sees to that itself.
    pub unsafe fn open<T>(heap: &'h Heap, handle: Handle<T>) -> Result<Self> {
        let words = shape::value_words(&heap.gate(), heap.span(handle)?);
        let port = Port::open(heap, handle.cast(), kind(words), Bytes { words })?;
        Ok(Self { port })
    }

    /// The channel's handle, for others to open it by.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.port.handle
    }

    /// The size of a message: a multiple of 8.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        (self.port.cargo.words * WORD_BYTES) as usize
    }

    /// Sends a message if there is room. One that is shorter than the channel's are is filled up
    /// with zeros.
    ///
    /// Cost and kills: as [`Channel::try_send`](super::Channel::try_send).
    ///
    /// # Errors
    ///
    /// As there, and [`Error::InvalidOption`] if the message is too long.
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        let sent = self.attempt(self.checked(message)?, Look::Thorough)?;
        sent.ok_or_else(|| self.port.at_capacity())
    }

    /// As [`try_send`](Self::try_send), but waits for room; for so long at the most if a time is
    /// given.
    ///
    /// # Errors
    ///
    /// As there, but for the capacity; [`Error::TimedOut`].
    pub fn send(&self, message: &[u8], timeout: Option<Duration>) -> Result<()> {
        let message = self.checked(message)?;
        let attempt = |look| self.attempt(message, look);
        let sent = self.port.transfer().wait_for_room(self.port.patience(timeout), attempt)?;
        sent.ok_or(Error::TimedOut { what: "room in the channel" })
    }

    fn attempt(&self, message: &[u8], look: Look) -> Result<Option<()>> {
        let zeros = self.message_bytes() - message.len();
        self.port.transfer().try_send_with(look, |words, at| {
            if zeros > 0 {
                store(words, at, &vec![0; self.message_bytes()]);
            }
            store(words, at, message);
        })
    }

    fn checked<'m>(&self, message: &'m [u8]) -> Result<&'m [u8]> {
        if message.len() > self.message_bytes() {
            return Err(Error::InvalidOption {
                option: "a message's size",
                value: message.len() as u64,
                why: "the channel was made for smaller ones",
            });
        }
        Ok(message)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// As [`Channel::try_recv`](super::Channel::try_recv).
    pub fn try_recv(&self) -> Result<Option<Vec<u8>>> {
        self.port.try_recv()
    }

    /// Receives a message, and waits for it; for so long at the most if a time is given.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), and [`Error::TimedOut`].
    pub fn recv(&self, timeout: Option<Duration>) -> Result<Vec<u8>> {
        self.port.recv(timeout)
    }

    /// As [`Channel::close`](super::Channel::close).
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`].
    pub fn close(&self) -> Result<()> {
        self.port.close()
    }

    /// How many messages there are, at some moment, without those that receivers have in hand.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.port.queue().len()
    }

    /// Whether there is no message, at some moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn kind(value_words: u64) -> Kind {
    Kind { magic: MAGIC, fingerprint: Fingerprint::UNTYPED, value_words }
}

impl fmt::Debug for ByteChannel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteChannel").field("handle", &self.port.handle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, HeapOptions};

    #[test]
    fn messages_are_filled_up_and_never_cut() {
        let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
        let channel = ByteChannel::find_or_create(&heap, "bytes", 4, 20).unwrap();
        assert_eq!(channel.message_bytes(), 24);
        channel.send(&[9; 24], None).unwrap();
        assert_eq!(channel.recv(None).unwrap(), [9; 24]);
        let mut expected = b"some bytes".to_vec();
        expected.resize(24, 0);
        // So often that each cell holds one kind after the other.
        for _ in 0..100 {
            channel.try_send(b"some bytes").unwrap();
            assert_eq!(channel.len(), 1);
            assert_eq!(channel.try_recv().unwrap(), Some(expected.clone()));
            for _ in 0..2 {
                channel.try_send(&[9; 24]).unwrap();
                assert_eq!(channel.try_recv().unwrap(), Some(vec![9; 24]));
            }
        }
        assert!(matches!(channel.try_send(&[0; 25]), Err(Error::InvalidOption { .. })));
        assert_eq!(channel.try_recv().unwrap(), None);
        let other = ByteChannel::find_or_create(&heap, "bytes", 4, 100);
        assert!(matches!(other, Err(Error::WrongType { .. })));
    }

    /// The words of a value are the program's, even if it makes them those of a channel.
    #[test]
    fn a_value_that_looks_like_a_channel_is_none() {
        let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
        let channel = ByteChannel::find_or_create(&heap, "channel", 4, 8).unwrap();
        let (words, span) = (heap.gate(), heap.span(channel.handle()).unwrap());
        heap.find_or_create::<[u64; 4096]>("value", |value| {
            for (number, word) in (0..).zip(value) {
                *word = words.load(span.word(number));
            }
        })
        .unwrap();
        let refused = ByteChannel::find_or_create(&heap, "value", 4, 8);
        assert!(matches!(refused, Err(Error::WrongType { .. })));
    }

    #[test]
    fn typed_and_untyped_programs_meet() {
        let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
        let typed = Channel::<[u32; 4]>::find_or_create(&heap, "typed", 4).unwrap();
        let bytes = ByteChannel::find_or_create(&heap, "typed", 4, 16).unwrap();
        typed.send([1, 2, 3, 4]).unwrap();
        let received = bytes.recv(None).unwrap();
        assert_eq!(received[4..8], 2_u32.to_ne_bytes());
        // SAFETY: nobody frees it.
        let opened = unsafe { ByteChannel::open(&heap, typed.handle()) }.unwrap();
        opened.send(&received, None).unwrap();
        assert_eq!(typed.recv().unwrap(), [1, 2, 3, 4]);
        let other = Channel::<u32>::find_or_create(&heap, "typed", 4);
        assert!(matches!(other, Err(Error::WrongType { .. })));
        heap.find_or_create::<u64>("number", |_| {}).unwrap();
        let other = ByteChannel::find_or_create(&heap, "number", 4, 8);
        assert!(matches!(other, Err(Error::WrongType { .. })));
    }
}
