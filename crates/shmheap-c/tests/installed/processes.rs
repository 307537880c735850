//! Separate, exec'd processes that know a heap's name and pass handles through pipes.

use std::process::{Child, Command, Stdio};

use crate::support::{HeapName, guarded, program, succeed};

const OBJECTS: &str = "20000";

fn exchange(role: &str, heap: &HeapName) -> Command {
    let mut command = guarded(&program("exchange.c"));
    command.args([role, heap.as_str()]);
    command
}

fn finish(name: &str, child: Child) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {} {said}", output.status);
}

#[test]
fn handles_pass_through_three_processes() {
    let heap = HeapName::new();
    succeed(&mut exchange("create", &heap));
    let mut producer = exchange("produce", &heap)
        .arg(OBJECTS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut changer = exchange("change", &heap)
        .stdin(producer.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let consumer = exchange("consume", &heap)
        .arg(OBJECTS)
        .stdin(changer.stdout.take().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish("produce", producer);
    finish("change", changer);
    finish("consume", consumer);
    succeed(&mut exchange("empty", &heap));
    succeed(&mut exchange("destroy", &heap));
    assert!(!heap.exists());
}

#[test]
fn create_use_and_destroy_come_from_different_processes() {
    let heap = HeapName::new();
    for _ in 0..3 {
        succeed(&mut exchange("create", &heap));
        assert!(heap.exists(), "the heap outlives its creator");
        succeed(exchange("produce", &heap).arg("10"));
        succeed(&mut exchange("destroy", &heap));
        assert!(!heap.exists(), "nothing is left");
    }
}
