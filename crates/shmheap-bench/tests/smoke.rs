//! Every peer does every workload once, for as short as possible: what a run of an hour must not
//! find out at its end.

use std::process::ExitCode;

fn main() -> ExitCode {
    shmheap_bench::smoke_test()
}
