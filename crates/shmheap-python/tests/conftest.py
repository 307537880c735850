"""A heap for a test, gone after it."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator

import pytest

import shmheap
from shmheap import _shared_memory


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a heap; whatever has it in the end is destroyed."""
    name = f"/shmheap-test-{uuid.uuid4().hex}"
    yield name
    try:
        shmheap.destroy(name)
    except shmheap.NotFound:
        pass


@pytest.fixture
def own_shared_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heap for the segments of this test and its processes, instead of the user's."""
    monkeypatch.setenv("SHMHEAP_SHARED_MEMORY", name)
    monkeypatch.setattr(_shared_memory, "_heap", None)


@pytest.fixture(params=["scalable", "first-fit"])
def heap(name: str, request: pytest.FixtureRequest) -> Iterator[shmheap.Heap]:
    """A heap, of either policy."""
    with shmheap.create(name, 4 << 20, max_size=64 << 20, policy=request.param) as heap:
        yield heap
        if not heap.closed and not heap.read_only:
            report = heap.check()
            assert report.is_sound, report.findings


@pytest.fixture
def seeded() -> random.Random:
    """Random numbers whose seed pytest shows if the test fails; SHMHEAP_SEED replays it."""
    seed = int(os.environ.get("SHMHEAP_SEED", random.randrange(1 << 32)))
    print(f"SHMHEAP_SEED={seed}")
    return random.Random(seed)
