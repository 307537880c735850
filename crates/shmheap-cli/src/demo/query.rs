//! The query process: connects read-only by name and answers from what others left in the heap.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shmheap::Heap;

use super::directory::Directory;
use crate::args::DemoQuery;
use crate::{Verdict, output};

/// How many of the most frequent words are told.
pub(super) const TOP: usize = 4;

/// What the process found, as it writes it to its output.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Different words.
    pub(super) words: u64,
    /// All places of all words.
    pub(super) places: u64,
    /// The most frequent words and how often they occur; equals in alphabetical order.
    pub(super) top: Vec<(String, u64)>,
    /// Documents in which all words of the query occur.
    pub(super) documents: u64,
    /// The name of the first of them.
    pub(super) first: Option<String>,
}

/// The process.
pub(super) fn run(arguments: &DemoQuery, out: &mut dyn Write) -> Result<Verdict> {
    let heap = Heap::connect_read_only(&arguments.heap)?;
    let directory = Directory::open(&heap, arguments.directory)?.with_chain_limit();
    output::json(out, &answer(&directory, &arguments.words)?)?;
    Ok(Verdict::Fine)
}

fn answer(directory: &Directory<'_>, query: &[String]) -> Result<Answer> {
    let mut counts = Vec::new();
    for word in directory.index.words()? {
        let places = directory.index.places(&word, &directory.plan)?;
        if !places.is_empty() {
            counts.push((word.text(), places.len() as u64));
        }
    }
    let words = counts.len() as u64;
    let places = counts.iter().map(|(_, count)| count).sum();
    let documents = documents_with_all(directory, query)?;
    let first = documents.first().map(|&document| directory.document(document)).transpose()?;
    Ok(Answer {
        words,
        places,
        top: most_frequent(counts),
        documents: documents.len() as u64,
        first: first.map(|document| document.name),
    })
}

/// The [`TOP`] most frequent words.
pub(super) fn most_frequent(mut counts: Vec<(String, u64)>) -> Vec<(String, u64)> {
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(TOP);
    counts
}

fn documents_with_all(directory: &Directory<'_>, query: &[String]) -> Result<BTreeSet<usize>> {
    let mut common: Option<BTreeSet<usize>> = None;
    for text in query {
        let places = match directory.index.find(text)? {
            Some(word) => directory.index.places(&word, &directory.plan)?,
            None => Vec::new(),
        };
        let documents: BTreeSet<usize> = places.iter().map(|place| place.document()).collect();
        common = Some(match common {
            None => documents,
            Some(earlier) => earlier.intersection(&documents).copied().collect(),
        });
    }
    Ok(common.unwrap_or_default())
}
