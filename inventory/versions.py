"""The publisher's side of history: from what an object is now to messages that open and close its versions."""

from __future__ import annotations

import heapq
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tierflow.schemas.inventory import ENDPOINT, Message, ObjectVersion, Tombstone

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Which = tuple[str, str, int]
"""Kind, key and valid_from_ns of a version."""


class Versions:
    """The open version of every object, and the closed ones that are still retained.

    A publisher that takes over first loads what the topic holds, so that its own first listing publishes only what
    differs. Times never go back: a change noticed at an earlier time than the version it ends ends it right there, and
    nothing begins or ends before what readers have been told is complete.
    """

    __slots__ = ("_closed", "_complete_ns", "_ends", "_open", "_released", "_releases")

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], ObjectVersion] = {}
        self._closed: dict[Which, ObjectVersion] = {}
        self._released: dict[str, int] = {}
        self._complete_ns = 0
        # What is forgotten next is on top; what has another end by now is passed over.
        self._ends: list[tuple[int, Which]] = []
        self._releases: list[tuple[int, str]] = []

    def load(self, message: Message) -> None:
        """Take over a message that is in the topic already."""
        if isinstance(message, ObjectVersion):
            which = (message.kind, message.key)
            if message.valid_to_ns is None:
                self._open[which] = message
                return
            if which in self._open and self._open[which].valid_from_ns == message.valid_from_ns:
                del self._open[which]
            self._keep_closed(message, message.valid_to_ns, releases=True)
        elif isinstance(message, Tombstone):
            self._closed.pop((message.kind, message.key, message.valid_from_ns), None)
        elif message.watermark_ns:
            self._complete_ns = message.watermark_ns

    @property
    def complete_ns(self) -> int:
        """The watermark that readers have been told."""
        return self._complete_ns

    def complete_to(self, watermark_ns: int) -> None:
        """Readers have been told that all before ``watermark_ns`` is known to them, and may have joined by it."""
        self._complete_ns = max(self._complete_ns, watermark_ns)

    def kinds(self) -> set[str]:
        """The kinds of which there are objects now."""
        return {kind for kind, _ in self._open}

    def keys(self, kind: str) -> set[str]:
        """The objects of a kind that exist now."""
        return {key for of_kind, key in self._open if of_kind == kind}

    def put(
        self, kind: str, key: str, content: dict[str, Any], *, began_ns: int | None, now_ns: int
    ) -> list[ObjectVersion]:
        """An object is ``content`` now; ``began_ns`` is since when a new one says to be. Empty when nothing changed."""
        current = self._open.get((kind, key))
        if current is not None and current.object == content:
            return []
        messages = []
        now_ns = max(now_ns, self._complete_ns)
        begin = now_ns if began_ns is None else min(max(began_ns, self._complete_ns), now_ns)
        if current is not None:
            same = content.get("addresses") == current.object.get("addresses")
            # A pod of the same name with another address is another pod when it began later: the one before had ended.
            end = now_ns if same or begin <= current.valid_from_ns else begin
            messages.append(self._close(current, end))
            begin = messages[0].valid_to_ns or end
        for address in content.get("addresses", ()):
            # Nobody can have an address before the holder before gave it back.
            begin = max(begin, self._released.get(address, 0)) if kind == ENDPOINT else begin
        while (kind, key, begin) in self._closed:
            begin += 1
        opened = ObjectVersion(kind, key, begin, None, content)
        self._open[kind, key] = opened
        return [*messages, opened]

    def drop(self, kind: str, key: str, *, now_ns: int) -> list[ObjectVersion]:
        """An object is gone; empty when it was unknown."""
        current = self._open.pop((kind, key), None)
        return [] if current is None else [self._close(current, now_ns)]

    def retain(
        self,
        kind: str,
        keys: Collection[str],
        *,
        now_ns: int,
        prefix: str = "",
        taken_ns: Mapping[str, int] = MappingProxyType({}),
    ) -> list[ObjectVersion]:
        """Of ``kind``, below ``prefix``, only ``keys`` still exist: what vanished unseen is closed.

        It ended at ``now_ns``, or when another took one of its addresses (``taken_ns``: since when, by address).
        """
        messages = []
        for key in sorted(key for key in self.keys(kind) - set(keys) if key.startswith(prefix)):
            vanished = self._open[kind, key]
            taken = [taken_ns[each] for each in vanished.object.get("addresses", ()) if each in taken_ns]
            ends = [each for each in taken if vanished.valid_from_ns < each < now_ns]
            messages += self.drop(kind, key, now_ns=min(ends, default=now_ns))
        return messages

    def expire(self, before_ns: int) -> list[Tombstone]:
        """Forget versions that ended before ``before_ns``."""
        old = []
        while self._ends and self._ends[0][0] < before_ns:
            end, which = heapq.heappop(self._ends)
            known = self._closed.get(which)
            if known is not None and known.valid_to_ns == end:
                del self._closed[which]
                old.append(Tombstone(*which))
        while self._releases and self._releases[0][0] < before_ns:
            at, address = heapq.heappop(self._releases)
            if self._released.get(address) == at:
                del self._released[address]
        return old

    def clock_went_back(self, now_ns: int) -> list[ObjectVersion]:
        """The clock of all times so far was ahead, and says ``now_ns`` now: nothing may begin or end later than that.

        What is, is since now; what ended, has ended by now.
        """
        messages = []
        self._complete_ns = min(self._complete_ns, now_ns)
        for which, version in list(self._closed.items()):
            if (version.valid_to_ns or 0) > max(now_ns, version.valid_from_ns):
                self._closed[which] = mended = replace(version, valid_to_ns=max(version.valid_from_ns, now_ns))
                heapq.heappush(self._ends, (mended.valid_to_ns or 0, which))
                messages.append(mended)
        for address, at in list(self._released.items()):
            if at > now_ns:
                self._released[address] = now_ns
                heapq.heappush(self._releases, (now_ns, address))
        for kind, key in [which for which, version in self._open.items() if version.valid_from_ns > now_ns]:
            ahead = self._open.pop((kind, key))
            never = replace(ahead, valid_to_ns=ahead.valid_from_ns)
            self._keep_closed(never, ahead.valid_from_ns, releases=False)
            messages += [never, *self.put(kind, key, ahead.object, began_ns=now_ns, now_ns=now_ns)]
        return messages

    def _close(self, version: ObjectVersion, now_ns: int) -> ObjectVersion:
        end = max(now_ns, version.valid_from_ns, self._complete_ns)
        closed = replace(version, valid_to_ns=end)
        self._keep_closed(closed, end, releases=True)
        return closed

    def _keep_closed(self, version: ObjectVersion, end_ns: int, *, releases: bool) -> None:
        which = (version.kind, version.key, version.valid_from_ns)
        self._closed[which] = version
        heapq.heappush(self._ends, (end_ns, which))
        if releases and version.kind == ENDPOINT:
            for address in version.object.get("addresses", ()):
                if end_ns > self._released.get(address, -1):
                    self._released[address] = end_ns
                    heapq.heappush(self._releases, (end_ns, address))
