"""Enforces the policies that the policy engine compiled, by nftables rules.

Each pod has a chain per direction and tier. ``goto`` between them keeps the return address of the first jump, so inside
a tier ``return`` means allow (the packet goes on to the other side's chain, or out), ``goto`` the next tier means pass,
``drop`` means deny. Only the first packet of a connection is judged; the rest follows by connection tracking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.lab.services import replace_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tierflow.policy import EndpointPlan, RulePlan, TierPlan

TABLE: Final = "tierflow_policy"


class _Sets:
    """Address sets by content: many rules name the same peers."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], str] = {}

    def name(self, nets: Iterable[str]) -> str | None:
        """The set of these networks' IPv4 part, or None if that is empty."""
        own = tuple(sorted({net for net in nets if ":" not in net}))
        return self._names.setdefault(own, f"s{len(self._names)}") if own else None

    def declarations(self) -> list[str]:
        return [
            f"  set {name} {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {', '.join(nets)} }}; }}"
            for nets, name in self._names.items()
        ]


def ruleset(plans: Sequence[tuple[str, EndpointPlan]]) -> str:
    """The nftables table for (host-side veth, what holds for its endpoint).

    Endpoints that no tier applies to have no chain: their namespace's profile allows.
    """
    sets = _Sets()
    chains: list[str] = []
    jumps: dict[str, list[str]] = {"iifname": [], "oifname": []}
    for link, plan in plans:
        for interface, direction, tiers in (("iifname", "egress", plan.egress), ("oifname", "ingress", plan.ingress)):
            if tiers:
                jumps[interface].append(f'"{link}" : jump {link}_{direction}_0')
            for index, tier in enumerate(tiers):
                following = f"{link}_{direction}_{index + 1}" if index + 1 < len(tiers) else None
                chains += _tier_chain(f"{link}_{direction}_{index}", tier, direction, following, sets)
    dispatch = [f"    {interface} vmap {{ {', '.join(found)} }}" for interface, found in jumps.items() if found]
    return "\n".join(
        [
            f"table ip {TABLE} {{",
            *sets.declarations(),
            *chains,
            "  chain forward {",
            "    type filter hook forward priority filter; policy accept;",
            "    ct state established,related accept",
            *dispatch,
            "  }",
            "}",
            "",
        ]
    )


def enforce(plans: Sequence[tuple[str, EndpointPlan]]) -> None:
    """Replace what is enforced, at once.

    Raises:
        UnavailableError: nft refuses.
    """
    replace_table(TABLE, ruleset(plans))


def _tier_chain(name: str, tier: TierPlan, direction: str, following: str | None, sets: _Sets) -> list[str]:
    passed = f"goto {following}" if following else "return"
    verdicts = {"allow": "return", "deny": "drop", "pass": passed, "log": 'limit rate 1/second log prefix "tierflow: "'}
    lines = [f"  chain {name} {{"]
    for policy in tier.policies:
        for rule in policy.rules:
            match = _match(rule, sets)
            if match is not None:
                comment = f"{policy.name} {direction} {rule.index}"[:128]
                lines.append(f'    {match}counter {verdicts[rule.action]} comment "{comment}"')
    default = "drop" if tier.default_action == "deny" else passed
    lines += [f'    counter {default} comment "{tier.tier} {direction} end of tier"', "  }"]
    return lines


def _match(rule: RulePlan, sets: _Sets) -> str | None:
    """The rule's conditions, with a space at the end; None if nothing can meet them."""
    parts = []
    if rule.protocol is not None:
        parts.append(f"meta l4proto {rule.protocol}")
    for side, nets in (("saddr", rule.source_nets), ("daddr", rule.destination_nets)):
        if nets is None:
            continue
        name = sets.name(nets)
        if name is None:
            return None
        parts.append(f"ip {side} @{name}")
    for side, ports in (("sport", rule.source_ports), ("dport", rule.destination_ports)):
        if ports:
            ranges = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ports)
            parts.append(f"th {side} {{ {ranges} }}")
    if rule.icmp_type is not None:
        parts.append(f"icmp type {rule.icmp_type}")
    if rule.icmp_code is not None:
        parts.append(f"icmp code {rule.icmp_code}")
    return " ".join(parts) + " " if parts else ""
