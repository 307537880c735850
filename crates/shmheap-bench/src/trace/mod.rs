//! Traces: what a real program allocated and freed, and in which order. Nothing else of it.
//!
//! A trace is a sequence of numbers, seven bits a byte and the lowest first (LEB128), under gzip:
//!
//! | number | stands for |
//! |---|---|
//! | the first | how many objects there are |
//! | `2 * bytes` | an object begins, of so many bytes |
//! | `2 * age + 1` | an object ends: 1 is the one that began last, 2 the one before |
//!
//! Most objects die young, so ages are small numbers. Every object ends, so a trace can be replayed
//! again and again. A change of size is a beginning and an end. Alignments above that of the
//! peers' objects are not kept, and no object has fewer than the eight bytes that are written.
//!
//! `recorder/record.c` says how the shipped trace was made, and how to make another.

pub(crate) mod pack;

use std::io::{self, BufReader, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

const SHIPPED: &[u8] = include_bytes!("../../traces/python.gz");

/// No object is smaller.
const BYTES_MIN: u32 = 8;

/// Objects are numbered in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next object begins.
    Alloc {
        bytes: u32,
    },
    Free {
        object: u32,
    },
}

/// See the module's text. Every object begins and ends once, in this order.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) events: Vec<Event>,
    pub(crate) peak: Peak,
}

/// When the program had most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    pub(crate) live_bytes: u64,
    /// The event that led there.
    pub(crate) event: usize,
}

impl Trace {
    /// The trace that comes with the bench.
    pub(crate) fn shipped() -> Result<Self> {
        Self::read(SHIPPED).context("the trace that is shipped")
    }

    pub(crate) fn read(compressed: &[u8]) -> Result<Self> {
        let mut numbers = Numbers(BufReader::new(GzDecoder::new(compressed)).bytes());
        let objects = u32::try_from(numbers.next()?).context("more objects than can be counted")?;
        let mut events = Vec::new();
        events.try_reserve_exact(2 * objects as usize)?;
        let mut bookkeeper = Bookkeeper::default();
        for _ in 0..2 * u64::from(objects) {
            let number = numbers.next()?;
            events.push(bookkeeper.check(number, objects)?);
        }
        ensure!(numbers.0.next().is_none(), "there are more than {objects} objects");
        Ok(Self { events, peak: bookkeeper.peak })
    }

    /// How many objects begin and end.
    pub(crate) fn objects(&self) -> usize {
        self.events.len() / 2
    }
}

/// Writes a trace. Every object of the events begins and ends once, in this order.
fn write(events: &[Event], out: impl Write) -> io::Result<()> {
    let mut out = GzEncoder::new(out, Compression::best());
    write_number(events.len() as u64 / 2, &mut out)?;
    let mut begun = 0;
    for event in events {
        let number = match *event {
            Event::Alloc { bytes } => {
                begun += 1;
                2 * u64::from(bytes)
            }
            Event::Free { object } => 2 * (begun - u64::from(object)) + 1,
        };
        write_number(number, &mut out)?;
    }
    out.finish()?.flush()
}

fn write_number(mut number: u64, out: &mut impl Write) -> io::Result<()> {
    while number >= 0x80 {
        out.write_all(&[number as u8 | 0x80])?;
        number >>= 7;
    }
    out.write_all(&[number as u8])
}

/// The numbers of a trace.
struct Numbers<R>(io::Bytes<R>);

impl<R: Read> Numbers<R> {
    fn next(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.0.next().context("it ends too early")??;
            let bits = u64::from(byte & 0x7f);
            ensure!(bits << shift >> shift == bits, "a number is too large");
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        bail!("a number is too long")
    }
}

/// Follows the events: which objects live, and how many bytes they have together.
#[derive(Default)]
struct Bookkeeper {
    /// By object; `None` when it has ended.
    bytes_of: Vec<Option<u32>>,
    live_bytes: u64,
    events: usize,
    peak: Peak,
}

impl Bookkeeper {
    /// The event that a number stands for, if it can be the next.
    fn check(&mut self, number: u64, objects: u32) -> Result<Event> {
        let begun = self.bytes_of.len() as u64;
        let event = if number.is_multiple_of(2) {
            let bytes = u32::try_from(number / 2).ok().filter(|&bytes| bytes >= BYTES_MIN);
            let bytes =
                bytes.with_context(|| format!("object {begun} has {} bytes", number / 2))?;
            ensure!(begun < objects.into(), "there are more than {objects} objects");
            self.bytes_of.push(Some(bytes));
            self.live_bytes += u64::from(bytes);
            Event::Alloc { bytes }
        } else {
            let object = begun.checked_sub(number / 2).filter(|&object| object < begun);
            let object = object.context("an object ends that did not begin")?;
            let bytes = self.bytes_of[object as usize].take();
            self.live_bytes -= u64::from(bytes.context("an object ends twice")?);
            Event::Free { object: object as u32 }
        };
        if self.live_bytes > self.peak.live_bytes {
            self.peak = Peak { live_bytes: self.live_bytes, event: self.events };
        }
        self.events += 1;
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 6] = [
        Event::Alloc { bytes: 8 },
        Event::Alloc { bytes: u32::MAX },
        Event::Free { object: 0 },
        Event::Alloc { bytes: 300 },
        Event::Free { object: 2 },
        Event::Free { object: 1 },
    ];

    fn compressed(events: &[Event]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(events, &mut bytes).unwrap();
        bytes
    }

    /// What is said about a trace of these numbers.
    fn complaint(numbers: &[u64]) -> String {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        for &number in numbers {
            write_number(number, &mut out).unwrap();
        }
        Trace::read(&out.finish().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn events_come_back() {
        let trace = Trace::read(&compressed(&EVENTS)).unwrap();
        assert_eq!(trace.events, EVENTS);
        assert_eq!(trace.objects(), 3);
        assert_eq!(trace.peak, Peak { live_bytes: u64::from(u32::MAX) + 300, event: 3 });
        assert!(Trace::read(&compressed(&[])).unwrap().events.is_empty());
    }

    #[test]
    fn a_cut_trace_is_refused() {
        let whole = compressed(&EVENTS);
        for len in 0..whole.len() {
            assert!(Trace::read(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_damaged_trace_is_refused_or_the_same() {
        let whole = compressed(&EVENTS);
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The head has a time, and the last byte of the middle bits that nobody reads.
            let trace = Trace::read(&damaged);
            assert!(trace.is_err() || trace.is_ok_and(|same| same.events == EVENTS), "bit {bit}");
        }
    }

    #[test]
    fn an_impossible_trace_is_refused() {
        let [alloc, free] = [2 * 64, 2 + 1];
        assert_eq!(complaint(&[]), "it ends too early");
        assert_eq!(complaint(&[1, alloc]), "it ends too early");
        assert_eq!(complaint(&[1, free]), "an object ends that did not begin");
        assert_eq!(complaint(&[1, alloc, 1]), "an object ends that did not begin");
        assert_eq!(complaint(&[1, alloc, alloc]), "there are more than 1 objects");
        assert_eq!(complaint(&[1, alloc, free, alloc]), "there are more than 1 objects");
        assert_eq!(complaint(&[2, alloc, free, free, alloc]), "an object ends twice");
        assert_eq!(complaint(&[1, 2 * 7, free]), "object 0 has 7 bytes");
        assert_eq!(
            complaint(&[1, u64::MAX - 1, free]),
            format!("object 0 has {} bytes", u64::MAX / 2)
        );
        assert_eq!(complaint(&[u64::MAX]), "more objects than can be counted");
    }

    #[test]
    fn numbers_come_back() {
        for number in (0..64).map(|shift| u64::MAX >> shift).chain([0]) {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes).unwrap();
            assert_eq!(Numbers((&*bytes).bytes()).next().unwrap(), number);
        }
        let next = |bytes: &[u8]| Numbers(bytes.bytes()).next().unwrap_err().to_string();
        assert_eq!(next(&[0xff; 10]), "a number is too large");
        assert_eq!(next(&[0x80; 20]), "a number is too long");
    }

    #[test]
    fn the_shipped_trace_is_what_its_tables_say() {
        let trace = Trace::shipped().unwrap();
        assert_eq!((trace.objects(), trace.peak.live_bytes), (412_059, 7_346_599));
    }
}
