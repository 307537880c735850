//! Arguments of `shmheap quota`.

use clap::Args;

use super::Reader;
use crate::size::{self, Limit};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Heaps made with labels (`shmheap create --labels`) count what each process and
each tag has. Programs set tags (with_tag in Rust; shmheap_tag_push in C, or
shmheap_set_thread_tag for all that a thread does; heap.tag in Python); of those
that set none, the tag is what SHMHEAP_TAG in their environment says. Bytes are
those of objects, rounded up as the heap does.

Who would go beyond a quota gets an error from the allocation (EDQUOT in C), and
may go on with less. What is allocated already stays, also if it is more than a
new quota. Setting one takes the right to write to the heap.

  shmheap quota demo                                   show
  shmheap quota demo --tag parser=10M --tag cache=1G   limit two tags
  shmheap quota demo --peer 64M --heap none            each process; not the heap

Fields of --json:
  name, bytes, objects, quota_bytes (null: none), peer_quota_bytes (null: none),
  tags: a list of { name ('' for what has none), bytes, objects, quota_bytes },
  peers: a list of { slot, stay, pid, alive, bytes, objects }, is_recount_due
  (a process was killed in the middle of counting, so that some numbers may be
  too high: `shmheap gc` puts them right)")]
pub(crate) struct Quota {
    #[command(flatten)]
    pub(crate) reader: Reader,
    /// What all objects together may have, or 'none'
    #[arg(long = "heap", value_name = "SIZE", value_parser = size::parse_limit)]
    pub(crate) whole: Option<Limit>,
    /// What the objects of each process may have, or 'none'
    #[arg(long, value_name = "SIZE", value_parser = size::parse_limit)]
    pub(crate) peer: Option<Limit>,
    /// What the objects of a tag may have, or 'none'; '=SIZE' for those without a tag
    #[arg(long, value_name = "TAG=SIZE", value_parser = parse_of_tag)]
    pub(crate) tag: Vec<OfTag>,
}

/// A tag and its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfTag {
    pub(crate) tag: String,
    pub(crate) limit: Limit,
}

/// What is behind the last '=' is the limit: tags may have one in them.
fn parse_of_tag(text: &str) -> Result<OfTag, String> {
    let Some((tag, limit)) = text.rsplit_once('=') else {
        return Err("write a tag and what it may have, as parser=10M or parser=none".to_owned());
    };
    Ok(OfTag { tag: tag.to_owned(), limit: size::parse_limit(limit)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_limits() {
        let of = |tag: &str, bytes| Ok(OfTag { tag: tag.to_owned(), limit: Limit(bytes) });
        assert_eq!(parse_of_tag("parser=1K"), of("parser", Some(1024)));
        assert_eq!(parse_of_tag("a=b=none"), of("a=b", None));
        assert_eq!(parse_of_tag("=5"), of("", Some(5)));
        for wrong in ["parser", "parser=", "parser=much", "=1.5K"] {
            assert!(parse_of_tag(wrong).is_err(), "{wrong:?}");
        }
    }
}
