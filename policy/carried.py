"""What a policy set hands on to its successor, so that little is compiled again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierflow.policy.classes import ClassTable
from tierflow.policy.program import WORD, RuleBit, Tables

if TYPE_CHECKING:
    from tierflow.policy.addresses import AddressClasses
    from tierflow.policy.model import Policy, Resources
    from tierflow.policy.trace import Hit

PolicyKey = tuple[str, "str | None", str]
"""(kind, namespace, name)."""

Compiled = tuple["Policy", int, dict[str, tuple[RuleBit, ...]]]
"""A policy, the number of its selector, and the bits of its rules by direction."""

_LEFT_OVER: Final = 3


@dataclass(frozen=True, slots=True)
class Carried:
    """What a policy set hands on to its successor.

    Attributes:
        resources: that it was compiled from.
        tables, classes: shared while labels mean the same; only ever added to.
        addresses, nets: reused while the CIDRs are the same.
        compiled: policies by name, with the bits of their rules.
        live: selectors that rules needed when the tables were new.
        port_names, known_ports: port names in rules, and what they stand for on the classes so far.
        profile_lists, profile_of: lists of written profiles, and each class's.
    """

    resources: Resources
    tables: Tables
    classes: ClassTable
    addresses: AddressClasses
    nets: frozenset[str]
    compiled: dict[PolicyKey, Compiled]
    live: int
    port_names: frozenset[str]
    known_ports: dict[str, frozenset[tuple[int, int]]]
    profile_lists: list[tuple[str, ...]]
    profile_of: list[tuple[int, Hit]]


def shared_tables(resources: Resources, carried: Carried | None) -> tuple[Tables, ClassTable]:
    """The tables to build on: the previous set's where labels mean the same, else new ones with the same classes."""
    if carried is not None:
        old = carried.resources
        same_labels = (
            old.namespaces == resources.namespaces
            and old.service_accounts == resources.service_accounts
            and old.profiles == resources.profiles
            and old.host_endpoints == resources.host_endpoints
        )
        # Tables keep what no rule needs any more; at some multiple of what was live they are built afresh.
        if same_labels and len(carried.tables.matchers) <= _LEFT_OVER * max(carried.live, WORD):
            return carried.tables, carried.classes
    tables = Tables()
    classes = ClassTable(resources, tables.matchers)
    if carried is not None:
        for endpoint in carried.classes.endpoints:
            classes.number(endpoint)
    return tables, classes
