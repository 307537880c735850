//! The demo with small texts: it keeps its promises, and leaves nothing behind.

use std::fs;
use std::process::Stdio;

use super::support::{command, fail};

/// Runs the demo on a directory or file; returns its output and the name of its heap.
fn demo(arguments: &[&str]) -> String {
    let mut all = vec!["demo"];
    all.extend(arguments);
    let process = command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let name = format!("/dev/shm/shmheap-demo-{}", process.id());
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}\n{told}");
    assert!(!fs::exists(&name).unwrap(), "{name} was left");
    assert!(!text.contains("BROKEN"), "{text}");
    for promise in ["resilient", "recovered", "shared", "exact", "sound", "empty", "destroyed"] {
        let kept = |line: &str| line.trim_start().starts_with("ok") && line.contains(promise);
        assert!(text.lines().any(kept), "{promise}: {text}");
    }
    text
}

#[test]
fn a_directory_of_texts_is_indexed_exactly() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..20 {
        let text =
            format!("file {number}: the quick brown fox jumps over the lazy dog\n").repeat(200);
        fs::write(directory.path().join(format!("{number}.txt")), text).unwrap();
    }
    fs::write(directory.path().join("binary"), b"\0\0\0").unwrap();
    let text = demo(&[directory.path().to_str().unwrap(), "--workers", "4"]);
    // 20 files x 200 lines x 11 words.
    assert!(text.contains("44,000 words") && text.contains("1 file passed over"), "{text}");
    assert!(text.contains("the 8,000"), "{text}");
}

#[test]
fn one_word_is_enough_to_be_killed_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("text");
    fs::write(&file, "word").unwrap();
    let text = demo(&[file.to_str().unwrap(), "--workers", "3"]);
    assert!(text.contains("indexed document 1 again"), "{text}");
}

#[test]
fn texts_that_cannot_be_indexed_leave_no_heap() {
    let directory = tempfile::tempdir().unwrap();
    fail(&["demo", directory.path().to_str().unwrap()], 3, "no words");
}
