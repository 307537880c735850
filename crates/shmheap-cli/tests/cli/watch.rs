//! `watch --prometheus`: what a scraper gets, and what somebody else does.

use std::alloc::Layout;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shmheap::{Heap, HeapOptions, Quota};

use super::support::{Name, Peer, command, fail, succeed};

const DASHBOARD: &str = include_str!("../../../../docs/grafana.json");

/// The command at a port that the system chose, until it is dropped.
struct Watch {
    process: Child,
    address: String,
}

impl Watch {
    fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    fn start_at(address: &str) -> Self {
        let mut process =
            command(&["watch", "--prometheus", address]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("metrics of all heaps at http://").unwrap();
        let address = address.strip_suffix("/metrics").unwrap().to_owned();
        Self { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends that and returns all that comes back.
    fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn metrics(&self) -> String {
        let answer = self.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        body.to_owned()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The metrics of a page, each of which says what it is before its first sample.
fn metrics(page: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("# TYPE ") {
            current = text.split(' ').next().unwrap();
            assert!(known.insert(current.to_owned()), "{current} is there twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, current, "{line}");
            let number: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(number >= 0.0, "{line}");
        }
    }
    known
}

#[test]
fn a_scrape_tells_of_every_heap() {
    let (fit, scalable) = (Name::new(), Name::new());
    succeed(&["create", &fit.0, "--len", "1M", "--policy", "first-fit"]);
    succeed(&["create", &scalable.0, "--len", "4M"]);
    let heap = Heap::connect(&scalable.0).unwrap();
    let object = heap.alloc(Layout::new::<[u8; 100]>()).unwrap();
    let mut peer = Peer::connect(&fit.0);
    let watch = Watch::start();
    let line = |of: &Name, metric: &str, policy: &str, labels: &str, number: &str| {
        format!("\n{metric}{{heap=\"{}\",policy=\"{policy}\"{labels}}} {number}", of.0)
    };
    let page = watch.metrics();
    for sample in [
        line(&fit, "shmheap_length_bytes", "first_fit", "", "1048576\n"),
        line(&fit, "shmheap_operations_total", "first_fit", "", "1\n"),
        line(&fit, "shmheap_peers", "first_fit", ",state=\"alive\"", "1\n"),
        line(&scalable, "shmheap_live_objects", "scalable", "", "1\n"),
        line(&scalable, "shmheap_class_live_objects", "scalable", ",class=\"112\"", "1\n"),
    ] {
        assert!(page.contains(&sample), "no {sample} in\n{page}");
    }
    assert!(!page.contains(&line(&scalable, "shmheap_operations_total", "scalable", "", "")));
    // SAFETY: it is this test's, and nobody else knows of it.
    #[allow(unsafe_code)]
    unsafe {
        heap.free(object).unwrap();
    }
    peer.stop();
    let stopped = line(&fit, "shmheap_peers", "first_fit", ",state=\"stopped\"", "1\n");
    let deadline = Instant::now() + Duration::from_secs(60);
    let page = loop {
        let page = watch.metrics();
        if page.contains(&stopped) {
            break page;
        }
        assert!(Instant::now() < deadline, "no {stopped} in\n{page}");
    };
    for sample in [
        line(&scalable, "shmheap_live_objects", "scalable", "", "0\n"),
        line(&fit, "shmheap_peers", "first_fit", ",state=\"alive\"", "0\n"),
    ] {
        assert!(page.contains(&sample), "no {sample} in\n{page}");
    }
    drop(peer);
    succeed(&["destroy", &fit.0, "--yes"]);
    assert!(!watch.metrics().contains(&fit.0));
}

#[test]
fn a_scrape_tells_of_tags_and_quotas() {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "4M", "--labels"]);
    let heap = Heap::connect(&name.0).unwrap();
    heap.with_tag("a \"b\"", || heap.alloc(Layout::new::<[u8; 100]>())).unwrap().unwrap();
    heap.set_quota(Quota::Tag("c"), Some(1000)).unwrap();
    heap.set_quota(Quota::Heap, Some(2000)).unwrap();
    let page = Watch::start().metrics();
    let line = |metric: &str, labels: &str, number: &str| {
        format!("\n{metric}{{heap=\"{}\",policy=\"scalable\"{labels}}} {number}\n", name.0)
    };
    for sample in [
        line("shmheap_tag_used_bytes", ",tag=\"a \\\"b\\\"\"", "112"),
        line("shmheap_tag_objects", ",tag=\"\"", "0"),
        line("shmheap_tag_quota_bytes", ",tag=\"c\"", "1000"),
        line("shmheap_peer_used_bytes", ",slot=\"0\"", "112"),
        line("shmheap_gone_used_bytes", "", "0"),
        line("shmheap_quota_bytes", "", "2000"),
    ] {
        assert!(page.contains(&sample), "no {sample} in\n{page}");
    }
    let unlimited = page.lines().filter(|line| line.contains(&name.0));
    assert!(unlimited.clone().all(|line| !line.starts_with("shmheap_peer_quota_bytes")));
    assert_eq!(unlimited.filter(|line| line.starts_with("shmheap_tag_quota_bytes")).count(), 1);
}

#[test]
fn nobody_else_gets_anything() {
    let watch = Watch::start();
    let slow = watch.connect();
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "200 "),
        (b"GET /metrics?x=y HTTP/1.0\r\n\r\n", "200 "),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", "404 "),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 "),
        (b"\xff\x00\r\n\r\n", "400 "),
        (b"\r\n\r\n", "400 "),
        (&[b'x'; 8193], "431 "),
    ] {
        let answer = watch.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    drop(slow);
    assert!(Watch::start_at("localhost:0").metrics().contains("shmheap_heaps"));
    let taken = watch.address.as_str();
    fail(&["watch", "--prometheus", taken], 3, "cannot listen at");
    fail(&["watch", "--prometheus", "somewhere"], 2, "as 127.0.0.1:9464");
    fail(&["watch", "--prometheus", "no-such-host.invalid:1"], 3, "no-such-host.invalid:1");
}

/// A heap whose name is no UTF-8, until it is dropped.
struct Nameless(OsString);

impl Nameless {
    fn new(last: u8) -> Self {
        let mut bytes = format!("shmheap-test-watch-{}-", std::process::id()).into_bytes();
        bytes.push(last);
        let name = OsString::from_vec(bytes);
        HeapOptions::new(1 << 20).create(&name).unwrap();
        Self(name)
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        let _ = Heap::destroy(&self.0);
    }
}

/// Two samples of one name would have Prometheus refuse the whole page.
#[test]
fn names_that_are_no_text_are_told_apart() {
    let _heaps = [Nameless::new(0xfe), Nameless::new(0xff)];
    let (page, list) = (Watch::start().metrics(), succeed(&["ls"]));
    let idle = succeed(&["gc", "--dry-run", "--remove-idle"]);
    for byte in ["FE", "FF"] {
        let name = format!("shmheap-test-watch-{}-", std::process::id());
        let sample = format!("\nshmheap_length_bytes{{heap=\"{name}\\\\x{byte}\",");
        assert!(page.contains(&sample), "no {sample} in\n{page}");
        assert!(list.contains(&format!("\n{name}\\x{byte} ")), "{list}");
        assert!(idle.contains(&format!("would destroy '{name}\\x{byte}': ")), "{idle}");
    }
    let mut samples = BTreeSet::new();
    let labels = page.lines().filter_map(|line| line.rsplit_once(' ')).map(|(labels, _)| labels);
    for sample in labels.filter(|labels| !labels.starts_with('#')) {
        assert!(samples.insert(sample), "{sample} is there twice");
    }
}

#[test]
fn dashboard_and_help_name_the_metrics_there_are() {
    let there_are = metrics(&Watch::start().metrics());
    let named = |text: &str| -> BTreeSet<String> {
        let is_part = |character: char| character.is_ascii_lowercase() || character == '_';
        let words = text.split(|character| !is_part(character));
        words.filter(|word| word.starts_with("shmheap_")).map(str::to_owned).collect()
    };
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Machines may have heaps of the same name.
            assert!(target["legendFormat"].as_str().unwrap().contains("{{instance}}"), "{target}");
            let query = target["expr"].as_str().unwrap();
            assert!(!query.contains("by (") || query.contains("by (instance, "), "{query}");
        }
    }
    let unknown: Vec<_> = named(DASHBOARD).difference(&there_are).cloned().collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    assert_eq!(named(&succeed(&["watch", "--help"])), there_are);
}
