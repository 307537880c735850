//! A pre-forking server whose workers share one cache.
//!
//! ```sh
//! cargo run --release --example prefork_cache
//! ```
//!
//! The parent listens and starts workers, which take connections in turn. Each answers from a map
//! in shared memory what any of them has worked out before. One is killed on the way; the cache
//! stays, with all that it had put there.

#![allow(clippy::print_stdout)]

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use shmheap::{Heap, HeapOptions, Shareable, ShmMap};
use std::sync::atomic::{AtomicU64, Ordering};

const WORKERS: usize = 3;
const REQUESTS: u64 = 300;
/// Different questions among the requests.
const QUESTIONS: u64 = 40;

/// What the workers share.
#[derive(Shareable)]
#[repr(C)]
struct Shared {
    /// From a number to its largest prime factor.
    cache: ShmMap<u64, u64>,
    hits: AtomicU64,
    misses: AtomicU64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, name] = arguments.as_slice() {
        return work(name);
    }
    let name = format!("/shmheap-cache-{}", std::process::id());
    let heap = HeapOptions::new(1 << 20).max_len(64 << 20).create(&name)?;
    let outcome = serve(&heap, &name);
    Heap::destroy(&name)?;
    outcome
}

fn serve(heap: &Heap, name: &str) -> Result<(), Box<dyn Error>> {
    let shared = heap.find_or_create::<Shared>("shared", |_| {})?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut workers =
        (0..WORKERS).map(|_| start(name, &listener)).collect::<Result<Vec<_>, _>>()?;

    for number in 0..REQUESTS {
        if number == REQUESTS / 2 {
            workers[0].kill()?;
            workers[0].wait()?;
        }
        let question = 1_000_000_007 + number % QUESTIONS;
        // The worker that took the connection may be the one that was killed: ask again.
        let answer = loop {
            if let Ok(Some(answer)) = ask(TcpStream::connect(address)?, question) {
                break answer;
            }
        };
        assert_eq!(answer, largest_prime_factor(question));
    }
    for worker in &mut workers[1..] {
        worker.kill()?;
        worker.wait()?;
    }
    let [hits, misses] = [&shared.hits, &shared.misses].map(|count| count.load(Ordering::Relaxed));
    println!("{REQUESTS} requests: {misses} worked out, {hits} from the cache");
    println!("{} answers in the cache", shared.cache.len(heap)?);
    assert!(hits >= REQUESTS - QUESTIONS - WORKERS as u64, "the cache is shared");
    Ok(())
}

/// A worker finds the listener where others find their input.
fn start(name: &str, listener: &TcpListener) -> Result<Child, Box<dyn Error>> {
    let listener: OwnedFd = listener.as_fd().try_clone_to_owned()?;
    Ok(Command::new(env::current_exe()?).arg(name).stdin(Stdio::from(listener)).spawn()?)
}

fn ask(mut connection: TcpStream, question: u64) -> Result<Option<u64>, Box<dyn Error>> {
    writeln!(connection, "{question}")?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer)?;
    Ok(answer.trim().parse().ok())
}

/// Answers questions until it is killed.
fn work(name: &str) -> Result<(), Box<dyn Error>> {
    let heap = Heap::connect(name)?;
    let shared = heap.find_root::<Shared>("shared")?;
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    for connection in listener.incoming() {
        let mut connection = connection?;
        let mut question = String::new();
        BufReader::new(&connection).read_line(&mut question)?;
        let Ok(question) = question.trim().parse() else { continue };
        let answer = match shared.cache.get(&heap, &question)? {
            Some(answer) => {
                shared.hits.fetch_add(1, Ordering::Relaxed);
                answer
            }
            None => {
                shared.misses.fetch_add(1, Ordering::Relaxed);
                let answer = largest_prime_factor(question);
                shared.cache.insert(&heap, question, answer)?;
                answer
            }
        };
        writeln!(connection, "{answer}")?;
    }
    Ok(())
}

fn largest_prime_factor(mut number: u64) -> u64 {
    let (mut factor, mut largest) = (2, 1);
    while factor * factor <= number {
        while number.is_multiple_of(factor) {
            (number, largest) = (number / factor, factor);
        }
        factor += 1;
    }
    largest.max(number)
}
