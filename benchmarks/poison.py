"""Raw messages that nobody should send, from one seed: noise, cut and bent batches, impossible values, wrong keys."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import RECORD, Reporter, address_halves
from tierflow.schemas.wire import HEADER, BatchHeader, encode_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Keyed = tuple[bytes | None, bytes | None]

EXTREMES: Final = (
    0, 1, 2**31 - 1, 2**32 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1,
    # Bit patterns of NaN and infinity, and of a time in ms and in s where ns are meant.
    0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000, 0x7FF0_0000_0000_0000, 1_780_000_000_000, 1_780_000_000,
)  # fmt: skip
TIMES: Final = ("first_seen_ns", "last_seen_ns")
AMOUNTS: Final = ("packets_fwd", "packets_rev", "bytes_fwd", "bytes_rev", "handshake_rtt_us")
KEYS: Final = ("src_hi", "src_lo", "dst_hi", "dst_lo", "nat_dst_hi", "nat_dst_lo", "src_port", "dst_port", "proto")
MARKS: Final = ("reporter", "marks")


class Poison:
    """An endless stream of ``(key, value)``; its nodes are called ``poison-…``, so that others can be told apart."""

    def __init__(self, seed: int, now_ns: int) -> None:
        self._rng = random.Random(seed)
        self._now_ns = now_ns
        self._sequence = 0
        self._kinds: tuple[Callable[[], Keyed], ...] = (
            self._noise, self._nothing, self._cut, self._bent, self._header, self._names, self._times, self._records,
            self._key, self._longer,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Keyed]:
        """Messages, for ever."""
        while True:
            yield self._rng.choice(self._kinds)()

    def _good(self, records: NDArray[np.void] | None = None) -> bytes:
        self._sequence += 1
        rng = self._rng
        header = BatchHeader(
            f"poison-{rng.randrange(8)}", "", rng.randrange(4).to_bytes(16, "little"), self._sequence,
            self._now_ns - NS_PER_S, self._now_ns, self._now_ns - rng.randrange(60) * NS_PER_S,
        )  # fmt: skip
        return encode_batch(header, self._some() if records is None else records)

    def _some(self) -> NDArray[np.void]:
        rng = self._rng
        records = np.zeros(rng.randrange(1, 40), RECORD)
        records["src_hi"], records["src_lo"] = address_halves(f"10.1.0.{rng.randrange(1, 60)}")
        records["dst_hi"], records["dst_lo"] = address_halves(f"10.1.0.{rng.randrange(1, 60)}")
        records["first_seen_ns"] = records["last_seen_ns"] = self._now_ns - rng.randrange(NS_PER_S)
        records["packets_fwd"], records["bytes_fwd"] = 3, 180
        records["proto"], records["reporter"], records["dst_port"] = 6, Reporter.SRC, 8080
        return records

    def _noise(self) -> Keyed:
        return b"poison", self._rng.randbytes(self._rng.choice((1, 3, 4, 95, 96, 97, 400, 5000)))

    def _nothing(self) -> Keyed:
        return self._rng.choice(((b"poison", None), (b"poison", b""), (None, b"")))

    def _cut(self) -> Keyed:
        value = self._good()
        return b"poison", value[: self._rng.randrange(len(value))]

    def _longer(self) -> Keyed:
        return b"poison", self._good() + self._rng.randbytes(self._rng.choice((1, 8, 104)))

    def _bent(self) -> Keyed:
        value = bytearray(self._good())
        for _ in range(self._rng.randrange(1, 5)):
            # The node's name stays: what is bent must not be taken for somebody else's.
            at = self._rng.choice((self._rng.randrange(HEADER.size), self._rng.randrange(HEADER.size + 16, len(value))))
            value[at] ^= 1 << self._rng.randrange(8)
        return b"poison", bytes(value)

    def _header(self) -> Keyed:
        value = bytearray(self._good())
        places = ((4, "<H"), (6, "<H"), (8, "<H"), (10, "<B"), (12, "<I"), (16, "<Q"), (40, "<Q"), (48, "<Q"),
                  (56, "<Q"), (64, "<Q"), (72, "<Q"), (80, "<Q"), (88, "<H"), (90, "<H"))  # fmt: skip
        at, form = self._rng.choice(places)
        struct.pack_into(form, value, at, self._rng.choice(EXTREMES) & ((1 << 8 * struct.calcsize(form)) - 1))
        return b"poison", bytes(value)

    def _names(self) -> Keyed:
        value = self._good()
        name = self._rng.choice((b"", b"\xff\xfe\x00", b"n" * 254, b"n" * 60_000, b"po\nison", "é".encode() * 126))
        size = HEADER.size + len(name)
        head = bytearray(value[: HEADER.size])
        struct.pack_into("<H", head, 6, min((size + 7) // 8 * 8, 65_535))
        struct.pack_into("<HH", head, 88, len(name), 0)
        struct.pack_into("<I", head, 12, 0)
        return b"poison", bytes(head) + name + bytes(-size % 8)

    def _times(self) -> Keyed:
        now, span = self._now_ns, self._rng.choice((NS_PER_S, 3600 * NS_PER_S, 10**18, 2**62))
        end = self._rng.choice((now + span, max(0, now - span), 2**64 - 1, 0))
        value = bytearray(self._good())
        struct.pack_into("<QQQ", value, 40, self._rng.choice((0, end, now)), end, self._rng.choice((0, end, now)))
        return b"poison", bytes(value)

    def _records(self) -> Keyed:
        records = self._some()
        for _ in range(self._rng.randrange(1, 6)):
            name = self._rng.choice((*TIMES, *AMOUNTS, *KEYS, *MARKS))
            bits = 8 * RECORD[name].itemsize
            records[name][self._rng.randrange(len(records))] = self._rng.choice(EXTREMES) & ((1 << bits) - 1)
        return b"poison", self._good(records)

    def _key(self) -> Keyed:
        return self._rng.choice((None, b"", b"\xff" * 300, b"somebody-else")), self._good()
