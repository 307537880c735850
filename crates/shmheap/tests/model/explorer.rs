//! Every state that a model can reach, each looked at once.
//!
//! A model is a handful of actors over shared words. Its steps are what one actor does in one
//! instant: one access to shared memory, with the private work around it. [`explore`] follows every
//! step from every state, breadth first, so that a way to something wrong is one of the shortest.
//!
//! Deaths are steps like any other, and models share how they see them: [`Life`]. A dead actor's
//! private state is gone. Whoever adopts it acts in its name, so the dead actor itself takes up
//! work again: it looks at what is left of it in shared memory and repairs that, as any number of
//! adopters one after the other would. An adopter's death puts it back to the start of that look.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};

/// How many actors and adopters may die on one way.
pub(crate) const DEATHS: u8 = 3;

/// Whether an actor is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Life {
    Alive,
    /// What the actor does from here on is done by adopters.
    Dead,
    /// Nothing was left to repair.
    Adopted,
}

pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;

    fn start(&self) -> Self::State;

    /// Everything that can happen next.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// Whether the living are between two operations and the dead are adopted.
    fn is_quiet(&self, state: &Self::State) -> bool;

    /// What must never be seen, not even for an instant.
    fn wrong(&self, state: &Self::State) -> Option<&'static str>;

    /// What must not be seen in a quiet state.
    fn wrong_when_quiet(&self, state: &Self::State) -> Option<&'static str>;
}

/// The steps out of one state.
pub(crate) struct Steps<S>(Vec<Step<S>>);

struct Step<S> {
    actor: usize,
    does: &'static str,
    to: S,
}

impl<S> Steps<S> {
    /// `actor` does what `does` says, which leads to `to`.
    pub(crate) fn add(&mut self, actor: usize, does: &'static str, to: S) {
        self.0.push(Step { actor, does, to });
    }
}

/// What an exploration met.
pub(crate) struct Outcome<S> {
    states: usize,
    quiet: usize,
    wrong: Option<Wrong<S>>,
}

struct Wrong<S> {
    what: &'static str,
    /// Who did what, one after the other.
    way: Vec<String>,
    state: S,
}

impl<S: Debug> Debug for Wrong<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, by this way:", self.what)?;
        self.way.iter().try_for_each(|step| writeln!(f, "    {step}"))?;
        writeln!(f, "{:#?}", self.state)
    }
}

/// The whole model is explored, and nothing is wrong in it.
pub(crate) fn assert_holds<M: Model>(name: &str, model: &M) {
    let Outcome { states, quiet, wrong } = explore(model);
    println!("{name}: {states} states, {quiet} of them quiet");
    if let Some(wrong) = wrong {
        panic!("{name}: {wrong:?}");
    }
}

/// The model is broken on purpose, and `what` is found to be wrong with it.
///
/// `SHMHEAP_WAYS=1` prints the way to it.
pub(crate) fn assert_caught<M: Model>(mutation: impl Debug, model: &M, what: &str) {
    let Outcome { states, wrong, .. } = explore(model);
    let Some(wrong) = wrong else { panic!("{mutation:?} was not caught in {states} states") };
    println!("{mutation:?}: caught after {states} states, {} steps deep", wrong.way.len());
    if std::env::var_os("SHMHEAP_WAYS").is_some() {
        println!("{wrong:?}");
    }
    assert_eq!(wrong.what, what, "{mutation:?}: {wrong:?}");
}

fn explore<M: Model>(model: &M) -> Outcome<M::State> {
    let mut met = Met::new(model.start());
    let mut steps = Steps(vec![]);
    let mut quiet = 0;
    let mut next = 0;
    while next < met.states.len() {
        let state = met.states[next];
        let is_quiet = model.is_quiet(&state);
        quiet += usize::from(is_quiet);
        let wrong = model.wrong(&state);
        let wrong = wrong.or_else(|| model.wrong_when_quiet(&state).filter(|_| is_quiet));
        if let Some(what) = wrong {
            let wrong = Wrong { what, way: met.way(model, next), state };
            return Outcome { states: met.states.len(), quiet, wrong: Some(wrong) };
        }
        model.steps(&state, &mut steps);
        for step in steps.0.drain(..) {
            met.insert(step.to, next);
        }
        next += 1;
    }
    Outcome { states: met.states.len(), quiet, wrong: None }
}

/// The states met so far, in the order in which they were met, and whence each was first met.
///
/// A set that keeps its own copy of the states would double the memory; this one keeps numbers.
struct Met<S> {
    states: Vec<S>,
    from: Vec<u32>,
    /// Open addressing: the number of a state plus 1, or 0. At most half full.
    slots: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Met<S> {
    fn new(start: S) -> Self {
        let mut met = Self { states: vec![], from: vec![], slots: vec![0; 1 << 10] };
        met.insert(start, 0);
        met
    }

    fn insert(&mut self, state: S, from: usize) {
        let slot = self.slot(&state);
        if self.slots[slot] != 0 {
            return;
        }
        self.states.push(state);
        self.from.push(u32::try_from(from).unwrap());
        self.slots[slot] = u32::try_from(self.states.len()).unwrap();
        if self.states.len() * 2 > self.slots.len() {
            self.grow();
        }
    }

    /// Where a state is, or where it would go.
    fn slot(&self, state: &S) -> usize {
        let mut hasher = Folding(0);
        state.hash(&mut hasher);
        let mask = self.slots.len() - 1;
        // The upper half of a product depends on all of its factors.
        let mut slot = (hasher.finish() >> 32) as usize & mask;
        while self.slots[slot] != 0 && self.states[self.slots[slot] as usize - 1] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        for number in 0..self.states.len() {
            let slot = self.slot(&self.states[number]);
            self.slots[slot] = u32::try_from(number + 1).unwrap();
        }
    }

    /// The steps from the start to a state. Their names are not kept: each is looked up again among
    /// the steps out of the state before.
    fn way(&self, model: &impl Model<State = S>, to: usize) -> Vec<String> {
        let mut way = vec![];
        let mut at = to;
        while at != 0 {
            let from = self.from[at] as usize;
            let mut steps = Steps(vec![]);
            model.steps(&self.states[from], &mut steps);
            let step = steps.0.iter().find(|step| step.to == self.states[at]).unwrap();
            way.push(format!("{} {}", step.actor, step.does));
            at = from;
        }
        way.reverse();
        way
    }
}

/// Much faster than the standard hash, whose protection from chosen keys nobody needs here.
struct Folding(u64);

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    // A derived hash writes which variant an enumeration has in this way.
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
