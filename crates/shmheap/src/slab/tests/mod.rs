//! Tests of the scalable engine over plain memory.

mod memory;
mod model;
