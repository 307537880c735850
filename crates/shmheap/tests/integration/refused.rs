//! Goal: channels refuse those who may not use them, and what they cannot carry, and change
//! nothing.

use std::time::Duration;

use shmheap::{Broadcast, Channel, Error, Heap, ObjectChannel, Received};

use crate::support::{HeapName, bytes, channels, scalable};

#[test]
fn who_may_only_read_and_objects_of_elsewhere_are_refused() {
    let name = HeapName::new();
    let heap = scalable(4 << 20).create(&name).unwrap();
    let other = scalable(4 << 20).create_memfd().unwrap();
    let (objects, channel) = ObjectChannel::create(&heap, 1).unwrap();
    let object = other.alloc_unpublished(bytes::layout(16, 8)).unwrap();
    let refused = channel.try_send(object).unwrap_err();
    assert!(matches!(refused.error, Error::InvalidPointer { .. }) && refused.object.is_some());
    drop(refused);
    assert_eq!(other.stats().live_objects, 0);
    let (values, sender) = Channel::<u64>::create(&heap, 1).unwrap();
    sender.send(1).unwrap();
    let (broadcast, writer) = Broadcast::<u64>::create(&heap, 2).unwrap();
    let mut publisher = writer.publisher().unwrap();
    let observer = Heap::connect_read_only(&name).unwrap();
    let channel = channels::values(&observer, values).unwrap();
    assert_eq!((channel.len(), channel.capacity(), channel.is_closed()), (1, 1, false));
    assert!(matches!(channel.recv(), Err(Error::ReadOnly { .. })));
    assert!(matches!(channel.send(2), Err(Error::ReadOnly { .. })));
    assert!(matches!(channel.close(), Err(Error::ReadOnly { .. })));
    let channel = channels::objects(&observer, objects).unwrap();
    assert!(matches!(channel.recv(), Err(Error::ReadOnly { .. })));
    assert!(matches!(channel.drain(), Err(Error::ReadOnly { .. })));
    let reader = channels::broadcast(&observer, broadcast).unwrap();
    assert!(matches!(reader.publisher(), Err(Error::ReadOnly { .. })));
    let mut subscriber = reader.subscribe();
    assert_eq!(subscriber.recv_timeout(Duration::from_millis(2)), None);
    publisher.send(5).unwrap();
    assert_eq!((subscriber.recv(), reader.latest()), (Received::Value(5), Some(5)));
    let refused = channels::values::<u32>(&heap, values.cast());
    assert!(refused.is_err(), "another type");
    let refused = channels::values::<u64>(&heap, objects.cast());
    assert!(refused.is_err(), "another kind");
    assert!(matches!(Channel::<u64>::create(&heap, 0), Err(Error::InvalidOption { .. })));
    assert!(matches!(Broadcast::<u64>::create(&heap, 1), Err(Error::InvalidOption { .. })));
}
