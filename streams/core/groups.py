"""Aggregation keys of a node's flow logs: each has a number, and each address pair knows its own.

The key of a flow log depends on nothing that changes from window to window, so a pair is given its group once, and the
text of a group is made once. All of it is forgotten when names, Services, network sets or policies change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from tierflow.schemas.record import Reporter
from tierflow.streams.core.grouping import distinct_rows, hash_columns
from tierflow.streams.core.index import Index
from tierflow.streams.core.join import DENY, join
from tierflow.streams.core.table import I32, U8, U64, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.streams.core.flows import Pairs
    from tierflow.streams.core.join import Joined
    from tierflow.streams.core.knowledge import Knowledge
    from tierflow.streams.core.texts import GroupText

    I64 = NDArray[np.int64]

_PORTS: Final = np.zeros(256, bool)
_PORTS[[6, 17, 132, 136]] = True
"""Protocols that have ports: TCP, UDP, SCTP, UDP-Lite."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is merged; 0 nothing, 1 source ports, 2 pods of one prefix, 3 destination ports."""

    allowed: int = 2
    denied: int = 1


class Groups(Table):
    """Aggregation keys; numbers refer to :class:`~tierflow.streams.core.knowledge.Knowledge`.

    ``digest_hi`` and ``digest_lo`` hash the key's text. ``signature`` sums up which pairs ``sample`` was made of.
    """

    source: I32
    dest: I32
    source_name: I32
    dest_name: I32
    service: I32
    trace: I32
    source_port: I32
    dest_port: I32
    reporter: U8
    action: U8
    derived: U8
    proto: U8
    level: U8
    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    digest_hi: U64
    digest_lo: U64
    signature: U64

    KEY: ClassVar[tuple[str, ...]]

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__()
        self.knowledge = knowledge
        self.texts: list[GroupText] = [(b"",) * 6]
        self.samples: list[tuple[bytes, bytes, bytes]] = [(b"", b"", b"")]
        self._index = Index()

    def classify(self, pairs: Pairs, rows: I64, levels: Levels) -> None:
        """Join and judge pairs, and give each its group and, where its destination may deny it unseen, a second one."""
        knowledge = self.knowledge
        joined = join(pairs, rows, knowledge.snapshot, knowledge.judges)
        reporter = pairs.reporter(rows)
        second = np.flatnonzero(
            (reporter == Reporter.SRC) & (joined.egress_action != DENY) & (joined.ingress_action == DENY)
        )
        entry = np.concatenate([np.arange(len(rows)), second])
        derived = np.zeros(len(entry), bool)
        derived[len(rows) :] = True
        columns = self._columns(pairs, rows, joined, entry, derived, levels)
        numbers = self._numbers(columns)
        pairs.group[rows] = numbers[: len(rows)]
        pairs.derived[rows] = 0
        pairs.derived[rows[second]] = numbers[len(rows) :]

    def _columns(
        self, pairs: Pairs, rows: I64, joined: Joined, entry: I64, derived: NDArray[np.bool_], levels: Levels
    ) -> dict[str, NDArray[np.generic]]:
        knowledge = self.knowledge
        reporter = pairs.reporter(rows)
        ingress = (reporter == Reporter.DST) | ((reporter == Reporter.FWD) & (joined.egress_action == 0))
        inward = ingress[entry] | derived
        action = np.where(inward, joined.ingress_action[entry], joined.egress_action[entry])
        trace = knowledge.trace_numbers(
            joined.policy[entry], np.where(inward, joined.ingress_trace[entry], joined.egress_trace[entry])
        )
        holds_deny = np.array(knowledge.traces.holds_deny, bool)[trace]
        level = np.where(holds_deny | (action == DENY), levels.denied, levels.allowed).astype(np.uint8)
        snapshot, ends = knowledge.snapshot, knowledge.ends
        src, dst = pairs.src[rows], pairs.dst[rows]
        source, source_name, source_labels = ends.columns(snapshot, src, joined.src_set, joined.src_private)
        dest, dest_name, dest_labels = ends.columns(snapshot, dst, joined.dst_set, joined.dst_private)
        pairs.source_labels[rows], pairs.dest_labels[rows] = source_labels, dest_labels
        strangers = (src < 0) & (joined.src_set < 0) & joined.src_private
        pairs.strangers[rows] = strangers.astype(np.uint8) + ((dst < 0) & (joined.dst_set < 0) & joined.dst_private)
        proto = pairs.proto(rows)[entry]
        service = snapshot.as_shown(pairs.service[rows])[entry]
        fine, at = level <= 1, rows[entry]
        ports = _PORTS[proto]
        zero = np.uint64(0)
        return {
            "source": source[entry],
            "dest": dest[entry],
            "source_name": np.where(fine, source_name[entry], 0),
            "dest_name": np.where(fine, dest_name[entry], 0),
            "service": np.where(level >= 3, knowledge.first_port[service], service),
            "trace": trace,
            "source_port": np.where((level == 0) & ports, pairs.src_port(at).astype(np.int32), -1),
            "dest_port": np.where((level <= 2) & ports, pairs.end_port[at].astype(np.int32), -1),
            "reporter": np.where(derived, np.uint8(Reporter.DST), reporter[entry]),
            "action": action,
            "derived": derived.astype(np.uint8),
            "proto": proto,
            "level": level,
            "src_hi": np.where(fine, pairs.src_hi[at], zero),
            "src_lo": np.where(fine, pairs.src_lo[at], zero),
            "dst_hi": np.where(fine, pairs.end_hi[at], zero),
            "dst_lo": np.where(fine, pairs.end_lo[at], zero),
        }

    def _numbers(self, columns: dict[str, NDArray[np.generic]]) -> I64:
        key = [columns[name] for name in self.KEY]
        hashes = hash_columns(*key)
        first, number = distinct_rows(hashes, key)
        distinct = {name: column[first] for name, column in columns.items()}
        position, _ = self._index.first(hashes[first])

        def same(there: NDArray[np.int32], at: I64) -> NDArray[np.bool_]:
            equal: NDArray[np.bool_] = there != 0
            for name, column in distinct.items():
                equal &= getattr(self, name)[there] == column[at]
            return equal

        found = self._index.find(position, same).astype(np.int64)
        new = np.flatnonzero(found == 0)
        if len(new):
            found[new] = self.extend(len(new))
            for name, column in distinct.items():
                getattr(self, name)[found[new]] = column[new]
            if not self._index.has_room(len(new)):
                self._index = Index(self.count)
                rows = np.arange(1, self.count)
                self._index.add(hash_columns(*(getattr(self, name)[1 : self.count] for name in self.KEY)), rows, _other)
            else:
                self._index.add(hashes[first][new], found[new], _other)
            self._write_texts(found[new])
        return found[number]

    def _write_texts(self, rows: I64) -> None:
        texts = self.knowledge.texts
        digests = bytearray()
        for key in zip(*(getattr(self, name)[rows].tolist() for name in self.KEY), strict=True):
            text, digest = texts.group(*key)
            self.texts.append(text)
            self.samples.append((b"", b"", b""))
            digests += digest
        halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
        self.digest_hi[rows], self.digest_lo[rows] = halves[:, 0], halves[:, 1]


Groups.KEY = tuple(Groups.COLUMNS)[:-3]
"""All columns but the two digests and the signature."""


def _other(there: NDArray[np.int32], _: I64) -> NDArray[np.bool_]:
    """Groups that are added are distinct."""
    return np.zeros(len(there), bool)
