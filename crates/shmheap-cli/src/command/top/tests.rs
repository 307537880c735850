//! Frames of real heaps, drawn on terminals of two sizes.

use std::alloc::Layout as Memory;

use ratatui::crossterm::event::KeyCode;
use shmheap::{Heap, HeapOptions, Policy, Quota};

use super::*;
use crate::target::HeapRef;

/// A heap that is removed at the end.
struct Named(String, Option<Heap>);

impl Named {
    fn new(what: &str, policy: Policy) -> Self {
        Self::of(what, HeapOptions::new(4 << 20).policy(policy))
    }

    fn of(what: &str, options: HeapOptions) -> Self {
        let name = format!("shmheap-test-top-{what}-{}", std::process::id());
        let heap = options.create(&name).unwrap();
        Self(name, Some(heap))
    }

    fn place(&self) -> HeapRef {
        HeapRef::Named(self.0.clone().into())
    }

    fn heap(&self) -> &Heap {
        self.1.as_ref().unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Heap::destroy(&self.0);
    }
}

fn frame(view: &View, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    lines(terminal.backend().buffer()).collect()
}

/// The view of these heaps alone, inside of the first or of none.
fn view_of(heaps: &[&Named]) -> View {
    let mut view = View::new(None);
    let looks = heaps.iter().map(|heap| look::at_one(&heap.place(), &[]).0);
    view.set(looks.collect(), None);
    view
}

#[test]
fn the_list_has_a_line_for_each_heap() {
    let (one, other) =
        (Named::new("list-1", Policy::FirstFit), Named::new("list-2", Policy::Scalable));
    one.heap().alloc(Memory::new::<[u8; 1 << 20]>()).unwrap();
    let mut view = view_of(&[&one, &other]);
    for (columns, rows) in [(80, 24), (140, 40)] {
        let frame = frame(&view, columns, rows);
        assert!(
            frame[0].starts_with("2 heaps, 1.00 MiB of 8.00 MiB in use, 2 peers"),
            "{frame:#?}"
        );
        assert!(frame[2].starts_with("NAME") && frame[2].contains("RATE/S"), "{frame:#?}");
        assert!(frame[3].starts_with("shmheap-test-") && frame[3].contains("first fit"));
        assert!(frame[3].contains(" 25% "), "{frame:#?}");
        assert!(frame[4].contains("scalable"), "{frame:#?}");
        assert!(frame.last().unwrap().contains("q quit"), "{frame:#?}");
        assert!(frame.iter().all(|line| !line.contains('\u{1b}')));
    }
    assert!(frame(&view, 140, 40)[2].contains("BYTES/S"));
    view.key(KeyCode::Char('?').into());
    assert!(frame(&view, 80, 24).iter().any(|line| line.contains("┌ keys")));
}

#[test]
fn inside_there_are_peers_classes_and_a_map() {
    for policy in [Policy::FirstFit, Policy::Scalable] {
        let heap = Named::new("inside", policy);
        for _ in 0..1000 {
            heap.heap().alloc(Memory::new::<[u8; 100]>()).unwrap();
        }
        let object = heap.heap().alloc(Memory::new::<[u8; 5000]>()).unwrap();
        heap.heap().set_root("it", heap.heap().handle(object).unwrap()).unwrap();
        let mut view = View::new(Some(heap.place()));
        for _ in 0..2 {
            let (look, detail) = look::at_one(&heap.place(), &view.heaps);
            view.set(vec![look], detail);
        }
        for (columns, rows) in [(80, 24), (140, 40)] {
            let frame = frame(&view, columns, rows);
            let text = frame.join("\n");
            assert!(frame[0].starts_with(&heap.0), "{text}");
            for part in ["1,00", "1 name", "PEERS (1)", "alive", "objects/s", "MAP, "] {
                assert!(text.contains(part), "{policy:?}: no {part} in\n{text}");
            }
            let class = if policy == Policy::Scalable { "112B " } else { "up to 128B" };
            assert!(text.contains(class), "{text}");
        }
    }
}

/// As many tags as a heap can have; none of them has anything.
fn large_usage() -> shmheap::Usage {
    let tag = |number: usize| {
        let mut tag = shmheap::TagUsage::default();
        tag.name = format!("tag-{number}.");
        tag
    };
    let mut usage = shmheap::Usage::default();
    usage.tags = (0..256).map(tag).collect();
    usage
}

fn large_view() -> View {
    let class = |number: usize| look::ClassUse {
        label: format!("class-{number}."),
        live_objects: 1,
        live_bytes: 1,
        of_bytes: 1,
    };
    let mut stats = shmheap::Stats::default();
    stats.live_objects = 1_000_000;
    let mut content = look::Content::made_up(stats, 200, None);
    content.usage = Some(large_usage());
    let place = HeapRef::Named("large".into());
    let mut view = View::new(Some(place.clone()));
    let classes = (0..107).map(class).collect();
    let detail = look::Detail { roots: 0, classes, map: None };
    view.set(vec![look::HeapLook { place, content: Ok(content) }], Some(detail));
    view
}

#[test]
fn a_frame_as_text_leaves_nothing_out() {
    let mut text = vec![];
    write_frame(&mut text, &large_view()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("peer-0\n") && text.contains("peer-199\n"), "{text}");
    assert!(text.contains("class-0. ") && text.contains("class-106. "), "{text}");
    assert!(text.contains("tag-0. ") && text.contains("tag-255. "), "{text}");
    assert!(text.contains("TAGS (256)\n") && !text.contains("from 1 on"), "{text}");
    assert!(text.contains("no map: of so many objects"), "{text}");
}

#[test]
fn classes_are_those_in_use() {
    let heap = Named::new("classes", Policy::Scalable);
    let objects = |bytes: usize| {
        let layout = Memory::from_size_align(bytes, 8).unwrap();
        heap.heap().alloc(layout).unwrap()
    };
    let (_small, freed, _large) = (objects(100), objects(200), objects(1 << 20));
    // SAFETY: it is this test's, and nobody else knows of it.
    #[allow(unsafe_code)]
    unsafe {
        heap.heap().free(freed).unwrap();
    }
    let detail = look::at_one(&heap.place(), &[]).1.unwrap();
    let found: Vec<_> = detail.classes.iter().map(|one| (&*one.label, one.live_objects)).collect();
    assert_eq!(found, [("112B", 1), ("larger", 1)]);
    assert_eq!(detail.classes[1].live_bytes, 1 << 20);
}

#[test]
fn tags_have_a_list_of_their_own() {
    for policy in [Policy::FirstFit, Policy::Scalable] {
        let heap = Named::of("tags", HeapOptions::new(4 << 20).policy(policy).labels());
        let alloc = |tag: &str| {
            heap.heap().with_tag(tag, || heap.heap().alloc(Memory::new::<[u8; 3000]>())).unwrap()
        };
        for _ in 0..10 {
            alloc("the parser").unwrap();
        }
        for number in 0..20 {
            alloc(&format!("tag {number}, with a name that is cut")).unwrap();
        }
        heap.heap().set_quota(Quota::Heap, Some(1 << 20)).unwrap();
        heap.heap().set_quota(Quota::Tag("the parser"), Some(64 << 10)).unwrap();
        let mut view = View::new(Some(heap.place()));
        let (look, detail) = look::at_one(&heap.place(), &[]);
        view.set(vec![look], detail);
        for (columns, rows) in [(80, 24), (120, 30), (140, 40)] {
            let frame = frame(&view, columns, rows);
            let text = frame.join("\n");
            for part in ["TAGS (22)", "% of 1.00 MiB used", "the parser", "of   64K", " used "] {
                assert!(text.contains(part), "{policy:?} {columns}: no {part} in\n{text}");
            }
            assert!(text.contains("OBJECTS BY SIZE"), "{text}");
        }
        view.key(KeyCode::End.into());
        assert!(frame(&view, 80, 24).join("\n").contains("(no tag)"), "the smallest is the last");
    }
}

#[test]
fn no_size_of_a_terminal_is_too_small() {
    let heap = Named::new("small", Policy::Scalable);
    let mut view = view_of(&[&heap]);
    let labelled = Named::of("small-tags", HeapOptions::new(4 << 20).labels());
    let [mut inside, mut tags] = [&heap, &labelled].map(|heap| {
        let mut inside = View::new(Some(heap.place()));
        let (look, detail) = look::at_one(&heap.place(), &[]);
        inside.set(vec![look], detail);
        inside
    });
    for view in [&mut view, &mut inside, &mut tags] {
        for shows_keys in [false, true] {
            view.shows_keys = shows_keys;
            for (columns, rows) in [(1, 1), (3, 2), (20, 5), (79, 3), (300, 1), (10, 100)] {
                frame(view, columns, rows);
            }
        }
    }
}

#[test]
fn a_heap_that_goes_away_is_a_message() {
    let heap = Named::new("gone", Policy::Scalable);
    let place = heap.place();
    let mut view = view_of(&[&heap]);
    view.key(KeyCode::Enter.into());
    drop(heap);
    let (look, detail) = look::at_one(&place, &view.heaps);
    view.set(vec![look], detail);
    let text = frame(&view, 80, 24).join("\n");
    assert!(text.contains("no heap '") && text.contains("Esc leads back"), "{text}");
    view.key(KeyCode::Esc.into());
    view.set(vec![], None);
    assert!(frame(&view, 80, 24).join("\n").contains("no heaps; `shmheap create"));
}
