"""What rules in force depend on and nobody knows: told in the log and in a metric, as flow logs carry no mark of it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from tierflow.policy.doubts import KINDS, unknowns
from tierflow.streams.metrics import POLICY_UNKNOWNS

if TYPE_CHECKING:
    from tierflow.inventory.snapshot import Snapshot
    from tierflow.policy.model import Resources
    from tierflow.schemas.metrics import Metrics

logger = logging.getLogger(__name__)


class Unknowns:
    """Tells once of each thing; of all again when policies change so that it is missed anew."""

    __slots__ = ("_live", "_resources", "_told")

    def __init__(self, live: Metrics) -> None:
        self._live = live
        self._resources: Resources | None = None
        self._told: frozenset[str] = frozenset()

    def tell(self, snapshot: Snapshot) -> None:
        """Look at the newest policies; nothing is done while they are the same."""
        if not snapshot.policy_versions or snapshot.policy_versions[-1] is self._resources:
            return
        self._resources = snapshot.policy_versions[-1]
        found = [(each, users) for each in unknowns(self._resources) if (users := each.users)]
        for each, users in found:
            if str(each) not in self._told:
                logger.warning("%s; verdicts by the rules of %s may be wrong for it", each, ", ".join(users))
        self._told = frozenset(str(each) for each, _ in found)
        count = Counter(each.kind for each, _ in found)
        for kind in KINDS:
            self._live.set(POLICY_UNKNOWNS, count[kind], kind=kind)
