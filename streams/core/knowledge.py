"""What is known of the cluster for as long as names, Services, network sets and policies stay: numbers and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierflow.streams.core.counters import Rules
from tierflow.streams.core.entities import Ends, Traces
from tierflow.streams.core.texts import Texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.streams.core.join import Judges

    I32 = NDArray[np.int32]


class Knowledge:
    """Interned ends, traces and rules, and the texts made of them.

    Attributes:
        snapshot: the newest one that differs from the first in endpoints only.
        judges: compiled policies.
        first_port: int32, of each Service port the first of the same Service; the last element is -1, for none.
    """

    __slots__ = ("ends", "first_port", "judges", "rules", "snapshot", "texts", "traces")

    def __init__(self, snapshot: Snapshot, judges: Judges) -> None:
        self.snapshot, self.judges = snapshot, judges
        self.ends, self.traces = Ends(), Traces()
        self.rules = Rules(self.traces)
        self.texts = Texts(self.ends, self.traces, snapshot.services)
        first: dict[tuple[str, str], int] = {}
        ports = [first.setdefault((each.namespace, each.name), at) for at, each in enumerate(snapshot.services)]
        self.first_port: I32 = np.array([*ports, -1], np.int32)

    def covers(self, snapshot: Snapshot) -> bool:
        """Whether what is known here holds for another snapshot too: then only endpoints came and went."""
        known = self.snapshot
        return (
            known.generation == snapshot.generation
            and known.services is snapshot.services
            and known.network_sets is snapshot.network_sets
            and len(known.policy_versions) == len(snapshot.policy_versions)
            and all(a is b for a, b in zip(known.policy_versions, snapshot.policy_versions, strict=True))
        )

    def trace_numbers(self, policy: I32, trace: I32) -> I32:
        """The number of each policy set's trace, 0 where nothing was judged."""
        numbers = np.zeros(len(trace), np.int32)
        versions = np.unique(policy).tolist() if len(self.snapshot.policy_versions) else []
        for version in versions:
            at = policy == version
            resources = self.snapshot.policy_versions[version]
            numbers[at] = self.traces.numbers(self.judges.policy_set(resources), resources, trace[at])
        return numbers
