"""Values that were put, and objects that pretend to hold some."""

from __future__ import annotations

import gc
import pickle
import random
import struct
from typing import Any

import pytest

import shmheap
from shmheap import _pickles


class Row:
    """Something whose bytes speak protocol 5."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Row, (pickle.PickleBuffer(self.content),)


@pytest.mark.parametrize(
    "value", [None, 7, "text", b"\0" * 1000, [1, [2, {"a": (3.5, None)}]], {"k": "v" * 10_000}]
)
def test_values_come_back(heap: shmheap.Heap, value: Any) -> None:
    handle = heap.put(value)
    assert heap.get(handle) == value
    heap.free(handle)
    assert heap.stats().live_objects == 0


def test_rows_of_bytes_are_views_of_the_object(heap: shmheap.Heap) -> None:
    rows = [Row(bytearray(b"x" * size)) for size in (0, 1, 64, 1 << 20)]
    handle = heap.put({"rows": rows})
    read = heap.get(handle)["rows"]
    write = heap.get(handle, writable=True)["rows"]
    assert [bytes(row.content) for row in read] == [bytes(row.content) for row in rows]
    assert all(row.content.readonly for row in read)
    write[3].content[7:9] = b"yz"
    assert read[3].content[6:10] == b"xyzx"
    with pytest.raises(BufferError):
        heap.free(handle)
    del read, write
    gc.collect()
    heap.free(handle)


def test_arrays_in_values_are_not_copied_on_read(heap: shmheap.Heap) -> None:
    numpy = pytest.importorskip("numpy")
    batch = {"x": numpy.arange(100_000.0).reshape(100, -1), "y": numpy.ones(3, "i1"), "n": 7}
    handle = heap.put(batch)
    one, two = heap.get(handle), heap.get(handle)
    assert (one["x"] == batch["x"]).all() and one["n"] == 7
    assert one["x"].ctypes.data == two["x"].ctypes.data
    assert one["x"].ctypes.data % 64 == one["y"].ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        one["x"][0, 0] = 1
    heap.get(handle, writable=True)["x"][0, 0] = 1
    assert two["x"][0, 0] == 1
    records = numpy.zeros(3, [("a", "i4"), ("b", "f8")])
    assert heap.get(heap.put(records)).dtype == records.dtype
    heap.close()
    gc.collect()
    assert one["x"].sum() == two["x"].sum()


def test_what_cannot_be_pickled_leaves_nothing(heap: shmheap.Heap) -> None:
    with pytest.raises(Exception, match="pickle"):
        heap.put([1, lambda: None])
    with pytest.raises(shmheap.Full):
        heap.put(bytes(128 << 20))
    with pytest.raises(pickle.PicklingError):
        heap.put(Row(memoryview(bytes(10))[::2]))
    assert heap.stats().live_objects == 0


def test_what_was_not_put_is_refused(heap: shmheap.Heap) -> None:
    for buffer in (heap.alloc(1), heap.alloc(1000, zero=True)):
        with pytest.raises(shmheap.WrongType):
            heap.get(buffer.handle)


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<8sQII", _pickles.MAGIC, 1 << 63, 0, 0),
        struct.pack("<8sQII", _pickles.MAGIC, 1, 0xFFFFFFFF, 0),
        struct.pack("<8sQII", _pickles.MAGIC, 2000, 0, 0),
        struct.pack("<8sQIIQQ", _pickles.MAGIC, 1, 1, 0, 0, 2000),
        struct.pack("<8sQIIQQ", _pickles.MAGIC, 1, 1, 0, (1 << 64) - 1, 2),
    ],
)
def test_impossible_tables_are_refused(heap: shmheap.Heap, head: bytes) -> None:
    buffer = heap.alloc(1000, zero=True)
    buffer.write(0, head)
    with pytest.raises(shmheap.WrongType, match="cannot be"):
        heap.get(buffer.handle)


def test_overwritten_tables_give_views_within_the_object_or_an_error(
    heap: shmheap.Heap, seeded: random.Random
) -> None:
    handle = heap.put([Row(bytearray(100)), Row(bytearray(100))])
    buffer = heap.resolve(handle)
    good = bytes(memoryview(buffer)[:56])
    refused = 0
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(seeded.randrange(1, 4)):
            bad[seeded.randrange(8, 56)] = seeded.choice([0, 1, 0xFF, seeded.randrange(256)])
        buffer.write(0, bad)
        try:
            for row in heap.get(handle):
                bytes(row.content)
        except Exception:  # also whatever `pickle` says to bytes that are no pickle
            refused += 1
    assert 500 < refused
