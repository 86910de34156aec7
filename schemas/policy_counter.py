"""The policy counter: what one policy rule did in one window, and how many endpoints a policy applies to."""

from __future__ import annotations

from typing import Final

from tierflow.schemas.fields import Field, FieldType

_K, _L = FieldType.KEYWORD, FieldType.LONG

FIELDS: Final[tuple[Field, ...]] = (
    Field("id", _K, "Document id: a hash of cluster, node, window, rule, direction and action."),
    Field(
        "record",
        _K,
        "traffic: what a rule did; endpoints: how many endpoints a policy applies to.",
        False,
        ("traffic", "endpoints"),
    ),
    Field("start_time", FieldType.DATE_S, "Start of the window, Unix seconds."),
    Field("end_time", FieldType.DATE_S, "End of the window, Unix seconds."),
    Field("@timestamp", FieldType.DATE_MS, "End of the window in milliseconds."),
    Field("cluster", _K, "Cluster name; empty when there is only one."),
    Field("host", _K, "Node that saw the packets; '-' in an endpoints record, which counts the cluster."),
    Field("late", FieldType.BOOLEAN, "True when its records came after the window was flushed; adds to that window."),
    Field("tier", _K, "Tier of the policy; __PROFILE__ for a profile."),
    Field("policy", _K, "Policy as in a flow log's trace, for instance storefront/default.trusted."),
    Field("kind", _K, "Kubernetes kind of the policy."),
    Field("namespace", _K, "Namespace of the policy; '-' for a global one."),
    Field("name", _K, "Name of the policy as its object has it."),
    Field("staged", FieldType.BOOLEAN, "True for a staged policy: counted, not enforced."),
    Field("rule_index", _L, "Position of the rule in its direction's list; -1 for the end of the tier.", nullable=True),
    Field("rule_direction", _K, "Rule list that decided.", False, ("ingress", "egress")),
    Field("action", _K, "What the rule did; null in an endpoints record.", True, ("allow", "deny", "pass")),
    Field("connections", _L, "Distinct connections."),
    Field("connections_started", _L, "Connections that began in the window."),
    Field("packets_in", _L, "Packets towards the policy's endpoint."),
    Field("packets_out", _L, "Packets from the policy's endpoint."),
    Field("bytes_in", _L, "Bytes towards the policy's endpoint."),
    Field("bytes_out", _L, "Bytes from the policy's endpoint."),
    Field(
        "endpoints",
        _L,
        "Endpoints that the policy applies to in this direction; null in a traffic record.",
        nullable=True,
    ),
)
"""All fields of a policy counter."""
