"""What tierflow counts equals, to the byte, what nftables counted beside it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import absent

if TYPE_CHECKING:
    from tests.lab.conftest import Node

FOR_S = float(os.environ.get("TRUTH_S", "15"))
"""How long traffic runs; TRUTH_S=60 counts for a minute."""


@pytest.mark.root
def test_raw_records_of_live_traffic_equal_nftables_counters_for_every_pair(node: Node) -> None:
    node.lab("set-up")
    node.pause()
    done = node.run(sys.executable, str(Path(__file__).with_name("count_beside.py")), str(FOR_S))
    if done.returncode == 3:
        absent(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    pods = {pod["address"] for name, pod in node.status().items() if name != "internet"}
    # Nothing is denied while the rogue is out, so what was sent was delivered.
    truth = {**counted["sent"], **counted["delivered"]}
    assert len([key for key in truth if key.endswith(" packets")]) >= 30
    assert all(truth.values())
    assert counted["src"] == truth
    between_pods = {key: value for key, value in truth.items() if set(key.split()[:2]) <= pods}
    assert counted["dst"] == between_pods
