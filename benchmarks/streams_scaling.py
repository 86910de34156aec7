"""Two workers on two partitions against one on one, through a real Kafka, with the same processor for each worker.

On a machine whose cores workers and broker fill together, two workers measure only that. So each gets the same bounded
share of a core, whether it is alone or not, and the broker the rest. Needs root.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchmarks.streams_kafka import STEADY, WALL, WHOLE, measured

if TYPE_CHECKING:
    from benchmarks.harness import Report

PART = 0.125
"""Of all cores, for one worker: two and the broker leave half of the machine idle."""


def run(quick: bool) -> list[Report]:
    """One worker, then two."""
    share = min(1.0, PART * (os.cpu_count() or 1))
    one, two = (measured(quick, workers, share) for workers in (1, 2))
    for report in (one, two):
        report.name += f" with {share:g} of a core each"
    for name in (WALL, WHOLE, STEADY):
        two.add(f"two workers against one, {name}", two.value(name) / one.value(name), "times")
    return [one, two]
