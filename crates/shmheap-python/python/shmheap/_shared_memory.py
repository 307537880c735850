"""`SharedMemory`: what `multiprocessing.shared_memory.SharedMemory` is, in one heap for all.

A program with thousands of small segments has one object in `/dev/shm`, one mapping and one
descriptor, and nothing of it is left behind.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import Any

from . import _forks
from ._errors import AlreadyExists, InvalidName, NoRoot, NotFound, PermissionDenied
from ._heap import Heap
from ._options import options
from ._references import shared
from ._shmheap import Connection, Segment

#: Where children of the process, and whoever else sets it, find the heap.
_VARIABLE = "SHMHEAP_SHARED_MEMORY"
_FIRST_BYTES = 1 << 20
_MAX_BYTES_AT_LEAST = 1 << 30
#: As long as names of roots are.
_NAME_BYTES_MAX = 120

_heap: Heap | None = None


def shared_memory_heap(heap: Heap | None = None) -> Heap:
    """The heap that `SharedMemory` uses in this process; with an argument, from now on that one.

    If it has a name, processes that are started from now on use it, too: the name is put into the
    environment variable SHMHEAP_SHARED_MEMORY.

    Without either it is one heap for all processes of the user, "/shmheap-shared-memory-" and the
    user's number. It is made when it is needed, grows up to the size of the machine's memory, and
    is ephemeral: it goes with the last process that uses it, and so do segments that nobody has
    unlinked. A heap that the variable names is made likewise, unless it is there.
    """
    global _heap
    if heap is not None:
        kind, _ = heap._connection.place
        if kind == "name" and heap.name is not None:
            os.environ[_VARIABLE] = heap.name
        _heap = Heap(heap._connection)
    elif _heap is None or _heap.closed:
        _heap = Heap(shared(_default()))
    return _heap


def _default() -> Connection:
    chosen = os.environ.get(_VARIABLE)
    name = chosen or f"/shmheap-shared-memory-{os.getuid()}"
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    how = options(max_size=max(memory_bytes, _MAX_BYTES_AT_LEAST), ephemeral=True)
    if not chosen:
        try:
            # Before this process writes itself down in it.
            _check_owner(name, Connection.connect("name", name, True))
        except NotFound:
            pass
    connection = Connection.create("name", name, _FIRST_BYTES, how, or_connect=True)
    if not chosen:
        # Another may have been made meanwhile.
        _check_owner(name, connection)
    return connection


def _check_owner(name: str, connection: Connection) -> None:
    """Anybody may have made a heap of a name that can be guessed."""
    fd = connection.to_fd()
    try:
        owner = os.fstat(fd).st_uid
    finally:
        os.close(fd)
    if owner not in (os.getuid(), os.geteuid()):
        error = PermissionDenied(
            f"the heap '{name}' belongs to the user {owner}, who can read and change what lies in "
            f"it; have that removed, or set {_VARIABLE} to the name of another heap"
        )
        error.errno = errno.EACCES
        raise error


class SharedMemory:
    """Bytes with a name, to be used where `multiprocessing.shared_memory.SharedMemory` is.

    `SharedMemory(create=True, size=n)` makes them, of zeros, and `SharedMemory(name)` finds them in
    another process. They stay until `unlink`, and then as long as a process has them open. They lie
    in the heap that `shared_memory_heap` tells of, and go with that at the latest.

    `track` is accepted and says nothing: there is no resource tracker, no process removes anything
    because it ends, and a killed one holds nothing. `ShareableList` needs the original.

    Raises `AlreadyExists`, a FileExistsError, and `NotFound`, a FileNotFoundError; `Full`, a
    MemoryError; `ValueError` as the original. A name has up to 120 bytes.
    """

    _name: str
    _size: int
    _connection: Connection
    _segment: Segment | None = None
    _buf: memoryview | None = None
    _is_collected = False

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"'name' must be a str or None, not {type(name).__name__}")
        self._connection = shared_memory_heap()._connection
        if name is not None and name.startswith("/"):
            name = name[1:]
        if name is not None:
            _check(name)
        if create:
            self._create(name, size)
        else:
            assert name is not None
            self._attach(name)

    def _create(self, name: str | None, size: int) -> None:
        while True:
            chosen = f"psm_{secrets.token_hex(8)}" if name is None else name
            segment = Segment.create(self._connection, chosen, size)
            if segment is not None:
                return self._open(chosen, segment)
            if name is not None:
                error = AlreadyExists(
                    f"there is a SharedMemory '{name}' already; open it without create=True, "
                    "unlink() it, or choose another name"
                )
                error.errno = errno.EEXIST
                raise error

    def _attach(self, name: str) -> None:
        try:
            segment = Segment.attach(self._connection, name)
        except NoRoot:
            raise _not_found(name) from None
        self._open(name, segment)

    def _open(self, name: str, segment: Segment) -> None:
        self._name = name
        self._segment = segment
        self._size = len(segment)
        self._buf = memoryview(segment)
        _forks.opened(segment)

    def __del__(self) -> None:
        self._is_collected = True
        try:
            self.close()
        except BufferError:
            pass  # What looks at the bytes keeps them.

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._connection, self._name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview | None:
        """The bytes; None after `close`.

        A forked child that could not hold them itself tries again, and raises why it cannot, `Full`
        for one; `Stale` if they are gone.
        """
        if self._segment is not None:
            self._segment.hold_if_lost()
        return self._buf

    @property
    def name(self) -> str:
        """What it is found by."""
        return self._name

    @property
    def size(self) -> int:
        """How many bytes there are: as many as were asked for."""
        return self._size

    def close(self) -> None:
        """Lets go of the bytes in this process. `BufferError` while something looks at them."""
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._segment is not None and self._segment.views > 0:
            raise BufferError("something looks at the bytes; del it, or release() it, before")
        segment, self._segment = self._segment, None
        if segment is not None:
            # No collection of garbage waits for another process.
            _forks.closed(segment, waits=not self._is_collected)

    def unlink(self) -> None:
        """Takes the name away, for all; once. The bytes go when no process has them open."""
        _check(self._name)
        try:
            Segment.unlink(self._connection, self._name)
        except NoRoot:
            raise _not_found(self._name) from None


def _check(name: str) -> None:
    if not 0 < len(name.encode()) <= _NAME_BYTES_MAX or "\0" in name:
        raise InvalidName(
            f"{name!r} cannot name a SharedMemory; take 1 to {_NAME_BYTES_MAX} bytes without a NUL"
        )


def _not_found(name: str) -> NotFound:
    error = NotFound(f"there is no SharedMemory '{name}'; create it first, or check the spelling")
    error.errno = errno.ENOENT
    return error


def _rebuild(kind: type[SharedMemory], connection: Connection, name: str) -> SharedMemory:
    """What `pickle` calls in the process that one has come to, which may use another heap."""
    found = kind.__new__(kind)
    found._connection = connection
    found._attach(name)
    return found
