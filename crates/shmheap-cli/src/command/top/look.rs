//! One look at the heaps of the machine: read-only, and over before anything is drawn.
//!
//! Each look connects anew, so that a heap is judged before it is read, and one that is gone is an
//! answer like any other. What happened between two looks is told only of the same heap, by its id.

use std::time::{Duration, Instant};

use anyhow::Result;
use shmheap::{Heap, Listing, Policy, Stats, Usage};

use super::running::{Clock, State};
use crate::args::By;
use crate::command::info::objects_owned;
use crate::command::map::raster::Raster;
use crate::output;
use crate::target::HeapRef;

/// Columns and rows of the small map.
const MAP_COLUMNS: u64 = 64;
const MAP_ROWS: u64 = 4;
/// A map is a walk through all objects: of more than these it would take too long, again and again.
const MAPPED_OBJECTS_MAX: u64 = 500_000;

/// A heap, if it can be read, else why not.
#[derive(Debug)]
pub(super) struct HeapLook {
    pub(super) place: HeapRef,
    pub(super) content: Result<Content, String>,
}

/// What a heap told.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) policy: Policy,
    pub(super) stats: Stats,
    pub(super) peers: Vec<PeerLook>,
    /// None of a heap without labels.
    pub(super) usage: Option<Usage>,
    /// What changed since the look before; none at the first.
    pub(super) pace: Option<Pace>,
    id: u128,
    at: Instant,
}

/// What happens in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    /// Only under first fit, whose lock counts them.
    pub(super) operations: Option<f64>,
    /// By how many live objects became more.
    pub(super) objects: f64,
    /// By how much live bytes became more.
    pub(super) bytes: f64,
}

/// A process connected to a heap, or one that died connected.
#[derive(Debug)]
pub(super) struct PeerLook {
    pub(super) slot: u16,
    pub(super) pid: u32,
    pub(super) state: State,
    pub(super) connected_unix_ns: u64,
    pub(super) objects_owned: Option<u64>,
    /// Bytes of the objects that it has allocated, in a heap with labels.
    pub(super) used_bytes: Option<u64>,
    pub(super) command: String,
}

/// What is shown of one heap besides.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) roots: usize,
    pub(super) classes: Vec<ClassUse>,
    /// None of a heap with too many objects.
    pub(super) map: Option<Raster>,
}

/// The objects of one size.
#[derive(Debug)]
pub(super) struct ClassUse {
    pub(super) label: String,
    pub(super) live_objects: u64,
    pub(super) live_bytes: u64,
    /// What the live bytes are a part of: of the class's slabs, or of everything that lives.
    pub(super) of_bytes: u64,
}

/// All heaps, and the one in a file that was asked for.
pub(super) fn at_all(file: Option<&HeapRef>, earlier: &[HeapLook]) -> Result<Vec<HeapLook>> {
    let clock = Clock::read();
    let look = |place: HeapRef, heap: Result<Heap>| match heap {
        Ok(heap) => HeapLook::of(place, &heap, &clock, earlier),
        Err(error) => HeapLook::failed(place, &error),
    };
    let listed = shmheap::list()?.into_iter();
    let named = |one: Listing| look(HeapRef::Named(one.name), one.heap.map_err(Into::into));
    let mut all: Vec<_> = listed.map(named).collect();
    if let Some(place @ HeapRef::File(_)) = file {
        all.push(look(place.clone(), place.connect_read_only()));
    }
    Ok(all)
}

/// One heap, in detail.
pub(super) fn at_one(place: &HeapRef, earlier: &[HeapLook]) -> (HeapLook, Option<Detail>) {
    match place.connect_read_only() {
        Ok(heap) => {
            let look = HeapLook::of(place.clone(), &heap, &Clock::read(), earlier);
            let detail = look.content.as_ref().ok().map(|content| Detail::of(&heap, content));
            (look, detail)
        }
        Err(error) => (HeapLook::failed(place.clone(), &error), None),
    }
}

impl HeapLook {
    fn failed(place: HeapRef, error: &anyhow::Error) -> Self {
        Self { place, content: Err(output::one_line(error)) }
    }

    fn of(place: HeapRef, heap: &Heap, clock: &Clock, earlier: &[HeapLook]) -> Self {
        let (info, stats, at) = (heap.info(), heap.stats(), Instant::now());
        let usage = heap.usage();
        let used = |peer: &shmheap::Peer| {
            let peers = usage.as_ref()?.peers.iter();
            let of_slot = peers.filter(|of| of.slot == peer.slot && of.pid == peer.pid);
            // The last to have the slot has it still.
            Some(of_slot.max_by_key(|of| of.stay).map_or(0, |of| of.bytes))
        };
        let peer = |peer: shmheap::Peer| PeerLook {
            slot: peer.slot,
            pid: peer.pid,
            state: clock.state_of(&peer),
            connected_unix_ns: peer.connected_unix_ns,
            objects_owned: objects_owned(info.policy, &stats, peer.slot),
            used_bytes: used(&peer),
            command: peer.command,
        };
        let peers = heap.peers().into_iter().map(peer).collect();
        let before = earlier.iter().filter_map(|look| look.content.as_ref().ok());
        let before = before.into_iter().find(|content| content.id == info.id);
        let pace = before.and_then(|before| {
            Pace::between(&before.stats, &stats, info.policy, at.duration_since(before.at))
        });
        let content = Content { policy: info.policy, id: info.id, at, stats, peers, usage, pace };
        Self { place, content: Ok(content) }
    }
}

impl Content {
    /// What tests look at.
    #[cfg(test)]
    pub(super) fn made_up(stats: Stats, peers: u16, pace: Option<Pace>) -> Self {
        let peer = |slot: u16| PeerLook {
            slot,
            pid: slot.into(),
            state: State::Alive,
            connected_unix_ns: 0,
            objects_owned: None,
            used_bytes: None,
            command: format!("peer-{slot}"),
        };
        let peers = (0..peers).map(peer).collect();
        Self {
            policy: Policy::Scalable,
            stats,
            peers,
            usage: None,
            pace,
            id: 0,
            at: Instant::now(),
        }
    }

    /// How many peers are in that state.
    pub(super) fn count(&self, state: State) -> usize {
        self.peers.iter().filter(|peer| peer.state == state).count()
    }
}

impl Pace {
    fn between(one: &Stats, other: &Stats, policy: Policy, passed: Duration) -> Option<Self> {
        /// The counter of operations is that long.
        const OPERATIONS_END: u64 = 1 << 37;
        let seconds = passed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let change = |from: u64, to: u64| (to as f64 - from as f64) / seconds;
        let done = other.operations.wrapping_sub(one.operations) % OPERATIONS_END;
        Some(Self {
            operations: (policy == Policy::FirstFit).then(|| done as f64 / seconds),
            objects: change(one.live_objects, other.live_objects),
            bytes: change(one.live_bytes, other.live_bytes),
        })
    }
}

impl Detail {
    fn of(heap: &Heap, content: &Content) -> Self {
        let stats = &content.stats;
        let is_small = stats.live_objects <= MAPPED_OBJECTS_MAX;
        let map = is_small.then(|| Raster::of(heap, By::Live, MAP_COLUMNS, MAP_ROWS));
        let classes = match content.policy {
            Policy::Scalable => classes(stats),
            _ if is_small => sizes(heap, stats.live_bytes),
            _ => vec![],
        };
        Self { roots: heap.roots().len(), classes, map }
    }
}

/// Size classes in use, and what has units of its own.
fn classes(stats: &Stats) -> Vec<ClassUse> {
    let used = stats.classes.iter().filter(|class| class.live_objects > 0);
    let classes = used.map(|class| {
        let objects = class.live_objects + class.free_owned + class.free_shared;
        ClassUse {
            label: crate::size::exact_in_unit_of(class.object_bytes, class.object_bytes),
            live_objects: class.live_objects,
            live_bytes: class.live_objects.saturating_mul(class.object_bytes),
            of_bytes: objects.saturating_mul(class.object_bytes),
        }
    });
    let mut classes: Vec<ClassUse> = classes.collect();
    let (objects, bytes) = classes.iter().fold((0_u64, 0_u64), |(objects, bytes), class| {
        (objects.saturating_add(class.live_objects), bytes.saturating_add(class.live_bytes))
    });
    let live_objects = stats.live_objects.saturating_sub(objects);
    if live_objects > 0 {
        let live_bytes = stats.live_bytes.saturating_sub(bytes);
        let label = "larger".to_owned();
        classes.push(ClassUse { label, live_objects, live_bytes, of_bytes: live_bytes });
    }
    classes
}

/// First fit has no classes; powers of two stand in.
fn sizes(heap: &Heap, live_bytes: u64) -> Vec<ClassUse> {
    let raster = Raster::of(heap, By::Class, 1, 1);
    let used = raster.kinds.iter().filter(|kind| kind.is_used());
    let sizes = used.map(|kind| ClassUse {
        label: kind.label.clone(),
        live_objects: kind.blocks,
        live_bytes: kind.bytes,
        of_bytes: live_bytes,
    });
    sizes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_in_a_second() {
        let (mut one, mut other) = (Stats::default(), Stats::default());
        (one.operations, one.live_objects, one.live_bytes) = ((1 << 37) - 10, 100, 5000);
        (other.operations, other.live_objects, other.live_bytes) = (10, 50, 6000);
        let pace = |policy, passed| Pace::between(&one, &other, policy, passed);
        let two_seconds = Duration::from_secs(2);
        let expected = Pace { operations: Some(10.0), objects: -25.0, bytes: 500.0 };
        assert_eq!(pace(Policy::FirstFit, two_seconds), Some(expected), "counters go round");
        let expected = Pace { operations: None, ..expected };
        assert_eq!(pace(Policy::Scalable, two_seconds), Some(expected));
        assert_eq!(pace(Policy::Scalable, Duration::ZERO), None);
    }
}
