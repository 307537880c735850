//! Arguments of the commands that show the objects of a heap, or copy it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Reader, heap_parser};
use crate::size;
use crate::target::HeapRef;

#[derive(Debug, Args)]
#[command(after_long_help = "\
IN tells where an object lies: in the one row of blocks that a first-fit heap
is; in a slab, which a peer owns or nobody (shared); or in units of its own. An
object is in the hand of a peer while that has made or taken it and not given
it away. What a dead peer has in hand is freed by the others when they come
across it, and at once by `shmheap gc`, which sees to heaps in shared memory and
not to those in files. Peers are told by their slots, as `shmheap info` lists
them.

In a heap with labels TAG is what the object was allocated for, and BY the
process that did.

OFFSET counts from the first byte for objects, SIZE is in bytes, rounded up as
the heap does.

Fields of --json, a list with one object for each object, by address:
  handle (text), offset_bytes, size_bytes, site (row, slab or units),
  slab_owner (null: nobody), state (live, unpublished or of_dead), in_hand_of
  (null when it is live), root (its name, null when it has none); tag ('' when
  it has none), by_pid, by_alive (null without labels)")]
pub(crate) struct Blocks {
    #[command(flatten)]
    pub(crate) reader: Reader,
    /// Only objects that a process has in hand: not given away yet
    #[arg(long)]
    pub(crate) unpublished: bool,
    /// Only objects of at least this size
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) min_size: Option<u64>,
    /// Only objects of at most this size
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_size: Option<u64>,
    /// Only objects with this tag, in a heap with labels; '' are those without
    #[arg(long)]
    pub(crate) tag: Option<String>,
}

/// What a map tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// What lives, what is unpublished or left by the dead, and what is free
    Live,
    /// How large objects are
    Class,
    /// Whose slabs objects are in, or who has them in hand
    Owner,
    /// What objects were allocated for, in a heap with labels
    Tag,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Each character or pixel stands for a range of addresses and shows what it holds
most of; unpublished objects and those of dead processes are shown however
small they are. Without colours there are letters, which the legend explains.

Fields of --json:
  name, policy, len_bytes, cell_bytes, kinds: a list of { kind (live,
  unpublished, of_dead, size, peer, shared, nobodys, tag, free or tail),
  max_size_bytes (of a size), slot (of a peer), tag (its name), label, used
  (whether its bytes are objects), bytes, blocks }, runs: the cells in order of
  address, those that have the same as one, a list of { cells (how many), bytes
  (of each kind in each of them, in the order of kinds) }

A file that is there already is left alone, and an error.")]
pub(crate) struct Map {
    #[command(flatten)]
    pub(crate) reader: Reader,
    /// What to tell apart
    #[arg(long, value_enum, default_value_t = By::Live)]
    pub(crate) by: By,
    /// Draw it into this file as SVG
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) svg: Option<PathBuf>,
    /// Draw it into this file as PNG
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) png: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
What is found:
  of dead processes   made or taken by a process that died before it gave the
                      object away: `shmheap gc` frees it, of a heap in a file
                      the processes that work in it, when they come across it
  abandoned           a shared value that only dead processes held: freed when
                      the next value is shared
  unpublished         in the hand of a living process: it may be about to give
                      it away, and if it dies, the object is freed
  orphaned            in a heap with labels: allocated by a process that is gone,
                      and no name and no type leads to it; others may have its
                      handle. Counted by tag, and listed with --untraced
  untraced            with --untraced: no name and no type leads to it. Handles
                      in the data of programs cannot be told from numbers, so
                      this is a list of candidates: of a program that keeps
                      plain handles, it is all of them

Some that programs can still get are untraced, or orphaned, as well: messages in
object channels (in Python: Channel), values of Python's maps, and what lies in
cells of a value that lies in a cell itself.

Exit code 1 if there are any of the first two kinds, which are leaks for sure.

Fields of --json:
  name, of_dead, abandoned, unpublished, orphaned (null without labels),
  untraced (null without --untraced): lists of objects with the fields that
  `shmheap blocks --json` has")]
pub(crate) struct Leaks {
    #[command(flatten)]
    pub(crate) reader: Reader,
    /// Also list objects that no name and no type leads to
    #[arg(long)]
    pub(crate) untraced: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The object is read while its users may write to it. Its size is what it was
rounded up to.

Fields of --json:
  name, handle (text), size_bytes, bytes (hexadecimal text)")]
pub(crate) struct Dump {
    /// Name of the heap, or path of its file
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: HeapRef,
    /// Handle of the object, as other commands print it
    #[arg(value_parser = parse_handle)]
    pub(crate) handle: shmheap::Handle,
    /// The bytes themselves, for another program
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The copy is a heap in a file: all commands read it, and programs connect to it
by its path. In it are all objects that lived while it was made, under the same
handles, with their names. Each is as it was at some moment of that time, not
all as of the same one: if you need that, keep the programs from changing them.
Nobody is connected to the copy; unpublished objects stay in it as objects that
nothing leads to. It takes as much storage as lives in the heap, of a first-fit
heap as much as that has.

The heap is only read; one of first fit at work is held for the moment in which
its records are copied.")]
pub(crate) struct Snapshot {
    /// Name of the heap, or path of its file
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: HeapRef,
    /// Path of the new file
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Path of a snapshot
    pub(crate) file: PathBuf,
    /// Name of the new heap, or path of its file
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: HeapRef,
}

fn parse_handle(text: &str) -> Result<shmheap::Handle, String> {
    text.parse().map_err(|_| "write it as `shmheap blocks` does: 0x and hexadecimal digits".into())
}
