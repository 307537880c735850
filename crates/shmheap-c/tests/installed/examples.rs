//! The programs of `examples` do what their comments say.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cxx::{STANDARDS, compiler};
use crate::support::{C99, HeapName, compile, flags, guarded, printed, succeed, workspace};

fn example(name: &str) -> PathBuf {
    compile(&workspace().join("examples/c").join(name), C99, &flags())
}

#[test]
fn hello_in_two_shells() {
    let heap = HeapName::new();
    let hello = |arguments: &[&str]| -> Command {
        let mut command = guarded(&example("hello.c"));
        command.args(arguments).env("HELLO_HEAP", heap.as_str());
        command
    };
    let refused = hello(&["send", "too early"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no heap"));

    succeed(&mut hello(&["create"]));
    let handle = printed(&mut hello(&["send", "good morning"]));
    let other = printed(&mut hello(&["send", "good night"]));
    assert_eq!(printed(&mut hello(&["recv", &handle])), "good morning");
    assert_eq!(printed(&mut hello(&["recv", &other])), "good night");
    let freed = hello(&["recv", &handle]).output().unwrap();
    assert_eq!(freed.status.code(), Some(1), "it was freed");
    succeed(&mut hello(&["destroy"]));
    assert!(!heap.exists());
    assert_eq!(hello(&[]).output().unwrap().status.code(), Some(2));
}

#[test]
fn pipe_between_parent_and_child() {
    let said = printed(&mut guarded(&example("pipe.c")));
    assert_eq!(said, "malloc -> MALLOC\nfor -> FOR\nshared -> SHARED\nmemory -> MEMORY");
}

#[test]
fn standard_containers_in_several_processes() {
    let source = workspace().join("examples/cpp/stl.cpp");
    for standard in STANDARDS {
        let program = compile(&source, &compiler(standard, &["-O2"]), &flags());
        let said = printed(&mut guarded(&program));
        let found: Vec<&str> = said.lines().collect();
        assert_eq!(found[0], "2762 primes from 2 to 24989");
        assert_eq!(
            found[1..],
            [
                "2371 primes from 25013 to 49999",
                "2260 primes from 50021 to 74959",
                "2199 primes from 75011 to 99991",
                "9592 in all",
            ]
        );
    }
}

#[test]
fn a_producer_in_c_has_a_consumer_in_rust() {
    let heap = HeapName::new();
    let mut producer = guarded(&example("sensor.c"));
    let mut producer = producer.arg(heap.as_str()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(producer.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let mut consumer = Command::new(env!("CARGO"));
    consumer.current_dir(workspace()).args(["run", "--quiet", "--package", "shmheap"]);
    consumer.args(["--example", "sensor", "--", heap.as_str()]);
    assert_eq!(printed(&mut consumer), "10000 samples, 12.375 on average");
    assert!(producer.wait().unwrap().success());
    assert!(!heap.exists());
}
