"""Every exception, and what raises it."""

from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import shmheap
from shmheap import _errors

RUST = Path(__file__).resolve().parents[2] / "shmheap/src/error.rs"


def test_every_error_of_rust_has_an_exception() -> None:
    if not RUST.exists():
        pytest.skip("not beside the Rust sources")
    body = RUST.read_text().split("pub enum Error {")[1].split("\n}\n")[0]
    variants = set(re.findall(r"^    ([A-Z]\w+)(?: \{|,$)", body, re.MULTILINE))
    assert len(variants) > 30
    glue = (RUST.parents[2] / "shmheap-python/src/error.rs").read_text()
    arms = dict(re.findall(r"Error::(\w+)(?: \{ \.\. \})? => \"(\w+)\"", glue))
    assert set(arms) == variants
    assert all(variant == exception for variant, exception in arms.items())
    for variant in variants:
        assert issubclass(getattr(shmheap, variant), shmheap.Error)


def test_exceptions_are_public_and_documented() -> None:
    for name, value in vars(_errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert getattr(shmheap, name) is value and name in shmheap.__all__
            assert value.__doc__


def test_exceptions_say_what_to_do_and_can_be_pickled(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no heap") as raised:
        shmheap.connect(name)
    copied = pickle.loads(pickle.dumps(raised.value))
    for error in (raised.value, copied):
        assert type(error) is shmheap.NotFound and type(error).__module__ == "shmheap"
        assert str(error).startswith("there is no heap")
        assert error.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("shmheap-test-/b", 1 << 20), {}, shmheap.InvalidName),
        (("", 1 << 20), {}, ValueError),
        (("shmheap-test-\0y", 1 << 20), {}, shmheap.InvalidName),
        (("shmheap-test-impossible", 0), {}, shmheap.InvalidOption),
        (("shmheap-test-impossible", 1 << 20), {"max_size": 1}, shmheap.InvalidOption),
        (("shmheap-test-impossible", 1 << 62), {}, shmheap.Error),
        (("shmheap-test-impossible", -1), {}, OverflowError),
        (("shmheap-test-impossible", 1 << 20), {"policy": "best-fit"}, ValueError),
        (("shmheap-test-impossible", 1.5), {}, TypeError),
        ((7, 1 << 20), {}, TypeError),
    ],
)
def test_impossible_heaps(arguments: Any, options: Any, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        shmheap.create(*arguments, **options)


def test_texts_are_in_the_words_of_python(heap: shmheap.Heap, name: str) -> None:
    other = name + "-max_len"
    for expected, match, fails in (
        (shmheap.Full, "with a larger max_size", lambda: heap.alloc(1 << 40)),
        (shmheap.NoRoot, "'max_len'; give the name to", lambda: heap["max_len"]),
        (shmheap.InvalidOption, "^size cannot be 0", lambda: shmheap.create(other, 0)),
        (shmheap.InvalidOption, "^max_size", lambda: shmheap.create(other, 1 << 20, max_size=9)),
        (shmheap.InvalidOption, "beyond the max_size", lambda: heap.grow(1 << 40)),
        (shmheap.NotFound, f"{name}-max_len", lambda: shmheap.connect(other)),
    ):
        with pytest.raises(expected, match=match):
            fails()


def test_names_that_are_taken_or_not_heaps(name: str, tmp_path: Path) -> None:
    with shmheap.create(name, 1 << 20):
        with pytest.raises(FileExistsError):
            shmheap.create(name, 1 << 20)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"something else" * 1000)
    with pytest.raises(shmheap.NotAHeap):
        shmheap.connect_file(foreign)
    with pytest.raises(shmheap.NotAHeap):
        shmheap.destroy_file(foreign)
    assert foreign.exists()


def test_a_heap_has_no_constructor(name: str) -> None:
    with pytest.raises(TypeError, match="shmheap.connect"):
        shmheap.Heap(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        shmheap.Buffer()


def test_objects(heap: shmheap.Heap) -> None:
    with pytest.raises(MemoryError) as full:
        heap.alloc(1 << 30)
    assert type(full.value) is shmheap.Full and full.value.errno == errno.ENOMEM
    for align in (0, 3, 1 << 30):
        with pytest.raises(shmheap.InvalidLayout):
            heap.alloc(1, align=align)
    with pytest.raises(OverflowError):
        heap.alloc(-1)
    for handle in (0, 1, 4096, (1 << 64) - 1):
        with pytest.raises(LookupError):
            heap.resolve(handle)
        with pytest.raises(shmheap.InvalidHandle):
            heap.free(handle)
    buffer = heap.alloc(100)
    with pytest.raises(ValueError, match="bytes, not 1000"):
        heap.resolve(buffer.handle, 1000)
    with pytest.raises(ValueError, match="do not fit"):
        buffer.write(98, b"abc")
    with pytest.raises(ValueError, match="do not fit"):
        buffer.write((1 << 64) - 1, b"abc")
    with pytest.raises(TypeError):
        heap.handle("text")
    buffer.free()
    for use in (buffer.free, lambda: memoryview(buffer), lambda: buffer.write(0, b"")):
        with pytest.raises(shmheap.Stale, match="drop the handle"):
            use()
    with pytest.raises(shmheap.InvalidHandle):
        heap.free(buffer.handle)


def test_objects_of_another_heap(heap: shmheap.Heap) -> None:
    other = shmheap.create_memfd(1 << 20)
    buffer = other.alloc(10)
    with pytest.raises(ValueError, match="another heap"):
        heap.free(buffer)
    other["copied"] = heap.alloc(5)
    assert other.stats().live_objects > 1


def test_read_only_heaps(heap: shmheap.Heap) -> None:
    buffer = heap.alloc(10, zero=True)
    heap["x"] = buffer
    assert heap.name is not None
    with shmheap.connect(heap.name, read_only=True) as reader:
        found = reader["x"]
        assert reader.read_only and found.readonly and not buffer.readonly
        assert bytes(found)[:10] == bytes(10)
        with pytest.raises(TypeError):
            memoryview(found)[0] = 1
        for change in (
            lambda: reader.alloc(1),
            lambda: found.write(0, b"x"),
            found.free,
            lambda: reader.put(1),
            lambda: reader.set_root("y", found),
            lambda: reader.remove_root("x"),
            reader.sweep,
            reader.trim,
            lambda: reader.grow(1 << 20),
        ):
            with pytest.raises(PermissionError):
                change()
        assert reader.check().is_sound and reader.stats().live_objects > 0


def test_closed_heaps(heap: shmheap.Heap) -> None:
    heap.close()
    heap.close()
    assert heap.closed and "closed" in repr(heap)
    for use in (heap.info, heap.stats, lambda: heap.name, lambda: heap["x"], heap.__enter__):
        with pytest.raises(shmheap.Closed):
            use()
