//! `bench`: it measures something, and leaves nothing.

use std::path::Path;
use std::process::Stdio;

use super::support::{command, fail};

#[test]
fn a_measurement_has_figures_and_leaves_no_heap() {
    let mut command = command(&["bench", "--seconds", "1", "--threads", "2"]);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let name = format!("/dev/shm/shmheap-bench-{}", process.id());
    while !Path::new(&name).exists() {
        assert!(process.try_wait().unwrap().is_none(), "it never had a heap of that name");
        std::thread::yield_now();
    }
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["alloc and free, 64 bytes", "objects to another process", "By 2 threads"] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    assert!(!Path::new(&name).exists(), "it goes with its last process");
}

#[test]
fn wrong_numbers_are_refused() {
    fail(&["bench", "--seconds", "0"], 2, "--seconds");
    fail(&["bench", "--threads", "0"], 2, "--threads");
}
