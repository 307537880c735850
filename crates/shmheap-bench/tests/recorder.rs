//! The recorder of traces, on a program that starts others and is always there: the C compiler.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;
use std::path::Path;
use std::process::Command;

const RECORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recorder/record.c");

fn compile(arguments: &[&str], to: &Path) -> Command {
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC"]);
    command.args(arguments).arg("-o").arg(to).arg(RECORDER);
    command
}

#[test]
fn every_process_has_a_record_that_makes_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let [library, object] = ["record.so", "record.o"].map(|name| folder.path().join(name));
    assert!(compile(&["-shared"], &library).status().unwrap().success());

    let mut compiler = compile(&["-c"], &object);
    compiler.env("LD_PRELOAD", &library).env("SHMHEAP_RECORD", folder.path().join("cc"));
    assert!(compiler.status().unwrap().success());

    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let records: Vec<_> = files.filter(|path| path.file_stem().unwrap() == "cc").collect();
    assert!(records.len() > 1, "the compiler runs at least itself and an assembler");
    for record in records {
        let (_, summary) = shmheap_bench::pack_trace(&fs::read(record).unwrap()).unwrap();
        assert!(!summary.starts_with("0 objects"), "{summary}");
    }
}
