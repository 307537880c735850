//! The plain count: what the index has to be, found by one process without shared memory.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;

use super::corpus::Document;
use super::directory::Directory;
use super::index::Place;
use super::query::{Answer, most_frequent};
use super::words;

/// The shortest word of a query: shorter ones tell little.
const QUERY_WORD_LETTERS: usize = 5;
/// Words in a query.
const QUERY_WORDS: usize = 2;

/// Every word and its places, in order.
#[derive(Debug)]
pub(super) struct Count {
    words: HashMap<String, Vec<Place>>,
    pub(super) places: u64,
}

impl Count {
    pub(super) fn of(documents: &[Document]) -> Self {
        let mut count = Self { words: HashMap::new(), places: 0 };
        for (number, document) in documents.iter().enumerate() {
            let mut position = 0;
            let Ok(()) = words::each(&document.text, |word| {
                let place = Place::new(number, position);
                position += 1;
                match count.words.get_mut(word) {
                    Some(places) => places.push(place),
                    None => {
                        count.words.insert(word.to_owned(), vec![place]);
                    }
                }
                Ok::<(), std::convert::Infallible>(())
            });
            count.places += position;
        }
        count
    }

    /// Number of different words.
    pub(super) fn words(&self) -> u64 {
        self.words.len() as u64
    }

    /// Bytes of all different words.
    pub(super) fn word_bytes(&self) -> u64 {
        self.words.keys().map(|word| word.len() as u64).sum()
    }

    /// Words that make a query with an interesting answer: each occurs in about half of the
    /// documents.
    pub(super) fn query(&self, documents: usize) -> Vec<String> {
        let distance = |places: &[Place]| (2 * documents_of(places).len()).abs_diff(documents);
        let mut candidates: Vec<(usize, &String)> = self
            .words
            .iter()
            .filter(|(word, _)| word.chars().count() >= QUERY_WORD_LETTERS)
            .map(|(word, places)| (distance(places), word))
            .collect();
        candidates.sort_unstable();
        candidates.into_iter().take(QUERY_WORDS).map(|(_, word)| word.clone()).collect()
    }

    /// What the query process has to answer.
    pub(super) fn answer(&self, query: &[String], documents: &[Document]) -> Answer {
        let counts =
            self.words.iter().map(|(word, places)| (word.clone(), places.len() as u64)).collect();
        let mut sets = query.iter().map(|word| {
            self.words.get(word).map(|places| documents_of(places)).unwrap_or_default()
        });
        let first = sets.next().unwrap_or_default();
        let common = sets.fold(first, |common, set| common.intersection(&set).copied().collect());
        let name = common.first().and_then(|&number| documents.get(number));
        Answer {
            words: self.words(),
            places: self.places,
            top: most_frequent(counts),
            documents: common.len() as u64,
            first: name.map(|document| document.name.clone()),
        }
    }

    /// Compares every place of every word in the index with this count.
    pub(super) fn compare(&self, directory: &Directory<'_>) -> Result<Difference> {
        let mut difference = Difference::default();
        let mut found: u64 = 0;
        let mut places_seen = 0;
        for word in directory.index.words()? {
            let places = directory.index.places(&word, &directory.plan)?;
            if places.is_empty() {
                continue;
            }
            let expected = self.words.get(&word.text()).map(Vec::as_slice).unwrap_or_default();
            found += u64::from(!expected.is_empty());
            places_seen += expected.len() as u64;
            difference.add(expected, &places);
        }
        // What no word of the index accounts for.
        difference.missing += self.places - places_seen.min(self.places);
        difference.words_missing = self.words() - found.min(self.words());
        Ok(difference)
    }
}

fn documents_of(places: &[Place]) -> BTreeSet<usize> {
    places.iter().map(|place| place.document()).collect()
}

/// How an index differs from the plain count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) words_missing: u64,
    /// Places that the text has and the index has not.
    pub(super) missing: u64,
    /// Places that the index has and the text has not, or that it has twice.
    pub(super) extra: u64,
}

impl Difference {
    /// Counts the differences of two sorted lists.
    fn add(&mut self, expected: &[Place], found: &[Place]) {
        let (mut expected, mut found) = (expected.iter().peekable(), found.iter().peekable());
        loop {
            match (expected.peek(), found.peek()) {
                (None, None) => return,
                (Some(a), Some(b)) if a == b => {
                    expected.next();
                    found.next();
                }
                (Some(a), Some(b)) if a < b => {
                    self.missing += 1;
                    expected.next();
                }
                (Some(_), None) => {
                    self.missing += 1;
                    expected.next();
                }
                (_, Some(_)) => {
                    self.extra += 1;
                    found.next();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(texts: &[&str]) -> Vec<Document> {
        let document = |(number, text): (usize, &&str)| Document {
            name: number.to_string(),
            text: (*text).to_owned(),
        };
        texts.iter().enumerate().map(document).collect()
    }

    #[test]
    fn every_place_is_counted() {
        let count = Count::of(&documents(&["A b a", "b! c?", ""]));
        assert_eq!((count.words(), count.places, count.word_bytes()), (3, 5, 3));
        assert_eq!(count.words["a"], [Place::new(0, 0), Place::new(0, 2)]);
        assert_eq!(count.words["b"], [Place::new(0, 1), Place::new(1, 0)]);
    }

    #[test]
    fn the_answer_names_documents_with_all_words() {
        let documents = documents(&["north", "north south", "south west", "north south"]);
        let count = Count::of(&documents);
        let query = ["north".to_owned(), "south".to_owned()];
        let answer = count.answer(&query, &documents);
        assert_eq!((answer.documents, answer.first.as_deref()), (2, Some("1")));
        assert_eq!(answer.top[0], ("north".to_owned(), 3), "alphabetical among equals");
        assert_eq!(count.query(4).len(), 2);
        assert_eq!(count.answer(&["none".to_owned()], &documents).documents, 0);
    }

    #[test]
    fn differences_are_counted_both_ways() {
        let place = |position| Place::new(0, position);
        let mut difference = Difference::default();
        difference.add(&[place(1), place(2), place(3)], &[place(2), place(2), place(4)]);
        assert_eq!((difference.missing, difference.extra), (2, 2));
        let mut same = Difference::default();
        same.add(&[place(1), place(2)], &[place(1), place(2)]);
        assert_eq!(same, Difference::default());
    }
}
