//! Tests of the scalable engine over plain memory, and over that of loom.

mod loom;
mod memory;
mod model;
