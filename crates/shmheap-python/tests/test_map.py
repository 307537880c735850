"""Maps: as a dict, for all processes, with whole values, whoever is killed."""

from __future__ import annotations

import mmap
import os
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Container
from typing import Any

import pytest
from workers import DEADLINE_S, Worker

import shmheap

#: As they are and hashed, empty, not of ASCII.
KEYS = ["", "a", "x" * 31, "x" * 32, "ü" * 15, "ü" * 16, "long " * 100, "long " * 100 + "other"]


def test_it_is_a_dictionary(heap: shmheap.Heap) -> None:
    map_ = heap.map("map")
    before = heap.stats().live_objects
    assert not map_ and len(map_) == 0 and list(map_) == []
    for number, key in enumerate(KEYS):
        map_[key] = key.encode() * number
    other = heap.map("map")
    assert len(other) == len(KEYS) and sorted(other) == sorted(KEYS)
    assert dict(other) == {key: key.encode() * number for number, key in enumerate(KEYS)}
    keys: Container[object] = other
    assert "a" in keys and "b" not in keys and 7 not in keys
    assert other.get("b") is None and other.get("b", b"else") == b"else"
    with pytest.raises(KeyError):
        other["b"]
    with pytest.raises(KeyError):
        other.pop("b")
    with pytest.raises(KeyError):
        del other["b"]
    other["a"] = memoryview(bytearray(b"again"))
    assert map_["a"] == b"again"
    assert map_.pop("a") == b"again" and map_.pop("a", None) is None
    assert map_.setdefault("a", b"first") == b"first" == other.setdefault("a", b"second")
    del map_["a"]
    map_.update({"b": b"1", "c": b"2"})
    assert dict(other.items())["b"] == b"1" and b"2" in other.values()
    items: Container[object] = other.items()
    assert ("b", b"1") in items and ("b", b"2") not in items
    assert ("x", None) not in items and (7, b"") not in items and 7 not in items
    other.clear()
    assert len(map_) == 0
    with pytest.raises(TypeError):
        map_["a"] = "text"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        map_[1]  # type: ignore[index]
    assert "\udc80" not in keys, "half a character"
    tables = heap.stats().live_objects - before
    assert tables <= 32, "values are freed, tables stay"


def test_values_of_all_sizes_against_a_dict(
    heap: shmheap.Heap, seeded: random.Random
) -> None:
    map_, model = heap.map("map"), dict[str, bytes]()
    for _ in range(3000):
        key = f"{seeded.randrange(50):0{seeded.choice([1, 40])}}"
        if seeded.random() < 0.3:
            assert map_.pop(key, None) == model.pop(key, None)
        else:
            size = seeded.choice([0, 1, 10, 100, 10_000])
            map_[key] = model[key] = bytes([seeded.randrange(256)]) * size
        other = seeded.choice(list(model) or [""])
        assert map_.get(other) == model.get(other)
    assert dict(map_) == model
    map_["large"] = bytes(range(256)) * 4096
    assert map_["large"] == bytes(range(256)) * 4096
    map_.clear()
    empty = heap.stats().live_objects
    map_["key"] = b"value"
    assert heap.stats().live_objects == empty + 1


def test_a_value_that_does_not_fit_changes_nothing(heap: shmheap.Heap) -> None:
    map_ = heap.map("map")
    map_["key"] = b"value"
    before = heap.stats().live_objects
    with pytest.raises(shmheap.Full):
        map_["key"] = bytes(100 << 20)
    assert map_["key"] == b"value" and heap.stats().live_objects == before


def set_without_end(pipe: Any, heap: shmheap.Heap, seed: int) -> None:
    random_, map_ = random.Random(seed), heap.map("map")
    pipe.send("ready")
    while True:
        key = f"{random_.randrange(8):0{random_.choice([1, 40])}}"
        if random_.random() < 0.1:
            map_.pop(key, None)
        else:
            size = random_.choice([8, 100, 5000, 300_000])
            map_[key] = struct.pack("<I", size) + bytes([random_.randrange(256)]) * size


def check_whole(map_: shmheap.Map) -> int:
    pairs = list(map_.items())
    for key, value in pairs:
        size = int.from_bytes(value[:4], "little")
        assert len(value) == 4 + size, key
        assert value[4:] == value[4:5] * size, f"{key}: torn"
    return len(pairs)


def test_readers_see_whole_values_while_writers_are_killed(
    heap: shmheap.Heap, seeded: random.Random
) -> None:
    map_ = heap.map("map")
    kills, looks = 6, 0
    for _ in range(kills):
        seed = seeded.randrange(1 << 32)
        with Worker(set_without_end, heap, seed) as one:
            with Worker(set_without_end, heap, seed + 1) as other:
                assert (one.answer(), other.answer()) == ("ready", "ready")
                for _ in range(30):
                    looks += check_whole(map_)
                one.kill()
                check_whole(map_)
                other.kill()
        report = heap.check()
        assert report.is_sound, report.findings
    assert looks > 0
    heap.sweep()
    map_.clear()
    # The root, two tables for each sixteenth of the index, and one value of each that was killed.
    assert heap.stats().live_objects <= 1 + 32 + 2 * kills


def test_of_several_who_set_a_default_all_get_the_same(heap: shmheap.Heap) -> None:
    map_ = heap.map("map")
    for number in range(50):
        got: list[bytes] = []

        def try_it(mine: bytes, key: str = str(number), got: list[bytes] = got) -> None:
            got.append(heap.map("map").setdefault(key, mine))

        threads = [threading.Thread(target=try_it, args=(bytes([one]),)) for one in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 4 and set(got) == {map_[str(number)]}


def take_all(pipe: Any, map_: shmheap.Map) -> None:
    mine = []
    pipe.send("ready")
    pipe.recv()
    while True:
        try:
            mine.append(map_.popitem()[0])
        except KeyError:
            assert len(map_) == 0
            break
    pipe.send(mine)


def test_of_several_who_pop_items_each_gets_others(heap: shmheap.Heap) -> None:
    map_ = heap.map("map")
    map_.update({str(number): b"" for number in range(3000)})
    with Worker(take_all, map_) as one, Worker(take_all, map_) as other:
        assert (one.answer(), other.answer()) == ("ready", "ready")
        one.pipe.send("go")
        other.pipe.send("go")
        taken = one.answer() + other.answer()
        one.end()
        other.end()
    assert sorted(map(int, taken)) == list(range(3000))


POPS = """
import resource, sys, shmheap
map_ = shmheap.connect(sys.argv[1]).map("map")
with open("/proc/self/statm") as file:
    used_bytes = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used_bytes + (1 << 20), -1))
try:
    map_.pop("key")
except MemoryError:
    print("no memory")
"""


def test_what_cannot_be_copied_is_not_popped(heap: shmheap.Heap) -> None:
    map_ = heap.map("map")
    map_["key"] = bytes(32 << 20)
    assert heap.name is not None
    command = [sys.executable, "-c", POPS, heap.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    assert done.stdout == "no memory\n"
    assert map_.pop("key") == bytes(32 << 20)


class Grows:
    """Bytes that are more each time that they are asked for."""

    def __init__(self) -> None:
        self.size = 0

    def __buffer__(self, flags: int) -> memoryview:
        self.size += 100
        return memoryview(bytes([1]) * self.size)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no buffers made in Python")
def test_a_value_is_asked_for_once(heap: shmheap.Heap) -> None:
    value: Any = Grows()
    heap.map("map")["key"] = value
    assert heap.map("map")["key"] == bytes([1]) * 100


def test_lengths_that_somebody_has_overwritten_are_refused(heap: shmheap.Heap) -> None:
    map_ = heap.map("map")
    key = "a key that can be found " + os.urandom(16).hex()
    map_[key] = b"value"
    assert heap.name is not None
    with open(f"/dev/shm{heap.name}", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        at = memory.find(key.encode() + b"value") - 16
        assert struct.unpack_from("<QQ", memory, at) == (len(key), 5)
        for lengths in [(1 << 63, 5), (len(key), (1 << 64) - 1), (len(key), 1 << 40), (0, 1 << 32)]:
            struct.pack_into("<QQ", memory, at, *lengths)
            with pytest.raises(shmheap.Damaged):
                map_[key]
            with pytest.raises(shmheap.Damaged):
                list(map_)
        struct.pack_into("<QQ", memory, at, len(key), 5)
    assert map_[key] == b"value"


def test_observers_are_refused(heap: shmheap.Heap) -> None:
    assert heap.name is not None
    with shmheap.connect(heap.name, read_only=True) as observer:
        for refused in (observer.map, observer.mutex, observer.channel):
            with pytest.raises(shmheap.ReadOnly):
                refused("name")
