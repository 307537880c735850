//! Shared memory for loom: every order in which threads may see each other's stores is tried.
//!
//! A *memory* holds the few words and states that a scene is about; each thread of the scene looks
//! at it through a *view* of its own.
//!
//! # Ordering
//!
//! Loom takes a sequentially consistent access for an acquiring and releasing one, so the contract
//! of [`Words`] is spelled out in fences. What it promises is that of two peers who each exchange
//! one word and then look at the other's, one sees the other: a view puts a fence between an
//! exchange and the thread's next access to a word. Between an exchange and a look at *states*
//! there is none, nor between two loads: that is what the language promises, less than any
//! processor does. So the engine's own fences are what the rest hangs on, and a view without them
//! is the mutation that shows that they are needed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use loom::thread::JoinHandle;

use super::states::{STATES_PER_LINE, State, StateIndex, States};
use super::words::Words;
use crate::units::{LINE_WORDS, WordIndex};

/// Plays a scene in every order in which threads take turns and see each other's stores, but for
/// those with more switches than that away from a thread that could go on.
pub(crate) fn explore(switches: usize, scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = Some(switches);
    let (scene, count) = (Arc::new(scene), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&count);
    builder.check(move || {
        *counted.lock().unwrap() += 1;
        let scene = Arc::clone(&scene);
        start(move || scene()).join().unwrap();
    });
    println!("{} orders", count.lock().unwrap());
}

/// Starts a thread of a scene, with room for what a thread has in hand.
pub(crate) fn start<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    const STACK_WORDS: usize = 64 << 10;
    loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(run).unwrap()
}

/// The words and states of a scene; any other word must not be touched, any other state is free.
#[derive(Debug)]
pub(crate) struct Memory {
    words: BTreeMap<u64, AtomicU64>,
    /// Words that nobody changes, which loom need not know of.
    constants: BTreeMap<u64, u64>,
    states: BTreeMap<u64, AtomicU8>,
}

/// A memory as one thread sees it.
#[derive(Debug)]
pub(crate) struct View {
    memory: Arc<Memory>,
    /// Whether the engine's fences order anything.
    has_fences: bool,
    /// Whether the thread has exchanged a word since its last fence.
    has_exchanged: Cell<bool>,
}

impl Memory {
    /// A memory of zeros, and of words that keep the value they have here.
    pub(crate) fn new(
        words: impl IntoIterator<Item = WordIndex>,
        states: impl IntoIterator<Item = StateIndex>,
        constants: &[(WordIndex, u64)],
    ) -> Arc<Self> {
        Arc::new(Self {
            words: words.into_iter().map(|at| (at.0, AtomicU64::new(0))).collect(),
            constants: constants.iter().map(|&(at, value)| (at.0, value)).collect(),
            states: states.into_iter().map(|at| (at.0, AtomicU8::new(0))).collect(),
        })
    }

    /// The view of a thread.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        View { memory: Arc::clone(self), has_fences: true, has_exchanged: Cell::new(false) }
    }

    /// The view of a thread whose fences are no good.
    pub(crate) fn view_without_fences(self: &Arc<Self>) -> View {
        View { has_fences: false, ..self.view() }
    }
}

impl View {
    fn word(&self, at: WordIndex) -> &AtomicU64 {
        self.memory.words.get(&at.0).unwrap_or_else(|| panic!("{at:?} is not in the scene"))
    }

    /// The fence between an exchange and what the thread does to words next.
    fn settle(&self) {
        if self.has_exchanged.replace(false) {
            fence(Ordering::SeqCst);
        }
    }
}

impl Words for View {
    fn load(&self, at: WordIndex) -> u64 {
        if let Some(&constant) = self.memory.constants.get(&at.0) {
            return constant;
        }
        self.settle();
        self.word(at).load(Ordering::Acquire)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.load(at + word as u64))
    }

    fn store(&self, at: WordIndex, value: u64) {
        if let Some(&constant) = self.memory.constants.get(&at.0) {
            return assert_eq!(value, constant, "{at:?} keeps its value");
        }
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.settle();
        let word = self.word(at);
        let exchanged = word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire);
        self.has_exchanged.set(exchanged.is_ok());
        exchanged
    }

    fn fence(&self) {
        if self.has_fences {
            self.has_exchanged.set(false);
            fence(Ordering::SeqCst);
        }
    }

    fn wait(&self, _at: WordIndex, _expected: u64, _timeout: Duration) -> Duration {
        Duration::ZERO
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

impl States for View {
    fn load_state(&self, at: StateIndex) -> State {
        let byte = self.memory.states.get(&at.0);
        byte.map_or(State(0), |byte| State(byte.load(Ordering::Acquire)))
    }

    fn store_state(&self, at: StateIndex, state: State) {
        let byte = self.memory.states.get(&at.0);
        byte.expect("the state is in the scene").store(state.0, Ordering::Release);
    }

    fn free_states(&self, at: StateIndex) -> u64 {
        let is_free = |bit: &u64| !self.load_state(at + *bit).is_live();
        (0..STATES_PER_LINE).filter(is_free).fold(0, |bits, bit| bits | 1 << bit)
    }
}
