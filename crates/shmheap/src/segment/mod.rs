//! The segment: the bytes that all processes share, without yet knowing what an object is.
//!
//! | file | holds |
//! |---|---|
//! | `words` | the one gate through which records are read and written |
//! | `states` | the same for the state bytes of objects |
//! | `format` | the header, and how a stranger's bytes are judged before use |
//! | `fault` | why an engine refuses |
//! | `interleaved` | for tests: memory whose accesses loom interleaves |

pub(crate) mod fault;
pub(crate) mod format;
#[cfg(test)]
pub(crate) mod fuse;
#[cfg(test)]
pub(crate) mod interleaved;
pub(crate) mod states;
pub(crate) mod words;
