//! Arguments of the commands that show heaps at work.

use std::time::Duration;

use clap::Args;

use super::heap_parser;
use crate::target::HeapRef;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Heaps are only read. Peers are counted as alive, stopped (T) and dead (x); that
one is stopped is only seen of processes in this PID namespace.

RATE is operations a second under first fit, which counts them: each alloc,
free or realloc is one. The scalable policy has no common place to count in; it
is by how many live objects became more or fewer in a second.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "2s"] {
            assert!(parse_interval(wrong).is_err(), "{wrong:?}");
        }
    }
}
