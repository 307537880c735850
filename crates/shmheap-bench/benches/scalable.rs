//! shmheap and its peers under the same workloads: `cargo bench -p shmheap-bench`.
//!
//! Options stand after two dashes: `cargo bench -p shmheap-bench -- --quick --only W1,W3`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shmheap_bench::main()
}
