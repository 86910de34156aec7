"""What flow logs of the storefront must say, wherever it runs: its call graph, its rogue's denials, its sums."""

from __future__ import annotations

from typing import Any

from tierflow.lab import truth

EDGES = {
    ("frontend", "logging"),
    ("frontend", "microservice1"),
    ("frontend", "microservice2"),
    ("microservice1", "logging"),
    ("microservice1", "microservice2"),
    ("microservice1", "backend"),
    ("microservice2", "logging"),
    ("microservice2", "microservice1"),
    ("microservice2", "backend"),
    ("backend", "logging"),
}
"""The storefront's call graph, by the part of the pod's name before its ReplicaSet's hash."""


def app(name_aggr: str) -> str:
    """``frontend`` of ``frontend-6d996fbd97-*``."""
    return name_aggr.rsplit("-", 2)[0]


def edges(logs: list[dict[str, Any]], reporter: str) -> set[tuple[str, str]]:
    return {
        (app(log["source_name_aggr"]), app(log["dest_name_aggr"]))
        for log in logs
        if log["reporter"] == reporter and log["action"] == "allow" and log["policies"]["enforced_policies"]
    }


def summed(logs: list[dict[str, Any]], reporter: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Packets and bytes by (from, to) address, as the reporter's flow logs have them; each name here is one pod."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for log in (log for log in logs if log["reporter"] == reporter):
        (source,), (dest,) = log["source_ips"], log["dest_ips"]
        outward, inward = ((source, dest), (dest, source)) if reporter == "src" else ((dest, source), (source, dest))
        for pair, suffix in ((outward, "out"), (inward, "in")):
            packets, size = sums.get(pair, (0, 0))
            sums[pair] = (packets + log[f"packets_{suffix}"], size + log[f"bytes_{suffix}"])
    return {pair: counted for pair, counted in sums.items() if counted[0]}


def since(before: truth.Pairs, after: truth.Pairs) -> dict[tuple[str, str], tuple[int, int]]:
    """What nftables counted between two readings."""
    nothing = truth.Count(0, 0)
    found = {
        pair: (count.packets - before.get(pair, nothing).packets, count.bytes - before.get(pair, nothing).bytes)
        for pair, count in after.items()
    }
    return {pair: counted for pair, counted in found.items() if counted[0]}
