//! Entries under loom: those who attach, let go and want a name at once, over weak memory.

use std::sync::Arc;

use super::*;
use crate::segment::interleaved::{Memory, View, explore, start};
use crate::units::PeerSlot;

const ENTRIES: [WordIndex; 2] = [WordIndex(32), WordIndex(64)];
const INCARNATION: u64 = 5;
/// Stands for the object: what its maker has written, and 0 when it is freed.
const VALUE: WordIndex = WordIndex(100);
const MADE: u64 = 7;

fn memory(entries: usize) -> Arc<Memory> {
    let words = ENTRIES.iter().take(entries).flat_map(|entry| {
        let used = [STATE, super::INCARNATION, FLOOR, HOLDERS, HOLDERS + 1, NAME, NAME + 1];
        used.map(|number| *entry + number)
    });
    Memory::new(words.chain([VALUE]), [], &[])
}

fn peer(number: u16) -> PeerId {
    PeerId::new(PeerSlot(number), 1)
}

struct AllLive;

impl Roll for AllLive {
    fn me(&self) -> Result<PeerId> {
        Ok(peer(0))
    }

    fn is_alive(&self, _peer: PeerId) -> bool {
        true
    }
}

fn entry(view: &View, number: usize) -> Entry<&View> {
    Entry { words: view, at: ENTRIES[number] }
}

fn holder(number: u64) -> WordIndex {
    ENTRIES[0] + (HOLDERS + number)
}

/// Frees the object if nobody holds it.
fn retire(view: &View, me: PeerId) {
    let is_held = || (0..2).any(|at| is_held(view, holder(at), me, &AllLive));
    if entry(view, 0).retire(me, is_held) {
        assert_eq!(view.load(VALUE), MADE, "freed once, and it was there");
        view.store(VALUE, 0);
    }
}

fn let_go(view: &View, number: u64, me: PeerId) {
    view.compare_exchange(holder(number), me.word(), 0).unwrap();
    retire(view, me);
}

/// Attaches if the object of that use is still there, looks at it, and lets it go again.
fn visit(view: &View, number: u64, me: PeerId, incarnation: u64) -> bool {
    let hold = || {
        assert!(hold(view, holder(number), me, None));
        Ok(number)
    };
    let attached = entry(view, 0).join(incarnation, hold, |number| let_go(view, number, me));
    let is_attached = attached.unwrap().is_some();
    if is_attached {
        assert_eq!(view.load(VALUE), MADE, "what is held is there");
        let_go(view, number, me);
    }
    is_attached
}

/// An object that the first peer holds.
fn held_by_first(memory: &Arc<Memory>) {
    let view = memory.view();
    view.store(VALUE, MADE);
    view.store(ENTRIES[0] + FLOOR, INCARNATION);
    view.store(ENTRIES[0] + super::INCARNATION, INCARNATION);
    view.store(ENTRIES[0] + STATE, entry(&view, 0).made(false).0);
    view.store(holder(0), peer(0).word());
}

#[test]
fn an_object_is_freed_once_and_not_while_it_is_held() {
    explore(4, || {
        let memory = memory(1);
        held_by_first(&memory);
        let view = memory.view();
        let visitor = start(move || visit(&view, 1, peer(1), INCARNATION));
        let_go(&memory.view(), 0, peer(0));
        visitor.join().unwrap();
        assert_eq!(memory.view().load(VALUE), 0, "nobody holds it, so it is freed");
    });
}

/// A latecomer, who has heard of an earlier use, may keep the last holder from freeing the object.
#[test]
fn a_latecomer_leaves_no_object_behind() {
    explore(4, || {
        let memory = memory(1);
        held_by_first(&memory);
        let view = memory.view();
        let visitor = start(move || assert!(!visit(&view, 1, peer(1), INCARNATION - 1)));
        let_go(&memory.view(), 0, peer(0));
        visitor.join().unwrap();
        assert_eq!(memory.view().load(VALUE), 0, "nobody holds it, so it is freed");
    });
}

#[test]
fn two_that_let_go_at_once_free_it_once() {
    explore(4, || {
        let memory = memory(1);
        held_by_first(&memory);
        memory.view().store(holder(1), peer(1).word());
        let view = memory.view();
        let other = start(move || let_go(&view, 1, peer(1)));
        let_go(&memory.view(), 0, peer(0));
        other.join().unwrap();
        assert_eq!(memory.view().load(VALUE), 0);
    });
}

/// Wants the name; whether it has it.
fn stand(view: &View, number: usize) -> bool {
    let (me, own) = (peer(number as u16), entry(view, number));
    view.store(own.word(NAME), 1);
    view.store(own.word(NAME + 1), u64::from(b'x'));
    view.store(own.word(STATE), State::busy(me).0);
    super::stand(own, "x", me, || (0..2).map(|number| entry(view, number)))
}

#[test]
fn one_has_the_name() {
    explore(4, || {
        let memory = memory(2);
        let view = memory.view();
        let rival = start(move || stand(&view, 1));
        let first = stand(&memory.view(), 0);
        let second = rival.join().unwrap();
        assert!(!(first && second), "two have the name");
    });
}
