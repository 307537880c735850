//! Tests of the whole heap that need to see its inside.

mod address;
mod connection;
mod format;
mod handover;
mod in_hand;
mod labels;
mod quotas;
mod snapshot;
mod trouble;
