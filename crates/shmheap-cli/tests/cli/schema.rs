//! What `docs/json.md` says of the JSON of each command, against what they print.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::Value;
use shmheap::Heap;

use super::support::{Name, Peer, run, succeed};

const DOCUMENT: &str = include_str!("../../../../docs/json.md");

/// Fields and their types.
type Fields = BTreeMap<String, Vec<&'static str>>;

/// For each command the fields that are documented.
fn documented() -> BTreeMap<&'static str, Fields> {
    let mut commands = BTreeMap::new();
    let mut command = "";
    for line in DOCUMENT.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            command = name;
        }
        let Some((field, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` | "))
        else {
            continue;
        };
        let kinds = rest.split(" |").next().unwrap().split(" or ").collect();
        let fields: &mut Fields = commands.entry(command).or_default();
        assert_eq!(fields.insert(field.to_owned(), kinds), None, "{command}: {field} twice");
    }
    commands.iter().map(|(&command, fields)| (command, expanded(fields, &commands))).collect()
}

/// The fields, with those of another command for each that is as that.
fn expanded(fields: &Fields, commands: &BTreeMap<&str, Fields>) -> Fields {
    let mut all = Fields::new();
    for (field, kinds) in fields {
        let other = |kind: &&'static str| kind.strip_prefix("as `")?.strip_suffix('`');
        let (others, own): (Vec<_>, Vec<_>) =
            kinds.iter().copied().partition(|kind| other(kind).is_some());
        if !own.is_empty() {
            all.insert(field.clone(), own);
        }
        for command in others.iter().filter_map(other) {
            for (inner, kinds) in commands[command].iter().filter(|(inner, _)| *inner != "name") {
                let dot = if inner.starts_with('[') { "" } else { "." };
                all.insert(format!("{field}{dot}{inner}"), kinds.clone());
            }
        }
    }
    all
}

/// The fields of a value, each with the types that it is seen with.
fn fields(value: &Value, path: &str, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Array(elements) => {
            return elements.iter().for_each(|one| fields(one, &format!("{path}[]"), found));
        }
        Value::Object(members) => {
            return members.iter().for_each(|(name, one)| {
                let dot = if path.is_empty() { "" } else { "." };
                fields(one, &format!("{path}{dot}{name}"), found);
            });
        }
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
    };
    found.entry(path.to_owned()).or_default().insert(kind);
}

/// A heap in which there is something of everything, and who has it.
struct Scene {
    heap: Name,
    /// With labels; in a file for the same reason as the next.
    labelled: String,
    /// In a file, where no clean-up frees what the dead have left.
    leaking: String,
    damaged: Name,
    handle: String,
}

fn damaged() -> Name {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "64K", "--policy", "first-fit"]);
    let data = run(&["info", &name.0, "--json"]).json()["data_offset_bytes"].as_u64().unwrap();
    let whole = fs::read(name.path()).unwrap();
    let object = fs::File::options().write(true).open(name.path()).unwrap();
    let words = (659_456..data as usize).step_by(8).filter(|&at| whole[at..at + 8] != [0; 8]);
    let inverted = |at: usize| whole[at..at + 8].iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>();
    let is_found = words.rev().any(|at| {
        object.write_all_at(&inverted(at), at as u64).unwrap();
        run(&["check", &name.0]).code == Some(1)
    });
    assert!(is_found, "no word of the records makes the heap unsound");
    name
}

fn compared(scene: &Scene) -> BTreeMap<&'static str, Vec<Vec<&str>>> {
    let [heap, damaged, labelled, leaking] =
        [&scene.heap.0, &scene.damaged.0, &scene.labelled, &scene.leaking].map(String::as_str);
    BTreeMap::from([
        ("ls", vec![vec!["ls"]]),
        ("info", vec![vec!["info", heap]]),
        ("stat", vec![vec!["stat", heap], vec!["stat", labelled]]),
        ("quota", vec![vec!["quota", labelled]]),
        ("check", vec![vec!["check", heap], vec!["check", damaged]]),
        ("roots", vec![vec!["roots", heap]]),
        ("blocks", vec![vec!["blocks", heap], vec!["blocks", labelled]]),
        (
            "map",
            ["live", "class", "owner", "tag"].map(|by| vec!["map", labelled, "--by", by]).to_vec(),
        ),
        (
            "leaks",
            vec![
                vec!["leaks", leaking],
                vec!["leaks", leaking, "--untraced"],
                vec!["leaks", labelled, "--untraced"],
            ],
        ),
        ("dump", vec![vec!["dump", heap, &scene.handle]]),
        ("trim", vec![vec!["trim", heap]]),
        ("gc", vec![vec!["gc", "--dry-run"]]),
        ("bench", vec![vec!["bench", "--seconds", "1", "--threads", "2"]]),
        ("doctor", vec![vec!["doctor"]]),
    ])
}

#[test]
fn the_document_says_what_commands_print() {
    let directory = tempfile::tempdir().unwrap();
    let leaking = directory.path().join("leaking").to_str().unwrap().to_owned();
    succeed(&["create", &leaking, "--len", "4M"]);
    let leaky = Heap::connect_file(&leaking).unwrap();
    let _unpublished = leaky.alloc_unpublished(Layout::new::<u64>()).unwrap();
    Peer::connect_and_hold(&leaking).kill();
    let labelled = directory.path().join("labelled").to_str().unwrap().to_owned();
    succeed(&["create", &labelled, "--len", "4M", "--labels"]);
    let with_labels = Heap::connect_file(&labelled).unwrap();
    with_labels.alloc(Layout::new::<u64>()).unwrap();
    let _in_hand = with_labels.alloc_unpublished(Layout::new::<u64>()).unwrap();
    Peer::hold_under_tag(&labelled, "held").kill();
    succeed(&["quota", &labelled, "--heap", "3M", "--peer", "2M", "--tag", "held=1M"]);
    let (name, damaged) = (Name::new(), damaged());
    succeed(&["create", &name.0, "--len", "4M"]);
    let heap = Heap::connect(&name.0).unwrap();
    let object = heap.handle(heap.alloc(Layout::new::<[u8; 100]>()).unwrap()).unwrap();
    let _root = heap.find_or_create::<u64>("root", |_| {}).unwrap();
    let scene = Scene { heap: name, labelled, leaking, damaged, handle: object.to_string() };
    let (documented, compared) = (documented(), compared(&scene));
    assert_eq!(documented.keys().collect::<Vec<_>>(), compared.keys().collect::<Vec<_>>());
    for (command, calls) in compared {
        let mut found = BTreeMap::new();
        for call in calls {
            fields(&run(&[&call, &["--json"][..]].concat()).json(), "", &mut found);
        }
        for (field, kinds) in &found {
            let said = documented[command].get(field);
            let said = said.unwrap_or_else(|| panic!("{command}: {field} is not documented"));
            let is_said = kinds.iter().all(|kind| said.contains(kind));
            assert!(is_said, "{command}: {field} is {kinds:?}, not {said:?}");
        }
        for field in documented[command].keys() {
            // What a real clean-up removes would be other users'.
            let is_seen = found.contains_key(field) || field == "unfinished_removed[]";
            assert!(is_seen, "{command} prints no {field}");
        }
    }
}

#[test]
fn manual_pages_are_written_for_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    succeed(&["man", pages.to_str().unwrap()]);
    for name in
        ["shmheap.1", "shmheap-map.1", "shmheap-snapshot.1", "shmheap-top.1", "shmheap-watch.1"]
    {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        assert!(page.contains(".TH"), "{name}: {page}");
        let has_table = page.contains("\n.nf\nFields of \\-\\-json:\n  name, ");
        assert_eq!(has_table, name == "shmheap-map.1", "{name}: {page}");
    }
    for hidden in ["shmheap-demo-worker.1", "shmheap-bench-partner.1"] {
        assert!(!pages.join(hidden).exists(), "what is hidden has none");
    }
}
