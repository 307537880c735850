"""`Map`: a dictionary of texts and bytes that several processes read and change at once."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._shmheap import ByteMap, Connection

if TYPE_CHECKING:
    from typing_extensions import Buffer as _Bytes

_Default = TypeVar("_Default")
_NOTHING: Any = object()


class Map(MutableMapping[str, bytes]):
    """Texts and the bytes that they stand for, in a heap, for all processes; made by `Heap.map`.

    It is used as a `dict[str, bytes]`; values may be set from anything with the buffer protocol.
    Each operation on one key happens at once, whoever is killed: the others see the old value or
    the new one, whole. What is done by several (`map[key] += b"x"`) is not: use a mutex, or
    `setdefault`, which gives all who try it the same value.

    Reading takes no lock and waits for nobody. Who changes the map may wait for others who do; for
    one that was stopped in the middle, up to 10 seconds, then there is `TimedOut`. Of a writer that
    is killed, at the worst the memory of one value is lost.

    Iteration goes over the keys that there were when it began. Pickled, it is a reference. What it
    holds is freed by `clear`: do that before the root is removed.
    """

    __slots__ = ("_connection", "_map", "_name")

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._map = ByteMap(connection, name)

    @property
    def name(self) -> str:
        """What it is found by."""
        return self._name

    def __getitem__(self, key: str) -> bytes:
        value = self._map.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: _Bytes) -> None:
        """Raises what `Heap.alloc` raises, and `TimedOut`; the key has its old value then."""
        self._map.set(key, value, False)

    def __delitem__(self, key: str) -> None:
        if not self._map.remove(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and self._map.contains(key)
        except UnicodeEncodeError:
            return False  # Half a character is no text.

    def __iter__(self) -> Iterator[str]:
        return iter(self._map.texts())

    def __len__(self) -> int:
        return len(self._map)

    def __bool__(self) -> bool:
        return len(self._map) > 0

    @overload
    def get(self, key: str, default: None = ..., /) -> bytes | None: ...

    @overload
    def get(self, key: str, default: bytes | _Default, /) -> bytes | _Default: ...

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of the key, or the default."""
        value = self._map.get(key)
        return default if value is None else value

    @overload
    def pop(self, key: str, /) -> bytes: ...

    @overload
    def pop(self, key: str, /, default: bytes | _Default) -> bytes | _Default: ...

    def pop(self, key: str, /, default: Any = _NOTHING) -> Any:
        """Removes the key and returns its value. Of several who try, one gets it."""
        value = self._map.pop(key)
        if value is not None:
            return value
        if default is _NOTHING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, bytes]:
        """Removes some key and returns it with its value. Of several who try, each gets others."""
        for key in self:
            value = self._map.pop(key)
            if value is not None:
                return key, value
        raise KeyError("the map is empty")

    def setdefault(self, key: str, default: _Bytes = b"") -> bytes:
        """The value of the key, which is given the default if it has none."""
        while True:
            value = self._map.get(key)
            if value is not None:
                return value
            if self._map.set(key, default, True):
                return bytes(default)

    def clear(self) -> None:
        """Removes all keys; those that others add meanwhile may stay."""
        for key in self._map.texts():
            self._map.remove(key)

    def items(self) -> ItemsView[str, bytes]:
        """Keys and values; what goes meanwhile is left out."""
        return _Items(self)

    def values(self) -> ValuesView[bytes]:
        """All values; what goes meanwhile is left out."""
        return _Values(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._connection, self._name)

    def __repr__(self) -> str:
        return f"<shmheap.Map {self._name!r}>"


def _pairs(map: Map) -> Iterator[tuple[str, bytes]]:
    for key in map:
        value = map.get(key)
        if value is not None:
            yield key, value


class _Items(ItemsView[str, bytes]):
    _mapping: Map

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or item[0] not in self._mapping:
            return False
        return bool(self._mapping.get(item[0]) == item[1])

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return _pairs(self._mapping)


class _Values(ValuesView[bytes]):
    _mapping: Map

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in _pairs(self._mapping))
