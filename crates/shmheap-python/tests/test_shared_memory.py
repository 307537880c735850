"""SharedMemory: as the one of multiprocessing, whose own tests came first."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workers import DEADLINE_S, Worker

import shmheap
from shmheap import SharedMemory, _shared_memory
from shmheap._shmheap import Connection

pytestmark = pytest.mark.usefixtures("own_shared_memory")


def bytes_of(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None
    return memory.buf


def test_bytes_are_found_by_name(name: str) -> None:
    memory = SharedMemory("name", create=True, size=500)
    assert memory.name == "name" and memory.size == 500 == len(bytes_of(memory))
    assert bytes(bytes_of(memory)) == bytes(500), "zeros"
    assert "'name'" in repr(memory) and "500" in repr(memory)
    bytes_of(memory)[:5] = b"hello"
    same = SharedMemory("/name", size=10_000)
    assert same.size == 500 and bytes(bytes_of(same)[:5]) == b"hello"
    same.close()
    same.close()
    assert same.buf is None
    memory.unlink()
    assert shmheap.shared_memory_heap().name == name
    assert shmheap.shared_memory_heap().info().ephemeral


def test_failures_are_those_of_the_original() -> None:
    for size in (0, -1):
        with pytest.raises(ValueError):
            SharedMemory(create=True, size=size)
    for name in (None, "", "/", "nul\0", "x" * 121, "ü" * 61):
        with pytest.raises(ValueError):
            SharedMemory(name)
    for wrong in (7, b"name"):
        with pytest.raises(TypeError):
            SharedMemory(wrong)  # type: ignore[arg-type]
    memory = SharedMemory("name", create=True, size=10, track=False)
    with pytest.raises(FileExistsError) as exists:
        SharedMemory("name", create=True, size=10)
    assert exists.value.errno == 17
    SharedMemory("name").unlink()
    for again in (memory.unlink, lambda: SharedMemory("name")):
        with pytest.raises(FileNotFoundError) as not_found:
            again()
        assert not_found.value.errno == 2
    with pytest.raises(MemoryError):
        SharedMemory(create=True, size=1 << 60)
    shmheap.shared_memory_heap().channel("channel")
    for create in (False, True):
        with pytest.raises(shmheap.WrongType):
            SharedMemory("channel", create, 10)


def test_what_is_looked_at_is_not_closed() -> None:
    memory = SharedMemory(create=True, size=10)
    view = bytes_of(memory)[2:]
    with pytest.raises(BufferError):
        memory.close()
    memory.unlink()
    del memory
    view[0] = 7
    assert view[0] == 7


def test_bytes_live_as_long_as_somebody_has_them() -> None:
    heap = shmheap.shared_memory_heap()
    memory = SharedMemory("name", create=True, size=10_000)
    other = SharedMemory("name")
    before = heap.stats().live_objects
    memory.unlink()
    bytes_of(other)[:3] = b"abc"
    new = SharedMemory("name", create=True, size=10)
    assert bytes(bytes_of(memory)[:3]) == b"abc" and bytes_of(new)[0] == 0
    memory.close()
    assert bytes(bytes_of(other)[:3]) == b"abc"
    other.close()
    new.unlink()
    new.close()
    assert heap.stats().live_objects < before
    kept = SharedMemory("kept", create=True, size=10)
    bytes_of(kept)[0] = 1
    kept.close()
    kept = SharedMemory("kept")
    assert bytes_of(kept)[0] == 1, "as long as it has the name"


def write(pipe: Any, memory: SharedMemory, name: str, variable: str) -> None:
    # The server that forks has the environment of when it was started.
    os.environ["SHMHEAP_SHARED_MEMORY"] = variable
    bytes_of(memory)[:5] = b"hello"
    found = SharedMemory(name)
    bytes_of(found)[5:11] = b" world"
    found.close()
    pipe.send(memory.name == found.name)
    pipe.recv()
    bytes_of(memory)[:5] = b"HELLO"
    pipe.send(bytes(bytes_of(memory)[:11]))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_find_and_keep_them(method: str, name: str) -> None:
    heap = shmheap.shared_memory_heap()
    before = heap.stats().live_objects
    memory = SharedMemory(create=True, size=11)
    with Worker(write, memory, memory.name, name, method=method) as worker:
        assert worker.answer() is True
        assert bytes(bytes_of(memory)) == b"hello world"
        memory.unlink()
        memory.close()
        filler = [heap.alloc(64, align=64, zero=True) for _ in range(100)]
        worker.pipe.send("go on")
        assert worker.answer() == b"HELLO world"
        worker.end()
    for buffer in filler:
        assert bytes(buffer) == bytes(64)
        buffer.free()
    heap.sweep()
    # Some tables of the registry stay.
    assert heap.stats().live_objects <= before + 2


def hold(pipe: Any, name: str) -> None:
    memory = SharedMemory(name)
    pipe.send(memory.size)
    pipe.recv()


def test_the_dead_hold_nothing_and_remove_nothing() -> None:
    heap = shmheap.shared_memory_heap()
    memory = SharedMemory("name", create=True, size=100_000)
    with Worker(hold, "name") as worker:
        assert worker.answer() == 100_000
        worker.kill()
    assert SharedMemory("name").size == 100_000
    with Worker(hold, "name") as worker:
        assert worker.answer() == 100_000
        memory.unlink()
        memory.close()
        before = heap.stats().live_bytes
        worker.kill()
    heap.sweep()
    assert heap.stats().live_bytes <= before - 100_000


def make_again_and_again(pipe: Any, name: str) -> None:
    while True:
        memory = SharedMemory(name, create=True, size=64 << 20)
        memory.unlink()
        memory.close()


@contextlib.contextmanager
def stopped_while_making(name: str) -> Iterator[Worker]:
    """A process that is stopped in the middle of making a segment."""
    heap = shmheap.shared_memory_heap()

    def is_at_it() -> bool:
        return any(root.name == name and not root.is_made for root in heap.roots())

    with Worker(make_again_and_again, name) as worker:
        pid, end = worker.process.pid, time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            if not is_at_it():
                continue
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            if is_at_it():
                yield worker
                return
            os.kill(pid, signal.SIGCONT)
        pytest.fail("it was never seen at it")


def test_what_a_killed_process_was_making_is_made_anew() -> None:
    with stopped_while_making("name") as worker:
        worker.kill()
        memory = SharedMemory("name", create=True, size=10)
    memory.unlink()
    memory.close()
    with stopped_while_making("name") as worker:
        worker.kill()
        with pytest.raises(FileNotFoundError):
            SharedMemory("name")


CREATES = """
import sys, shmheap
try:
    shmheap.shared_memory_heap()
    print("ready", flush=True)
    shmheap.SharedMemory("name", create=True, size=10)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_whoever_waits_for_another_to_make_it_can_be_interrupted() -> None:
    with stopped_while_making("name"):
        command = [sys.executable, "-c", CREATES]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            answer, _ = process.communicate(timeout=DEADLINE_S / 2)
    assert answer == "interrupted\n"


def test_pickles_lead_to_the_same_bytes_in_whichever_heap() -> None:
    with shmheap.create_memfd(1 << 20) as heap:
        shmheap.shared_memory_heap(heap)
        memory = SharedMemory("name", create=True, size=10)
        bytes_of(memory)[0] = 1
        reference, other = pickle.dumps(memory), pickle.dumps(memory)
        shmheap.shared_memory_heap(shmheap.create_memfd(1 << 20))
        again = pickle.loads(reference)
        assert again.buf[0] == 1
        memory.unlink()
        with pytest.raises(FileNotFoundError):
            pickle.loads(other)


def test_a_heap_with_a_name_is_handed_on_to_children(name: str) -> None:
    named = name + "-named"
    with shmheap.create(named, 1 << 20, ephemeral=True) as heap:
        assert shmheap.shared_memory_heap(heap).name == named
        memory = SharedMemory("name", create=True, size=1)
        code = "import shmheap; memory = shmheap.SharedMemory('name'); memory.buf[0] = 7"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE_S)
        assert bytes_of(memory)[0] == 7


def test_nothing_is_left_behind(name: str) -> None:
    code = "import shmheap; kept = shmheap.SharedMemory('name', create=True, size=10)"
    for end in ("", "; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"):
        subprocess.run([sys.executable, "-c", code + end], timeout=DEADLINE_S)
        with pytest.raises(shmheap.NotFound):
            shmheap.connect(name)
        assert not Path("/dev/shm", name[1:]).exists()


def test_the_users_heap_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHMHEAP_SHARED_MEMORY")
    # Not the one that this user may have in use.
    user = 1_000_000_000 + os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: user)
    memory = SharedMemory(create=True, size=10)
    heap = shmheap.shared_memory_heap()
    assert heap.name == f"/shmheap-shared-memory-{user}"
    assert heap.info().max_len_bytes >= 1 << 30
    memory.unlink()
    memory.close()
    del memory
    heap.close()
    gc.collect()
    assert not Path("/dev/shm", f"shmheap-shared-memory-{user}").exists()


def test_the_heap_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHMHEAP_SHARED_MEMORY")
    # As if this user were another than the one who makes it.
    user = 1_000_000_000 + os.getpid()
    with shmheap.create(f"/shmheap-shared-memory-{user}", 1 << 20, ephemeral=True, mode=0o666):
        monkeypatch.setattr(os, "getuid", lambda: user)
        monkeypatch.setattr(os, "geteuid", lambda: user)
        with pytest.raises(shmheap.PermissionDenied, match="SHMHEAP_SHARED_MEMORY") as denied:
            SharedMemory(create=True, size=10)
        assert denied.value.errno == 13


def test_the_heap_of_another_user_is_looked_at_before_it_is_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Reader:
        """Connects, and has no `create`."""

        @staticmethod
        def connect(kind: str, which: str, read_only: bool) -> Connection:
            assert read_only
            return Connection.connect(kind, which, read_only)

    monkeypatch.delenv("SHMHEAP_SHARED_MEMORY")
    user = 1_000_000_000 + os.getpid()
    with shmheap.create(f"/shmheap-shared-memory-{user}", 1 << 20, ephemeral=True, mode=0o666):
        monkeypatch.setattr(os, "getuid", lambda: user)
        monkeypatch.setattr(os, "geteuid", lambda: user)
        monkeypatch.setattr(_shared_memory, "Connection", Reader)
        with pytest.raises(shmheap.PermissionDenied):
            SharedMemory(create=True, size=10)
