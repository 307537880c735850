"""Heaps and buffers: made, looked at, freed."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import Any

import pytest
from workers import Worker

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


def test_the_first_one_makes_the_heap_and_others_find_it(name: str) -> None:
    first = shmheap.connect_or_create(name, 1 << 20, max_size=8 << 20, ephemeral=True, mode=0o640)
    assert first.info().ephemeral and first.info().max_len_bytes == 8 << 20
    assert os.stat(f"/dev/shm{name}").st_mode & 0o777 == 0o640
    first["x"] = 7
    again = shmheap.connect_or_create(name, 2 << 20, policy="first-fit")
    assert again["x"] == 7 and again.info().policy == "scalable"
    assert again._connection is first._connection, "one for each process"
    with pytest.raises(shmheap.InvalidName):
        shmheap.connect_or_create("", 1 << 20)
    with pytest.raises(shmheap.InvalidOption):
        shmheap.connect_or_create(name + "-other", 0)
    wrong: Any = {"max_len": 1}
    with pytest.raises(TypeError, match=r"options\(\).*'max_len'"):
        shmheap.connect_or_create(name, 1 << 20, **wrong)


def find_or_make(pipe: Any, name: str) -> None:
    pipe.send("ready")
    pipe.recv()
    heap = shmheap.connect_or_create(name, 1 << 20, ephemeral=True)
    pipe.send(heap.info().id)
    pipe.recv()


def test_of_several_first_ones_one_makes_the_heap(name: str) -> None:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(find_or_make, name)) for _ in range(4)]
        for worker in workers:
            assert worker.answer() == "ready"
        for worker in workers:
            worker.pipe.send("go")
        assert len({worker.answer() for worker in workers}) == 1
        for worker in workers:
            worker.pipe.send("end")
            worker.end()
