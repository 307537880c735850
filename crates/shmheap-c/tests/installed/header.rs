//! The headers against the library: the same functions, the same layouts, any C or C++ standard.

use std::collections::BTreeSet;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use shmheap_c::{MemoryHandle, Mutex, ObjectHandle, Options, Statistics, UsageEntry};

use crate::support::{compile, flags, has, prefix, printed, program};

/// Every function that the headers of C mark with `SHMHEAP_API`.
fn declared() -> BTreeSet<String> {
    let text = |name| fs::read_to_string(prefix().join("include").join(name)).unwrap();
    let text = text("shmheap.h") + &text("shmheap/labels.h");
    text.split("\nSHMHEAP_API ")
        .skip(1)
        .map(|declaration| {
            let before_arguments = declaration.split('(').next().unwrap();
            before_arguments.rsplit([' ', '*']).next().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn the_library_exports_what_the_header_declares_and_nothing_else() {
    let library = prefix().join("lib/libshmheap.so");
    let listed = printed(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let exported: BTreeSet<String> =
        listed.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(exported, declared());
    assert!(exported.len() >= 9 + 21, "the header was not understood: {exported:?}");
}

#[test]
fn the_soname_is_that_of_the_format() {
    let library = prefix().join("lib/libshmheap.so");
    let dynamic = printed(Command::new("readelf").arg("-d").arg(library));
    assert!(dynamic.contains("soname: [libshmheap.so.0]"), "{dynamic}");
    let linked = printed(Command::new("readelf").arg("-d").arg(program("alone.c")));
    assert!(linked.contains("Shared library: [libshmheap.so.0]"), "{linked}");
}

#[test]
fn layouts_agree() {
    macro_rules! layout {
        ($rust:ident, $c:literal: $($field:ident)*) => {{
            let value = <$rust>::default();
            let mut lines = vec![format!("{} sizeof 0 {}", $c, size_of::<$rust>())];
            $(lines.push(format!(
                "{} {} {} {}",
                $c, stringify!($field), offset_of!($rust, $field), size_of_val(&value.$field)
            ));)*
            // Naming every field makes a forgotten one an error.
            let $rust { $($field: _),* } = value;
            lines
        }};
    }
    let mut expected = vec![
        format!("shmheap_memory_handle sizeof 0 {}", size_of::<MemoryHandle>()),
        format!("shmheap_object_handle sizeof 0 {}", size_of::<ObjectHandle>()),
    ];
    expected.extend(layout!(Options, "shmheap_options":
        size len max_len granule mode policy flags group reserved address));
    expected.extend(layout!(Statistics, "shmheap_statistics":
        size len max_len live_bytes live_objects free_bytes largest_free metadata_bytes
        operations peers_alive peers_dead tail_bytes trimmed_bytes));
    expected.extend(layout!(Mutex, "shmheap_mutex": word));
    expected.extend(layout!(UsageEntry, "shmheap_usage_entry":
        kind pid slot alive tag bytes objects quota));
    let found = printed(&mut Command::new(program("layout.c")));
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn versions_agree() {
    let text = fs::read_to_string(prefix().join("include/shmheap.h")).unwrap();
    let version = concat!("#define SHMHEAP_VERSION_STRING \"", env!("CARGO_PKG_VERSION"), "\"\n");
    assert!(text.contains(version));
}

#[test]
fn every_standard_of_c_and_cxx_takes_the_header() {
    const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/alone.c");
    for standard in ["-std=c99", "-std=c11", "-std=c17"] {
        let compiler: Vec<&str> = ["gcc", standard].into_iter().chain(STRICT).collect();
        let program = compile(&source, &compiler, &flags());
        printed(&mut Command::new(program));
    }
    for standard in ["-std=c++11", "-std=c++17", "-std=c++20"] {
        let compiler: Vec<&str> = ["g++", standard, "-xc++"].into_iter().chain(STRICT).collect();
        let program = compile(&source, &compiler, &flags());
        printed(&mut Command::new(program));
    }
    if has("clang", "the header with clang") {
        let compiler: Vec<&str> =
            ["clang", "-std=c99", "-Weverything"].into_iter().chain(STRICT).collect();
        printed(
            Command::new(compiler[0])
                .args(&compiler[1..])
                .arg("-fsyntax-only")
                .arg(&source)
                .arg(format!("-I{}", prefix().join("include").display())),
        );
    }
}
