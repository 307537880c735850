//! Who does what: one claim word for each document and one row of counters for each worker, all of
//! them in the heap, all changed by single atomic stores.
//!
//! ```text
//!   open --claim--> held by worker w, attempt a --commit--> done by w, attempt a
//!                        |   ^
//!                        +---+  claimed again, attempt a + 1, by another worker when w is dead
//! ```
//!
//! A commit is one compare-and-swap from "held by me, attempt a", so of all attempts at a document
//! at most one is ever committed, whoever was killed when, and even if a worker was held for dead
//! by mistake. What an attempt put into the index counts if and only if it was committed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use shmheap::{Handle, Heap, Peer};

use super::object::Words;

/// Words in a row of the document table: the text's handle, the claim.
pub(super) const DOCUMENT_ROW: usize = 2;
/// Words in a row of the worker table, a cache line.
pub(super) const WORKER_ROW: usize = 8;

const WORKER_SHIFT: u32 = 2;
const ATTEMPT_SHIFT: u32 = 16;
const STATE_MASK: u64 = 0b11;

/// How far a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Held,
    Done,
}

/// A claim word.
///
/// ```text
///  63         16 15       2 1     0
/// +-------------+----------+-------+
/// |   attempt   |  worker  | state |
/// +-------------+----------+-------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim(pub(super) u64);

impl Claim {
    pub(super) const OPEN: Self = Self(0);

    pub(super) fn held(worker: u16, attempt: u64) -> Self {
        Self(attempt << ATTEMPT_SHIFT | u64::from(worker) << WORKER_SHIFT | 1)
    }

    fn done(self) -> Self {
        Self(self.0 & !STATE_MASK | 2)
    }

    pub(super) fn state(self) -> State {
        match self.0 & STATE_MASK {
            0 => State::Open,
            1 => State::Held,
            _ => State::Done,
        }
    }

    pub(super) fn worker(self) -> u16 {
        (self.0 >> WORKER_SHIFT) as u16 & (u16::MAX >> WORKER_SHIFT)
    }

    pub(super) fn attempt(self) -> u64 {
        self.0 >> ATTEMPT_SHIFT
    }

    /// Worker and attempt, whatever the state: what entries of the index carry.
    pub(super) fn ticket(self) -> u64 {
        self.0 & !STATE_MASK
    }
}

/// The tables, as mapped here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'h> {
    pub(super) heap: &'h Heap,
    pub(super) documents: Words<'h>,
    pub(super) workers: Words<'h>,
    /// The first document that nobody has taken yet.
    pub(super) cursor: &'h AtomicU64,
}

impl<'h> Plan<'h> {
    pub(super) fn document_count(&self) -> usize {
        self.documents.len() / DOCUMENT_ROW
    }

    pub(super) fn text_handle(&self, document: usize) -> Handle {
        let word = self.documents.get(document * DOCUMENT_ROW);
        Handle::from_raw(word.map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    fn claim_word(&self, document: usize) -> Option<&'h AtomicU64> {
        self.documents.get(document * DOCUMENT_ROW + 1)
    }

    pub(super) fn claim_of(&self, document: usize) -> Claim {
        // Acquire: pairs with the Release of `commit`: who sees a document done sees its entries.
        self.claim_word(document).map_or(Claim::OPEN, |word| Claim(word.load(Ordering::Acquire)))
    }

    /// Whether entries of `document` with this ticket count.
    pub(super) fn is_committed(&self, document: usize, ticket: u64) -> bool {
        let claim = self.claim_of(document);
        claim.state() == State::Done && claim.ticket() == ticket
    }

    pub(super) fn worker(&self, number: u16) -> WorkerRow<'h> {
        let start = usize::from(number) * WORKER_ROW;
        WorkerRow(self.workers.get(start..start + WORKER_ROW).unwrap_or_default())
    }

    pub(super) fn worker_count(&self) -> u16 {
        (self.workers.len() / WORKER_ROW) as u16
    }

    /// Words of committed documents.
    pub(super) fn words_done(&self) -> u64 {
        (0..self.worker_count()).map(|number| self.worker(number).words()).sum()
    }

    pub(super) fn all_done(&self) -> bool {
        (0..self.document_count()).all(|document| self.claim_of(document).state() == State::Done)
    }

    /// Whether there are documents that nobody has taken yet.
    pub(super) fn fresh_left(&self) -> bool {
        self.cursor.load(Ordering::Relaxed) < self.document_count() as u64
    }

    /// The next document for worker `me`: its own first one, then a fresh one, then one whose
    /// worker died. Waits while others are at work, for they may die; `None` when all documents are
    /// done.
    pub(super) fn next(&self, me: u16) -> Option<(usize, Claim)> {
        let count = self.document_count();
        let own = Claim::held(me, 1);
        if self.worker(me).documents() == 0 && self.claim_of(me.into()) == own {
            return Some((me.into(), own));
        }
        while self.fresh_left() {
            let document = self.cursor.fetch_add(1, Ordering::Relaxed) as usize;
            if self.swap(document, Claim::OPEN, own) {
                return Some((document, own));
            }
        }
        loop {
            let open: Vec<usize> = (0..count)
                .filter(|&document| self.claim_of(document).state() != State::Done)
                .collect();
            if open.is_empty() {
                return None;
            }
            if let Some(taken) = self.take_over(me, &open) {
                return Some(taken);
            }
            thread::yield_now();
        }
    }

    fn take_over(&self, me: u16, documents: &[usize]) -> Option<(usize, Claim)> {
        let peers = self.heap.peers();
        documents.iter().find_map(|&document| {
            let claim = self.claim_of(document);
            let free = match claim.state() {
                State::Open => true,
                State::Held => self.worker(claim.worker()).is_dead(&peers),
                State::Done => false,
            };
            let mine = Claim::held(me, claim.attempt() + 1);
            (free && self.swap(document, claim, mine)).then_some((document, mine))
        })
    }

    /// Makes everything that the attempt put into the index count; `false` if another has taken the
    /// document over.
    pub(super) fn commit(&self, document: usize, claim: Claim) -> bool {
        self.swap(document, claim, claim.done())
    }

    fn swap(&self, document: usize, from: Claim, to: Claim) -> bool {
        let Some(word) = self.claim_word(document) else { return false };
        // Release: pairs with the Acquire of `claim_of`. Relaxed on failure: nothing is read then.
        word.compare_exchange(from.0, to.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}

/// What one worker tells about itself. Only it writes here.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkerRow<'h>(Words<'h>);

impl WorkerRow<'_> {
    const SLOT: usize = 0;
    const CONNECTED: usize = 1;
    const ALLOCATIONS: usize = 2;
    const WORDS: usize = 3;
    const DOCUMENTS: usize = 4;

    fn load(&self, index: usize) -> u64 {
        // Acquire: pairs with the Release of `register`; the counters need no order.
        self.0.get(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn add(&self, index: usize, count: u64) {
        if let Some(word) = self.0.get(index) {
            word.store(word.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        }
    }

    /// Notes which peer of the heap the worker is. Slots are used again; slot and time are not.
    pub(super) fn register(&self, peers: &[Peer]) -> bool {
        let Some(me) = peers.iter().find(|peer| peer.is_self) else { return false };
        let (Some(slot), Some(connected)) = (self.0.get(Self::SLOT), self.0.get(Self::CONNECTED))
        else {
            return false;
        };
        connected.store(me.connected_unix_ns, Ordering::Relaxed);
        // Release: pairs with the Acquire of `load`, so that who sees the slot sees the time.
        slot.store(u64::from(me.slot) + 1, Ordering::Release);
        true
    }

    /// Whether the worker has connected and its proof of life is gone.
    fn is_dead(&self, peers: &[Peer]) -> bool {
        let slot = self.load(Self::SLOT);
        let connected = self.load(Self::CONNECTED);
        let is_it =
            |peer: &Peer| u64::from(peer.slot) + 1 == slot && peer.connected_unix_ns == connected;
        slot != 0 && !peers.iter().any(|peer| peer.alive && is_it(peer))
    }

    pub(super) fn allocations(&self) -> u64 {
        self.load(Self::ALLOCATIONS)
    }

    pub(super) fn words(&self) -> u64 {
        self.load(Self::WORDS)
    }

    pub(super) fn documents(&self) -> u64 {
        self.load(Self::DOCUMENTS)
    }

    pub(super) fn count_allocation(&self) {
        self.add(Self::ALLOCATIONS, 1);
    }

    pub(super) fn count_document(&self, words: u64) {
        self.add(Self::DOCUMENTS, 1);
        self.add(Self::WORDS, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_hold_worker_and_attempt() {
        let claim = Claim::held(63, 1 << 40);
        assert_eq!((claim.state(), claim.worker(), claim.attempt()), (State::Held, 63, 1 << 40));
        let done = claim.done();
        assert_eq!((done.state(), done.worker(), done.attempt()), (State::Done, 63, 1 << 40));
        assert_eq!(claim.ticket(), done.ticket());
        assert_ne!(claim.ticket(), Claim::held(63, 2).ticket());
        assert_ne!(claim.ticket(), Claim::held(62, 1 << 40).ticket());
        assert_eq!(Claim::OPEN.state(), State::Open);
        assert_ne!(Claim::held(0, 1).ticket(), Claim::OPEN.ticket());
    }
}
