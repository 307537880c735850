//! One entry of the registry: who holds the object, and what becomes of it.
//!
//! ```text
//!   word  0        object        the cell that owns the object
//!         1        state         phase in bits 16 to 23; see below
//!         2        incarnation   which use of the entry this is
//!         3        floor         the next use is at least that
//!         4        fingerprint   of the object's type
//!         5        kind          0 owned: freed with the entry; 1 borrowed: left alone
//!         6        belongings    where the object says what it owns
//!         7        more          the cell of further holders
//!         8 .. 15  holders       a process for each reference that it holds, or 0
//!        16        name          its length in bytes
//!        17 .. 31                the name, filled up with zeros
//! ```
//!
//! Entries are never freed, only used again. So whoever comes late changes nothing but an entry,
//! and finds by its state that it is not his.
//!
//! | phase | rest of the state | the entry | if its process dies |
//! |---|---|---|---|
//! | 0 free | count | is nobody's | |
//! | 1 busy | who | is being filled, or emptied | emptied by whoever finds it |
//! | 2 candidate | who | wants to be the one with its name | as busy |
//! | 3 rejected | who | lost that, and is about to be emptied | as busy |
//! | 4 constructing | who | has its name, and an object that is being made | as busy |
//! | 5 named | count | has a name and an object | |
//! | 6 nameless | count | has an object, as long as somebody holds it | |
//!
//! *Who* is a [`PeerId`]. The *count* goes up with each attachment, and from use to use of the
//! entry, so that no two states of it are the same.
//!
//! # Attach and retire
//!
//! ```text
//!   attach    holder 0 -> me      state: count + 1     then it is held
//!   retire    no holder lives?    state: busy, me      then it is emptied
//! ```
//!
//! Both end with an exchange of the state as it was before they looked, so one of two fails: the
//! retirer looks again, the attacher takes its name out of the holders, and looks itself whether it
//! has kept somebody from retiring the entry.

use crate::object::belongings::List;
use crate::object::{Fingerprint, Shareable};
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

/// Words of an entry.
pub(super) const ENTRY_WORDS: u64 = 32;

pub(super) const OBJECT: u64 = 0;
pub(super) const STATE: u64 = 1;
const INCARNATION: u64 = 2;
const FLOOR: u64 = 3;
const FINGERPRINT: u64 = 4;
const KIND: u64 = 5;
const BELONGINGS: u64 = 6;
pub(super) const MORE: u64 = 7;
pub(super) const HOLDERS: u64 = 8;
pub(super) const HOLDERS_INLINE: u64 = 8;
const NAME: u64 = 16;
const NAME_WORDS: usize = 15;
/// The longest name of a root, in bytes.
pub(super) const NAME_BYTES_MAX: usize = NAME_WORDS * 8;

const PHASE_SHIFT: u32 = 16;
const PHASE_MASK: u64 = 0xff << PHASE_SHIFT;
const COUNT_SHIFT: u32 = 24;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Busy(Option<PeerId>),
    Candidate(Option<PeerId>),
    Rejected(Option<PeerId>),
    Constructing(Option<PeerId>),
    Named,
    Nameless,
}

/// A state as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    fn of(phase: u64, peer: PeerId) -> Self {
        Self(peer.word() | phase << PHASE_SHIFT)
    }

    fn counted(phase: u64, count: u64) -> Self {
        Self(count << COUNT_SHIFT | phase << PHASE_SHIFT)
    }

    pub(super) fn busy(peer: PeerId) -> Self {
        Self::of(1, peer)
    }

    fn candidate(peer: PeerId) -> Self {
        Self::of(2, peer)
    }

    pub(super) fn constructing(peer: PeerId) -> Self {
        Self::of(4, peer)
    }

    /// Who has the entry for himself, if anybody.
    pub(super) fn owner(self) -> Option<PeerId> {
        match self.phase() {
            Phase::Busy(owner)
            | Phase::Candidate(owner)
            | Phase::Rejected(owner)
            | Phase::Constructing(owner) => owner,
            Phase::Free | Phase::Named | Phase::Nameless => None,
        }
    }

    fn count(self) -> u64 {
        self.0 >> COUNT_SHIFT
    }

    /// A number that is no phase is one of somebody who cannot live.
    pub(super) fn phase(self) -> Phase {
        let peer = PeerId::of_word(self.0);
        match (self.0 & PHASE_MASK) >> PHASE_SHIFT {
            0 => Phase::Free,
            2 => Phase::Candidate(peer),
            3 => Phase::Rejected(peer),
            4 => Phase::Constructing(peer),
            5 => Phase::Named,
            6 => Phase::Nameless,
            _ => Phase::Busy(peer),
        }
    }
}

/// What an entry says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    pub(super) fingerprint: Fingerprint,
    pub(super) is_borrowed: bool,
    pub(super) belongings: List,
}

impl Description {
    /// An object that was made for a value of that type.
    pub(crate) fn of<T: Shareable>() -> Self {
        Self { fingerprint: T::FINGERPRINT, is_borrowed: false, belongings: List::of::<T>() }
    }

    /// An object whose bytes are no value of a type, and that owns nothing.
    pub(crate) fn laid_out_as(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, is_borrowed: false, belongings: List::NONE }
    }

    /// An object that is its users' to free.
    pub(super) const BORROWED: Self =
        Self { fingerprint: Fingerprint::UNTYPED, is_borrowed: true, belongings: List::NONE };
}

/// How an attempt to attach to an entry went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attaching {
    Attached,
    /// Not the same object any more, or not one yet.
    Gone,
}

/// An entry in a row of words; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<W> {
    pub(super) words: W,
    pub(super) at: WordIndex,
}

impl<W: Words> Entry<W> {
    pub(super) fn word(&self, number: u64) -> WordIndex {
        self.at + number
    }

    fn load(&self, number: u64) -> u64 {
        self.words.load(self.word(number))
    }

    fn store(&self, number: u64, value: u64) {
        self.words.store(self.word(number), value);
    }

    pub(super) fn state(&self) -> State {
        State(self.load(STATE))
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.load(INCARNATION)
    }

    pub(super) fn description(&self) -> Description {
        Description {
            fingerprint: Fingerprint::from_raw(self.load(FINGERPRINT)),
            is_borrowed: self.load(KIND) != 0,
            belongings: List::from_raw(self.load(BELONGINGS)),
        }
    }

    /// What `look` sees of the entry, if it was one use of it, in one phase, all the time. Who
    /// attaches meanwhile changes only the count.
    pub(super) fn steadily<T>(&self, look: impl FnOnce(State) -> T) -> Option<T> {
        // The incarnation first: if that is of another use than the state, it is another at the
        // end.
        let (incarnation, seen) = (self.incarnation(), self.state());
        let found = look(seen);
        let is_same = self.state().phase() == seen.phase() && self.incarnation() == incarnation;
        is_same.then_some(found)
    }

    /// Exchanges the state that was seen for another; whether it was still that.
    pub(super) fn advance(&self, seen: State, next: State) -> bool {
        self.words.compare_exchange(self.word(STATE), seen.0, next.0).is_ok()
    }

    /// Takes a free entry, or one whose state with a count nobody needs any more. The caller has it
    /// for itself then, as busy.
    pub(super) fn claim(&self, seen: State, me: PeerId) -> bool {
        // Before the exchange: whoever has it next must not use a count again.
        self.raise_floor(seen.count() + 1);
        self.advance(seen, State::busy(me))
    }

    fn raise_floor(&self, floor: u64) {
        let mut found = self.load(FLOOR);
        while found < floor {
            match self.words.compare_exchange(self.word(FLOOR), found, floor) {
                Err(other) if other != found => found = other,
                _ => break,
            }
        }
    }

    /// Says what is in an entry that the caller has for itself.
    pub(super) fn describe(&self, description: Description, name: &str) {
        self.store(INCARNATION, self.load(FLOOR));
        self.store(FINGERPRINT, description.fingerprint.to_raw());
        self.store(KIND, u64::from(description.is_borrowed));
        self.store(BELONGINGS, description.belongings.to_raw());
        self.store_name(name);
    }

    fn store_name(&self, name: &str) {
        let mut bytes = [0; NAME_BYTES_MAX];
        let len = name.len().min(NAME_BYTES_MAX);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        self.store(NAME, len as u64);
        let (chunks, _) = bytes.as_chunks::<8>();
        for (number, chunk) in (NAME + 1..).zip(chunks) {
            self.store(number, u64::from_le_bytes(*chunk));
        }
    }

    /// Whether the entry has the name, which is not empty.
    pub(super) fn has_name(&self, name: &str) -> bool {
        if self.load(NAME) != name.len() as u64 || name.len() > NAME_BYTES_MAX {
            return false;
        }
        (NAME + 1..).zip(name.as_bytes().chunks(8)).all(|(number, chunk)| {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            self.load(number) == u64::from_le_bytes(bytes)
        })
    }

    /// The name, as text that can be printed.
    pub(super) fn name(&self) -> String {
        let len = (self.load(NAME) as usize).min(NAME_BYTES_MAX);
        let bytes: Vec<u8> = (NAME + 1..)
            .take(NAME_WORDS)
            .flat_map(|number| self.load(number).to_le_bytes())
            .take(len)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The state in which a busy entry, or one with an object that is made, can be attached to.
    pub(super) fn made(&self, is_named: bool) -> State {
        State::counted(if is_named { 5 } else { 6 }, self.incarnation())
    }

    /// The entry, emptied by the caller who has it for itself, is nobody's again.
    pub(super) fn free(&self) {
        self.store(FINGERPRINT, 0);
        self.store(KIND, 0);
        self.store(BELONGINGS, 0);
        self.store_name("");
        self.store(STATE, State::counted(0, self.load(FLOOR)).0);
        self.words.wake_all(self.word(STATE));
    }

    /// Holds the object of that use: `hold` puts a word among the holders, and `let_go` takes it
    /// back and looks whether it has kept somebody from retiring the entry. `None` if it is not
    /// that use.
    pub(super) fn join<H>(
        &self,
        incarnation: u64,
        hold: impl FnOnce() -> Result<H>,
        let_go: impl FnOnce(H),
    ) -> Result<Option<H>> {
        let holder = hold()?;
        match self.attach(incarnation) {
            Attaching::Attached => Ok(Some(holder)),
            Attaching::Gone => {
                let_go(holder);
                Ok(None)
            }
        }
    }

    /// Holds the object, for whom a holder's word says so already.
    fn attach(&self, incarnation: u64) -> Attaching {
        loop {
            let seen = self.state();
            let is_made = matches!(seen.phase(), Phase::Named | Phase::Nameless);
            if !is_made || self.incarnation() != incarnation {
                return Attaching::Gone;
            }
            if self.advance(seen, State(seen.0.wrapping_add(1 << COUNT_SHIFT))) {
                return Attaching::Attached;
            }
        }
    }

    /// Takes a nameless entry whose object nobody holds, for the caller to empty; whether it was
    /// one.
    pub(super) fn retire(&self, me: PeerId, is_held: impl Fn() -> bool) -> bool {
        loop {
            let seen = self.state();
            if seen.phase() != Phase::Nameless || is_held() {
                return false;
            }
            if self.claim(seen, me) {
                return true;
            }
        }
    }

    /// The name goes, the object stays as long as somebody holds it.
    pub(super) fn unname(&self, seen: State) -> bool {
        self.advance(seen, State::counted(6, seen.count() + 1))
    }

    /// Rejects a candidate, which its process or who finds it dead empties.
    pub(super) fn reject(&self, seen: State) -> bool {
        self.advance(seen, State(seen.0 & !PHASE_MASK | 3 << PHASE_SHIFT))
    }

    /// Waits for the entry to leave the state, for a moment at the most.
    pub(super) fn wait(&self, seen: State, timeout: std::time::Duration) {
        self.words.wait(self.word(STATE), seen.0, timeout);
    }

    pub(super) fn wake(&self) {
        self.words.wake_all(self.word(STATE));
    }
}

/// Has a busy entry stand for its name; whether it is the one that has it, and is constructing.
/// Else it is what it was, or a candidate, or rejected.
pub(super) fn stand<W: Words, E: Iterator<Item = Entry<W>>>(
    own: Entry<W>,
    name: &str,
    me: PeerId,
    all: impl Fn() -> E,
) -> bool {
    own.advance(State::busy(me), State::candidate(me))
        && is_sole(&own, name, all)
        && own.advance(State::candidate(me), State::constructing(me))
}

/// Whether a candidate is the only one that may have the name: rejects all others, unless one of
/// them has it.
fn is_sole<W: Words, E: Iterator<Item = Entry<W>>>(
    candidate: &Entry<W>,
    name: &str,
    all: impl Fn() -> E,
) -> bool {
    loop {
        let mut has_missed_one = false;
        for rival in all().filter(|entry| entry.at != candidate.at) {
            let seen = rival.state();
            match seen.phase() {
                Phase::Named | Phase::Constructing(_) if rival.has_name(name) => return false,
                Phase::Candidate(_) if rival.has_name(name) => {
                    has_missed_one |= !rival.reject(seen);
                }
                _ => {}
            }
        }
        // One that could not be rejected has gone on: look what it is now.
        if !has_missed_one {
            return true;
        }
    }
}

/// Puts `me` into a holder's word that is free; `false` if it is not. A word of somebody dead is.
pub(super) fn hold(words: &impl Words, at: WordIndex, me: PeerId, roll: Option<&dyn Roll>) -> bool {
    let found = words.load(at);
    let is_free = match PeerId::of_word(found) {
        None => found == 0,
        Some(peer) => roll.is_some_and(|roll| peer != me && !roll.is_alive(peer)),
    };
    is_free && words.compare_exchange(at, found, me.word()).is_ok()
}

/// Whether the holder's word names somebody who lives.
pub(super) fn is_held(words: &impl Words, at: WordIndex, me: PeerId, roll: &dyn Roll) -> bool {
    match PeerId::of_word(words.load(at)) {
        None => false,
        Some(peer) => peer == me || roll.is_alive(peer),
    }
}

/// What keeps a name from being a root's.
pub(crate) fn checked_name(name: &str) -> Result<()> {
    let why = match name.len() {
        0 => "a root's name is not empty",
        len if len > NAME_BYTES_MAX => "a root's name has 120 bytes at the most",
        _ if name.contains('\0') => "a root's name has no NUL in it, for C programs to read it",
        _ => return Ok(()),
    };
    Err(Error::InvalidName { name: name.to_owned(), why })
}

#[cfg(test)]
mod loom;
#[cfg(test)]
mod tests;
