//! The directory: the one object from which everything else in the demo's heap can be reached.
//!
//! Its handle is all that a worker is told besides the heap's name.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use shmheap::{Handle, Heap};

use super::corpus::Document;
use super::index::Index;
use super::object::{self, Words};
use super::plan::{Claim, DOCUMENT_ROW, Plan, WORKER_ROW};

/// Words of the directory: three tables, each a handle and a number of words, and the cursor.
const DIRECTORY_WORDS: usize = 7;
/// Text record: bytes of the name, bytes of the text, then name and text.
const TEXT_HEADER: usize = 2;

/// Everything that the demo keeps in its heap, as mapped here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory<'h> {
    heap: &'h Heap,
    pub(super) handle: Handle,
    words: Words<'h>,
    pub(super) plan: Plan<'h>,
    pub(super) index: Index<'h>,
}

impl<'h> Directory<'h> {
    /// Puts the documents and empty tables into the heap. Each worker finds a document claimed for
    /// it, as far as there are enough.
    pub(super) fn create(
        heap: &'h Heap,
        documents: &[Document],
        workers: u16,
        buckets: usize,
    ) -> Result<Self> {
        let (handle, words) = object::allocate(heap, DIRECTORY_WORDS)?;
        let lengths = [documents.len() * DOCUMENT_ROW, usize::from(workers) * WORKER_ROW, buckets];
        let mut fields = words.iter();
        for length in lengths {
            let (table, _) = object::allocate(heap, length)?;
            for value in [table.to_raw(), length as u64] {
                if let Some(field) = fields.next() {
                    field.store(value, Ordering::Relaxed);
                }
            }
        }
        if let Some(cursor) = fields.next() {
            cursor.store(documents.len().min(workers.into()) as u64, Ordering::Relaxed);
        }
        let directory = Self::open(heap, handle)?;
        for (number, (document, row)) in
            documents.iter().zip(directory.plan.documents.chunks(DOCUMENT_ROW)).enumerate()
        {
            let text = store_document(heap, document)?;
            let claim = match u16::try_from(number) {
                Ok(worker) if worker < workers => Claim::held(worker, 1),
                _ => Claim::OPEN,
            };
            for (word, value) in row.iter().zip([text.to_raw(), claim.0]) {
                word.store(value, Ordering::Relaxed);
            }
        }
        Ok(directory)
    }

    /// Resolves the directory and its tables.
    pub(super) fn open(heap: &'h Heap, handle: Handle) -> Result<Self> {
        let words = object::view(heap, handle).context("the demo's directory")?;
        let table = |number: usize| -> Result<Words<'h>> {
            let field = |index: usize| words.get(index).map_or(0, load);
            let table = object::view(heap, Handle::from_raw(field(2 * number)))?;
            table.get(..field(2 * number + 1) as usize).context("the demo's directory is damaged")
        };
        let cursor = words.get(DIRECTORY_WORDS - 1).context("the demo's directory is too short")?;
        let plan = Plan { heap, documents: table(0)?, workers: table(1)?, cursor };
        let index = Index { heap, buckets: table(2)?, chain_limit: u64::MAX };
        Ok(Self { heap, handle, words, plan, index })
    }

    /// The same for a reader that must not trust the index: no chain is followed beyond the number
    /// of objects in the heap.
    pub(super) fn with_chain_limit(mut self) -> Self {
        self.index.chain_limit = self.heap.stats().live_objects;
        self
    }

    /// The directory, its tables and the texts: all objects besides those of the index.
    pub(super) fn objects(&self) -> Vec<Handle> {
        let tables = self.words.iter().step_by(2).take(3);
        let mut handles = vec![self.handle];
        handles.extend(tables.map(|field| Handle::from_raw(load(field))));
        handles.extend((0..self.plan.document_count()).map(|n| self.plan.text_handle(n)));
        handles
    }

    /// Name and text of a document.
    pub(super) fn document(&self, number: usize) -> Result<Document> {
        let words = object::view(self.heap, self.plan.text_handle(number))?;
        let [name_bytes, text_bytes, letters @ ..] = words else {
            anyhow::bail!("document {number} is too short");
        };
        let (name_bytes, text_bytes) = (load(name_bytes) as usize, load(text_bytes) as usize);
        let (name, text) =
            letters.split_at_checked(object::text_words(name_bytes)).context("a damaged text")?;
        let text_of = |words: &[AtomicU64], bytes: usize| {
            String::from_utf8(object::load_text(words, bytes)).context("a damaged text")
        };
        Ok(Document { name: text_of(name, name_bytes)?, text: text_of(text, text_bytes)? })
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn store_document(heap: &Heap, document: &Document) -> Result<Handle> {
    let (name, text) = (document.name.as_bytes(), document.text.as_bytes());
    let name_words = object::text_words(name.len());
    let length = TEXT_HEADER + name_words + object::text_words(text.len());
    let (handle, words) = object::allocate(heap, length)?;
    if let [name_bytes, text_bytes, letters @ ..] = words {
        name_bytes.store(name.len() as u64, Ordering::Relaxed);
        text_bytes.store(text.len() as u64, Ordering::Relaxed);
        object::store_text(letters, name);
        object::store_text(letters.get(name_words..).unwrap_or_default(), text);
    }
    Ok(handle)
}
