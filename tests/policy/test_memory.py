"""What policy versions cost to keep: an hour's worth of them are held at once."""

from __future__ import annotations

import os
from pathlib import Path

from tests.policy.clusters import Maker
from tests.policy.test_judge import FLOWS, assert_agree, random_flows

from tierflow.policy import PolicySet, compile_policies

VERSIONS = 30
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def test_policy_versions_that_judge_little_hold_little_memory() -> None:
    maker = Maker(7)
    flows = random_flows(maker, FLOWS)
    resources = maker.resources()
    before = resident_bytes()
    held: list[PolicySet] = []
    for _ in range(VERSIONS):
        held.append(compile_policies(resources))
        assert_agree(held[-1], flows)
    assert resident_bytes() - before < VERSIONS * (40 << 20)
