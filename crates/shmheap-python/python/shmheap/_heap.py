"""`Heap`: what a program has in hand of a heap.

It is a connection that can be closed, and what Python makes of the objects there: buffers, arrays
(`_arrays.py`), values (`_pickles.py`), names.
"""

from __future__ import annotations

import atexit
import operator
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from . import _arrays, _pickles
from ._channels import ByteChannel, Channel
from ._errors import Closed, NoRoot, RootExists, WrongType
from ._maps import Map
from ._mutex import Mutex
from ._references import rebuild_heap
from ._reports import Info, Peer, Report, Root, Stats, Usage
from ._shmheap import Buffer, Connection, Letter

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

#: How often a name is taken that others keep taking.
_NAME_TRIES = 100


class Heap:
    """A heap in shared memory that this process is connected to.

    Made by `create` and `connect` and their kin. Any thread may use it at any time. A forked child
    may use the heap of its parent as it is, and pickled it is a reference, by which another process
    connects to the same heap.

    `close`, or the end of a `with`, lets go of it. The heap and its objects stay, for the other
    processes and for whoever connects later, until `destroy`. Buffers and arrays stay usable, too:
    the process disconnects when the last of them is gone.
    """

    __slots__ = ("_connected", "__weakref__")

    def __init__(self, connection: Connection) -> None:
        if not isinstance(connection, Connection):
            raise TypeError("a Heap is made by shmheap.create() or shmheap.connect()")
        self._connected: Connection | None = connection
        _open.add(self)

    @property
    def _connection(self) -> Connection:
        if self._connected is None:
            raise Closed("the heap is closed; connect to it again")
        return self._connected

    # Life

    def close(self) -> None:
        """Lets go of the heap. Nothing happens if it is closed already."""
        self._connected = None

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._connected is None

    def __enter__(self) -> Heap:
        self._connection
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_heap, (self._connection,)

    def __repr__(self) -> str:
        if self._connected is None:
            return "<shmheap.Heap, closed>"
        kind, which = self._connected.place
        return f"<shmheap.Heap {kind if which is None else os.fspath(which)!r}>"

    # What it is

    @property
    def name(self) -> str | None:
        """The heap's name, or the path of its file; None for a memfd."""
        _, which = self._connection.place
        return None if which is None else os.fspath(which)

    @property
    def read_only(self) -> bool:
        """Whether this connection can look but not change."""
        return self._connection.read_only

    def info(self) -> Info:
        """What the heap is."""
        return Info(**self._connection.info())

    def stats(self) -> Stats:
        """How full the heap is. A walk through it, during which other threads run."""
        return Stats._of(self._connection.stats())

    def peers(self) -> list[Peer]:
        """The processes connected for writing, or that died connected and were not swept yet."""
        return [Peer(**peer) for peer in self._connection.peers()]

    def check(self) -> Report:
        """A full audit of the heap's records. Other threads run meanwhile."""
        return Report._of(self._connection.check())

    def sweep(self) -> int:
        """Does for dead peers what they left half done; returns how many there were.

        Others would do the same for those they come across, so it need not be called.
        """
        return self._connection.sweep()

    def grow(self, size: int) -> int:
        """Makes the heap at least `size` bytes long, up to its `max_size`; returns its length."""
        return self._connection.grow(size)

    def trim(self) -> int:
        """Gives memory that no object uses back to the system; returns how many bytes."""
        return self._connection.trim()

    # Tags and quotas, in a heap made with `labels`

    @contextmanager
    def tag(self, name: str) -> Iterator[None]:
        """Has what this thread allocates in the heap inside of a `with` counted under a tag.

        Arrays, values and what maps and names take are counted, too. Tags may be inside of each
        other; "" is that of what has none, which is the default, unless the environment variable
        SHMHEAP_TAG named one when the process connected. Elsewhere than in a heap made with
        `labels` nothing is counted. It may decorate a function. Do not `await` inside: the thread
        does other things then.

        Raises `InvalidTag` above 48 bytes, and `TooManyTags`.
        """
        connection = self._connection
        number = connection.push_tag(name)
        try:
            yield
        finally:
            connection.pop_tag(number)

    def set_thread_tag(self, name: str | None) -> None:
        """Sets the tag of this thread where it is inside of no `tag`; None: that of its process."""
        self._connection.set_thread_tag(name)

    def set_quota(
        self, size: int | None, *, tag: str | None = None, each_peer: bool = False
    ) -> None:
        """Sets how many bytes of objects the heap may have, or a tag, or each process; None: any.

        An allocation beyond it raises `QuotaExceeded`, in every process, from now on. What is
        allocated stays, also if it is more.

        Raises `NotLabelled`, `InvalidTag`, `TooManyTags`, `ReadOnly`.
        """
        if tag is not None and each_peer:
            raise TypeError("a quota is of a tag or of each peer, not of both at once")
        self._connection.set_quota(size, tag, each_peer)

    def usage(self) -> Usage:
        """Who has how much, and may have. `NotLabelled` if the heap was made without `labels`."""
        return Usage._of(self._connection.usage())

    # Bytes

    def alloc(self, size: int, *, align: int = 16, zero: bool = False) -> Buffer:
        """Allocates an object of `size` bytes, which are whatever was there before.

        It lives until it is freed: by anybody, in any process, whether or not this one lives on.

        Raises `Full`, `NoSpace`, `InvalidLayout`, `ReadOnly`, `TooManyThreads`.
        """
        return self._connection.alloc(size, align, zero)

    def resolve(self, handle: int, length: int | None = None) -> Buffer:
        """The object of that handle, whoever allocated it.

        Without a `length` it is as long as it was made: what was asked for, rounded up a little.

        Raises `InvalidHandle`, or `Stale` if the object was freed.
        """
        return self._connection.resolve(handle, length)

    def _named(self, what: Any) -> int:
        """The handle that is meant by a handle, also one of NumPy's integers, or by a view."""
        if _arrays.owner(what) is None and hasattr(what, "__index__"):
            return operator.index(what)
        return self.handle(what)

    def handle(self, view: Any) -> int:
        """The handle of the object that a buffer, memoryview or array looks at.

        Raises `TypeError` for what lies in no heap, `ValueError` for what lies in another one.
        """
        buffer = _arrays.owner(view)
        if buffer is None:
            raise TypeError(f"this {type(view).__name__} does not lie in a heap; put() it there")
        if buffer.connection.id != self._connection.id:
            raise ValueError("this lies in another heap; use that heap, or copy it into this one")
        return buffer.handle

    def free(self, what: SupportsIndex | Buffer) -> None:
        """Frees an object, for all processes: by its handle, or its buffer.

        `BufferError` if this process has views of it: memoryviews, arrays. Whether other processes
        have some is theirs to know: those would show what is allocated there next.
        """
        handle = self._named(what)
        if isinstance(what, Buffer):
            what.free()
        else:
            self._connection.free(handle)

    # Arrays

    def array(
        self, shape: int | tuple[int, ...], dtype: DTypeLike = float, *, zero: bool = False
    ) -> NDArray[Any]:
        """Allocates an object and gives a NumPy array over it, in C order, aligned to 64 bytes.

        Other processes get it by its handle, with `asarray`. The array keeps the heap mapped.
        """
        return _arrays.create(self._connection.alloc, shape, dtype, zero)

    def copy(self, array: Any) -> NDArray[Any]:
        """Allocates an array with the content of another."""
        import numpy

        return _arrays.copy(self._connection.alloc, numpy.asanyarray(array))

    def asarray(self, what: SupportsIndex | Buffer) -> NDArray[Any]:
        """The array of that handle or buffer, which `array` or `copy` made, in any process.

        Raises `WrongType` if the object is something else.
        """
        return _arrays.view(self._connection.resolve(self._named(what)))

    # Values

    def put(self, value: Any) -> int:
        """Copies a value into a new object and returns its handle.

        It may be anything that can be pickled. Arrays in it, and other large rows of bytes that
        speak protocol 5 of `pickle`, lie in the object as they are.
        """
        return _pickles.put(self._connection.alloc, value).handle

    def get(self, what: SupportsIndex | Buffer, *, writable: bool = False) -> Any:
        """The value of that handle or buffer, which `put` made, in any process.

        Arrays in it are views of the object, and keep the heap mapped. They can be read only,
        unless `writable`. What else is in it is made anew by each call.

        Raises `WrongType` if the object is something else.

        To unpickle is to run what the pickle says: only get values from heaps that nobody writes to
        whom you would not let run code here.
        """
        return _pickles.get(self._connection.resolve(self._named(what)), writable)

    def keep(self, view: Any) -> int:
        """Makes what came out of a channel an ordinary object, which stays until it is freed.

        `view` is an array, or what else looks at it. Returns its handle. Raises `NotOwner` if this
        process does not have it any more.
        """
        handle, holder = self.handle(view), _arrays.owner(view)
        return holder.keep() if isinstance(holder, Letter) else handle

    # What several processes use at once

    @overload
    def channel(self, name: str, capacity: int = ..., item_size: None = ...) -> Channel: ...

    @overload
    def channel(self, name: str, capacity: int, item_size: int) -> ByteChannel: ...

    @overload
    def channel(self, name: str, capacity: int = ..., *, item_size: int) -> ByteChannel: ...

    def channel(
        self, name: str, capacity: int = 64, item_size: int | None = None
    ) -> Channel | ByteChannel:
        """The channel of that name: of any values, or of bytes, `item_size` in each message.

        Made if there is none, for `capacity` messages, rounded up to a power of two.

        Raises `WrongType` if the name is something else's, or the messages have another size.
        """
        if item_size is None:
            return Channel(self._connection, name, capacity)
        return ByteChannel(self._connection, name, capacity, item_size)

    def mutex(self, name: str) -> Mutex:
        """The mutex of that name; made if there is none. `WrongType` if it is something else's."""
        return Mutex(self._connection, name)

    def map(self, name: str) -> Map:
        """The map of that name; made if there is none. `WrongType` if it is something else's."""
        return Map(self._connection, name)

    # Names

    def root(self, name: str) -> int:
        """The handle of what has the name. `NoRoot` if nothing has."""
        return self._connection.root(name)

    def roots(self) -> list[Root]:
        """Everything that has a name, also what other languages have made, in no order."""
        return [
            Root(name, handle, fingerprint != 0, is_made)
            for name, handle, fingerprint, is_made in self._connection.roots()
        ]

    def set_root(self, name: str, what: SupportsIndex | Buffer | NDArray[Any]) -> None:
        """Gives an object a name. The name does not keep the object.

        Raises `RootExists`, `InvalidName`, `InvalidHandle`.
        """
        self._connection.set_root(name, self._named(what))

    def remove_root(self, name: str) -> int:
        """Takes a name away, and returns the handle of what had it, which stays.

        Raises `NoRoot`, or `Occupied` while a process is still making it.
        """
        return self._connection.remove_root(name)

    def _plain(self) -> Iterator[Root]:
        return (root for root in self.roots() if root.is_made and not root.is_typed)

    def __iter__(self) -> Iterator[str]:
        return iter([root.name for root in self._plain()])

    def __len__(self) -> int:
        return sum(1 for _ in self._plain())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return any(root.name == name for root in self._plain())

    def __getitem__(self, name: str) -> Any:
        """What has the name: an array, a value that was put, or the buffer of anything else."""
        buffer = self._connection.resolve(self._connection.root(name))
        if _arrays.is_array(buffer):
            return _arrays.view(buffer)
        if _pickles.is_pickle(buffer):
            return _pickles.get(buffer, writable=False)
        if name not in self:
            raise WrongType(f"'{name}' is not Python's own; open it as what it was made as")
        return buffer

    def __setitem__(self, name: str, value: Any) -> None:
        """Gives something a name; whatever had it stays, without one.

        What lies in this heap gets the name as it is: an object by its handle, a buffer, a whole
        array. Anything else is copied into a new object, as by `copy` or `put`.
        """
        buffer = self._object_of(value)
        if buffer is not None:
            return self._name(name, buffer.handle)
        numpy = sys.modules.get("numpy")
        plain = numpy is not None and type(value) is numpy.ndarray and _arrays.is_plain(value.dtype)
        if plain:
            made = self.handle(self.copy(value))
        else:
            made = self.put(value)
        try:
            self._name(name, made)
        except BaseException:
            self._connection.free(made)
            raise

    def _object_of(self, value: Any) -> Buffer | None:
        """The object of this heap that a buffer or an array stands for."""
        buffer = _arrays.owner(value) if not isinstance(value, memoryview) else None
        if not isinstance(buffer, Buffer) or buffer.connection.id != self._connection.id:
            return None
        if buffer is value or _arrays.is_whole(value, buffer):
            return buffer
        return None

    def _name(self, name: str, handle: int) -> None:
        for _ in range(_NAME_TRIES):
            try:
                return self._connection.set_root(name, handle)
            except RootExists:
                if any(root.name == name and root.is_typed for root in self.roots()):
                    raise
            try:
                self._connection.remove_root(name)
            except NoRoot:
                pass
        raise RootExists(f"others keep taking the name '{name}'; agree on who has it")

    def __delitem__(self, name: str) -> None:
        """Takes a name away. The object stays: `free(root(name))` before or after."""
        if name not in self:
            raise NoRoot(f"the heap has nothing of Python's own named '{name}'")
        self._connection.remove_root(name)


#: Those that this process has.
_open: weakref.WeakSet[Heap] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Disconnects where nobody did, also from heaps that a thread has which will never end."""
    for heap in list(_open):
        heap.close()
