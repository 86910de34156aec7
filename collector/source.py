"""What a source of records hands to the publisher, and the shape that all sources have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Loss:
    """What could not be kept."""

    records: int = 0
    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.records + other.records, self.packets + other.packets, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Drain:
    """Part of one drained interval; the last part carries the watermark forward. Times are Unix ns."""

    records: NDArray[np.void]
    interval_start_ns: int
    interval_end_ns: int
    watermark_ns: int
    loss: Loss = Loss()


class RecordSource(Protocol):
    """Where records come from: eBPF, a capture file, or a seed."""

    def start(self) -> None:
        """Do the I/O that comes before the first drain; may block for seconds."""
        ...

    def drain(self) -> Iterator[Drain]:
        """What was seen since the drain before, in parts; at least one, even if empty. Runs in a worker thread."""
        ...

    def stop(self) -> None:
        """Give back what was taken; never raises for what is gone already."""
        ...


@runtime_checkable
class FollowsLinks(Protocol):
    """A source whose interfaces come and go."""

    def follow(self) -> None:
        """Take up links that came, let go of those that went; blocks.

        Raises:
            OSError: the kernel doesn't tell, or this process has no more file descriptors.
        """
        ...


@runtime_checkable
class StartsSlowly(Protocol):
    """A source whose ``start`` takes seconds, and can be told to give up."""

    def abandon(self) -> None:
        """Have ``start``, which runs in another thread, raise UnavailableError soon; nothing once it has returned."""
        ...
