//! Texts: against those of the standard library, and bytes that are none.

use proptest::prelude::*;

use crate::collections::testing::{POLICIES, get, get_mut, heap_of, make};
use crate::collections::{ShmString, ShmVec};
use crate::{Error, Policy};

#[test]
fn every_operation_does_what_it_says() {
    for policy in POLICIES {
        let heap = heap_of(policy);
        let text = get_mut(&heap, make::<ShmString>(&heap));
        assert!(text.is_empty(&heap).unwrap());
        assert_eq!(text.pop(&heap).unwrap(), None);
        text.push_str(&heap, "grün").unwrap();
        text.push(&heap, '→').unwrap();
        assert_eq!(text.as_str(&heap).unwrap(), "grün→");
        text.insert_str(&heap, 0, "so ").unwrap();
        assert_eq!(text.pop(&heap).unwrap(), Some('→'));
        for index in [6, 9, usize::MAX] {
            let refused = text.truncate(&heap, index).unwrap_err();
            assert!(matches!(refused, Error::InvalidOption { .. }), "{refused}");
            assert!(text.insert_str(&heap, index, "x").is_err());
        }
        assert_eq!(format!("{:>8}|", text.display(&heap)), " so grün|");
        text.truncate(&heap, 7).unwrap();
        assert_eq!(text.as_str(&heap).unwrap(), "so grü");
        text.set(&heap, "another").unwrap();
        assert_eq!(text.as_str(&heap).unwrap(), "another");
        text.set(&heap, "").unwrap();
        assert!(text.is_empty(&heap).unwrap());
        text.reserve(&heap, 100).unwrap();
        assert!(text.capacity(&heap).unwrap() >= 100);
        text.shrink_to_fit(&heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
        text.set(&heap, "x").unwrap();
        text.clear(&heap).unwrap();
        text.free(&heap).unwrap();
        assert_eq!(heap.stats().live_objects, 1);
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_or_replaced() {
    let heap = heap_of(Policy::Scalable);
    let object = make::<ShmString>(&heap);
    // A text is a vector of bytes, to whoever can write to it.
    let bytes = get_mut(&heap, object.cast::<ShmVec<u8>>());
    bytes.extend_from_slice(&heap, b"a\xffb\xe2\x86").unwrap();
    let text = get_mut(&heap, object);
    assert!(matches!(text.as_str(&heap), Err(Error::Damaged { .. })));
    assert!(matches!(text.pop(&heap), Err(Error::Damaged { .. })));
    assert_eq!(text.to_string_lossy(&heap).unwrap(), "a\u{fffd}b\u{fffd}");
    assert_eq!(text.display(&heap).to_string(), "a\u{fffd}b\u{fffd}");
    text.truncate(&heap, 1).unwrap();
    assert_eq!(text.as_str(&heap).unwrap(), "a");
    let elsewhere = ShmString::new();
    assert!(elsewhere.display(&heap).to_string().contains("not a live object"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_row_of_operations_does_what_a_string_of_the_standard_library_does(
        steps in proptest::collection::vec((0..4_u8, 0..30_usize, ".{0,6}"), 1..60),
    ) {
        let heap = heap_of(Policy::Scalable);
        let object = make::<ShmString>(&heap);
        let text = get_mut(&heap, object);
        let mut model = String::new();
        for (kind, index, more) in steps {
            match kind {
                0 => {
                    text.push_str(&heap, &more).unwrap();
                    model.push_str(&more);
                }
                1 => {
                    let fits = model.is_char_boundary(index);
                    prop_assert_eq!(text.insert_str(&heap, index, &more).is_ok(), fits);
                    if fits { model.insert_str(index, &more); }
                }
                2 => prop_assert_eq!(text.pop(&heap).unwrap(), model.pop()),
                _ => {
                    let fits = model.is_char_boundary(index);
                    prop_assert_eq!(text.truncate(&heap, index).is_ok(), fits);
                    if fits { model.truncate(index); }
                }
            }
            prop_assert_eq!(get(&heap, object).as_str(&heap).unwrap(), &model);
            prop_assert_eq!(text.len(&heap).unwrap(), model.len());
        }
    }
}
