"""Heaps with labels: tags, quotas, and who has how much."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import shmheap
from workers import Worker


@pytest.fixture(params=["scalable", "first-fit"])
def labelled(name: str, request: pytest.FixtureRequest) -> Iterator[shmheap.Heap]:
    with shmheap.create(name, 4 << 20, policy=request.param, labels=True) as heap:
        yield heap
        report = heap.check()
        assert report.is_sound, report.findings


def of_tag(heap: shmheap.Heap, name: str) -> shmheap.TagUsage:
    return next(tag for tag in heap.usage().tags if tag.name == name)


def test_what_is_made_inside_of_a_tag_is_counted_under_it(labelled: shmheap.Heap) -> None:
    pytest.importorskip("numpy")
    assert labelled.info().labels
    labelled.alloc(100)
    with labelled.tag("outer"):
        array = labelled.array(100, "f8")
        with labelled.tag("inner"):
            labelled["value"] = {"some": "thing"}
        labelled.alloc(10)
    labelled.alloc(100)
    assert of_tag(labelled, "").objects == 2
    assert of_tag(labelled, "outer").objects == 2
    inner = of_tag(labelled, "inner")
    assert inner.objects >= 1 and inner.quota_bytes is None
    usage = labelled.usage()
    assert usage.objects == sum(tag.objects for tag in usage.tags)
    assert usage.bytes == sum(tag.bytes for tag in usage.tags) > 1000
    assert [(peer.pid, peer.alive) for peer in usage.peers] == [(os.getpid(), True)]
    assert not usage.is_recount_due
    handle = labelled.handle(array)
    del array
    labelled.free(handle)
    assert of_tag(labelled, "outer").objects == 1


def test_a_tag_is_the_threads_and_ends_with_an_exception(labelled: shmheap.Heap) -> None:
    @labelled.tag("decorated")
    def decorated() -> shmheap.Buffer:
        return labelled.alloc(10)

    with pytest.raises(KeyError), labelled.tag("left"):
        thread = threading.Thread(target=labelled.alloc, args=(10,))
        thread.start()
        thread.join()
        decorated()
        decorated()
        raise KeyError
    labelled.set_thread_tag("thread")
    labelled.alloc(10)
    labelled.set_thread_tag(None)
    labelled.alloc(10)
    counts = {tag.name: tag.objects for tag in labelled.usage().tags}
    assert counts == {"": 2, "left": 0, "decorated": 2, "thread": 1}


def test_a_tag_that_another_thread_ends_is_an_error(labelled: shmheap.Heap) -> None:
    failures: list[str] = []

    def end() -> None:
        try:
            tag.__exit__(None, None, None)
        except RuntimeError as failure:
            failures.append(str(failure))

    tag = labelled.tag("moved")
    tag.__enter__()
    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert len(failures) == 1 and "another thread" in failures[0]


@pytest.mark.parametrize("quota", [{}, {"each_peer": True}, {"tag": "parser"}])
def test_beyond_a_quota_is_an_error(labelled: shmheap.Heap, quota: dict[str, Any]) -> None:
    labelled.set_quota(20_000, **quota)
    with labelled.tag("parser"):
        buffers = [labelled.alloc(1000)]
        with pytest.raises(shmheap.QuotaExceeded, match="may have 20000 bytes") as raised:
            while True:
                buffers.append(labelled.alloc(1000))
        assert isinstance(raised.value, MemoryError)
        assert raised.value.errno == errno.EDQUOT
        assert 15 <= len(buffers) <= 20
        with pytest.raises(shmheap.QuotaExceeded):
            labelled.put(b"x" * 10_000)
        buffers.pop().free()
        labelled.alloc(900)
        labelled.set_quota(None, **quota)
        labelled.alloc(20_000)


def test_quotas_are_told(labelled: shmheap.Heap) -> None:
    labelled.set_quota(3 << 20)
    labelled.set_quota(2 << 20, each_peer=True)
    labelled.set_quota(0, tag="nothing")
    usage = labelled.usage()
    assert (usage.quota_bytes, usage.peer_quota_bytes) == (3 << 20, 2 << 20)
    assert of_tag(labelled, "nothing").quota_bytes == 0
    with pytest.raises(shmheap.QuotaExceeded), labelled.tag("nothing"):
        labelled.alloc(1)


def test_wrong_arguments_are_errors(labelled: shmheap.Heap, name: str) -> None:
    for wrong in ["x" * 49, "a\nb"]:
        with pytest.raises(shmheap.InvalidTag), labelled.tag(wrong):
            pass
        with pytest.raises(shmheap.InvalidTag):
            labelled.set_quota(5, tag=wrong)
    with pytest.raises(TypeError, match="not of both"):
        labelled.set_quota(5, tag="a", each_peer=True)
    with pytest.raises(OverflowError):
        labelled.set_quota(-1)
    with pytest.raises(TypeError):
        labelled.set_quota("1M")  # type: ignore[arg-type]
    with shmheap.connect(name, read_only=True) as reader:
        assert reader.usage().objects == 0
        with reader.tag("a"):
            pass
        with pytest.raises(shmheap.ReadOnly):
            reader.set_quota(5)
    with shmheap.create_memfd(1 << 20) as plain:
        assert not plain.info().labels
        with plain.tag("a"):
            plain.alloc(10)
        with pytest.raises(shmheap.NotLabelled, match="labels"):
            plain.usage()
        with pytest.raises(shmheap.NotLabelled):
            plain.set_quota(5)


def tagging(pipe: Any, name: str) -> None:
    os.environ["SHMHEAP_TAG"] = "from outside"
    with shmheap.connect(name) as heap:
        heap.alloc(1000)
        with heap.tag("own"):
            heap.alloc(10)
        pipe.send(os.getpid())
        pipe.recv()


def test_what_a_killed_process_has_left_is_told(labelled: shmheap.Heap, name: str) -> None:
    with Worker(tagging, name, method="spawn") as worker:
        pid = worker.answer()
        worker.kill()
        usage = labelled.usage()
        gone = next(peer for peer in usage.peers if peer.pid == pid)
        assert not gone.alive and gone.objects == 2 and gone.bytes >= 1010
        assert of_tag(labelled, "from outside").objects == 1
        assert of_tag(labelled, "own").objects == 1
