//! What is counted, and quotas: for people, and for programs that look after others.

use std::collections::HashMap;

use crate::heap::inspect::{AUDIT_TRIES, add};
use crate::heap::{Heap, Report};
use crate::labels::{self, Corrections, Label as LabelNumber, Limit, Owner, Sums, Tag};
use crate::peers::PeerId;
use crate::units::PeerSlot;
use crate::{Error, Result};

/// After so many blocks a walk looks whether the heap still stands still.
const LOOK_UP_BLOCKS: usize = 1024;

/// Who allocated an object, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Label {
    /// Number of its tag, for [`Heap::tag_name`]; 0 if it has none.
    pub tag: u8,
    /// The slot that the process had, or has.
    pub slot: u16,
    /// Which process in that slot it was: how often the slot had been taken by then.
    pub stay: u32,
    /// Its process number in its own PID namespace.
    pub pid: u32,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) number: u16,
}

/// What can have a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quota<'a> {
    /// All objects of the heap.
    Heap,
    /// The objects of each process, of each by itself.
    Peer,
    /// The objects of a tag; "" are those that have none.
    Tag(&'a str),
}

/// What is allocated by whom and what for. Exact when no process changes the heap meanwhile, and no
/// process was killed in the middle of a change: see [`is_recount_due`](Self::is_recount_due).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of all objects with a label, each rounded up as it is.
    pub bytes: u64,
    /// How many these are.
    pub objects: u64,
    /// What the heap may have at the most, in bytes of objects.
    pub quota_bytes: Option<u64>,
    /// What each process may have at the most.
    pub peer_quota_bytes: Option<u64>,
    /// Each tag that was ever used: first what has none, the others in order of their first use.
    pub tags: Vec<TagUsage>,
    /// Each process that has objects or has had some and is still connected, the largest first.
    pub peers: Vec<PeerUsage>,
    /// Whether a process was killed in the middle of counting, and found dead, and the counters
    /// were not recounted since: they may be too high, by one object for each of its threads.
    pub is_recount_due: bool,
}

/// What a tag has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TagUsage {
    /// Its name; "" for what has no tag.
    pub name: String,
    /// Bytes of its objects.
    pub bytes: u64,
    /// Its objects.
    pub objects: u64,
    /// What it may have at the most.
    pub quota_bytes: Option<u64>,
}

/// What a process has allocated and nobody has freed, whether it lives or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerUsage {
    /// The slot that it has, or had: see [`Heap::peers`].
    pub slot: u16,
    /// Which process in that slot.
    pub stay: u32,
    /// Its process number in its own PID namespace.
    pub pid: u32,
    /// Whether it is still connected.
    pub alive: bool,
    /// Bytes of its objects.
    pub bytes: u64,
    /// Its objects.
    pub objects: u64,
}

impl Heap {
    /// What is allocated by whom and what for; `None` in a heap without
    /// [`labels`](crate::HeapOptions::labels). Costs some thousand loads, and a system call for
    /// each process.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let labels = self.shape.labels.as_ref()?;
        let tally = self.tally(labels);
        let quota = |limit| tally.quota(limit);
        let tags = tally.tags().map(|tag| TagUsage {
            name: tally.tag_name(tag),
            bytes: tally.bytes_of(Some(tag)),
            quota_bytes: quota(Limit::Tag(tag)),
            ..TagUsage::default()
        });
        let mut usage = Usage {
            bytes: tally.bytes_of(None),
            quota_bytes: quota(Limit::Heap),
            peer_quota_bytes: quota(Limit::Peer),
            tags: tags.collect(),
            is_recount_due: tally.is_recount_due(),
            ..Usage::default()
        };
        let mut peers: HashMap<PeerId, PeerUsage> = HashMap::new();
        for label in LabelNumber::all() {
            let Some(Owner { peer, tag }) = tally.owner(label) else { continue };
            let count = tally.count(label);
            let of_peer = peers.entry(peer).or_insert_with(|| {
                let (slot, stay) = (peer.slot().0, peer.joins() as u32);
                PeerUsage { slot, stay, pid: tally.pid(label), ..PeerUsage::default() }
            });
            of_peer.bytes = of_peer.bytes.saturating_add(count.bytes);
            let of_tag = usage.tags.get_mut(usize::from(tag.0)).map(|of| &mut of.objects);
            for objects in of_tag.into_iter().chain([&mut usage.objects, &mut of_peer.objects]) {
                *objects = objects.saturating_add(count.objects);
            }
        }
        let peers =
            peers.into_iter().map(|(peer, of)| PeerUsage { alive: self.is_peer_alive(peer), ..of });
        usage.peers = peers.filter(|of| of.alive || of.objects > 0).collect();
        usage.peers.sort_by_key(|of| (std::cmp::Reverse(of.bytes), of.slot, of.stay));
        Some(usage)
    }

    /// The name of a tag, by its number; "" if it has none.
    #[must_use]
    pub fn tag_name(&self, tag: u8) -> String {
        self.shape
            .labels
            .as_ref()
            .map_or_else(String::new, |labels| self.tally(labels).tag_name(Tag(tag)))
    }

    /// Whether the process that allocated an object is still connected. Costs a system call.
    #[must_use]
    pub fn is_owner_alive(&self, label: Label) -> bool {
        self.is_peer_alive(PeerId::new(PeerSlot(label.slot), u64::from(label.stay)))
    }

    /// Sets how many bytes of objects something may have, or takes the limit away. An allocation
    /// that would go beyond it is [`Error::QuotaExceeded`], in every process, from now on; what is
    /// allocated stays, also if it is more. Objects count with what they are rounded up to.
    ///
    /// Cost: a store. The quota holds at any moment, whoever is killed.
    ///
    /// # Errors
    ///
    /// [`Error::NotLabelled`] if the heap was made without
    /// [`labels`](crate::HeapOptions::labels), [`Error::InvalidTag`], [`Error::TooManyTags`],
    /// [`Error::ReadOnly`].
    ///
    /// ```
    /// use shmheap::{Error, HeapOptions, Quota};
    /// use std::alloc::Layout;
    ///
    /// let heap = HeapOptions::new(1 << 20).labels().create_memfd()?;
    /// heap.set_quota(Quota::Tag("cache"), Some(1000))?;
    /// let _tag = heap.tag_scope("cache")?;
    /// heap.alloc(Layout::new::<[u8; 900]>())?;
    /// let refused = heap.alloc(Layout::new::<[u8; 200]>()).unwrap_err();
    /// assert!(matches!(refused, Error::QuotaExceeded { .. }));
    /// heap.set_quota(Quota::Tag("cache"), None)?;
    /// heap.alloc(Layout::new::<[u8; 200]>())?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_quota(&self, quota: Quota<'_>, bytes: Option<u64>) -> Result<()> {
        let labels = self.shape.labels.as_ref().ok_or(Error::NotLabelled)?;
        self.me("set quotas")?;
        let limit = match quota {
            Quota::Heap => Limit::Heap,
            Quota::Peer => Limit::Peer,
            Quota::Tag(name) => Limit::Tag(self.tag_in(labels, name)?),
        };
        self.tally(labels).set_quota(limit, bytes);
        Ok(())
    }

    /// Counts anew what is allocated, by a walk through all blocks, and sets the counters right
    /// that processes killed in the middle of counting have left too high. Returns whether that
    /// came about: not while others allocate and free all the time, or one of them is stopped in
    /// the middle of it. [`sweep`](Self::sweep), [`check`](Self::check), and an allocation that
    /// meets a quota do the same after such a death, so that there is hardly ever a need for this.
    ///
    /// # Errors
    ///
    /// [`Error::NotLabelled`], [`Error::ReadOnly`].
    pub fn recount_labels(&self) -> Result<bool> {
        let labels = self.shape.labels.as_ref().ok_or(Error::NotLabelled)?;
        let slot = self.me("recount")?;
        self.sweep()?;
        Ok(self.recount(labels, self.peer_in(slot)))
    }

    /// Recounts if a peer died in the middle of counting, if that can be done now.
    /// Whether it was due, and was done.
    pub(super) fn recount_if_due(&self) -> bool {
        if let Some(labels) = &self.shape.labels
            && self.tally(labels).is_recount_due()
            && let Ok(slot) = self.me("recount")
        {
            return self.recount(labels, self.peer_in(slot));
        }
        false
    }

    fn recount(&self, labels: &labels::Layout, me: PeerId) -> bool {
        let tally = self.tally(labels);
        if !tally.claim_recount(me, |peer| !self.is_peer_alive(peer)) {
            return false;
        }
        // Before the walk: a death that is noted later is for the next recount.
        let deaths = tally.deaths();
        let corrections = self.survey_labels(labels);
        if let Some(corrections) = &corrections {
            tally.correct(corrections);
            tally.set_recounted(deaths);
        }
        tally.release_recount(me);
        corrections.is_some()
    }

    /// What is wrong with the counters; `None` if the heap does not stand still.
    fn survey_labels(&self, labels: &labels::Layout) -> Option<Corrections> {
        let tally = self.tally(labels);
        (0..AUDIT_TRIES).find_map(|_| {
            let rest = tally.rest(self.processes_used()?)?;
            // What a walk cannot look at it passes over, which would seem to be free.
            if !self.is_walkable() {
                return None;
            }
            let is_still = || Some(tally.rest(self.processes_used()?)? == rest);
            let mut sums = Sums::new();
            for (number, block) in self.blocks().enumerate() {
                if number % LOOK_UP_BLOCKS == LOOK_UP_BLOCKS - 1 && !is_still()? {
                    return None;
                }
                let number = block.label.map_or(0, |label| u64::from(label.number));
                if let Some(label) = LabelNumber::of_number(number) {
                    sums.add(label, block.bytes);
                }
            }
            let corrections = tally.compare(&sums);
            is_still()?.then_some(corrections)
        })
    }

    /// Adds to an audit what it finds of the labels, if the heap stands still.
    pub(super) fn check_labels(&self, report: &mut Report) {
        let Some(labels) = &self.shape.labels else { return };
        self.recount_if_due();
        if self.tally(labels).is_recount_due() {
            return;
        }
        let Some(corrections) = self.survey_labels(labels) else { return };
        for (at, found, expected) in corrections.iter() {
            if report.findings.len() >= Report::FINDINGS_MAX {
                report.more_findings = true;
                return;
            }
            let detail = format!("{found} is counted where live objects come to {expected}");
            add(report, "labels", at, detail);
        }
    }
}
