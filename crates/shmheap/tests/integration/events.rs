//! Goal: a program that subscribes to events hears of each, with its fields, in the order in which
//! things happen.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use shmheap::{Heap, HeapOptions, Policy};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::support::process::{Role, Worker};
use crate::support::{HeapName, bytes};

/// Writes down what is said of heaps.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Diary {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "shmheap"
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn what_happens_is_told() {
    let (diary, name) = (Diary::default(), HeapName::new());
    tracing::subscriber::with_default(diary.clone(), || {
        let options = HeapOptions::new(64 << 10).max_len(128 << 10).policy(Policy::Scalable);
        let heap = options.create(&name).unwrap();
        let mut worker = Worker::start("events::holder", &[name.as_str()]);
        assert_eq!(worker.hear(), "connected");
        worker.kill();
        heap.grow(128 << 10).unwrap();
        assert!(heap.alloc(bytes::layout(1 << 20, 8)).is_err());
        assert_eq!(heap.sweep().unwrap(), 1);
        heap.trim().unwrap();
        drop(Heap::connect_read_only(&name).unwrap());
        drop(heap);
        Heap::destroy(&name).unwrap();
    });
    let told = diary.0.lock().unwrap().join("\n").replace(name.as_str(), "/heap");
    let expected = "\
INFO message=created heap=\"/heap\" len_bytes=65536
DEBUG message=grown heap=\"/heap\" from_bytes=65536 to_bytes=131072
DEBUG message=full heap=\"/heap\" requested_bytes=1048576 free_bytes=131072
WARN message=took over what a killed process left heap=\"/heap\" slot=1
DEBUG message=trimmed heap=\"/heap\" bytes=131072
DEBUG message=connected heap=\"/heap\" read_only=true
DEBUG message=disconnected heap=\"/heap\"
DEBUG message=disconnected heap=\"/heap\"
INFO message=removed heap=\"/heap\"";
    assert_eq!(told, expected, "\n{told}");
}

#[test]
fn holder() {
    let Some(mut role) = Role::of("events::holder") else { return };
    let _heap = Heap::connect(role.argument(0)).unwrap();
    role.say("connected");
    role.hear();
}
