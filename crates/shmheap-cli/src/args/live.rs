//! Arguments of the commands that show heaps at work.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::heap_parser;
use crate::target::HeapRef;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Heaps are only read. Peers are counted as alive, stopped (T) and dead (x); that
one is stopped is only seen of processes in this PID namespace. Whoever cuts a
heap short while it is read ends the view, with a message.

RATE is operations a second under first fit, which counts them: each alloc,
free or realloc is one. The scalable policy has no common place to count in; it
is by how many live objects became more or fewer in a second.

Inside of a heap with labels (`shmheap create --labels`) there is a line for
each tag, and for each peer the bytes of the objects that it has allocated.

Keys: arrows or j and k select, Enter looks into a heap, Esc leads back, s
changes the order, ? shows all keys, q quits.")]
pub(crate) struct Top {
    /// Begin with a look into this heap
    #[arg(value_parser = heap_parser())]
    pub(crate) heap: Option<HeapRef>,
    /// How long from one look to the next: 0.1 to 3600 [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval)]
    pub(crate) interval: Option<Duration>,
    /// Print one frame as text; with --interval one after so long, which rates need
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Answers GET of /metrics with the numbers of all heaps in the text format of
Prometheus, by one read-only look at each heap. Who may connect to the address
sees the names of all heaps: any other than a loopback one has to be given. A
port of 0 lets the system choose; the first line of the output tells it.

Each look is made by a process of its own, within 5 s. A heap that is cut
short meanwhile costs that one answer (500); in the next it is unreadable.

Metrics, with labels heap and policy:
  shmheap_length_bytes, shmheap_max_length_bytes, shmheap_live_bytes,
  shmheap_live_objects, shmheap_free_bytes, shmheap_largest_free_bytes,
  shmheap_fragmentation_ratio, shmheap_tail_bytes, shmheap_trimmed_bytes,
  shmheap_metadata_bytes, shmheap_peer_limit,
  shmheap_created_timestamp_seconds
  under first fit:        shmheap_operations_total, shmheap_lock_held
  for each state:         shmheap_peers (alive, stopped, dead)
  for each slot:          shmheap_peer_live_objects
  for each class (size of its objects in bytes):
                          shmheap_class_live_objects, shmheap_class_tail_bytes
  and slabs (owned, shared):
                          shmheap_class_slabs, shmheap_class_free_objects
  of heaps that count for tags and peers (`shmheap create --labels`):
                          shmheap_gone_used_bytes (of processes that are gone)
  and for each tag:       shmheap_tag_used_bytes, shmheap_tag_objects
  and for each slot:      shmheap_peer_used_bytes
  where there are quotas: shmheap_quota_bytes, shmheap_peer_quota_bytes,
                          shmheap_tag_quota_bytes
Without labels:
  shmheap_heaps, shmheap_unreadable_heaps, shmheap_scrape_duration_seconds")]
pub(crate) struct Watch {
    /// Listen here for Prometheus [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, value_parser = parse_address,
          default_value = "127.0.0.1:9464", default_missing_value = "127.0.0.1:9464",
          hide_default_value = true)]
    pub(crate) prometheus: String,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Measures in a heap of its own, which is gone afterwards. Beside each figure is
what one process has without a heap: its allocator (malloc), a HashMap in a
Mutex, and a bounded channel to a thread of its own. A heap does more: others
see what is in it, and a kill does not break it.

This is a short look at your machine, not the project's benchmark.

Fields of --json:
  threads, rows: a list of { what, per_second, beside, beside_per_second, ratio
  (of the two) }")]
pub(crate) struct Bench {
    /// About how long to measure, for everything together
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) seconds: u16,
    /// Number of threads [default: one for each processor, up to 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchPartner {
    pub(crate) heap: OsString,
}

impl Top {
    /// How long from one look to the next, unless told otherwise.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(2);
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("write seconds from 0.1 to 3600, as 2 or 0.5".to_owned()),
    }
}

/// A place to listen at; whether there is one of that name is found out when it is used.
fn parse_address(text: &str) -> Result<String, String> {
    let is_one = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    match text.rsplit_once(':').is_some_and(is_one) {
        true => Ok(text.to_owned()),
        false => Err("write ADDRESS:PORT, as 127.0.0.1:9464, [::1]:9464 or localhost:9464".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn a_place_to_listen_at_need_not_be_given() {
        for words in [&["shmheap", "watch"][..], &["shmheap", "watch", "--prometheus"]] {
            let Command::Watch(watch) = Arguments::parse_from(words).command else { panic!() };
            assert_eq!(watch.prometheus, "127.0.0.1:9464");
        }
    }

    #[test]
    fn addresses_have_ports() {
        for text in ["127.0.0.1:9464", "[::1]:0", "localhost:9464"] {
            assert_eq!(parse_address(text), Ok(text.to_owned()));
        }
        for wrong in ["", "localhost", "9464", ":9464", "localhost:", "localhost:65536", "x:y"] {
            assert!(parse_address(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "2s"] {
            assert!(parse_interval(wrong).is_err(), "{wrong:?}");
        }
    }
}
