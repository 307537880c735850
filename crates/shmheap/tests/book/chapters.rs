//! The programs in the book compile, and those that are not marked `no_run` run.
//!
//! Every chapter with a program in Rust is named here; `cargo xtask tidy` looks after that.

macro_rules! chapters {
    ($($name:ident: $path:literal)*) => {$(
        #[doc = include_str!(concat!("../../../../docs/book/src/", $path))]
        mod $name {}
    )*};
}

chapters! {
    start_rust: "start/rust.md"
    kills: "concepts/kills.md"
    policies: "concepts/policies.md"
    size: "concepts/size.md"
    access: "concepts/access.md"
    backends: "concepts/backends.md"
    bytes: "guide/rust-bytes.md"
    values: "guide/rust-values.md"
    collections: "guide/rust-collections.md"
    locks: "guide/rust-locks.md"
    handle: "cookbook/handle.md"
    jobs: "cookbook/jobs.md"
    cache: "cookbook/cache.md"
    frames: "cookbook/frames.md"
    counter: "cookbook/counter.md"
    observer: "cookbook/observer.md"
    restart: "cookbook/restart.md"
    sandbox: "cookbook/sandbox.md"
    full: "cookbook/full.md"
    quotas: "cookbook/quotas.md"
    leaks: "cookbook/leaks.md"
    kill_tests: "cookbook/kill-tests.md"
}

// What these use is not there without the features.
#[cfg(feature = "allocator-api2")]
chapters! {
    addresses: "concepts/addresses.md"
}

#[cfg(feature = "async")]
chapters! {
    channels: "guide/rust-channels.md"
}
