"""What is in force now, kept from the inventory topic."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from tierflow.console.server.board import InForce
from tierflow.inventory.history import History
from tierflow.policy.model import Resources
from tierflow.schemas.inventory import POLICY, ObjectVersion

if TYPE_CHECKING:
    from tierflow.inventory.topic import Reader
    from tierflow.schemas.inventory import Message

logger = logging.getLogger(__name__)

RETRY_S = 2.0


class Inventory(Protocol):
    """Says what is in force."""

    def in_force(self) -> InForce:
        """Policies and endpoints as of now."""
        ...


class TopicInventory:
    """Follows the inventory topic; answers from what it has read so far."""

    __slots__ = ("_current", "_history", "_manifests", "_reader", "_stale")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._history = History()
        self._manifests: dict[str, ObjectVersion] = {}
        self._current = InForce(Resources(), (), {})
        self._stale = False

    async def start(self) -> None:
        """Connect and read what the topic holds."""
        await self._reader.start()
        await self._reader.catch_up(self._take)
        # The first answer costs a tenth of a second with 10,000 pods; what changes later, a few milliseconds.
        self.in_force()

    async def follow(self) -> None:
        """Read on for ever; a broker that goes away is waited for."""
        while True:
            try:
                async for batch in self._reader.batches():
                    for message in batch:
                        self._take(message)
            except OSError:
                logger.warning("the inventory topic can't be read; trying again", exc_info=True)
            await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        """Disconnect."""
        await self._reader.stop()

    def in_force(self) -> InForce:
        """What is in force as of the last message read."""
        if self._stale:
            self._current = self._read()
            self._stale = False
        return self._current

    def _take(self, message: Message) -> None:
        self._history.apply(message)
        if isinstance(message, ObjectVersion):
            self._stale = True
            if message.kind == POLICY:
                known = self._manifests.get(message.key)
                if known is None or message.valid_from_ns >= known.valid_from_ns:
                    self._manifests[message.key] = message

    def _read(self) -> InForce:
        snapshot = self._history.snapshot()
        resources = snapshot.policy_versions[-1] if snapshot.policy_versions else Resources()
        alive = [version for version in snapshot.endpoints if version.valid_to_ns is None and version.policed]
        by_object = {
            _identity(held.object): held.object for held in self._manifests.values() if held.valid_to_ns is None
        }
        manifests = {}
        for policy in resources.policies:
            kind = "NetworkPolicy" if policy.kind == "KubernetesNetworkPolicy" else policy.kind
            manifest = by_object.get((kind, policy.namespace or "", policy.name))
            if manifest is not None:
                manifests[policy.trace_name] = manifest
        endpoints, names = (version.endpoint for version in alive), (version.name_aggr for version in alive)
        return InForce(resources, tuple(endpoints), manifests, tuple(names))


def _identity(manifest: dict[str, Any]) -> tuple[str, str, str]:
    metadata = manifest.get("metadata") or {}
    return str(manifest.get("kind")), str(metadata.get("namespace") or ""), str(metadata.get("name"))
