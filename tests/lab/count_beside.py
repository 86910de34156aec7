"""Run on a lab's node: counts the same traffic by eBPF and by nftables, and prints both as JSON.

The lab must be up and paused. Exit code 3 and a line on standard error when eBPF can't run here.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tierflow.cli.lab import _lab
from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.lab import truth
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REPORTERS = {1: "src", 2: "dst"}


def address(low: int) -> str:
    return str(ipaddress.IPv4Address(int(low) & 0xFFFFFFFF))


def add(totals: dict[str, Counter[str]], records: NDArray[np.void]) -> None:
    for record in records:
        counted = totals[REPORTERS[int(record["reporter"])]]
        source = address(record["src_lo"])
        destination = address(record["nat_dst_lo"] or record["dst_lo"])
        for pair, way in ((f"{source} {destination}", "fwd"), (f"{destination} {source}", "rev")):
            counted[f"{pair} packets"] += int(record[f"packets_{way}"])
            counted[f"{pair} bytes"] += int(record[f"bytes_{way}"])


def as_totals(pairs: truth.Pairs) -> dict[str, int]:
    totals = {}
    for (source, destination), count in pairs.items():
        totals[f"{source} {destination} packets"] = count.packets
        totals[f"{source} {destination} bytes"] = count.bytes
    return totals


def quiet(lab: Any) -> bool:
    return all(pod["paused"] and pod["in_flight"] == 0 for pod in lab.status())


def main(for_s: float) -> None:
    lab = _lab()
    source = EbpfSource(EbpfSettings("truth", ("tf*",), 1.0, 5.0, 65536))
    totals: dict[str, Counter[str]] = {"src": Counter(), "dst": Counter()}
    try:
        source.start()
    except UnavailableError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3)
    try:
        truth.start()
        lab.resume()
        until = time.monotonic() + for_s
        # Traffic runs for a while, then stops; what is left is drained until two readings of the truth agree.
        before = None
        while time.monotonic() < until or not quiet(lab) or before != (before := truth.read()):
            time.sleep(1)
            for drain in source.drain():
                add(totals, drain.records)
            if time.monotonic() >= until:
                lab.pause()
        for drain in source.drain():
            add(totals, drain.records)
        counted = truth.read()
    finally:
        source.stop()
    both = {"sent": as_totals(counted.sent), "delivered": as_totals(counted.delivered)}
    sys.stdout.write(json.dumps({**totals, **both}))


if __name__ == "__main__":
    main(float(sys.argv[1]))
