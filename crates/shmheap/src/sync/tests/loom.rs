//! The protocols themselves under loom: peers that lock, wait, notify and die at once, over weak
//! memory.
//!
//! A sleeper sleeps until it is woken, for ever if need be: a wake that is lost is a deadlock,
//! which loom finds. But as soon as somebody is dead, who wakes nobody, all sleeps are over at
//! once.

mod locks;
mod signals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread::JoinHandle;

use crate::peers::{PeerId, Roll};
use crate::segment::interleaved::{Memory, View, start};
use crate::segment::words::Words;
use crate::sync::owned::{Owned, Want};
use crate::sync::readers::Readers;
use crate::sync::shared::SharedLock;
use crate::sync::wait::{Patience, Waiting};
use crate::units::{LINE_WORDS, PeerSlot, WordIndex};
use crate::{Error, Result};

const LOCK: WordIndex = WordIndex(0);
const BELL: WordIndex = WordIndex(1);
const TABLE: WordIndex = WordIndex(2);
const ENTRIES: u64 = 2;
const PAIR: [WordIndex; 2] = [WordIndex(8), WordIndex(9)];
const TIMES: WordIndex = WordIndex(10);
/// For each peer whether it is dead, as the kernel says.
const DEATHS: WordIndex = WordIndex(16);
const PEERS: u64 = 4;

const OWNED: fn() -> Owned = || Owned::new(LOCK, "it");

/// The words of a scene and where sleepers of each lie.
#[derive(Clone)]
struct Scene {
    memory: Arc<Memory>,
    beds: Arc<BTreeMap<u64, (Mutex<()>, Condvar)>>,
}

/// What one peer sees of it.
struct Peer {
    scene: Scene,
    view: View,
    me: PeerId,
}

impl Scene {
    fn new() -> Self {
        let beds = (0..4).map(|at| (at, (Mutex::new(()), Condvar::new())));
        let words = (0..4).chain(8..11).map(WordIndex);
        let deaths = (0..PEERS).map(|peer| DEATHS + peer);
        let memory = Memory::new(words.chain(deaths), [], &[]);
        Self { memory, beds: Arc::new(beds.collect()) }
    }

    fn peer(&self, slot: u16) -> Peer {
        let me = PeerId::new(PeerSlot(slot), 1);
        Peer { scene: self.clone(), view: self.memory.view(), me }
    }

    fn spawn<T: Send + 'static>(
        &self,
        slot: u16,
        act: impl FnOnce(&Peer) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let scene = self.clone();
        start(move || act(&scene.peer(slot)))
    }
}

impl Words for Peer {
    fn load(&self, at: WordIndex) -> u64 {
        self.view.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.view.load_line(at)
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.view.store(at, value);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.view.compare_exchange(at, current, new)
    }

    fn fence(&self) {
        self.view.fence();
    }

    fn wait(&self, at: WordIndex, expected: u64, _timeout: Duration) -> Duration {
        let (lock, bed) = &self.scene.beds[&at.0];
        let guard = lock.lock().unwrap();
        if (0..PEERS).any(|peer| self.view.load(DEATHS + peer) != 0) {
            drop(guard);
            loom::thread::yield_now();
        } else if self.view.load(at) as u32 == expected as u32 {
            drop(bed.wait(guard).unwrap());
        }
        Duration::ZERO
    }

    fn wake(&self, at: WordIndex) {
        let (lock, bed) = &self.scene.beds[&at.0];
        let _guard = lock.lock().unwrap();
        bed.notify_one();
    }

    fn wake_all(&self, at: WordIndex) {
        let (lock, bed) = &self.scene.beds[&at.0];
        let _guard = lock.lock().unwrap();
        bed.notify_all();
    }
}

impl Roll for Peer {
    fn me(&self) -> Result<PeerId> {
        Ok(self.me)
    }

    fn is_alive(&self, peer: PeerId) -> bool {
        self.view.load(DEATHS + ((peer.word() & 0xffff) - 1)) == 0
    }
}

impl Peer {
    fn waiting() -> Waiting {
        Waiting::new(Patience::ASLEEP, "it")
    }

    /// It has executed its last store, and the kernel says so.
    fn die(&self) {
        self.store(DEATHS + ((self.me.word() & 0xffff) - 1), 1);
        for at in self.scene.beds.keys() {
            self.wake_all(WordIndex(*at));
        }
    }

    fn lock(&self, want: Want) -> Result<bool> {
        let acquired = OWNED().acquire(self, self, self.me, want, &mut Self::waiting());
        acquired.map(|(in_doubt, _)| in_doubt)
    }

    fn unlock(&self) {
        OWNED().release(self, self.me);
    }

    fn count(&self) {
        self.store(TIMES, self.load(TIMES) + 1);
    }

    fn write_pair(&self) {
        let value = self.load(PAIR[0]) + 1;
        for at in PAIR {
            self.store(at, value);
        }
    }

    fn check_pair(&self) -> u64 {
        let pair = PAIR.map(|at| self.load(at));
        assert_eq!(pair[0], pair[1], "half a change");
        pair[0]
    }

    fn shared() -> SharedLock {
        SharedLock { writer: OWNED(), readers: Readers::of(TABLE, ENTRIES) }
    }

    fn read(&self) -> Result<u64> {
        let among = Self::shared().read(self, self, self.me, &mut Self::waiting())?;
        let value = self.check_pair();
        Self::shared().readers.leave(self, self.me, &among);
        Ok(value)
    }

    fn begin_write(&self, want: Want) -> Result<bool> {
        let written = Self::shared().write(self, self, self.me, want, &mut Self::waiting());
        written.map(|(in_doubt, _)| in_doubt)
    }

    fn write(&self) {
        self.begin_write(Want::Sound).unwrap();
        self.write_pair();
        OWNED().release_to_all(self, self.me);
    }
}

fn is_death(error: &Error) -> bool {
    matches!(error, Error::OwnerDied { .. })
}
