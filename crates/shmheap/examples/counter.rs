//! A counter service that survives its own crashes: workers are killed in the middle of changes,
//! and the count is right all the same.
//!
//! ```sh
//! cargo run --release --example counter
//! ```
//!
//! The counts stand in a heap, under a mutex. When a worker is killed with the mutex in its hands,
//! the next one is told, repairs what the dead one may have left half changed, and goes on.

#![allow(clippy::print_stdout)]

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use shmheap::{Heap, Shareable, ShmMutex};

const WORKERS: usize = 4;
const KILLS: usize = 20;
/// As long as a worker lives, at the most, should nobody kill it.
const ROUNDS: u64 = 1_000_000_000;

/// What is counted: in all, and by each worker. The two agree, but for moments under the lock.
#[derive(Shareable)]
#[repr(C)]
struct Counts {
    total: u64,
    of_worker: [u64; WORKERS],
    repairs: u64,
}

impl Counts {
    fn is_sound(&self) -> bool {
        self.total == self.of_worker.iter().sum::<u64>()
    }

    /// A worker counts first for itself, then in all. Killed in between, it has counted.
    fn repair(&mut self) {
        self.total = self.of_worker.iter().sum();
        self.repairs += 1;
    }
}

type Counter = ShmMutex<Counts>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, name, number] = arguments.as_slice() {
        return work(name, number.parse()?);
    }
    let name = format!("/shmheap-counter-{}", std::process::id());
    let heap = Heap::create(&name, 1 << 20)?;
    let outcome = serve(&heap, &name);
    Heap::destroy(&name)?;
    outcome
}

/// Starts workers, kills them at any moment, and starts others in their place.
fn serve(heap: &Heap, name: &str) -> Result<(), Box<dyn Error>> {
    let counter = heap.find_or_create::<Counter>("counter", |_| {})?;
    let mut workers =
        (0..WORKERS).map(|number| start(name, number)).collect::<Result<Vec<_>, _>>()?;
    let mut before = 0;
    for kill in 0..KILLS {
        sleep(Duration::from_millis(20));
        let number = kill % WORKERS;
        workers[number].kill()?;
        workers[number].wait()?;

        let counts = counter.lock_or_repair(heap, Counts::repair)?;
        assert!(counts.is_sound() && counts.total >= before, "a count was lost");
        before = counts.total;
        drop(counts);
        workers[number] = start(name, number)?;
    }
    for mut worker in workers {
        worker.kill()?;
        worker.wait()?;
    }
    let counts = counter.lock_or_repair(heap, Counts::repair)?;
    assert!(counts.is_sound(), "a count was lost");
    println!("counted to {}, over {} deaths", counts.total, KILLS + WORKERS);
    println!("{} of them were in the middle of a change", counts.repairs);
    Ok(())
}

fn start(name: &str, number: usize) -> Result<Child, std::io::Error> {
    Command::new(env::current_exe()?).arg(name).arg(number.to_string()).spawn()
}

/// Counts until it is killed.
fn work(name: &str, number: usize) -> Result<(), Box<dyn Error>> {
    let heap = Heap::connect(name)?;
    let counter = heap.find_root::<Counter>("counter")?;
    for _ in 0..ROUNDS {
        let mut counts = counter.lock_or_repair(&heap, Counts::repair)?;
        counts.of_worker[number] += 1;
        // Here it may be killed.
        counts.total += 1;
    }
    Ok(())
}
