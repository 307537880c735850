//! The text of the demo: what files hold, or documents made from a built-in tale.
//!
//! A document is what one worker indexes at a time and what a killed worker loses, so long files
//! are cut into pieces.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The longest piece of a file.
const PIECE_BYTES: usize = 8 << 10;
/// Where a zero byte makes a file binary.
const PROBE_BYTES: usize = 8 << 10;
/// Sentences in a document made from the tale.
const SENTENCES: usize = 40;

const TALE: &str = include_str!("harbour.txt");

/// One piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) text: String,
}

/// All documents, and where they come from.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) source: String,
    pub(super) documents: Vec<Document>,
    /// Binary and unreadable files that were passed over.
    pub(super) skipped: u64,
}

impl Corpus {
    /// Bytes of text.
    pub(super) fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.text.len() as u64).sum()
    }
}

/// Reads a file, or all files under a directory, at most `limit_bytes` of them.
pub(super) fn read(path: &Path, limit_bytes: u64) -> Result<Corpus> {
    let source = path.display().to_string();
    let mut corpus = Corpus { source, documents: Vec::new(), skipped: 0 };
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut left_bytes = limit_bytes;
    if metadata.is_dir() {
        read_directory(path, &mut corpus, &mut left_bytes)?;
    } else if !metadata.is_file() || !read_file(path, &mut corpus, &mut left_bytes)? {
        bail!("{} is not a readable text file", path.display());
    }
    if !corpus.documents.iter().any(|document| super::words::raw(&document.text).next().is_some()) {
        bail!(
            "there are no words in {}; give a text, or no path for the built-in one",
            path.display()
        );
    }
    Ok(corpus)
}

/// Reads files in order of their names; hidden ones and links are passed over.
fn read_directory(path: &Path, corpus: &mut Corpus, left_bytes: &mut u64) -> Result<()> {
    let Ok(entries) = fs::read_dir(path) else {
        corpus.skipped += 1;
        return Ok(());
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => {
                read_directory(&entry.path(), corpus, left_bytes)?;
            }
            Ok(kind) if kind.is_file() && !hidden => {
                let read = read_file(&entry.path(), corpus, left_bytes)?;
                corpus.skipped += u64::from(!read);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Adds the pieces of a file; `false` if it is binary or cannot be read.
fn read_file(path: &Path, corpus: &mut Corpus, left_bytes: &mut u64) -> Result<bool> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    *left_bytes = left_bytes.checked_sub(length).with_context(|| {
        format!("{} is more text than shared memory can hold; give less of it", corpus.source)
    })?;
    let Ok(bytes) = fs::read(path) else { return Ok(false) };
    if bytes.iter().take(PROBE_BYTES).any(|&byte| byte == 0) {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut line = 1;
    for piece in pieces(&text) {
        let name = format!("{}:{line}", path.display());
        corpus.documents.push(Document { name, text: piece.to_owned() });
        line += piece.matches('\n').count();
    }
    Ok(true)
}

/// Cuts a text into pieces of at most about [`PIECE_BYTES`], at line ends, or between words where a
/// line is longer.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut window_end = PIECE_BYTES.min(rest.len());
        while !rest.is_char_boundary(window_end) {
            window_end -= 1;
        }
        let window = rest.get(..window_end)?;
        let end = if window.len() == rest.len() {
            window.len()
        } else if let Some(at) = window.rfind('\n') {
            at + 1
        } else {
            // No cut inside a word, however long it is: words are counted, pieces are not.
            let cut = |c: char| !c.is_alphanumeric();
            match window.rfind(cut) {
                Some(at) if at > 0 => at,
                _ => rest.char_indices().skip(1).find(|&(_, c)| cut(c)).map_or(rest.len(), |c| c.0),
            }
        };
        let (piece, remainder) = rest.split_at_checked(end)?;
        rest = remainder;
        Some(piece)
    })
}

/// Pages of a ledger with about `words` words in all, each made of sentences of the tale.
pub(super) fn built_in(words: u64) -> Corpus {
    let sentences: Vec<&str> =
        TALE.split_inclusive(['.', '?']).map(str::trim).filter(|text| !text.is_empty()).collect();
    let mut random = Random(1);
    let mut documents = Vec::new();
    let mut made = 0;
    while made < words {
        let number = documents.len() + 1;
        let mut text = format!("Page {number} of the great ledger of Kell.");
        for _ in 0..SENTENCES {
            text.push(' ');
            text.push_str(random.choose(&sentences));
        }
        made += super::words::raw(&text).count() as u64;
        documents.push(Document { name: format!("page {number}"), text });
    }
    Corpus { source: "a built-in tale, its sentences shuffled".to_owned(), documents, skipped: 0 }
}

/// Numbers that look random and are the same every time (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn choose<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let count = texts.len().max(1) as u64;
        texts.get(self.below(count) as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_text_and_cut_no_word() {
        let line = "one two three four five six seven eight nine ten\n";
        let texts = [
            String::new(),
            "short".to_owned(),
            line.repeat(1000),
            line.replace('\n', " ").repeat(1000),
            "x".repeat(3 * PIECE_BYTES),
            "\u{e9}".repeat(3 * PIECE_BYTES),
            format!(" {}", "y".repeat(PIECE_BYTES)),
        ];
        for text in texts {
            let pieces: Vec<&str> = pieces(&text).collect();
            assert_eq!(pieces.concat(), text);
            let words = |text| super::super::words::raw(text).count();
            assert_eq!(pieces.iter().map(|piece| words(piece)).sum::<usize>(), words(&text));
            let shortest = line.len() * 100;
            assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() >= shortest));
        }
    }

    #[test]
    fn directories_are_read_in_order_without_binaries() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("b.txt", b"second");
        write("a/nested.txt", b"first \xff word");
        write("program", b"\x7fELF\0\0");
        write(".hidden", b"never");
        let corpus = read(directory.path(), u64::MAX).unwrap();
        let texts: Vec<&str> = corpus.documents.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["first \u{fffd} word", "second"]);
        assert_eq!(corpus.skipped, 1);
        assert!(corpus.documents[0].name.ends_with("nested.txt:1"));
    }

    #[test]
    fn texts_that_cannot_be_indexed_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let told = |path: &Path, limit| format!("{:#}", read(path, limit).unwrap_err());
        assert!(told(directory.path(), 9).contains("no words"));
        assert!(told(&directory.path().join("none"), 9).contains("cannot read"));
        let file = directory.path().join("file");
        fs::write(&file, "ten bytes!").unwrap();
        assert!(read(&file, 10).is_ok());
        assert!(told(&file, 9).contains("more text"));
        fs::write(&file, "\0").unwrap();
        assert!(told(&file, 9).contains("not a readable text"));
        assert!(told(Path::new("/dev/zero"), 9).contains("not a readable text"));
    }

    #[test]
    fn the_built_in_text_is_always_the_same() {
        let corpus = built_in(10_000);
        assert_eq!(corpus.documents, built_in(10_000).documents);
        assert!(corpus.documents.len() > 5);
        assert_ne!(corpus.documents[0].text, corpus.documents[1].text);
    }
}
