//! Tests of the scalable engine over plain memory, and over that of loom.

mod adoption;
mod copy;
mod frees;
mod handover;
mod kills;
mod loom;
mod memory;
mod model;
mod runs;
