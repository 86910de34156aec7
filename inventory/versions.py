"""The publisher's side of history: from what an object is now to messages that open and close its versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tierflow.schemas.inventory import Message, ObjectVersion, Tombstone

if TYPE_CHECKING:
    from collections.abc import Collection


class Versions:
    """The open version of every object, and the closed ones that are still retained.

    A publisher that takes over first loads what the topic holds, so that its own first listing publishes only what
    differs. Times never go back: a change noticed at an earlier time than the version it ends ends it right there.
    """

    __slots__ = ("_closed", "_open", "_released_ns")

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], ObjectVersion] = {}
        self._closed: dict[tuple[str, str, int], int] = {}
        self._released_ns: dict[str, int] = {}

    def load(self, message: Message) -> None:
        """Take over a message that is in the topic already."""
        if isinstance(message, ObjectVersion):
            which = (message.kind, message.key)
            if message.valid_to_ns is None:
                self._open[which] = message
                return
            if which in self._open and self._open[which].valid_from_ns == message.valid_from_ns:
                del self._open[which]
            self._keep_closed(message, message.valid_to_ns)
        elif isinstance(message, Tombstone):
            self._closed.pop((message.kind, message.key, message.valid_from_ns), None)

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
        if current is not None:
            messages.append(self._close(current, now_ns))
            begin = messages[0].valid_to_ns or now_ns
            if content.get("addresses") != current.object.get("addresses") and began_ns is not None:
                # A pod of the same name with another address is another pod: it began when it says.
                begin = max(begin, min(began_ns, now_ns))
        else:
            begin = min(began_ns, now_ns) if began_ns is not None else now_ns
        for address in content.get("addresses", ()):
            # Nobody can have an address before the holder before gave it back.
            begin = max(begin, self._released_ns.get(address, 0)) if kind == "endpoint" else begin
        while (kind, key, begin) in self._closed:
            begin += 1
        opened = ObjectVersion(kind, key, begin, None, content)
        self._open[kind, key] = opened
        return [*messages, opened]

    def drop(self, kind: str, key: str, *, now_ns: int) -> list[ObjectVersion]:
        """An object is gone; empty when it was unknown."""
        current = self._open.pop((kind, key), None)
        return [] if current is None else [self._close(current, now_ns)]

    def retain(self, kind: str, keys: Collection[str], *, now_ns: int, prefix: str = "") -> list[ObjectVersion]:
        """Of ``kind``, below ``prefix``, only ``keys`` still exist: what vanished unseen is closed."""
        vanished = sorted(key for key in self.keys(kind) - set(keys) if key.startswith(prefix))
        return [message for key in vanished for message in self.drop(kind, key, now_ns=now_ns)]

    def expire(self, before_ns: int) -> list[Tombstone]:
        """Forget versions that ended before ``before_ns``."""
        old = [which for which, end_ns in self._closed.items() if end_ns < before_ns]
        for which in old:
            del self._closed[which]
        self._released_ns = {address: at for address, at in self._released_ns.items() if at >= before_ns}
        return [Tombstone(*which) for which in old]

    def _close(self, version: ObjectVersion, now_ns: int) -> ObjectVersion:
        end = max(now_ns, version.valid_from_ns)
        closed = replace(version, valid_to_ns=end)
        self._keep_closed(closed, end)
        return closed

    def _keep_closed(self, version: ObjectVersion, end_ns: int) -> None:
        self._closed[version.kind, version.key, version.valid_from_ns] = end_ns
        if version.kind == "endpoint":
            for address in version.object.get("addresses", ()):
                self._released_ns[address] = max(end_ns, self._released_ns.get(address, 0))
