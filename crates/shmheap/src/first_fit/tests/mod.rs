//! Tests of the engine over plain memory: they run under Miri as they are.

mod areas;
mod copy;
mod corruption;
mod exactness;
mod handover;
mod journal;
mod kills;
mod lock;
mod memory;
mod schedules;
mod storage;
mod theft;
mod torn;
