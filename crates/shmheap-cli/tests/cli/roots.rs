//! `shmheap roots`: what it lists, and what it makes of names that are hostile.

use std::alloc::Layout;
use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::Value;
use shmheap::{Heap, Shareable};

use super::support::{Name, fail, run, succeed};

fn created() -> (Name, Heap) {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "1M"]);
    let heap = Heap::connect(&name.0).unwrap();
    (name, heap)
}

fn listed(name: &Name) -> Value {
    run(&["roots", &name.0, "--json"]).json()
}

#[test]
fn roots_are_listed_by_name() {
    let (name, heap) = created();
    let none = succeed(&["roots", &name.0]);
    assert_eq!(none, format!("no roots: nothing in '{}' has a name\n", name.0));
    assert_eq!(listed(&name), serde_json::json!([]));
    let _typed = heap.find_or_create::<u64>("second", |_| {}).unwrap();
    let object = heap.alloc(Layout::new::<[u8; 3000]>()).unwrap();
    let handle = heap.handle(object).unwrap();
    heap.set_root("first", handle).unwrap();
    let list = listed(&name);
    assert_eq!(list[0]["name"], "first");
    assert_eq!(list[0]["handle"], handle.to_string());
    assert!(list[0]["size_bytes"].as_u64().unwrap() >= 3000);
    assert!(list[0]["type"].is_null());
    assert_eq!(list[1]["name"], "second");
    assert_eq!(list[1]["made"], true);
    assert_eq!(list[1]["type"], format!("{:016x}", u64::FINGERPRINT.to_raw()));
    assert_eq!(list.as_array().unwrap().len(), 2);
    let table = succeed(&["roots", &name.0]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].ends_with("STATE"), "{table}");
    let cells: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        (cells[0], cells[1], cells[3..].to_vec()),
        ("first", handle.to_string().as_str(), vec!["-", "made"]),
        "{table}"
    );
    assert!(lines[2].starts_with("second ") && lines[2].ends_with(" made"), "{table}");
    assert_eq!(lines.len(), 3, "{table}");
    fail(&["roots", "no-such-heap"], 3, "no heap 'no-such-heap'");
}

#[test]
fn roots_in_the_making_and_freed_objects_are_told() {
    let (name, heap) = created();
    let object = heap.alloc(Layout::new::<u64>()).unwrap();
    heap.set_root("gone", heap.handle(object).unwrap()).unwrap();
    // SAFETY: nobody uses it.
    #[allow(unsafe_code)]
    unsafe { heap.free(object) }.unwrap();
    let made = heap.find_or_create::<u64>("being made", |_| {
        let list = listed(&name);
        assert_eq!((&list[0]["name"], &list[0]["made"]), (&"being made".into(), &false.into()));
        assert!(list[1]["size_bytes"].is_null());
        let table = succeed(&["roots", &name.0]);
        assert!(table.lines().nth(1).unwrap().ends_with("in the making"), "{table}");
        assert!(table.lines().nth(2).unwrap().ends_with("object freed"), "{table}");
    });
    drop(made.unwrap());
    assert_eq!(listed(&name)[0]["made"], true);
}

#[test]
fn hostile_names_do_nothing_to_a_terminal() {
    let (name, heap) = created();
    let object = heap.alloc(Layout::new::<u64>()).unwrap();
    let handle = heap.handle(object).unwrap();
    heap.set_root("\x1b[2J\n\u{202e}x", handle).unwrap();
    heap.set_root("overwritten", handle).unwrap();
    let bytes = fs::read(name.path()).unwrap();
    let at = bytes.windows(11).position(|window| window == b"overwritten").unwrap();
    let file = fs::OpenOptions::new().write(true).open(name.path()).unwrap();
    file.write_at(b"\xff\x1b\0\x07", at as u64).unwrap();
    let table = succeed(&["roots", &name.0]);
    assert_eq!(table.lines().count(), 3, "{table:?}");
    assert!(!table.contains(['\x1b', '\0', '\x07', '\u{202e}']), "{table:?}");
    assert!(table.contains("\\u{1b}[2J\\n\\u{202e}x"), "{table:?}");
    let list = listed(&name);
    let names: Vec<_> = list.as_array().unwrap().iter().map(|root| &root["name"]).collect();
    assert_eq!(names, ["\x1b[2J\n\u{202e}x", "\u{fffd}\x1b\0\x07written"]);
}
