"""Who keeps what: heaps, buffers, views and arrays, let go of in any order."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmheap
from shmheap import _references
from shmheap._shmheap import Connection


def is_mapped(heap_name: str) -> bool:
    """By its inode: a heap is made before it has a name, and so it stands in the list."""
    inode = str(os.stat(f"/dev/shm{heap_name}").st_ino)
    maps = Path("/proc/self/maps").read_text().splitlines()
    return any(line.split()[4] == inode for line in maps)


def test_a_heap_is_unmapped_with_its_last_view(name: str) -> None:
    heap = shmheap.create(name, 1 << 20)
    view = memoryview(heap.alloc(10))
    part = view[2:5]
    heap.close()
    view.release()
    assert is_mapped(name)
    part.release()
    del view, part
    gc.collect()
    assert not is_mapped(name)
    with shmheap.connect(name) as heap:
        assert heap.stats().peers_alive == 1 and heap.stats().peers_dead == 0


def test_a_process_has_one_connection_for_each_heap(name: str) -> None:
    heap = shmheap.create(name, 1 << 20)
    again = shmheap.connect(name)
    assert len(heap.peers()) == 1
    heap.close()
    assert len(again.peers()) == 1 and again.peers()[0].is_self
    reader = shmheap.connect(name, read_only=True)
    assert reader.read_only and len(reader.peers()) == 1


def test_threads_that_connect_at_once_share_a_connection(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shmheap.create(name, 1 << 20):
        made = [Connection.connect("name", name, False) for _ in range(4)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(500):
                monkeypatch.setattr(_references, "_connections", weakref.WeakValueDictionary())
                shared: list[Connection] = []
                start = threading.Barrier(len(made))

                def share(
                    mine: Connection,
                    start: threading.Barrier = start,
                    shared: list[Connection] = shared,
                ) -> None:
                    start.wait()
                    shared.append(_references.shared(mine))

                threads = [threading.Thread(target=share, args=(mine,)) for mine in made]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert len({id(connection) for connection in shared}) == 1
        finally:
            sys.setswitchinterval(interval)


def test_a_buffer_that_is_collected_leaves_its_object(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(10)
    handle, gone = buffer.handle, weakref.ref(buffer)
    del buffer
    gc.collect()
    assert gone() is None
    heap.free(handle)


def test_new_objects_are_not_taken_for_what_lay_there(heap: shmheap.Heap) -> None:
    handle = heap.put([1])
    heap.free(handle)
    for size in (1, 40, 48, 64):
        buffer = heap.alloc(size)
        heap["raw"] = buffer
        assert heap["raw"].handle == buffer.handle, size


def test_a_buffer_does_not_reach_into_what_took_its_place(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(1000)
    heap.free(buffer.handle)
    small = [heap.alloc(16) for _ in range(100)]
    with pytest.raises(shmheap.Stale):
        memoryview(buffer)
    with pytest.raises(shmheap.Stale):
        buffer.write(500, b"x")
    for one in small:
        one.free()


def test_views_stay_when_others_free_the_object(heap: shmheap.Heap) -> None:
    view = memoryview(heap.alloc(1 << 20, zero=True))
    handle = heap.handle(view)
    child = os.fork()
    if child == 0:
        # Its copy of the view counts in this process.
        view.release()
        heap.free(handle)
        heap.trim()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    view[-1] = 1
    assert len(bytes(view)) == 1 << 20
    view.release()
    with pytest.raises(shmheap.InvalidHandle):
        heap.resolve(handle)


def test_a_hundred_thousand_objects(heap: shmheap.Heap) -> None:
    buffers = [heap.alloc(16 + number % 100) for number in range(100_000)]
    assert len({buffer.handle for buffer in buffers}) == 100_000
    for number in range(0, 100_000, 7):
        buffers[number].write(0, number.to_bytes(4, "little"))
    for number in range(0, 100_000, 7):
        assert bytes(buffers[number])[:4] == number.to_bytes(4, "little")
    for buffer in buffers:
        buffer.free()
    assert heap.stats().live_objects == 0


def views_of(buffer: Any, random_: random.Random) -> Any:
    view = memoryview(buffer)
    try:
        import numpy
    except ImportError:
        return view[random_.randrange(len(view)) :]
    kind = random_.randrange(3)
    if kind == 0:
        return view[random_.randrange(len(view)) :]
    array = numpy.frombuffer(view if kind == 1 else buffer, numpy.uint8)
    return array[random_.randrange(len(array)) :]


class Hoard:
    """Heaps, buffers and views of one heap in this process, which come and go at random."""

    def __init__(self, name: str, random_: random.Random) -> None:
        self.name = name
        self.random = random_
        self.heaps = [shmheap.connect(name)]
        self.buffers: list[shmheap.Buffer] = []
        self.views: list[tuple[Any, int]] = []
        self.live: set[int] = set()

    def any_of(self, things: list[Any]) -> Any:
        return things.pop(self.random.randrange(len(things))) if things else None

    def connect(self) -> None:
        self.heaps.append(shmheap.connect(self.name, read_only=self.random.random() < 0.3))

    def close(self) -> None:
        heap = self.any_of(self.heaps)
        if heap is not None and self.random.random() < 0.5:
            heap.close()

    def alloc(self) -> None:
        size = self.random.choice([1, 100, 5000, 100_000])
        try:
            buffer = self.random.choice(self.heaps).alloc(size)
        except (shmheap.Full, shmheap.ReadOnly, IndexError):
            return
        memoryview(buffer)[:] = bytes([buffer.handle % 251]) * size
        self.buffers.append(buffer)
        self.live.add(buffer.handle)

    def resolve(self) -> None:
        if self.live and self.heaps:
            handle = self.random.choice(sorted(self.live))
            self.buffers.append(self.random.choice(self.heaps).resolve(handle, 1))

    def look(self) -> None:
        buffer = self.any_of(self.buffers)
        if buffer is None:
            return
        try:
            self.views.append((views_of(buffer, self.random), buffer.handle))
            assert buffer.handle in self.live
        except shmheap.InvalidHandle:
            assert buffer.handle not in self.live
        if self.random.random() < 0.5:
            self.buffers.append(buffer)

    def look_away(self) -> None:
        looked = self.any_of(self.views)
        if looked is not None:
            view, handle = looked
            assert handle in self.live
            assert bytes(view)[0] == handle % 251

    def free(self) -> None:
        buffer = self.any_of(self.buffers)
        if buffer is None or buffer.readonly:
            return
        seen = any(handle == buffer.handle for _, handle in self.views)
        try:
            buffer.free()
            assert not seen
            self.live.remove(buffer.handle)
        except BufferError:
            assert seen
        except shmheap.InvalidHandle:
            assert buffer.handle not in self.live

    def go_on(self, steps: int) -> None:
        ways = [self.connect, self.close, self.alloc, self.resolve, self.look, self.look_away]
        ways.append(self.free)
        for _ in range(steps):
            self.random.choice(ways)()
            if self.random.random() < 0.02:
                gc.collect()


def test_anything_may_go_first(name: str, seeded: random.Random) -> None:
    shmheap.create(name, 4 << 20).close()
    hoard = Hoard(name, seeded)
    hoard.go_on(5000)
    hoard.heaps.clear()
    hoard.buffers.clear()
    while hoard.views:
        hoard.look_away()
    gc.collect()
    assert not is_mapped(name)
    with shmheap.connect(name) as heap:
        assert heap.check().is_sound
        assert heap.stats().live_objects == len(hoard.live)


def both(one: Callable[[], Any], other: Callable[[], Any]) -> tuple[Any, Any]:
    """What two threads that start at once return, or raise."""
    results: list[Any] = [None, None]
    start = threading.Barrier(2)

    def run(which: int, call: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[which] = call()
        except Exception as error:
            results[which] = error

    threads = [threading.Thread(target=run, args=numbered) for numbered in enumerate((one, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results[0], results[1]


def test_an_object_is_either_looked_at_or_freed(heap: shmheap.Heap) -> None:
    for _ in range(500):
        buffer = heap.alloc(100)

        def look(buffer: Any = buffer) -> memoryview:
            return memoryview(buffer)

        view, freed = both(look, buffer.free)
        if freed is None:
            assert isinstance(view, shmheap.Stale)
        else:
            assert isinstance(freed, BufferError) and isinstance(view, memoryview)
            view.release()
            buffer.free()
    assert heap.stats().live_objects == 0


def test_of_two_who_free_an_object_one_does(heap: shmheap.Heap) -> None:
    """Else the second one frees what took its place."""
    kept = []
    for number in range(500):
        buffer = heap.alloc(100)

        def replace(buffer: shmheap.Buffer = buffer) -> shmheap.Buffer:
            buffer.free()
            return heap.alloc(100)

        other, freed = both(replace, buffer.free)
        if isinstance(other, shmheap.Stale):
            assert freed is None
            continue
        assert isinstance(freed, shmheap.Stale)
        other.write(0, number.to_bytes(4, "little"))
        kept.append(other)
    assert heap.stats().live_objects == len(kept)
    for other in kept:
        other.free()


class Frees:
    """Data whose bytes are asked for, which is when it frees what they are written to."""

    def __init__(self, buffer: shmheap.Buffer) -> None:
        self.buffer = buffer

    def __buffer__(self, flags: int) -> memoryview:
        self.buffer.free()
        return memoryview(b"new bytes")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no buffers made in Python")
def test_nothing_is_written_to_what_was_freed_meanwhile(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(100)
    data: Any = Frees(buffer)
    with pytest.raises(shmheap.Stale):
        buffer.write(0, data)


def test_nobody_frees_what_is_written_to(heap: shmheap.Heap) -> None:
    data = b"x" * (16 << 20)
    buffer = heap.alloc(len(data))
    for _ in range(20):
        old = buffer

        def replace(old: shmheap.Buffer = old) -> shmheap.Buffer:
            old.free()
            return heap.alloc(len(data), zero=True)

        def write(old: shmheap.Buffer = old) -> None:
            old.write(0, data)

        written, new = both(write, replace)
        if isinstance(new, shmheap.Buffer):
            assert written is None or isinstance(written, shmheap.InvalidHandle)
            assert bytes(new) == bytes(len(data))
            buffer = new
        else:
            assert isinstance(new, BufferError) and written is None
    buffer.free()


def test_threads_share_a_heap(heap: shmheap.Heap, seeded: random.Random) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        random_ = random.Random(seed)
        mine: list[shmheap.Buffer] = []
        try:
            for _ in range(3000):
                if random_.random() < 0.5 or not mine:
                    mine.append(heap.alloc(random_.choice([8, 200, 3000])))
                    mine[-1].write(0, seed.to_bytes(8, "little"))
                else:
                    buffer = mine.pop(random_.randrange(len(mine)))
                    assert bytes(memoryview(buffer)[:8]) == seed.to_bytes(8, "little")
                    buffer.free()
            for buffer in mine:
                buffer.free()
        except BaseException as failure:
            failures.append(failure)

    seeds = [seeded.randrange(1 << 32) for _ in range(4)]
    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert heap.stats().live_objects == 0
