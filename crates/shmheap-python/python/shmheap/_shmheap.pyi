"""The Rust half of the package: see src/lib.rs. Users have `shmheap.Heap` instead."""

import os
from typing import Any, final

from typing_extensions import Buffer as _Bytes

@final
class Connection:
    @staticmethod
    def create(
        kind: str,
        which: str | os.PathLike[str] | None,
        size: int,
        max_size: int | None,
        options: dict[str, Any],
    ) -> Connection: ...
    @staticmethod
    def connect(
        kind: str, which: str | os.PathLike[str] | None, read_only: bool
    ) -> Connection: ...
    @staticmethod
    def connect_fd(fd: int, read_only: bool) -> Connection: ...
    @property
    def place(self) -> tuple[str, str | os.PathLike[str] | None]: ...
    @property
    def id(self) -> int: ...
    @property
    def read_only(self) -> bool: ...
    def to_fd(self) -> int: ...
    def alloc(self, size: int, align: int, zero: bool) -> Buffer: ...
    def resolve(self, handle: int, length: int | None = ...) -> Buffer: ...
    def free(self, handle: int) -> None: ...
    def set_root(self, name: str, handle: int) -> None: ...
    def root(self, name: str) -> int: ...
    def remove_root(self, name: str) -> int: ...
    def roots(self) -> list[tuple[str, int, int, bool]]: ...
    def info(self) -> dict[str, Any]: ...
    def stats(self) -> dict[str, Any]: ...
    def peers(self) -> list[dict[str, Any]]: ...
    def check(self) -> dict[str, Any]: ...
    def sweep(self) -> int: ...
    def grow(self, size: int) -> int: ...
    def trim(self) -> int: ...

@final
class Buffer:
    """The bytes of an object in a heap.

    It has the buffer protocol: `memoryview(buffer)`, `numpy.frombuffer(buffer)` and others look at
    the object itself, without a copy, and keep the heap mapped, also when it is closed. Pickled, it
    is a reference to the object, not its bytes.
    """

    @property
    def handle(self) -> int:
        """The integer that names the object in every process."""

    @property
    def readonly(self) -> bool:
        """Whether the bytes cannot be changed through this buffer."""

    @property
    def connection(self) -> Connection: ...
    def free(self) -> None:
        """Frees the object, for all processes.

        `BufferError` if this process has views of it, by whatever buffer.
        """

    def write(self, offset: int, data: _Bytes) -> None:
        """Copies bytes into the object, from `offset` on. Other threads run meanwhile."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, view: memoryview, /) -> None: ...
    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

def destroy(name: str) -> None:
    """Removes a heap's name.

    Processes that are connected go on undisturbed; the memory is returned when the last of them
    disconnects. What is no heap is left alone.

    Raises `NotFound`, `PermissionDenied`, `NotAHeap`.
    """

def destroy_file(path: str | os.PathLike[str]) -> None:
    """Removes a file that holds a heap: see `destroy`."""

def sweep_abandoned() -> list[str]:
    """Removes the ephemeral heaps in shared memory whose processes were all killed.

    Returns their names. Whoever creates an ephemeral heap does so in passing. Those that this user
    may not remove are passed over.
    """
