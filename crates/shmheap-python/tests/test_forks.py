"""Forked children: what they hold of the segments that their parent has open."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from workers import DEADLINE_S, Worker

import shmheap
from shmheap import SharedMemory, _forks

pytestmark = pytest.mark.usefixtures("own_shared_memory")

LEN_BYTES = 100_000

FORKS = """
import os, sys
end, other = os.pipe()

def close():
    memory.unlink()
    memory.close()

os.register_at_fork(
    # In the child before anything else.
    after_in_child=lambda: os.read(end, 1),
    # Before the parent knows that it has forked, as another thread may.
    after_in_parent=lambda: close() if sys.argv[1] == "early" else None,
)
import shmheap
heap = shmheap.shared_memory_heap()
before = heap.stats().live_bytes
memory = shmheap.SharedMemory("name", create=True, size=100_000)
memory.buf[:] = b"a" * 100_000
child = os.fork()
if child == 0:
    found = bytes(memory.buf)
    os._exit(0 if found == b"a" * 100_000 else 1)
if sys.argv[1] == "late":
    close()
fillers = [shmheap.SharedMemory(create=True, size=100_000) for _ in range(5)]
for filler in fillers:
    filler.buf[:] = b"b" * 100_000
os.write(other, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for filler in fillers:
    filler.unlink()
    filler.close()
heap.sweep()
print(heap.stats().live_bytes - before < 100_000)
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_child_keeps_what_its_parent_closes_at_once(when: str) -> None:
    command = [sys.executable, "-c", FORKS, when]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    assert done.stdout == "0\nTrue\n"


def test_another_segment_may_be_opened_at_any_moment_of_a_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_descriptors()
    memories = [SharedMemory("name", create=True, size=10)]

    def opens(frame: Any, event: str, argument: Any) -> Any:
        """As another thread does between any two lines of this one."""
        if event == "line":
            memories.append(SharedMemory("name"))
        return opens

    ignored: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", ignored.append)
        tracer = sys.gettrace()
        sys.settrace(opens)
        child = os.fork()
        if child == 0:
            os._exit(len(ignored))
        sys.settrace(tracer)
    assert os.waitpid(child, 0)[1] == 0 and not ignored
    assert len(memories) > 10
    memories[0].unlink()
    for memory in memories:
        memory.close()
    assert open_descriptors() <= before + 1, "the heap"


def filled(heap: shmheap.Heap) -> list[shmheap.Buffer]:
    """What takes all that the heap has left."""
    fillers = []
    for size in (64 << 10, 4 << 10, 256, 16):
        try:
            while True:
                fillers.append(heap.alloc(size))
        except shmheap.Full:
            pass
    return fillers


def look(pipe: Any, memory: SharedMemory, view: memoryview) -> None:
    segment: Any = memory._segment
    looks: list[Callable[[], Any]] = [lambda: memory.buf, lambda: memoryview(segment)]
    for look in looks:
        try:
            look()
            pipe.send("there")
        except shmheap.Full:
            pipe.send("full")
    pipe.recv()
    pipe.send(bytes(view))
    pipe.send(bytes(memory.buf or b""))


def test_a_child_that_cannot_hold_a_segment_says_so_and_has_it_kept(name: str) -> None:
    heap = shmheap.create(name, 1 << 20)
    shmheap.shared_memory_heap(heap)
    memory = SharedMemory("name", create=True, size=LEN_BYTES)
    # To hold what is held eight times takes room in the heap.
    others = [SharedMemory("name") for _ in range(7)]
    assert memory.buf is not None
    memory.buf[:] = b"a" * LEN_BYTES
    fillers = filled(heap)
    with Worker(look, memory, memory.buf) as worker:
        assert (worker.answer(), worker.answer()) == ("full", "full")
        for filler in fillers:
            filler.free()
        memory.unlink()
        for one in [memory, *others]:
            one.close()
        new = [buffer for buffer in filled(heap) if len(buffer) > 4]
        for buffer in new:
            buffer.write(0, b"b" * len(buffer))
        for buffer in new[::2]:
            buffer.free()
        worker.pipe.send("go on")
        assert worker.answer() == worker.answer() == b"a" * LEN_BYTES
        worker.end()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_forks_leave_no_descriptors_open() -> None:
    memory = SharedMemory(create=True, size=10)
    before = open_descriptors()
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if open_descriptors() == before else 1)
        assert os.waitpid(child, 0)[1] == 0
    memory.unlink()
    memory.close()
    assert open_descriptors() == before


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """A segment that a child is about to hold, which takes its time."""
    memory = SharedMemory(create=True, size=10)
    assert memory._segment is not None
    end, other = os.pipe()
    _forks._children.append(_forks._Child(end, {memory._segment}))
    yield memory
    os.close(other)
    _forks._settle(None)
    with pytest.raises(OSError):
        os.fstat(end)


def test_a_child_that_is_waited_for_is_not_forgotten_meanwhile(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = []

    def fork(child: _forks._Child, patience_ms: int) -> bool:
        if patience_ms > 0:
            pid = os.fork()
            if pid == 0:
                try:
                    os.fstat(child.pipe)
                except OSError:
                    os._exit(0)
                os._exit(1)
            statuses.append(os.waitpid(pid, 0)[1])
        return True

    with monkeypatch.context() as patch:
        patch.setattr(_forks._Child, "is_awaited", fork)
        memory.close()
    assert statuses == [0]


def test_who_collects_garbage_waits_for_no_child(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    patiences = []

    def is_awaited(child: _forks._Child, patience_ms: int) -> bool:
        patiences.append(patience_ms)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(_forks._Child, "is_awaited", is_awaited)
        memory.__del__()
    assert patiences == [0]
