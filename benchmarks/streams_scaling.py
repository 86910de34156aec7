"""Two workers on two partitions against one on one, through a real Kafka, with the same processor for each worker.

On a machine whose cores workers and broker fill together, two workers measure only that. So each gets the same bounded
share of a core, whether it is alone or not, and the broker the rest. Needs root.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchmarks.streams_kafka import SMALL, STEADY, WALL, WHOLE, measured
from benchmarks.workload import Size

if TYPE_CHECKING:
    from benchmarks.harness import Report

PART = 0.125
"""Of all cores, for one worker: two and the broker leave half of the machine idle."""


HALF = Size(connections=100_000, nodes=50)


def run(quick: bool) -> list[Report]:
    """One worker, two, one again: a virtual machine's processor may be faster one minute and slower the next."""
    share = min(1.0, PART * (os.cpu_count() or 1))
    size = SMALL if quick else HALF
    before, two, after = (measured(size, workers, share) for workers in (1, 2, 1))
    for report in (before, two, after):
        report.name += f" with {share:g} of a core each"
    for name in (WALL, WHOLE, STEADY):
        one = (before.value(name) + after.value(name)) / 2
        two.add(f"two against one, {name}", two.value(name) / one, "times")
    return [before, after, two]
