//! C++ programs above `shmheap.hpp`: each case under both policies, with C++20, and with C++17 and
//! the sanitizers of address and undefined behaviour.
//!
//! The cases that name containers run in two processes, which have the heap at different addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::support::{HeapName, compile, flags, guarded, has, prefix, succeed};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];
pub(crate) const STANDARDS: [&str; 2] = ["-std=c++17", "-std=c++20"];
const SANITIZERS: &str = "-fsanitize=address,undefined";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cpp").join(name)
}

/// How C++ programs are compiled.
pub(crate) fn compiler(standard: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    [&["g++", standard, "-g", "-pthread"], &WARNINGS[..], more].concat()
}

/// With each standard, one of them with the sanitizers where they are here.
fn ways() -> [Vec<&'static str>; 2] {
    let with_sanitizers = ["-O1", SANITIZERS, "-fno-sanitize-recover=all"];
    let more: &[&str] = if *SANITIZERS_ARE_HERE { &with_sanitizers } else { &["-O1"] };
    [compiler(STANDARDS[0], more), compiler(STANDARDS[1], &["-O2"])]
}

static SANITIZERS_ARE_HERE: LazyLock<bool> = LazyLock::new(|| {
    let links = try_compile("int main() {}\n", &["g++", SANITIZERS]).is_ok();
    if !links {
        println!("skipped: no libasan or libubsan here, so C++ is not tested with sanitizers");
    }
    links
});

static BOOST_IS_HERE: LazyLock<bool> = LazyLock::new(|| {
    let is_here = try_compile("#include <boost/version.hpp>\nint main() {}\n", &["g++"]).is_ok();
    if !is_here {
        println!(
            "skipped: no Boost here (Debian: apt-get install libboost-dev), so its containers"
        );
    }
    is_here
});

/// Compiles a text against the prefix; an error is what the compiler says.
fn try_compile(text: &str, compiler: &[&str]) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("program.cpp");
    fs::write(&source, text).unwrap();
    let mut compile = Command::new(compiler[0]);
    compile.args(&compiler[1..]).arg(&source).arg("-o").arg(directory.path().join("program"));
    let output = compile.args(flags()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// Runs a case every way there is. It prints only what it has against the library.
fn run_case(program: &str, case: &str) {
    if program == "boost.cpp" && !*BOOST_IS_HERE {
        return;
    }
    for way in ways() {
        let program = compile(&source(program), &way, &flags());
        for policy in ["first-fit", "scalable"] {
            let heap = HeapName::new();
            let mut command = guarded(&program);
            command.args([case, heap.as_str(), policy]);
            // Its search for leaks does not work in every container.
            let output = succeed(command.env("ASAN_OPTIONS", "detect_leaks=0"));
            let said = [output.stdout, output.stderr].concat();
            assert_eq!(String::from_utf8_lossy(&said), "", "{way:?} {case} {policy}");
            assert!(!heap.exists(), "{case} {policy} left its heap behind");
        }
    }
}

macro_rules! cases {
    ($($module:ident, $source:literal: $($case:ident)*;)*) => {$(
        mod $module {
            $(
                #[test]
                fn $case() {
                    super::run_case($source, stringify!($case));
                }
            )*
        }
    )*};
}

cases! {
    pointers, "pointers.cpp":
        null itself mapped_elsewhere conversions arithmetic as_an_iterator;
    heaps, "heaps.cpp":
        lifetime errors bytes choices objects owners alignments allocators many threads tags;
    containers, "containers.cpp":
        exchanged ended_by_another full killed;
    boost, "boost.cpp":
        exchanged strings full;
}

/// Containers that would put plain pointers into the heap do not compile; where it is the header
/// that refuses them, it says why.
#[test]
fn containers_with_plain_pointers_are_refused() {
    const EXPLAINED: &str = "mean nothing to another process";
    for (container, change, reason) in [
        ("std::vector<int, Allocator>", "push_back(1)", None),
        ("std::vector<bool, shmheap::allocator<bool>>", "push_back(true)", Some(EXPLAINED)),
        ("std::forward_list<int, Allocator>", "push_front(1)", Some(EXPLAINED)),
        ("std::unordered_set<int, Hash, Equal, Allocator>", "insert(1)", Some(EXPLAINED)),
        ("std::list<int, Allocator>", "push_back(1)", Some("error")),
        ("std::set<int, std::less<int>, Allocator>", "insert(1)", Some("error")),
        ("std::basic_string<char, Traits, shmheap::allocator<char>>", "c_str()", Some("error")),
    ] {
        let text = format!(
            "#include <shmheap.hpp>\n#include <forward_list>\n#include <list>\n#include <set>\n\
             #include <string>\n#include <unordered_set>\n#include <vector>\n\
             using Allocator = shmheap::allocator<int>;\n\
             using Hash = std::hash<int>;\n\
             using Equal = std::equal_to<int>;\n\
             using Traits = std::char_traits<char>;\n\
             void change({container} &object) {{ object.{change}; }}\n\
             {container} build(const shmheap::heap &mem) {{ return {container}(mem); }}\n\
             int main() {{}}\n"
        );
        let compiled = try_compile(&text, &["g++", "-std=c++17", "-fsyntax-only"]);
        let is_right = match (&compiled, reason) {
            (Ok(()), None) => true,
            (Err(said), Some(reason)) => said.contains(reason),
            _ => false,
        };
        assert!(is_right, "{container}: {compiled:?}");
    }
}

/// Other compilers take the headers, and each of them alone is enough to include.
#[test]
fn headers() {
    let folder = prefix().join("include/shmheap");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| format!("shmheap/{}", entry.unwrap().file_name().display()))
        .collect();
    names.push("shmheap.hpp".to_owned());
    assert!(names.len() >= 7, "{names:?}");
    let has_clang = has("clang++", "shmheap.hpp with clang");
    for name in names {
        let text = format!("#include <{name}>\nint main() {{}}\n");
        for standard in STANDARDS {
            let mut compilers =
                vec![compiler(standard, &["-Wshadow", "-Wconversion", "-fsyntax-only"])];
            if has_clang {
                compilers.push([&["clang++", standard], &WARNINGS[..]].concat());
            }
            for compiler in compilers {
                assert_eq!(try_compile(&text, &compiler), Ok(()), "{name}");
            }
        }
    }
}
