//! Tests of the whole heap that need to see its inside.

mod connection;
mod format;
mod handover;
mod trouble;
