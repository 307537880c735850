"""Heaps and buffers: made, looked at, freed."""

from __future__ import annotations

import gc

import pytest

import shmheap


def test_two_connections_see_the_same_bytes(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(5)
    memoryview(buffer)[:] = b"hello"
    assert heap.name is not None
    other = shmheap.connect(heap.name)
    found = other.resolve(buffer.handle, 5)
    assert bytes(found) == b"hello"
    assert len(buffer) == len(found) == 5
    assert len(other.resolve(buffer.handle)) >= 5
    buffer.free()
    with pytest.raises(shmheap.InvalidHandle):
        other.resolve(buffer.handle)
    assert heap.stats().live_objects == 0


def test_views_outlive_the_heap(heap: shmheap.Heap) -> None:
    view = memoryview(heap.alloc(1 << 20, zero=True))
    heap.close()
    gc.collect()
    view[-1] = 7
    assert view[0] == 0 and view[-1] == 7
    with pytest.raises(shmheap.Closed):
        heap.alloc(1)


def test_no_object_is_freed_under_a_view(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(100)
    view = memoryview(buffer)
    again = heap.resolve(buffer.handle)
    for free in (buffer.free, again.free, lambda: heap.free(buffer.handle)):
        with pytest.raises(BufferError, match="process: 1 "):
            free()
    view.release()
    again.free()
    with pytest.raises(shmheap.InvalidHandle):
        buffer.free()
