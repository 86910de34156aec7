"""Packets to conversations in plain Python, by the rules of ``count`` in ``bpf/conversations.c``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.collector.capture import INBOUND, OUTBOUND
from tierflow.collector.drain import sweep
from tierflow.collector.map_layout import CONVERSATION, ENDED, FIN_LOCAL, FIN_REMOTE, KEY
from tierflow.collector.packet import ICMP, ICMPV6, TCP, Packet
from tierflow.schemas.record import RECORD, Mark, Reporter, TcpFlag

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPHEMERAL: Final = 32_768
_RESERVED: Final = 1_024
_FRAGMENTS: Final = 4_096
_UNDIRECTED: Final = 1 << 31
"""Set in the interface number of conversations whose frames don't say which way they went."""

Key = tuple[int, int, int, int, int, int, int, int, int]
"""The fields of :data:`KEY` in order."""


@dataclass(slots=True)
class _Conversation:
    last_seen_ns: int
    syn_ns: int
    dst_port: int
    reporter: int
    marks: int
    answered: bool
    ended: int = 0


@dataclass(slots=True)
class _Entry:
    reporter: int
    dst_port: int
    marks: int
    first_seen_ns: int
    last_seen_ns: int
    handshake_rtt_us: int = 0
    packets_fwd: int = 0
    bytes_fwd: int = 0
    tcp_flags_fwd: int = 0
    packets_rev: int = 0
    bytes_rev: int = 0
    tcp_flags_rev: int = 0


class Conversations:
    """Counts since the last :meth:`take`, and what is known of the conversations beyond it.

    At an interface whose frames say their direction, inbound is from the pod: the file was taken at pods' host-side
    interfaces. Otherwise neither end is known to be here, and records have the reporter ``fwd``.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[Key, _Entry] = {}
        self._states: dict[Key, _Conversation] = {}
        self._fragments: dict[tuple[object, ...], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def open(self) -> bool:
        """Whether any conversation is counted or remembered."""
        return bool(self._entries or self._states)

    def add(self, packet: Packet, now_ns: int) -> None:
        """Count one packet."""
        marks = self._fragment(packet) if packet.first_fragment or packet.later_fragment else 0
        key, from_pod = self._key(packet)
        flags = packet.tcp_flags if packet.proto == TCP else 0
        handshake = flags & (TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST)
        entry = self._entries.get(key)
        rtt_us = 0
        if entry is None or handshake:
            state = self._state(key, packet, from_pod, now_ns)
            if handshake:
                rtt_us, closes = _shake(state, flags, from_pod, now_ns)
                marks |= closes
            if entry is None:
                state.last_seen_ns = now_ns
                entry = _Entry(state.reporter, state.dst_port, state.marks, now_ns, now_ns)
                self._entries[key] = entry
                state.marks &= ~Mark.STARTED
        if (entry.reporter == Reporter.SRC) == from_pod:
            entry.packets_fwd += 1
            entry.bytes_fwd += packet.bytes
            entry.tcp_flags_fwd |= flags
        else:
            entry.packets_rev += 1
            entry.bytes_rev += packet.bytes
            entry.tcp_flags_rev |= flags
        entry.last_seen_ns = now_ns
        entry.handshake_rtt_us = rtt_us or entry.handshake_rtt_us
        entry.marks |= marks

    def take(self) -> NDArray[np.void]:
        """Records of all that was counted since the take before, dtype :data:`RECORD`."""
        records = np.zeros(len(self._entries), RECORD)
        for index, (key, entry) in enumerate(self._entries.items()):
            local, remote = key[0:2], key[2:4]
            began_here = entry.reporter == Reporter.SRC
            src, dst = (local, remote) if began_here else (remote, local)
            reporter = Reporter.FWD if key[6] & _UNDIRECTED else entry.reporter
            records[index] = (
                *src, *dst, 0, 0, entry.first_seen_ns, entry.last_seen_ns, entry.bytes_fwd, entry.bytes_rev,
                entry.packets_fwd, entry.packets_rev, entry.handshake_rtt_us, key[4] if began_here else key[5],
                entry.dst_port, 0, key[7], reporter, entry.tcp_flags_fwd, entry.tcp_flags_rev, entry.marks, 0,
            )  # fmt: skip
        self._entries.clear()
        return records

    def sweep(self, now_ns: int, silent_since_ns: int | None) -> NDArray[np.void]:
        """COMPLETED and ALIVE records of conversations without a packet, as the live source makes them."""
        known = list(self._states.items())
        keys = np.array([key for key, _ in known], KEY)
        states = np.zeros(len(known), CONVERSATION)
        for field in ("last_seen_ns", "dst_port", "reporter", "marks", "ended", "answered"):
            states[field] = [getattr(state, field) for _, state in known]
        found = sweep(keys, states, np.unique(keys["ifindex"]), now_ns, silent_since_ns, now_ns)
        for index in found.forget:
            del self._states[known[index][0]]
        undirected = keys["ifindex"][found.chosen] & np.uint32(_UNDIRECTED) != 0
        found.records["reporter"][undirected] = Reporter.FWD
        return found.records

    def _key(self, packet: Packet) -> tuple[Key, bool]:
        src = (*packet.src, packet.src_port)
        dst = (*packet.dst, packet.dst_port)
        icmp = packet.icmp if packet.proto in (ICMP, ICMPV6) and not packet.later_fragment else 0

        def key(local: tuple[int, int, int], remote: tuple[int, int, int], interface: int) -> Key:
            return (*local[:2], *remote[:2], local[2], remote[2], interface, packet.proto, icmp)

        if packet.direction == INBOUND:
            return key(src, dst, packet.interface), True
        if packet.direction == OUTBOUND:
            return key(dst, src, packet.interface), False
        interface = packet.interface | _UNDIRECTED
        known = key(dst, src, interface)
        if known in self._states or known in self._entries:
            return known, False
        return key(src, dst, interface), True

    def _fragment(self, packet: Packet) -> int:
        """Ports of later fragments are those that the first one of the same datagram carried."""
        whole = (packet.src, packet.dst, packet.fragment_id, packet.proto, packet.interface, packet.direction)
        if packet.first_fragment:
            self._fragments.pop(whole, None)
            self._fragments[whole] = (packet.src_port, packet.dst_port)
            if len(self._fragments) > _FRAGMENTS:
                del self._fragments[next(iter(self._fragments))]
            return 0
        if whole not in self._fragments:
            return Mark.FRAGMENTED
        packet.src_port, packet.dst_port = self._fragments[whole]
        return 0

    def _state(self, key: Key, packet: Packet, from_pod: bool, now_ns: int) -> _Conversation:
        state = self._states.get(key)
        opens = packet.tcp_flags & (TcpFlag.SYN | TcpFlag.ACK) == TcpFlag.SYN and packet.proto == TCP
        if state is not None and opens:
            if state.ended == ENDED or state.answered:
                state = None
            else:
                state.syn_ns = 0
        if state is None:
            began, guess = _sender_began(packet)
            state = _Conversation(
                now_ns, now_ns if opens else 0,
                packet.icmp if packet.proto in (ICMP, ICMPV6) else packet.dst_port if began else packet.src_port,
                Reporter.SRC if from_pod == began else Reporter.DST,
                guess | Mark.STARTED, packet.proto == TCP and not packet.tcp_flags & TcpFlag.SYN,
            )  # fmt: skip
            self._states.pop(key, None)
            self._states[key] = state
            if len(self._states) > self._most:
                del self._states[next(iter(self._states))]
        return state


def _sender_began(packet: Packet) -> tuple[bool, int]:
    """Whether the packet's sender began, and GUESSED where that is no more than likely."""
    if packet.proto == TCP and packet.tcp_flags & TcpFlag.SYN:
        return not packet.tcp_flags & TcpFlag.ACK, 0
    guess = Mark.GUESSED if packet.proto == TCP else 0
    if packet.reply:
        return False, Mark.GUESSED
    src, dst = packet.src_port, packet.dst_port
    if packet.paired and ((src < _RESERVED <= dst) or (src < _EPHEMERAL <= dst)):
        return False, Mark.GUESSED
    return True, guess


def _shake(state: _Conversation, flags: int, from_pod: bool, now_ns: int) -> tuple[int, int]:
    """What SYN-ACK, FIN and RST do to a conversation: ``(handshake_rtt_us, marks)``."""
    rtt_us = 0
    if flags & (TcpFlag.SYN | TcpFlag.ACK) == TcpFlag.SYN | TcpFlag.ACK:
        if state.syn_ns:
            rtt_us = (now_ns - state.syn_ns) // 1000 or 1
        state.syn_ns, state.answered = 0, True
    before = state.ended
    if flags & TcpFlag.RST:
        state.ended = ENDED
    elif flags & TcpFlag.FIN:
        state.ended |= FIN_LOCAL if from_pod else FIN_REMOTE
    return rtt_us, Mark.COMPLETED if before != ENDED and state.ended == ENDED else 0
