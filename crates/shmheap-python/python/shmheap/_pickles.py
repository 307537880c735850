"""Any Python object in a heap: its pickle, and beside it the bytes of the arrays in it.

```text
   0        8           16        20     24           24 + 16 count
  +--------+-----------+---------+------+------------+---------- - - -+-------+- - -+-------+
  | magic  | length of | count   |  0   | where each | pickle         | bytes |     | bytes |
  |        | the pickle| of rows |      | row is     |                |       |     |       |
  +--------+-----------+---------+------+------------+---------- - - -+-------+- - -+-------+
```

One object, so that one free frees everything. Everything is little-endian, each row of bytes at a
multiple of 64. By protocol 5 of `pickle` what is read looks at the rows where they are.

To unpickle is to run what the pickle says: whoever may write to a heap can have whoever gets values
from it run anything.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

from ._arrays import Alloc, Holder
from ._errors import WrongType
from ._shmheap import Buffer

#: The last byte is the version of the layout.
MAGIC = b"shm-pk\x00\x01"
_HEADER = struct.Struct("<8sQII")
_ROW = struct.Struct("<QQ")
_ALIGN = 64


def put(alloc: Alloc, value: Any) -> Holder:
    """A new object that holds a copy of the value."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    rows = [buffer.raw() for buffer in buffers]
    stream_at = _HEADER.size + _ROW.size * len(rows)
    end = stream_at + len(stream)
    table = []
    for row in rows:
        start = -(-end // _ALIGN) * _ALIGN
        table.append((start, row.nbytes))
        end = start + row.nbytes
    holder = alloc(end, _ALIGN, False)
    try:
        head = [_HEADER.pack(MAGIC, len(stream), len(rows), 0)]
        holder.write(0, b"".join(head + [_ROW.pack(*place) for place in table]))
        holder.write(stream_at, stream)
        for (start, _), row in zip(table, rows):
            holder.write(start, row)
    except BaseException:
        if isinstance(holder, Buffer):
            holder.free()
        raise
    return holder


def is_pickle(buffer: Holder) -> bool:
    """Whether the object says that it was put."""
    return bytes(memoryview(buffer)[: len(MAGIC)]) == MAGIC


def get(buffer: Holder, writable: bool) -> Any:
    """The value that was put into the object."""
    if not is_pickle(buffer):
        raise WrongType(
            f"the object {buffer.handle:#x} was not made by put(); use what it was made as: "
            "asarray(), or resolve()"
        )
    view = memoryview(buffer)
    if not writable:
        view = view.toreadonly()
    try:
        stream, rows = _read(view)
    except (ValueError, struct.error) as error:
        raise WrongType(
            f"the object {buffer.handle:#x} says that it was put, and cannot be: {error}; make it "
            "anew"
        ) from None
    return pickle.loads(stream, buffers=rows)


def _read(view: memoryview) -> tuple[bytes, list[memoryview]]:
    """The pickle and the rows, as far as they lie in the object.

    The pickle is copied: `pickle` is not made for bytes that change while it reads them.
    """
    _, stream_bytes, count, _ = _HEADER.unpack_from(view)
    stream_at = _HEADER.size + _ROW.size * count
    if stream_at + stream_bytes > len(view):
        raise ValueError("its pickle ends outside the object")
    table = bytes(view[_HEADER.size : stream_at])
    rows = []
    for start, count_bytes in _ROW.iter_unpack(table):
        if start + count_bytes > len(view):
            raise ValueError("some of its bytes lie outside the object")
        rows.append(view[start : start + count_bytes])
    return bytes(view[stream_at : stream_at + stream_bytes]), rows
