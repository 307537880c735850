"""`Options`: what is chosen when a heap is made, but for its size."""

from __future__ import annotations

from typing import Any, Optional, TypedDict


class Options(TypedDict, total=False):
    """How a heap is made: keyword arguments of `create`, `create_file` and `connect_or_create`."""

    #: Bytes for objects that it grows up to by itself. Without it, it never grows.
    max_size: Optional[int]
    #: "scalable" (fast, for many processes and threads; the default), or "first-fit" (each object
    #: at the lowest free address; for heaps below some MiB).
    policy: str
    #: Permission bits, set whatever the umask; 0o600 unless given.
    mode: int
    #: A numeric group, instead of the process's.
    group: Optional[int]
    #: Whether it goes with its last process, also if that is killed: see the README.
    ephemeral: bool
    #: Whether objects are counted by process and tag, which may have quotas: see `Heap.tag`,
    #: `Heap.set_quota`, `Heap.usage`.
    labels: bool


def options(
    *,
    max_size: int | None = None,
    policy: str = "scalable",
    mode: int = 0o600,
    group: int | None = None,
    ephemeral: bool = False,
    labels: bool = False,
) -> dict[str, Any]:
    """All options, with their defaults."""
    return {
        "max_size": max_size,
        "policy": policy,
        "mode": mode,
        "group": group,
        "ephemeral": ephemeral,
        "labels": labels,
    }
