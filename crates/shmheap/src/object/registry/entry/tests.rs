//! Entries by themselves: what happens between two accesses that a protocol relies on.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::*;
use crate::os::Futex;
use crate::segment::words::Row;
use crate::units::{LINE_WORDS, PeerSlot};

const AT: WordIndex = WordIndex(32);

fn memory() -> Vec<AtomicU64> {
    (0..96).map(|_| AtomicU64::new(0)).collect()
}

fn peer(number: u16) -> PeerId {
    PeerId::new(PeerSlot(number), 1)
}

fn made<W: Words>(entry: Entry<W>) -> u64 {
    assert!(entry.claim(entry.state(), peer(0)));
    entry.describe(Description::of::<u64>(), "");
    assert!(entry.advance(State::busy(peer(0)), entry.made(false)));
    entry.incarnation()
}

/// Knows of one that is dead.
struct Dead(PeerId);

impl Roll for Dead {
    fn me(&self) -> Result<PeerId> {
        Ok(peer(0))
    }

    fn is_alive(&self, peer: PeerId) -> bool {
        peer != self.0
    }
}

#[test]
fn the_word_of_a_living_holder_is_nobody_elses() {
    let memory = memory();
    let words = Row::new(&memory, Futex);
    let (me, other) = (peer(0), peer(1));
    let may_have = |found: u64, roll: Option<&dyn Roll>| {
        words.store(AT, found);
        let has_it = hold(&words, AT, me, roll);
        assert_eq!(words.load(AT), if has_it { me.word() } else { found });
        has_it
    };
    assert!(may_have(0, None));
    assert!(!may_have(other.word(), None), "who does not ask takes none");
    assert!(!may_have(other.word(), Some(&Dead(me))));
    assert!(may_have(other.word(), Some(&Dead(other))));
    assert!(!may_have(me.word(), Some(&Dead(me))), "it is another reference of this process");
    for (found, is_one) in [(0, false), (other.word(), true), (peer(2).word(), false)] {
        words.store(AT, found);
        assert_eq!(is_held(&words, AT, me, &Dead(peer(2))), is_one);
    }
}

#[test]
fn who_attaches_while_another_looks_keeps_the_object() {
    let memory = memory();
    let entry = Entry { words: Row::new(&memory, Futex), at: AT };
    let incarnation = made(entry);
    let looks = Cell::new(0);
    let is_held = || {
        looks.set(looks.get() + 1);
        // The other has been overlooked the first time: it comes behind the look.
        looks.get() > 1 || entry.join(incarnation, || Ok(()), |()| ()).unwrap().is_none()
    };
    assert!(!entry.retire(peer(0), is_held), "it is held");
    assert_eq!((looks.get(), entry.state().phase()), (2, Phase::Nameless));
}

#[test]
fn what_changes_while_it_is_looked_at_counts_for_nothing() {
    let memory = memory();
    let entry = Entry { words: Row::new(&memory, Futex), at: AT };
    let incarnation = made(entry);
    assert_eq!(entry.steadily(|seen| seen.phase()), Some(Phase::Nameless));
    // One that is attached to is the same.
    let attach = |_| entry.join(incarnation, || Ok(()), |()| ()).unwrap().is_some();
    assert_eq!(entry.steadily(attach), Some(true));
    let next_use = |_| {
        assert!(entry.retire(peer(0), || false));
        entry.free();
        made(entry);
    };
    assert_eq!(entry.steadily(next_use), None);
    let retire = |_| assert!(entry.retire(peer(0), || false));
    assert_eq!(entry.steadily(retire), None);
}

/// Words that look at each exchange of an entry's state.
struct Watched<'m>(Row<'m, Futex>);

impl Words for Watched<'_> {
    fn load(&self, at: WordIndex) -> u64 {
        self.0.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.0.load_line(at)
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.0.store(at, value);
    }

    fn compare_exchange(
        &self,
        at: WordIndex,
        current: u64,
        new: u64,
    ) -> std::result::Result<u64, u64> {
        let (seen, next) = (State(current), State(new));
        if at == AT + STATE && matches!(next.phase(), Phase::Busy(_)) && seen.owner().is_none() {
            // Who is killed right behind this must not leave a count to be used again.
            assert!(self.0.load(AT + FLOOR) > seen.count(), "the floor comes first");
        }
        self.0.compare_exchange(at, current, new)
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.0.wait(at, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.0.wake(at);
    }

    fn wake_all(&self, at: WordIndex) {
        self.0.wake_all(at);
    }
}

/// Each state with a count is another, through all uses of the entry.
#[test]
fn counts_only_go_up() {
    let memory = memory();
    let watched = Watched(Row::new(&memory, Futex));
    let entry = Entry { words: &watched, at: AT };
    let last = Cell::new(0);
    let goes_up = |state: State| {
        assert!(state.count() > last.get(), "{state:?}");
        last.set(state.count());
    };
    for round in 0..20 {
        let incarnation = made(entry);
        goes_up(entry.state());
        for _ in 0..round % 3 {
            assert!(entry.join(incarnation, || Ok(()), |()| ()).unwrap().is_some());
            goes_up(entry.state());
        }
        assert!(entry.join(incarnation - 1, || Ok(()), |()| ()).unwrap().is_none());
        assert!(entry.retire(peer(0), || false));
        entry.free();
        goes_up(entry.state());
        // Taken and given up again.
        assert!(entry.claim(entry.state(), peer(0)));
        entry.free();
        goes_up(entry.state());
    }
    assert!(made(entry) > last.get());
    let named = State(entry.state().0 & !PHASE_MASK | 5 << PHASE_SHIFT);
    assert!(entry.advance(entry.state(), named));
    goes_up(named);
    assert!(entry.unname(named));
    goes_up(entry.state());
}
