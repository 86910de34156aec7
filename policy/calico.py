"""Calico's tiers and policies as written, checked and defaulted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.policy.document import ABSENT
from tierflow.policy.entity import read_selector
from tierflow.policy.metadata import check_annotations, read_labels, read_policy_name, read_tier_name
from tierflow.policy.model import DEFAULT_TIER, DEFAULT_TIER_ORDER, EGRESS, INGRESS, Policy, Tier
from tierflow.policy.rules import read_rules

if TYPE_CHECKING:
    from tierflow.policy.document import Fields

DEFAULT_ACTIONS: Final = ("Deny", "Pass")
TYPES: Final = (INGRESS, EGRESS)
STAGED_ACTIONS: Final = ("Set", "Delete", "Learn", "Ignore")
PERFORMANCE_HINTS: Final = ("AssumeNeededOnEveryNode",)
DELETES: Final = "stagedAction Delete takes a policy away, it has no rules"

_FIXED: Final = {
    DEFAULT_TIER: (DEFAULT_TIER_ORDER, "Deny"),
    "kube-admin": (1_000.0, "Pass"),
    "kube-baseline": (10_000_000.0, "Pass"),
}
"""Upstream's own tiers: order and default action."""


def read_tier(top: Fields, metadata: Fields) -> Tier:
    """A Tier; no order is that of tier default, and upstream's own tiers have a fixed order and default action."""
    name = read_tier_name(metadata)
    spec = top.fields("spec")
    written = spec.number("order")
    order = DEFAULT_TIER_ORDER if written is None else written
    action = spec.choice("defaultAction", DEFAULT_ACTIONS, "Deny")
    if name in _FIXED:
        wanted_order, wanted_action = _FIXED[name]
        if order != wanted_order:
            spec.report(
                "order",
                ABSENT if written is None else written,
                f"{wanted_order:.0f}: the order of tier {name} is fixed",
            )
        if action != wanted_action:
            spec.report("defaultAction", action, f"{wanted_action}: the default action of tier {name} is fixed")
        order, action = wanted_order, wanted_action
    spec.close()
    read_labels(metadata, "labels")
    close_object(top, metadata)
    return Tier(name, order, action)


def read_policy(top: Fields, metadata: Fields) -> Policy:
    """A NetworkPolicy, GlobalNetworkPolicy or one of their staged forms."""
    kind = top.text("kind")
    staged = kind.startswith("Staged")
    is_global = kind.endswith("GlobalNetworkPolicy")
    name = read_policy_name(metadata, is_global=is_global)
    namespace = None if is_global else metadata.text("namespace", "default")
    spec = top.fields("spec")
    if not top.has("spec") and not staged:
        top.report("spec", ABSENT, "the policy's specification")
    ingress = read_rules(spec, "ingress", INGRESS, namespace)
    egress = read_rules(spec, "egress", EGRESS, namespace)
    staged_action = spec.choice("stagedAction", STAGED_ACTIONS, "Set") if staged else ""
    policy = Policy(
        kind=kind,
        namespace=namespace,
        name=name,
        tier=spec.text("tier") or DEFAULT_TIER,
        order=spec.number("order"),
        selector=read_selector(spec, "selector"),
        namespace_selector=read_selector(spec, "namespaceSelector") if is_global else "",
        service_account_selector=read_selector(spec, "serviceAccountSelector"),
        types=_types(spec, ingress=bool(ingress), egress=bool(egress)),
        ingress=ingress,
        egress=egress,
        staged=staged,
        staged_action=staged_action,
        not_judged=DELETES if staged_action == "Delete" else _forward(spec) if is_global else "",
    )
    _check_hints(spec)
    spec.close()
    if staged_action == "Delete":
        check_deletes(spec, ("tier", "stagedAction"))
    read_labels(metadata, "labels")
    close_object(top, metadata)
    return policy


def check_deletes(spec: Fields, allowed: tuple[str, ...]) -> None:
    """A staged policy that takes another away says nothing else."""
    beside = sorted(name for name, value in spec.values.items() if value and name not in allowed)
    if beside:
        spec.report("stagedAction", "Delete", f"nothing beside it, without {', '.join(beside)}")


def close_object(top: Fields, metadata: Fields) -> None:
    """Check the annotations that every object may have, and that no field is left."""
    check_annotations(metadata)
    top.ignore("metadata", "status")
    top.close()


def _forward(spec: Fields) -> str:
    """Why a policy isn't judged, as far as its place in the packet's path is the reason."""
    forward = spec.flag("applyOnForward")
    untracked, before_nat = spec.flag("doNotTrack"), spec.flag("preDNAT")
    if untracked and before_nat:
        spec.report("preDNAT", True, "false, as doNotTrack is true")
    if (untracked or before_nat) and not forward:
        written = spec.values.get("applyOnForward", ABSENT)
        spec.report("applyOnForward", written, "true with preDNAT or doNotTrack")
    if before_nat and spec.values.get("egress"):
        spec.report("egress", spec.values["egress"], "nothing with preDNAT, which is for ingress only")
    if before_nat and EGRESS in [value for _, value in spec.texts("types")]:
        spec.report("types", spec.values["types"], "Ingress only with preDNAT")
    if untracked:
        return "doNotTrack policies act before connection tracking"
    return "preDNAT policies act before destination translation" if before_nat else ""


def _check_hints(spec: Fields) -> None:
    seen: list[str] = []
    for path, value in spec.texts("performanceHints"):
        if value not in PERFORMANCE_HINTS or value in seen:
            spec.place.report(path, value, f"{', '.join(PERFORMANCE_HINTS)}, once")
        seen.append(value)


def _types(spec: Fields, *, ingress: bool, egress: bool) -> tuple[str, ...]:
    """The directions that a policy governs; absent, those of its rules, and ingress if it has none."""
    written: list[str] = []
    for path, value in spec.texts("types"):
        if value not in TYPES:
            spec.place.report(path, value, ", ".join(TYPES))
        elif value in written:
            spec.place.report(path, value, "each type once")
        else:
            written.append(value)
    if spec.values.get("types") == []:
        spec.report("types", [], f"at least one of {', '.join(TYPES)}, or no such field")
    if written:
        return tuple(each for each in TYPES if each in written)
    if not ingress and egress:
        return (EGRESS,)
    return (INGRESS, EGRESS) if ingress and egress else (INGRESS,)
