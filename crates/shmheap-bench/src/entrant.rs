//! Entrants: facilities with what is done with them, as peers among others.

use anyhow::Result;

use crate::crew::{AnyPeer, Job, Order, unique_name};
use crate::options::Effort;
use crate::peer::Sharing;
use crate::typed::{Facility, Lines, Locks, Maps};
use crate::workload::{Contest, Seat, Tally, Work, locks, maps, messages, round_trip};

/// A facility in a contest.
pub(crate) struct Entrant<F: Facility> {
    facility: F,
    contest: Contest,
    work: fn(&F::Site, Work, Seat<'_>) -> Result<Tally>,
}

impl<F: Facility> Entrant<F> {
    pub(crate) fn of_maps(facility: F) -> Self
    where
        F::Site: Maps,
    {
        let work = |site: &F::Site, work, seat: Seat<'_>| {
            let Work::Map(entries) = work else { unreachable!("a contest of maps") };
            maps::run(site, entries, seat)
        };
        Self { facility, contest: Contest::Maps, work }
    }

    pub(crate) fn of_messages(facility: F) -> Self
    where
        F::Site: Lines<{ messages::NUMBERS }>,
    {
        let work = |site: &F::Site, _, seat: Seat<'_>| messages::run(site, seat);
        Self { facility, contest: Contest::Messages, work }
    }

    pub(crate) fn of_round_trips(facility: F) -> Self
    where
        F::Site: Lines<1>,
    {
        let work = |site: &F::Site, _, seat: Seat<'_>| round_trip::run(site, seat);
        Self { facility, contest: Contest::RoundTrips, work }
    }

    pub(crate) fn of_locks(facility: F) -> Self
    where
        F::Site: Locks,
    {
        let work = |site: &F::Site, _, seat: Seat<'_>| locks::run(site, seat);
        Self { facility, contest: Contest::Locks, work }
    }
}

impl<F: Facility> AnyPeer for Entrant<F> {
    fn name(&self) -> &'static str {
        self.facility.name()
    }

    fn description(&self) -> String {
        self.facility.description()
    }

    fn sharing(&self) -> Sharing {
        self.facility.sharing()
    }

    fn contest(&self) -> Contest {
        self.contest
    }

    fn refuses(&self, _work: Work, workers: usize) -> Option<&'static str> {
        self.facility.refuses(workers)
    }

    fn run_crew(&self, work: Work, workers: usize, effort: Effort) -> Result<Vec<Tally>> {
        let ground = self.facility.lay_out(&unique_name())?;
        let heap = ground.address.as_str();
        let order = Order { peer: self.facility.name(), work, heap, workers, effort };
        order.carry_out(self.facility.sharing())
    }

    fn take_part(&self, job: &Job) -> Result<Vec<Tally>> {
        let site = self.facility.enter(job.heap())?;
        job.seat_workers(|seat| {
            seat.board.meet(1, seat.workers);
            if seat.number == 0 {
                // From here on, however this ends, nothing is left behind.
                self.facility.remove(job.heap());
            }
            (self.work)(&site, job.work(), seat)
        })
    }
}
