"""Names in a heap."""

from __future__ import annotations

import pytest

import shmheap


def test_a_heap_is_a_mapping_of_names(heap: shmheap.Heap) -> None:
    assert list(heap) == [] and len(heap) == 0 and heap and "x" not in heap
    heap["x"] = {"a": 1}
    buffer = heap.alloc(10)
    heap["y"] = buffer
    assert sorted(heap) == ["x", "y"] and len(heap) == 2 and "x" in heap and 7 not in heap
    assert heap["x"] == {"a": 1}
    assert heap["y"].handle == buffer.handle == heap.root("y")
    del heap["x"]
    with pytest.raises(KeyError):
        heap["x"]
    with pytest.raises(shmheap.NoRoot):
        del heap["x"]
    assert heap.remove_root("y") == buffer.handle
    assert len(heap) == 0


def test_an_array_gets_a_name_as_it_is_and_others_are_copied(heap: shmheap.Heap) -> None:
    numpy = pytest.importorskip("numpy")
    array = heap.array((2, 3), zero=True)
    heap["mine"] = array
    assert heap.root("mine") == heap.handle(array)
    heap["part"] = array[1:]
    assert heap["part"].shape == (1, 3)
    assert heap.root("part") != heap.handle(array), "a part is not the object"
    heap["turned"] = array.T
    assert heap["turned"].shape == (3, 2)
    heap["copied"] = numpy.arange(5)
    assert heap["copied"].tolist() == [0, 1, 2, 3, 4]
    assert heap["copied"].flags.writeable
    heap["records"] = numpy.zeros(3, [("a", "i4")])
    assert heap["records"].dtype.names == ("a",)
    array[0, 0] = 7
    assert heap["mine"][0, 0] == 7


def test_a_name_moves_and_the_object_stays(heap: shmheap.Heap) -> None:
    heap["x"] = 1
    old = heap.root("x")
    heap["x"] = 2
    assert (heap["x"], heap.get(old)) == (2, 1)
    with pytest.raises(shmheap.RootExists):
        heap.set_root("x", old)
    heap.free(old)
    heap.free(heap.remove_root("x"))


@pytest.mark.parametrize("impossible", ["", "x" * 121])
def test_impossible_names_leave_nothing(heap: shmheap.Heap, impossible: str) -> None:
    heap["first"] = 0
    before = heap.stats().live_objects
    with pytest.raises(shmheap.InvalidName):
        heap[impossible] = [1, 2, 3]
    with pytest.raises(TypeError):
        heap[7] = 1  # type: ignore[index]
    assert heap.stats().live_objects == before


def test_names_of_objects_that_are_gone(heap: shmheap.Heap) -> None:
    heap["x"] = heap.alloc(10)
    heap.free(heap.root("x"))
    with pytest.raises(shmheap.InvalidHandle):
        heap["x"]
    heap["x"] = 5
    assert heap["x"] == 5


def test_roots_tell_what_there_is(heap: shmheap.Heap) -> None:
    heap["x"] = 1
    assert heap.roots() == [shmheap.Root("x", heap.root("x"), False, True)]
