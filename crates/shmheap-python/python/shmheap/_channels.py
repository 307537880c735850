"""Channels: messages between processes, whoever is killed or stopped.

`Channel` hands over values, each as an object that belongs to the sender, then to the channel, then
to the receiver: to one of them at any moment, and with whom it dies. `ByteChannel` copies messages
of one size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _arrays, _pickles
from ._errors import Closed, TimedOut
from ._shmheap import ByteQueue, Connection, Letter, LetterQueue

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray
    from typing_extensions import Buffer as _Bytes


class Channel:
    """A queue of values between processes, made by `Heap.channel`.

    Any number of processes send and receive; each value is received once. If a process is killed,
    what it had not sent yet, and what it had received, goes with it; what is in the channel stays.

    Values are pickled into an object of the heap. Arrays in them lie there as they are, and what is
    received looks at them there, and may change them. An array that was made by `array` is not even
    copied when it is sent. The object is freed when nothing looks at it any more; `Heap.keep` makes
    it one that stays.

    To unpickle is to run what the pickle says, so receive only from whom you would let run code
    here. Pickled, a channel is a reference. In Rust it is an `ObjectChannel` of the same name.
    """

    __slots__ = ("_connection", "_queue", "_name", "_capacity")

    def __init__(self, connection: Connection, name: str, capacity: int) -> None:
        self._connection = connection
        self._name = name
        self._capacity = capacity
        self._queue = LetterQueue(connection, name, capacity)

    @property
    def name(self) -> str:
        """What it is found by."""
        return self._name

    def array(
        self, shape: int | tuple[int, ...], dtype: DTypeLike = float, *, zero: bool = False
    ) -> NDArray[Any]:
        """A new array, to be filled and then sent: whole, as it is, and without a copy.

        It is this process's until it is sent, and freed when nothing looks at it any more.
        """
        return _arrays.create(self._alloc, shape, dtype, zero)

    def _alloc(self, size: int, align: int, zero: bool) -> Letter:
        return Letter(self._connection, size, align, zero)

    def send(self, value: Any, timeout: float | None = None) -> None:
        """Sends a value, and waits for room: so many seconds at the most, if given.

        An array that was made by `array` is the receiver's then: let go of it.

        Raises `TimedOut`, `Closed`; `Full` and others of `Heap.put`. The value was not sent then.
        """
        self._queue.send(self._letter_of(value), timeout)

    def _letter_of(self, value: Any) -> Letter:
        letter = _arrays.owner(value) if not isinstance(value, memoryview) else None
        if isinstance(letter, Letter) and letter.connection.id == self._connection.id:
            if letter is value or _arrays.is_whole(value, letter):
                return letter
        made = _pickles.put(self._alloc, value)
        assert isinstance(made, Letter)
        return made

    def try_send(self, value: Any) -> bool:
        """Sends a value if there is room; whether there was."""
        try:
            self.send(value, 0)
        except TimedOut:
            return False
        return True

    def recv(self, timeout: float | None = None) -> Any:
        """Receives a value, and waits for one: so many seconds at the most, if given.

        What a program in another language has sent is returned as it is, a buffer.

        Raises `TimedOut`; `Closed` if the channel is closed and empty.
        """
        letter = self._queue.recv(timeout)
        if _arrays.is_array(letter):
            return _arrays.view(letter)
        if _pickles.is_pickle(letter):
            return _pickles.get(letter, writable=True)
        return letter

    def try_recv(self, default: Any = None) -> Any:
        """Receives a value if there is one; else the default. `Closed` as `recv`."""
        try:
            return self.recv(0)
        except TimedOut:
            return default

    def close(self) -> None:
        """Closes it for good, for all. What is in it can still be received."""
        self._queue.close()

    def __iter__(self) -> Iterator[Any]:
        """Receives until the channel is closed and empty."""
        while True:
            try:
                value = self.recv()
            except Closed:
                return
            yield value
            del value  # not to keep it while waiting for the next

    def __len__(self) -> int:
        """How many values there are, at some moment."""
        return len(self._queue)

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._connection, self._name, self._capacity)

    def __repr__(self) -> str:
        return f"<shmheap.Channel {self._name!r}>"


class ByteChannel:
    """A queue of messages of one size between processes, made by `Heap.channel` with `item_size`.

    A message is copied in and out. If a process is killed, each message is in the channel, or was
    received, or was not sent. Pickled, it is a reference. In Rust it is a `ByteChannel`, or a
    `Channel` of values of that size, in C what `shmheap_channel_open` finds by the same name.
    """

    __slots__ = ("_connection", "_queue", "_name", "_capacity", "_item_size")

    def __init__(self, connection: Connection, name: str, capacity: int, item_size: int) -> None:
        self._connection = connection
        self._name = name
        self._capacity = capacity
        self._item_size = item_size
        self._queue = ByteQueue(connection, name, capacity, item_size)

    @property
    def name(self) -> str:
        """What it is found by."""
        return self._name

    def send(self, message: _Bytes, timeout: float | None = None) -> None:
        """Sends a message, and waits for room: so many seconds at the most, if given.

        One that is too short is filled up with zeros.

        Raises `TimedOut`, `Closed`; `InvalidOption` if it is too long.
        """
        self._queue.send(message, timeout)

    def try_send(self, message: _Bytes) -> bool:
        """Sends a message if there is room; whether there was."""
        try:
            self.send(message, 0)
        except TimedOut:
            return False
        return True

    def recv(self, timeout: float | None = None) -> bytes:
        """Receives a message, and waits for one: so many seconds at the most, if given.

        Raises `TimedOut`; `Closed` if the channel is closed and empty.
        """
        return self._queue.recv(timeout)

    def try_recv(self) -> bytes | None:
        """Receives a message if there is one. `Closed` as `recv`."""
        try:
            return self.recv(0)
        except TimedOut:
            return None

    def close(self) -> None:
        """Closes it for good, for all. What is in it can still be received."""
        self._queue.close()

    def __iter__(self) -> Iterator[bytes]:
        """Receives until the channel is closed and empty."""
        while True:
            try:
                message = self.recv()
            except Closed:
                return
            yield message

    def __len__(self) -> int:
        """How many messages there are, at some moment."""
        return len(self._queue)

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._connection, self._name, self._capacity, self._item_size)

    def __repr__(self) -> str:
        return f"<shmheap.ByteChannel {self._name!r}>"
