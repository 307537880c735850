//! The examples do what they say: each is built and run as its user would.

use std::process::Command;

use shmheap::Handle;

/// What an example prints. It is in several processes, checks itself, and ends with an error if
/// something is not as it should be.
fn printed(example: &str) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["run", "--quiet", "--example", example, "--features", "allocator-api2"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn workers_that_are_killed_lose_no_count() {
    let text = printed("counter");
    assert!(text.contains("over 24 deaths"), "{text}");
}

#[test]
fn frames_reach_those_who_live() {
    let text = printed("frames");
    assert!(text.ends_with("of 600 frames were reported\n"), "{text}");
}

#[test]
fn all_processes_intern_alike() {
    let text = printed("interner");
    let (lines, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(last, "8 different words");
    let mut words: Vec<(Handle, &str)> = lines
        .lines()
        .map(|line| {
            let (handle, word) = line.split_once(' ').unwrap();
            (handle.parse().unwrap(), word)
        })
        .collect();
    assert_eq!(words.len(), 16);
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 8, "a handle for each word");
}

#[test]
fn workers_share_their_cache() {
    let text = printed("prefork_cache");
    assert!(
        text.starts_with("300 requests: ") && text.ends_with("40 answers in the cache\n"),
        "{text}"
    );
}
