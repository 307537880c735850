//! Schedules: threads that stand for peers, each stopped at accesses that are named beforehand, and
//! sent on, or killed there, one after the other. So what takes three of them in one order is done
//! in that order.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::memory::{Chunks, HEAD, HEADER, Shared, THREADS};
use crate::first_fit::layout::{Area, LENGTH, Layout, Position};
use crate::first_fit::{Fault, FirstFit, Operator, Surroundings};
use crate::os::Parking;
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, PeerSlot, WordIndex};

/// Patience ends at once.
#[derive(Clone, Copy)]
struct Impatient;

impl Parking for Impatient {
    fn wait(&self, _word: &AtomicU64, _expected: u64, timeout: Duration) -> Duration {
        std::thread::yield_now();
        timeout
    }

    fn wake(&self, _word: &AtomicU64) {}

    fn wake_all(&self, _word: &AtomicU64) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Load(WordIndex),
    Store(WordIndex),
    Exchange(WordIndex),
}

/// How the thread of a killed peer ends.
struct Killed;

/// The memory as a peer sees it that stops before the accesses of a list, in that order.
struct Stopping<'m> {
    row: Shared<'m, Impatient>,
    stops: Mutex<Vec<Access>>,
    has_stopped: Sender<()>,
    goes_on: Mutex<Receiver<bool>>,
}

impl Stopping<'_> {
    fn at(&self, access: Access) {
        let mut stops = self.stops.lock().unwrap();
        if stops.first() == Some(&access) {
            stops.remove(0);
            drop(stops);
            self.has_stopped.send(()).unwrap();
            if !self.goes_on.lock().unwrap().recv().unwrap_or(false) {
                resume_unwind(Box::new(Killed));
            }
        }
    }
}

impl Words for &Stopping<'_> {
    fn load(&self, at: WordIndex) -> u64 {
        self.at(Access::Load(at));
        self.row.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.row.load_line(at)
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.at(Access::Store(at));
        self.row.store(at, value);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.at(Access::Exchange(at));
        self.row.compare_exchange(at, current, new)
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.row.wait(at, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.row.wake(at);
    }

    fn wake_all(&self, at: WordIndex) {
        self.row.wake_all(at);
    }
}

/// The heap, and who is dead. Only area 0 has storage for more than so many granules.
struct World {
    engine: FirstFit,
    memory: Chunks,
    dead: Mutex<Vec<PeerSlot>>,
    stored_elsewhere: u64,
}

impl Surroundings for World {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        self.dead.lock().unwrap().contains(&peer)
    }

    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, area: Area, granules: u64) -> Result<(), Fault> {
        let is_there = area == Area::FIRST || granules <= self.stored_elsewhere;
        if is_there { Ok(()) } else { Err(Fault::NoStorage) }
    }

    fn has_storage(&self, area: Area, granules: u64) -> bool {
        self.ensure_storage(area, granules).is_ok()
    }

    fn ensure_records(&self, area: Area, granules: u64) -> Result<(), Fault> {
        self.ensure_storage(area, granules)
    }
}

/// A peer at work, as the test holds it.
struct Peer<'s, T> {
    thread: ScopedJoinHandle<'s, T>,
    has_stopped: Receiver<()>,
    goes_on: Sender<bool>,
}

impl<T> Peer<'_, T> {
    fn stops(&self) {
        self.has_stopped.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    fn go_on(&self) {
        self.goes_on.send(true).unwrap();
    }

    fn ends(self) -> T {
        self.thread.join().unwrap()
    }

    fn dies(self) {
        self.goes_on.send(false).unwrap();
        assert!(self.thread.join().is_err_and(|payload| payload.is::<Killed>()));
    }
}

impl World {
    fn new(granules: u64) -> Self {
        let layout = Layout::new(THREADS.end(), 400).unwrap();
        let memory = Chunks::new(layout.end().word().0);
        let engine = FirstFit::new(&layout, HEADER, THREADS, 16);
        engine.format(&Shared::new(&memory, Impatient), granules);
        Self { engine, memory, dead: Mutex::new(vec![]), stored_elsewhere: u64::MAX }
    }

    fn row(&self) -> Shared<'_, Impatient> {
        Shared::new(&self.memory, Impatient)
    }

    /// A peer that is stopped by nobody.
    fn by(&self, peer: u16) -> Operator<'_, Shared<'_, Impatient>, Self> {
        self.engine.operator(self.row(), PeerSlot(peer), self)
    }

    fn in_head(&self, area: u8, word: u64) -> WordIndex {
        HEAD + self.engine.layout().displacement(Area(area)) + word
    }

    fn start<'s, T: Send + 's>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        peer: u16,
        stops: &[Access],
        work: impl FnOnce(&Operator<'_, &Stopping<'_>, Self>) -> T + Send + 's,
    ) -> Peer<'s, T> {
        let (send, has_stopped) = channel();
        let (goes_on, receive) = channel();
        let view = Stopping {
            row: self.row(),
            stops: Mutex::new(stops.to_vec()),
            has_stopped: send,
            goes_on: Mutex::new(receive),
        };
        let thread = scope.spawn(move || work(&self.engine.operator(&view, PeerSlot(peer), self)));
        Peer { thread, has_stopped, goes_on }
    }

    fn expect_sound(&self) {
        assert_eq!(self.by(9).session().unwrap().audit(4).flaws, []);
    }
}

const LOCK: Access = Access::Exchange(HEADER.lock);
const CURRENT: Access = Access::Exchange(HEADER.current);

/// A growth that comes to nothing has left its length in the area that readers still look at, when
/// that is copied to: it neither makes the last object longer nor gets into the header.
#[test]
fn a_growth_that_came_to_nothing_is_not_believed() {
    let world = World::new(120);
    let row = world.row();
    std::thread::scope(|scope| {
        let world = &world;
        // A growth to 128 that is done, but for the header's length.
        let late = world.start(scope, 0, &[Access::Load(HEADER.length)], |operator| {
            operator.grow(Position(128)).unwrap();
        });
        late.stops();
        let last = world.by(9).alloc(128, 1).unwrap().unwrap();
        // One to 300, that is stopped before it is announced.
        let stops = [Access::Store(world.in_head(0, 1)), LOCK];
        let lost = world.start(scope, 1, &stops, |operator| operator.grow(Position(300)));
        lost.stops();
        // Its thief is stopped before it sends readers elsewhere.
        let thief = world.start(scope, 2, &[CURRENT], |operator| operator.last_gap());
        thief.stops();
        lost.go_on();
        lost.stops();
        world.dead.lock().unwrap().push(PeerSlot(1));
        lost.dies();
        assert_eq!(world.engine.end(&row, world.engine.current(&row)), Position(300), "to be seen");
        late.go_on();
        late.ends();
        assert_eq!(row.load(HEADER.length), 128 * 16);
        // The thief's thief copies to where readers are.
        let stops = [Access::Store(world.in_head(0, LENGTH + 1))];
        let next = world.start(scope, 3, &stops, |operator| operator.last_gap());
        next.stops();
        let area = world.engine.current(&row);
        let end = world.engine.end(&row, area);
        assert_eq!(world.engine.next_start(&row, area, last, end), Position(128));
        next.go_on();
        next.ends().unwrap();
        thief.go_on();
        thief.ends().unwrap();
    });
    world.expect_sound();
    assert_eq!(row.load(HEADER.length), 128 * 16);
}

/// Whoever was robbed and goes on leaves its area, whoever is stopped meanwhile.
#[test]
fn those_who_were_robbed_do_not_use_the_areas_up() {
    let world = World::new(256);
    std::thread::scope(|scope| {
        let world = &world;
        let peers: Vec<_> = (0..4_u8)
            .map(|area| {
                let stops = [Access::Store(world.in_head(area, 1)), LOCK];
                let peer = world.start(scope, area.into(), &stops, |operator| {
                    operator.alloc(3, 1).unwrap().unwrap()
                });
                peer.stops();
                // Outside the lock, it would seem: before it is refused.
                if area < 3 {
                    peer.go_on();
                    peer.stops();
                }
                peer
            })
            .collect();
        let [first, second, third, stopped] = <[_; 4]>::try_from(peers).ok().unwrap();
        for robbed in [&first, &second, &third] {
            robbed.go_on();
        }
        let mut made = vec![first.ends(), second.ends(), third.ends()];
        stopped.go_on();
        stopped.stops();
        stopped.go_on();
        made.push(stopped.ends());
        made.sort_unstable();
        assert_eq!(made, [0, 3, 6, 9].map(Position));
    });
    world.expect_sound();
}

/// Who comes late, after a free was completed for it, leaves what is there by now alone.
#[test]
fn what_a_thief_has_completed_is_not_done_again() {
    let world = World::new(256);
    let object = world.by(9).alloc(8, 1).unwrap().unwrap();
    std::thread::scope(|scope| {
        let stops = [Access::Store(world.in_head(0, 1)), LOCK];
        let freer = world.start(scope, 1, &stops, |operator| operator.free(object));
        freer.stops();
        freer.go_on();
        freer.stops();
        assert_eq!(world.by(2).alloc(8, 1), Ok(Some(object)));
        freer.go_on();
        assert_eq!(freer.ends(), Ok(()));
    });
    assert_eq!(world.by(2).alloc(8, 1), Ok(Some(Position(8))));
    world.expect_sound();
}

/// Two thieves are stopped in the middle of their copies; everybody else goes on.
#[test]
fn two_stopped_thieves_keep_nobody_waiting() {
    let world = World::new(256);
    std::thread::scope(|scope| {
        let world = &world;
        let stops = [Access::Store(world.in_head(0, 1))];
        let holder = world.start(scope, 0, &stops, |operator| operator.alloc(3, 1).unwrap());
        holder.stops();
        let thief = |area: u8| {
            let stops = [Access::Store(world.in_head(area, LENGTH))];
            let thief = world.start(scope, area.into(), &stops, |operator| operator.last_gap());
            thief.stops();
            thief
        };
        let thieves = [thief(1), thief(2)];
        holder.go_on();
        assert_eq!(holder.ends(), Some(Position(0)));
        assert_eq!(world.by(9).alloc(3, 1).unwrap(), Some(Position(3)));
        for thief in thieves {
            thief.go_on();
            thief.ends().unwrap();
        }
    });
    world.expect_sound();
}

/// Somebody begins to wait just when the lock of the dead is taken over.
#[test]
fn who_begins_to_wait_does_not_keep_an_adopter_from_the_lock() {
    let world = World::new(256);
    let row = world.row();
    std::mem::forget(world.by(1).session().unwrap());
    std::thread::scope(|scope| {
        let world = &world;
        let adopter = world.start(scope, 1, &[LOCK], |operator| {
            operator.engine.adopt(&operator.words, PeerSlot(1), world).unwrap();
        });
        adopter.stops();
        let word = row.load(HEADER.lock);
        row.compare_exchange(HEADER.lock, word, word | 1 << 16).unwrap();
        adopter.go_on();
        adopter.ends();
    });
    assert_eq!(world.engine.lock_holder(&row), None);
    world.expect_sound();
}

/// A grower is stopped, and there is storage for what it adds in its area alone.
#[test]
fn a_stopped_growth_without_storage_elsewhere_stops_nobody() {
    for (is_announced, is_full) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = World { stored_elsewhere: 128, ..World::new(128) };
        let object = world.by(9).alloc(8, 1).unwrap().unwrap();
        // What is added is a block of its own if the last one is no gap.
        let last = is_full.then(|| world.by(9).alloc(120, 1).unwrap().unwrap());
        std::thread::scope(|scope| {
            let world = &world;
            let word = if is_announced { LENGTH } else { 1 };
            let stops = [Access::Store(world.in_head(0, word))];
            let grower = world.start(scope, 1, &stops, |operator| operator.grow(Position(300)));
            grower.stops();
            assert_eq!(world.by(2).free(object), Ok(()));
            world.expect_sound();
            grower.go_on();
            assert_eq!(grower.ends(), Err(Fault::NoStorage), "not in the area that is in use now");
        });
        let gap = last.map_or(Position(0), |_| Position(128));
        assert_eq!(world.by(2).last_gap(), Ok((gap, Position(128))));
        world.expect_sound();
    }
}

/// However many sessions there were since readers were last sent elsewhere.
#[test]
fn readers_are_sent_on_after_any_number_of_sessions() {
    for session in [5, (1 << 36) + 5, (1 << 37) - 2] {
        let world = World::new(256);
        let row = world.row();
        row.store(HEADER.lock, session << 27);
        let stopped = world.by(1).session().unwrap();
        let at = world.by(2).alloc(5, 1).unwrap().unwrap();
        let area = world.engine.current(&row);
        assert_ne!(area, Area::FIRST);
        assert_eq!(world.engine.expect_live(&row, area, at, Position(256)), Ok(()));
        drop(stopped);
        world.expect_sound();
    }
}

/// An audit takes so long that its lock is stolen, and the heap grows meanwhile.
#[test]
fn an_audit_that_was_robbed_reports_one_moment() {
    let world = World::new(256);
    std::thread::scope(|scope| {
        let world = &world;
        let length = Access::Load(world.in_head(0, LENGTH));
        let auditor = world
            .start(scope, 0, &[length, length], |operator| operator.session().unwrap().audit(4));
        // With the first look at it the session begins.
        auditor.stops();
        auditor.go_on();
        auditor.stops();
        world.by(1).grow(Position(400)).unwrap();
        world.by(1).alloc(300, 1).unwrap().unwrap();
        auditor.go_on();
        let audit = auditor.ends();
        assert_eq!((audit.flaws, audit.live_objects), (vec![], 0), "as it was before");
    });
    world.expect_sound();
}
