"""Enforces the policies that the policy engine compiled, by nftables rules.

Each pod has a chain per direction and tier. ``goto`` between them keeps the return address of the first jump, so inside
a tier ``return`` means allow (the packet goes on to the other side's chain, or out), ``goto`` the next tier means pass,
``drop`` means deny. Only the first packet of a connection is judged; the rest follows by connection tracking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.lab.services import replace_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tierflow.policy import EndpointPlan, Icmp, PortRange, ResolvedRule, ResolvedSide, ResolvedTier

TABLE: Final = "tierflow_policy"
COMMENT_LENGTH: Final = 128

_ICMP, _ICMPV6 = 1, 58
"""The longest comment that nftables takes."""


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

    The last tier is that of the profiles, with which Calico ends every evaluation.
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
    replace(ruleset(plans))


def replace(rules: str) -> None:
    """As :func:`enforce`, with a rule set that was made before.

    Raises:
        UnavailableError: nft refuses.
    """
    replace_table(TABLE, rules)


def _tier_chain(name: str, tier: ResolvedTier, direction: str, following: str | None, sets: _Sets) -> list[str]:
    passed = f"goto {following}" if following else "return"
    verdicts = {"allow": "return", "deny": "drop", "pass": passed, "log": 'limit rate 1/second log prefix "tierflow: "'}
    lines = [f"  chain {name} {{"]
    for rule in tier.rules:
        comment = f"{rule.trace_name} {direction} {rule.rule_index}"[:COMMENT_LENGTH]
        lines += [f'    {match}counter {verdicts[rule.action]} comment "{comment}"' for match in _matches(rule, sets)]
    comment = f"{tier.last} {direction} end of tier"[:COMMENT_LENGTH]
    lines += [f'    counter {verdicts[tier.default_action]} comment "{comment}"', "  }"]
    return lines


def _matches(rule: ResolvedRule, sets: _Sets) -> Iterator[str]:
    """The rule's conditions as nftables expressions, any of which is enough; none if nothing can meet them."""
    if rule.ip_version == 6 or rule.protocol == _ICMPV6:
        return
    protocol = []
    if rule.protocol is not None:
        protocol.append(f"meta l4proto {rule.protocol}")
    if rule.not_protocols:
        protocol.append(f"meta l4proto != {{ {', '.join(map(str, rule.not_protocols))} }}")
    if rule.icmp is not None:
        protocol += [f"icmp {key} {value}" for key, value in _icmp(rule.icmp)]
    ways = [protocol]
    if rule.not_icmp is not None:
        values = _icmp(rule.not_icmp)
        keys = " . ".join(f"icmp {key}" for key, _ in values)
        ways = [[*protocol, f"{keys} != {{ {' . '.join(str(value) for _, value in values)} }}"]]
        if rule.protocol is None:
            # What isn't ICMP has no type, and so not this one.
            ways.append([*protocol, f"meta l4proto != {_ICMP}"])
    for way in ways:
        for source in _side(rule.source, "s", sets):
            for destination in _side(rule.destination, "d", sets):
                yield "".join(f"{part} " for part in (*way, *source, *destination))


def _icmp(condition: Icmp) -> list[tuple[str, int]]:
    both = (("type", condition.type), ("code", condition.code))
    return [(key, value) for key, value in both if value is not None]


def _side(side: ResolvedSide, letter: str, sets: _Sets) -> Iterator[list[str]]:
    """The conditions of one side (``letter`` s or d), one list an alternative."""
    address, port = f"ip {letter}addr", f"th {letter}port"
    unless = []
    if name := sets.name(side.not_cidrs):
        unless.append(f"{address} != @{name}")
    if side.not_ports:
        unless.append(f"{port} != {_ports(side.not_ports)}")
    pairs = [
        f"{cidr} . {ranged}"
        for peer in side.not_named
        for cidr in peer.cidrs
        for ranged in peer.ports or ()
        if ":" not in cidr
    ]
    if pairs:
        unless.append(f"{address} . {port} != {{ {', '.join(pairs).replace(':', '-')} }}")
    for peer in side.alternatives:
        conditions = []
        if peer.cidrs or not side.any_address:
            name = sets.name(peer.cidrs)
            if name is None:
                continue
            conditions.append(f"{address} @{name}")
        if peer.ports is not None:
            conditions.append(f"{port} {_ports(peer.ports)}")
        yield [*conditions, *unless]


def _ports(ranges: Iterable[PortRange]) -> str:
    parts = (str(each.low) if each.low == each.high else f"{each.low}-{each.high}" for each in ranges)
    return f"{{ {', '.join(parts)} }}"
