"""Mutexes: one at a time, and the news that an owner died."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from workers import DEADLINE_S, Worker

import shmheap


def count(pipe: Any, heap: shmheap.Heap, handle: int) -> None:
    mutex, number = heap.mutex("mutex"), memoryview(heap.resolve(handle)).cast("q")
    pipe.send("ready")
    for _ in range(2000):
        with mutex:
            number[0] += 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_one_at_a_time(method: str, heap: shmheap.Heap) -> None:
    number = heap.alloc(8, zero=True)
    with Worker(count, heap, number.handle, method=method) as one:
        with Worker(count, heap, number.handle, method=method) as other:
            one.end()
            other.end()
    assert memoryview(number).cast("q")[0] == 4000


def test_threads_of_a_process_exclude_each_other(heap: shmheap.Heap) -> None:
    mutex = heap.mutex("mutex")
    with mutex:
        assert not mutex.try_lock()
        with pytest.raises(shmheap.TimedOut):
            mutex.lock(timeout=0.01)
        inside = threading.Event()

        def enter() -> None:
            with mutex:
                inside.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not inside.is_set()
    assert inside.wait(DEADLINE_S)
    thread.join()
    with pytest.raises(shmheap.NotOwner):
        mutex.unlock()
    with pytest.raises(ZeroDivisionError):
        with mutex:
            1 / 0
    assert mutex.try_lock()
    mutex.unlock()


def die_inside(pipe: Any, heap: shmheap.Heap) -> None:
    with heap.mutex("mutex"):
        pipe.send("inside")
        pipe.recv()


def test_the_death_of_an_owner_is_told_until_somebody_repairs(heap: shmheap.Heap) -> None:
    mutex = heap.mutex("mutex")
    with mutex.repair() as in_doubt:
        assert not in_doubt
    with Worker(die_inside, heap) as worker:
        assert worker.answer() == "inside"
        with pytest.raises(shmheap.TimedOut):
            with mutex.repair(timeout=0.01):
                pass
        worker.kill()
    for _ in range(2):
        with pytest.raises(shmheap.OwnerDied, match=r"'mutex'.*mutex\.repair"):
            mutex.lock()
    with pytest.raises(shmheap.OwnerDied):
        mutex.try_lock()
    with pytest.raises(ZeroDivisionError):
        with mutex.repair() as in_doubt:
            assert in_doubt
            1 / 0
    with pytest.raises(shmheap.OwnerDied):
        with mutex:
            pass
    with mutex.repair() as in_doubt:
        assert in_doubt
    with mutex:
        pass
    with mutex.repair() as in_doubt:
        assert not in_doubt


def take(pipe: Any, heap: shmheap.Heap, mutex: shmheap.Mutex) -> None:
    taken = mutex.try_lock()
    try:
        mutex.unlock()
    except shmheap.NotOwner:
        pipe.send(taken)


def test_a_forked_child_does_not_have_what_its_parent_has(heap: shmheap.Heap) -> None:
    mutex = heap.mutex("mutex")
    with mutex, Worker(take, heap, mutex) as worker:
        assert worker.answer() is False
        worker.end()
        assert not mutex.try_lock()
