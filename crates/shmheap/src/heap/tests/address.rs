//! Heaps that lie at one address: how that is chosen when some are taken.

use std::num::NonZeroUsize;

use crate::heap::address;
use crate::heap::open::map_at_free;
use crate::heap::shape::Shape;
use crate::os::{Mapping, Object};
use crate::{Error, HeapOptions, Policy};

#[test]
fn the_first_free_address_is_the_heaps() {
    for policy in [Policy::FirstFit, Policy::Scalable] {
        let options = HeapOptions::new(1 << 20).policy(policy).same_address();
        let (mut shape, _) = Shape::of_options(&options).unwrap();
        let object = Object::memfd(0o600, None).unwrap();
        let mut choices = address::choices(shape.identity.id, shape.mapped_bytes());
        let three: [NonZeroUsize; 3] = std::array::from_fn(|_| choices.next().unwrap());
        assert_eq!(shape.address(), Some(three[0]), "until it turns out to be taken");
        let taken = three.map(|at| Mapping::at(&object, 4096, at).unwrap());
        let all_taken = map_at_free(&object, &mut shape, three.into_iter());
        let Err(Error::AddressTaken { address, .. }) = all_taken else { panic!("{all_taken:?}") };
        assert_eq!(address, three[2].get(), "the last");
        let [_first, _second, third] = taken;
        drop(third);
        let mapping = map_at_free(&object, &mut shape, three.into_iter()).unwrap();
        assert_eq!(mapping.base().addr(), three[2]);
        assert_eq!(shape.identity.address, three[2].get() as u64, "as the header will say");
    }
}
