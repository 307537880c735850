//! The liveness matrix: what peers see of a process, whatever happens to it.
//!
//! Tests that expect a lock to be gone at once run in a process of their own: otherwise another
//! test may start a process in the moment that a descriptor is open, and hold the lock until exec.

mod races;

use std::cell::Cell;
use std::io::{Read, Write};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::subject::{BASE, Scene, Subject, dies, fork_in};
use super::*;
use crate::os::testing::{NameGuard, exit_status, fork, in_own_process};
use crate::os::{Access, Object};
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Result};

/// As many records as any scene has.
const USED: u16 = 8;

/// Counts the records that were given storage.
struct Reserving(Cell<u16>);

impl Surroundings for Reserving {
    fn adopt(&self, slot: PeerSlot) -> bool {
        assert!(slot.0 < self.0.get());
        true
    }

    fn reserve(&self, count: u16) -> Result<()> {
        self.0.set(self.0.get().max(count));
        Ok(())
    }
}

/// Has no storage to give.
struct Full;

impl Surroundings for Full {
    fn adopt(&self, slot: PeerSlot) -> bool {
        panic!("{slot:?} was adopted")
    }

    fn reserve(&self, count: u16) -> Result<()> {
        if count == 0 { Ok(()) } else { Err(Error::ReadOnly { action: "test" }) }
    }
}

#[test]
fn no_record_is_touched_before_it_has_storage() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let words = |scene: &Scene| -> Vec<u64> {
        let row = scene.row();
        (0..Scene::words_bytes(8) / WORD_BYTES).map(|at| row.load(WordIndex(at))).collect()
    };
    let before = words(&scene);
    assert!(scene.join_and(&Full).is_err());
    assert_eq!(words(&scene), before);
    for joined in 1..=3 {
        let reserving = Reserving(Cell::new(0));
        std::mem::forget(scene.join_and(&reserving).unwrap());
        assert_eq!((reserving.0.get(), scene.table.used(&scene.row())), (joined, joined));
    }
    let here = scene.join();
    assert_eq!(here.sweep(&scene.row(), &Full), 0);
    scene.row().store(WordIndex(0), u64::MAX);
    let hostile = Reserving(Cell::new(0));
    assert_eq!(here.sweep(&scene.row(), &hostile), 0);
    assert_eq!(hostile.0.get(), 8, "bounded");
}

#[test]
fn a_killed_process_is_dead_though_nobody_has_waited_for_it() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subject = Subject::start(&guard);
    assert!(!here.is_dead(subject.slot));
    subject.process.kill().unwrap();
    let unreaped = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(subject.pid()), unreaped).unwrap();
    assert!(dies(&here, subject.slot));
    subject.kill();
    assert!(here.is_dead(subject.slot));
}

#[test]
fn a_stopped_process_is_alive() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subject = Subject::start(&guard);
    kill_process(subject.pid(), Signal::STOP).unwrap();
    waitid(WaitId::Pid(subject.pid()), WaitIdOptions::STOPPED).unwrap();
    assert!(!here.is_dead(subject.slot));
    assert_eq!(here.sweep(&scene.row(), &|_| panic!("adopted a living peer")), 0);
    kill_process(subject.pid(), Signal::CONT).unwrap();
    let own = here.slot().unwrap().0;
    assert_eq!(subject.tell(&format!("is dead {own}")), "false");
}

#[test]
fn a_forked_child_takes_a_place_of_its_own_and_both_die_alone() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    for command in ["fork", "clone"] {
        let mut subject = Subject::start(&guard);
        let (child_pid, child) = fork_in(&mut subject, command);
        assert_ne!(child, subject.slot);
        assert!(!here.is_dead(child));
        subject.kill();
        assert!(dies(&here, subject.slot), "its forked child does not keep it alive");
        assert!(!here.is_dead(child));
        kill_process(child_pid, Signal::KILL).unwrap();
        assert!(dies(&here, child));
        assert_eq!(here.sweep(&scene.row(), &|_| true), 2);
    }
}

#[test]
fn the_end_of_a_forked_child_leaves_its_parent_alive() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subject = Subject::start(&guard);
    assert_eq!(subject.tell("fork, leave and exit"), "exit 0");
    assert!(!here.is_dead(subject.slot));
    assert!(scene.table.is_joined(&scene.row(), subject.slot));
    let (child_pid, child) = fork_in(&mut subject, "fork");
    kill_process(child_pid, Signal::KILL).unwrap();
    assert!(dies(&here, child));
    assert!(!here.is_dead(subject.slot));
}

#[test]
fn a_process_that_executes_another_program_is_dead() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subject = Subject::start(&guard);
    writeln!(subject.input.as_mut().unwrap(), "exec").unwrap();
    assert_eq!(subject.tell("@I am cat now"), "I am cat now");
    assert!(dies(&here, subject.slot));
}

#[test]
fn a_process_that_closes_every_descriptor_is_alive_and_sees_the_others() {
    in_own_process(
        module_path!(),
        "a_process_that_closes_every_descriptor_is_alive_and_sees_the_others",
        || {
            let guard = NameGuard::new();
            let scene = Scene::create(&guard, 8);
            let here = scene.join();
            let mut subject = Subject::start(&guard);
            let own = here.slot().unwrap().0;
            assert_eq!(subject.tell("close descriptors"), "closed");
            assert!(!here.is_dead(subject.slot));
            assert_eq!(subject.tell(&format!("is dead {own}")), "false");
            here.leave(&scene.row());
            assert_eq!(subject.tell(&format!("is dead {own}")), "true");
            let (_, child) = fork_in(&mut subject, "fork");
            assert_ne!(child, subject.slot, "a child joins by the path");
            assert_eq!(subject.tell("leave"), "left");
            assert!(here.is_dead(subject.slot));
        },
    );
}

#[test]
fn a_process_that_cannot_ask_takes_the_others_for_alive() {
    in_own_process(module_path!(), "a_process_that_cannot_ask_takes_the_others_for_alive", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 8);
        let here = scene.join();
        let mut subject = Subject::start(&guard);
        let dead = here.slot().unwrap().0;
        here.leave(&scene.row());
        std::fs::remove_file(guard.at().path()).unwrap();
        assert_eq!(subject.tell(&format!("is dead {dead}")), "true");
        assert_eq!(subject.tell("close descriptors"), "closed");
        assert_eq!(subject.tell(&format!("is dead {dead}")), "false");
    });
}

#[test]
fn opening_and_closing_the_object_elsewhere_changes_nothing() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subject = Subject::start(&guard);
    assert_eq!(subject.tell("open and close"), "closed");
    assert!(!here.is_dead(subject.slot));
}

#[test]
fn a_process_in_another_pid_namespace_is_seen_like_any_other() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subject = Subject::start(&guard);
    if subject.tell("leave namespace") != "left true" {
        println!("skipped: unshare(CLONE_NEWPID) is not permitted");
        return;
    }
    let (child_pid, child) = fork_in(&mut subject, "fork");
    let peers = list(&scene.row(), scene.table, here.witness(), here.slot(), USED);
    let state = peers.iter().find(|peer| peer.slot == child).unwrap();
    assert_eq!((state.pid, state.alive), (1, true));
    kill_process(child_pid, Signal::KILL).unwrap();
    assert!(dies(&here, child));
    assert!(!here.is_dead(subject.slot));
}

#[test]
fn a_read_only_descriptor_can_witness_but_not_join() {
    in_own_process(module_path!(), "a_read_only_descriptor_can_witness_but_not_join", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 8);
        let here = scene.join();
        let read_only = Object::open(guard.at(), Access::ReadOnly).unwrap();
        let witness = Witness::new(&read_only).unwrap();
        assert!(!witness.is_dead(here.slot().unwrap()));
        assert!(witness.is_dead(PeerSlot(7)));
        let joining = Membership::new(Witness::new(&read_only).unwrap(), scene.table).unwrap();
        let refused = joining.join(&scene.row(), None, &|_| true).unwrap_err();
        assert_eq!(refused.errno(), libc::EBADF);
        here.leave(&scene.row());
        assert!(witness.is_dead(PeerSlot(0)));
    });
}

#[test]
fn a_place_is_free_again_when_it_was_given_up() {
    in_own_process(module_path!(), "a_place_is_free_again_when_it_was_given_up", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 2);
        let (first, second) = (scene.join(), scene.join());
        let error = scene.join_and(&|_| panic!("adopted a living peer")).unwrap_err();
        assert!(matches!(error, Error::TooManyPeers { limit: 2 }), "{error}");
        let slot = first.slot().unwrap();
        assert_ne!(second.slot(), Some(slot));
        first.leave(&scene.row());
        assert_eq!(first.slot(), None);
        first.leave(&scene.row());
        let third = scene.join();
        assert_eq!(third.slot(), Some(slot));
        drop(first);
        assert!(!third.is_dead(slot), "who has left releases nothing more");
    });
}

#[test]
fn whoever_takes_a_dead_peers_place_adopts_first() {
    in_own_process(module_path!(), "whoever_takes_a_dead_peers_place_adopts_first", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 2);
        let here = scene.join();
        let mut subject = Subject::start(&guard);
        subject.kill();
        assert!(dies(&here, subject.slot));
        let adopted = Cell::new(None);
        let heir = scene.join_and(&|slot| {
            assert!(!here.is_dead(slot), "the lock is held by now");
            let record = scene.table.read(&scene.row(), slot).unwrap();
            assert_eq!(record.pid, subject.process.id(), "the record is still that of the dead");
            adopted.set(Some(slot));
            true
        });
        assert_eq!(heir.unwrap().slot(), adopted.get());
        assert_eq!(adopted.get(), Some(subject.slot));
    });
}

#[test]
fn a_sweep_adopts_each_dead_peer_once() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let here = scene.join();
    let mut subjects = [Subject::start(&guard), Subject::start(&guard), Subject::start(&guard)];
    for subject in &mut subjects[..2] {
        subject.kill();
        assert!(dies(&here, subject.slot));
    }
    let peers = list(&scene.row(), scene.table, here.witness(), here.slot(), USED);
    let seen: Vec<_> = peers.iter().map(|peer| (peer.alive, peer.is_self)).collect();
    assert_eq!(seen, [(true, true), (false, false), (false, false), (true, false)]);
    assert!(peers[3].command.contains("shmheap"), "{}", peers[3].command);
    let adopted = std::cell::RefCell::new(Vec::new());
    let adopt = |slot| {
        assert!(!here.is_dead(slot) && scene.table.is_joined(&scene.row(), slot));
        adopted.borrow_mut().push(slot);
        true
    };
    assert_eq!(here.sweep(&scene.row(), &adopt), 2);
    assert_eq!(here.sweep(&scene.row(), &adopt), 0);
    assert_eq!(adopted.into_inner(), [subjects[0].slot, subjects[1].slot]);
    assert_eq!(list(&scene.row(), scene.table, here.witness(), here.slot(), USED).len(), 2);
}

#[test]
fn a_stay_has_a_number_of_its_own_until_it_ends() {
    let guard = NameGuard::new();
    let scene = Scene::create(&guard, 8);
    let (here, there) = (scene.join(), scene.join());
    let (first, near) = (here.stay(), Stay::of(&here));
    assert!(first != 0 && first != there.stay());
    assert_eq!((near.number(), Stay::of(&there).number()), (first, there.stay()));
    assert_eq!(exit_status(fork(|| i32::from(here.stay() != 0))), 0);
    here.leave(&scene.row());
    assert_eq!((here.stay(), near.number(), Stay::none().number()), (0, 0, 0));
    here.join(&scene.row(), None, &|_| true).unwrap();
    assert!(![0, first, there.stay()].contains(&here.stay()));
    assert_eq!(near.number(), here.stay());
}

/// The lowest free place, then those that nobody ever had, and only then the dead ones'. What
/// stands in a record that nobody ever had counts for nothing.
#[test]
fn a_dead_peers_place_is_the_last_to_be_taken() {
    in_own_process(module_path!(), "a_dead_peers_place_is_the_last_to_be_taken", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 5);
        let [_first, dead, left, _fourth] = [0, 1, 2, 3].map(|_| scene.join());
        drop(dead);
        left.leave(&scene.row());
        scene.row().store(WordIndex(BASE + 4 * RECORD_WORDS), 1);
        let later = [0, 1, 2].map(|_| scene.join());
        assert_eq!(later.each_ref().map(|peer| peer.slot()), [2, 4, 1].map(PeerSlot).map(Some));
    });
}

#[test]
fn a_place_dropped_without_leaving_is_that_of_a_dead_peer() {
    in_own_process(
        module_path!(),
        "a_place_dropped_without_leaving_is_that_of_a_dead_peer",
        || {
            let guard = NameGuard::new();
            let scene = Scene::create(&guard, 8);
            let (here, lost) = (scene.join(), scene.join());
            let slot = lost.slot().unwrap();
            drop(lost);
            assert!(here.is_dead(slot) && scene.table.is_joined(&scene.row(), slot));
            assert_eq!(here.sweep(&scene.row(), &|_| true), 1);
        },
    );
}

#[test]
fn a_panicking_adoption_leaves_no_place_taken() {
    in_own_process(module_path!(), "a_panicking_adoption_leaves_no_place_taken", || {
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, 1);
        let here = scene.join();
        here.leave(&scene.row());
        let attempt =
            std::panic::AssertUnwindSafe(|| here.join(&scene.row(), None, &|_| panic!("once")));
        assert!(std::panic::catch_unwind(attempt).is_err());
        assert_eq!(here.join(&scene.row(), None, &|_| true).unwrap(), PeerSlot(0));
    });
}

#[test]
fn memfds_have_peers_as_well() {
    in_own_process(module_path!(), "memfds_have_peers_as_well", || {
        let object = Object::memfd(0o600, None).unwrap();
        object.reserve(0..Scene::words_bytes(4)).unwrap();
        let scene = Scene::of(object.keep().unwrap());
        let (here, there) = (scene.join(), scene.join());
        assert!(!here.is_dead(there.slot().unwrap()));
        there.leave(&scene.row());
        assert!(here.is_dead(PeerSlot(1)));
    });
}

#[test]
fn hundreds_of_processes_join_at_once() {
    in_own_process(module_path!(), "hundreds_of_processes_join_at_once", || {
        const PROCESSES: usize = 300;
        let guard = NameGuard::new();
        let scene = Scene::create(&guard, RECORDS);
        let (start_read, start_write) = std::io::pipe().unwrap();
        let (mut slots_read, slots_write) = std::io::pipe().unwrap();
        let (end_read, end_write) = std::io::pipe().unwrap();
        let mut writers = Some((start_write, end_write));
        let children: Vec<Pid> = (0..PROCESSES)
            .map(|_| {
                fork(|| {
                    drop(writers.take());
                    (&start_read).read_to_end(&mut Vec::new()).unwrap();
                    let joined = scene.join();
                    let slot = joined.slot().unwrap().0;
                    (&slots_write).write_all(&slot.to_le_bytes()).unwrap();
                    // Kept until all have joined, so that no slot is taken twice.
                    (&end_read).read_to_end(&mut Vec::new()).unwrap();
                    0
                })
            })
            .collect();
        let (start_write, end_write) = writers.unwrap();
        drop((start_write, slots_write));
        let mut slots = vec![0; 2 * PROCESSES];
        slots_read.read_exact(&mut slots).unwrap();
        drop(end_write);
        for child in children {
            assert_eq!(exit_status(child), 0);
        }
        let (pairs, _) = slots.as_chunks::<2>();
        let mut slots: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), PROCESSES, "no slot is two processes'");
    });
}
