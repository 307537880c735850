"""Heaps and objects in other processes: forked, spawned, served, and killed."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import multiprocessing.process
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import shmheap
from shmheap import _references

METHODS = ["fork", "spawn", "forkserver"]
#: Longer than a process ever needs; only a failing test waits for it.
DEADLINE_S = 60


def context_of(method: str) -> Any:
    return multiprocessing.get_context(method)


def run(method: str, target: Any, *arguments: Any) -> Any:
    """What the target sends back from a process of its own."""
    context = context_of(method)
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments))
    process.start()
    there.close()
    try:
        assert here.poll(DEADLINE_S), "no answer"
        answer = here.recv()
    finally:
        process.join(DEADLINE_S)
        if process.is_alive():
            process.kill()
            process.join()
    assert process.exitcode == 0
    return answer


def use_heap(pipe: Any, heap: shmheap.Heap, buffer: shmheap.Buffer) -> None:
    content = bytes(buffer)
    buffer.write(0, b"child")
    handle = heap.put([1, 2, 3])
    peers = sum(peer.alive for peer in heap.peers())
    pipe.send((content, handle, peers, buffer.connection is heap._connection))
    pipe.recv()


@pytest.fixture(params=["name", "file", "memfd"])
def found(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> shmheap.Heap:
    """A heap that is found in one of the ways there are."""
    if request.param == "name":
        return shmheap.create(name, 1 << 20)
    if request.param == "file":
        return shmheap.create_file(tmp_path / "heap", 1 << 20)
    return shmheap.create_memfd(1 << 20)


@pytest.mark.parametrize("method", METHODS)
def test_heaps_and_buffers_go_along(method: str, found: shmheap.Heap) -> None:
    heap = found
    buffer = heap.alloc(6)
    buffer.write(0, b"parent")
    context = context_of(method)
    here, there = context.Pipe()
    process = context.Process(target=use_heap, args=(there, heap, buffer))
    process.start()
    assert here.poll(DEADLINE_S), "no answer"
    content, handle, peers, shares = here.recv()
    here.send(None)
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    assert content == b"parent" and bytes(buffer) == b"childt"
    assert heap.get(handle) == [1, 2, 3], "objects outlive their process"
    assert peers == 2 and shares
    heap.sweep()
    assert len(heap.peers()) == 1


def answer(pipe: Any) -> None:
    heap, buffer = pipe.recv()
    made = heap.alloc(3)
    made.write(0, bytes(buffer)[::-1])
    pipe.send((heap, made))
    pipe.recv()


def test_heaps_and_buffers_go_through_a_pipe_in_both_directions(found: shmheap.Heap) -> None:
    heap = found
    context = context_of("spawn")
    here, there = context.Pipe()
    process = context.Process(target=answer, args=(there,))
    process.start()
    buffer = heap.alloc(3)
    buffer.write(0, b"abc")
    here.send((heap, buffer))
    assert here.poll(DEADLINE_S), "no answer"
    again, made = here.recv()
    assert bytes(made) == b"cba" and made.connection is again._connection is heap._connection
    here.send(None)
    process.join(DEADLINE_S)
    assert process.exitcode == 0


def sum_of(pipe: Any, heap: shmheap.Heap, handle: int) -> None:
    array = heap.asarray(handle)
    array *= 2
    made = heap.array(3, "i8")
    made[:] = [os.getpid(), 1, 2]
    pipe.send((array.sum(), heap.handle(made), os.getpid()))


@pytest.mark.parametrize("method", METHODS)
def test_arrays_are_shared(method: str, heap: shmheap.Heap) -> None:
    pytest.importorskip("numpy")
    array = heap.array((100, 100))
    array[:] = 1.5
    total, handle, pid = run(method, sum_of, heap, heap.handle(array))
    assert total == array.sum() == 30_000
    assert heap.asarray(handle).tolist() == [pid, 1, 2]


def test_what_goes_through_a_pool(heap: shmheap.Heap) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        buffers = [heap.alloc(8, zero=True) for _ in range(20)]
        assert pool.map(fill, list(enumerate(buffers))) == list(range(20))
    for number, buffer in enumerate(buffers):
        assert bytes(buffer) == number.to_bytes(8, "little")


def fill(numbered: tuple[int, shmheap.Buffer]) -> int:
    number, buffer = numbered
    buffer.write(0, number.to_bytes(8, "little"))
    return number


def test_references_find_the_same_connection_in_the_same_process(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(10)
    again, found = pickle.loads(pickle.dumps((heap, buffer)))
    assert found.handle == buffer.handle and len(found) == 10
    assert found.connection is buffer.connection is again._connection
    assert len(heap.peers()) == 1
    assert heap.name is not None
    reader = shmheap.connect(heap.name, read_only=True)
    again, found = pickle.loads(pickle.dumps((reader, reader.resolve(buffer.handle))))
    assert again.read_only and found.readonly
    assert found.connection is reader._connection is not heap._connection


def test_a_reference_to_a_heap_that_is_gone_is_refused(name: str) -> None:
    heap = shmheap.create(name, 1 << 20)
    reference = pickle.dumps(heap)
    shmheap.destroy(name)
    del heap
    gc.collect()
    with pytest.raises(shmheap.NotFound):
        pickle.loads(reference)
    with shmheap.create(name, 1 << 20):
        with pytest.raises(shmheap.NotFound, match="not the one"):
            pickle.loads(reference)


PICKLES = """
import multiprocessing.process, pickle, sys, shmheap
multiprocessing.process.current_process().authkey = b"key"
heap = shmheap.create_memfd(1 << 20)
sys.stdout.buffer.write(pickle.dumps(heap))
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reference_to_a_heap_without_a_name_is_for_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heap = shmheap.create_memfd(1 << 20)
    reference = pickle.dumps(heap)
    for _ in range(3):
        assert pickle.loads(reference)._connection is heap._connection
    monkeypatch.setattr(multiprocessing.process.current_process(), "authkey", b"key")
    command = [sys.executable, "-c", PICKLES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        reference = os.read(process.stdout.fileno(), 1 << 16)
        found = pickle.loads(reference)
        assert found.stats().peers_alive == 2
        del found
        gc.collect()
        with pytest.raises(shmheap.NotFound, match="used already"):
            pickle.loads(reference)
        process.communicate()
    with pytest.raises(shmheap.NotFound, match="has ended"):
        pickle.loads(reference)


class Withheld:
    """A descriptor that cannot be had."""

    def __init__(self, why: OSError) -> None:
        self.why = why

    def detach(self) -> int:
        raise self.why


def test_why_a_descriptor_is_not_received_is_told() -> None:
    gone = ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")
    with pytest.raises(shmheap.NotFound) as refused:
        _references.rebuild_connection("memfd", Withheld(gone), 1, False)
    assert refused.value.__cause__ is gone
    for number in (errno.EMFILE, errno.ENFILE):
        with pytest.raises(OSError) as full:
            _references.rebuild_connection("memfd", Withheld(OSError(number, "too many")), 1, False)
        assert full.value.errno == number and not isinstance(full.value, shmheap.Error)


def test_a_reference_to_an_object_that_is_gone_is_refused(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(10)
    reference = pickle.dumps(buffer)
    heap.free(buffer.handle)
    with pytest.raises(shmheap.InvalidHandle):
        pickle.loads(reference)


def test_a_descriptor_is_enough() -> None:
    heap = shmheap.create_memfd(1 << 20)
    assert heap.name is None and "memfd" in repr(heap)
    fd = heap._connection.to_fd()
    handle = heap.put("value")
    with shmheap.connect_fd(fd) as other, shmheap.connect_fd(fd, read_only=True) as reader:
        assert other.get(handle) == reader.get(handle) == "value"
    os.close(fd)
    with pytest.raises(shmheap.System):
        shmheap.connect_fd(fd)
    for fd in os.pipe():
        with pytest.raises(shmheap.NotAHeap):
            shmheap.connect_fd(fd, read_only=True)
        os.close(fd)


def churn(pipe: Any, heap: shmheap.Heap) -> None:
    mine: list[int] = []
    number = 0
    while True:
        number += 1
        if len(mine) < 50:
            mine.append(heap.put({"number": number, "filler": b"x" * (number % 4000)}))
        else:
            heap.free(mine.pop(number % 50))
        heap[f"last-{os.getpid()}"] = heap.resolve(mine[-1])
        if number == 100:
            pipe.send(os.getpid())


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_killed_in_the_middle_costs_nobody_anything(
    method: str, heap: shmheap.Heap
) -> None:
    context = context_of(method)
    kept = heap.put("kept")
    for _ in range(4 if method == "spawn" else 8):
        here, there = context.Pipe()
        process = context.Process(target=churn, args=(there, heap))
        process.start()
        assert here.poll(DEADLINE_S), "no answer"
        pid = here.recv()
        os.kill(pid, signal.SIGKILL)
        process.join(DEADLINE_S)
        assert process.exitcode == -signal.SIGKILL
        heap.free(heap.put([pid] * 100))
        report = heap.check()
        assert report.is_sound, report.findings
    assert heap.get(kept) == "kept"
    heap.sweep()
    assert [peer.alive for peer in heap.peers()] == [True]


def test_a_forked_child_goes_on_with_what_it_has(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(4)
    view = memoryview(buffer)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            view[:] = b"done"
            made = heap.alloc(100)
            heap["from the child"] = made
            heap.close()
            del made, view, buffer
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(view) == b"done"
    assert len(heap["from the child"]) >= 100
    assert [peer.alive for peer in heap.peers()] == [True], "the child disconnected"


def test_children_forked_beside_busy_threads_work(
    heap: shmheap.Heap, seeded: random.Random
) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        random_ = random.Random(seed)
        try:
            while not stop.is_set():
                buffer = heap.alloc(random_.choice([10, 1000, 300_000]), zero=True)
                view = memoryview(buffer)
                view[-1] = 1
                view.release()
                buffer.free()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(seeded.randrange(99),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for size in (10, 1000, 300_000):
                        buffer = heap.alloc(size, zero=True)
                        memoryview(buffer).release()
                        buffer.free()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_an_interpreter_that_ends_disconnects(heap: shmheap.Heap) -> None:
    assert heap.name is not None
    code = f"import shmheap; heap = shmheap.connect({heap.name!r}); kept = heap.alloc(10)"
    status = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code])
    assert status == 0
    assert [peer.alive for peer in heap.peers()] == [True]
    assert heap.stats().live_objects == 1
