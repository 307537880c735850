//! The segment's header, word by word: what FORMAT.md says in prose.
//!
//! ```text
//!  byte 0         128    192    256       384   4096           135168        659456    data_offset
//!  +------------+-------+------+--------+-------+--------------+-------------+----------+-------+
//!  | identity   |length | lock |current |records| 1024 process | 4096 thread |records of|object |
//!  | + checksum |       |      |+ pins  |used, 0| records      | records     |the policy|space  |
//!  +------------+-------+------+--------+-------+--------------+-------------+----------+-------+
//!   never changes  grows   a line of each
//! ```
//!
//! A segment is valid when its magic, version and checksum are right, its identity describes a
//! layout that this library computes to the same offsets, and its object is as long as its length
//! says. All of it is read with `pread` and judged before anything is mapped, so that no object,
//! however short, foreign or garbled, can fault the process that tries it.

use crate::error::NotAHeap;
use crate::units::{Offset, PAGE_BYTES, WORD_BYTES, WordIndex};

/// "SHMHEAP" and a zero, as the first eight bytes in memory.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SHMHEAP\0");
/// The format that this library reads and writes.
pub(crate) const VERSION: u32 = 9;
/// Bytes of the header.
pub(crate) const HEADER_BYTES: u64 = PAGE_BYTES;
/// Where the table of process records begins.
pub(crate) const RECORDS: Offset = Offset(HEADER_BYTES);
/// The most bytes of object space: offsets of objects must fit the 48 bits of a handle.
pub(crate) const LEN_MAX_BYTES: u64 = 1 << 46;

/// Bytes in memory order; all words are little-endian.
pub(crate) const MAGIC_AT: WordIndex = WordIndex(0);
pub(crate) const VERSION_AT: WordIndex = WordIndex(1);
pub(crate) const LAYOUT_AT: WordIndex = WordIndex(2);
pub(crate) const POLICY_AT: WordIndex = WordIndex(3);
pub(crate) const GRANULE_AT: WordIndex = WordIndex(4);
pub(crate) const LEN_MAX_AT: WordIndex = WordIndex(5);
pub(crate) const DATA_OFFSET_AT: WordIndex = WordIndex(6);
pub(crate) const PEERS_AT: WordIndex = WordIndex(7);
pub(crate) const CREATED_AT: WordIndex = WordIndex(8);
pub(crate) const ID_AT: WordIndex = WordIndex(9);
pub(crate) const ADDRESS_AT: WordIndex = WordIndex(11);
pub(crate) const LIFETIME_AT: WordIndex = WordIndex(12);
pub(crate) const LABELS_AT: WordIndex = WordIndex(13);
pub(crate) const CHECKSUM_AT: WordIndex = WordIndex(14);
/// The words of the identity, which never change and which the checksum covers.
const IDENTITY_WORDS: usize = 14;

/// Lifetimes.
pub(crate) const KEPT: u64 = 0;
pub(crate) const EPHEMERAL: u64 = 1;

/// Whether objects have labels.
pub(crate) const PLAIN: u64 = 0;
pub(crate) const LABELLED: u64 = 1;

pub(crate) const LENGTH_AT: WordIndex = WordIndex(16);
pub(crate) const LOCK_AT: WordIndex = WordIndex(24);
pub(crate) const CURRENT_AT: WordIndex = WordIndex(32);
pub(crate) const PINS_AT: WordIndex = WordIndex(33);
pub(crate) const ROOTS_AT: WordIndex = WordIndex(40);
pub(crate) const SHARED_AT: WordIndex = WordIndex(41);
pub(crate) const THREADS_USED_AT: WordIndex = WordIndex(48);
pub(crate) const PROCESSES_USED_AT: WordIndex = WordIndex(56);
/// Words that tell everything about a segment: up to the length.
pub(crate) const PROLOGUE_BYTES: usize = 17 * WORD_BYTES as usize;

const _: () = {
    assert!(ID_AT.0 + 2 == ADDRESS_AT.0, "the id has two words");
    assert!(CHECKSUM_AT.0 as usize == IDENTITY_WORDS, "the checksum follows what it covers");
    assert!(PINS_AT.0 + 4 <= ROOTS_AT.0, "a pin for each area");
    assert!(ROOTS_AT.0.is_multiple_of(8) && SHARED_AT.0 < THREADS_USED_AT.0, "a line of their own");
    assert!(PROCESSES_USED_AT.offset().0 + 8 <= HEADER_BYTES, "the header is one page");
    assert!(LOCK_AT.0.is_multiple_of(8), "a line of its own");
    assert!(CURRENT_AT.0.is_multiple_of(8), "likewise");
    assert!(THREADS_USED_AT.0.is_multiple_of(8), "likewise");
    assert!(PROCESSES_USED_AT.0.is_multiple_of(8), "likewise");
};

/// What a segment is; fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// A number that changes with any constant of the layout.
    pub(crate) layout: u64,
    pub(crate) policy: u64,
    pub(crate) granule_bytes: u64,
    pub(crate) len_max_bytes: u64,
    pub(crate) data_offset: Offset,
    pub(crate) peer_limit: u64,
    pub(crate) created_unix_ns: u64,
    pub(crate) id: u128,
    /// Where every process maps the segment; 0: anywhere.
    pub(crate) address: u64,
    /// Whether it is removed with its last process.
    pub(crate) lifetime: u64,
    /// Whether objects have labels.
    pub(crate) labels: u64,
}

/// Why a prologue is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NotAHeap(NotAHeap),
    Version(u32),
}

impl Identity {
    /// The identity as it stands in the segment, magic first and checksum last.
    pub(crate) fn words(&self) -> [u64; IDENTITY_WORDS + 1] {
        let mut words = [0; IDENTITY_WORDS + 1];
        let mut set = |at: WordIndex, value: u64| words[at.0 as usize] = value;
        set(MAGIC_AT, MAGIC);
        set(VERSION_AT, u64::from(VERSION));
        set(LAYOUT_AT, self.layout);
        set(POLICY_AT, self.policy);
        set(GRANULE_AT, self.granule_bytes);
        set(LEN_MAX_AT, self.len_max_bytes);
        set(DATA_OFFSET_AT, self.data_offset.0);
        set(PEERS_AT, self.peer_limit);
        set(CREATED_AT, self.created_unix_ns);
        set(ID_AT, self.id as u64);
        set(ID_AT + 1, (self.id >> 64) as u64);
        set(ADDRESS_AT, self.address);
        set(LIFETIME_AT, self.lifetime);
        set(LABELS_AT, self.labels);
        words[IDENTITY_WORDS] = fingerprint(&words[..IDENTITY_WORDS]);
        words
    }

    /// Reads the first bytes of an object: its identity and its length in bytes.
    ///
    /// The version comes before the checksum, for another version may compute another.
    pub(crate) fn read(prologue: &[u8]) -> Result<(Self, u64), Refused> {
        let refuse = |why| Err(Refused::NotAHeap(why));
        let word = |at: WordIndex| {
            let first = at.offset().0 as usize;
            let bytes = prologue.get(first..first + WORD_BYTES as usize)?;
            bytes.try_into().map(u64::from_le_bytes).ok()
        };
        match word(MAGIC_AT) {
            Some(MAGIC) => {}
            None if prologue.is_empty() => return refuse(NotAHeap::Empty),
            _ => return refuse(NotAHeap::Foreign),
        }
        let Some(words) =
            (0..=LENGTH_AT.0).map(|at| word(WordIndex(at))).collect::<Option<Vec<_>>>()
        else {
            return refuse(NotAHeap::Truncated {
                expected_bytes: HEADER_BYTES,
                found_bytes: prologue.len() as u64,
            });
        };
        let get = |at: WordIndex| words[at.0 as usize];
        if get(VERSION_AT) != u64::from(VERSION) {
            return Err(Refused::Version(get(VERSION_AT).try_into().unwrap_or(u32::MAX)));
        }
        if get(CHECKSUM_AT) != fingerprint(&words[..IDENTITY_WORDS]) {
            return refuse(NotAHeap::BadHeader("checksum"));
        }
        let identity = Self {
            layout: get(LAYOUT_AT),
            policy: get(POLICY_AT),
            granule_bytes: get(GRANULE_AT),
            len_max_bytes: get(LEN_MAX_AT),
            data_offset: Offset(get(DATA_OFFSET_AT)),
            peer_limit: get(PEERS_AT),
            created_unix_ns: get(CREATED_AT),
            id: u128::from(get(ID_AT)) | u128::from(get(ID_AT + 1)) << 64,
            address: get(ADDRESS_AT),
            lifetime: get(LIFETIME_AT),
            labels: get(LABELS_AT),
        };
        Ok((identity, get(LENGTH_AT)))
    }
}

/// FNV-1a over the bytes of `words` (Fowler, Noll, Vo): it tells accidents, not forgers.
pub(crate) const fn fingerprint(words: &[u64]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < words.len() {
        let bytes = words[index].to_le_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            hash = (hash ^ bytes[byte] as u64).wrapping_mul(0x0100_0000_01b3);
            byte += 1;
        }
        index += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Identity {
        Identity {
            layout: 3,
            policy: 1,
            granule_bytes: 8,
            len_max_bytes: 3024,
            data_offset: Offset(139_264),
            peer_limit: 1024,
            created_unix_ns: 1_700_000_000_000_000_000,
            id: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            address: 0x2345_6780_0000,
            lifetime: EPHEMERAL,
            labels: LABELLED,
        }
    }

    fn prologue(identity: &Identity, len_bytes: u64) -> Vec<u8> {
        let mut words = identity.words().to_vec();
        words.resize(LENGTH_AT.0 as usize, 0);
        words.push(len_bytes);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let bytes = prologue(&sample(), 3024);
        assert_eq!(bytes.len(), PROLOGUE_BYTES);
        assert_eq!(&bytes[..8], b"SHMHEAP\0");
        assert_eq!(Identity::read(&bytes), Ok((sample(), 3024)));
    }

    #[test]
    fn every_flipped_bit_of_the_identity_is_refused() {
        let bytes = prologue(&sample(), 3024);
        for bit in 0..(IDENTITY_WORDS + 1) * 64 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::read(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_heap_is_named() {
        let bytes = prologue(&sample(), 3024);
        let refused = |bytes: &[u8]| Identity::read(bytes).unwrap_err();
        assert_eq!(refused(&[]), Refused::NotAHeap(NotAHeap::Empty));
        assert_eq!(refused(b"\x7fELF"), Refused::NotAHeap(NotAHeap::Foreign));
        assert_eq!(refused(&[0; 4096]), Refused::NotAHeap(NotAHeap::Foreign));
        for len in 8..PROLOGUE_BYTES {
            assert!(matches!(
                refused(&bytes[..len]),
                Refused::NotAHeap(NotAHeap::Truncated { .. })
            ));
        }
        let mut other = bytes;
        other[8] = 77;
        assert_eq!(refused(&other), Refused::Version(77));
    }
}
