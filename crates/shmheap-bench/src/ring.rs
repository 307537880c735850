//! `Ring`: a queue of numbers with one sender and one receiver, in memory that both share.
//!
//! Sender and receiver each write one counter, on a cache line of its own, and remember the last
//! they saw of the other's, so a line travels once for many messages and not with each.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many numbers may be under way.
pub(crate) const CAPACITY: u64 = 1024;

/// A word that shares its cache lines, and those that are fetched along, with nothing.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Lonely(pub(crate) AtomicU64);

/// All words 0: an empty ring.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ring {
    /// Numbers sent so far.
    sent: Lonely,
    /// Numbers received so far.
    received: Lonely,
    slots: [AtomicU64; CAPACITY as usize],
}

impl Ring {
    #[inline]
    fn slot(&self, count: u64) -> &AtomicU64 {
        &self.slots[(count % CAPACITY) as usize]
    }
}

/// The sending end. One for a ring.
#[derive(Debug)]
pub(crate) struct Sender<'r> {
    ring: &'r Ring,
    sent: u64,
    received_seen: u64,
}

impl<'r> Sender<'r> {
    pub(crate) fn new(ring: &'r Ring) -> Self {
        Self { ring, sent: 0, received_seen: 0 }
    }

    /// False if the ring is full.
    #[inline]
    pub(crate) fn try_send(&mut self, number: u64) -> bool {
        if self.sent - self.received_seen == CAPACITY {
            // Acquire: with the release in `try_receive`; the slot has been read when it is
            // written again.
            self.received_seen = self.ring.received.0.load(Ordering::Acquire);
            if self.sent - self.received_seen == CAPACITY {
                return false;
            }
        }
        self.ring.slot(self.sent).store(number, Ordering::Relaxed);
        self.sent += 1;
        // Release: with the acquire in `try_receive`; the number, and the object that it names,
        // have been written.
        self.ring.sent.0.store(self.sent, Ordering::Release);
        true
    }
}

/// The receiving end. One for a ring.
#[derive(Debug)]
pub(crate) struct Receiver<'r> {
    ring: &'r Ring,
    received: u64,
    sent_seen: u64,
}

impl<'r> Receiver<'r> {
    pub(crate) fn new(ring: &'r Ring) -> Self {
        Self { ring, received: 0, sent_seen: 0 }
    }

    #[inline]
    pub(crate) fn try_receive(&mut self) -> Option<u64> {
        if self.received == self.sent_seen {
            // Acquire: with the release in `try_send`.
            self.sent_seen = self.ring.sent.0.load(Ordering::Acquire);
            if self.received == self.sent_seen {
                return None;
            }
        }
        let number = self.ring.slot(self.received).load(Ordering::Relaxed);
        self.received += 1;
        // Release: with the acquire in `try_send`; the slot has been read.
        self.ring.received.0.store(self.received, Ordering::Release);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        let slots = std::array::from_fn(|_| AtomicU64::new(0));
        Ring { sent: Lonely::default(), received: Lonely::default(), slots }
    }

    #[test]
    fn a_full_ring_refuses_and_goes_on() {
        let ring = ring();
        let (mut sender, mut receiver) = (Sender::new(&ring), Receiver::new(&ring));
        assert_eq!(receiver.try_receive(), None);
        assert!((0..CAPACITY).all(|number| sender.try_send(number)));
        assert!(!sender.try_send(0));
        assert_eq!(receiver.try_receive(), Some(0));
        assert!(sender.try_send(CAPACITY));
        assert!((1..=CAPACITY).all(|number| receiver.try_receive() == Some(number)));
        assert_eq!(receiver.try_receive(), None);
    }

    #[test]
    fn numbers_arrive_once_and_in_order() {
        const COUNT: u64 = 100_000;
        let ring = ring();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sender = Sender::new(&ring);
                for number in 0..COUNT {
                    while !sender.try_send(number) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut receiver = Receiver::new(&ring);
            for expected in 0..COUNT {
                let number = loop {
                    match receiver.try_receive() {
                        Some(number) => break number,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(number, expected);
            }
        });
    }
}
