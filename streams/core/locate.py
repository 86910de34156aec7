"""Who stands at the ends of an address pair at a time, and for how long that stays true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.record import address_columns
from tierflow.streams.core.backends import Backends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import EndpointVersion, Snapshot

    U64 = NDArray[np.uint64]
    I32 = NDArray[np.int32]

_S16, _S48 = np.uint64(16), np.uint64(48)
_LOW16 = np.uint64(0xFFFF)


REMEMBERED: Final = 256
"""Snapshots whose changes are told apart; who was away for longer looks everything up anew."""


@dataclass(frozen=True, slots=True)
class Located:
    """Columns of one length; see :class:`~tierflow.streams.core.flows.Pairs`."""

    end_hi: U64
    end_lo: U64
    end_port: NDArray[np.uint16]
    src: I32
    dst: I32
    service: I32
    from_ns: U64
    to_ns: U64


class Locator:
    """Looks address pairs up in one snapshot.

    Attributes:
        snapshot: what is looked up in.
        origin: the same for those that follow from each other.
        number: how many there were before in that line.
        changes: by number, the addresses that changed hands since the locator before.
    """

    __slots__ = ("_backends", "changes", "number", "origin", "snapshot")

    def __init__(self, snapshot: Snapshot, before: Locator | None = None) -> None:
        """``before`` looked in an earlier snapshot, which differs in endpoints and their slices only."""
        self.snapshot = snapshot
        self._backends = Backends(snapshot)
        self.number = 0
        self.origin = object()
        self.changes: list[tuple[int, U64]] = []
        if before is not None:
            self.number, self.origin = before.number + 1, before.origin
            lately = [each for each in before.changes if each[0] > self.number - REMEMBERED]
            self.changes = [*lately, (self.number, _changed(before.snapshot.endpoints, snapshot.endpoints))]

    def changed_since(self, before: Locator) -> U64 | None:
        """Lower halves of the addresses that changed hands since another locator; None: any may have.

        The backends of Services may have changed too, whatever is returned.
        """
        since = [each for number, each in self.changes if number > before.number]
        if self.origin is not before.origin or len(since) != self.number - before.number:
            return None
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *since]))

    def locate(
        self, src_hi: U64, src_lo: U64, dst_hi: U64, dst_lo: U64, nat_hi: U64, nat_lo: U64, tag: U64, times_ns: U64
    ) -> Located:
        """Locate pairs; ``tag`` is that of :class:`~tierflow.streams.core.records.Columns`.

        The destination is the translated one, where it was translated. The span reaches as far as neither address
        changes hands and no policy, Service or network set changes.
        """
        snapshot = self.snapshot
        translated = (nat_lo | nat_hi) != 0
        end_hi, end_lo = np.where(translated, nat_hi, dst_hi), np.where(translated, nat_lo, dst_lo)
        named_port, nat_port = (tag >> _S48).astype(np.uint16), (tag & _LOW16).astype(np.uint16)
        end_port = np.where(translated & (nat_port != 0), nat_port, named_port)
        service = snapshot.service(dst_hi, dst_lo, named_port, (tag >> _S16).astype(np.uint8), times_ns)
        src, dst = snapshot.lookup(src_hi, src_lo, times_ns), snapshot.lookup(end_hi, end_lo, times_ns)
        begin, end = snapshot.rare_spans(times_ns)
        for hi, lo in ((src_hi, src_lo), (end_hi, end_lo)):
            since, until = snapshot.spans(hi, lo, times_ns)
            np.maximum(begin, since, out=begin)
            np.minimum(end, until, out=end)
        unexplained = np.flatnonzero((service >= 0) & (dst < 0) & ~translated)
        if len(unexplained):
            self._backends.resolve(unexplained, service, times_ns, end_hi, end_lo, end_port, begin, end)
            dst[unexplained] = snapshot.lookup(end_hi[unexplained], end_lo[unexplained], times_ns[unexplained])
            since, until = snapshot.spans(end_hi[unexplained], end_lo[unexplained], times_ns[unexplained])
            begin[unexplained] = np.maximum(begin[unexplained], since)
            end[unexplained] = np.minimum(end[unexplained], until)
        return Located(end_hi, end_lo, end_port, src, dst, service, begin, end)


def _changed(before: Sequence[EndpointVersion], after: Sequence[EndpointVersion]) -> U64:
    """Lower halves of the addresses of versions that began, ended or were replaced; versions keep their places."""
    fresh = [*after[len(before) :], *(new for old, new in zip(before, after, strict=False) if old is not new)]
    return np.unique(address_columns(address for each in fresh for address in each.endpoint.addresses)[1])
