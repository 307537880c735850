"""`Mutex`: one process at a time, and the news that an owner died inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._errors import OwnerDied, TimedOut
from ._shmheap import Connection, NamedMutex


class Mutex:
    """Mutual exclusion between processes, and between their threads; made by `Heap.mutex`.

        with mutex:
            ...  # nobody else is here

    It belongs to a process, whichever of its threads has it. If that is killed inside, what the
    mutex guards may be half changed: then nobody gets in any more, but by `repair`:

        try:
            with mutex:
                change(data)
        except shmheap.OwnerDied:
            with mutex.repair() as in_doubt:
                if in_doubt:  # another may have repaired it by now
                    data[:] = 0

    It cannot be taken twice by the same thread, and a forked child does not have its parent's. An
    exception inside gives it back as any other way out. Pickled, it is a reference. In Rust it is a
    root of the type `ShmMutex<u64>`.
    """

    __slots__ = ("_connection", "_mutex", "_name")

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._mutex = NamedMutex(connection, name)

    @property
    def name(self) -> str:
        """What it is found by."""
        return self._name

    def lock(self, timeout: float | None = None) -> None:
        """Takes it, and waits until nobody has it: so many seconds at the most, if given.

        Raises `TimedOut`, `OwnerDied`.
        """
        if self._mutex.lock(timeout):
            self._mutex.unlock()
            raise OwnerDied(
                f"a process died with the mutex '{self._name}' in its hands, so what it guards may "
                "be half changed: repair that in `with mutex.repair():`"
            )

    def try_lock(self) -> bool:
        """Takes it if nobody has it; whether nobody had. Raises `OwnerDied`."""
        try:
            self.lock(0)
        except TimedOut:
            return False
        return True

    def unlock(self) -> None:
        """Gives it back. Raises `NotOwner` if this process does not have it."""
        self._mutex.unlock()

    @contextmanager
    def repair(self, timeout: float | None = None) -> Iterator[bool]:
        """Takes it in whatever state; tells whether what it guards may be half changed.

        At the end of the `with` that counts as repaired. If that is left by an exception, or the
        process dies in it, the next one finds it as this one did.

        Raises `TimedOut`.
        """
        in_doubt = self._mutex.lock(timeout)
        try:
            yield in_doubt
            if in_doubt:
                self._mutex.set_sound()
        finally:
            self._mutex.unlock()

    def __enter__(self) -> Mutex:
        self.lock()
        return self

    def __exit__(self, *exception: object) -> None:
        self.unlock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._connection, self._name)

    def __repr__(self) -> str:
        return f"<shmheap.Mutex {self._name!r}>"
