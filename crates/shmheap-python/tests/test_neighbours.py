"""Other libraries over the same bytes: by the buffer protocol and by DLPack."""

from __future__ import annotations

import gc

import pytest

import shmheap


def test_pyarrow_looks_at_the_object(heap: shmheap.Heap) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    buffer = heap.alloc(80)
    arrow = pyarrow.py_buffer(buffer)
    memoryview(buffer).cast("B").cast("q")[:] = memoryview(bytes(80)).cast("q")
    array = pyarrow.Array.from_buffers(pyarrow.int64(), 10, [None, arrow])
    memoryview(buffer).cast("q")[3] = 42
    assert array[3].as_py() == 42 and arrow.size == 80
    with pytest.raises(BufferError):
        buffer.free()
    heap.close()
    gc.collect()
    assert array.to_pylist() == [0, 0, 0, 42, 0, 0, 0, 0, 0, 0]


def test_tables_of_pyarrow_are_put_without_their_bytes_being_pickled(heap: shmheap.Heap) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": list(range(1000)), "b": ["text"] * 1000})
    found = heap.get(heap.put(table))
    assert found.equals(table)
    before = pyarrow.total_allocated_bytes()
    again = heap.get(heap.put(table))
    assert again.equals(table) and pyarrow.total_allocated_bytes() == before


def test_dlpack_looks_at_the_object(heap: shmheap.Heap) -> None:
    numpy = pytest.importorskip("numpy", "1.23")
    buffer = heap.alloc(100, zero=True)
    assert buffer.__dlpack_device__() == (1, 0)
    array = numpy.from_dlpack(buffer)
    memoryview(buffer)[7] = 1
    assert array.tolist() == [0] * 7 + [1] + [0] * 92
    with pytest.raises(BufferError):
        buffer.free()
    floats = numpy.from_dlpack(heap.array(10, "f4", zero=True))
    heap.close()
    del buffer
    gc.collect()
    assert array.sum() == 1 and floats.sum() == 0
