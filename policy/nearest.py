"""The nearest change that would flip a verdict: tried, not guessed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from tierflow.policy.describe import side_name
from tierflow.policy.labels import endpoint_labels, entity_selectors, policy_selector
from tierflow.policy.model import PortRange
from tierflow.policy.ports import PORT_PROTOCOLS
from tierflow.policy.reasons import Change, changed, changes
from tierflow.policy.scalar import Flow, ScalarJudge, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.policy.model import Endpoint

_TRIED: Final = 400
"""Changes that are tried, at most."""


def nearest_change(judge: ScalarJudge, flow: Flow, verdict: str) -> str:
    """The smallest change of one end's labels, or of the port, that gives the other verdict; empty if none does."""
    wanted = "allow" if verdict == "deny" else "deny"
    for change, end in sorted(_candidates(judge, flow), key=_rank)[:_TRIED]:
        side = flow.source if end == "source" else flow.destination
        if side.endpoint is None or not change:
            continue
        other_side = Side(side.address, _changed(side.endpoint, change))
        source, destination = (other_side, flow.destination) if end == "source" else (flow.source, other_side)
        other = dataclasses.replace(flow, source=source, destination=destination)
        if judge.verdict(other).action == wanted:
            return f"{_in_words(side, change)}, the verdict would be {wanted}"
    for port in sorted(set(_ports(judge)) - {flow.dest_port}) if flow.protocol in PORT_PROTOCOLS else ():
        if judge.verdict(dataclasses.replace(flow, dest_port=port)).action == wanted:
            return f"with destination port {port}, the verdict would be {wanted}"
    return ""


def _rank(candidate: tuple[Change, str]) -> tuple[int, bool, int, str]:
    """Few changes before many, the source's before the destination's, labels added before labels taken away."""
    change, end = candidate
    removals = sum(value is None for _, value in change)
    return len(change), end != "source", removals, repr(sorted(change, key=str))


def _candidates(judge: ScalarJudge, flow: Flow) -> set[tuple[Change, str]]:
    found: set[tuple[Change, str]] = set()
    labels = {
        end: endpoint_labels(judge.resources, side.endpoint)
        for end, side in (("source", flow.source), ("destination", flow.destination))
        if side.endpoint is not None
    }
    for policy in judge.resources.policies:
        if policy.staged or policy.not_judged:
            continue
        for end, own in labels.items():
            found |= {
                (each, end)
                for each in changes(policy_selector(policy), own, selected=not policy_selector(policy).matches(own))
            }
            for rule in (*policy.ingress, *policy.egress):
                selected, _ = entity_selectors(rule.source if end == "source" else rule.destination, policy.namespace)
                if selected is not None:
                    found |= {(each, end) for each in changes(selected, own, selected=not selected.matches(own))}
    return found


def _changed(endpoint: Endpoint, change: Change) -> Endpoint:
    return dataclasses.replace(endpoint, labels=changed(endpoint.labels, change))


def _in_words(side: Side, change: Change) -> str:
    own = side.endpoint.labels if side.endpoint is not None else {}
    parts: list[str] = []
    for label, value in sorted(change, key=str):
        now = f'{label}="{own[label]}"' if label in own else f"no label {label}"
        parts.append(f"{now}; " + (f"without {label}" if value is None else f'with {label}="{value}"'))
    return f"{side_name(side)} has {', '.join(parts)}"


def _ports(judge: ScalarJudge) -> Iterator[int]:
    for policy in judge.resources.policies:
        for rule in (*policy.ingress, *policy.egress):
            for port in rule.destination.ports:
                if isinstance(port, PortRange):
                    yield port.low
