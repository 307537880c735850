//! Heaps with labels: who has how much, under which tag, and quotas.

use std::alloc::Layout;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shmheap::{Error, Heap, Quota};

use super::support::{Name, Peer, fail, run, succeed};

const POLICIES: [&str; 2] = ["first-fit", "scalable"];

fn labelled(policy: &str) -> (Name, Heap) {
    let name = Name::new();
    let options = ["--len", "4M", "--policy", policy, "--labels"];
    let out = succeed(&[&["create", &name.0], &options[..]].concat());
    assert!(out.ends_with(", with labels\n"), "{out}");
    let heap = Heap::connect(&name.0).unwrap();
    (name, heap)
}

fn alloc(heap: &Heap, tag: &str, bytes: usize) -> shmheap::Result<()> {
    let layout = Layout::from_size_align(bytes, 8).unwrap();
    heap.with_tag(tag, || heap.alloc(layout).map(drop))?
}

fn entry<'v>(list: &'v Value, field: &str, value: &Value) -> &'v Value {
    let found = list.as_array().unwrap().iter().find(|entry| entry[field] == *value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {list}"))
}

#[test]
fn quotas_are_set_shown_and_taken_away() {
    for policy in POLICIES {
        let (name, heap) = labelled(policy);
        let set = ["--heap", "1M", "--peer", "512K", "--tag", "a=b=10K", "--tag", "=20K", "--json"];
        let told = run(&[&["quota", &name.0], &set[..]].concat()).json();
        assert_eq!(
            (&told["quota_bytes"], &told["peer_quota_bytes"]),
            (&json!(1048576), &json!(524288))
        );
        assert_eq!(entry(&told["tags"], "name", &json!("a=b"))["quota_bytes"], 10_240);
        assert_eq!(entry(&told["tags"], "name", &json!(""))["quota_bytes"], 20_480);
        alloc(&heap, "a=b", 9000).unwrap();
        for (tag, bytes, what) in
            [("a=b", 2000, "'a=b'"), ("", 30_000, "no tag"), ("c", 600_000, "this process")]
        {
            let refused = alloc(&heap, tag, bytes).unwrap_err();
            assert!(matches!(refused, Error::QuotaExceeded { .. }), "{refused}");
            assert!(refused.to_string().contains(what), "{refused}");
        }
        let text = succeed(&["quota", &name.0]);
        let line = text.lines().find(|line| line.starts_with("a=b ")).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!((cells[1], cells[3]), ("1", "10K"), "{text}");
        assert!(["87%", "90%"].contains(&cells[4]), "{text}");
        assert!(text.contains("quota 1.00 MiB") && text.contains("quota 512.00 KiB"), "{text}");
        succeed(&["quota", &name.0, "--tag", "a=b=none", "--peer", "none"]);
        alloc(&heap, "a=b", 2000).unwrap();
        alloc(&heap, "c", 600_000).unwrap();
        let told = run(&["quota", &name.0, "--json"]).json();
        assert_eq!(
            (&told["quota_bytes"], &told["peer_quota_bytes"]),
            (&json!(1048576), &json!(null))
        );
    }
}

#[test]
fn wrong_quotas_say_what_is_wrong() {
    let (name, _heap) = labelled("scalable");
    let plain = Name::new();
    succeed(&["create", &plain.0, "--len", "1M"]);
    assert_eq!(run(&["info", &plain.0, "--json"]).json()["has_labels"], false);
    for arguments in [&["quota", &plain.0][..], &["quota", &plain.0, "--heap", "5"]] {
        fail(arguments, 3, "made without labels");
    }
    fail(&["blocks", &plain.0, "--tag", "x"], 3, "made without labels");
    fail(&["quota", "no-such-heap"], 3, "no heap 'no-such-heap'");
    fail(&["quota", &name.0, "--tag", "parser"], 2, "parser=10M");
    fail(&["quota", &name.0, "--tag", "parser=much"], 2, "'none' takes the quota away");
    fail(&["quota", &name.0, "--heap", "1.5G"], 2, "fractions");
    fail(&["quota", &name.0, "--tag", "a\u{1b}b=5"], 3, "control characters");
    fail(&["quota", &name.0, "--tag", &format!("{}=5", "x".repeat(49))], 3, "48 bytes");
    for (tag, outcome) in [
        ("\u{1b}=4", "shmheap: no quota was set: "),
        ("it's=5", "of the quotas only --tag 'it's' was set: "),
    ] {
        let set = ["--heap", "1M", "--peer", "1M", "--tag", tag, "--tag", "\u{1b}=5"];
        fail(&[&["quota", &name.0], &set[..]].concat(), 3, outcome);
    }
    let told = run(&["quota", &name.0, "--json"]).json();
    assert_eq!((&told["quota_bytes"], &told["peer_quota_bytes"]), (&Value::Null, &Value::Null));
    assert_eq!(entry(&told["tags"], "name", &json!("it's"))["quota_bytes"], 5);
}

#[test]
fn what_the_dead_have_left_is_told_by_tag() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let path = directory.path().join(policy).to_str().unwrap().to_owned();
        succeed(&["create", &path, "--len", "4M", "--policy", policy, "--labels"]);
        let heap = Heap::connect_file(&path).unwrap();
        alloc(&heap, "own", 100).unwrap();
        let peer = Peer::hold_under_tag(&path, "it's");
        let pid = peer.id();
        let listed = run(&["blocks", &path, "--tag", "it's", "--json"]).json();
        assert_eq!(entry(&listed, "state", &json!("unpublished"))["by_pid"], pid);
        assert!(listed.as_array().unwrap().iter().all(|object| object["by_alive"] == true));
        assert_eq!(run(&["leaks", &path]).code, Some(0));
        peer.kill();
        let found = run(&["leaks", &path]);
        assert_eq!(found.code, Some(1), "{found:?}");
        let sums: Vec<Vec<&str>> = found
            .out
            .lines()
            .skip_while(|line| !line.is_empty())
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(sums[1], ["WHY", "TAG", "OBJECTS", "SIZE"], "{found:?}");
        assert!(sums[2].starts_with(&["of", "dead", "process", "it's", "1"]), "{found:?}");
        assert!(found.out.contains(&format!("pid {pid}, gone")), "{found:?}");
        let orphaned =
            |text: &str| text.lines().filter(|line| line.starts_with("orphaned")).count();
        assert_eq!(orphaned(&found.out), 1, "a sum for the tag: {found:?}");
        assert!(orphaned(&run(&["leaks", &path, "--untraced"]).out) > 1);
        let found = run(&["leaks", &path, "--json"]).json();
        let orphaned = found["orphaned"].as_array().unwrap();
        assert!(!orphaned.is_empty() && orphaned.iter().all(|one| one["tag"] == "it's"), "{found}");
        let usage = &run(&["stat", &path, "--json"]).json()["usage"];
        let gone = entry(&usage["peers"], "pid", &json!(pid));
        assert_eq!(gone["alive"], false);
        assert!(gone["objects"].as_u64().unwrap() >= 3, "{usage}");
        let text = succeed(&["stat", &path]);
        assert!(text.contains("gone") && text.contains("own") && text.contains("it's"), "{text}");
        let frame = succeed(&["top", &path, "--once"]);
        assert!(frame.contains("TAGS (3)") && frame.contains("quota none"), "{frame}");
    }
}

/// The records of a heap's labels, as FORMAT.md describes them.
struct Records {
    segment: File,
    head_bytes: u64,
}

impl Records {
    const DEATHS: u64 = 16;

    fn of(name: &Name, heap: &Heap) -> Self {
        const QUOTA_BYTES: u64 = 3_141_592;
        heap.set_quota(Quota::Heap, Some(QUOTA_BYTES)).unwrap();
        let whole = fs::read(name.path()).unwrap();
        let is_head = |page: &[u8]| page[..8] == (QUOTA_BYTES + 1).to_ne_bytes();
        let head = whole.chunks(4096).position(is_head).unwrap();
        let segment = File::options().read(true).write(true).open(name.path()).unwrap();
        Self { segment, head_bytes: head as u64 * 4096 }
    }

    /// The word that says what the threads of a peer do.
    fn activity_of(slot: u64) -> u64 {
        64 + 256 * 16 + slot * 8
    }

    fn change(&self, word: u64, change: impl FnOnce(u64) -> u64) {
        let (at, mut bytes) = (self.head_bytes + word * 8, [0; 8]);
        self.segment.read_exact_at(&mut bytes, at).unwrap();
        self.segment.write_all_at(&change(u64::from_ne_bytes(bytes)).to_ne_bytes(), at).unwrap();
    }
}

#[test]
fn gc_tells_of_what_was_miscounted() {
    for policy in POLICIES {
        let (name, heap) = labelled(policy);
        alloc(&heap, "a", 100).unwrap();
        let records = Records::of(&name, &heap);
        let own = &run(&["info", &name.0, "--json"]).json()["peers"][0]["slot"];
        let own = Records::activity_of(own.as_u64().unwrap());
        let told = |dry: &[&str]| {
            let answer = run(&[&["gc", "--json"], dry].concat()).json();
            (
                entry(&answer["heaps"], "name", &json!(name.0)).clone(),
                succeed(&[&["gc"], dry].concat()),
            )
        };
        assert_eq!(told(&["--dry-run"]).0["recounted"], false);
        // A process died as it counted; this one seems to count, so that nobody can count anew.
        records.change(own, |activity| activity + 1);
        records.change(Records::DEATHS, |deaths| deaths + 1);
        let (seen, text) = told(&["--dry-run"]);
        assert_eq!((&seen["recounted"], &seen["swept"]), (&json!(true), &json!(0)));
        assert!(text.contains(&format!("would count anew '{}': ", name.0)), "{text}");
        let (seen, text) = told(&[]);
        assert_eq!(seen["recounted"], false);
        assert!(seen["error"].as_str().unwrap().contains("may be too high"), "{seen}");
        assert!(text.contains(&format!("left alone: {}: ", name.0)), "{text}");
        records.change(own, |activity| activity - 1);
        // The clean-up of another test may come before this one's.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !succeed(&["gc"]).contains(&format!("counted anew '{}': ", name.0)) {
            assert!(Instant::now() < deadline, "never counted anew");
            records.change(Records::DEATHS, |deaths| deaths + 1);
        }
        assert!(!heap.usage().unwrap().is_recount_due);
    }
}

#[test]
fn a_map_tells_tags_apart() {
    for policy in POLICIES {
        let (name, heap) = labelled(policy);
        for (tag, bytes) in [("small", 1000), ("large <&>", 2_000_000), ("", 100_000)] {
            alloc(&heap, tag, bytes).unwrap();
        }
        let map = run(&["map", &name.0, "--by", "tag", "--json"]).json();
        let kinds = map["kinds"].as_array().unwrap();
        let tags: Vec<_> = kinds.iter().filter(|kind| kind["kind"] == "tag").collect();
        let names: Vec<_> = tags.iter().map(|kind| kind["tag"].as_str().unwrap()).collect();
        assert_eq!(names, ["large <&>", "", "small"], "{policy}: the largest first");
        assert_eq!((&tags[1]["label"], &tags[2]["blocks"]), (&json!("(no tag)"), &json!(1)));
        let text = succeed(&["map", &name.0, "--by", "tag"]);
        assert!(text.contains("objects by tag") && text.contains("A   large <&>: 1.9"), "{text}");
    }
    let plain = Name::new();
    succeed(&["create", &plain.0, "--len", "1M"]);
    fail(&["map", &plain.0, "--by", "tag"], 3, "made without labels");
}

#[test]
fn one_heap_is_full_of_tags() {
    let (name, heap) = labelled("scalable");
    for number in 0..255 {
        alloc(&heap, &format!("tag number {number}, with a long name"), 8 + number).unwrap();
    }
    fail(&["quota", &name.0, "--tag", "another=5"], 3, "255 tags");
    let told = run(&["quota", &name.0, "--json"]).json();
    assert_eq!((&told["objects"], told["tags"].as_array().unwrap().len()), (&json!(255), 256));
    let frame = succeed(&["top", &name.0, "--once"]);
    assert!(frame.contains("TAGS (256)\n") && frame.contains("tag number 254, "), "{frame}");
}
