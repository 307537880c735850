//! Mutexes and read-write locks, whose owners die.

use super::{LOCK, OWNED, PAIR, Peer, Scene, TABLE, TIMES, is_death};
use crate::segment::interleaved::explore;
use crate::segment::words::Words;
use crate::sync::owned::Want;

/// Three peers under a mutex.
#[test]
fn one_at_a_time_is_inside_and_no_wake_is_lost() {
    explore(2, || {
        let scene = Scene::new();
        let peers = [0, 1, 2].map(|slot| {
            scene.spawn(slot, |peer| {
                assert!(!peer.lock(Want::Sound).unwrap());
                peer.count();
                peer.unlock();
            })
        });
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(scene.peer(3).load(TIMES), 3, "one at a time");
        assert_eq!(scene.peer(3).load(LOCK), 0);
    });
}

/// An owner dies inside; two others, one of which dies in its repair.
#[test]
fn the_dead_are_noticed_and_what_they_left_is_repaired() {
    explore(2, || {
        let scene = Scene::new();
        let dying = scene.spawn(0, |peer| {
            let in_doubt = peer.lock(Want::Any).unwrap();
            peer.store(PAIR[0], 7);
            peer.die();
            in_doubt
        });
        let dying_again = scene.spawn(1, |peer| {
            let in_doubt = peer.lock(Want::Any).unwrap();
            assert_eq!(in_doubt, peer.load(PAIR[0]) != 0, "all stores there will ever be");
            peer.store(PAIR[0], 7);
            peer.die();
            in_doubt
        });
        let scene_of_last = scene.clone();
        let last = scene.peer(2);
        match last.lock(Want::Sound) {
            Ok(_) => {
                last.check_pair();
                last.unlock();
            }
            Err(error) => assert!(is_death(&error)),
        }
        let doubts = [dying.join().unwrap(), dying_again.join().unwrap()];
        assert_eq!(doubts.iter().filter(|&&doubt| doubt).count(), 1, "the second finds the first");
        let last = scene_of_last.peer(2);
        assert!(is_death(&last.lock(Want::Sound).unwrap_err()));
        assert!(last.lock(Want::Any).unwrap(), "a repair that was not done is done again");
        last.store(PAIR[1], 7);
        OWNED().set_sound(&last, last.me);
        last.unlock();
        assert!(!last.lock(Want::Sound).unwrap());
        assert_eq!(last.check_pair(), 7);
    });
}

/// A value in doubt and two who can repair it.
#[test]
fn one_repairs_for_both() {
    explore(2, || {
        let scene = Scene::new();
        scene.peer(3).store(LOCK, crate::sync::owned::ORPHANED);
        let peers = [0, 1].map(|slot| {
            scene.spawn(slot, |peer| {
                if peer.lock(Want::Any).unwrap() {
                    peer.count();
                    OWNED().set_sound(peer, peer.me);
                }
                peer.unlock();
            })
        });
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(scene.peer(3).load(TIMES), 1);
    });
}

#[test]
fn who_reads_sees_no_half_change_and_no_wake_is_lost() {
    explore(2, || {
        let scene = Scene::new();
        let reader = scene.spawn(0, |peer| peer.read().unwrap());
        let writer = scene.spawn(2, Peer::write);
        assert!(scene.peer(1).read().unwrap() < 2);
        assert!(reader.join().unwrap() < 2);
        writer.join().unwrap();
        assert_eq!(scene.peer(3).read().unwrap(), 1);
    });
}

#[test]
fn two_write_and_one_reads() {
    explore(2, || {
        let scene = Scene::new();
        let writers = [0, 1].map(|slot| scene.spawn(slot, Peer::write));
        scene.peer(2).read().unwrap();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(scene.peer(3).read().unwrap(), 2);
    });
}

/// The table has room for two: the third waits.
#[test]
fn a_reader_without_a_place_gets_one() {
    explore(2, || {
        let scene = Scene::new();
        let readers = [0, 1].map(|slot| scene.spawn(slot, |peer| peer.read().unwrap()));
        scene.peer(2).read().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
        scene.peer(3).write();
    });
}

#[test]
fn threads_of_one_process_share_a_place() {
    explore(2, || {
        let scene = Scene::new();
        let reader = scene.spawn(0, |peer| peer.read().unwrap());
        let writer = scene.spawn(1, Peer::write);
        scene.peer(0).read().unwrap();
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!([0, 1].map(|entry| scene.peer(3).load(TABLE + entry)), [0, 0]);
    });
}

/// A reader dies as one; it keeps no writer out.
#[test]
fn a_dead_reader_leaves_nothing() {
    explore(2, || {
        let scene = Scene::new();
        let reader = scene.spawn(0, |peer| {
            let among = Peer::shared().read(peer, peer, peer.me, &mut Peer::waiting());
            peer.die();
            among.map(drop)
        });
        let writer = scene.peer(2);
        writer.write();
        reader.join().unwrap().unwrap();
        writer.write();
        assert_eq!(writer.read().unwrap(), 2);
    });
}

/// A writer dies before it is inside; nobody is kept out, and nothing is in doubt.
#[test]
fn a_dead_writer_that_was_not_inside_leaves_nothing() {
    explore(2, || {
        let scene = Scene::new();
        let waiting = scene.spawn(1, |peer| {
            let (owned, mut waiting) = (OWNED(), Peer::waiting());
            let reserved = owned.reserve(peer, peer, peer.me, Want::Sound, &mut waiting);
            peer.die();
            reserved
        });
        let writer = scene.peer(2);
        writer.write();
        waiting.join().unwrap().unwrap();
        assert_eq!(writer.read().unwrap(), 1);
    });
}

/// A writer dies inside; a reader sees the value before, or is told.
#[test]
fn a_dead_writer_is_no_secret_to_readers() {
    explore(2, || {
        let scene = Scene::new();
        let writer = scene.spawn(0, |peer| {
            peer.begin_write(Want::Sound).unwrap();
            peer.store(PAIR[0], 1);
            peer.die();
        });
        let reader = scene.peer(1);
        match reader.read() {
            Ok(value) => assert_eq!(value, 0),
            Err(error) => assert!(is_death(&error)),
        }
        writer.join().unwrap();
        assert!(is_death(&reader.read().unwrap_err()));
        assert!(reader.begin_write(Want::Any).unwrap());
    });
}
