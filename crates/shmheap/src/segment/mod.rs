//! The segment: the bytes that all processes share, without yet knowing what an object is.
//!
//! | file | holds |
//! |---|---|
//! | `words` | the one gate through which records are read and written |
//! | `format` | the header, and how a stranger's bytes are judged before use |

pub(crate) mod format;
pub(crate) mod words;
