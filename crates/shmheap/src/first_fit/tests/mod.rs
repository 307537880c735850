//! Tests of the engine over plain memory: they run under Miri as they are.

mod corruption;
mod exactness;
mod handover;
mod kills;
mod lock;
mod memory;
mod mutants;
mod storage;
mod theft;
mod torn;
