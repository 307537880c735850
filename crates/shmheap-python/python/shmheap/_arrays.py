"""NumPy arrays in a heap: an object that says by itself which array it holds.

```text
   0        8           16     18          20            24         24 + 8 ndim
  +--------+-----------+------+-----------+-------------+----------+-------+- - -+--------+
  | magic  | bytes of  | ndim | length of | where the   | shape    | dtype |     | data   |
  |        | the data  |      | the dtype | data starts | u64 each | ASCII |     |        |
  +--------+-----------+------+-----------+-------------+----------+-------+- - -+--------+
```

Everything is little-endian, the data in C order at a multiple of 64 in an object that is aligned to
64. Whoever reads it may be facing another program's bytes: they are copied once, then judged, and
NumPy bounds the array by the object in any case.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

from ._errors import WrongType
from ._shmheap import Buffer, Letter

if TYPE_CHECKING:
    import numpy
    from numpy.typing import DTypeLike, NDArray

#: The last byte is the version of the layout.
MAGIC = b"shm-nd\x00\x01"
_HEADER = struct.Struct("<8sQHHI")
_ALIGN = 64
_NDIM_MAX = 64
#: What NumPy calls the types of which an array's bytes say everything.
_DTYPE = re.compile(
    r"[<>|](?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)"
    r"|[mM]8(?:\[\d{0,9}[a-zA-Z]{1,7}\])?|[SUV][1-9]\d{0,8})"
)


#: What has the bytes of an object.
Holder = Union[Buffer, Letter]
#: Makes a new object, of a size and alignment, perhaps of zeros.
Alloc = Callable[[int, int, bool], Holder]


def create(alloc: Alloc, shape: Any, dtype: DTypeLike, zero: bool) -> NDArray[Any]:
    """A new array in a new object."""
    import numpy

    dtype = numpy.dtype(dtype)
    shape = _dimensions(shape)
    name = dtype.str.encode("ascii")
    if not is_plain(dtype):
        raise TypeError(
            f"an array of {dtype} in a heap could not be recognised by others; use numbers, dates "
            "or strings of fixed length, or put() the array"
        )
    numpy.broadcast_to(numpy.empty((), dtype), shape)  # Refuses what can be no array's.
    data_bytes = math.prod(shape) * dtype.itemsize
    data_at = -(-(_HEADER.size + 8 * len(shape) + len(name)) // _ALIGN) * _ALIGN
    header = _HEADER.pack(MAGIC, data_bytes, len(shape), len(name), data_at)
    header += struct.pack(f"<{len(shape)}Q", *shape) + name
    buffer = alloc(data_at + data_bytes, _ALIGN, zero)
    buffer.write(0, header)
    return _view(buffer, data_at, data_bytes, dtype, shape)


def is_plain(dtype: numpy.dtype[Any]) -> bool:
    """Whether an array of the type can be recognised from what is written of it."""
    import numpy

    return _DTYPE.fullmatch(dtype.str) is not None and numpy.dtype(dtype.str) == dtype


def _dimensions(shape: Any) -> tuple[int, ...]:
    dimensions = (shape,) if hasattr(shape, "__index__") else tuple(shape)
    dimensions = tuple(dimension.__index__() for dimension in dimensions)
    if any(dimension < 0 for dimension in dimensions):
        raise ValueError(f"an array cannot have the shape {dimensions}")
    if len(dimensions) > _NDIM_MAX:
        raise ValueError(f"an array has at most {_NDIM_MAX} dimensions, not {len(dimensions)}")
    return dimensions


def copy(alloc: Alloc, array: NDArray[Any]) -> NDArray[Any]:
    """A new array in a new object, with the same content."""
    copied = create(alloc, array.shape, array.dtype, zero=False)
    copied[...] = array
    return copied


def is_array(buffer: Holder) -> bool:
    """Whether the object says that it is an array."""
    return bytes(memoryview(buffer)[: len(MAGIC)]) == MAGIC


def view(buffer: Holder) -> NDArray[Any]:
    """The array that the object says it is."""
    import numpy

    if not is_array(buffer):
        raise WrongType(
            f"the object {buffer.handle:#x} is not an array made by array(); use what it was made "
            "as: get(), or resolve() and numpy.frombuffer()"
        )
    try:
        data_at, data_bytes, name, shape = _read(buffer)
        dtype = numpy.dtype(name)
        if math.prod(shape) * dtype.itemsize != data_bytes:
            raise ValueError("shape and length contradict each other")
        return _view(buffer, data_at, data_bytes, dtype, shape)
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise WrongType(
            f"the object {buffer.handle:#x} says that it is an array, and cannot be one: {error}; "
            "make it anew"
        ) from None


def _read(buffer: Holder) -> tuple[int, int, str, tuple[int, ...]]:
    """The header, as far as it can be true of the object."""
    longest = _HEADER.size + 8 * _NDIM_MAX + 64
    head = bytes(memoryview(buffer)[:longest])
    _, data_bytes, ndim, name_bytes, data_at = _HEADER.unpack_from(head)
    name_at = _HEADER.size + 8 * ndim
    if ndim > _NDIM_MAX or name_at + name_bytes > min(len(head), data_at):
        raise ValueError("its header is longer than it can be")
    if data_at % _ALIGN or data_at + data_bytes > len(buffer):
        raise ValueError("its data lies outside the object")
    shape = struct.unpack_from(f"<{ndim}Q", head, _HEADER.size)
    name = head[name_at : name_at + name_bytes].decode("ascii", "replace")
    if _DTYPE.fullmatch(name) is None:
        raise ValueError(f"it has no known type, but {name!r}")
    return data_at, data_bytes, name, shape


def _view(
    buffer: Holder, at: int, count_bytes: int, dtype: numpy.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    import numpy

    # Not `ndarray(buffer=...)`, which lets go of the buffer at once: here the array has a view that
    # is counted, so that the object is not freed under it.
    data = numpy.frombuffer(memoryview(buffer)[at : at + count_bytes], numpy.uint8)
    return data.view(dtype).reshape(shape)


def owner(view: Any) -> Holder | None:
    """The buffer that a memoryview or an array looks at, directly or by way of others."""
    numpy = sys.modules.get("numpy")
    while not isinstance(view, (Buffer, Letter)):
        if isinstance(view, memoryview):
            view = view.obj
        elif numpy is not None and isinstance(view, numpy.ndarray):
            view = view.base
        else:
            return None
    return view


def is_whole(array: NDArray[Any], buffer: Holder) -> bool:
    """Whether the array is the whole one that lies in the object, and not a part of it."""
    if not is_array(buffer):
        return False
    whole = view(buffer)
    same = ("data", "shape", "typestr", "strides")
    ours, theirs = array.__array_interface__, whole.__array_interface__
    return all(ours[key] == theirs[key] for key in same)
