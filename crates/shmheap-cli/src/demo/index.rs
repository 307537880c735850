//! The word index: buckets, words and places, all of them objects linked by handles.
//!
//! ```text
//!   buckets          word                        place                    place
//!  +--------+      +----------------------+    +---------------------+  +-------
//!  | first -+----->| next word in bucket  |    | next --------------+---->...
//!  | first  |      | first place ---------+--->| document | position |
//!  |  ...   |      | length, text         |    | ticket of the entry |
//!  +--------+      +----------------------+    +---------------------+
//! ```
//!
//! Both kinds of chains only grow, by one compare-and-swap at their head, while workers run: an
//! object is complete before it can be found, and a worker killed before the swap leaves an object
//! that nobody can reach. [`Index::drop_uncommitted`] runs when the workers are gone.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use shmheap::{Handle, Heap, Untyped};

use super::object::{self, Words};
use super::plan::Plan;

/// Word record: the next word, the first place, the text's bytes, then the text.
const WORD_HEADER: usize = 3;
/// Place record: the next place, document and position, ticket.
const PLACE_WORDS: usize = 3;

/// Document and position in it, as one number that sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

impl Place {
    pub(super) fn new(document: usize, position: u64) -> Self {
        Self((document as u64) << 32 | position)
    }

    pub(super) fn document(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// A word of the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'h> {
    pub(super) handle: Handle,
    words: Words<'h>,
}

impl<'h> Word<'h> {
    fn first_place(&self) -> Option<&'h AtomicU64> {
        self.words.get(1)
    }

    pub(super) fn text(&self) -> String {
        let bytes = self.words.get(2).map_or(0, |word| word.load(Ordering::Relaxed));
        let text = self.words.get(WORD_HEADER..).unwrap_or_default();
        String::from_utf8_lossy(&object::load_text(text, bytes as usize)).into_owned()
    }

    fn is(&self, text: &str) -> bool {
        let length = self.words.get(2).map_or(0, |word| word.load(Ordering::Relaxed));
        length == text.len() as u64
            && self
                .words
                .get(WORD_HEADER..)
                .is_some_and(|words| object::is_text(words, text.as_bytes()))
    }
}

/// The index as mapped here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index<'h> {
    pub(super) heap: &'h Heap,
    /// First words of the buckets; their number is a power of two.
    pub(super) buckets: Words<'h>,
    /// No chain has more objects than that.
    pub(super) chain_limit: u64,
}

impl<'h> Index<'h> {
    fn bucket(&self, text: &str) -> Option<&'h AtomicU64> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.buckets.get(hasher.finish() as usize & (self.buckets.len().wrapping_sub(1)))
    }

    /// The chain that starts at `head`.
    fn chain(&self, head: &AtomicU64) -> Chain<'h> {
        // Acquire: pairs with the Release of the swap that put the object there.
        let next = Handle::from_raw(head.load(Ordering::Acquire));
        Chain { heap: self.heap, next, left: self.chain_limit }
    }

    /// Enters that `text` stands at `place`, found in an attempt with this ticket. `allocated` is
    /// called for every object made.
    pub(super) fn enter(
        &self,
        text: &str,
        place: Place,
        ticket: u64,
        mut allocated: impl FnMut(),
    ) -> Result<()> {
        let word = self.find_or_add(text, &mut allocated)?;
        let (handle, fields) = object::allocate(self.heap, PLACE_WORDS)?;
        allocated();
        let [next, at, of_attempt, ..] = fields else { bail!("a place of too few words") };
        at.store(place.0, Ordering::Relaxed);
        of_attempt.store(ticket, Ordering::Relaxed);
        let Some(first) = word.first_place() else { bail!("a word of too few words") };
        push(first, handle, next);
        Ok(())
    }

    fn find_or_add(&self, text: &str, allocated: &mut impl FnMut()) -> Result<Word<'h>> {
        let Some(bucket) = self.bucket(text) else { bail!("an index without buckets") };
        if let Some(word) = self.find_in(bucket, text)? {
            return Ok(word);
        }
        let length = WORD_HEADER + object::text_words(text.len());
        let (handle, words) = object::allocate(self.heap, length)?;
        allocated();
        let [next, _, bytes, letters @ ..] = words else { bail!("a word of too few words") };
        bytes.store(text.len() as u64, Ordering::Relaxed);
        object::store_text(letters, text.as_bytes());
        loop {
            // Acquire: pairs with the Release of `push` and of the swap below.
            let head = bucket.load(Ordering::Acquire);
            if let Some(word) = self.find_in(bucket, text)? {
                // Another worker was faster; nobody has seen ours.
                object::free(self.heap, handle)?;
                return Ok(word);
            }
            next.store(head, Ordering::Relaxed);
            let raw = handle.to_raw();
            // Release: pairs with the Acquire of `Chain`, which then sees the whole record.
            if bucket.compare_exchange(head, raw, Ordering::Release, Ordering::Relaxed).is_ok() {
                return Ok(Word { handle, words });
            }
        }
    }

    fn find_in(&self, bucket: &AtomicU64, text: &str) -> Result<Option<Word<'h>>> {
        for link in self.chain(bucket) {
            let (handle, words) = link?;
            let word = Word { handle, words };
            if word.is(text) {
                return Ok(Some(word));
            }
        }
        Ok(None)
    }

    /// The word `text`, if it is in the index.
    pub(super) fn find(&self, text: &str) -> Result<Option<Word<'h>>> {
        self.bucket(text).map_or(Ok(None), |bucket| self.find_in(bucket, text))
    }

    /// All words, in no order.
    pub(super) fn words(&self) -> Result<Vec<Word<'h>>> {
        let mut all = Vec::new();
        for bucket in self.buckets {
            for link in self.chain(bucket) {
                let (handle, words) = link?;
                all.push(Word { handle, words });
            }
        }
        Ok(all)
    }

    /// The places of a word that count, in order.
    pub(super) fn places(&self, word: &Word<'h>, plan: &Plan<'h>) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for entry in self.entries(word)? {
            if plan.is_committed(entry.place.document(), entry.ticket) {
                places.push(entry.place);
            }
        }
        places.sort_unstable();
        Ok(places)
    }

    fn entries(&self, word: &Word<'h>) -> Result<Vec<Entry<'h>>> {
        let Some(first) = word.first_place() else { bail!("a word of too few words") };
        self.chain(first)
            .map(|link| {
                let (handle, fields) = link?;
                let [next, place, ticket, ..] = fields else {
                    bail!("the place {handle} is too short")
                };
                let place = Place(place.load(Ordering::Relaxed));
                Ok(Entry { handle, next, place, ticket: ticket.load(Ordering::Relaxed) })
            })
            .collect()
    }

    /// Unlinks the places that do not count. Only for a single process: the workers are gone.
    /// Returns the handles of the places that stay.
    pub(super) fn drop_uncommitted(&self, word: &Word<'h>, plan: &Plan<'h>) -> Result<Vec<Handle>> {
        let mut entries = self.entries(word)?;
        entries.retain(|entry| plan.is_committed(entry.place.document(), entry.ticket));
        let mut link = word.first_place();
        for entry in &entries {
            if let Some(link) = link {
                link.store(entry.handle.to_raw(), Ordering::Relaxed);
            }
            link = Some(entry.next);
        }
        if let Some(link) = link {
            link.store(Handle::<Untyped>::NONE.to_raw(), Ordering::Relaxed);
        }
        Ok(entries.into_iter().map(|entry| entry.handle).collect())
    }
}

/// A place as it stands in the heap.
#[derive(Debug)]
struct Entry<'h> {
    handle: Handle,
    next: &'h AtomicU64,
    place: Place,
    ticket: u64,
}

/// Puts the object `handle`, whose link is `next`, at the head of a chain.
fn push(head: &AtomicU64, handle: Handle, next: &AtomicU64) {
    let mut first = head.load(Ordering::Relaxed);
    loop {
        next.store(first, Ordering::Relaxed);
        // Release: pairs with the Acquire of `Chain`, which then sees the whole record. Records
        // further down were published by earlier swaps, of whose release sequence this one is part.
        match head.compare_exchange_weak(
            first,
            handle.to_raw(),
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => return,
            Err(found) => first = found,
        }
    }
}

/// The objects of a chain; the first word of each is the link to the next.
#[derive(Debug)]
struct Chain<'h> {
    heap: &'h Heap,
    next: Handle,
    /// More objects than the heap has mean a chain that runs in circles.
    left: u64,
}

impl<'h> Iterator for Chain<'h> {
    type Item = Result<(Handle, Words<'h>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let handle = std::mem::replace(&mut self.next, Handle::NONE);
        if handle == Handle::NONE {
            return None;
        }
        if self.left == 0 {
            return Some(Err(anyhow::anyhow!("a chain of the index runs in circles at {handle}")));
        }
        self.left -= 1;
        match object::view(self.heap, handle) {
            Err(error) => Some(Err(error.into())),
            Ok(words) => {
                let link = words.first().map_or(0, |word| word.load(Ordering::Relaxed));
                self.next = Handle::from_raw(link);
                Some(Ok((handle, words)))
            }
        }
    }
}
