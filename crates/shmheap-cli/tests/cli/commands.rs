//! Each command against real heaps: what it prints, its JSON, its exit code.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use super::support::{Name, Peer, command, fail, run, succeed};
use serde_json::Value;
use shmheap::HeapOptions;

/// A heap with room for a few threads, or what the arguments say instead.
fn created(arguments: &[&str]) -> Name {
    let name = Name::new();
    let mut all = vec!["create", &name.0, "--len", "1M"];
    all.extend(arguments);
    succeed(&all);
    name
}

const FIRST_FIT: [&str; 2] = ["--policy", "first-fit"];
const SCALABLE: [&str; 2] = ["--policy", "scalable"];

/// The entry of a heap in the answer of `ls --json` or the `heaps` of `gc --json`.
fn entry<'v>(list: &'v Value, name: &Name) -> &'v Value {
    let entries = list.as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == name.0.as_str()).expect("an entry")
}

#[test]
fn create_tells_what_it_made() {
    let name = Name::new();
    let options = ["--len", "64K", "--max-len", "1MiB", "--policy", "first-fit", "--granule", "8"];
    let out = succeed(&[&["create", &name.0], &options[..]].concat());
    assert_eq!(out, format!("created '{}', first fit, 64.00 KiB, may grow to 1.00 MiB\n", name.0));
    let info = run(&["info", &format!("/{}", name.0), "--json"]).json();
    assert_eq!(info["len_bytes"], 64 << 10);
    assert_eq!(info["max_len_bytes"], 1 << 20);
    assert_eq!(info["granule_bytes"], 8);
    assert_eq!(info["policy"], "first_fit");
    assert_eq!(info["mode"], "0600");
    assert_eq!(info["id"].as_str().unwrap().len(), 32);
    assert!(info["object_bytes"].as_u64() >= info["len_bytes"].as_u64());
    fail(&["create", &name.0, "--len", "64K"], 3, "exists already");
}

#[test]
fn the_scalable_policy_is_the_default_and_has_no_granule() {
    let name = Name::new();
    let out = succeed(&["create", &name.0, "--len", "100K"]);
    assert_eq!(out, format!("created '{}', scalable, 128.00 KiB\n", name.0));
    assert_eq!(run(&["info", &name.0, "--json"]).json()["policy"], "scalable");
    let text = succeed(&["info", &name.0]);
    assert!(text.contains("scalable") && !text.contains("granule"), "{text}");
    for policy in [&[][..], &SCALABLE] {
        let create = ["create", "x", "--len", "1M", "--granule", "8"];
        fail(&[&create, policy].concat(), 2, "choice of '--policy first-fit'");
    }
    fail(&["create", "x", "--len", "1M", "--policy", "best"], 2, "first-fit, scalable");
}

#[test]
fn a_heap_can_have_an_address() {
    for policy in [FIRST_FIT, SCALABLE] {
        let name = Name::new();
        let create = ["create", &name.0, "--len", "1M", "--same-address"];
        let out = succeed(&[&create[..], &policy].concat());
        let address = run(&["info", &name.0, "--json"]).json()["address"].as_u64().unwrap();
        assert!(out.ends_with(&format!(", at {address:#x} in every process\n")), "{out}");
        let text = succeed(&["info", &name.0]);
        assert!(text.contains(&format!("{address:#x} in every process\n")), "{text}");
        let heap = shmheap::Heap::connect(&name.0).unwrap();
        assert_eq!(heap.base().addr().get() as u64, address + heap.info().data_offset_bytes);
        assert!(succeed(&["check", &name.0]).starts_with("sound"));
        let anywhere = created(&policy);
        assert!(run(&["info", &anywhere.0, "--json"]).json()["address"].is_null());
        assert!(!succeed(&["info", &anywhere.0]).contains("address"));
    }
}

#[test]
fn mode_and_group_are_set_exactly() {
    let gid = rustix::process::getgid().as_raw().to_string();
    let name = created(&["--mode", "664", "--group", &gid]);
    let info = run(&["info", &name.0, "--json"]).json();
    assert_eq!(info["mode"], "0664");
    assert_eq!(info["gid"].to_string(), gid);
}

#[test]
fn wrong_arguments_say_what_is_wrong() {
    fail(&[], 2, "Usage");
    fail(&["frobnicate"], 2, "unrecognized subcommand");
    fail(&["create", "x"], 2, "--len");
    fail(&["create", "x", "--len", "1.5G"], 2, "fractions are not read");
    fail(&["create", "x", "--len", "lots"], 2, "whole number");
    fail(&["create", "x", "--len", "1M", "--granule", "12"], 2, "possible values: 8, 16");
    fail(&["create", "x", "--len", "1M", "--mode", "999"], 2, "octal");
    fail(&["create", "x", "--len", "1M", "--group", "no-such-group"], 2, "number instead");
    fail(&["demo", "--workers", "1"], 2, "2..=64");
    fail(&["completions", "tcl"], 2, "bash");
}

#[test]
fn failed_operations_exit_with_3() {
    for reader in ["info", "stat", "check", "trim", "destroy"] {
        fail(&[reader, "no-such-heap"], 3, "no heap 'no-such-heap'");
        fail(&[reader, "./no/such/file"], 3, "no/such/file");
    }
    fail(&["create", "", "--len", "1M"], 3, "cannot name a heap");
    fail(&["create", "x", "--len", "0"], 3, "len");
    fail(&["demo", "./no/such/text"], 3, "cannot read");
}

#[test]
fn a_path_makes_a_heap_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.heap");
    let path = path.to_str().unwrap();
    succeed(&["create", path, "--len", "64K"]);
    assert!(fs::metadata(path).unwrap().len() >= 64 << 10);
    assert!(succeed(&["check", path]).starts_with("sound"));
    assert_eq!(run(&["stat", path, "--json"]).json()["live_objects"], 0);
    succeed(&["destroy", path]);
    assert!(!fs::exists(path).unwrap());
}

#[test]
fn ls_lists_heaps_and_passes_over_other_objects() {
    let name = created(&[]);
    let other = Name::new();
    fs::write(other.path(), "not a heap, but something of another program").unwrap();
    let list = run(&["ls", "--json"]).json();
    let listed = entry(&list, &name);
    assert_eq!(listed["readable"], true);
    assert_eq!(listed["len_bytes"], 1 << 20);
    assert_eq!(listed["policy"], "scalable");
    assert_eq!(listed["live_objects"], 0);
    assert_eq!(listed["mode"], "0600");
    assert_eq!(listed["peers_alive"], 0);
    assert!(listed["error"].is_null());
    assert!(list.as_array().unwrap().iter().all(|entry| entry["name"] != other.0.as_str()));
    let table = succeed(&["ls"]);
    let row = table.lines().find(|line| line.starts_with(&name.0)).expect("a row");
    assert!(row.contains("1.0M") && row.contains("0%") && row.contains("scalable"), "{row}");
}

#[test]
fn ls_names_heaps_that_cannot_be_read() {
    let name = created(&[]);
    let whole = fs::read(name.path()).unwrap();
    // Put in its place, not cut: another test's `ls` may be reading the whole one.
    let part = Name::new();
    fs::write(part.path(), &whole[..4096.min(whole.len() / 2)]).unwrap();
    fs::rename(part.path(), name.path()).unwrap();
    let list = run(&["ls", "--json"]).json();
    let listed = entry(&list, &name);
    assert_eq!(listed["readable"], false);
    assert!(listed["error"].as_str().unwrap().contains("not a usable heap"));
    assert!(listed["len_bytes"].is_null());
    assert!(succeed(&["ls"]).contains(&format!("not readable: {}", name.0)));
}

#[test]
fn info_and_stat_show_peers_and_objects() {
    let name = created(&FIRST_FIT);
    let peer = Peer::connect(&name.0);
    let info = run(&["info", &name.0, "--json"]).json();
    let peers = info["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0]["pid"], peer.id());
    assert_eq!(peers[0]["alive"], true);
    assert!(peers[0]["command"].as_str().unwrap().contains("be_a_peer"));
    assert!(peers[0]["objects_owned"].is_null(), "under first fit nobody owns any");
    let text = succeed(&["info", &name.0]);
    assert!(text.contains(&peer.id().to_string()) && text.contains("alive"), "{text}");

    let stat = run(&["stat", &name.0, "--json"]).json();
    assert_eq!((&stat["live_objects"], &stat["live_bytes"]), (&1.into(), &16.into()));
    assert_eq!(stat["peers_alive"], 1);
    assert_eq!(stat["fragmentation"], 0.0);
    assert_eq!(stat["classes"].as_array().unwrap().len(), 0);
    let text = succeed(&["stat", &name.0]);
    assert!(text.contains("1 object") && text.contains("operations"), "{text}");
}

#[test]
fn of_a_scalable_heap_info_tells_what_peers_own_and_stat_the_classes() {
    let name = created(&[]);
    let empty = succeed(&["stat", &name.0]);
    assert!(!empty.contains("SLABS"), "no table without slabs: {empty}");
    let peer = Peer::connect(&name.0);
    let info = run(&["info", &name.0, "--json"]).json();
    assert_eq!(info["peers"][0]["pid"], peer.id());
    assert_eq!(info["peers"][0]["objects_owned"], 1);
    let text = succeed(&["info", &name.0]);
    assert!(text.contains("OWNS"), "{text}");

    let stat = run(&["stat", &name.0, "--json"]).json();
    let classes = stat["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 1);
    for (field, value) in
        [("object_bytes", 16), ("owned_slabs", 1), ("shared_slabs", 0), ("live_objects", 1)]
    {
        assert_eq!(classes[0][field], value, "{field}");
    }
    assert_eq!(stat["owners"][0]["live_objects"], 1);
    let text = succeed(&["stat", &name.0]);
    for told in ["policy       scalable", "tails", "\nSIZE  SLABS OWNED", "\n  16  "] {
        assert!(text.contains(told), "{told}: {text}");
    }
    for untold in ["operations", "at work", "granule"] {
        assert!(!text.contains(untold), "{untold}: {text}");
    }
    let wide = text.lines().find(|line| line.len() > 80);
    assert_eq!(wide, None);
}

#[test]
fn watch_shows_a_line_at_a_time_under_the_titles_of_the_policy() {
    for (policy, title) in [(&FIRST_FIT, "OPS/S"), (&SCALABLE, "TRIMMED")] {
        let name = created(policy);
        let mut process = command(&["stat", &name.0, "--watch", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let lines: Vec<_> = lines.take(3).map(|line| line.unwrap()).collect();
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(lines[0].contains(title), "{lines:?}");
        assert!(lines[1..].iter().all(|line| line.contains("1.0M")), "{lines:?}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:?}");
    }
}

#[test]
fn a_heap_that_is_cut_short_while_it_is_watched_is_an_error_and_no_signal() {
    for policy in [&FIRST_FIT, &SCALABLE] {
        let name = created(policy);
        let mut process = command(&["stat", &name.0, "--watch", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        lines.next().unwrap().unwrap();
        std::fs::File::options().write(true).open(name.path()).unwrap().set_len(4096).unwrap();
        let output = process.wait_with_output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{words}");
        assert!(words.starts_with("shmheap: another process shortened"), "{words}");
        assert_eq!(words.lines().count(), 1);
        // What is left, the command refuses to read, and removes.
        fail(&["stat", &name.0], 3, "truncated");
        succeed(&["destroy", "--yes", &name.0]);
    }
}

#[test]
fn trim_gives_back_what_is_free() {
    let name = created(&[]);
    let text = succeed(&["trim", &name.0]);
    assert!(text.starts_with(&format!("given back: 1.00 MiB of '{}'", name.0)), "{text}");
    let again = run(&["trim", &name.0, "--json"]).json();
    assert_eq!(again["given_back_bytes"], 0);
    assert_eq!(again["trimmed_bytes"], 1 << 20);
    assert_eq!(run(&["stat", &name.0, "--json"]).json()["trimmed_bytes"], 1 << 20);
    assert!(succeed(&["stat", &name.0]).contains("of which 1.00 MiB trimmed"));
    let peer = Peer::connect(&name.0);
    let stat = run(&["stat", &name.0, "--json"]).json();
    assert_eq!(stat["trimmed_bytes"], (1 << 20) - (64 << 10), "used again as if never given");
    drop(peer);

    let name = created(&FIRST_FIT);
    assert!(succeed(&["trim", &name.0]).starts_with("nothing given back"));
    fail(&["trim", "no-such-heap"], 3, "no heap 'no-such-heap'");
}

#[test]
fn a_scalable_heap_is_sound_while_processes_work_and_after_one_was_killed() {
    let name = created(&["--max-len", "64M"]);
    let mut busy = Peer::at_work(&name.0);
    for _ in 0..5 {
        let run = run(&["check", &name.0]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.out.starts_with(&format!("sound: '{}', scalable\n", name.0)), "{run:?}");
    }
    let audit = run(&["check", &name.0, "--json"]).json();
    assert_eq!((&audit["sound"], &audit["policy"]), (&true.into(), &"scalable".into()));
    busy.stop();
    let stat = run(&["stat", &name.0, "--json"]).json();
    assert_eq!((&stat["peers_alive"], &stat["lock_holder"]), (&1.into(), &Value::Null));
    drop(Peer::connect(&name.0)); // allocates: a stopped process keeps nobody waiting
    busy.kill();
    assert_ne!(run(&["stat", &name.0, "--json"]).json()["peers_dead"], 0);
    assert_eq!(run(&["check", &name.0]).code, Some(0));
    assert_eq!(run(&["stat", &name.0, "--json"]).json()["peers_dead"], 0, "the audit adopts it");
}

#[test]
fn check_exits_with_1_for_a_damaged_heap() {
    damage_is_found(&FIRST_FIT);
}

#[test]
fn check_exits_with_1_for_a_damaged_scalable_heap() {
    damage_is_found(&SCALABLE);
}

fn damage_is_found(policy: &[&str]) {
    let name = created(policy);
    drop(Peer::connect(&name.0));
    let audit = run(&["check", &name.0, "--json"]).json();
    assert_eq!((&audit["sound"], &audit["live_objects"]), (&true.into(), &1.into()));

    let info = run(&["info", &name.0, "--json"]).json();
    let data = info["data_offset_bytes"].as_u64().unwrap() as usize;
    // Words in use, the last records first: those of blocks, not those of peers.
    let whole = fs::read(name.path()).unwrap();
    let object = fs::File::options().write(true).open(name.path()).unwrap();
    let words = (512..data).step_by(8).rev();
    let damaged = words.filter(|&at| whole[at..at + 8] != [0; 8]).any(|at| {
        let word: Vec<u8> = whole[at..at + 8].iter().map(|byte| byte ^ 0x5a).collect();
        object.write_all_at(&whole, 0).unwrap();
        object.write_all_at(&word, at as u64).unwrap();
        let run = run(&["check", &name.0]);
        assert!(!run.err.contains("panicked"), "{run:?}");
        run.code == Some(1) && run.out.starts_with("not sound")
    });
    assert!(damaged, "no damage was found");
    let audit = run(&["check", &name.0, "--json"]).json();
    assert_eq!(audit["sound"], false);
    assert!(!audit["findings"].as_array().unwrap().is_empty());
}

#[test]
fn destroy_refuses_while_somebody_is_connected() {
    let name = created(&[]);
    let peer = Peer::connect(&name.0);
    fail(&["destroy", &name.0], 3, &format!("in use by process {}", peer.id()));
    assert!(name.path().exists());
    succeed(&["destroy", &name.0, "--force"]);
    assert!(!name.path().exists());
}

#[test]
fn destroy_leaves_foreign_objects_alone() {
    let other = Name::new();
    fs::write(other.path(), "x".repeat(10_000)).unwrap();
    fail(&["destroy", &other.0, "--yes"], 3, "not a usable heap");
    assert!(other.path().exists());
}

#[test]
fn gc_recovers_what_dead_peers_left() {
    let name = created(&[]);
    let living = Peer::connect(&name.0);
    Peer::connect(&name.0).kill();
    let dry = run(&["gc", "--dry-run", "--json"]).json();
    let seen = entry(&dry["heaps"], &name);
    assert_eq!((&seen["peers_dead"], &seen["peers_alive"]), (&1.into(), &1.into()));
    assert_eq!(dry["unfinished_removed"], Value::Null);
    assert_eq!(run(&["stat", &name.0, "--json"]).json()["peers_dead"], 1, "a dry run does nothing");

    let done = run(&["gc", "--json"]).json();
    assert_eq!(entry(&done["heaps"], &name)["removed"], false);
    let stat = run(&["stat", &name.0, "--json"]).json();
    assert_eq!((&stat["peers_dead"], &stat["peers_alive"]), (&0.into(), &1.into()));
    assert_eq!(stat["live_objects"], 2, "objects of dead peers stay, they may be in use");
    drop(living);
}

#[test]
fn gc_removes_heaps_whose_last_process_was_killed() {
    let name = Name::new();
    let heap = HeapOptions::new(1 << 16).ephemeral().create(&name.0).unwrap();
    assert!(succeed(&["info", &name.0]).contains("until its last process is gone"));
    assert_eq!(run(&["info", &name.0, "--json"]).json()["is_ephemeral"], true);
    let peer = Peer::connect(&name.0);
    drop(heap);
    succeed(&["gc"]);
    assert!(name.path().exists(), "its process lives");
    peer.kill();
    succeed(&["gc"]);
    assert!(!name.path().exists());
}

#[test]
fn gc_would_remove_only_idle_heaps_and_only_when_asked() {
    let (idle, used) = (created(&[]), created(&[]));
    let peer = Peer::connect(&used.0);
    // Only a dry run: other tests' heaps are idle too.
    let dry = run(&["gc", "--dry-run", "--remove-idle", "--json"]).json();
    assert_eq!(entry(&dry["heaps"], &idle)["removed"], true);
    assert_eq!(entry(&dry["heaps"], &used)["removed"], false);
    let dry = run(&["gc", "--dry-run", "--json"]).json();
    assert_eq!(entry(&dry["heaps"], &idle)["removed"], false);
    assert!(idle.path().exists() && used.path().exists());
    drop(peer);
}

#[test]
fn doctor_answers_for_every_check() {
    let answer = run(&["doctor", "--json"]);
    let lines = answer.json();
    let lines = lines.as_array().unwrap();
    for check in ["shm mount", "shm size", "heap creation", "proof of life", "overcommit"] {
        assert!(lines.iter().any(|line| line["check"] == check), "{check} is missing");
    }
    let failed = lines.iter().any(|line| line["status"] == "fail");
    assert_eq!(answer.code, Some(i32::from(failed)));
    for line in lines.iter().filter(|line| line["status"] != "ok") {
        assert!(line["fix"].is_string(), "{line}");
    }
    let text = run(&["doctor"]).out;
    assert!(text.contains("proof of life") && text.contains("heaps"), "{text}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&["completions", shell]);
        assert!(script.contains("destroy") && script.contains("doctor"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut process = command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(process.stdout.take());
    let mut told = String::new();
    process.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((process.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

#[test]
fn help_documents_the_exit_codes() {
    let help = succeed(&["--help"]);
    for text in ["Exit codes", "2  wrong usage", "NO_COLOR", "powers of 1024"] {
        assert!(help.contains(text), "{text}");
    }
    assert!(!help.contains("demo-worker"), "processes of the demo are nobody's business");
}
