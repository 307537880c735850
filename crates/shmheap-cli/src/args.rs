//! The command line: what can be asked for, and how it is explained.

mod live;
mod objects;
mod quota;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use shmheap::Policy;

pub(crate) use live::*;
pub(crate) use objects::*;
pub(crate) use quota::*;

use crate::target::HeapRef;
use crate::{account, size};

const AFTER_HELP: &str = "\
HEAP is the name of a heap in shared memory ('demo' or '/demo'), or the path
of a heap in a file when it has a '/' after its first character
('./demo.heap', '/tmp/demo.heap').

Sizes are whole numbers, with K, M, G or T for powers of 1024: 4096, 64K,
1MiB, 2G.

Exit codes:
  0  done, and the answer is good
  1  the answer is bad: a heap is not sound or has leaks, a doctor's check
     fails, the demo broke a promise
  2  wrong usage
  3  the operation failed, for instance because there is no such heap

With --json, names of fields are stable: none is renamed or removed within a
major version. Sizes are in bytes (_bytes), times in nanoseconds since 1970
(_unix_ns).

NO_COLOR in the environment turns colours off; they are off when the output is
not a terminal. --color always or never has its way in any case.";

/// Heaps in shared memory for several processes at once, which survive kill -9.
#[derive(Debug, Parser)]
#[command(name = "shmheap", version, after_long_help = AFTER_HELP, max_term_width = 100)]
#[command(after_help = "New here? Run `shmheap demo`. Exit codes and sizes: `shmheap --help`.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Whether to use colours
    #[arg(long, value_enum, value_name = "WHEN", global = true, default_value_t = Colour::Auto)]
    color: Colour,
}

impl Arguments {
    /// What the command line says; ends the process if it makes no sense.
    pub(crate) fn read() -> Self {
        let arguments = Self::parse();
        match arguments.color {
            Colour::Auto => {}
            Colour::Always => console::set_colors_enabled(true),
            Colour::Never => console::set_colors_enabled(false),
        }
        if let Command::Create(Create { policy: Placement::Scalable, granule: Some(_), .. }) =
            &arguments.command
        {
            let why = "'--granule' is a choice of '--policy first-fit'; the scalable policy has \
                       size classes instead";
            let mut command = Self::command();
            command.build();
            let create = command.find_subcommand_mut("create").map(std::mem::take);
            create.unwrap_or(command).error(ErrorKind::ArgumentConflict, why).exit();
        }
        arguments
    }
}

/// When the answer has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    /// In a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a heap
    Create(Create),
    /// List every heap on this machine
    Ls(Ls),
    /// Show what a heap is and which processes are connected to it
    Info(Reader),
    /// Show how full a heap is
    Stat(Stat),
    /// Watch all heaps, or one of them, in the terminal
    Top(Top),
    /// Tell a monitoring system the numbers of all heaps
    Watch(Watch),
    /// Show who may have how much of a heap, and has; set quotas
    Quota(Quota),
    /// Audit a heap from end to end; exit code 1 if it is not sound
    Check(Reader),
    /// List the names in a heap, and what has them
    Roots(Roots),
    /// List every object in a heap, and who has it
    Blocks(Blocks),
    /// List objects that nobody will free; exit code 1 if there are any for sure
    Leaks(Leaks),
    /// Show the bytes of an object
    Dump(Dump),
    /// Draw what lies where in a heap
    Map(Map),
    /// Copy a heap to a file while others work in it
    Snapshot(Snapshot),
    /// Make a heap from a snapshot
    Restore(Restore),
    /// Give memory that no object uses back to the system
    Trim(Reader),
    /// Remove a heap and everything in it
    Destroy(Destroy),
    /// Clean up after processes that died
    Gc(Gc),
    /// Find what could keep heaps from working on this machine, and the fix
    Doctor(Doctor),
    /// Measure how fast heaps are on this machine, in some seconds
    Bench(Bench),
    /// See it work: several processes, one heap, one of them killed
    Demo(Demo),
    /// Print the completion script of a shell
    Completions {
        /// The shell, for instance: shmheap completions bash >> ~/.bashrc
        shell: Shell,
    },
    /// Write the manual pages of this command and its subcommands
    Man {
        /// The directory that they are put into, for instance ~/.local/share/man/man1
        directory: PathBuf,
    },
    #[command(hide = true, name = "demo-worker")]
    DemoWorker(DemoWorker),
    #[command(hide = true, name = "watch-page")]
    WatchPage,
    #[command(hide = true, name = "bench-partner")]
    BenchPartner(BenchPartner),
    #[command(hide = true, name = "demo-query")]
    DemoQuery(DemoQuery),
}

fn heap_parser() -> impl TypedValueParser<Value = HeapRef> {
    OsStringValueParser::new().map(|text: OsString| HeapRef::parse(&text))
}

/// Arguments of the commands that look at one heap.
#[derive(Debug, Args)]
pub(crate) struct Reader {
    /// Name of the heap, or path of its file
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: HeapRef,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
A root is an object with a name, by which processes find it. TYPE is a hash of
the type that a Rust program has stored there; objects named by C programs have
none. 'in the making': its process is at it, or died of that and left the name
for the next to take.

Characters of a name that cannot be printed are escaped, as \\n and \\u{1b};
in JSON they are not.

Fields of --json, a list with one object for each root:
  name, handle (text), size_bytes (null when the object was freed), made, type
  (hexadecimal text, null when it has none)")]
pub(crate) struct Roots {
    #[command(flatten)]
    pub(crate) reader: Reader,
}

/// How the objects of a new heap are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placement {
    /// At the lowest address, one operation at a time: compact and reproducible
    FirstFit,
    /// In slabs of size classes that threads own, without a lock: fast on many cores
    Scalable,
}

impl From<Placement> for Policy {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::FirstFit => Self::FirstFit,
            Placement::Scalable => Self::Scalable,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Under the scalable policy lengths are multiples of 64K, and each thread that
allocates takes at least 64K for each size class it uses: give such a heap some
MiB. Smaller ones are better served by first-fit.")]
pub(crate) struct Create {
    /// Name of the new heap, or path of its file
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: HeapRef,
    /// Room for objects now, for instance 64K, 1MiB, 2G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) len: u64,
    /// Let it grow on demand to this size [default: it never grows]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_len: Option<u64>,
    /// How objects are placed
    #[arg(long, value_enum, default_value_t = Placement::Scalable)]
    pub(crate) policy: Placement,
    /// With first-fit: sizes and addresses are multiples of this many bytes [default: 16]
    #[arg(long, value_name = "8|16",
          value_parser = clap::builder::PossibleValuesParser::new(["8", "16"])
              .map(|text: String| if text == "8" { 8_u64 } else { 16 }))]
    pub(crate) granule: Option<u64>,
    /// Let it lie at one address in every process, so that objects may hold plain pointers
    #[arg(long)]
    pub(crate) same_address: bool,
    /// Have every object counted under who allocates it and under which tag, for quotas and to see
    /// who has what; costs speed and memory
    #[arg(long)]
    pub(crate) labels: bool,
    /// Permissions in octal; for instance 660 for a heap of a group
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = parse_mode)]
    pub(crate) mode: u32,
    /// Group that owns the heap, by name or number
    #[arg(long, value_name = "GROUP", value_parser = account::parse_group)]
    pub(crate) group: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Fields of --json, a list with one object for each heap:
  name, readable, error (why it cannot be read, or null), policy, len_bytes,
  max_len_bytes, live_bytes, live_objects, peers_alive, peers_dead,
  created_unix_ns (null when not readable), mode (octal text), uid, gid, owner
  (null when unknown)")]
pub(crate) struct Ls {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Under the scalable policy there is a line for each size class that has slabs,
a slab being 64K or more. Those with an owner are one thread's to allocate
from, shared ones anybody's. A tail is what is left of a slab behind its last
object.

Of a heap with labels there is a line for each tag and for each process that
has objects, as `shmheap quota` shows them.

Fields of --json:
  name, len_bytes, max_len_bytes, live_bytes, live_objects, free_bytes,
  tail_bytes, trimmed_bytes, largest_free_bytes, fragmentation, metadata_bytes,
  peers_alive, peers_dead; operations and lock_holder (0 and null under the
  scalable policy, which has no lock); classes and owners (empty under first
  fit); usage (null without labels): the fields of `shmheap quota --json`")]
pub(crate) struct Stat {
    #[command(flatten)]
    pub(crate) reader: Reader,
    /// Go on, with one line every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) watch: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// Name of the heap, or path of its file
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: HeapRef,
    /// Do not ask, also when processes are connected (they keep what they have mapped)
    #[arg(long, short, visible_alias = "force")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
A heap with a living process is never removed. What is done to each heap:
  - what dead processes left half done is recovered, their records are freed,
  - what they left miscounted for tags and processes is counted anew,
  - unfinished heaps of creators that crashed are removed,
  - heaps that go with their last process are removed if that was killed,
  - with --remove-idle, heaps without a living process are destroyed.

Fields of --json:
  dry_run, unfinished_removed (list of names; null with --dry-run), heaps: a
  list of { name, peers_alive, peers_dead, swept, recounted, removed, error };
  recounted: whether counts were known to be too high, and were put right")]
pub(crate) struct Gc {
    /// Say what would be done and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also destroy every heap that no living process is connected to
    #[arg(long)]
    pub(crate) remove_idle: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Fields of --json, a list with one object for each check:
  check, status (ok, warn or fail), finding, fix (null: nothing to do)

Exit code 1 if a check fails; warnings do not count.")]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Worker processes build one word index of the text in one heap: every word and
every place where it occurs is an object, linked by handles. One worker is
killed with SIGKILL while it allocates. The others go on and finish its work;
another process connects read-only and answers queries; the whole index is
compared with a plain count; everything is freed and the heap is destroyed.

Exit code 0 only if all of it went as promised.")]
pub(crate) struct Demo {
    /// Text file, or directory of text files [default: a built-in text]
    pub(crate) path: Option<PathBuf>,
    /// Number of worker processes [default: one for each processor, 3 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) workers: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoWorker {
    pub(crate) heap: OsString,
    #[arg(long)]
    pub(crate) directory: shmheap::Handle,
    #[arg(long)]
    pub(crate) number: u16,
    #[arg(long)]
    pub(crate) busy_after: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoQuery {
    pub(crate) heap: OsString,
    #[arg(long)]
    pub(crate) directory: shmheap::Handle,
    pub(crate) words: Vec<String>,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("write permissions as octal digits from 0 to 777, as 600 or 660".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("660"), Ok(0o660));
        assert_eq!(parse_mode("0600"), Ok(0o600));
        for wrong in ["", "8", "1777", "rw", "-1"] {
            assert!(parse_mode(wrong).is_err(), "{wrong:?}");
        }
    }
}
