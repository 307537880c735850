//! Where in the address space a heap may lie that lies at the same address in every process.
//!
//! ```text
//!  0     4 GiB              32 TiB              80 TiB    85 TiB                128 TiB
//!  +-------+- - - - - - - - - +===================+- - - - - +---------+- - - - - +--+
//!  | fixed | allowed, for who | the library       |sanitizers| program |    stack,   |
//!  | progr.| has a plan       | chooses here      |          | + brk   |  libraries  |
//!  +-------+- - - - - - - - - +===================+- - - - - +---------+- - - - - +--+
//! ```
//!
//! (As on x86-64; on ARM64 what lies at the right lies higher.) No other program's address space is
//! known when a heap is made, so its place is drawn from 48 TiB which systems and compilers leave
//! empty. An address in a header has to lie within the bounds, too: a mapping directly below a
//! stack would hurt its process later, whoever has put the address there.

use std::num::NonZeroUsize;

/// The first address that a heap may start at: above programs that are not relocatable.
pub(super) const ADDRESS_MIN: u64 = 1 << 32;
/// The first that no heap may reach: from here on lie AddressSanitizer's own memory, programs,
/// their stacks, and what the system places.
pub(super) const ADDRESS_END: u64 = 80 << 40;
/// Where the part starts from which the library chooses: above what AddressSanitizer and the heaps
/// of Java have below 32 TiB.
const CHOICE_START: u64 = 32 << 40;
/// What addresses that the library chooses are multiples of: huge pages are.
const CHOICE_ALIGN: u64 = 2 << 20;
/// How many addresses are tried.
pub(super) const CHOICES: u64 = 64;

/// Which address a new heap is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// In each process whichever is free.
    Any,
    /// The same everywhere, chosen at creation.
    Chosen,
    /// This one.
    At(NonZeroUsize),
}

/// Whether a heap may start there with so many bytes.
pub(super) fn is_possible(address: u64, bytes: u64, align: u64) -> bool {
    let end = address.checked_add(bytes);
    address.is_multiple_of(align) && address >= ADDRESS_MIN && end.is_some_and(|e| e <= ADDRESS_END)
}

/// Addresses for a heap of so many bytes, in the order in which they are to be tried; none if it is
/// too long. The same for the same `id`.
pub(super) fn choices(id: u128, bytes: u64) -> impl Iterator<Item = NonZeroUsize> {
    let places = (ADDRESS_END - CHOICE_START)
        .checked_sub(bytes)
        .map(|room| room / CHOICE_ALIGN + 1)
        .into_iter()
        .flat_map(move |places| (0..CHOICES).map(move |number| mixed(id, number) % places));
    places.filter_map(|place| NonZeroUsize::new((CHOICE_START + place * CHOICE_ALIGN) as usize))
}

/// The step of SplitMix64 (Steele, Lea, Flood), taken for each half of the id.
fn mixed(id: u128, number: u64) -> u64 {
    spread(spread((id >> 64) as u64) ^ id as u64 ^ number << 32)
}

fn spread(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn choices_are_possible_different_and_the_same_for_an_id() {
        let mut all = HashSet::new();
        for id in [0, 1, 1 << 64, u128::MAX] {
            for bytes in [1, 4096, (1 << 40) + 1, (48 << 40) - (1 << 30)] {
                let some: Vec<_> = choices(id, bytes).collect();
                assert_eq!(some.len() as u64, CHOICES);
                assert_eq!(some, choices(id, bytes).collect::<Vec<_>>());
                for address in &some {
                    let address = address.get() as u64;
                    assert!(is_possible(address, bytes, CHOICE_ALIGN), "{address:#x}, {bytes}");
                }
                all.extend(some);
            }
        }
        assert!(all.len() > 10 * CHOICES as usize, "{} different ones", all.len());
        let tight: Vec<_> = choices(7, 48 << 40).collect();
        assert!(tight.iter().all(|address| address.get() as u64 == CHOICE_START));
        assert_eq!(choices(7, (48 << 40) + 1).count(), 0);
    }

    #[test]
    fn addresses_outside_the_bounds_are_impossible() {
        assert!(is_possible(ADDRESS_MIN, ADDRESS_END - ADDRESS_MIN, 4096));
        for (address, bytes) in [
            (0, 4096),
            (4096, 4096),
            (ADDRESS_MIN - 4096, 4096),
            (ADDRESS_MIN + 8, 4096),
            (ADDRESS_MIN, ADDRESS_END - ADDRESS_MIN + 1),
            (ADDRESS_END, 1),
            (0x7fff_ffff_f000, 4096),
            (1 << 47, 4096),
            (1 << 63, 4096),
            (u64::MAX - 4095, 4096),
        ] {
            assert!(!is_possible(address, bytes, 4096), "{address:#x}, {bytes}");
        }
    }
}
