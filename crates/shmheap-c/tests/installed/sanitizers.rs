//! A library with hooks for AddressSanitizer and Memcheck: misuse is reported, and nothing else.
//!
//! The programs run with each tool, and without any, from a prefix of their own, which holds the
//! library with the hooks.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use crate::support::{C99, HeapName, compile, flags_for, guarded, has, install, succeed};

/// How Memcheck ends a program that it has something against.
const REPORTED: i32 = 99;

#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Nothing,
    AddressSanitizer,
    Memcheck,
}

use Tool::{AddressSanitizer, Memcheck, Nothing};

fn prefix() -> &'static Path {
    static PREFIX: LazyLock<PathBuf> =
        LazyLock::new(|| install("prefix-for-sanitizers", &["--sanitizers"]));
    &PREFIX
}

/// C99, and AddressSanitizer.
fn sanitized() -> Vec<&'static str> {
    [C99, &["-fsanitize=address"]].concat()
}

impl Tool {
    /// Whether this machine has it.
    fn is_here(self) -> bool {
        static LINKS: LazyLock<bool> = LazyLock::new(|| {
            let directory = tempfile::tempdir().unwrap();
            let source = directory.path().join("nothing.c");
            std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
            let compiler = sanitized();
            let mut link = Command::new(compiler[0]);
            link.args(&compiler[1..]).arg(&source).arg("-o").arg(directory.path().join("nothing"));
            let links = link.output().is_ok_and(|output| output.status.success());
            if !links {
                println!("skipped: no libasan here, so AddressSanitizer is not tested");
            }
            links
        });
        match self {
            Nothing => true,
            AddressSanitizer => *LINKS,
            Memcheck => has("valgrind", "what Memcheck reports"),
        }
    }

    /// A program of this crate's `tests/c`, run with this tool.
    fn command(self, source: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source);
        let compiler = if self == AddressSanitizer { sanitized() } else { C99.to_vec() };
        self.run(&compile(&path, &compiler, &flags_for(prefix())))
    }

    fn run(self, program: &Path) -> Command {
        if self != Memcheck {
            let mut command = guarded(program);
            // Its search for leaks does not work in every container.
            command.env("ASAN_OPTIONS", "detect_leaks=0");
            return command;
        }
        let mut command = guarded(Path::new("valgrind"));
        command.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        command.arg(format!("--error-exitcode={REPORTED}")).arg(program);
        command
    }
}

fn run_watched(tool: Tool, case: &str, policy: &str) -> Output {
    let heap = HeapName::new();
    let mut command = tool.command("watched.c");
    command.args([case, heap.as_str()]).env("WATCHED_POLICY", policy).output().unwrap()
}

/// The output of a program under each policy, if the tool is here.
fn under_both_policies(tool: Tool, case: &str) -> Vec<(Output, String)> {
    if !tool.is_here() {
        return Vec::new();
    }
    let outputs = ["first-fit", "scalable"].map(|policy| {
        let output = run_watched(tool, case, policy);
        let said = String::from_utf8_lossy(&output.stderr);
        let said = format!("{case}, {policy}: {}\n{said}", output.status);
        (output, said)
    });
    outputs.into()
}

/// With which code a program ends that the tool has something against, and words of its report.
fn report(tool: Tool, case: &str) -> Option<(i32, [&'static str; 2])> {
    Some(match tool {
        Nothing => return None,
        // Where less than its eight bytes are closed, it has no name for what it reports.
        AddressSanitizer if case == "bad_read_right_past_end" => (1, ["unknown-crash", "READ"]),
        AddressSanitizer if case.contains("write") => (1, ["use-after-poison", "WRITE"]),
        AddressSanitizer => (1, ["use-after-poison", "READ"]),
        Memcheck if case.contains("write") => (REPORTED, ["Invalid write", "free'd"]),
        Memcheck if case.contains("past_end") => (REPORTED, ["Invalid read", "watched.c"]),
        Memcheck => (REPORTED, ["Invalid read", "free'd"]),
    })
}

/// The tool has something against the case, and says where. Without a tool nobody notices.
fn check_reported(tool: Tool, case: &str) {
    let Some((code, words)) = report(tool, case) else {
        return check_clean(tool, case);
    };
    for (output, said) in under_both_policies(tool, case) {
        assert_eq!(output.status.code(), Some(code), "{said}");
        // The report's first line of code is the misuse.
        let place = said.lines().find(|line| line.contains("watched.c:")).unwrap_or_default();
        assert!(place.contains(case) && words.iter().all(|word| said.contains(word)), "{said}");
    }
}

fn check_clean(tool: Tool, case: &str) {
    for (output, said) in under_both_policies(tool, case) {
        assert!(output.status.success() && output.stderr.is_empty(), "{said}");
    }
}

macro_rules! cases {
    ($($check:ident: $($case:ident)*;)*) => {
        cases!(@tool address_sanitizer AddressSanitizer $($check: $($case)*;)*);
        cases!(@tool memcheck Memcheck $($check: $($case)*;)*);
        cases!(@tool no_tool Nothing $($check: $($case)*;)*);
    };
    (@tool $module:ident $tool:ident $($check:ident: $($case:ident)*;)*) => {
        mod $module {
            $($(
                #[test]
                fn $case() {
                    super::$check(super::$tool, stringify!($case));
                }
            )*)*
        }
    };
}

cases! {
    check_reported:
        bad_read_after_free bad_write_after_free bad_read_after_free_of_received
        bad_read_after_free_in_child bad_read_of_old_place bad_read_past_end
        bad_read_right_past_end bad_read_past_end_of_zeroed bad_read_past_end_of_aligned
        bad_read_past_end_of_shrunk bad_read_past_end_of_grown;
    check_clean:
        reused grown_in_place refused handed_over filled_by_another mapped_again connected_again
        left_behind;
}

/// What the header promises holds, and is no misuse, while AddressSanitizer watches. (But for
/// `resized` of `extended.c`: it wants objects to stay in their places.)
#[test]
fn the_contract_under_address_sanitizer() {
    if !AddressSanitizer.is_here() {
        return;
    }
    let run = |source: &str, cases: &[&str]| {
        for case in cases {
            let heap = HeapName::new();
            let output = succeed(AddressSanitizer.command(source).args([case, heap.as_str()]));
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{source} {case}");
        }
    };
    run("original.c", &["first_fit", "joins_both_sides", "full", "unmaps", "several"]);
    run("misuse.c", &["memory_handles", "pointers", "object_handles", "sizes"]);
    run("extended.c", &["zeroed", "aligned", "grows", "read_only", "in_a_file", "memfd"]);
    run("scalable.c", &["sizes", "zeroed", "resized", "aligned", "forked", "trimmed", "grows"]);
    run("fork.c", &["handles_through_a_pipe"]);
    run("threads.c", &["churn", "disconnect_races"]);
}

/// The hooks are found however library and tool have been linked.
#[test]
fn ways_to_link_address_sanitizer() {
    if !AddressSanitizer.is_here() {
        return;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/watched.c");
    let lib = prefix().join("lib");
    let whole = [
        format!("-I{}", prefix().join("include").display()),
        lib.join("libshmheap.a").display().to_string(),
    ];
    let system = ["-lpthread", "-ldl", "-lm"].map(str::to_owned);
    let with_static_tool = [&sanitized()[..], &["-static-libasan"]].concat();
    for (compiler, linking) in [
        (sanitized(), [&whole[..], &system].concat()),
        (with_static_tool.clone(), flags_for(prefix())),
        (with_static_tool, [&whole[..], &system].concat()),
    ] {
        let heap = HeapName::new();
        let program = compile(&source, &compiler, &linking);
        let mut command = AddressSanitizer.run(&program);
        let output = command.args(["bad_read_after_free", heap.as_str()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("use-after-poison"), "{compiler:?} {linking:?}: {said}");
    }
}
