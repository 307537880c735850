//! What a scalable heap tells about itself: counted from the units and the states, without a lock.

use crate::heap::connection::Connection;
use crate::heap::inspect::AUDIT_TRIES;
use crate::heap::{Block, ClassStats, Finding, Heap, OwnerStats, Report, Site, Stats};
use crate::slab::{self, Census, Place, Slabs, UNIT_BYTES};

impl Heap {
    pub(super) fn slab_stats(&self, slabs: &Slabs, stats: Stats) -> Stats {
        let census = self.census(slabs, 0);
        let classes = census.of_classes().filter(|(_, of)| of.slabs() > 0);
        let classes = classes.map(|(class, of)| ClassStats {
            object_bytes: class.object_bytes(),
            owned_slabs: of.owned_slabs,
            shared_slabs: of.shared_slabs,
            live_objects: of.live,
            free_owned: of.free_owned,
            free_shared: of.free_shared,
            tail_bytes: of.slabs() * class.tail_bytes(),
        });
        let owners = census.live_of_peer.iter();
        let owners = owners.map(|&(slot, live_objects)| OwnerStats { slot: slot.0, live_objects });
        Stats {
            live_bytes: census.live_bytes(),
            live_objects: census.live_objects(),
            free_bytes: census.free_bytes(),
            tail_bytes: census.tail_bytes(),
            trimmed_bytes: census.hole_units * UNIT_BYTES,
            largest_free_bytes: census.longest_free_units * UNIT_BYTES,
            metadata_bytes: stats.metadata_bytes + census.state_bytes,
            classes: classes.collect(),
            owners: owners.collect(),
            ..stats
        }
    }

    /// Counts the heap until it looks the same twice, and reports what was wrong both times.
    pub(super) fn slab_check(&self, slabs: &Slabs) -> Report {
        if let Connection::Peer(membership) = &self.connection
            && self.me("audit").is_ok()
        {
            membership.sweep(&self.words(), self);
        }
        let mut census = self.census(slabs, Report::FINDINGS_MAX);
        for _ in 0..AUDIT_TRIES {
            let mut again = self.census(slabs, Report::FINDINGS_MAX);
            if again == census {
                return report(&again, again.moving_units == 0);
            }
            // What is on its way from one state to another is somewhere else the next time.
            again.flaws.retain(|flaw| census.flaws.contains(flaw));
            census = again;
        }
        report(&census, false)
    }

    /// The first block from `from` on, and where the next one starts.
    pub(super) fn slab_block(&self, slabs: &Slabs, from: Place) -> Option<(Block, Place)> {
        let found = self.reader(slabs).block_from(from)?;
        let slab::Block { place, bytes, generation, live, next, slab } = found;
        let site = slab.map_or(Site::Units, |owner| Site::Slab { owner: owner.map(|slot| slot.0) });
        let (handle, offset_bytes) = (self.handle_at(place, generation), place.0);
        let label = live.then(|| self.label_in_slab(slabs, place)).flatten();
        Some((Block { handle, offset_bytes, bytes, live, site, label }, next))
    }
}

fn report(census: &Census, stood_still: bool) -> Report {
    let findings = census.flaws.iter().map(|flaw| Finding {
        rule: flaw.rule,
        offset_bytes: flaw.at.0,
        detail: flaw.detail.clone(),
    });
    Report {
        findings: findings.collect(),
        more_findings: census.more_flaws,
        stood_still,
        recovery_pending: census.is_recovery_pending,
        blocks: census.blocks(),
        live_objects: census.live_objects(),
        live_bytes: census.live_bytes(),
        free_bytes: census.free_bytes(),
        tail_bytes: census.tail_bytes(),
    }
}
