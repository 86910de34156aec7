"""Documents for tests: whole ones, and Hypothesis' random ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tierflow.schemas import flow_log, loss, policy_counter
from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import nest
from tierflow.sinks.read.interface import Filter

DAY_S = 1_764_000_000 // 86_400 * 86_400
"""Midnight, so that ranges cross into the next index of a store that has one a day."""

_PLAIN = {
    FieldType.KEYWORD: "-", FieldType.LONG: 0, FieldType.DOUBLE: 0.0, FieldType.BOOLEAN: False, FieldType.IP: None,
    FieldType.DATE_S: DAY_S, FieldType.DATE_MS: DAY_S * 1000, FieldType.KEYWORDS: [], FieldType.IPS: [],
    FieldType.LONGS: [],
}  # fmt: skip


def whole_log(**changes: Any) -> dict[str, Any]:
    """A flow log with every field, nested; ``changes`` are by dotted field name, with ``__`` for the dot."""
    flat = {field.name: None if field.nullable else _PLAIN[field.type] for field in flow_log.FIELDS}
    flat |= {
        "id": "0", "reporter": "dst", "action": "allow", "evidence": "answered", "proto": "tcp", "aggregation_level": 2,
        "source_type": "wep", "dest_type": "wep", "source_namespace": "storefront", "dest_namespace": "storefront",
        "source_name_aggr": "frontend-6d99-*", "dest_name_aggr": "backend-77-*", "dest_port": 8080, "host": "n1",
        "policies.all_policies": ["0|default|storefront/default.trusted|allow|0"],
        "policies.enforced_policies": ["0|default|storefront/default.trusted|allow|0"],
    }  # fmt: skip
    flat |= {name.replace("__", "."): value for name, value in changes.items()}
    flat["end_time"] = flat["start_time"] + 15
    flat["@timestamp"] = flat["end_time"] * 1000
    return nest(flat)


def whole_counter(**changes: Any) -> dict[str, Any]:
    """A policy counter with every field."""
    flat = {field.name: None if field.nullable else _PLAIN[field.type] for field in policy_counter.FIELDS}
    flat |= {"id": "0", "record": "traffic", "host": "n1", "tier": "default", "policy": "storefront/default.trusted",
             "kind": "NetworkPolicy", "namespace": "storefront", "name": "default.trusted", "rule_index": 0,
             "rule_direction": "ingress", "action": "allow"}  # fmt: skip
    flat |= changes
    flat["end_time"] = flat["start_time"] + 15
    flat["@timestamp"] = flat["end_time"] * 1000
    return nest(flat)


NAMESPACES = st.sampled_from(["storefront", "acme", "kube-system", "-"])
NAMES = st.sampled_from(["frontend-6d99-*", "backend-77-*", "rogue-8-*", "pub", "front", "ключ-*"])
LABELS = st.lists(
    st.sampled_from(["app=frontend", "app=backend", "fw-zone=dmz", "fw-zone=trusted", "a*b=x?y", "empty="]),
    # A label has one value.
    unique_by=lambda label: label.partition("=")[0],
    max_size=3,
)
HITS = st.lists(
    st.sampled_from(
        [
            "0|security|security.pass|pass|0",
            "1|default|storefront/default.trusted|allow|0",
            "1|default|storefront/default.trusted|deny|2",
            "0|default|storefront/staged:default.dmz|deny|-1",
        ]
    ),
    unique=True,
    max_size=3,
)
AMOUNTS = st.integers(0, 2**40)
TIMES = st.integers(-4, 8).map(lambda window: DAY_S + 15 * window)


@st.composite
def logs(draw: st.DrawFn, most: int = 40) -> list[dict[str, Any]]:
    """Random flow logs over few values, so that they meet in groups; ids differ."""
    found = []
    for number in range(draw(st.integers(0, most))):
        found.append(  # noqa: PERF401 - the draws read better in a loop
            whole_log(
                id=f"{number:04x}",
                start_time=draw(TIMES),
                reporter=draw(st.sampled_from(["src", "dst"])),
                action=draw(st.sampled_from(["allow", "deny"])),
                evidence=draw(st.sampled_from(list(flow_log.Evidence))),
                proto=draw(st.sampled_from(["tcp", "udp"])),
                source_namespace=draw(NAMESPACES),
                dest_namespace=draw(NAMESPACES),
                source_name_aggr=draw(NAMES),
                dest_name_aggr=draw(NAMES),
                source_type=draw(st.sampled_from(list(flow_log.EndpointType))),
                dest_type=draw(st.sampled_from(list(flow_log.EndpointType))),
                source_ip=draw(st.sampled_from([None, "10.0.0.9", "10.0.0.10", "2001:db8::1"])),
                source_ips=draw(st.lists(st.sampled_from(["10.0.0.9", "10.0.0.10"]), max_size=2)),
                dest_port=draw(st.sampled_from([None, 53, 443, 8080])),
                derived=draw(st.booleans()),
                dest_service_name=(service := draw(st.sampled_from(["-", "backend"]))),
                dest_service_namespace="-" if service == "-" else "storefront",
                source_labels__labels=draw(LABELS),
                dest_labels__labels=draw(LABELS),
                policies__all_policies=draw(HITS),
                num_flows_started=draw(st.integers(0, 9)),
                packets_in=draw(AMOUNTS),
                packets_out=draw(AMOUNTS),
                bytes_in=draw(AMOUNTS),
                bytes_out=draw(AMOUNTS),
            )
        )
    return found


@st.composite
def counters(draw: st.DrawFn, most: int = 30) -> list[dict[str, Any]]:
    """Random policy counters of both records."""
    found = []
    for number in range(draw(st.integers(0, most))):
        traffic = draw(st.booleans())
        found.append(
            whole_counter(
                id=f"{number:04x}",
                record="traffic" if traffic else "endpoints",
                start_time=draw(TIMES),
                host=draw(st.sampled_from(["n1", "n2"])),
                policy=draw(st.sampled_from(["storefront/default.trusted", "security.pass"])),
                staged=draw(st.booleans()),
                rule_index=draw(st.sampled_from([-1, 0, 2])) if traffic else None,
                rule_direction=draw(st.sampled_from(["ingress", "egress"])),
                action=draw(st.sampled_from(["allow", "deny", "pass"])) if traffic else None,
                endpoints=None if traffic else draw(st.integers(0, 9)),
                connections_started=draw(st.integers(0, 9)),
                packets_in=draw(AMOUNTS),
                bytes_in=draw(AMOUNTS),
                bytes_out=draw(AMOUNTS),
            )
        )
    return found


@st.composite
def losses(draw: st.DrawFn, most: int = 20) -> list[dict[str, Any]]:
    """Random losses; some of unknown extent, some at one moment."""
    found = []
    for number in range(draw(st.integers(0, most))):
        start_s = draw(TIMES)
        amounts = {name: draw(st.none() | AMOUNTS) for name in ("batches", "records", "packets", "bytes")}
        reason = draw(st.sampled_from(next(field.values for field in loss.LOSS_FIELDS if field.name == "reason")))
        found.append(
            {"id": f"{number:04x}", "start_time": start_s, "end_time": start_s + draw(st.sampled_from([0, 1, 40])),
             "cluster": "", "host": draw(st.sampled_from(["n1", "n2"])), "reason": reason, **amounts}
        )  # fmt: skip
    return found


def _some(values: list[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


SELECTORS = st.sampled_from(
    [
        "", "", "", "all()", 'app == "frontend"', 'app != "frontend"', "has(empty)", "!has(app)",
        'fw-zone in {"dmz", "trusted"}', 'fw-zone not in {"dmz"}', 'app starts with "front"', 'app contains "ack"',
        'app ends with "end"', 'app == "backend" || (has(fw-zone) && fw-zone != "dmz")', 'a contains "?"',
    ]
)  # fmt: skip
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "start_s": TIMES,
    "end_s": TIMES,
    "actions": _some(["allow", "deny"]),
    "reporters": _some(["src", "dst"]),
    "evidence": _some(["leak", "enforced"]),
    "protocols": _some(["tcp", "udp", "sctp"]),
    "ports": _some([53, 443, 1]),
    "namespaces": _some(["storefront", "ac*", "-"]),
    "source_namespaces": _some(["storefront", "kube-*"]),
    "dest_namespaces": _some(["acme", "-"]),
    "names": _some(["front*", "frontend-6d99-*", "pub"]),
    "source_names": _some(["pub", "rogue-*"]),
    "dest_names": _some(["*", "rogue-8-*"]),
    "source_types": _some(["wep", "net"]),
    "dest_types": _some(["wep", "ns"]),
    "labels": SELECTORS,
    "source_labels": SELECTORS,
    "dest_labels": SELECTORS,
    "policies": _some(["default.trusted", "|deny|2", "staged:", "*"]),
}
FILTERS = st.lists(st.sampled_from(sorted(_VALUES)), max_size=3, unique=True).flatmap(
    lambda names: st.builds(Filter, **{name: _VALUES[name] for name in names})
)
"""Of up to three fields: of more, nearly every answer would be empty."""
