"""The records of a batch as contiguous columns, and what no record can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.errors import RejectReason
from tierflow.schemas.record import RECORD, TcpFlag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]

EARLIEST_NS: Final = 946_684_800_000_000_000
"""2000-01-01; an earlier time is a broken clock."""
SOURCE_PORT: Final = np.uint64(0xFFFF << 32)
"""Where the source port is in :attr:`Columns.tag`."""

_LOW32, _S16, _S24, _S32, _S48 = np.uint64(0xFFFF_FFFF), *map(np.uint64, (16, 24, 32, 48))
_HIGH32: Final = np.uint64(0xFFFF_FFFF << 32)
_ONE_REPORTER: Final = np.uint64(1 << 24)
_REPORTER: Final = np.uint64(0xFF << 24)
_LAST_REPORTER: Final = np.uint64(2 << 24)
_BYTES_LIMIT: Final = np.uint64(1 << 48)
"""2**32 packets of 64 KiB: a record can't hold more."""
_TCP: Final = np.uint64(6)
_ASKS: Final = np.uint64(TcpFlag.SYN | TcpFlag.FIN | TcpFlag.PSH)
_BARE_BYTES: Final = np.uint64(100)
"""The longest segment without data: IPv6 40 bytes, TCP at most 60 (RFC 8200, RFC 9293)."""


class Columns:
    """Records column by column; each column is uint64[n], contiguous.

    Reading a column out of 104-byte records touches every cache line of theirs; it is done once here, for all columns.

    ``tag`` holds, from the top, destination port, source port, reporter, protocol and the translated destination's
    port, 16, 16, 8, 8 and 16 bits: what makes a conversation besides its addresses.
    """

    __slots__ = (
        "_ports_and_rtt", "_rest", "bytes_fwd", "bytes_rev", "count", "dst_hi", "dst_lo", "first_ns", "last_ns",
        "nat_hi", "nat_lo", "packets", "src_hi", "src_lo", "tag", "wide",
    )  # fmt: skip

    def __init__(self, words: U64) -> None:
        """``words`` are the records' thirteen words by row: uint64[13, n]."""
        self.count = words.shape[1]
        (
            self.src_hi, self.src_lo, self.dst_hi, self.dst_lo, self.nat_hi, self.nat_lo, self.first_ns, self.last_ns,
            self.bytes_fwd, self.bytes_rev, self.packets, self._ports_and_rtt, self._rest,
        ) = words  # fmt: skip
        self.tag: U64 = self._ports_and_rtt & _HIGH32
        self.tag |= self._rest & _LOW32
        self.wide = bool(self.src_hi.any() or self.dst_hi.any() or self.nat_hi.any())

    @classmethod
    def of(cls, records: NDArray[np.void]) -> Columns:
        """Columns of records of dtype :data:`~tierflow.schemas.record.RECORD`."""
        words = np.ascontiguousarray(records).view("<u8").reshape(len(records), RECORD.itemsize // 8)
        return cls(np.ascontiguousarray(words.T))

    def where(self, chosen: NDArray[np.bool_]) -> Columns:
        """Some of the records."""
        return Columns(
            np.stack([
                column[chosen]
                for column in (
                    self.src_hi, self.src_lo, self.dst_hi, self.dst_lo, self.nat_hi, self.nat_lo, self.first_ns,
                    self.last_ns, self.bytes_fwd, self.bytes_rev, self.packets, self._ports_and_rtt, self._rest,
                )
            ])
        )  # fmt: skip

    def marks(self) -> U64:
        """Marks of each record; see :class:`~tierflow.schemas.record.Mark`."""
        marks: U64 = self._rest >> _S48
        marks &= np.uint64(0xFF)
        return marks

    def rtt_us(self) -> U64:
        """Handshake round-trip time of each record, 0 unknown."""
        rtt: U64 = self._ports_and_rtt & _LOW32
        return rtt

    def questions(self) -> NDArray[np.int64]:
        """Records that hold no answer to what they ask; int64, ascending.

        A packet asks, unless it is TCP's bare acknowledgement or reset: those are the end of an exchange.
        """
        alone = np.flatnonzero(self.packets <= _LOW32)
        packets, rest = self.packets[alone], self._rest[alone]
        flags = rest >> _S32
        flags &= np.uint64(0xFF)
        bare = (rest >> _S16) & np.uint64(0xFF) == _TCP
        bare &= (flags != 0) & (flags & _ASKS == 0) & (self.bytes_fwd[alone] <= packets * _BARE_BYTES)
        asking: NDArray[np.int64] = alone[(packets != 0) & ~bare]
        return asking

    def plausible(self, latest_ns: int) -> bool:
        """Whether no record is unusable; see :func:`unusable`."""
        reporter = self._rest - _ONE_REPORTER
        reporter &= _REPORTER
        return bool(
            self.first_ns.min() >= EARLIEST_NS
            and self.last_ns.max() <= latest_ns
            and reporter.max() <= _LAST_REPORTER
            and (self.bytes_fwd | self.bytes_rev).max() < _BYTES_LIMIT
            and (self.first_ns <= self.last_ns).all()
            and (self.src_lo.all() or (self.src_lo | self.src_hi).all())
            and (self.dst_lo.all() or (self.dst_lo | self.dst_hi).all())
        )


def unusable(records: NDArray[np.void], latest_ns: int) -> dict[str, NDArray[np.bool_]]:
    """Masks of records that can't be used, by reason; empty when all are fine.

    Args:
        records: dtype :data:`~tierflow.schemas.record.RECORD`.
        latest_ns: the end of the batch's interval; nothing can have been seen after it.
    """
    first, last = records["first_seen_ns"], records["last_seen_ns"]
    found = {}
    time = (first > last) | (last > np.uint64(latest_ns)) | (first < np.uint64(EARLIEST_NS))
    if time.any():
        found[RejectReason.BAD_TIME] = time
    reporter = records["reporter"]
    value = ((reporter - np.uint8(1)) > 2) | ((records["bytes_fwd"] | records["bytes_rev"]) >= _BYTES_LIMIT)
    value |= (records["src_lo"] == 0) & (records["src_hi"] == 0)
    value |= (records["dst_lo"] == 0) & (records["dst_hi"] == 0)
    value &= ~time
    if value.any():
        found[RejectReason.BAD_VALUE] = value
    return found
