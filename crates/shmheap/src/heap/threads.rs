//! What each thread of this process has in hand, and how it gets to it in a few loads.
//!
//! ```text
//!   thread-local            heap                        segment
//!   HOT: stay, hand ------> list of hands               thread record: owner, note
//!   HELD: Arc, Arc, ..      hand: cache, actor -------> slabs
//! ```
//!
//! A *hand* is a thread's part in one stay of this process in one heap: its slabs, and its record
//! in the segment. The thread finds the one it used last by the number of the stay, which the page
//! that forked children find empty holds: one comparison tells that it is the right heap, that the
//! process has not left it, and that it is not a child of the process whose hand this is.
//!
//! | state | the hand | is reached by |
//! |---|---|---|
//! | vacant | has nothing | whoever takes it up |
//! | active | has slabs | its thread alone |
//! | ending | gives them back | the thread that ends, or the one that drops the heap |
//!
//! Hands stay in the heap's list until the heap is dropped, for later threads to take up. In a
//! forked child the parent's hands are never touched, nor freed: they may have been in the middle
//! of a change when the child was made.
//!
//! # Unsafe code
//!
//! A hand is reached through a pointer in the thread-local, and by one party at a time as the table
//! says; the list of hands is made of pointers.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

use crate::Result;
use crate::heap::scalable::Records;
use crate::heap::storage::Ensured;
use crate::os::{Futex, WeakMapping, WipeOnFork};
use crate::peers::{Stay, ThreadRecord, ThreadTable, stay_of};
use crate::segment::states::StateRow;
use crate::segment::words::Row;
use crate::slab::{Actor, Cache, Slabs};

const VACANT: u8 = 0;
const ACTIVE: u8 = 1;
const ENDING: u8 = 2;

/// What a thread works with.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Hand {
    pub(super) cache: Cache,
    pub(super) actor: Actor,
    /// What is needed to give the slabs back when the heap is out of reach.
    way_back: Option<WayBack>,
}

/// What a thread needs at its end, when it has no heap at hand.
#[derive(Debug)]
pub(super) struct WayBack {
    pub(super) slabs: Slabs,
    /// Not kept by the hand: a forked child has a copy of it that it must never touch, and leaves
    /// the heap all the same.
    pub(super) mapping: WeakMapping,
    pub(super) table: ThreadTable,
    pub(super) record: ThreadRecord,
}

impl Hand {
    pub(super) fn new(actor: Actor, way_back: WayBack) -> Self {
        Self { cache: Cache::new(), actor, way_back: Some(way_back) }
    }

    /// Gives the slabs and the record back.
    fn end(&mut self) {
        let Some(way_back) = self.way_back.take() else { return };
        let WayBack { slabs, mapping, table, record } = way_back;
        // The heap ends every hand before it lets the mapping go.
        let Some(mapping) = mapping.upgrade() else { return };
        let words = Row::new(mapping.words(slabs.layout().states().start / 8), Futex);
        let records = Records::new(words, StateRow(mapping.states()));
        // The records of its own slabs have storage, or it would not have them.
        slabs.worker(records, Ensured, self.actor).let_all_go(&mut self.cache);
        table.release(&words, record);
    }
}

/// A hand, and who may reach it.
struct Seat {
    state: AtomicU8,
    /// The number of the stay that the hand is for, while it is not vacant.
    stay: AtomicU64,
    /// Tells whether that stay goes on. Here and not in the hand, for the thread asks at its end,
    /// when another may be ending the hand.
    place: Arc<WipeOnFork>,
    /// Whose hand it is: the system's number of the thread, below a number that no other hand has.
    /// A thread that comes here while its thread-locals are dropped may not end the hand itself.
    holder: AtomicU64,
    hand: UnsafeCell<Option<Hand>>,
}

// SAFETY: the hand is reached by one thread at a time, as the module's table says, and all it has
// may move between threads.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

impl Seat {
    /// Ends the hand if it is active; waits if another thread is ending it.
    ///
    /// # Safety
    ///
    /// The caller is the hand's thread, or no thread works in the heap any more; and this process
    /// is the one whose stay the hand is for.
    unsafe fn end(&self) {
        // Acquire; its partner is the release below: what an earlier end did is seen.
        let begun =
            self.state.compare_exchange(ACTIVE, ENDING, Ordering::Acquire, Ordering::Acquire);
        if begun.is_ok() {
            // SAFETY: the exchange made this thread the only one to reach the hand, now that its
            // own thread does not; the caller sees to that.
            let hand = unsafe { (*self.hand.get()).take() };
            if let Some(mut hand) = hand {
                hand.end();
            }
            // Relaxed: nobody looks for the holder of a vacant seat.
            self.holder.store(0, Ordering::Relaxed);
            // Release; its partners are the acquires of whoever waits, or takes the seat.
            self.state.store(VACANT, Ordering::Release);
        }
        // Acquire; its partner is the release above.
        while self.state.load(Ordering::Acquire) == ENDING {
            std::thread::yield_now();
        }
    }
}

struct Node {
    seat: Arc<Seat>,
    next: *const Node,
}

/// Marks the stay of a heap in which more is to be done for an object than the fast ways do: they
/// look for a number without the mark. No number of a stay is that large.
const CLOSED: u64 = 1 << 63;

/// The hands of one heap's threads; see the module's text.
pub(super) struct Threads {
    stay: Stay,
    /// 0, or `CLOSED`.
    mark: u64,
    newest: AtomicPtr<Node>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

/// The hand that this thread used last, and the number of the stay that it is for.
#[derive(Clone, Copy)]
struct Hot {
    stay: u64,
    hand: NonNull<Hand>,
}

impl Hot {
    /// No stay has that number, not even that of a process without a place.
    const NONE: Self = Self { stay: u64::MAX, hand: NonNull::dangling() };
}

thread_local! {
    static HOT: Cell<Hot> = const { Cell::new(Hot::NONE) };
    static HELD: Held = const { Held(RefCell::new(Vec::new())) };
}

/// The seats that this thread has taken.
struct Held(RefCell<Vec<Arc<Seat>>>);

impl Held {
    fn forget_vacant(&self) {
        // Relaxed: a seat that is vacant for a moment, or for good, is not this thread's.
        self.0.borrow_mut().retain(|seat| seat.state.load(Ordering::Relaxed) == ACTIVE);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HOT.set(Hot::NONE);
        for seat in self.0.take() {
            end_of_thread(&seat);
        }
    }
}

/// Ends a hand of this thread, which ends; unless this process is a child of the one it is for.
fn end_of_thread(seat: &Seat) {
    // Acquire; its partner is the release in `Seat::end`.
    if seat.state.load(Ordering::Acquire) != ACTIVE {
        return;
    }
    // Relaxed: this thread has stored the number itself.
    let stay = seat.stay.load(Ordering::Relaxed);
    if stay_of(&seat.place) == stay {
        // SAFETY: this is the hand's thread, in the process whose stay it is for.
        unsafe { seat.end() };
    }
}

/// Bits of the system's number in a holder.
const NUMBER_BITS: u32 = i32::BITS;

/// A holder for this thread, another each time.
fn new_holder() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = rustix::thread::gettid().as_raw_nonzero().get();
    // Relaxed: only that it is another each time counts.
    NEXT.fetch_add(1, Ordering::Relaxed) << NUMBER_BITS | u64::from(number.unsigned_abs())
}

/// Whether no thread of this process has the holder's number any more. One that another thread has
/// got since counts as that of the old one: its hand ends with the heap, then.
fn is_gone(holder: u64) -> bool {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: signal 0 is none; the call only tells whether there is such a thread.
    let outcome = unsafe { libc::syscall(libc::SYS_tgkill, process, holder as i32, 0) };
    outcome == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

impl Threads {
    /// The hands of a heap's threads in the stays of this process; reached by `hot` only if the
    /// heap `has_fast_ways`.
    pub(super) fn new(stay: Stay, has_fast_ways: bool) -> Self {
        let mark = if has_fast_ways { 0 } else { CLOSED };
        Self { stay, mark, newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This thread's hand for the present stay, if it used it last.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "the hand is the thread's, not the list's")]
    pub(super) fn hot(&self) -> Option<&mut Hand> {
        let hot = HOT.get();
        if hot.stay != self.stay.number() {
            return None;
        }
        // SAFETY: the number is that of a hand of this thread, which `HELD` or the heap's list
        // keeps as long as `self` lives: a heap and its stay go together. It is active, so it is
        // where `take` found it and nobody else reaches it; this thread does once at a time, as
        // nothing that works with a hand asks for one.
        Some(unsafe { &mut *hot.hand.as_ptr() })
    }

    /// As [`hot`](Self::hot), also in a heap whose fast ways are closed.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "as in `hot`")]
    pub(super) fn known(&self) -> Option<&mut Hand> {
        let (hot, stay) = (HOT.get(), self.stay.number());
        if hot.stay != stay && hot.stay != stay | CLOSED {
            return None;
        }
        // SAFETY: as in `hot`: the number is that of the stay, with or without the mark.
        Some(unsafe { &mut *hot.hand.as_ptr() })
    }

    /// This thread's hand for the stay: one that it has, or a new one.
    #[cold]
    #[allow(clippy::mut_from_ref, reason = "as in `hot`")]
    pub(super) fn take(
        &self,
        stay: u64,
        place: &Arc<WipeOnFork>,
        make: impl FnOnce() -> Result<Hand>,
    ) -> Result<&mut Hand> {
        // Relaxed: this thread has stored the numbers of its seats itself.
        let is_for_stay = |seat: &&Arc<Seat>| {
            seat.stay.load(Ordering::Relaxed) == stay
                && seat.state.load(Ordering::Relaxed) == ACTIVE
        };
        let held = HELD.try_with(|held| held.0.borrow().iter().find(is_for_stay).map(Arc::clone));
        let seat = match held.ok().flatten() {
            Some(seat) => seat,
            None => self.sit_down(stay, place, make()?),
        };
        // SAFETY: as in `hot`; the hand stays where it is, in the seat, until it is ended.
        let hand = unsafe { (*seat.hand.get()).as_mut() };
        let hand = hand.ok_or(crate::Error::Damaged { what: "a thread's own records" })?;
        let hand = NonNull::from(hand);
        if stay != 0 {
            HOT.set(Hot { stay: stay | self.mark, hand });
        }
        // SAFETY: as in `hot`.
        Ok(unsafe { &mut *hand.as_ptr() })
    }

    /// Ends the hands of threads that are gone and could not do so themselves.
    fn end_orphans(&self, stay: u64) {
        for Node { seat, .. } in self.nodes() {
            // Acquire; its partner is the release in `sit_down`: the stay belongs to the holder.
            let holder = seat.holder.load(Ordering::Acquire);
            // Relaxed: a stay does not change while its hand is active.
            if holder == 0 || seat.stay.load(Ordering::Relaxed) != stay || !is_gone(holder) {
                continue;
            }
            // Relaxed: of several that find it, the one that takes the number out goes on; and if
            // the seat has another holder by now, nobody does.
            let taken =
                seat.holder.compare_exchange(holder, 0, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                // SAFETY: the hand is that of a thread that is no more, and whoever else would end
                // or take it needs the number that was taken out; the stay is this process's.
                unsafe { seat.end() };
            }
        }
    }

    /// Puts a new hand on a vacant seat, or on a new one.
    fn sit_down(&self, stay: u64, place: &Arc<WipeOnFork>, hand: Hand) -> Arc<Seat> {
        self.end_orphans(stay);
        let vacant = self.nodes().find(|node| {
            // Acquire; its partner is the release in `Seat::end`.
            let taken = node.seat.state.compare_exchange(
                VACANT,
                ENDING,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            taken.is_ok()
        });
        let seat = match vacant {
            Some(node) => Arc::clone(&node.seat),
            None => self.add(place),
        };
        // Relaxed: only this thread reads the number while the hand is active.
        seat.stay.store(stay, Ordering::Relaxed);
        // SAFETY: the exchange, or that it is new and ending, keeps everybody else from the seat.
        unsafe { *seat.hand.get() = Some(hand) };
        // A thread whose thread-locals are gone has no list: see `end_orphans`.
        let _ = HELD.try_with(|held| {
            held.forget_vacant();
            held.0.borrow_mut().push(Arc::clone(&seat));
        });
        // Release; its partner is the acquire in `end_orphans`.
        seat.holder.store(new_holder(), Ordering::Release);
        // Release; its partner is the acquire in `Seat::end`, should another thread end it.
        seat.state.store(ACTIVE, Ordering::Release);
        seat
    }

    fn add(&self, place: &Arc<WipeOnFork>) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            state: AtomicU8::new(ENDING),
            stay: AtomicU64::new(0),
            place: Arc::clone(place),
            holder: AtomicU64::new(0),
            hand: UnsafeCell::new(None),
        });
        let node = Box::into_raw(Box::new(Node { seat: Arc::clone(&seat), next: ptr::null() }));
        // Relaxed: the exchange below is what counts.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: the node is not in the list yet, so nobody else has it.
            unsafe { (*node).next = newest };
            // Release; its partner is the acquire in `nodes`.
            let added =
                self.newest.compare_exchange(newest, node, Ordering::Release, Ordering::Relaxed);
            match added {
                Ok(_) => return seat,
                Err(found) => newest = found,
            }
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let follow = |node: *const Node| {
            // SAFETY: nodes are whole when they come into the list, never change in it, and stay
            // as long as `self`.
            unsafe { node.as_ref() }
        };
        // Acquire; its partner is the release in `add`.
        let newest = follow(self.newest.load(Ordering::Acquire));
        std::iter::successors(newest, move |node| follow(node.next))
    }

    /// Ends every hand of the stay. No thread works in the heap any more.
    pub(super) fn end(&mut self, stay: u64) {
        for node in self.nodes() {
            // Relaxed: of this stay or not, the number was stored before this thread had the heap
            // to itself; and a hand that another thread is ending is waited for below.
            if stay != 0 && node.seat.stay.load(Ordering::Relaxed) == stay {
                // SAFETY: `&mut self` tells that no thread works in the heap; a stay that is not 0
                // is this process's.
                unsafe { node.seat.end() };
            }
        }
        let _ = HELD.try_with(|held| held.forget_vacant());
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut node = *self.newest.get_mut();
        while !node.is_null() {
            // SAFETY: `add` made the node of a box, and nobody else has the list any more.
            let Node { seat, next } = *unsafe { Box::from_raw(node) };
            node = next.cast_mut();
            // Relaxed: the heap is this thread's alone.
            if seat.state.load(Ordering::Relaxed) != VACANT {
                // A parent's hand, copied in the middle of whatever its thread was doing.
                std::mem::forget(seat);
            }
        }
    }
}
