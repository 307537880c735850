//! What a heap tells about itself: length and use, blocks, peers, and a full audit.

use std::iter::FusedIterator;

use crate::Result;
use crate::first_fit::layout::{Area, Position};
use crate::first_fit::{Audit, BlockState, FirstFit, Rest, Surroundings};
use crate::heap::connection::{Connection, Host};
use crate::heap::shape::{END_OF_RECORDS, Engine};
use crate::heap::{Block, Finding, Heap, Info, Peer, Report, Site, Stats};
use crate::peers;
use crate::segment::format;
use crate::segment::words::Words;
use crate::slab::{Place, Slabs};
use crate::units::WordIndex;

/// How often an observer audits a heap that does not stand still.
pub(super) const AUDIT_TRIES: u32 = 4;

impl Heap {
    /// What the heap is.
    #[must_use]
    pub fn info(&self) -> Info {
        let identity = self.shape.identity;
        Info {
            format_version: format::VERSION,
            policy: self.shape.policy,
            granule_bytes: self.shape.granule.bytes(),
            len_bytes: self.len_bytes(),
            max_len_bytes: identity.len_max_bytes,
            data_offset_bytes: identity.data_offset.0,
            peer_limit: identity.peer_limit as u32,
            created_unix_ns: identity.created_unix_ns,
            id: identity.id,
            address: self.shape.address(),
            is_ephemeral: self.shape.is_ephemeral(),
            has_labels: self.shape.labels.is_some(),
        }
    }

    /// Whether the heap lies at the same address in every process: see
    /// [`same_address`](crate::HeapOptions::same_address).
    #[must_use]
    pub fn is_same_address(&self) -> bool {
        self.shape.address().is_some()
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes_in(self.shape.current_area(&self.words()))
    }

    /// The length that the area has on record; 0 if nothing can be on record there.
    pub(super) fn len_bytes_in(&self, area: Area) -> u64 {
        match Host(self).ensure_head(area) {
            Ok(()) => self.shape.len_bytes(&self.words(), area),
            Err(_) => 0,
        }
    }

    /// How full the heap is. Costs a system call for each process record in use and, under
    /// [`Policy::FirstFit`](crate::Policy::FirstFit), a few loads; under
    /// [`Policy::Scalable`](crate::Policy::Scalable) a walk through all slabs.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// heap.alloc(Layout::new::<[u8; 100]>())?;
    /// let stats = heap.stats();
    /// assert_eq!((stats.live_objects, stats.live_bytes), (1, 112));
    /// assert_eq!(stats.free_bytes + stats.live_bytes + stats.tail_bytes, stats.len_bytes);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let peers = self.peers();
        let peers_alive = peers.iter().filter(|peer| peer.alive).count() as u32;
        let stats = Stats {
            len_bytes: self.len_bytes(),
            max_len_bytes: self.shape.identity.len_max_bytes,
            metadata_bytes: self.metadata_bytes(),
            peers_alive,
            peers_dead: peers.len() as u32 - peers_alive,
            ..Stats::default()
        };
        match &self.shape.engine {
            Engine::FirstFit(engine) => self.fit_stats(engine, stats),
            Engine::Slabs(slabs) => self.slab_stats(slabs, stats),
        }
    }

    fn fit_stats(&self, engine: &FirstFit, stats: Stats) -> Stats {
        let words = self.words();
        let area = engine.current(&words);
        if self.stored_end(engine, area).is_none() {
            return stats;
        }
        let counters = engine.counters(&words, area);
        let live_bytes = counters.granules.saturating_mul(self.shape.granule_bytes());
        let live_bytes = live_bytes.min(stats.len_bytes);
        Stats {
            live_bytes,
            live_objects: counters.objects,
            free_bytes: stats.len_bytes - live_bytes,
            largest_free_bytes: self.shape.bytes(engine.longest_free(&words, area)),
            operations: engine.operations(&words),
            lock_holder: engine.lock_holder(&words).map(|slot| slot.0),
            ..stats
        }
    }

    /// Bytes of records that have storage, but for those that come with size classes.
    fn metadata_bytes(&self) -> u64 {
        // The first pages of these records, and whatever further ones have been used.
        let (words, shape) = (self.words(), &self.shape);
        let processes = shape.records.storage(shape.records.used(&words).max(1));
        let threads = shape.threads.storage(shape.threads.used(&words).max(1));
        let area = shape.current_area(&words);
        let of_policy = shape.records_storage(area, 0, self.len_bytes());
        let of_policy = of_policy.iter().map(|range| range.end - range.start.max(END_OF_RECORDS.0));
        processes.end + (threads.end - threads.start) + of_policy.sum::<u64>()
    }

    /// The processes that are connected, or died connected and were not swept yet. Observers are
    /// not among them.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let own = match &self.connection {
            Connection::Peer(membership) => membership.slot(),
            Connection::Observer(_) => None,
        };
        let Some(used) = self.processes_used() else { return vec![] };
        peers::list(&self.words(), self.shape.records, self.connection.witness(), own, used)
            .into_iter()
            .map(|state| Peer {
                slot: state.slot.0,
                alive: state.alive,
                is_self: own == Some(state.slot),
                pid: state.pid,
                pid_namespace: state.pid_namespace,
                connected_unix_ns: state.connected_unix_ns,
                command: state.command,
            })
            .collect()
    }

    /// Does for dead peers what they left half done and frees their records; returns how many.
    /// The next connection or operation would do the same for the one it comes across.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn sweep(&self) -> Result<u32> {
        self.me("sweep dead peers")?;
        let swept = self.sweep_peers();
        self.recount_if_due();
        Ok(swept)
    }

    /// As [`sweep`](Self::sweep), without a walk through the heap for its labels.
    pub(super) fn sweep_peers(&self) -> u32 {
        match &self.connection {
            Connection::Peer(membership) => membership.sweep(&self.words(), self),
            Connection::Observer(_) => 0,
        }
    }

    /// Whether all records have storage that a walk through the blocks looks at.
    pub(super) fn is_walkable(&self) -> bool {
        match &self.shape.engine {
            Engine::FirstFit(engine) => {
                self.stored_end(engine, engine.current(&self.words())).is_some()
            }
            Engine::Slabs(slabs) => self.reader(slabs).ensure_walk().is_ok(),
        }
    }

    /// All blocks in order of address, live and free. Taken without a lock: while other processes
    /// allocate, it is a walk through a changing heap that ends in any case.
    #[must_use]
    pub fn blocks(&self) -> Blocks<'_> {
        let walk = match &self.shape.engine {
            Engine::FirstFit(engine) => Walk::FirstFit(engine, Position(0)),
            Engine::Slabs(slabs) => Walk::Slabs(slabs, Place(0)),
        };
        Blocks { heap: self, walk }
    }

    /// A full audit of the heap's records, which are trusted in nothing: it cannot be crashed or
    /// kept from ending by what stands in them.
    ///
    /// Under [`Policy::FirstFit`](crate::Policy::FirstFit), connected for writing, it holds the
    /// heap's lock meanwhile, for a time that grows with the heap's length, and is exact. Whoever
    /// waits for the lock longer than 20 ms goes on in a copy, and it is exact for the moment of
    /// that. Otherwise
    /// it takes no lock, keeps nobody waiting, and looks again if something changed meanwhile.
    /// Connected for writing, it first does for dead peers what they left half done.
    ///
    /// ```
    /// # let heap = shmheap::HeapOptions::new(1 << 16).create_memfd()?;
    /// let report = heap.check();
    /// assert!(report.is_sound(), "{:?}", report.findings);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use]
    pub fn check(&self) -> Report {
        let mut report = match &self.shape.engine {
            Engine::FirstFit(engine) => self.fit_check(engine),
            Engine::Slabs(slabs) => self.slab_check(slabs),
        };
        self.check_header(&mut report);
        self.check_labels(&mut report);
        report
    }

    fn fit_check(&self, engine: &FirstFit) -> Report {
        let host = Host(self);
        let session = self.me("audit").and_then(|me| {
            let session = engine.operator(self.words(), me, &host).session();
            session.map_err(|fault| self.explain(fault, 0))
        });
        match session {
            Ok(session) => self.report(session.audit(Report::FINDINGS_MAX), true),
            Err(crate::Error::ReadOnly { .. }) => self.check_unlocked(engine),
            Err(error) => {
                let mut report = self.check_unlocked(engine);
                add(&mut report, "lock", format::LOCK_AT, error.to_string());
                report
            }
        }
    }

    fn check_unlocked(&self, engine: &FirstFit) -> Report {
        let words = self.words();
        let mut tries = 0;
        loop {
            tries += 1;
            let state = engine.state(&words);
            let area = engine.current(&words);
            let audit = match self.stored_end(engine, area) {
                Some(end) => engine.audit(&words, area, end, Report::FINDINGS_MAX),
                None => Audit::default(),
            };
            let rest = engine.rest(state, |holder| Host(self).is_dead(holder));
            let recovery_pending = rest == Rest::ToRecover;
            let stood_still = state == engine.state(&words) && rest != Rest::AtWork;
            if stood_still || tries == AUDIT_TRIES {
                return Report { recovery_pending, ..self.report(audit, stood_still) };
            }
        }
    }

    fn report(&self, audit: Audit, stood_still: bool) -> Report {
        Report {
            findings: audit
                .flaws
                .into_iter()
                .map(|flaw| Finding {
                    rule: flaw.rule,
                    offset_bytes: flaw.at.0,
                    detail: flaw.detail,
                })
                .collect(),
            more_findings: audit.more,
            stood_still,
            blocks: audit.blocks,
            live_objects: audit.live_objects,
            live_bytes: self.shape.bytes(audit.live_granules),
            free_bytes: self.shape.bytes(audit.free_granules),
            ..Report::default()
        }
    }

    /// The header is compared with what was judged at the connection, the object with its length.
    fn check_header(&self, report: &mut Report) {
        let words = self.words();
        for (at, expected) in (0..).map(WordIndex).zip(self.shape.identity.words()) {
            let found = words.load(at);
            if found != expected {
                add(report, "header", at, format!("{found:#x} where {expected:#x} belongs"));
            }
        }
        let expected_bytes = self.shape.end_of_data(self.len_bytes());
        match self.connection.object().size_bytes() {
            Ok(found_bytes) if found_bytes < expected_bytes => {
                let detail = format!("the object has {found_bytes} bytes of {expected_bytes}");
                add(report, "length", format::LENGTH_AT, detail);
            }
            _ => {}
        }
    }
}

pub(super) fn add(report: &mut Report, rule: &'static str, at: WordIndex, detail: String) {
    report.findings.push(Finding { rule, offset_bytes: at.offset().0, detail });
}

/// Iterator over the blocks of a heap; made by [`Heap::blocks`].
#[derive(Debug, Clone)]
pub struct Blocks<'h> {
    heap: &'h Heap,
    walk: Walk<'h>,
}

/// Where in the heap the iterator is.
#[derive(Debug, Clone)]
enum Walk<'h> {
    FirstFit(&'h FirstFit, Position),
    Slabs(&'h Slabs, Place),
    /// For good, also if the heap grows.
    Ended,
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let next = match self.walk {
            Walk::FirstFit(engine, at) => self
                .heap
                .fit_block(engine, at)
                .map(|(block, next)| (block, Walk::FirstFit(engine, next))),
            Walk::Slabs(slabs, at) => self
                .heap
                .slab_block(slabs, at)
                .map(|(block, next)| (block, Walk::Slabs(slabs, next))),
            Walk::Ended => None,
        };
        let (block, walk) = next.unzip();
        self.walk = walk.unwrap_or(Walk::Ended);
        block
    }
}

impl FusedIterator for Blocks<'_> {}

impl Heap {
    /// The end of object space in the area, if its records have storage.
    fn stored_end(&self, engine: &FirstFit, area: Area) -> Option<Position> {
        Host(self).ensure_head(area).ok()?;
        let end = engine.end(&self.words(), area);
        Host(self).ensure_storage(area, end.0).ok()?;
        Some(end)
    }

    /// The first block from `at` on, and where the next one starts.
    fn fit_block(&self, engine: &FirstFit, from: Position) -> Option<(Block, Position)> {
        let words = self.words();
        let area = engine.current(&words);
        let end = self.stored_end(engine, area)?;
        let mut at = from;
        while at < end {
            let next = engine.next_start(&words, area, at, end);
            let (granules, live) = match engine.block(&words, area, at, end) {
                BlockState::Live(granules) => (granules, true),
                BlockState::Free(granules) => (granules, false),
                // The block was joined with another since the last step.
                BlockState::Inside => {
                    at = next;
                    continue;
                }
            };
            let bytes = self.shape.bytes(granules);
            let (handle, offset_bytes) = (self.handle_of(at), self.shape.bytes(at.0));
            let label = live.then(|| self.label_of_place(at.0)).flatten();
            let block = Block { handle, offset_bytes, bytes, live, site: Site::Row, label };
            return Some((block, next));
        }
        None
    }
}
