"""What a forked child holds of the segments of `SharedMemory` that its parent has open.

```text
   parent                                      child
   pipe; fork ------------------------------> holds each segment itself
   keeps the segments that it had open then    |
   until the other end of the pipe is closed <-+ closes it, or dies
```

A child uses what it has inherited, but what its parent holds is not its own, and goes with that. So
it holds it once more, first of all. Its parent may close and unlink everything as soon as it has
forked, and keeps it nevertheless until the child has come so far.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from dataclasses import dataclass

from ._errors import Error
from ._shmheap import Segment

#: How long who closes a segment waits for a child to hold it, once. Longer than that takes.
_PATIENCE_MS = 1000


@dataclass
class _Child:
    """One that may not hold yet what it has inherited."""

    #: End of a pipe whose other end the child closes when it does.
    pipe: int
    kept: list[Segment]
    patience_ms: int = _PATIENCE_MS

    def is_awaited(self, patience_ms: int) -> bool:
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        return not poll.poll(patience_ms)


#: Those that this process has.
_open: weakref.WeakSet[Segment] = weakref.WeakSet()
_children: list[_Child] = []
#: Pipes of the threads that are about to fork.
_pipes: dict[int, tuple[int, int]] = {}


def opened(segment: Segment) -> None:
    """Notes that the process has it."""
    _settle(None)
    _open.add(segment)


def closed(segment: Segment) -> None:
    """Waits a moment for children that are about to hold it."""
    _settle(segment)


def _settle(segment: Segment | None) -> None:
    """Lets go of what children hold themselves by now."""
    awaited: list[_Child] = []
    try:
        while _children:
            try:
                awaited.append(_children.pop())
            except IndexError:
                break  # Another thread is at it.
            child, patience_ms = awaited[-1], 0
            if segment is not None and segment in child.kept:
                patience_ms, child.patience_ms = child.patience_ms, 0
            if not child.is_awaited(patience_ms):
                os.close(awaited.pop().pipe)
    finally:
        _children.extend(awaited)


def _before() -> None:
    _settle(None)
    if len(_open) > 0:
        _pipes[threading.get_ident()] = os.pipe()


def _in_parent() -> None:
    ends = _pipes.pop(threading.get_ident(), None)
    if ends is not None:
        os.close(ends[1])
        _children.append(_Child(ends[0], list(_open)))


def _in_child() -> None:
    for segment in list(_open):
        try:
            segment.hold()
        except Error:
            pass  # Its parent has died already, and it was unlinked.
    for child in _children:
        os.close(child.pipe)
    for ends in _pipes.values():
        os.close(ends[0])
        os.close(ends[1])
    _children.clear()
    _pipes.clear()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
