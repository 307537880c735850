//! Under which tag a thread allocates.
//!
//! A tag is the thread's, not an argument: so what allocates inside (a map that grows, a box, a
//! root) is counted under it as well. Scopes lie in a thread-local list, the innermost last, each
//! with the heap that it is for; a heap is told by its id, for it may move.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::heap::Heap;
use crate::labels::tags::why_no_name;
use crate::labels::{self, Tag};
use crate::{Error, Result};

/// The tag of a thread in one heap.
#[derive(Debug, Clone, Copy)]
struct Scope {
    heap: u128,
    tag: Tag,
    /// Tells it from every other; 0 is the tag that the thread has for good.
    number: u64,
}

#[derive(Debug)]
struct Scopes {
    open: Vec<Scope>,
    next_number: u64,
}

impl Scopes {
    const NONE: Self = Self { open: vec![], next_number: 1 };
}

thread_local! {
    static SCOPES: RefCell<Scopes> = const { RefCell::new(Scopes::NONE) };
}

/// What this thread allocates in a heap is counted under a tag as long as this lives. Made by
/// [`Heap::tag_scope`].
#[derive(Debug)]
#[must_use = "the tag is set until this is dropped"]
pub struct TagScope {
    number: u64,
    /// It is this thread's.
    not_send: PhantomData<*const ()>,
}

impl Drop for TagScope {
    fn drop(&mut self) {
        // At the end of a thread the list may be gone, and nothing else asks for it.
        let _ = SCOPES.try_with(|scopes| {
            scopes.borrow_mut().open.retain(|scope| scope.number != self.number);
        });
    }
}

impl Heap {
    /// Does `body`, and has what this thread allocates in this heap meanwhile counted under a tag:
    /// objects, boxes, and what collections and roots allocate inside.
    ///
    /// In a heap without [`labels`](crate::HeapOptions::labels), and by a read-only connection,
    /// nothing is counted, and this is `body` alone; so a library may use tags in any heap.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTag`] above 48 bytes, and [`Error::TooManyTags`].
    ///
    /// ```
    /// use shmheap::HeapOptions;
    /// use std::alloc::Layout;
    ///
    /// let heap = HeapOptions::new(1 << 20).labels().create_memfd()?;
    /// let tree = heap.with_tag("parser", || heap.alloc(Layout::new::<[u64; 100]>()))??;
    /// let usage = heap.usage().unwrap();
    /// let parser = usage.tags.iter().find(|tag| tag.name == "parser").unwrap();
    /// assert_eq!((parser.objects, parser.bytes), (1, heap.usable_size(tree)? as u64));
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn with_tag<T>(&self, tag: &str, body: impl FnOnce() -> T) -> Result<T> {
        let _scope = self.tag_scope(tag)?;
        Ok(body())
    }

    /// As [`with_tag`](Self::with_tag), until what is returned is dropped. Inside of such a scope
    /// another may be opened; "" is that of what has no tag.
    ///
    /// # Errors
    ///
    /// As [`with_tag`](Self::with_tag).
    pub fn tag_scope(&self, tag: &str) -> Result<TagScope> {
        let found = self.tag(tag)?;
        // A thread that is ending may have no list any more: what it still allocates has no tag.
        let number = SCOPES.try_with(|scopes| {
            let scopes = &mut scopes.borrow_mut();
            let number = scopes.next_number;
            scopes.next_number += 1;
            if let Some(tag) = found {
                scopes.open.push(Scope { heap: self.shape.identity.id, tag, number });
            }
            number
        });
        Ok(TagScope { number: number.unwrap_or_default(), not_send: PhantomData })
    }

    /// Sets the tag that this thread has in this heap for good, beneath all scopes; `None` that of
    /// its process: the one that the environment variable `SHMHEAP_TAG` names when the process
    /// connects, else none.
    ///
    /// # Errors
    ///
    /// As [`with_tag`](Self::with_tag).
    pub fn set_thread_tag(&self, tag: Option<&str>) -> Result<()> {
        let heap = self.shape.identity.id;
        let found = tag.map(|tag| self.tag(tag)).transpose()?.flatten();
        // As above.
        let _ = SCOPES.try_with(|scopes| {
            let scopes = &mut scopes.borrow_mut();
            scopes.open.retain(|scope| scope.heap != heap || scope.number != 0);
            if let Some(tag) = found {
                scopes.open.insert(0, Scope { heap, tag, number: 0 });
            }
        });
        Ok(())
    }

    /// The tag of that name; `None` where nothing is counted.
    fn tag(&self, name: &str) -> Result<Option<Tag>> {
        checked(name)?;
        let Some(labels) = self.shape.labels.as_ref().filter(|_| !self.is_read_only()) else {
            return Ok(None);
        };
        self.me("set a tag")?;
        self.tag_in(labels, name).map(Some)
    }

    pub(super) fn tag_in(&self, labels: &labels::Layout, name: &str) -> Result<Tag> {
        checked(name)?;
        let limit = labels::layout::TAGS as u32 - 1;
        self.tally(labels).tag(name).ok_or(Error::TooManyTags { limit })
    }

    /// The tag that this thread allocates under.
    #[inline]
    pub(super) fn thread_tag(&self, labels: &labels::Layout) -> Result<Tag> {
        let heap = self.shape.identity.id;
        let innermost = SCOPES.try_with(|scopes| {
            let scopes = scopes.try_borrow().ok()?;
            scopes.open.iter().rev().find(|scope| scope.heap == heap).map(|scope| scope.tag)
        });
        match innermost.ok().flatten() {
            Some(tag) => Ok(tag),
            None => match self.labelling.as_deref() {
                Some(labelling) => labelling.default_tag(|name| self.tag_in(labels, name)),
                None => Ok(Tag::NONE),
            },
        }
    }
}

fn checked(name: &str) -> Result<()> {
    match why_no_name(name) {
        None => Ok(()),
        Some(why) => Err(Error::InvalidTag { name: name.to_owned(), why }),
    }
}
