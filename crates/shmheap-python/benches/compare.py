"""How long it takes to hand things from process to process: here, and by what Python brings along.

    python benches/compare.py [--rounds N]

Prints a table for a Markdown document. Each figure is the median of rounds; the ways take turns
within a round, so that what else the machine does hits all of them alike. Build the package in
release mode before, as pip does. Ray's object store is measured, too, if it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

import numpy as np

import shmheap

#: What is measured, with how many operations for one round, and the ways to do it. The first way is
#: the one that the others are compared with.
Round = Callable[[], float]
Case = tuple[str, int, dict[str, Round]]


def timed(operations: int, work: Callable[[int], Any]) -> float:
    """Seconds for one."""
    start = time.perf_counter()
    for number in range(operations):
        work(number)
    return (time.perf_counter() - start) / operations


# Segments


def segments(count: int, size: int) -> Case:
    def with_class(cls: Any) -> Round:
        def one(number: int) -> None:
            memory = cls(create=True, size=size)
            other = cls(memory.name)
            other.buf[0] = 1
            other.close()
            memory.close()
            memory.unlink()

        return lambda: timed(count, one)

    def allocate(heap: shmheap.Heap) -> Round:
        def one(number: int) -> None:
            buffer = heap.alloc(size, zero=True)
            view = memoryview(heap.resolve(buffer.handle))
            view[0] = 1
            view.release()
            buffer.free()

        return lambda: timed(count, one)

    heap = shmheap.create_memfd(64 << 20)
    ways = {
        "shmheap.SharedMemory": with_class(shmheap.SharedMemory),
        "heap.alloc, resolve, free": allocate(heap),
        "multiprocessing.shared_memory": with_class(shared_memory.SharedMemory),
    }
    return f"make, open, write, remove {size:,} bytes", count, ways


def many_segments(count: int, size: int) -> Case:
    """All of them at once."""

    def with_class(cls: Any) -> Round:
        def work() -> float:
            start = time.perf_counter()
            made = [cls(create=True, size=size) for _ in range(count)]
            for memory in made:
                memory.close()
                memory.unlink()
            return (time.perf_counter() - start) / count

        return work

    ways = {
        "shmheap.SharedMemory": with_class(shmheap.SharedMemory),
        "multiprocessing.shared_memory": with_class(shared_memory.SharedMemory),
    }
    return f"{count:,} segments of {size:,} bytes at once, for each", count, ways


# Dictionaries


def dictionaries(count: int, size: int, manager: Any) -> list[Case]:
    heap = shmheap.create_memfd(64 << 20)
    value = bytes(size)
    maps = {"shmheap.Map": heap.map("map"), "multiprocessing.Manager().dict()": manager.dict()}
    for map_ in maps.values():
        for number in range(100):
            map_[str(number)] = value

    def get(map_: Any) -> Round:
        return lambda: timed(count, lambda number: map_[str(number % 100)])

    def set_(map_: Any) -> Round:
        return lambda: timed(count, lambda number: map_.__setitem__(str(number % 100), value))

    getting = {way: get(map_) for way, map_ in maps.items()}
    setting = {way: set_(map_) for way, map_ in maps.items()}
    return [
        (f"get {size:,} bytes from a shared dictionary", count, getting),
        (f"set {size:,} bytes in a shared dictionary", count, setting),
    ]


# Queues


def echo(receive: Any, send: Any) -> None:
    """Takes arrays, and answers with a byte of each."""
    while True:
        array = receive()
        if array is None:
            return
        send(int(array[-1]))
        del array


def through_heap(heap: shmheap.Heap) -> None:
    echo(heap.channel("there").recv, heap.channel("back").send)


def through_queues(there: Any, back: Any) -> None:
    echo(there.get, back.put)


def through_segments(there: Any, back: Any) -> None:
    def receive() -> Any:
        found = there.get()
        if found is None:
            return None
        name, size = found
        memory = shared_memory.SharedMemory(name)
        array = np.ndarray(size, np.uint8, buffer=memory.buf).copy()
        memory.close()
        return array

    echo(receive, back.put)


class Echoes:
    """A process for each way to hand over an array, and the ways."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.heap = shmheap.create_memfd(256 << 20)
        self.queues = [context.Queue() for _ in range(4)]
        targets: list[tuple[Any, tuple[Any, ...]]] = [
            (through_heap, (self.heap,)),
            (through_queues, tuple(self.queues[:2])),
            (through_segments, tuple(self.queues[2:])),
        ]
        self.processes = [context.Process(target=t, args=a, daemon=True) for t, a in targets]
        for process in self.processes:
            process.start()

    def case(self, count: int, size: int) -> Case:
        data = np.ones(size, np.uint8)
        there, back = self.heap.channel("there"), self.heap.channel("back")

        def in_place(number: int) -> None:
            array = there.array(size, "u1")
            array[:] = data
            there.send(array)
            del array
            back.recv()

        def pickled(number: int) -> None:
            there.send(data)
            back.recv()

        def queue(number: int) -> None:
            self.queues[0].put(data)
            self.queues[1].get()

        def segment(number: int) -> None:
            memory = shared_memory.SharedMemory(create=True, size=size)
            np.ndarray(size, np.uint8, buffer=memory.buf)[:] = data
            self.queues[2].put((memory.name, size))
            self.queues[3].get()
            memory.close()
            memory.unlink()

        ways = {
            "shmheap.Channel, array made for it": lambda: timed(count, in_place),
            "shmheap.Channel, array put into it": lambda: timed(count, pickled),
            "pickled through multiprocessing.Queue": lambda: timed(count, queue),
            "shared_memory, name through a Queue": lambda: timed(count, segment),
        }
        return f"an array of {size:,} bytes to another process, and an answer", count, ways

    def end(self) -> None:
        self.heap.channel("there").send(None)
        self.queues[0].put(None)
        self.queues[2].put(None)
        for process in self.processes:
            process.join()


# Values


def values(count: int, size: int) -> Case:
    heap = shmheap.create_memfd(256 << 20)
    value = {"array": np.ones(size, np.uint8), "number": 7}

    def put_and_get(number: int) -> None:
        handle = heap.put(value)
        heap.get(handle)
        heap.free(handle)

    ways: dict[str, Round] = {"heap.put, get, free": lambda: timed(count, put_and_get)}
    if importlib.util.find_spec("ray") is not None:
        ray: Any = importlib.import_module("ray")
        ray.init(ignore_reinit_error=True, log_to_driver=False)
        ways["ray.put, get"] = lambda: timed(count, lambda number: ray.get(ray.put(value)))
    return f"put and get a value with {size:,} bytes in one process", count, ways


def print_case(case: Case, rounds: int) -> None:
    what, _, ways = case
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            times[way].append(work())
    medians = {way: statistics.median(each) for way, each in times.items()}
    ours = next(iter(medians.values()))
    print(f"\n{what}:\n\n| | us | ratio |\n|---|--:|--:|")
    for way, median in medians.items():
        print(f"| {way} | {median * 1e6:,.1f} | {median / ours:.1f} |")


def machine() -> str:
    model = platform.processor()
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, load {load:.1f} at the start"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each case (default 9)")
    rounds = parser.parse_args().rounds
    print(f"{machine()}; medians of {rounds} rounds.")
    os.environ["SHMHEAP_SHARED_MEMORY"] = f"/shmheap-bench-{os.getpid()}"
    print_case(segments(300, 4096), rounds)
    print_case(segments(50, 1 << 20), rounds)
    print_case(many_segments(2000, 1000), rounds)
    with multiprocessing.get_context("spawn").Manager() as manager:
        for size in (100, 10_000):
            for case in dictionaries(500, size, manager):
                print_case(case, rounds)
    echoes = Echoes()
    for count, size in ((200, 1000), (50, 1 << 20), (10, 16 << 20)):
        print_case(echoes.case(count, size), rounds)
    echoes.end()
    for count, size in ((500, 1000), (50, 1 << 20)):
        print_case(values(count, size), rounds)


if __name__ == "__main__":
    main()
