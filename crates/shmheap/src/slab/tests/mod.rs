//! Tests of the scalable engine over plain memory.

mod handover;
mod kills;
mod memory;
mod model;
