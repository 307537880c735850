"""References to heaps and objects, as they go from one process to another.

A pickled heap says where the heap is, and which it is; whoever reads that connects, if it has not
yet. Each process has one connection for each heap, and another for reading only. A forked child has
those of its parent: a connection notices by itself that it is in another process.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ._errors import NotFound
from ._shmheap import Buffer, Connection, forget_frees

if TYPE_CHECKING:
    from ._heap import Heap

_connections: weakref.WeakValueDictionary[tuple[int, bool], Connection] = (
    weakref.WeakValueDictionary()
)
#: Descriptors by which heaps without a name are handed on. They have to stay open until the process
#: that they are for has been started, of which nobody is told; so, until the connection ends.
_descriptors: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()
#: The process, or the system, has as many open as it may.
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def shared(connection: Connection) -> Connection:
    """This process's connection to the same heap, which is this one if there was none."""
    with _lock:
        return _connections.setdefault((connection.id, connection.read_only), connection)


def _in_child() -> None:
    """Forgets what other threads of the parent were in the middle of."""
    global _lock
    _lock = threading.RLock()
    forget_frees()


_lock = threading.RLock()
os.register_at_fork(after_in_child=_in_child)


def reduce_connection(connection: Connection) -> tuple[Any, ...]:
    """What `pickle` asks a connection for."""
    kind, which = connection.place
    whose: Any = which
    if kind == "memfd":
        from multiprocessing.reduction import DupFd

        whose = DupFd(_descriptor(connection))
    return rebuild_connection, (kind, whose, connection.id, connection.read_only)


def _descriptor(connection: Connection) -> int:
    fd = _descriptors.get(connection)
    if fd is None:
        fd = connection.to_fd()
        _descriptors[connection] = fd
        weakref.finalize(connection, os.close, fd)
    return fd


def rebuild_connection(kind: str, whose: Any, heap_id: int, read_only: bool) -> Connection:
    """What `pickle` calls in the process that a connection has come to."""
    received = _received(whose) if kind == "memfd" else None
    try:
        found = _connections.get((heap_id, read_only))
        if found is not None:
            return found
        if received is None:
            connection = Connection.connect(kind, whose, read_only)
        elif isinstance(received, int):
            connection = Connection.connect_fd(received, read_only)
        elif getattr(received, "errno", None) in _NO_DESCRIPTORS:
            raise received
        else:
            raise NotFound(
                "this reference to a heap without a name does not lead there any more: it was used "
                "already, or the process that pickled it has ended; pickle the heap once for each "
                "process that is to have it"
            ) from received
    finally:
        if isinstance(received, int):
            os.close(received)
    if connection.id != heap_id:
        raise NotFound(f"the heap '{whose}' is not the one referred to; that was destroyed")
    return shared(connection)


def _received(descriptor: Any) -> int | Exception:
    """The descriptor, which who has pickled it hands over once, as long as it lives; or why not."""
    from multiprocessing import AuthenticationError

    try:
        return int(descriptor.detach())
    except (OSError, EOFError, AuthenticationError) as error:
        return error


def rebuild_buffer(connection: Connection, handle: int, length: int) -> Buffer:
    """What `pickle` calls in the process that a buffer has come to."""
    return connection.resolve(handle, length)


def rebuild_heap(connection: Connection) -> Heap:
    """What `pickle` calls in the process that a heap has come to."""
    from ._heap import Heap

    return Heap(connection)
