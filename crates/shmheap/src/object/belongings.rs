//! Belongings: the objects that a value owns, as a vector owns its elements, and how they are freed
//! with it by who does not know its type.
//!
//! ```text
//!   +---------------------+----------+------------------+
//!   | value: .. cell ..   | its type | where the cells  |
//!   |             |       |          | are in the value |
//!   +-------------|-------+----------+------------------+
//!                 v
//!   +------+--------------+      +------+----- ..
//!   | cell | ..    -------|----> | cell | ..         a chain, if the first is said to start one
//!   +------+--------------+      +------+----- ..
//! ```
//!
//! When the last process that held a value was killed, another frees it, which may be of another
//! program. So the value's object says behind it where its cells are. What is in a cell is taken
//! from there, so it is freed once, whoever is killed; then the value itself is.

use std::alloc::Layout;
use std::collections::HashSet;
use std::time::Duration;

use crate::heap::{Span, Unpublished};
use crate::object::{OwnedCell, Shareable};
use crate::segment::words::Words;
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Handle, Heap, Result};

/// A chain that is longer than this is a damaged one.
const CHAIN_MAX: usize = 1024;
/// How long another process may take to end what a dead one left in a cell.
const PATIENCE: Duration = Duration::from_secs(10);
const SLEEP: Duration = Duration::from_millis(1);

const STARTS_CHAIN: u64 = 1;
/// Set in all words of a list: what lies where one is missing is none.
const LISTED: u64 = 2;
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// A cell, and the word that says to which heap it belongs.
const ITEM_WORDS: usize = 2;

/// Where the list of a value's cells is in its object: as a word of the registry says it, the
/// number of its first word above [`COUNT_BITS`] of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List(u64);

impl List {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of<T: Shareable>() -> Self {
        // A type with padding does not compile.
        let _ = T::FINGERPRINT;
        match count_of::<T>() {
            0 => Self::NONE,
            // No object is made for a value with more.
            count => Self((type_word::<T>() + 1) << COUNT_BITS | count.min(COUNT_MAX)),
        }
    }

    pub(super) fn to_raw(self) -> u64 {
        self.0
    }

    pub(super) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The cells of the value in that object: those that lie in it, and belong to its heap.
    fn cells(
        self,
        words: impl Words + Copy,
        home: u64,
        object: Span,
    ) -> impl Iterator<Item = (WordIndex, bool)> {
        let (first, count) = (self.0 >> COUNT_BITS, self.0 & COUNT_MAX);
        let numbers = (first..object.words).step_by(ITEM_WORDS).take(count as usize);
        numbers.filter_map(move |number| {
            let word = |at| object.has(at, 1).then(|| object.word(at));
            let listed = words.load(word(number)?);
            let home_word = word(words.load(word(number + 1)?) / WORD_BYTES)?;
            let cell = word(listed / WORD_BYTES)?;
            let is_one = listed & LISTED != 0 && words.load(home_word) == home;
            is_one.then_some((cell, listed & STARTS_CHAIN != 0))
        })
    }
}

/// The words of a list that stand for a cell.
fn item(cell: OwnedCell) -> [u64; ITEM_WORDS] {
    let chain = if cell.starts_chain { STARTS_CHAIN } else { 0 };
    [cell.offset_bytes as u64 | LISTED | chain, cell.home_bytes as u64]
}

fn count_of<T: Shareable>() -> u64 {
    let mut count = 0;
    T::owned_cells(&mut |_| count += 1);
    count
}

/// What stands behind a value that owns others: its type, and the list of its cells.
fn note_of<T: Shareable>() -> Vec<u64> {
    let mut note = vec![T::FINGERPRINT.to_raw()];
    T::owned_cells(&mut |cell| note.extend(item(cell)));
    note
}

/// The first word behind the value: its type, if it owns others.
fn type_word<T>() -> u64 {
    (size_of::<T>() as u64).div_ceil(WORD_BYTES)
}

/// A new object for a value, of zeros, with the list of the value's cells behind it.
pub(super) fn alloc<T: Shareable>(heap: &Heap) -> Result<Unpublished<'_>> {
    let refused = |why| Error::InvalidLayout {
        size_bytes: size_of::<T>() as u64,
        align_bytes: align_of::<T>() as u64,
        why,
    };
    match count_of::<T>() {
        0 => return heap.alloc_unpublished_zeroed(Layout::new::<T>()),
        1..=COUNT_MAX => {}
        _ => return Err(refused("a value has 1,048,575 cells at the most")),
    }
    let note = note_of::<T>();
    let layout = Layout::array::<u64>(note.len());
    let layout = layout.and_then(|note| Layout::new::<T>().extend(note));
    let (layout, _) = layout.map_err(|_| refused("the size overflows"))?;
    let object = heap.alloc_unpublished_zeroed(layout)?;
    let (words, span) = (heap.gate(), heap.span(object.handle())?);
    for (number, word) in (type_word::<T>()..).zip(note) {
        words.store(span.word(number), word);
    }
    Ok(object)
}

/// Whether an object may be taken for a value of that type: any may if the type owns nothing, else
/// only what was made for one.
pub(super) fn is_made_for<T: Shareable>(heap: &Heap, object: Handle) -> Result<bool> {
    if count_of::<T>() == 0 {
        return Ok(true);
    }
    let (words, object) = (heap.gate(), heap.span(object)?);
    let is_there =
        |(number, word)| object.has(number, 1) && words.load(object.word(number)) == word;
    Ok((type_word::<T>()..).zip(note_of::<T>()).all(is_there))
}

/// Makes an object one of plain bytes, of a type that owns nothing: what was at its place before
/// may have left a note there.
pub(super) fn disown<T>(heap: &Heap, object: Handle) -> Result<()> {
    let object = heap.span(object)?;
    if object.has(type_word::<T>(), 1) {
        heap.gate().store(object.word(type_word::<T>()), 0);
    }
    Ok(())
}

/// Frees what the value in that object owns; `false` if something of it could not be.
pub(super) fn free(heap: &Heap, object: Span, list: List) -> bool {
    let words = heap.gate();
    let cells: Vec<_> = list.cells(words, heap.home_id(), object).collect();
    forget_doubles(words, &cells);
    cells.into_iter().fold(true, |all, (cell, chain)| free_in(heap, cell, chain) && all)
}

/// The cells through which the value in that object owns others, and which of them start chains.
pub(super) fn cells(
    heap: &Heap,
    object: Span,
    list: List,
) -> impl Iterator<Item = (WordIndex, bool)> {
    list.cells(heap.gate(), heap.home_id(), object)
}

/// Empties cells whose object is in another as well, as one on its way from cell to cell may be: by
/// the time that the second is looked at, the object's place could be a stranger's.
fn forget_doubles(words: impl Words, cells: &[(WordIndex, bool)]) {
    let mut seen = HashSet::new();
    for (cell, _) in cells {
        let content = words.load(*cell);
        if content != 0 && !seen.insert(content) {
            words.store(*cell, 0);
        }
    }
}

/// Frees what is in a cell, and what follows; whether the cell is empty then.
pub(super) fn free_in(heap: &Heap, cell: WordIndex, starts_chain: bool) -> bool {
    // From the end: of a chain whose middle goes first, a kill would lose the rest.
    while starts_chain && last_of(heap, cell) != cell {
        if heap.vacate(last_of(heap, cell)).is_err() {
            return false;
        }
    }
    heap.vacate(cell).is_ok()
}

impl Heap {
    /// Frees what is in a cell that no other living process uses.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take), and [`Error::TimedOut`] if nobody ends what a dead process was in
    /// the middle of.
    pub(crate) fn vacate(&self, cell: WordIndex) -> Result<()> {
        let words = self.gate();
        let mut left = PATIENCE;
        loop {
            let word = words.load(cell);
            if word == 0 {
                return Ok(());
            }
            match self.take_at(cell) {
                // It goes with its guard.
                Ok(Some(object)) => drop(object),
                Ok(None) if left.is_zero() => {
                    return Err(Error::TimedOut { what: "the end of a hand-over" });
                }
                // What a dead one was in the middle of is being ended by another.
                Ok(None) => {
                    let slept = words.wait(cell, word, SLEEP);
                    left = left.saturating_sub(slept.max(Duration::from_micros(1)));
                }
                // No object is there: somebody has overwritten the cell, or the object.
                Err(Error::InvalidHandle { .. } | Error::Stale { .. }) => words.store(cell, 0),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The cell of the last object in a chain.
fn last_of(heap: &Heap, cell: WordIndex) -> WordIndex {
    let words = heap.gate();
    let next = |cell: &WordIndex| {
        let object = heap.span(heap.peek_at(*cell)?).ok().filter(|object| object.words > 0)?;
        (words.load(object.word(0)) != 0).then(|| object.word(0))
    };
    std::iter::successors(Some(cell), next).take(CHAIN_MAX).last().unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::killed::at_every_store;
    use crate::object::{Fingerprint, ShmArc, ShmBox, ShmCell};
    use crate::os::testing::in_own_process;
    use crate::{HeapOptions, Policy};

    /// Two cells, of which the second starts a chain.
    #[derive(Debug)]
    #[repr(C)]
    struct Owner {
        number: u64,
        plain: ShmCell<u64>,
        chain: ShmCell<Link>,
    }

    #[derive(Debug)]
    #[repr(C)]
    struct Link {
        next: ShmCell<u64>,
        number: u64,
    }

    // SAFETY: words, any of which are a value.
    #[allow(unsafe_code)]
    unsafe impl Shareable for Owner {
        const FINGERPRINT: Fingerprint = Fingerprint::new("Owner", 40, 8);

        fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
            ShmCell::<u64>::owned_cells(&mut |cell| visit(cell.within(8)));
            ShmCell::<Link>::owned_cells(&mut |cell| {
                visit(OwnedCell { starts_chain: true, ..cell.within(24) });
            });
        }
    }

    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe impl Shareable for Link {
        const FINGERPRINT: Fingerprint = Fingerprint::new("Link", 24, 8);
    }

    /// A number before its one cell.
    #[derive(Debug)]
    #[repr(C)]
    struct Single {
        number: u64,
        cell: ShmCell<u64>,
    }

    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe impl Shareable for Single {
        const FINGERPRINT: Fingerprint = Fingerprint::new("Single", 24, 8);

        fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
            ShmCell::<u64>::owned_cells(&mut |cell| visit(cell.within(8)));
        }
    }

    fn fill(heap: &Heap, owner: &Owner, links: u64) {
        ShmBox::new(heap, 7_u64).unwrap().publish(&owner.plain).unwrap();
        let mut cell = heap.word_at(std::ptr::NonNull::from(&owner.chain).cast()).unwrap();
        heap.gate().store(cell + 1, heap.home_id());
        for number in 0..links {
            let mut link = ShmBox::<Link>::new_zeroed(heap).unwrap();
            link.number = number;
            let next = heap.span(ShmBox::handle(&link)).unwrap().word(0);
            ShmBox::into_unpublished(link).publish_at(cell).unwrap();
            cell = next;
        }
    }

    fn live(heap: &Heap) -> u64 {
        heap.stats().live_objects
    }

    #[test]
    fn what_a_value_owns_goes_with_it() {
        for policy in [Policy::FirstFit, Policy::Scalable] {
            let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
            drop(ShmArc::new(&heap, 1_u64).unwrap());
            let before = live(&heap);
            let owner = ShmBox::<Owner>::new_zeroed(&heap).unwrap();
            fill(&heap, &owner, 3);
            assert_eq!(live(&heap), before + 5);
            drop(owner);
            assert_eq!(live(&heap), before, "a box");
            let owner = ShmBox::<Owner>::new_zeroed(&heap).unwrap();
            fill(&heap, &owner, 0);
            let owner = ShmArc::from_box(&heap, owner).unwrap();
            drop(owner);
            assert_eq!(live(&heap), before, "a shared value");
        }
    }

    #[test]
    fn what_finds_no_room_to_be_shared_goes_with_what_it_owns() {
        let heap = HeapOptions::new(1 << 16).policy(Policy::FirstFit).create_memfd().unwrap();
        let owner = ShmBox::<Owner>::new_zeroed(&heap).unwrap();
        fill(&heap, &owner, 0);
        let filling: Vec<_> =
            std::iter::from_fn(|| ShmBox::new(&heap, [0_u64; 8]).ok()).map(ShmBox::keep).collect();
        assert!(matches!(ShmArc::from_box(&heap, owner), Err(Error::Full { .. })));
        assert_eq!(live(&heap), filling.len() as u64);
    }

    #[test]
    fn a_value_may_own_very_many_objects() {
        let heap = HeapOptions::new(8 << 20).create_memfd().unwrap();
        let cells = ShmBox::<[ShmCell<u64>; 100_000]>::new_zeroed(&heap).unwrap();
        ShmBox::new(&heap, 7_u64).unwrap().publish(&cells[99_999]).unwrap();
        drop(cells);
        assert_eq!(live(&heap), 0);
    }

    #[test]
    fn an_object_in_two_cells_is_freed_from_the_first() {
        let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
        let cells = ShmBox::new(&heap, [7_u64, 8, 7, 0, 8]).unwrap();
        let span = heap.span(ShmBox::handle(&cells)).unwrap();
        let all: Vec<_> = (0..5).map(|number| (span.word(number), false)).collect();
        forget_doubles(heap.gate(), &all);
        assert_eq!(*cells, [7, 8, 0, 0, 0]);
    }

    #[test]
    #[allow(unsafe_code)]
    fn an_object_without_a_list_owns_nothing() {
        for policy in [Policy::FirstFit, Policy::Scalable] {
            let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
            let innocent = ShmBox::new(&heap, 5_u64).unwrap();
            // Of a size class that leaves room behind the value.
            let layout = Layout::from_size_align(size_of::<Single>() + 64, 8).unwrap();
            let object = heap.alloc_unpublished_zeroed(layout).unwrap();
            // SAFETY: its cell is empty.
            let mut single = unsafe { ShmBox::<Single>::from_unpublished(object) }.unwrap();
            single.number = ShmBox::handle(&innocent).to_raw();
            assert!(single.cell.peek(&heap).is_none());
            drop(single);
            assert_eq!((live(&heap), *innocent), (1, 5));
        }
    }

    #[test]
    fn nonsense_in_a_list_or_a_cell_frees_nothing_else() {
        let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
        let innocent = ShmBox::new(&heap, 5_u64).unwrap();
        for (number, nonsense) in [(1, 0x1000), (2, u64::MAX - 7), (3, u64::MAX), (4, 1 << 40)] {
            let owner = ShmBox::<Owner>::new_zeroed(&heap).unwrap();
            let span = heap.span(ShmBox::handle(&owner)).unwrap();
            heap.gate().store(span.word(number), nonsense);
            drop(owner);
            assert_eq!((live(&heap), *innocent), (1, 5));
        }
    }

    #[test]
    fn whoever_is_killed_all_of_it_is_freed() {
        in_own_process(module_path!(), "whoever_is_killed_all_of_it_is_freed", || {
            let prepare = |heap: &Heap| {
                drop(heap.find_or_create::<u64>("other", |_| {}).unwrap());
                let before = live(heap);
                let root = heap.find_or_create::<Owner>("owner", |_| {}).unwrap();
                fill(heap, &root, 3);
                before
            };
            let operate = |heap: &Heap, _: &u64| {
                heap.remove_root("owner").map(|_: Handle| ()).unwrap();
            };
            let judge = |heap: &Heap, before: &u64| {
                let _ = heap.remove_root("owner");
                heap.sweep_shared().unwrap();
                assert_eq!(live(heap), *before);
            };
            let stores = at_every_store(prepare, operate, judge);
            assert!(stores > 40, "{stores}");
        });
    }
}
