//! Labels: who has how much of a heap, and what for.
//!
//! A *label* is a peer and a tag. Every object of a heap that was made with labels has the number
//! of its label in a lane of its own, and four counters say how much the objects come to: the
//! label's, the tag's, the peer's and the heap's. The last three may have a quota, which no
//! reservation goes beyond.
//!
//! ```text
//!   alloc     work begins | counters up, within the quotas | object | lane: label  | work ends
//!   free      work begins | lane: none | object freed      | counters down         | work ends
//! ```
//!
//! What a process killed on the way leaves, and what becomes of it:
//!
//! | killed | leaves |
//! |---|---|
//! | in an `alloc`, before the object is made | some counters too high, by that object |
//! | in an `alloc`, before the lane is set | all counters too high; an object without a label |
//! | in a `free`, before the object is freed | likewise |
//! | in a `free`, before the counters are down | some counters too high, by that object |
//! | in a `realloc` in place | some counters too high, by at most what was added or taken away |
//!
//! So a counter is never too low: a quota holds, whoever is killed. That one may be too high is
//! known, for a peer says in its words that it is at work; whoever adopts it notes the death, and
//! the next that audits, sweeps, or meets a quota counts anew (`recount`).
//!
//! | file | holds |
//! |---|---|
//! | `layout` | where everything lies |
//! | `tags` | names |
//! | `count` | the counters, quotas and lanes |
//! | `recount` | counters set right, and copied |
//!
//! Nothing here knows of addresses or engines; nothing that stands in the words is an index before
//! it has been bounded.

mod count;
pub(crate) mod layout;
mod recount;
pub(crate) mod tags;

pub(crate) use count::{Count, Exceeded, Label, Limit, Owner};
pub(crate) use layout::{Lane, Layout};
pub(crate) use recount::{Corrections, Sums};
pub(crate) use tags::Tag;

/// The records of labels, in a row of words that reaches over them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally<'l, W> {
    layout: &'l Layout,
    words: W,
}

impl<'l, W> Tally<'l, W> {
    pub(crate) fn new(layout: &'l Layout, words: W) -> Self {
        Self { layout, words }
    }
}
