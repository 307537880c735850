//! Hostile bytes: any word of the records overwritten with anything. The engine may place objects
//! badly or report damage; it may not panic, leave its row, or run on without end.

use super::memory::{HEAD, HEADER, ME, Memory, Random, THREADS, World, heap, seed};
use crate::first_fit::FirstFit;
use crate::first_fit::layout::{Area, Layout, Position};
use crate::units::{PAGE_BYTES, WORD_BYTES, WordIndex};

fn exercise(engine: &FirstFit, memory: &Memory, random: &mut Random) {
    for _ in 0..6 {
        // A refusal is an allowed answer everywhere here.
        let operator = engine.operator(memory, ME, &World);
        let need = 1 + random.below(50);
        if let Ok(session) = operator.session() {
            let end = session.end();
            drop(session);
            if let Ok(Some(at)) = operator.alloc(need, 1 << random.below(7)) {
                assert!(at.0 + need <= end.0, "placed behind the end");
                let _ = operator.resize(at, 1 + need);
                let _ = operator.free(at);
            }
        }
        let anywhere = Position(random.below(5000));
        let _ = operator.free(anywhere);
        let _ = operator.resize(anywhere, need);
        let _ = operator.grow(Position(random.below(5000)));
        let area = engine.current(memory);
        let end = engine.end(memory, area);
        let at = Position(random.below(5000));
        let _ = engine.block(memory, area, at, end);
        let next = engine.next_start(memory, area, at, end);
        assert!(next > at || next == end, "a walk over blocks must move on");
    }
    let area = engine.current(memory);
    let _ = engine.audit(memory, area, engine.end(memory, area), 8);
}

/// A value likely to lead astray: small, a single bit, all ones, a neighbour of a bound, noise.
fn hostile_value(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(5000),
        1 => 1 << random.below(64),
        2 => u64::MAX,
        3 => 0,
        4 => (4096_u64 * 16).wrapping_add(random.below(3)).wrapping_sub(1),
        _ => random.next(),
    }
}

#[test]
fn overwritten_records_never_lead_out_of_the_heap() {
    let mut random = Random(seed());
    let rounds = if cfg!(miri) { 2 } else { 20_000 };
    let (engine, memory) = heap(3000, 4096, 16);
    for number in 0..400 {
        let operator = engine.operator(&memory, ME, &World);
        let at = operator.alloc(1 + random.below(9), 1).unwrap().unwrap();
        if number % 2 == 0 {
            operator.free(at).unwrap();
        }
    }
    let sound = memory.image();
    memory.corrupt.set(true);
    for _ in 0..rounds {
        memory.restore(&sound);
        for number in 0..=random.below(4) {
            let at = match random.below(4) {
                // One such word: who reads of a living holder waits for it, unless there is an area
                // to rob it to; and so of the pins, that all areas may be in use.
                0 if number == 0 => random.below(HEADER.length.0 + 1),
                1 => HEAD.0 + random.below(20),
                2 => HEAD.0 + random.below(sound.len() as u64 / 4),
                _ => random.below(sound.len() as u64),
            };
            memory.poke(WordIndex(at), hostile_value(&mut random));
        }
        exercise(&engine, &memory, &mut random);
    }
}

#[test]
fn the_audit_sees_every_overwritten_bit() {
    let mut random = Random(seed());
    let (engine, memory) = heap(3000, 3000, 16);
    for _ in 0..200 {
        let need = 1 + random.below(20);
        let operator = engine.operator(&memory, ME, &World);
        let at = operator.alloc(need, 1).unwrap().unwrap();
        if random.below(3) == 0 {
            operator.free(at).unwrap();
        }
    }
    let sound = memory.image();
    let end = engine.end(&memory, Area::FIRST);
    assert_eq!(engine.audit(&memory, Area::FIRST, end, 4).flaws, []);
    let regions = 3000_u64.div_ceil(64);
    // The records from the regions on: in front is the head.
    let first = HEAD.0 + PAGE_BYTES / WORD_BYTES;
    let records = first..first + if cfg!(miri) { 1 } else { 2 * regions };
    for word in records {
        for bit in (0..64).step_by(if cfg!(miri) { 25 } else { 1 }) {
            memory.restore(&sound);
            memory.poke(WordIndex(word), sound[word as usize] ^ 1 << bit);
            let audit = engine.audit(&memory, Area::FIRST, end, 4);
            assert!(!audit.flaws.is_empty(), "bit {bit} of word {word}");
        }
    }
}

/// Starts and free bits behind the end, and maxima that promise them.
#[test]
fn hostile_bits_behind_the_end_are_not_allocated() {
    let (granules, max) = (3000, 3000);
    let layout = Layout::new(THREADS.end(), max).unwrap();
    let (engine, memory) = heap(granules, max, 16);
    memory.corrupt.set(true);
    // Fill the heap, so that the search goes to what lies behind.
    engine.operator(&memory, ME, &World).alloc(granules, 1).unwrap().unwrap();
    let region = 46; // granules 2944..3008; the heap ends at 3000
    memory.poke(layout.regions + 2 * region, 1 << 56 | 1 << 60);
    memory.poke(layout.regions + 2 * region + 1, 1 << 56);
    for (level, &base) in layout.maxima.iter().enumerate() {
        memory.poke(base + (region >> (3 * level)), 4);
    }
    let got = engine.operator(&memory, ME, &World).alloc(4, 1);
    assert!(
        !matches!(got, Ok(Some(at)) if at.0 + 4 > granules),
        "allocated behind the end: {got:?}"
    );
}

/// The padding of a node leads to regions that do not exist: far outside the mapping.
#[test]
fn hostile_padding_of_a_node_does_not_lead_outside() {
    let (granules, max) = (3000, 3000);
    let layout = Layout::new(THREADS.end(), max).unwrap();
    let (engine, memory) = heap(granules, max, 16);
    memory.corrupt.set(true);
    engine.operator(&memory, ME, &World).alloc(granules, 1).unwrap().unwrap();
    // Level 1 has 6 words; word 7 of its line is padding and stands for regions 56..64.
    let top = layout.maxima.len() - 1;
    memory.poke(layout.maxima[top], 4);
    memory.poke(layout.maxima[1] + 7, 4);
    // Where region 56 would be, other records are.
    // Leaf 56 would be where the root is.
    memory.poke(layout.regions + 2 * 56, 1 << 10 | 1 << 20);
    memory.poke(layout.regions + 2 * 56 + 1, 1 << 10);
    let got = engine.operator(&memory, ME, &World).alloc(4, 1);
    assert!(!matches!(got, Ok(Some(at)) if at.0 + 4 > granules), "allocated outside: {got:?}");
}
