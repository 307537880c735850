"""Channels: each value is received once, or is freed with who had it."""

from __future__ import annotations

import array
import gc
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from workers import DEADLINE_S, Worker

import shmheap


def live_objects(heap: shmheap.Heap) -> int:
    gc.collect()
    heap.sweep()
    return heap.stats().live_objects


def test_values_come_in_order_and_are_freed_when_nothing_looks_at_them(
    heap: shmheap.Heap,
) -> None:
    numpy = pytest.importorskip("numpy")
    channel = heap.channel("values", 8)
    before = live_objects(heap)
    for number in range(5):
        channel.send({"number": number, "array": numpy.full(1000, number)})
    assert len(channel) == 5
    arrays = []
    for number in range(5):
        value = channel.recv()
        assert value["number"] == number
        arrays.append(value["array"])
    del value
    assert live_objects(heap) == before + 5
    arrays[3] += 1  # it is the receiver's own
    assert [array[-1] for array in arrays] == [0, 1, 2, 4, 4]
    del arrays[:]
    assert live_objects(heap) == before
    assert channel.try_recv("nothing") == "nothing"


def receive_and_send_back(pipe: Any, heap: shmheap.Heap) -> None:
    array = heap.channel("there").recv()
    array *= 2
    pipe.send(heap.handle(array))
    heap.channel("back").send(array)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_arrays_made_for_a_channel_are_not_copied(method: str, heap: shmheap.Heap) -> None:
    pytest.importorskip("numpy")
    there, back = heap.channel("there"), heap.channel("back")
    with Worker(receive_and_send_back, heap, method=method) as worker:
        before = live_objects(heap)
        array = there.array((10, 10), "i4", zero=True)
        array += 21
        handle = heap.handle(array)
        there.send(array)
        del array
        assert worker.answer() == handle
        received = back.recv(DEADLINE_S)
        assert heap.handle(received) == handle and received.sum() == 4200
        worker.end()
    del received
    assert live_objects(heap) == before


def test_a_part_of_an_array_and_one_of_another_heap_are_copied(heap: shmheap.Heap) -> None:
    pytest.importorskip("numpy")
    channel = heap.channel("values")
    array = channel.array(10, "i8", zero=True)
    channel.send(array[2:4])
    with shmheap.create_memfd(1 << 20) as other:
        channel.send(other.channel("values").array(3, "i8", zero=True))
    assert channel.recv().tolist() == [0, 0] and channel.recv().tolist() == [0, 0, 0]
    array += 1
    channel.send(array)
    with pytest.raises(shmheap.NotOwner):
        channel.send(array)


def test_what_has_an_owner_is_not_freed_by_hand_but_can_be_kept(heap: shmheap.Heap) -> None:
    pytest.importorskip("numpy")
    channel = heap.channel("values")
    channel.send([1, 2, 3])
    before = live_objects(heap)
    array = channel.array(10, "i8", zero=True)
    handle = heap.handle(array)
    with pytest.raises(BufferError):
        heap.free(handle)
    heap["name"] = array
    assert heap.root("name") != handle, "a name is for what stays"
    heap.free(heap.root("name"))
    assert heap.keep(array) == handle
    assert heap.keep(heap.asarray(handle)) == handle, "nothing is to be done"
    with pytest.raises(shmheap.NotOwner):
        heap.keep(array)
    with pytest.raises(BufferError):
        heap.free(handle)
    del array
    assert live_objects(heap) == before + 1
    heap.free(handle)
    assert live_objects(heap) == before


@pytest.mark.parametrize("way", ["send", "keep"])
def test_what_a_thread_writes_to_is_not_given_away(way: str, heap: shmheap.Heap) -> None:
    channel = heap.channel("values")
    data = b"x" * (16 << 20)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        letter = channel._alloc(len(data), 64, True)
        view = memoryview(letter)
        thread = threading.Thread(target=letter.write, args=(0, data))
        thread.start()
        while view[0] == view[-1] == 0:
            pass
        try:
            letter.keep() if way == "keep" else channel.send(letter, 0)
        except BufferError:
            is_refused = True
        else:
            is_refused = False
        is_written = view[0] == view[-1]
        thread.join()
        assert bytes(view) == data
        if is_refused:
            break
        assert is_written, "in the middle of it"
        if way == "send":
            channel.recv()
    else:
        pytest.fail("it was never seen at it")
    assert letter.keep() == letter.handle
    view.release()
    heap.free(letter.handle)


def hold(pipe: Any, heap: shmheap.Heap) -> None:
    channel = heap.channel("values")
    received = channel.recv()
    unsent = channel._alloc(10_000, 64, False)
    pipe.send("ready")
    pipe.recv()
    del received, unsent


def test_what_a_killed_process_had_goes_with_it_and_nothing_else(heap: shmheap.Heap) -> None:
    numpy = pytest.importorskip("numpy")
    channel = heap.channel("values")
    before = live_objects(heap)
    for number in range(3):
        channel.send((number, numpy.zeros(1000)))
    with Worker(hold, heap) as worker:
        assert worker.answer() == "ready"
        assert heap.stats().live_objects == before + 4
        worker.kill()
    assert live_objects(heap) == before + 2
    assert [channel.recv()[0] for _ in range(2)] == [1, 2]
    assert live_objects(heap) == before


def pass_on(pipe: Any, heap: shmheap.Heap) -> None:
    jobs, done = heap.channel("jobs"), heap.channel("done")
    pipe.send("ready")
    for job in jobs:
        done.send(job)


def test_values_are_neither_doubled_nor_lost_but_with_the_killed(heap: shmheap.Heap) -> None:
    jobs, done = heap.channel("jobs", 16), heap.channel("done", 1024)
    sent, kills = 0, 4
    for _ in range(kills):
        with Worker(pass_on, heap) as worker:
            assert worker.answer() == "ready"
            for _ in range(50):
                jobs.send(sent, DEADLINE_S)
                sent += 1
            worker.kill()
    with Worker(pass_on, heap) as worker:
        jobs.close()
        worker.end()
    done.close()
    received = list(done)
    assert len(set(received)) == len(received)
    assert sent - kills <= len(received) <= sent


def test_waiting_ends_in_time_or_when_the_channel_is_closed(heap: shmheap.Heap) -> None:
    channel = heap.channel("values", 2)
    with pytest.raises(shmheap.TimedOut):
        channel.recv(0.01)
    with pytest.raises(TimeoutError):
        channel.recv(timeout=0)
    assert channel.try_send(1) and channel.try_send(2)
    assert not channel.try_send(3)
    with pytest.raises(shmheap.TimedOut):
        channel.send(3, timeout=0.01)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError):
            channel.recv(wrong)
    received: list[int] = []
    thread = threading.Thread(target=lambda: received.extend(channel))
    thread.start()
    channel.send(3, float("inf"))
    channel.close()
    thread.join(DEADLINE_S)
    assert received == [1, 2, 3]
    for refused in (channel.recv, channel.try_recv, lambda: channel.send(4)):
        with pytest.raises(shmheap.Closed):
            refused()


WAITS = """
import sys, shmheap
heap = shmheap.connect(sys.argv[1])
try:
    print("ready", flush=True)
    {wait}
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "wait", ["heap.channel('empty').recv()", "heap.channel('full', 1).send(1)", "m.lock()"]
)
def test_whoever_waits_can_be_interrupted(wait: str, heap: shmheap.Heap) -> None:
    assert heap.name is not None
    heap.channel("full", 1).send(0)
    mutex = heap.mutex("mutex")
    code = WAITS.format(wait=wait.replace("m.", "heap.mutex('mutex')."))
    with mutex:
        command = [sys.executable, "-c", code, heap.name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        answer, _ = process.communicate(timeout=DEADLINE_S)
    assert answer == "interrupted\n" and process.returncode == 0


def test_channels_of_bytes(heap: shmheap.Heap) -> None:
    channel = heap.channel("bytes", 4, item_size=11)
    channel.send(b"hello")
    channel.send(memoryview(b"hello world"))
    channel.send(bytearray())
    assert len(channel) == 3 and channel.name == "bytes"
    assert channel.recv() == b"hello\0\0\0\0\0\0"
    assert channel.recv() == b"hello world"
    assert channel.try_recv() == bytes(11) and channel.try_recv() is None
    numbers = array.array("H", [1, 2, 3])
    channel.send(memoryview(numbers)[::2])
    assert channel.recv()[:5] == bytes([1, 0, 3, 0, 0])
    for wrong in (12, 16, 17, 1 << 24):
        with pytest.raises(shmheap.InvalidOption):
            channel.send(bytes(wrong))
        with pytest.raises(shmheap.InvalidOption):
            channel.send(bytearray(wrong))
    with pytest.raises(TypeError):
        channel.send(7)  # type: ignore[arg-type]
    for number in range(4):
        assert channel.try_send(bytes([number]))
    assert not channel.try_send(b"more")
    channel.close()
    assert [message[0] for message in channel] == [0, 1, 2, 3]


def test_a_name_is_for_one_kind(heap: shmheap.Heap) -> None:
    heap.channel("bytes", 4, item_size=8)
    heap.channel("values")
    heap.mutex("mutex")
    heap.map("map")
    for wrong in (
        lambda: heap.channel("bytes", 4, item_size=80),
        lambda: heap.channel("bytes"),
        lambda: heap.channel("values", item_size=8),
        lambda: heap.mutex("map"),
        lambda: heap.map("mutex"),
        lambda: heap["map"],
    ):
        with pytest.raises(shmheap.WrongType):
            wrong()
    with pytest.raises(shmheap.InvalidOption):
        heap.channel("new", 0)
    with pytest.raises(shmheap.InvalidName):
        heap.mutex("")


def test_references_lead_to_the_same(heap: shmheap.Heap) -> None:
    channel, messages = heap.channel("values"), heap.channel("bytes", 4, item_size=8)
    mutex, map_ = heap.mutex("mutex"), heap.map("map")
    again: Any = pickle.loads(pickle.dumps([channel, messages, mutex, map_]))
    again[0].send("value")
    again[1].send(b"12345678")
    again[3]["key"] = b"value"
    assert channel.recv() == "value" and messages.recv() == b"12345678"
    assert map_["key"] == b"value"
    with mutex:
        assert not again[2].try_lock()
    assert [repr(one) for one in again] == [repr(one) for one in (channel, messages, mutex, map_)]
