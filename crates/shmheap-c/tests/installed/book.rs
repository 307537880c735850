//! The programs in C and C++ in the book and the README compile, and those that take no arguments
//! run.
//!
//! A block of a paper is a whole program if it has a `main`; else it is only looked at by the
//! compiler. Heaps are called `/example...` in the papers, and otherwise here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cxx::{STANDARDS, compiler};
use crate::support::{C99, HeapName, compile, flags, guarded, succeed, workspace};

/// What stands in a paper between two fences.
struct Block {
    language: String,
    text: String,
}

/// The blocks in C and C++ of a paper.
fn blocks(paper: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in paper.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(block), None) => block.text += &format!("{line}\n"),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(language)) => {
                open = Some(Block { language: language.to_owned(), text: String::new() });
            }
            (None, None) => {}
        }
    }
    blocks.retain(|block| block.language == "c" || block.language == "cpp");
    blocks
}

/// The README, and the chapters of the book but for those that are links to other papers.
fn papers() -> Vec<PathBuf> {
    let mut papers = vec![workspace().join("README.md")];
    let mut folders = vec![workspace().join("docs/book/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => papers.push(entry.path()),
                _ => {}
            }
        }
    }
    papers.retain(|paper| paper.extension().is_some_and(|extension| extension == "md"));
    papers.sort();
    papers
}

/// Compiles the block, and runs it if it can be run.
fn try_out(block: &Block, source: &Path) {
    let heap = HeapName::new();
    fs::write(source, block.text.replace("\"/example", &format!("\"{}", heap.as_str()))).unwrap();
    let compiler = match block.language.as_str() {
        "c" => C99.to_vec(),
        _ => compiler(STANDARDS[0], &["-O1"]),
    };
    if !block.text.contains("int main(") {
        let mut check = Command::new(compiler[0]);
        check.args(&compiler[1..]).arg("-fsyntax-only").arg(source).args(flags());
        succeed(&mut check);
        return;
    }
    let program = compile(source, &compiler, &flags());
    if !block.text.contains("argv") {
        succeed(&mut guarded(&program));
    }
}

#[test]
fn programs_in_the_book_compile_and_run() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("book");
    fs::create_dir_all(&folder).unwrap();
    let mut count = 0;
    for paper in papers() {
        let name = paper.strip_prefix(workspace()).unwrap().display().to_string();
        for block in blocks(&fs::read_to_string(&paper).unwrap()) {
            count += 1;
            let stem = name.replace(['/', '.'], "-");
            try_out(&block, &folder.join(format!("{stem}-{count}.{}", block.language)));
        }
    }
    assert!(count > 5, "only {count} programs were found");
}
