//! From what `recorder/record.c` wrote to a trace: addresses become numbers of objects.
//!
//! An end without a beginning is of an object from before the recording, and left out. What lives
//! at the end of the record ends there, in the order of its beginning.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::{BYTES_MIN, Event};

/// `struct event` of the recorder.
const RECORD_BYTES: usize = 24;

/// The trace of a record.
pub(crate) fn pack(record: &[u8]) -> Result<Vec<u8>> {
    let mut trace = Vec::new();
    super::write(&events(record)?, &mut trace)?;
    Ok(trace)
}

fn events(record: &[u8]) -> Result<Vec<Event>> {
    ensure!(record.len().is_multiple_of(RECORD_BYTES), "the record ends within an event");
    let mut packer = Packer::default();
    for (at, event) in record.chunks_exact(RECORD_BYTES).enumerate() {
        let word = |number: usize| {
            let bytes = event[8 * number..][..8].try_into().expect("a word has eight bytes");
            u64::from_ne_bytes(bytes)
        };
        packer.add(word(0), word(1), word(2)).with_context(|| format!("event {at}"))?;
    }
    Ok(packer.finish())
}

#[derive(Default)]
struct Packer {
    /// Live objects by address.
    objects: HashMap<u64, u32>,
    begun: u32,
    events: Vec<Event>,
}

impl Packer {
    /// Object `old` ends and object `new` begins; 0 is none.
    fn add(&mut self, old: u64, new: u64, bytes: u64) -> Result<()> {
        // Both may have one address. Whoever changes a size needs both until he has copied.
        let ended = self.objects.remove(&old);
        if new != 0 {
            let bytes = u32::try_from(bytes).ok().context("an object of 4 GiB or more")?;
            self.events.push(Event::Alloc { bytes: bytes.max(BYTES_MIN) });
            let previous = self.objects.insert(new, self.begun);
            ensure!(previous.is_none(), "address {new:#x} was given out twice");
            self.begun += 1;
        }
        self.events.extend(ended.map(|object| Event::Free { object }));
        Ok(())
    }

    fn finish(mut self) -> Vec<Event> {
        let mut left: Vec<u32> = self.objects.into_values().collect();
        left.sort_unstable();
        self.events.extend(left.into_iter().map(|object| Event::Free { object }));
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::super::Trace;
    use super::*;

    fn record(events: &[[u64; 3]]) -> Vec<u8> {
        events.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn addresses_become_objects() {
        let record = record(&[
            [0, 0x10, 100],
            [0, 0x20, 0],
            [0x10, 0, 0],
            // The address is used again; an object moves; another changes its size in place.
            [0, 0x10, 200],
            [0x20, 0x30, 20],
            [0x10, 0x10, 300],
            // From before the recording.
            [0x40, 0, 0],
            [0x50, 0x60, 50],
        ]);
        let alloc = |bytes| Event::Alloc { bytes };
        let free = |object| Event::Free { object };
        let expected = vec![
            alloc(100),
            alloc(8),
            free(0),
            alloc(200),
            alloc(20),
            free(1),
            alloc(300),
            free(2),
            alloc(50),
            free(3),
            free(4),
            free(5),
        ];
        assert_eq!(events(&record).unwrap(), expected);
        assert_eq!(Trace::read(&pack(&record).unwrap()).unwrap().events, expected);
    }

    #[test]
    fn an_impossible_record_is_refused() {
        let complaint = |record: &[u8]| format!("{:#}", pack(record).unwrap_err());
        assert_eq!(complaint(&[0; 30]), "the record ends within an event");
        let twice = record(&[[0, 0x10, 1], [0, 0x10, 1]]);
        assert_eq!(complaint(&twice), "event 1: address 0x10 was given out twice");
        let large = record(&[[0, 0x10, 1 << 32]]);
        assert_eq!(complaint(&large), "event 0: an object of 4 GiB or more");
    }
}
