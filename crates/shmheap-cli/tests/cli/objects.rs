//! `blocks`, `map`, `leaks` and `dump`: what they say of objects, and of whose hands these are in.

use std::alloc::Layout;
use std::fs;
use std::process::Command;

use serde_json::Value;
use shmheap::{Handle, Heap, ShmArc};

use super::support::{Name, Peer, fail, run, succeed};

const POLICIES: [&str; 2] = ["first-fit", "scalable"];

fn created(policy: &str) -> (Name, Heap) {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "1M", "--policy", policy]);
    let heap = Heap::connect(&name.0).unwrap();
    (name, heap)
}

fn object(heap: &Heap, bytes: usize) -> Handle {
    let layout = Layout::from_size_align(bytes, 8).unwrap();
    heap.handle(heap.alloc_zeroed(layout).unwrap()).unwrap()
}

fn listed(list: &Value, handle: Handle) -> Option<&Value> {
    let objects = list.as_array().unwrap();
    objects.iter().find(|object| object["handle"] == handle.to_string())
}

#[test]
fn blocks_lists_each_object_and_who_has_it() {
    for policy in POLICIES {
        let (name, heap) = created(policy);
        assert!(succeed(&["blocks", &name.0]).starts_with("no such objects"));
        assert_eq!(run(&["blocks", &name.0, "--json"]).json(), serde_json::json!([]));
        let (small, large) = (object(&heap, 100), object(&heap, 300_000));
        let own = heap.alloc_unpublished(Layout::new::<[u8; 5000]>()).unwrap();
        heap.set_root("small\u{1b}[31m", small).unwrap();
        let list = run(&["blocks", &name.0, "--json"]).json();
        let of = |handle| listed(&list, handle).unwrap();
        assert_eq!(of(small)["root"], "small\u{1b}[31m");
        assert_eq!(of(small)["state"], "live");
        assert!(of(small)["size_bytes"].as_u64().unwrap() >= 100);
        let site = if policy == "scalable" { "slab" } else { "row" };
        assert_eq!(of(small)["site"], site, "{policy}");
        let owner = (policy == "scalable").then_some(0);
        assert_eq!(of(small)["slab_owner"], serde_json::json!(owner));
        assert_eq!(of(own.handle())["state"], "unpublished");
        assert_eq!(of(own.handle())["in_hand_of"], 0);
        let only = |option: &[&str]| run(&[&["blocks", &name.0, "--json"], option].concat()).json();
        assert_eq!(only(&["--unpublished"]).as_array().unwrap().len(), 1);
        assert!(listed(&only(&["--min-size", "100K"]), large).is_some());
        assert!(listed(&only(&["--min-size", "100K"]), small).is_none());
        assert!(listed(&only(&["--max-size", "1K"]), large).is_none());
        let bytes = of(small)["size_bytes"].as_u64().unwrap();
        for (option, size, is_there) in [
            ("--max-size", bytes, true),
            ("--max-size", bytes - 1, false),
            ("--min-size", bytes, true),
            ("--min-size", bytes + 1, false),
        ] {
            let list = only(&[option, &size.to_string()]);
            assert_eq!(listed(&list, small).is_some(), is_there, "{option} {size}: {list}");
        }
        let table = succeed(&["blocks", &name.0]);
        assert!(table.contains("small\\u{1b}[31m") && !table.contains('\u{1b}'), "{table}");
        assert!(table.lines().next().unwrap().starts_with("HANDLE"), "{table}");
        let count = list.as_array().unwrap().len();
        assert!(table.lines().last().unwrap().starts_with(&format!("{count} objects, ")));
        assert_eq!(table.lines().count(), count + 2);
        drop(own);
    }
    fail(&["blocks", "no-such-heap"], 3, "no heap 'no-such-heap'");
}

#[test]
fn leaks_are_what_the_dead_have_left() {
    // In files: the clean-up that other tests are about frees what the dead have left elsewhere.
    let directory = tempfile::tempdir().unwrap();
    let path = |policy| directory.path().join(policy).to_str().unwrap().to_owned();
    for policy in POLICIES {
        let name = path(policy);
        succeed(&["create", &name, "--len", "1M", "--policy", policy]);
        let heap = Heap::connect_file(&name).unwrap();
        assert_eq!(succeed(&["leaks", &name]), format!("no leaks in '{}'\n", name));
        let plain = object(&heap, 50);
        let held = ShmArc::new(&heap, 7_u64).unwrap();
        let own = heap.alloc_unpublished(Layout::new::<u64>()).unwrap();
        let unsure = run(&["leaks", &name, "--untraced", "--json"]);
        assert_eq!(unsure.code, Some(0), "{unsure:?}");
        let found = unsure.json();
        assert!(listed(&found["unpublished"], own.handle()).is_some(), "{found}");
        assert!(listed(&found["untraced"], plain).is_some(), "{found}");
        assert_eq!(found["untraced"].as_array().unwrap().len(), 1, "{found}");
        assert!(run(&["leaks", &name, "--json"]).json()["untraced"].is_null());
        let dead = Peer::connect_and_hold(&name);
        let text = succeed(&["leaks", &name]);
        assert!(text.ends_with("none of these is a leak for sure\n"), "{text}");
        dead.kill();
        let sure = run(&["leaks", &name]);
        assert_eq!(sure.code, Some(1), "{sure:?}");
        let last = sure.out.lines().last().unwrap();
        assert!(last.starts_with("2 objects in leaks"), "{sure:?}");
        let found = run(&["leaks", &name, "--json"]).json();
        for kind in ["of_dead", "abandoned"] {
            assert_eq!(found[kind].as_array().unwrap().len(), 1, "{kind}: {found}");
        }
        let map = succeed(&["map", &name]);
        assert!(map.contains("of dead processes"), "{map}");
        heap.sweep().unwrap();
        heap.sweep_shared().unwrap();
        assert_eq!(run(&["leaks", &name]).code, Some(0));
        drop((own, held));
    }
}

/// What a map of two objects tells apart, besides what is free.
fn by_word(policy: &str, by: &str) -> &'static str {
    match (policy, by) {
        (_, "class") => "size",
        ("scalable", _) => "peer",
        _ => "nobodys",
    }
}

#[test]
fn a_map_shows_every_byte_once() {
    for policy in POLICIES {
        let (name, heap) = created(policy);
        object(&heap, 100);
        object(&heap, 300_000);
        for by in ["live", "class", "owner"] {
            let map = run(&["map", &name.0, "--json", "--by", by]).json();
            let kinds = map["kinds"].as_array().unwrap();
            let sum = |counts: Vec<u64>| counts.iter().sum::<u64>();
            let bytes = kinds.iter().map(|kind| kind["bytes"].as_u64().unwrap()).collect();
            assert_eq!(sum(bytes), 1 << 20, "{policy} by {by}: {kinds:?}");
            let words: Vec<_> = kinds.iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
            let expected = if by == "live" { "live" } else { by_word(policy, by) };
            assert!(words.contains(&expected) && words.contains(&"free"), "{by}: {words:?}");
            let runs = map["runs"].as_array().unwrap().iter();
            let bytes = runs.flat_map(|run| {
                let cells = run["cells"].as_u64().unwrap();
                let bytes = run["bytes"].as_array().unwrap().iter();
                bytes.map(move |bytes| cells * bytes.as_u64().unwrap())
            });
            assert_eq!(sum(bytes.collect()), 1 << 20);
            let text = run(&["map", &name.0, "--json", "--by", by]).out;
            assert!(text.len() < 10_000, "most cells are as their neighbours: {text}");
            let text = succeed(&["map", &name.0, "--by", by]);
            assert!(text.is_ascii(), "letters alone without a terminal: {text}");
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        }
        let coloured = succeed(&["map", &name.0, "--color", "always"]);
        assert!(coloured.contains("\u{1b}[38;5;") && coloured.contains('\u{2588}'), "{coloured}");
        assert!(!succeed(&["map", &name.0, "--color", "never"]).contains('\u{1b}'));
    }
    fail(&["map", "x", "--json", "--svg", "y"], 2, "cannot be used with");
    fail(&["map", "x", "--by", "colour"], 2, "live, class, owner, tag");
}

#[test]
fn maps_are_drawn_into_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for policy in POLICIES {
        let (name, heap) = created(policy);
        object(&heap, 300_000);
        let (svg, png) = (path(&format!("{policy}.svg")), path(&format!("{policy}.png")));
        assert_eq!(succeed(&["map", &name.0, "--svg", &svg, "--png", &png]), "");
        let text = fs::read_to_string(&svg).unwrap();
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        assert!(text.contains(&name.0) && text.contains("fill=\"#3b6fb6\""), "{text}");
        let reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(&png).unwrap()));
        let mut reader = reader.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let live = pixels.chunks(3).filter(|pixel| *pixel == [0x3b, 0x6f, 0xb6]).count();
        assert!(live > 1000, "{live} pixels of 300 KB in 1 MiB");
        fail(&["map", &name.0, "--png", &path("no/such/directory")], 3, "cannot write");
        fail(&["map", &name.0, "--svg", &png], 3, "exists already");
        assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG"), "it was written over");
        assert_eq!(succeed(&["map", &name.0, "--png", "/dev/null"]), "");
    }
}

#[test]
fn no_map_is_left_in_part() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (name, heap) = created("scalable");
    object(&heap, 300_000);
    let (svg, png, link) = (path("map.svg"), path("map.png"), path("link"));
    // Files of one block at the most.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" map \"$1\" --svg \"$2\" --png \"$3\"";
    let program = env!("CARGO_BIN_EXE_shmheap");
    let output =
        Command::new("sh").args(["-c", script, program, &name.0, &svg, &png]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains(&format!("cannot write '{svg}'")), "{told}");
    std::os::unix::fs::symlink(path("nothing"), &link).unwrap();
    fail(&["map", &name.0, "--svg", &svg, "--png", &link], 3, "link' is a link to nothing");
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "more than the link: {left:?}");
    succeed(&["map", &name.0, "--svg", &svg, "--png", &png]);
    fail(&["map", &name.0, "--svg", &path("other"), "--png", &png], 3, "exists already");
    assert!(!fs::exists(path("other")).unwrap(), "both or none");
}

#[test]
fn dump_shows_the_bytes_of_an_object() {
    for policy in POLICIES {
        let (name, heap) = created(policy);
        let address = heap.alloc_zeroed(Layout::new::<[u8; 32]>()).unwrap();
        // SAFETY: the object is this test's, and large enough.
        #[allow(unsafe_code)]
        unsafe {
            address.cast::<[u8; 20]>().write(*b"twenty bytes\n\x1b\xff 0123");
        }
        let handle = heap.handle(address).unwrap().to_string();
        let text = succeed(&["dump", &name.0, &handle]);
        let first = "00000000  74 77 65 6e 74 79 20 62  79 74 65 73 0a 1b ff 20  \
                     |twenty bytes... |";
        assert_eq!(text.lines().next(), Some(first));
        let raw = succeed_raw(&["dump", &name.0, &handle, "--raw"]);
        assert!(raw.starts_with(b"twenty bytes\n\x1b\xff 0123\0") && raw.len() >= 32);
        let json = run(&["dump", &name.0, &handle, "--json"]).json();
        assert_eq!(json["size_bytes"], raw.len());
        assert!(json["bytes"].as_str().unwrap().starts_with("7477656e7479"));
        // SAFETY: nobody uses it.
        #[allow(unsafe_code)]
        unsafe { heap.free(address) }.unwrap();
        fail(&["dump", &name.0, &handle], 3, "handle");
        fail(&["dump", &name.0, "handle"], 2, "as `shmheap blocks` does");
    }
}

fn succeed_raw(arguments: &[&str]) -> Vec<u8> {
    let output = super::support::command(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    output.stdout
}
