"""Ephemeral heaps: gone with their last process, whichever way that went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import shmheap

#: Longer than a process ever needs; only a failing test waits for it.
DEADLINE_S = 60

OWNER = """
import sys, shmheap
heap = shmheap.create(sys.argv[1], 1 << 20, ephemeral=True)
heap["from"] = "owner"
print("ready", flush=True)
sys.stdin.read()
"""
WORKER = """
import sys, shmheap
heap = shmheap.connect(sys.argv[1])
view = memoryview(heap.alloc(10))
print("ready", flush=True)
sys.stdin.read()
"""
#: Ends while a thread, which never does, has the heap.
BESIDE_A_THREAD = """
import sys, threading, shmheap

def work(ready):
    heap = shmheap.connect(sys.argv[1])
    heap.alloc(10)
    ready.set()
    threading.Event().wait()

ready = threading.Event()
threading.Thread(target=work, args=(ready,), daemon=True).start()
ready.wait()
"""


class Program:
    """A process that says when it is ready, and ends when its input does."""

    def __init__(self, code: str, name: str) -> None:
        command = [sys.executable, "-c", code, name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == -signal.SIGKILL


def stands(name: str) -> bool:
    return Path("/dev/shm", name[1:]).exists()


def test_the_last_to_close_takes_the_name_along(name: str) -> None:
    heap = shmheap.create(name, 1 << 20, ephemeral=True)
    assert heap.info().ephemeral
    buffer = heap.alloc(10)
    heap.close()
    assert stands(name), "a buffer is a connection, too"
    del buffer
    assert not stands(name)
    with shmheap.create(name, 1 << 20) as heap:
        assert not heap.info().ephemeral
    assert stands(name)


def test_files_can_be_ephemeral(tmp_path: Path) -> None:
    path = tmp_path / "heap"
    with shmheap.create_file(path, 1 << 20, ephemeral=True):
        assert path.exists()
    assert not path.exists()


def test_the_worker_of_a_killed_owner_takes_the_name_along(name: str) -> None:
    owner = Program(OWNER, name)
    worker = Program(WORKER, name)
    owner.kill()
    with shmheap.connect(name) as heap:
        assert heap["from"] == "owner"
    assert stands(name)
    worker.end()
    assert not stands(name)


def test_what_only_the_dead_had_is_gone(name: str) -> None:
    programs = [Program(OWNER, name), Program(WORKER, name)]
    for program in programs:
        program.kill()
    with pytest.raises(shmheap.NotFound):
        shmheap.connect(name)
    assert not stands(name)


def test_what_only_the_dead_had_is_swept_away(name: str) -> None:
    Program(OWNER, name).kill()
    assert stands(name)
    assert name in shmheap.sweep_abandoned()
    assert not stands(name)


def test_an_interpreter_that_ends_closes_what_its_threads_have(name: str) -> None:
    heap = shmheap.create(name, 1 << 20, ephemeral=True)
    status = os.spawnv(
        os.P_WAIT, sys.executable, [sys.executable, "-c", BESIDE_A_THREAD, name]
    )
    assert status == 0
    assert [peer.alive for peer in heap.peers()] == [True], "it has disconnected"
    assert heap.stats().live_objects == 1
    heap.close()
    assert not stands(name)
