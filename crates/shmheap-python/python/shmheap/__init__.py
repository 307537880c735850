"""malloc for shared memory: a named heap that any process connects to.

All of its processes allocate and free objects in it, hand them to each other as plain integers,
and go on undisturbed when one of them is killed.

    import shmheap

    with shmheap.create("/example", 1 << 20) as heap:
        array = heap.array((3, 4), "f4")  # a NumPy array over the heap's memory
        array[:] = 1
        heap["weights"] = array           # a name; or send heap.handle(array), an integer

    # Another process:
    with shmheap.connect("/example") as heap:
        array = heap["weights"]           # the same memory
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._channels import ByteChannel, Channel
from ._errors import (
    AddressSpace,
    AddressTaken,
    AlreadyExists,
    AtCapacity,
    Closed,
    Damaged,
    Error,
    Full,
    Inherited,
    InvalidCell,
    InvalidHandle,
    InvalidLayout,
    InvalidName,
    InvalidOption,
    InvalidPointer,
    InvalidTag,
    NoRoot,
    NoSpace,
    NotAHeap,
    NotFound,
    NotLabelled,
    NotOwner,
    Occupied,
    OwnerDied,
    PermissionDenied,
    QuotaExceeded,
    ReadOnly,
    RootExists,
    Stale,
    System,
    TimedOut,
    TooManyLabels,
    TooManyPeers,
    TooManyTags,
    TooManyThreads,
    TooManyUnpublished,
    VersionMismatch,
    WrongType,
)
from ._heap import Heap
from ._maps import Map
from ._mutex import Mutex
from ._options import Options
from ._options import options as _complete
from ._references import shared as _shared
from ._reports import (
    ClassStats,
    Finding,
    Info,
    OwnerStats,
    Peer,
    PeerUsage,
    Report,
    Root,
    Stats,
    TagUsage,
    Usage,
)
from ._shared_memory import SharedMemory, shared_memory_heap
from ._shmheap import Buffer, Letter, destroy, destroy_file, sweep_abandoned
from ._shmheap import Connection as _Connection

if TYPE_CHECKING:
    from typing_extensions import Unpack


def create(name: str, size: int, **options: Unpack[Options]) -> Heap:
    """Creates a named heap with `size` bytes for objects, and connects to it.

    The name follows `shm_open(3)`: an optional slash, then none. The options are `max_size`,
    `policy`, `mode`, `group`, `ephemeral` and `labels`: see `Options`.

    Raises `AlreadyExists`, `InvalidName`, `InvalidOption`, `NoSpace`, `AddressSpace`,
    `PermissionDenied`.
    """
    return _made("name", name, size, _complete(**options))


def create_file(path: str | os.PathLike[str], size: int, **options: Unpack[Options]) -> Heap:
    """Creates a heap in a file, which outlives a reboot, but no power failure: see `create`."""
    return _made("file", path, size, _complete(**options))


def create_memfd(
    size: int, *, max_size: int | None = None, policy: str = "scalable", labels: bool = False
) -> Heap:
    """Creates a heap without a name, which is gone with its last process: see `create`.

    Others get it by fork, or pickled, by way of `multiprocessing`.
    """
    return _made("memfd", None, size, _complete(max_size=max_size, policy=policy, labels=labels))


def connect_or_create(name: str, size: int, **options: Unpack[Options]) -> Heap:
    """Connects to the heap of that name, or creates it if there is none.

    For programs of which any may be the first. A heap that stands keeps the size and the options
    that it was made with.

    Raises what `create` and `connect` raise, but for `AlreadyExists` and `NotFound`.
    """
    return _made("name", name, size, _complete(**options), or_connect=True)


def _made(
    kind: str,
    which: str | os.PathLike[str] | None,
    size: int,
    options: dict[str, Any],
    or_connect: bool = False,
) -> Heap:
    return Heap(_shared(_Connection.create(kind, which, size, options, or_connect)))


def connect(name: str, *, read_only: bool = False) -> Heap:
    """Connects to a named heap. All that a process connects to it share one connection.

    `read_only` gives one that can look but not change: read permission is enough, no peer knows of
    it, and its buffers and arrays cannot be written.

    Raises `NotFound`, `NotAHeap`, `VersionMismatch`, `PermissionDenied`, `TooManyPeers`,
    `AddressSpace`, `AddressTaken`.
    """
    return Heap(_shared(_Connection.connect("name", name, read_only)))


def connect_file(path: str | os.PathLike[str], *, read_only: bool = False) -> Heap:
    """Connects to a heap in a file: see `connect`."""
    return Heap(_shared(_Connection.connect("file", path, read_only)))


def connect_fd(fd: int, *, read_only: bool = False) -> Heap:
    """Connects to a heap through a descriptor of it, which stays the caller's: see `connect`."""
    return Heap(_shared(_Connection.connect_fd(fd, read_only)))


__all__ = [
    "AddressSpace",
    "AddressTaken",
    "AlreadyExists",
    "AtCapacity",
    "Buffer",
    "ByteChannel",
    "Channel",
    "ClassStats",
    "Closed",
    "Damaged",
    "Error",
    "Finding",
    "Full",
    "Heap",
    "Info",
    "Inherited",
    "InvalidCell",
    "InvalidHandle",
    "InvalidLayout",
    "InvalidName",
    "InvalidOption",
    "InvalidPointer",
    "InvalidTag",
    "Letter",
    "Map",
    "Mutex",
    "NoRoot",
    "NoSpace",
    "NotAHeap",
    "NotFound",
    "NotLabelled",
    "NotOwner",
    "Occupied",
    "Options",
    "OwnerDied",
    "OwnerStats",
    "Peer",
    "PeerUsage",
    "PermissionDenied",
    "QuotaExceeded",
    "ReadOnly",
    "Report",
    "Root",
    "RootExists",
    "SharedMemory",
    "Stale",
    "Stats",
    "System",
    "TagUsage",
    "TimedOut",
    "TooManyLabels",
    "TooManyPeers",
    "TooManyTags",
    "TooManyThreads",
    "TooManyUnpublished",
    "Usage",
    "VersionMismatch",
    "WrongType",
    "connect",
    "connect_fd",
    "connect_file",
    "connect_or_create",
    "create",
    "create_file",
    "create_memfd",
    "destroy",
    "destroy_file",
    "shared_memory_heap",
    "sweep_abandoned",
]
