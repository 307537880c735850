//! A string interner for all processes of a machine: each text is kept once, and has one handle,
//! which is as good as the text and costs eight bytes.
//!
//! ```sh
//! cargo run --release --example interner
//! ```
//!
//! The texts are objects of the heap; a map leads from a text's hash to the newest text with that
//! hash, and each text to the one before it.

#![allow(unsafe_code, clippy::print_stdout)]

use std::env;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, Write};
use std::process::{Command, Stdio};

use shmheap::{Handle, Heap, HeapOptions, Shareable, ShmBox, ShmMap};

const TEXT_BYTES_MAX: usize = 48;
const WORDS: &str = "one fish two fish red fish blue fish black fish blue fish old fish new fish";

/// A text that is kept; never changed, so anybody may look at it.
#[derive(Shareable)]
#[repr(C)]
struct Text {
    /// Another of the same hash, or none.
    previous: Handle<Text>,
    len_bytes: u64,
    bytes: [u8; TEXT_BYTES_MAX],
}

impl Text {
    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len_bytes as usize).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

struct Interner<'h> {
    heap: &'h Heap,
    newest: shmheap::ShmArc<'h, ShmMap<u64, Handle<Text>>>,
}

impl<'h> Interner<'h> {
    /// The interner of a heap: the same for all who ask.
    fn of(heap: &'h Heap) -> shmheap::Result<Self> {
        let newest = heap.find_or_create::<ShmMap<u64, Handle<Text>>>("interner", |_| {})?;
        Ok(Self { heap, newest })
    }

    fn text(&self, handle: Handle<Text>) -> shmheap::Result<&'h Text> {
        // SAFETY: texts are not changed once they are in the map, nor freed.
        unsafe { self.heap.get(handle) }
    }

    /// The one handle of a text.
    fn intern(&self, text: &str) -> shmheap::Result<Handle<Text>> {
        if text.len() > TEXT_BYTES_MAX {
            let limit = TEXT_BYTES_MAX as u64;
            return Err(shmheap::Error::AtCapacity { what: "a text of the interner", limit });
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        loop {
            let newest = self.newest.get(self.heap, &hash)?.unwrap_or(Handle::NONE);
            let mut candidate = newest;
            while !candidate.is_none() {
                let known = self.text(candidate)?;
                if known.as_str() == text {
                    return Ok(candidate);
                }
                candidate = known.previous;
            }
            let mut new = ShmBox::<Text>::new_zeroed(self.heap)?;
            new.previous = newest;
            new.len_bytes = text.len() as u64;
            new.bytes[..text.len()].copy_from_slice(text.as_bytes());
            // Kept before others can find it: killed in between, this process leaves a text that
            // nobody uses, and not a handle of none.
            let new = new.keep();
            let is_added = match newest.is_none() {
                true => self.newest.insert_if_absent(self.heap, hash, new)?.is_none(),
                false => self.newest.replace_if(self.heap, &hash, &newest, new)?,
            };
            if is_added {
                return Ok(new);
            }
            // Somebody was faster, perhaps with the same text.
            // SAFETY: nobody else knows of it.
            unsafe { self.heap.free_typed(new) }?;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, name] = arguments.as_slice() {
        let heap = Heap::connect(name)?;
        return intern_all(&heap, &mut io::stdout());
    }
    let name = format!("/shmheap-interner-{}", std::process::id());
    let heap = HeapOptions::new(1 << 20).max_len(64 << 20).create(&name)?;
    let outcome = compare(&heap, &name);
    Heap::destroy(&name)?;
    outcome
}

/// Has several processes intern the same words, and compares what they got.
fn compare(heap: &Heap, name: &str) -> Result<(), Box<dyn Error>> {
    let others: Vec<_> = (0..3)
        .map(|_| Command::new(env::current_exe()?).arg(name).stdout(Stdio::piped()).spawn())
        .collect::<Result<_, _>>()?;
    let mut own = Vec::new();
    intern_all(heap, &mut own)?;
    for other in others {
        let output = other.wait_with_output()?;
        assert!(output.status.success());
        assert_eq!(output.stdout, own, "the same handles in every process");
    }
    let interner = Interner::of(heap)?;
    for line in own.lines() {
        let handle: Handle<Text> = line?.parse()?;
        println!("{handle} {}", interner.text(handle)?.as_str());
    }
    println!("{} different words", interner.newest.len(heap)?);
    Ok(())
}

fn intern_all(heap: &Heap, to: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let interner = Interner::of(heap)?;
    for word in WORDS.split(' ') {
        writeln!(to, "{}", interner.intern(word)?)?;
    }
    Ok(())
}
