//! Size classes: which slab an object of a given size and alignment lies in.
//!
//! ```text
//!   16 24 32 40 48 56 64 80 96 112 128 | 144 160 .. 256 | 288 320 .. 512 | ... | 448K 480K 512K
//!    steps of 8, from 64 on of 16       eight classes to each doubling
//! ```
//!
//! `Class::of` is total for sizes of 1 to [`SMALL_BYTES_MAX`] bytes. Above 128 bytes an object's
//! class is at most one eighth larger than the object. A slab is one or more units; what is left of
//! it behind its last object is at most an eighth as well, and for classes up to 1 KiB a 64th.
//!
//! Everything is computed at compile time and checked for every size by the tests below.

use std::ops::Range;

use super::unit::UNIT_BYTES;

/// Larger objects get units of their own.
pub(crate) const SMALL_BYTES_MAX: u64 = 512 << 10;
/// How many classes there are.
pub(crate) const CLASS_COUNT: usize = FINE_COUNT + COARSE_DOUBLINGS * PER_DOUBLING;
/// Objects of a slab at the most: of the smallest class.
pub(crate) const CAPACITY_MAX: u64 = UNIT_BYTES / FINE[0];

/// The classes up to 128 bytes.
const FINE: [u64; FINE_COUNT] = [16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128];
const FINE_COUNT: usize = 11;
const FINE_SHIFT: u32 = FINE[FINE_COUNT - 1].trailing_zeros();
const PER_DOUBLING: usize = 8;
const COARSE_DOUBLINGS: usize = (SMALL_BYTES_MAX.trailing_zeros() - FINE_SHIFT) as usize;

/// What the division by multiplication in `index_of` is checked for: the bytes of the largest slab.
const SLAB_BYTES_MAX: u64 = 1 << 20;
/// Sizes up to this one, and alignments up to that, have their class from a table.
const STEPS_BYTES_MAX: u64 = 1024;
const STEPS_ALIGN_MAX: u64 = 16;
/// A step of that table.
const STEP_BYTES: u64 = 8;
/// One entry for every number of steps, 0 included.
pub(crate) const STEPS_COUNT: usize = (STEPS_BYTES_MAX / STEP_BYTES) as usize + 1;

/// How many kinds of rows of states there are: see `layout`.
pub(crate) const KIND_COUNT: usize = 3;
/// States of a row of the first kind.
const ROW_STATES_MIN: u64 = 1024;

/// The number of a size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

/// Facts of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// 2 to the power 64 by `object_bytes`, rounded up.
    reciprocal: u64,
    /// Bytes of an object.
    pub(crate) object_bytes: u32,
    /// Objects of a slab.
    pub(crate) capacity: u16,
    /// Units of a slab.
    pub(crate) units: u8,
    /// Which rows hold the states: those with room for `1024 << kind` objects.
    pub(crate) kind: u8,
}

impl Geometry {
    /// Of no slab: no object starts anywhere.
    pub(super) const NONE: Self =
        Self { reciprocal: 0, object_bytes: 0, capacity: 0, units: 0, kind: 0 };

    const fn of(object_bytes: u64) -> Self {
        let mut units = object_bytes.div_ceil(UNIT_BYTES);
        while units * UNIT_BYTES % object_bytes * 8 > units * UNIT_BYTES {
            units += 1;
        }
        let capacity = units * UNIT_BYTES / object_bytes;
        let mut kind = 0;
        while row_states(kind as usize) < capacity {
            kind += 1;
        }
        let reciprocal = (1_u128 << 64).div_ceil(object_bytes as u128);
        Self {
            reciprocal: reciprocal as u64,
            object_bytes: object_bytes as u32,
            capacity: capacity as u16,
            units: units as u8,
            kind,
        }
    }

    /// Which object of a slab starts `within_bytes` behind the slab's start, if one does.
    ///
    /// One multiplication gives the quotient and, below the point, the remainder's share: less than
    /// one reciprocal only if there is none. It is exact as far as the largest slab reaches, and
    /// what lies behind has too large an index.
    #[inline]
    pub(crate) fn index_of(&self, within_bytes: u64) -> Option<u64> {
        let product = u128::from(within_bytes) * u128::from(self.reciprocal);
        let (index, share) = ((product >> 64) as u64, product as u64);
        (share < self.reciprocal && index < u64::from(self.capacity)).then_some(index)
    }

    /// Bytes of a slab that no object uses.
    pub(crate) const fn tail_bytes(&self) -> u64 {
        self.units as u64 * UNIT_BYTES - self.capacity as u64 * self.object_bytes as u64
    }
}

/// States of a row of that kind.
#[inline]
pub(super) const fn row_states(kind: usize) -> u64 {
    ROW_STATES_MIN << kind
}

/// One entry for every value of a byte, so that no index is out of range.
static GEOMETRY: [Geometry; 256] = {
    let mut table = [Geometry::NONE; 256];
    let mut number = 0;
    while number < CLASS_COUNT {
        table[number] = Geometry::of(bytes_of(number));
        number += 1;
    }
    table
};

/// The class of a size up to 1 KiB, by the number of steps that the size takes.
static STEPS: [u8; STEPS_COUNT] = {
    let mut table = [0; STEPS_COUNT];
    let mut steps = 1;
    while steps < table.len() {
        let mut number = 0;
        while bytes_of(number) < STEP_BYTES * steps as u64 {
            number += 1;
        }
        table[steps] = number as u8;
        steps += 1;
    }
    table
};

const _: () = {
    assert!(CLASS_COUNT <= 128, "a class fits the byte that a unit's word has for it");
    let mut number = 0;
    while number < CLASS_COUNT {
        let geometry = Geometry::of(bytes_of(number));
        assert!(geometry.units as u64 * UNIT_BYTES <= SLAB_BYTES_MAX);
        assert!((geometry.kind as usize) < KIND_COUNT && geometry.capacity as u64 <= CAPACITY_MAX);
        number += 1;
    }
};

const fn bytes_of(number: usize) -> u64 {
    if number < FINE_COUNT {
        return FINE[number];
    }
    let (doubling, step) =
        ((number - FINE_COUNT) / PER_DOUBLING, (number - FINE_COUNT) % PER_DOUBLING);
    let base = FINE[FINE_COUNT - 1] << doubling;
    base + base / PER_DOUBLING as u64 * (step as u64 + 1)
}

/// The class of a size above 128 bytes; meaningless below.
#[inline]
fn coarse(size_bytes: u64) -> u8 {
    let last = size_bytes.saturating_sub(1).max(1 << FINE_SHIFT);
    let shift = last.ilog2();
    let step = (last >> (shift - PER_DOUBLING.ilog2())) as u8 % PER_DOUBLING as u8;
    FINE_COUNT as u8 + (shift - FINE_SHIFT) as u8 * PER_DOUBLING as u8 + step
}

/// How many steps a small object of usual alignment takes, less than [`STEPS_COUNT`].
#[inline]
pub(crate) fn steps_of(size_bytes: u64, align_bytes: u64) -> Option<usize> {
    if size_bytes > STEPS_BYTES_MAX || align_bytes > STEPS_ALIGN_MAX {
        return None;
    }
    // A class that holds a multiple of 16 and is no larger than it must is one itself.
    let whole = (size_bytes + align_bytes.wrapping_sub(1)) & align_bytes.wrapping_neg();
    Some(whole.div_ceil(STEP_BYTES) as usize)
}

impl Class {
    /// The class of an object of `size_bytes` bytes aligned to `align_bytes`, a power of two;
    /// `None` if it is too large for a slab.
    #[inline]
    pub(crate) fn of(size_bytes: u64, align_bytes: u64) -> Option<Self> {
        if let Some(steps) = steps_of(size_bytes, align_bytes) {
            return STEPS.get(steps).map(|&number| Self(number));
        }
        if size_bytes <= SMALL_BYTES_MAX && align_bytes <= STEPS_ALIGN_MAX {
            return Some(Self(coarse(size_bytes)));
        }
        Self::of_aligned(size_bytes, align_bytes)
    }

    #[cold]
    fn of_aligned(size_bytes: u64, align_bytes: u64) -> Option<Self> {
        if size_bytes > SMALL_BYTES_MAX || align_bytes > UNIT_BYTES {
            return None;
        }
        let number = match STEPS.get(size_bytes.div_ceil(STEP_BYTES) as usize) {
            Some(&number) => usize::from(number),
            None => usize::from(coarse(size_bytes)),
        };
        // Slabs start at units, so an object is aligned to whatever divides its size.
        (number..CLASS_COUNT)
            .find(|&number| bytes_of(number).is_multiple_of(align_bytes))
            .map(|number| Self(number as u8))
    }

    /// The smallest class.
    pub(crate) const SMALLEST: Self = Self(0);

    /// Whether objects of the class are aligned to `align_bytes`.
    pub(crate) fn keeps(self, align_bytes: u64) -> bool {
        self.object_bytes().is_multiple_of(align_bytes)
    }

    /// Which numbers of steps have this class: none above those that the table has.
    pub(crate) fn steps(self) -> Range<usize> {
        let end = |class: Self| (class.object_bytes() / STEP_BYTES) as usize + 1;
        let start = self.0.checked_sub(1).map_or(0, |before| end(Self(before)));
        start.min(STEPS_COUNT)..end(self).min(STEPS_COUNT)
    }

    /// Units of a slab.
    pub(crate) fn units(self) -> u64 {
        self.geometry().units.into()
    }

    /// Objects of a slab.
    pub(crate) fn capacity(self) -> u64 {
        self.geometry().capacity.into()
    }

    /// Bytes of an object.
    pub(crate) fn object_bytes(self) -> u64 {
        self.geometry().object_bytes.into()
    }

    /// Bytes of a slab that no object uses.
    pub(crate) fn tail_bytes(self) -> u64 {
        self.geometry().tail_bytes()
    }

    /// The class of that number, as it stands in a unit's word.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (number < CLASS_COUNT as u64).then_some(Self(number as u8))
    }

    #[inline]
    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }

    #[inline]
    pub(crate) fn geometry(self) -> &'static Geometry {
        &GEOMETRY[self.number()]
    }

    /// Every class, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..CLASS_COUNT as u8).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_holds_it() {
        let mut number = 0;
        let step = if cfg!(miri) { 4093 } else { 1 };
        for size in (0..SMALL_BYTES_MAX).step_by(step).chain([SMALL_BYTES_MAX]) {
            while bytes_of(number) < size {
                number += 1;
            }
            for align in [1, 8] {
                assert_eq!(Class::of(size, align).unwrap().number(), number, "{size}");
            }
        }
        assert_eq!(number, CLASS_COUNT - 1);
        assert_eq!(Class::of(SMALL_BYTES_MAX + 1, 1), None);
        assert_eq!(Class::of(u64::MAX, 1), None);
    }

    #[test]
    fn every_number_of_steps_has_one_class() {
        let steps = Class::all().flat_map(|class| class.steps().map(move |steps| (steps, class)));
        let classes = (0..STEPS_COUNT).map(|steps| Class(STEPS[steps]));
        assert!(steps.eq(classes.enumerate()));
    }

    #[test]
    fn above_128_bytes_an_eighth_is_the_worst_waste() {
        let step = if cfg!(miri) { 4093 } else { 1 };
        for size in (129..=SMALL_BYTES_MAX).step_by(step) {
            let bytes = Class::of(size, 1).unwrap().object_bytes();
            assert!((bytes - size) * 8 <= size, "{size} in {bytes}");
        }
        for class in Class::all() {
            let geometry = class.geometry();
            let slab_bytes = class.units() * UNIT_BYTES;
            assert!(geometry.tail_bytes() * 8 <= slab_bytes, "{geometry:?}");
            if geometry.object_bytes <= 1024 {
                assert!(geometry.tail_bytes() * 64 <= slab_bytes, "{geometry:?}");
            }
        }
    }

    #[test]
    fn every_alignment_up_to_a_unit_is_kept() {
        let (fine, coarse) = if cfg!(miri) { (701, 50_909) } else { (1, 509) };
        let small = (0..20_000).step_by(fine);
        let sizes = small.chain((20_000..=SMALL_BYTES_MAX).step_by(coarse));
        for align in (0..=16).map(|shift| 1_u64 << shift) {
            for size in sizes.clone() {
                let Some(class) = Class::of(size, align) else {
                    assert!(size.next_multiple_of(align) > SMALL_BYTES_MAX);
                    continue;
                };
                let bytes = class.object_bytes();
                assert!(bytes >= size && bytes.is_multiple_of(align), "{size} {align} {bytes}");
            }
        }
        assert_eq!(Class::of(8, 2 * UNIT_BYTES), None);
    }

    #[test]
    fn the_multiplication_divides_every_offset_of_every_class() {
        for class in Class::all() {
            let geometry = class.geometry();
            let step = if cfg!(miri) { 16_381 } else { 1 };
            for within in (0..class.units() * UNIT_BYTES).step_by(step) {
                let index = within / class.object_bytes();
                let starts = within.is_multiple_of(class.object_bytes());
                let expected = (starts && index < class.capacity()).then_some(index);
                assert_eq!(geometry.index_of(within), expected, "{within} {geometry:?}");
            }
        }
    }
}
