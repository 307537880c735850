//! Frees that a thread has done in slabs of others, whose owners it has still to look at: see
//! `free`.

use std::ops::{Deref, Range};

use super::unit::Unit;

/// How many frees are put off at the most.
const FREES_MAX: usize = 256;

/// The slabs that the thread has freed in since it looked last.
#[derive(Debug)]
pub(super) struct Pending {
    /// The slab of each free.
    units: [Unit; FREES_MAX],
    frees: usize,
    /// Units among which all of them are.
    noted: Range<Unit>,
}

impl Pending {
    pub(super) const NONE: Self =
        Self { units: [Unit(0); FREES_MAX], frees: 0, noted: Unit(u64::MAX)..Unit(0) };

    /// Whether it is time to look.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.frees >= FREES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frees == 0
    }

    /// Adds a free in a slab; there must be room. Whether the slab lies among the units that are
    /// noted; if not, [`widen`](Self::widen) the note.
    #[inline]
    pub(super) fn add(&mut self, unit: Unit) -> bool {
        if let Some(next) = self.units.get_mut(self.frees) {
            *next = unit;
            self.frees += 1;
        }
        self.noted.contains(&unit)
    }

    /// The units to be noted for a slab to lie among them, too.
    pub(super) fn widen(&mut self, unit: Unit) -> Range<Unit> {
        self.noted = self.noted.start.min(unit)..self.noted.end.max(unit + 1);
        self.noted.clone()
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        (self.frees, self.noted) = (0, Self::NONE.noted);
    }
}

impl Deref for Pending {
    type Target = [Unit];

    fn deref(&self) -> &[Unit] {
        &self.units[..self.frees.min(FREES_MAX)]
    }
}
