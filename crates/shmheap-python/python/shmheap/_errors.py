"""Exceptions: one for each thing that a caller can do about a failure.

They have the names of the Rust library's errors, and the same texts, which say what happened, to
what, and what to do. Where Python has a word for it, they derive from that, too.
"""

from __future__ import annotations


class Error(Exception):
    """Why an operation on a heap was refused. Whatever is raised, the heap is as it was."""

    #: The `errno` value that stands for the error in the C library.
    errno: int | None = None

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class InvalidName(Error, ValueError):
    """The name cannot name a heap, or a root: choose another."""


class InvalidOption(Error, ValueError):
    """An option has a value that no heap can have: change it."""


class AlreadyExists(Error, FileExistsError):
    """Something of that name stands: connect to it, destroy it, or choose another name."""


class NotFound(Error, FileNotFoundError):
    """Nothing of that name stands: create it first, or check the spelling."""


class PermissionDenied(Error, PermissionError):
    """The system does not let this user do that."""


class NotAHeap(Error, ValueError):
    """The object is not a heap, or no longer a whole one."""


class VersionMismatch(Error, ValueError):
    """The heap was made by an incompatible version: use that version, or recreate it."""


class NoSpace(Error, OSError):
    """The system's storage is full: free some, raise its limit, or use another place."""


class AddressSpace(Error, MemoryError):
    """The heap does not fit the address space of this process."""


class AddressTaken(Error, OSError):
    """The heap has to lie at one address in every process, and here something else has that."""


class Full(Error, MemoryError):
    """No free range of the heap holds the object: free objects or make the heap larger."""


class QuotaExceeded(Error, MemoryError):
    """A quota of the heap, the process or the tag is used up: free objects, or raise it."""


class NotLabelled(Error):
    """The heap was made without labels, so it has no tags and quotas: make it with them."""


class InvalidTag(Error, ValueError):
    """The text cannot be a tag: choose another."""


class TooManyTags(Error, OSError):
    """The heap has as many tags as it can: use one of them."""


class TooManyLabels(Error, OSError):
    """Too many pairs of a process and a tag have objects: free some, or use fewer tags."""


class InvalidLayout(Error, ValueError):
    """No heap can serve the alignment, or the size overflows."""


class InvalidPointer(Error, ValueError):
    """The address is not a live object of this heap."""


class InvalidHandle(Error, LookupError):
    """The handle names no live object of this heap: it is stale, or from another heap."""


class Stale(InvalidHandle):
    """The handle's object was freed: forget the handle. First fit cannot always tell."""


class ReadOnly(Error, PermissionError):
    """This connection may only read: connect without `read_only` to change the heap."""


class TooManyPeers(Error, OSError):
    """Every process record is in use: disconnect some processes."""


class InvalidCell(Error, ValueError):
    """The address is no place for a cell."""


class Occupied(Error):
    """Another process has it in hand, or it is not empty: try again later."""


class Inherited(Error, RuntimeError):
    """The object belongs to the process that this one was forked from."""


class TooManyThreads(Error, OSError):
    """Every thread record is in use: end some threads or processes that use the heap."""


class TooManyUnpublished(Error, OSError):
    """No place is left to remember one more unpublished object."""


class NoRoot(Error, KeyError):
    """Nothing in the heap has the name: give it to something, or check the spelling."""


class RootExists(Error):
    """The name is taken in this heap: use what has it, remove it first, or choose another."""


class WrongType(Error, TypeError):
    """The object was made as something else than it is used as."""


class OwnerDied(Error, RuntimeError):
    """The process that held it died in the middle of a change: repair it, or make it anew."""


class NotOwner(Error, RuntimeError):
    """This process does not have it, so it cannot give it up."""


class TimedOut(Error, TimeoutError):
    """It did not come about in time: try again, wait longer, or look for who holds it up."""


class Closed(Error, ValueError):
    """It has been closed: stop using it."""


class AtCapacity(Error):
    """It holds as much as it was made for: take something out, or make it larger."""


class Damaged(Error):
    """The heap's own records contradict each other: stop using it and run `shmheap check`."""


class System(Error, OSError):
    """The system refused something for a reason of its own."""


for _class in [Error, *Error.__subclasses__(), Stale]:
    # Where users have them from, for tracebacks.
    _class.__module__ = "shmheap"
del _class
