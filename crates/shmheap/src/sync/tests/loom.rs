//! The protocols themselves under loom: peers that lock, wait, notify and die at once, over weak
//! memory.
//!
//! A sleeper sleeps until it is woken, for ever if need be: a wake that is lost is a deadlock, which
//! loom finds. But as soon as somebody is dead, who wakes nobody, all sleeps are over at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread::JoinHandle;

use crate::peers::{PeerId, Roll};
use crate::segment::interleaved::{Memory, View, explore, start};
use crate::segment::words::Words;
use crate::sync::bell::{Bell, Listeners};
use crate::sync::once::Deed;
use crate::sync::owned::{Owned, Want};
use crate::sync::permits::Permits;
use crate::sync::readers::Readers;
use crate::sync::semaphore::Count;
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

/// Three peers under a mutex.
#[test]
fn one_at_a_time_is_inside_and_no_wake_is_lost() {
    explore(2, || {
        let scene = Scene::new();
        let peers = [0, 1, 2].map(|slot| {
            scene.spawn(slot, |peer| {
                assert!(!peer.lock(Want::Sound).unwrap());
                peer.count();
                peer.unlock();
            })
        });
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(scene.peer(3).load(TIMES), 3, "one at a time");
        assert_eq!(scene.peer(3).load(LOCK), 0);
    });
}

/// An owner dies inside; two others, one of which dies in its repair.
#[test]
fn the_dead_are_noticed_and_what_they_left_is_repaired() {
    explore(2, || {
        let scene = Scene::new();
        let dying = scene.spawn(0, |peer| {
            let in_doubt = peer.lock(Want::Any).unwrap();
            peer.store(PAIR[0], 7);
            peer.die();
            in_doubt
        });
        let dying_again = scene.spawn(1, |peer| {
            let in_doubt = peer.lock(Want::Any).unwrap();
            assert_eq!(in_doubt, peer.load(PAIR[0]) != 0, "all stores there will ever be");
            peer.store(PAIR[0], 7);
            peer.die();
            in_doubt
        });
        let scene_of_last = scene.clone();
        let last = scene.peer(2);
        match last.lock(Want::Sound) {
            Ok(_) => {
                last.check_pair();
                last.unlock();
            }
            Err(error) => assert!(is_death(&error)),
        }
        let doubts = [dying.join().unwrap(), dying_again.join().unwrap()];
        assert_eq!(doubts.iter().filter(|&&doubt| doubt).count(), 1, "the second finds the first");
        let last = scene_of_last.peer(2);
        assert!(is_death(&last.lock(Want::Sound).unwrap_err()));
        assert!(last.lock(Want::Any).unwrap(), "a repair that was not done is done again");
        last.store(PAIR[1], 7);
        OWNED().set_sound(&last, last.me);
        last.unlock();
        assert!(!last.lock(Want::Sound).unwrap());
        assert_eq!(last.check_pair(), 7);
    });
}

/// A value in doubt and two who can repair it.
#[test]
fn one_repairs_for_both() {
    explore(2, || {
        let scene = Scene::new();
        scene.peer(3).store(LOCK, crate::sync::owned::ORPHANED);
        let peers = [0, 1].map(|slot| {
            scene.spawn(slot, |peer| {
                if peer.lock(Want::Any).unwrap() {
                    peer.count();
                    OWNED().set_sound(peer, peer.me);
                }
                peer.unlock();
            })
        });
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(scene.peer(3).load(TIMES), 1);
    });
}

#[test]
fn who_reads_sees_no_half_change_and_no_wake_is_lost() {
    explore(2, || {
        let scene = Scene::new();
        let readers = [0, 1].map(|slot| scene.spawn(slot, |peer| peer.read().unwrap()));
        let writer = scene.spawn(2, Peer::write);
        for reader in readers {
            assert!(reader.join().unwrap() < 2);
        }
        writer.join().unwrap();
        assert_eq!(scene.peer(3).read().unwrap(), 1);
    });
}

#[test]
fn two_write_and_one_reads() {
    explore(2, || {
        let scene = Scene::new();
        let writers = [0, 1].map(|slot| scene.spawn(slot, Peer::write));
        let reader = scene.spawn(2, |peer| peer.read().unwrap());
        for writer in writers {
            writer.join().unwrap();
        }
        reader.join().unwrap();
        assert_eq!(scene.peer(3).read().unwrap(), 2);
    });
}

/// The table has room for two: the third waits.
#[test]
fn a_reader_without_a_place_gets_one() {
    explore(2, || {
        let scene = Scene::new();
        let readers = [0, 1].map(|slot| scene.spawn(slot, |peer| peer.read().unwrap()));
        scene.peer(2).read().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
        scene.peer(3).write();
    });
}

#[test]
fn threads_of_one_process_share_a_place() {
    explore(2, || {
        let scene = Scene::new();
        let reader = scene.spawn(0, |peer| peer.read().unwrap());
        let writer = scene.spawn(1, Peer::write);
        scene.peer(0).read().unwrap();
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!([0, 1].map(|entry| scene.peer(3).load(TABLE + entry)), [0, 0]);
    });
}

/// A reader dies as one; it keeps no writer out.
#[test]
fn a_dead_reader_leaves_nothing() {
    explore(2, || {
        let scene = Scene::new();
        let reader = scene.spawn(0, |peer| {
            let among = Peer::shared().read(peer, peer, peer.me, &mut Peer::waiting());
            peer.die();
            among.map(drop)
        });
        let writer = scene.peer(2);
        writer.write();
        reader.join().unwrap().unwrap();
        writer.write();
        assert_eq!(writer.read().unwrap(), 2);
    });
}

/// A writer dies before it is inside; nobody is kept out, and nothing is in doubt.
#[test]
fn a_dead_writer_that_was_not_inside_leaves_nothing() {
    explore(2, || {
        let scene = Scene::new();
        let waiting = scene.spawn(1, |peer| {
            let (owned, mut waiting) = (OWNED(), Peer::waiting());
            let reserved = owned.reserve(peer, peer, peer.me, Want::Sound, &mut waiting);
            peer.die();
            reserved
        });
        let writer = scene.peer(2);
        writer.write();
        waiting.join().unwrap().unwrap();
        assert_eq!(writer.read().unwrap(), 1);
    });
}

/// A writer dies inside; a reader sees the value before, or is told.
#[test]
fn a_dead_writer_is_no_secret_to_readers() {
    explore(2, || {
        let scene = Scene::new();
        let writer = scene.spawn(0, |peer| {
            peer.begin_write(Want::Sound).unwrap();
            peer.store(PAIR[0], 1);
            peer.die();
        });
        let reader = scene.peer(1);
        match reader.read() {
            Ok(value) => assert_eq!(value, 0),
            Err(error) => assert!(is_death(&error)),
        }
        writer.join().unwrap();
        assert!(is_death(&reader.read().unwrap_err()));
        assert!(reader.begin_write(Want::Any).unwrap());
    });
}

fn call_once(peer: &Peer) -> bool {
    let deed = Deed { at: LOCK };
    let begun = deed.begin(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
    if begun {
        peer.write_pair();
        deed.end(peer, peer.me, 1 << 17);
    }
    assert_eq!(peer.check_pair(), 1, "it is done, and seen");
    begun
}

#[test]
fn once_is_once_and_seen_by_all() {
    explore(2, || {
        let scene = Scene::new();
        let peers = [0, 1, 2].map(|slot| scene.spawn(slot, call_once));
        let begun = peers.map(|peer| peer.join().unwrap());
        assert_eq!(begun.iter().filter(|&&begun| begun).count(), 1);
        assert!(Deed { at: LOCK }.is_done(&scene.peer(3)));
    });
}

#[test]
fn what_the_dead_began_the_next_one_does() {
    explore(2, || {
        let scene = Scene::new();
        let dying = scene.spawn(0, |peer| {
            let deed = Deed { at: LOCK };
            let begun = deed.begin(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
            peer.die();
            begun
        });
        let next = scene.spawn(1, call_once);
        let last = call_once(&scene.peer(2));
        dying.join().unwrap();
        assert_ne!(next.join().unwrap(), last, "one of the two");
    });
}

#[test]
fn every_permit_that_is_given_is_taken() {
    explore(2, || {
        let scene = Scene::new();
        let count = Count { at: LOCK };
        let takers = [0, 1].map(|slot| {
            scene.spawn(slot, move |peer| count.take(peer, &mut Peer::waiting()).unwrap())
        });
        let giver = scene.peer(2);
        count.give(&giver, 1).unwrap();
        count.give(&giver, 1).unwrap();
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(giver.load(LOCK) >> 1, 0);
    });
}

fn permits(count: u64) -> Permits {
    Permits { bell: Bell::new(BELL), first: TABLE, count }
}

fn count_with_a_permit(peer: &Peer) {
    let number = permits(1).take(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
    peer.count();
    permits(1).give_back(peer, peer.me, number);
}

#[test]
fn as_many_as_there_are_permits_and_no_wake_is_lost() {
    explore(2, || {
        let scene = Scene::new();
        let peers = [0, 1].map(|slot| scene.spawn(slot, count_with_a_permit));
        count_with_a_permit(&scene.peer(2));
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(scene.peer(3).load(TIMES), 3, "one at a time");
    });
}

#[test]
fn the_permit_of_the_dead_goes_to_one() {
    explore(2, || {
        let scene = Scene::new();
        let dying = scene.spawn(0, |peer| {
            permits(1).take(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
            peer.count();
            peer.die();
        });
        let other = scene.spawn(1, count_with_a_permit);
        count_with_a_permit(&scene.peer(2));
        other.join().unwrap();
        dying.join().unwrap();
        assert_eq!(scene.peer(3).load(TIMES), 3, "one at a time");
    });
}

/// Waits under the mutex until the first number is not 0.
fn await_change(peer: &Peer) {
    peer.lock(Want::Sound).unwrap();
    while peer.load(PAIR[0]) == 0 {
        Bell::new(BELL).sleep_without(peer, || peer.unlock(), Duration::ZERO);
        peer.lock(Want::Sound).unwrap();
    }
    peer.unlock();
}

#[test]
fn what_is_notified_is_not_slept_through() {
    for whom in [Listeners::One, Listeners::All] {
        explore(2, move || {
            let scene = Scene::new();
            let waiters = match whom {
                Listeners::One => 1,
                Listeners::All => 2,
            };
            let waiters = (0..waiters).map(|slot| scene.spawn(slot, await_change));
            let waiters: Vec<_> = waiters.collect();
            let notifier = scene.peer(3);
            notifier.lock(Want::Sound).unwrap();
            notifier.store(PAIR[0], 1);
            notifier.unlock();
            Bell::new(BELL).ring(&notifier, whom);
            for waiter in waiters {
                waiter.join().unwrap();
            }
        });
    }
}
