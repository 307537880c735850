"""NumPy arrays over heap memory, and objects that pretend to hold some."""

from __future__ import annotations

import gc
import random
import struct
from typing import Any

import pytest

import shmheap
from shmheap import _arrays

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    "dtype",
    "?,i1,<i4,>i4,u8,f2,f4,f8,g,c8,c16,M8[ns],M8[25us],m8[D],U7,S3,V5".split(","),
)
def test_every_type_is_found_again(heap: shmheap.Heap, dtype: str) -> None:
    array = heap.array((3, 0, 2) if dtype == "?" else (3, 2), dtype, zero=True)
    found = heap.asarray(heap.handle(array))
    assert found.dtype == array.dtype == numpy.dtype(dtype)
    assert found.shape == array.shape
    assert found.ctypes.data == array.ctypes.data
    assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("shape", [(), 0, 7, (0,), (1, 2, 3), (0, 5), (1,) * 30])
def test_every_shape_is_found_again(heap: shmheap.Heap, shape: Any) -> None:
    array = heap.array(shape, "i4")
    array[...] = 3
    found = heap.asarray(heap.handle(array))
    assert found.shape == array.shape == numpy.empty(shape).shape
    assert (found == 3).all()


def test_an_array_keeps_the_mapping(heap: shmheap.Heap) -> None:
    array = heap.array(1 << 16)
    part = array[1000:].reshape(-1, 2)[::2]
    handle = heap.handle(part)
    assert handle == heap.handle(array) == heap.handle(array.data)
    with pytest.raises(BufferError):
        heap.free(handle)
    del array
    heap.close()
    gc.collect()
    part[:] = 5
    assert part.sum() == 5 * part.size


def test_an_array_is_freed_when_no_view_is_left(heap: shmheap.Heap) -> None:
    array = heap.array(10)
    handle = heap.handle(array)
    view = array[2:]
    del array
    with pytest.raises(BufferError):
        heap.free(handle)
    del view
    heap.free(handle)
    with pytest.raises(shmheap.InvalidHandle):
        heap.asarray(handle)


def test_handles_may_be_integers_of_numpy(heap: shmheap.Heap) -> None:
    index = heap.array(2, "u8")
    index[:] = [heap.handle(index), heap.put("value")]
    assert heap.asarray(index[0]).ctypes.data == index.ctypes.data
    assert heap.get(index[1]) == "value"
    heap.set_root("index", index)
    assert heap.root("index") == index[0] == heap.handle(index[:1].reshape(()))
    heap.free(index[1])


def test_a_copy_has_the_content(heap: shmheap.Heap) -> None:
    original = numpy.arange(24).reshape(4, 6).T[::-1]
    copy = heap.copy(original)
    assert (copy == original).all() and copy.flags.c_contiguous
    assert heap.copy([1, 2, 3]).tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", ["O", [("a", "i4"), ("b", "f8")], "i4,i4"])
def test_types_that_bytes_do_not_tell_are_refused(heap: shmheap.Heap, dtype: Any) -> None:
    with pytest.raises(TypeError, match="put"):
        heap.array(3, dtype)
    assert heap.stats().live_objects == 0


@pytest.mark.parametrize("shape", [-1, (2, -1), (1,) * 65, "ab", 1.5, (1.5,), None])
def test_shapes_that_cannot_be_are_refused(heap: shmheap.Heap, shape: Any) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        heap.array(shape)
    for large in ((1 << 40, 1 << 40), (1 << 59,), (1 << 70, 0), (1 << 63, 0), (0, 1 << 61)):
        with pytest.raises((MemoryError, ValueError)):
            heap.array(large)
    assert heap.stats().live_objects == 0


def test_a_read_only_heap_gives_read_only_arrays(heap: shmheap.Heap) -> None:
    handle = heap.handle(heap.copy([1, 2, 3]))
    assert heap.name is not None
    with shmheap.connect(heap.name, read_only=True) as reader:
        array = reader.asarray(handle)
        assert array.tolist() == [1, 2, 3]
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
        with pytest.raises(shmheap.ReadOnly):
            reader.array(3)


def test_what_is_no_array_is_refused(heap: shmheap.Heap) -> None:
    for handle in (heap.put([1]), heap.alloc(1).handle, heap.alloc(1000, zero=True).handle):
        with pytest.raises(shmheap.WrongType):
            heap.asarray(handle)


def header(magic: bytes, data_bytes: int, ndim: int, name_bytes: int, data_at: int) -> bytes:
    return struct.pack("<8sQHHI", magic, data_bytes, ndim, name_bytes, data_at)


@pytest.mark.parametrize(
    "head",
    [
        header(_arrays.MAGIC, 8, 1, 3, 64) + struct.pack("<Q", 2) + b"<f8",
        header(_arrays.MAGIC, 1 << 63, 1, 3, 64) + struct.pack("<Q", 1 << 60) + b"<f8",
        header(_arrays.MAGIC, 0, 2, 3, 64) + struct.pack("<2Q", 0, (1 << 64) - 1) + b"<f8",
        header(_arrays.MAGIC, 8, 65, 3, 64),
        header(_arrays.MAGIC, 8, 0xFFFF, 0xFFFF, 0xFFFFFFC0),
        header(_arrays.MAGIC, 8, 1, 3, 0) + struct.pack("<Q", 1) + b"<f8",
        header(_arrays.MAGIC, 8, 1, 3, 72) + struct.pack("<Q", 1) + b"<f8",
        header(_arrays.MAGIC, 8, 1, 3, 1 << 20) + struct.pack("<Q", 1) + b"<f8",
        header(_arrays.MAGIC, 8, 1, 2, 64) + struct.pack("<Q", 1) + b"|O",
        header(_arrays.MAGIC, 8, 1, 6, 64) + struct.pack("<Q", 1) + b"f8,(9)",
        header(_arrays.MAGIC, 8, 1, 9, 64) + struct.pack("<Q", 1) + b"\xff\xfe\0\0\0\0\0\0\0",
        header(_arrays.MAGIC, 0, 1, 3, 64) + struct.pack("<Q", 1) + b"|V0",
        header(_arrays.MAGIC, 8, 1, 10, 64) + struct.pack("<Q", 1) + b"<M8[parse]",
    ],
)
def test_impossible_headers_are_refused(heap: shmheap.Heap, head: bytes) -> None:
    buffer = heap.alloc(200, zero=True)
    buffer.write(0, head)
    with pytest.raises(shmheap.WrongType, match="cannot be one"):
        heap.asarray(buffer.handle)


def test_overwritten_headers_give_an_array_within_the_object_or_an_error(
    heap: shmheap.Heap, seeded: random.Random
) -> None:
    array = heap.array((4, 5, 6), "<i4", zero=True)
    buffer = heap.resolve(heap.handle(array))
    good = bytes(memoryview(buffer)[:64])
    start = array.ctypes.data - 64
    refused = 0
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(seeded.randrange(1, 4)):
            bad[seeded.randrange(8, 64)] = seeded.choice([0, 1, 0xFF, seeded.randrange(256)])
        buffer.write(0, bad)
        try:
            found = heap.asarray(buffer.handle)
        except shmheap.WrongType:
            refused += 1
            continue
        first = found.ctypes.data
        assert start <= first and first + found.nbytes <= start + len(buffer)
        found.tobytes()
    assert 500 < refused
