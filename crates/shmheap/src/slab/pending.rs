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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frees_are_kept_until_it_is_time_to_look() {
        let mut pending = Pending::NONE;
        for free in 0..FREES_MAX {
            assert_eq!((pending.is_empty(), pending.is_full()), (free == 0, false));
            pending.add(Unit(free as u64));
        }
        assert!(pending.is_full());
        pending.add(Unit(0));
        assert_eq!(*pending, std::array::from_fn::<_, FREES_MAX, _>(|free| Unit(free as u64)));
        pending.clear();
        assert_eq!((pending.is_empty(), pending.is_full(), pending.len()), (true, false, 0));
    }

    #[test]
    fn a_note_is_widened_to_have_every_slab() {
        let mut pending = Pending::NONE;
        assert!(!pending.add(Unit(5)));
        assert_eq!(pending.widen(Unit(5)), Unit(5)..Unit(6));
        assert!(pending.add(Unit(5)));
        assert!(!pending.add(Unit(3)));
        assert_eq!(pending.widen(Unit(3)), Unit(3)..Unit(6));
        assert!(pending.add(Unit(4)));
        assert!(!pending.add(Unit(6)));
        assert_eq!(pending.widen(Unit(6)), Unit(3)..Unit(7));
        pending.clear();
        assert!(!pending.add(Unit(4)));
    }
}
