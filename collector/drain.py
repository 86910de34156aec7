"""From drained map entries to records on the topic: times, keep-alives, completions. Pure numpy, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.collector.map_layout import ENDED
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import RECORD, Mark, Reporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNANSWERED_S: Final = 20
"""TCP without a SYN-ACK: given up."""
ESTABLISHED_S: Final = 3_600
"""TCP that was answered, silent."""
IDLE_S: Final = 30
"""Any other protocol, silent."""
LINGER_S: Final = 10
"""How long a closed conversation is remembered, so that its last packets aren't taken for a new one."""
DATED_S: Final = 1_800
"""A silence up to this long is dated by its last packets; half of what the inventory remembers by default."""

TCP: Final = 6


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one look at the conversations yields.

    Attributes:
        records: dtype :data:`RECORD`, ALIVE or COMPLETED, without packets, times Unix.
        chosen: indices of the conversations that the records are of.
        forget: indices of the conversations to delete.
    """

    records: NDArray[np.void]
    chosen: NDArray[np.intp]
    forget: NDArray[np.intp]


def to_unix(records: NDArray[np.void], offset_ns: int) -> None:
    """Turn the kernel's boot-time clock into Unix time, in place; ``offset_ns`` = Unix time - boot time."""
    records["first_seen_ns"] += np.uint64(offset_ns)
    records["last_seen_ns"] += np.uint64(offset_ns)


def sweep(
    keys: NDArray[np.void],
    conversations: NDArray[np.void],
    interfaces: NDArray[np.uint32],
    now_ns: int,
    silent_since_ns: int | None,
    unix_ns: int,
) -> Sweep:
    """Which conversations ended without a packet saying so, and which are open but silent.

    A record's first time says whose its addresses were. Of a silence that is when there last were packets: a pod that
    has gone since, at either end, is still the one that spoke.

    Args:
        keys: dtype ``KEY``, shape ``(n,)``.
        conversations: dtype ``CONVERSATION``, shape ``(n,)``.
        interfaces: indices of the interfaces that are watched; a conversation elsewhere has ended.
        now_ns: boot time.
        silent_since_ns: open conversations without an entry since this boot time get an ALIVE record; None: none.
        unix_ns: Unix time of ``now_ns``: the last time of the records that are made.
    """
    tcp = keys["proto"] == TCP
    closed = conversations["ended"] == ENDED
    allowed_s = np.where(tcp, np.where(conversations["answered"] != 0, ESTABLISHED_S, UNANSWERED_S), IDLE_S)
    allowed_s = np.where(closed, LINGER_S, allowed_s)
    age_ns = np.int64(now_ns) - conversations["last_seen_ns"].astype(np.int64)
    over = (age_ns > allowed_s * NS_PER_S) | ~np.isin(keys["ifindex"], interfaces)
    completed = over & ~closed
    alive = np.zeros(len(keys), bool)
    if silent_since_ns is not None:
        alive = ~over & ~closed & (conversations["last_seen_ns"].astype(np.int64) < silent_since_ns)
    chosen = np.flatnonzero(completed | alive)
    dated_ns = unix_ns - np.where(age_ns <= DATED_S * NS_PER_S, np.maximum(age_ns, 0), 0)
    records = _records(keys[chosen], conversations[chosen], dated_ns[chosen], unix_ns)
    records["marks"] |= np.where(completed[chosen], Mark.COMPLETED, Mark.ALIVE).astype(np.uint8)
    return Sweep(records, chosen, np.flatnonzero(over))


def _records(
    keys: NDArray[np.void], conversations: NDArray[np.void], dated_ns: NDArray[np.int64], unix_ns: int
) -> NDArray[np.void]:
    records = np.zeros(len(keys), RECORD)
    local_began = conversations["reporter"] == Reporter.SRC
    for half in ("hi", "lo"):
        local, remote = keys[f"local_{half}"], keys[f"remote_{half}"]
        records[f"src_{half}"] = np.where(local_began, local, remote)
        records[f"dst_{half}"] = np.where(local_began, remote, local)
    records["src_port"] = np.where(local_began, keys["local_port"], keys["remote_port"])
    records["dst_port"] = conversations["dst_port"]
    records["proto"] = keys["proto"]
    records["reporter"] = conversations["reporter"]
    records["marks"] = conversations["marks"] & np.uint8(Mark.GUESSED)
    records["first_seen_ns"] = dated_ns
    records["last_seen_ns"] = unix_ns
    return records
