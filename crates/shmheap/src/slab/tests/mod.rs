//! Tests of the scalable engine over plain memory.

mod kills;
mod memory;
mod model;
