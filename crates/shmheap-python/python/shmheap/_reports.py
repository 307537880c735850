"""What a heap tells about itself: plain values. A field's name ends in its unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Info:
    """Facts that never change in a heap's life, but for its length."""

    #: "scalable" or "first-fit".
    policy: str
    #: Bytes for objects now.
    len_bytes: int
    #: Bytes for objects at the most.
    max_len_bytes: int
    #: Tells this heap from every other, also of the same name.
    id: int
    #: By the maker's clock.
    created_unix_ns: int
    #: How many processes may be connected at once.
    peer_limit: int
    granule_bytes: int
    data_offset_bytes: int
    format_version: int
    #: Whether it goes with its last process.
    ephemeral: bool
    #: Whether its objects are counted by process and tag.
    labels: bool
    #: Where the heap starts in every process, if it was made so.
    address: int | None


@dataclass(frozen=True)
class ClassStats:
    """What a heap has of one size class."""

    object_bytes: int
    owned_slabs: int
    shared_slabs: int
    live_objects: int
    free_owned: int
    free_shared: int
    tail_bytes: int


@dataclass(frozen=True)
class OwnerStats:
    """What a peer has in hand."""

    slot: int
    live_objects: int


@dataclass(frozen=True)
class Stats:
    """How full a heap is. Exact when no process changes it meanwhile."""

    len_bytes: int
    max_len_bytes: int
    live_bytes: int
    live_objects: int
    free_bytes: int
    tail_bytes: int
    trimmed_bytes: int
    largest_free_bytes: int
    metadata_bytes: int
    #: Share of the free bytes outside the largest free block, 0 to 1.
    fragmentation: float
    operations: int
    lock_holder: int | None
    peers_alive: int
    #: Processes that died, or ended, without disconnecting; `sweep` clears them away.
    peers_dead: int
    classes: tuple[ClassStats, ...]
    owners: tuple[OwnerStats, ...]

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Stats:
        fields["classes"] = tuple(ClassStats(**one) for one in fields["classes"])
        fields["owners"] = tuple(OwnerStats(**one) for one in fields["owners"])
        return cls(**fields)


@dataclass(frozen=True)
class TagUsage:
    """What a tag has."""

    #: "" for objects without a tag.
    name: str
    #: Bytes of its objects, each rounded up as it is.
    bytes: int
    objects: int
    #: What it may have; None: no quota.
    quota_bytes: int | None


@dataclass(frozen=True)
class PeerUsage:
    """What a process has allocated and nobody has freed, whether it lives or not."""

    slot: int
    #: Which process in that slot, from 1 on.
    stay: int
    #: In its own PID namespace; for show only.
    pid: int
    #: Whether it is still connected.
    alive: bool
    bytes: int
    objects: int


@dataclass(frozen=True)
class Usage:
    """Who has how much of a heap with labels, and may have."""

    bytes: int
    objects: int
    #: What the heap may have; None: no quota.
    quota_bytes: int | None
    #: What each process may have; None: no quota.
    peer_quota_bytes: int | None
    #: First what has no tag, then each tag in order of its first use.
    tags: tuple[TagUsage, ...]
    #: Those that have objects, or had some and are connected; the largest first.
    peers: tuple[PeerUsage, ...]
    #: Whether a process was killed in the middle of counting, and found dead, and the objects were
    #: not counted anew since, as `Heap.sweep` does and an allocation beyond a quota: numbers may be
    #: too high, by one object for each of its threads.
    is_recount_due: bool

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Usage:
        fields["tags"] = tuple(TagUsage(**one) for one in fields["tags"])
        fields["peers"] = tuple(PeerUsage(**one) for one in fields["peers"])
        return cls(**fields)


@dataclass(frozen=True)
class Peer:
    """A process connected to a heap, or one that died connected."""

    slot: int
    alive: bool
    is_self: bool
    #: In its own PID namespace; for show only.
    pid: int
    pid_namespace: int
    connected_unix_ns: int
    command: str


@dataclass(frozen=True)
class Finding:
    """One contradiction in a heap's records."""

    rule: str
    offset_bytes: int
    detail: str


@dataclass(frozen=True)
class Report:
    """What a full audit found."""

    findings: tuple[Finding, ...]
    more_findings: bool
    stood_still: bool
    recovery_pending: bool
    blocks: int
    live_objects: int
    live_bytes: int
    free_bytes: int
    tail_bytes: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Report:
        fields["findings"] = tuple(Finding(**one) for one in fields["findings"])
        return cls(**fields)


@dataclass(frozen=True)
class Root:
    """What has a name in a heap."""

    name: str
    handle: int
    #: Whether it is a value of the Rust library (a channel, a map), which Python's objects are not.
    is_typed: bool
    #: Whether it is made: else a process is still at it.
    is_made: bool
