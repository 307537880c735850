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

A child that cannot hold a segment, since the heap is full perhaps, tries again each time that it is
asked for the bytes, and says why it cannot. What looks at them already is not told; so the child
leaves the pipe open, and its parent keeps them as long as both live.
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


@dataclass(eq=False)
class _Child:
    """One that may not hold yet what it has inherited."""

    #: End of a pipe whose other end the child closes when it does.
    pipe: int
    kept: set[Segment]
    patience_ms: int = _PATIENCE_MS

    def is_awaited(self, patience_ms: int) -> bool:
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        return not poll.poll(patience_ms)


#: Those that this process has, each by its `id`.
_open: weakref.WeakValueDictionary[int, Segment] = weakref.WeakValueDictionary()
_children: list[_Child] = []
#: Those that threads are about to fork, and their ends of the pipes.
_starting: dict[int, tuple[_Child, int]] = {}


def opened(segment: Segment) -> None:
    """Notes that the process has it."""
    _settle(None)
    _open[id(segment)] = segment


def closed(segment: Segment, waits: bool) -> None:
    """Waits a moment for children that are about to hold it; else it goes with a later call."""
    _settle(segment if waits else None)


def _settle(segment: Segment | None) -> None:
    """Lets go of what children hold themselves by now."""
    for child in list(_children):
        patience_ms = 0
        if segment is not None and segment in child.kept:
            patience_ms, child.patience_ms = child.patience_ms, 0
        if child.is_awaited(patience_ms):
            continue
        try:
            _children.remove(child)
        except ValueError:
            continue  # Another thread has, and closes the pipe.
        os.close(child.pipe)


def _all_open() -> list[Segment]:
    # Other threads open and close segments at any time; this is copied in one step.
    found = [reference() for reference in _open.valuerefs()]
    return [segment for segment in found if segment is not None]


def _before() -> None:
    _settle(None)
    if len(_open) > 0:
        end, other = os.pipe()
        # From here on no other thread's `close` is the end of them.
        _starting[threading.get_ident()] = _Child(end, set(_all_open())), other


def _in_parent() -> None:
    child, other = _starting.pop(threading.get_ident(), (None, -1))
    if child is not None:
        # With what other threads have opened meanwhile.
        child.kept.update(_all_open())
        _children.append(child)
        os.close(other)


def _in_child() -> None:
    is_lost = False
    for segment in _all_open():
        try:
            segment.hold()
        except Error:
            is_lost = True
    pipes = [child.pipe for child in _children]
    own, _ = _starting.get(threading.get_ident(), (None, -1))
    for child, other in _starting.values():
        pipes += [child.pipe] if child is own and is_lost else [child.pipe, other]
    for pipe in pipes:
        os.close(pipe)
    _children.clear()
    _starting.clear()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
