//! Tests of the channels, by what they run on.
//!
//! | module | what it shows |
//! |---|---|
//! | `memory` | every operation and every place at which somebody may be stopped, in plain memory |
//! | `loom` | every order of events and every sight of memory, of few messages |
//! | `kills` | a process killed at every store, in a heap |

mod kills;
mod loom;
mod memory;

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

use super::queue::Queue;
use super::shape::{Shape, layout_words};
use super::transfer::{Transfer, Values};
use crate::Result;
use crate::heap::Span;
use crate::os::Futex;
use crate::peers::{PeerId, Roll};
use crate::segment::words::{Row, Words};
use crate::units::{PeerSlot, WordIndex};

/// Who takes part: this one, and nobody else is dead but who has slot 7.
#[derive(Debug, Clone, Copy)]
struct Peer(u16);

const DEAD: u16 = 7;

fn id(slot: u16) -> PeerId {
    PeerId::new(PeerSlot(slot), 1)
}

impl Roll for Peer {
    fn me(&self) -> Result<PeerId> {
        Ok(id(self.0))
    }

    fn is_alive(&self, peer: PeerId) -> bool {
        peer != id(DEAD)
    }
}

const NUMBERS: Values<u64> = Values(PhantomData);

fn transfer<'r, W: Words>(
    words: W,
    roll: &'r Peer,
    shape: Shape,
) -> Transfer<'r, 'static, W, Peer, Values<u64>> {
    Transfer { queue: Queue { words, roll, shape }, cargo: &NUMBERS }
}

/// A queue of numbers in memory of zeros.
fn shape(capacity: u64) -> Shape {
    let words = layout_words(capacity, 1).unwrap();
    Shape::new(Span { first: WordIndex(0), words }, capacity, 1).unwrap()
}

fn memory(capacity: u64) -> Vec<AtomicU64> {
    (0..layout_words(capacity, 1).unwrap()).map(|_| AtomicU64::new(0)).collect()
}

fn row(memory: &[AtomicU64]) -> Row<'_, Futex> {
    Row::new(memory, Futex)
}
