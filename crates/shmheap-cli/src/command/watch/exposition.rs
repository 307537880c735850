//! Numbers of heaps as Prometheus reads them: its text format 0.0.4.
//!
//! ```text
//!   # HELP shmheap_live_bytes Bytes held by live objects
//!   # TYPE shmheap_live_bytes gauge
//!   shmheap_live_bytes{heap="demo",policy="scalable"} 4096
//! ```
//!
//! All samples of a metric stand together, so each heap is looked at first, and written then.

use std::fmt::{Display, Write};
use std::time::Instant;

use anyhow::Result;
use shmheap::{ClassStats, Heap, Info, Policy, Stats, TagUsage, Usage};

use crate::command::top::running::{Clock, State};
use crate::output;

/// A heap and what it told.
struct Told {
    name: String,
    info: Info,
    stats: Stats,
    stopped: usize,
    /// None of a heap without labels.
    usage: Option<Usage>,
}

/// All metrics of all heaps, by one look at each.
pub(super) fn all() -> Result<String> {
    let started = Instant::now();
    let listed = shmheap::list()?;
    let clock = Clock::read();
    let readable = listed.iter().filter_map(|listing| {
        let name = output::plain(&listing.name);
        listing.heap.as_ref().ok().map(|heap| told(name, heap, &clock))
    });
    let heaps: Vec<Told> = readable.collect();
    let mut page = Page { text: String::new() };
    let unreadable = listed.len() - heaps.len();
    page.gauge("shmheap_heaps", "Heaps that can be read");
    page.sample("shmheap_heaps", &[], heaps.len());
    page.gauge("shmheap_unreadable_heaps", "Heaps that cannot be read: see shmheap ls");
    page.sample("shmheap_unreadable_heaps", &[], unreadable);
    of_heaps(&mut page, &heaps);
    of_peers(&mut page, &heaps);
    of_classes(&mut page, &heaps);
    of_labels(&mut page, &heaps);
    page.gauge("shmheap_scrape_duration_seconds", "How long this look at all heaps took");
    page.sample("shmheap_scrape_duration_seconds", &[], started.elapsed().as_secs_f64());
    Ok(page.text)
}

fn told(name: String, heap: &Heap, clock: &Clock) -> Told {
    let peers = heap.peers();
    let stopped = peers.iter().filter(|peer| clock.state_of(peer) == State::Stopped).count();
    Told { name, info: heap.info(), stats: heap.stats(), stopped, usage: heap.usage() }
}

/// A number of each heap: its metric, what it means, and where it is.
type Gauge = (&'static str, &'static str, fn(&Told) -> f64);

const GAUGES: [Gauge; 12] = [
    ("shmheap_length_bytes", "Room for objects now", |heap| heap.stats.len_bytes as f64),
    ("shmheap_max_length_bytes", "Room for objects at the most", |heap| {
        heap.stats.max_len_bytes as f64
    }),
    ("shmheap_live_bytes", "Bytes held by live objects", |heap| heap.stats.live_bytes as f64),
    ("shmheap_live_objects", "Live objects", |heap| heap.stats.live_objects as f64),
    ("shmheap_free_bytes", "Bytes in free blocks", |heap| heap.stats.free_bytes as f64),
    ("shmheap_largest_free_bytes", "The largest free block", |heap| {
        heap.stats.largest_free_bytes as f64
    }),
    ("shmheap_fragmentation_ratio", "Share of the free bytes outside the largest block", |heap| {
        heap.stats.fragmentation()
    }),
    ("shmheap_tail_bytes", "Bytes of slabs that no object can use", |heap| {
        heap.stats.tail_bytes as f64
    }),
    ("shmheap_trimmed_bytes", "Free bytes that were given back to the system", |heap| {
        heap.stats.trimmed_bytes as f64
    }),
    ("shmheap_metadata_bytes", "Bytes of the heap's own records", |heap| {
        heap.stats.metadata_bytes as f64
    }),
    ("shmheap_peer_limit", "How many processes can be connected", |heap| {
        f64::from(heap.info.peer_limit)
    }),
    ("shmheap_created_timestamp_seconds", "When the heap was made, since 1970", |heap| {
        heap.info.created_unix_ns as f64 / 1e9
    }),
];

fn of_heaps(page: &mut Page, heaps: &[Told]) {
    for (metric, help, number) in GAUGES {
        page.gauge(metric, help);
        for heap in heaps {
            page.of(heap, metric, &[], number(heap));
        }
    }
    // Only first fit has a lock.
    let locked = || heaps.iter().filter(|heap| heap.info.policy == Policy::FirstFit);
    let metric = "shmheap_operations_total";
    page.header(metric, "How often the lock was taken, modulo 2^37", "counter");
    for heap in locked() {
        page.of(heap, metric, &[], heap.stats.operations);
    }
    let metric = "shmheap_lock_held";
    page.gauge(metric, "1 while a peer is inside an operation");
    for heap in locked() {
        page.of(heap, metric, &[], u8::from(heap.stats.lock_holder.is_some()));
    }
}

fn of_peers(page: &mut Page, heaps: &[Told]) {
    let metric = "shmheap_peers";
    page.gauge(metric, "Processes connected (alive or stopped), or dead and not swept");
    for heap in heaps {
        let stopped = heap.stopped as u32;
        let alive = heap.stats.peers_alive.saturating_sub(stopped);
        let dead = heap.stats.peers_dead;
        for (state, count) in [("alive", alive), ("stopped", stopped), ("dead", dead)] {
            page.of(heap, metric, &[("state", &state)], count);
        }
    }
    let metric = "shmheap_peer_live_objects";
    page.gauge(metric, "Live objects in slabs of a peer, by its slot");
    for heap in heaps {
        for owner in &heap.stats.owners {
            page.of(heap, metric, &[("slot", &owner.slot)], owner.live_objects);
        }
    }
}

/// A number of each size class.
type ClassGauge = (&'static str, &'static str, fn(&ClassStats) -> u64);

const CLASS_GAUGES: [ClassGauge; 2] = [
    ("shmheap_class_live_objects", "Live objects of a size class", |class| class.live_objects),
    (
        "shmheap_class_tail_bytes",
        "Bytes of slabs of a size class that no object can use",
        |class| class.tail_bytes,
    ),
];

/// Two numbers of each size class: of slabs that threads own, and of shared ones.
type SlabGauge = (&'static str, &'static str, fn(&ClassStats) -> [u64; 2]);

const SLAB_GAUGES: [SlabGauge; 2] = [
    ("shmheap_class_slabs", "Slabs of a size class, by whether a thread owns them", |class| {
        [class.owned_slabs, class.shared_slabs]
    }),
    ("shmheap_class_free_objects", "Free objects in slabs of a size class", |class| {
        [class.free_owned, class.free_shared]
    }),
];

fn of_classes(page: &mut Page, heaps: &[Told]) {
    let classes =
        || heaps.iter().flat_map(|heap| heap.stats.classes.iter().map(move |class| (heap, class)));
    for (metric, help, number) in CLASS_GAUGES {
        page.gauge(metric, help);
        for (heap, class) in classes() {
            page.of(heap, metric, &[("class", &class.object_bytes)], number(class));
        }
    }
    for (metric, help, numbers) in SLAB_GAUGES {
        page.gauge(metric, help);
        for (heap, class) in classes() {
            for (slabs, number) in ["owned", "shared"].iter().zip(numbers(class)) {
                page.of(heap, metric, &[("class", &class.object_bytes), ("slabs", slabs)], number);
            }
        }
    }
}

/// A number of each tag, where there is one.
type TagGauge = (&'static str, &'static str, fn(&TagUsage) -> Option<u64>);

const TAG_GAUGES: [TagGauge; 3] = [
    ("shmheap_tag_used_bytes", "Bytes of the objects of a tag", |tag| Some(tag.bytes)),
    ("shmheap_tag_objects", "Live objects of a tag", |tag| Some(tag.objects)),
    ("shmheap_tag_quota_bytes", "Bytes that the objects of a tag may have", |tag| tag.quota_bytes),
];

/// A number of each heap with labels, where there is one.
type UsageGauge = (&'static str, &'static str, fn(&Usage) -> Option<u64>);

const USAGE_GAUGES: [UsageGauge; 3] = [
    ("shmheap_gone_used_bytes", "Bytes of the objects of processes that are gone", |usage| {
        let gone = usage.peers.iter().filter(|peer| !peer.alive);
        Some(gone.fold(0, |bytes: u64, peer| bytes.saturating_add(peer.bytes)))
    }),
    ("shmheap_peer_quota_bytes", "Bytes that the objects of each peer may have", |usage| {
        usage.peer_quota_bytes
    }),
    ("shmheap_quota_bytes", "Bytes that all objects together may have", |usage| usage.quota_bytes),
];

fn of_labels(page: &mut Page, heaps: &[Told]) {
    let usages = || heaps.iter().filter_map(|heap| Some((heap, heap.usage.as_ref()?)));
    let tags = || usages().flat_map(|(heap, of)| of.tags.iter().map(move |tag| (heap, tag)));
    for (metric, help, number) in TAG_GAUGES {
        page.gauge(metric, help);
        for (heap, tag) in tags() {
            if let Some(number) = number(tag) {
                page.of(heap, metric, &[("tag", &tag.name)], number);
            }
        }
    }
    for (metric, help, number) in USAGE_GAUGES {
        page.gauge(metric, help);
        for (heap, number) in usages().filter_map(|(heap, of)| Some((heap, number(of)?))) {
            page.of(heap, metric, &[], number);
        }
    }
    let metric = "shmheap_peer_used_bytes";
    page.gauge(metric, "Bytes of the objects that a peer has allocated, by its slot");
    for (heap, of) in usages() {
        for peer in of.peers.iter().filter(|peer| peer.alive) {
            page.of(heap, metric, &[("slot", &peer.slot)], peer.bytes);
        }
    }
}

/// What is written so far. Strings take whatever is written to them.
struct Page {
    text: String,
}

impl Page {
    fn gauge(&mut self, metric: &str, help: &str) {
        self.header(metric, help, "gauge");
    }

    fn header(&mut self, metric: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
    }

    fn of(&mut self, heap: &Told, metric: &str, labels: &[(&str, &dyn Display)], n: impl Display) {
        let policy = match heap.info.policy {
            Policy::FirstFit => "first_fit",
            Policy::Scalable => "scalable",
            _ => "unknown",
        };
        let mut all: Vec<(&str, &dyn Display)> = vec![("heap", &heap.name), ("policy", &policy)];
        all.extend(labels);
        self.sample(metric, &all, n);
    }

    fn sample(&mut self, metric: &str, labels: &[(&str, &dyn Display)], number: impl Display) {
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "{metric}{labels} {number}");
    }
}

/// A label's value, as the format wants it.
fn escaped(value: &dyn Display) -> String {
    value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page { text: String::new() };
        page.gauge("x", "Something");
        page.sample("x", &[("heap", &"a\"b\\c\nd")], 0.5);
        page.sample("y", &[], 7);
        let expected = "# HELP x Something\n# TYPE x gauge\nx{heap=\"a\\\"b\\\\c\\nd\"} 0.5\ny 7\n";
        assert_eq!(page.text, expected);
    }
}
