"""Serving processes share a cache of arrays, as of attention keys and values, and one of them dies.

    python kv_cache.py

Whoever computes the array of a prefix puts it into the heap, and into the map under a name; the
others find it there and look at it without a copy. Nobody coordinates them, and nobody has to be
alive: what a process that died has added is used by the others.

Arrays are never freed while somebody may look at them. Here nobody frees any; a cache that has to
make room frees what no server has had for longer than a request takes.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal

import numpy as np
from numpy.typing import NDArray

import shmheap

SERVERS = 4
REQUESTS = 200
PREFIXES = 30
SHAPE = (2, 8, 64, 32)  # keys and values, heads, tokens, size of a head
#: After so many requests the first server dies.
FATAL = REQUESTS // 2


def compute(prefix: str) -> NDArray[np.float32]:
    """What a model would compute: expensive, and the same for the same prefix."""
    number = int(prefix.split("-")[1])
    return np.full(SHAPE, number, np.float32)


class Cache:
    """Arrays by name: the map says the handles."""

    def __init__(self, heap: shmheap.Heap) -> None:
        self._heap = heap
        self._handles = heap.map("kv")

    def get(self, prefix: str) -> tuple[NDArray[np.float32], bool]:
        """The array of a prefix, and whether it was there."""
        found = self._handles.get(prefix)
        if found is not None:
            return self._heap.asarray(int.from_bytes(found, "little")), True
        array = self._heap.copy(compute(prefix))
        mine = self._heap.handle(array).to_bytes(8, "little")
        agreed = self._handles.setdefault(prefix, mine)
        if agreed != mine:  # another was first; nobody knows of this one
            del array
            self._heap.free(int.from_bytes(mine, "little"))
            array = self._heap.asarray(int.from_bytes(agreed, "little"))
        return array, False


def serve(heap: shmheap.Heap, seed: int, dies: bool) -> None:
    cache, chance = Cache(heap), random.Random(seed)
    done = heap.channel("done", SERVERS * REQUESTS, item_size=8)
    for request in range(REQUESTS):
        number = chance.randrange(PREFIXES)
        array, was_there = cache.get(f"prefix-{number}")
        assert array[1, -1, -1, -1] == number and array.mean() == number
        done.send(b"\1" if was_there else b"\0")
        if dies and request == FATAL:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    with shmheap.create_memfd(4 * PREFIXES * int(np.prod(SHAPE)) * 4) as heap:
        done = heap.channel("done", SERVERS * REQUESTS, item_size=8)
        context = multiprocessing.get_context("spawn")
        servers = [
            context.Process(target=serve, args=(heap, seed, seed == 0)) for seed in range(SERVERS)
        ]
        for server in servers:
            server.start()
        for server in servers:
            server.join()
        answers = []
        while (answer := done.try_recv()) is not None:
            answers.append(answer[0])
        killed = sum(server.exitcode == -signal.SIGKILL for server in servers)
        hits = sum(answers)
        print(f"{len(answers)} requests served, {hits} from the cache, {killed} server killed")
        print(f"{len(heap.map('kv'))} arrays in the cache; sound: {heap.check().is_sound}")


if __name__ == "__main__":
    main()
