//! Channels under loom: the code that runs, in every order of events, over weak memory.
//!
//! Whoever sleeps here sleeps for ever if nobody wakes it, and loom tells.

use std::sync::Arc;
use std::time::Duration;

use ::loom::sync::{Condvar, Mutex};

use super::{DEAD, Peer, id, shape as full_shape, transfer};
use crate::channel::event::{Look, Patience};
use crate::channel::sequence::{Core, Received};
use crate::channel::shape::Shape;
use crate::channel::words::State;
use crate::heap::Span;
use crate::object::value;
use crate::segment::interleaved::{Memory, View, explore, start};
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, WordIndex};

/// A view in which sleepers sleep, by the rules of the kernel's futexes.
struct Bedroom {
    view: View,
    beds: Arc<Beds>,
}

#[derive(Default)]
struct Beds {
    kernel: Mutex<()>,
    items: Condvar,
    room: Condvar,
}

impl Bedroom {
    fn bed(&self, at: WordIndex) -> &Condvar {
        if at == shape(1, 2).items() { &self.beds.items } else { &self.beds.room }
    }
}

impl Words for Bedroom {
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
        let kernel = self.beds.kernel.lock().unwrap();
        if self.view.load(at) as u32 == expected as u32 {
            drop(self.bed(at).wait(kernel).unwrap());
        }
        Duration::ZERO
    }

    fn wake(&self, at: WordIndex) {
        let _kernel = self.beds.kernel.lock().unwrap();
        self.bed(at).notify_one();
    }

    fn wake_all(&self, at: WordIndex) {
        let _kernel = self.beds.kernel.lock().unwrap();
        self.bed(at).notify_all();
    }
}

fn shape(capacity: u64, cells: u64) -> Shape {
    full_shape(capacity).with_cells(cells)
}

struct Scene {
    shape: Shape,
    memory: Arc<Memory>,
    beds: Arc<Beds>,
}

impl Scene {
    fn new(capacity: u64, cells: u64) -> Self {
        let shape = shape(capacity, cells);
        Self { shape, memory: Memory::new(shape.words(), [], &[]), beds: Arc::default() }
    }

    fn words(&self) -> Bedroom {
        Bedroom { view: self.memory.view(), beds: Arc::clone(&self.beds) }
    }

    fn send(&self, numbers: &[u64]) {
        for &number in numbers {
            assert_eq!(try_send(&self.words(), self.shape, 5, number), Some(()));
        }
    }

    /// What is left, once all is quiet.
    fn rest(&self) -> Vec<u64> {
        let words = self.words();
        std::iter::from_fn(|| try_receive(&words, self.shape, 5, Look::Thorough)).collect()
    }

    /// Each number is somewhere, once.
    fn check(&self, received: impl IntoIterator<Item = u64>, sent: &[u64]) {
        let mut all: Vec<_> = received.into_iter().chain(self.rest()).collect();
        all.sort_unstable();
        assert_eq!(all, sent);
        // And the cells are free.
        let words = self.words();
        for cell in 0..self.shape.cells {
            assert_eq!(words.load(self.shape.state(cell)), 0, "cell {cell}");
        }
    }
}

fn try_send(words: &Bedroom, shape: Shape, slot: u16, number: u64) -> Option<()> {
    transfer(words, &Peer(slot), shape).try_send(&number, Look::Quick).unwrap()
}

fn try_receive(words: &Bedroom, shape: Shape, slot: u16, look: Look) -> Option<u64> {
    transfer(words, &Peer(slot), shape).try_receive(look).unwrap()
}

#[test]
fn of_two_senders_neither_is_lost() {
    explore(3, || {
        let scene = Scene::new(2, 4);
        let shape = scene.shape;
        let senders = [1_u16, 2].map(|slot| {
            let words = scene.words();
            start(move || assert_eq!(try_send(&words, shape, slot, slot.into()), Some(())))
        });
        let words = scene.words();
        let received = [(); 2].map(|()| try_receive(&words, shape, 3, Look::Quick));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        scene.check(received.into_iter().flatten(), &[1, 2]);
    });
}

#[test]
fn of_two_receivers_each_has_what_the_other_has_not() {
    explore(3, || {
        let scene = Scene::new(2, 3);
        let shape = scene.shape;
        scene.send(&[1]);
        let receivers = [1_u16, 2].map(|slot| {
            let words = scene.words();
            start(move || try_receive(&words, shape, slot, Look::Quick))
        });
        let words = scene.words();
        assert_eq!(try_send(&words, shape, 3, 2), Some(()));
        let received = receivers.map(|receiver| receiver.join().unwrap());
        assert!(received.iter().any(Option::is_some), "there was one before");
        scene.check(received.into_iter().flatten(), &[1, 2]);
    });
}

#[test]
fn slots_and_cells_are_used_again() {
    explore(3, || {
        let scene = Scene::new(1, 2);
        let shape = scene.shape;
        scene.send(&[1]);
        let words = scene.words();
        let receiver = start(move || [(); 2].map(|()| try_receive(&words, shape, 1, Look::Quick)));
        let words = scene.words();
        let sent = [2, 3].map(|number| (number, try_send(&words, shape, 2, number)));
        let received: Vec<_> = receiver.join().unwrap().into_iter().flatten().collect();
        assert!(received.is_sorted(), "{received:?}");
        let sent = sent.into_iter().filter_map(|(number, sent)| sent.map(|()| number));
        let sent: Vec<_> = [1].into_iter().chain(sent).collect();
        scene.check(received, &sent);
    });
}

#[test]
fn what_the_dead_had_claimed_goes_to_one_of_those_who_find_it() {
    explore(3, || {
        let scene = Scene::new(2, 3);
        let shape = scene.shape;
        let words = scene.words();
        value::store(&words, Shape::value(shape.state(1)), &9_u64);
        words.store(shape.state(1), State::Receiving(Some(id(DEAD))).word());
        let finders = [1_u16, 2].map(|slot| {
            let words = scene.words();
            start(move || try_receive(&words, shape, slot, Look::Thorough))
        });
        let received = finders.map(|finder| finder.join().unwrap());
        assert!(received.iter().any(Option::is_some), "one of them finds it");
        scene.check(received.into_iter().flatten(), &[9]);
    });
}

/// A mark of the dead for an open turn, which a sender is about to take.
#[test]
fn what_the_dead_had_marked_is_sent_once_or_not_at_all() {
    explore(3, || {
        let scene = Scene::new(2, 4);
        let shape = scene.shape;
        let words = scene.words();
        words.store(Shape::owner(shape.state(3)), id(DEAD).word());
        value::store(&words, Shape::value(shape.state(3)), &9_u64);
        words.store(shape.state(3), State::Queued(0).word());
        let words = scene.words();
        let finder = start(move || try_receive(&words, shape, 1, Look::Thorough));
        let words = scene.words();
        assert_eq!(try_send(&words, shape, 2, 1), Some(()));
        let received = finder.join().unwrap();
        let mut all: Vec<_> = received.into_iter().chain(scene.rest()).collect();
        all.retain(|&number| number != 9);
        assert_eq!(all, [1]);
        scene.check([], &[]);
    });
}

/// Receivers that wait, and a sender.
fn waits(receivers: u64) {
    explore(3, move || {
        let scene = Scene::new(2, 4);
        let shape = scene.shape;
        let receiving: Vec<_> = (0..receivers)
            .map(|number| {
                let words = scene.words();
                start(move || {
                    let peer = Peer(10 + number as u16);
                    transfer(words, &peer, shape).receive(Patience::ENDLESS).unwrap().unwrap()
                })
            })
            .collect();
        let words = scene.words();
        let sent: Vec<_> = (1..=receivers).collect();
        for &number in &sent {
            assert_eq!(try_send(&words, shape, 1, number), Some(()));
        }
        let received: Vec<_> = receiving.into_iter().map(|it| it.join().unwrap()).collect();
        scene.check(received, &sent);
    });
}

#[test]
fn no_wake_up_is_lost() {
    waits(1);
}

#[test]
fn no_wake_up_is_lost_by_one_who_passes_it_on() {
    waits(2);
}

#[test]
fn who_waits_for_room_is_woken() {
    explore(3, || {
        let scene = Scene::new(1, 2);
        let shape = scene.shape;
        scene.send(&[1]);
        let words = scene.words();
        let sender = start(move || {
            transfer(words, &Peer(1), shape).send(&2, Patience::ENDLESS).unwrap().unwrap();
        });
        let words = scene.words();
        assert_eq!(try_receive(&words, shape, 2, Look::Quick), Some(1));
        sender.join().unwrap();
        scene.check([1], &[1, 2]);
    });
}

#[test]
fn who_waits_is_told_that_it_is_closed() {
    explore(3, || {
        let scene = Scene::new(1, 2);
        let shape = scene.shape;
        let words = scene.words();
        let receiver = start(move || transfer(words, &Peer(1), shape).receive(Patience::ENDLESS));
        transfer(&scene.words(), &Peer(2), shape).close();
        assert!(receiver.join().unwrap().is_err());
    });
}

/// A value that is read is whole, whatever the writer is at.
#[test]
fn no_reader_sees_a_mixture() {
    explore(2, || {
        let core = broadcast();
        let words = core.words().chain((1..=2).map(|word| core.slot(0) + word));
        let memory = Memory::new(words.chain((1..=2).map(|word| core.slot(1) + word)), [], &[]);
        let view = memory.view();
        let writer = start(move || {
            for number in 1..=3_u64 {
                core.write(&view, &[number, number]);
            }
        });
        let view = memory.view();
        let mut position = 0;
        for _ in 0..3 {
            match core.next::<[u64; 2]>(&view, &mut position) {
                Some(Received::Value([one, other])) => {
                    assert_eq!((one, other), (position, position))
                }
                Some(Received::Lagged { missed }) => assert!(missed > 0 && position <= 3),
                None => {}
            }
        }
        if let Some([one, other]) = core.latest::<[u64; 2]>(&view) {
            assert_eq!(one, other);
        }
        writer.join().unwrap();
        assert_eq!(core.latest(&memory.view()), Some([3_u64, 3]));
    });
}

#[test]
fn of_two_who_would_write_one_does() {
    explore(3, || {
        let core = broadcast();
        let memory = Memory::new(core.words(), [], &[]);
        memory.view().store(core.writer(), id(DEAD).word());
        let claims = [1_u16, 2].map(|slot| {
            let view = memory.view();
            start(move || core.claim(&view, &Peer(slot)).is_ok())
        });
        let claims = claims.map(|claim| claim.join().unwrap());
        assert!(claims[0] != claims[1], "{claims:?}");
    });
}

#[test]
fn readers_that_sleep_are_all_woken() {
    explore(3, || {
        let core = broadcast();
        let words = core.words().chain([core.slot(0) + 1, core.slot(1) + 1]);
        let (memory, beds) = (Memory::new(words, [], &[]), Arc::<Beds>::default());
        let bedroom =
            |memory: &Arc<Memory>| Bedroom { view: memory.view(), beds: Arc::clone(&beds) };
        let readers = [(); 2].map(|()| {
            let words = bedroom(&memory);
            start(move || {
                let mut position = 0;
                let attempt = |_: Look| Ok(core.next::<u64>(&words, &mut position));
                core.news().wait(&words, Patience::ENDLESS, attempt, || false).unwrap()
            })
        });
        core.write(&bedroom(&memory), &7_u64);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Some(Received::Value(7)));
        }
    });
}

fn broadcast() -> Core {
    let words = Core::layout_words(2, 2).unwrap();
    Core::new(Span { first: WordIndex(0), words }, 2, 2).unwrap()
}
