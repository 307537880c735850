//! `snapshot` and `restore`: a copy while others work, and the way back.

use std::alloc::Layout;

use shmheap::Heap;

use super::support::{Name, Peer, fail, run, succeed};

#[test]
fn a_heap_at_work_is_copied_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    for policy in ["first-fit", "scalable"] {
        let (name, back) = (Name::new(), Name::new());
        succeed(&["create", &name.0, "--len", "8M", "--policy", policy]);
        let heap = Heap::connect(&name.0).unwrap();
        let object = heap.alloc_zeroed(Layout::new::<[u8; 5000]>()).unwrap();
        heap.set_root("kept", heap.handle(object).unwrap()).unwrap();
        let _peer = Peer::at_work(&name.0);
        let file = directory.path().join(policy).to_str().unwrap().to_owned();
        let told = succeed(&["snapshot", &name.0, &file]);
        assert!(told.starts_with(&format!("copied '{}' to '{file}', ", name.0)), "{told}");
        fail(&["snapshot", &name.0, &file], 3, "exists already");
        assert!(succeed(&["check", &file]).starts_with("sound"));
        assert_eq!(run(&["roots", &file, "--json"]).json()[0]["name"], "kept");
        assert_eq!(run(&["stat", &file, "--json"]).json()["peers_alive"], 0);
        let told = succeed(&["restore", &file, &back.0]);
        assert!(told.starts_with(&format!("restored '{}' from '{file}', ", back.0)), "{told}");
        let again = Heap::connect(&back.0).unwrap();
        assert_eq!(again.root_handle("kept").unwrap(), heap.root_handle("kept").unwrap());
        assert!(again.check().is_sound());
        fail(&["restore", &file, &back.0], 3, "exists already");
    }
}

#[test]
fn a_same_address_heap_is_copied_too() {
    let directory = tempfile::tempdir().unwrap();
    for policy in ["first-fit", "scalable"] {
        let (name, back) = (Name::new(), Name::new());
        succeed(&["create", &name.0, "--len", "1M", "--policy", policy, "--same-address"]);
        let heap = Heap::connect(&name.0).unwrap();
        let file = directory.path().join(policy).to_str().unwrap().to_owned();
        succeed(&["snapshot", &name.0, &file]);
        succeed(&["restore", &file, &back.0]);
        let address = |of: &str| run(&["info", of, "--json"]).json()["address"].clone();
        assert_eq!(address(&back.0), address(&name.0));
        drop(heap);
    }
}

#[test]
fn what_is_no_heap_is_not_copied() {
    fail(&["snapshot", "no-such-heap", "/tmp/x"], 3, "no heap 'no-such-heap'");
    fail(&["restore", "/no/such/file", "x"], 3, "there is no file '/no/such/file'");
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "1M"]);
    fail(&["snapshot", &name.0, "/no/such/directory/x"], 3, "'/no/such/directory/x': ");
    fail(&["create", "/no/such/directory/x", "--len", "1M"], 3, "'/no/such/directory/x': ");
    fail(&["snapshot", "x"], 2, "<FILE>");
}
