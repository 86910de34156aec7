"""Why a flow was judged as it was, from its flow logs and the policies in force; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tierflow.console.server.board import InForce, find_policy
from tierflow.console.server.sentence import rule_text
from tierflow.policy.model import EGRESS, INGRESS
from tierflow.policy.trace import PROFILE_TIER, parse_trace_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierflow.policy.model import Policy
    from tierflow.policy.trace import TraceEntry


MOST_SIDES: Final = 8

EVIDENCE_WORDS: Final = {
    "enforced": "Nothing reached the other side or came back: the denial holds.",
    "leak": "And yet a packet arrived or was answered: the denial isn't enforced.",
    "answered": "It was answered.",
    "unanswered": "Nothing ever came back: look at the other side's policies, or whether anything listens there.",
    "unknown": "No packet in the newest window could tell whether that holds.",
}


def explain(logs: Sequence[dict[str, Any]], now: InForce) -> dict[str, Any]:
    """Each side's newest verdict with its hits, and the whole in words.

    Args:
        logs: flat flow logs of one flow, newest first.
        now: what is in force, for the rules' words.
    """
    sides: dict[tuple[str, str, str], dict[str, Any]] = {}
    for log in logs:
        sides.setdefault((log["reporter"], log["action"], log["evidence"]), log)
    told = [_side(log, now) for log in list(sides.values())[:MOST_SIDES]]
    told.sort(key=lambda side: (side["direction"] != "egress", side["action"]))
    policies = {hit["policy"] for side in told for hit in side["hits"] if hit["tier"] != PROFILE_TIER}
    return {"sides": told, "words": _words(told), "policies": len(policies)}


def _side(log: dict[str, Any], now: InForce) -> dict[str, Any]:
    direction = INGRESS if log["reporter"] == "dst" else EGRESS
    return {
        "reporter": log["reporter"],
        "direction": direction.lower(),
        "action": log["action"],
        "evidence": log["evidence"],
        "derived": bool(log["derived"]),
        "hits": _hits(log["policies.enforced_policies"], direction, now),
        "pending": _hits(log["policies.pending_policies"], direction, now),
    }


def _hits(texts: Sequence[str] | None, direction: str, now: InForce) -> list[dict[str, Any]]:
    hits = []
    for text in sorted(texts or (), key=_index):
        try:
            entry = parse_trace_entry(text)
        except ValueError:
            hits.append(_hit("?", text, None, "?", -2, False, "This entry of the trace can't be read."))
            continue
        name = text.split("|")[2]
        policy = find_policy(now, name)
        identity = policy.trace_name if policy else None
        words = _why(entry, policy, direction)
        hits.append(_hit(entry.tier, name, identity, entry.action, entry.rule_index, entry.staged, words))
    return hits


def _why(entry: TraceEntry, policy: Policy | None, direction: str) -> str:
    """What made the hit: the rule in words, or why none can be told."""
    if entry.tier == PROFILE_TIER:
        return "no tier decided; the namespace's profile does"
    if entry.rule_index == -1:
        return "no rule of the tier matched, so the tier's default action holds"
    if policy is None:
        return "this policy isn't in force any more"
    rules = policy.rules(direction)
    if not 0 <= entry.rule_index < len(rules):
        return "this rule isn't in the policy any more"
    return f"{direction.lower()} rule {entry.rule_index}: {rule_text(rules[entry.rule_index], direction)}"


def _hit(
    tier: str, policy: str, identity: str | None, action: str, rule_index: int, staged: bool, words: str
) -> dict[str, Any]:
    return {
        "tier": tier,
        "policy": policy,
        "id": identity,
        "action": action,
        "rule_index": rule_index,
        "staged": staged,
        "words": words,
    }


def _index(text: str) -> int:
    index = text.partition("|")[0]
    return int(index) if index.isascii() and index.isdigit() else 0


def _words(sides: Sequence[dict[str, Any]]) -> str:
    if not sides:
        return "No flow log of this flow is in the range any more."
    denying = next((side for side in sides if side["action"] == "deny"), None)
    if denying is None:
        return f"Every side that was judged allows it. {EVIDENCE_WORDS.get(sides[-1]['evidence'], '')}".strip()
    last = denying["hits"][-1] if denying["hits"] else None
    by = f" by {last['policy']}, {last['words']}" if last else ""
    where = "when it leaves its source" if denying["direction"] == "egress" else "where it arrives"
    return f"Denied {where}{by}. {EVIDENCE_WORDS.get(denying['evidence'], '')}".strip()
