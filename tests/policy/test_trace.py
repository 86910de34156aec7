"""Trace strings in both documented forms."""

from __future__ import annotations

import pytest

from tierflow.policy import Policy, TraceEntry, parse_trace_entry


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (
            "0|default|storefront/default.trusted|deny|2",
            TraceEntry(0, "default", "storefront", "", "trusted", False, "deny", 2),
        ),
        ("1|security|security.pass|pass|0", TraceEntry(1, "security", None, "", "pass", False, "pass", 0)),
        (
            "2|default|storefront/default.staged:restricted|allow",
            TraceEntry(2, "default", "storefront", "", "restricted", True, "allow", -2),
        ),
        ("0|tier1|ns2/staged:tier1.policy1|deny|-1", TraceEntry(0, "tier1", "ns2", "", "policy1", True, "deny", -1)),
        ("0|default|ns/knp.default.web|allow|3", TraceEntry(0, "default", "ns", "knp.", "web", False, "allow", 3)),
        (
            "1|__PROFILE__|__PROFILE__.kns.curl-ns|allow|0",
            TraceEntry(1, "__PROFILE__", None, "", "kns.curl-ns", False, "allow", 0),
        ),
        ("0|default|np:ns1/np-1|allow|0", TraceEntry(0, "default", "ns1", "", "np-1", False, "allow", 0)),
        ("0|default|np:ns1/default.np-1|allow|0", TraceEntry(0, "default", "ns1", "", "np-1", False, "allow", 0)),
        ("0|security|gnp:gate|pass|1", TraceEntry(0, "security", None, "", "gate", False, "pass", 1)),
        ("0|default|sknp:ns/web|deny|-1", TraceEntry(0, "default", "ns", "knp.", "web", True, "deny", -1)),
        ("0|kube-admin|kcnp:gate|deny|0", TraceEntry(0, "kube-admin", None, "kcnp.", "gate", False, "deny", 0)),
        ("1|__PROFILE__|pro:kns.ns3|allow|0", TraceEntry(1, "__PROFILE__", None, "", "kns.ns3", False, "allow", 0)),
    ],
)
def test_entries_of_every_era_are_read(text: str, entry: TraceEntry) -> None:
    assert parse_trace_entry(text) == entry


@pytest.mark.parametrize("text", ["", "a|b|c|allow", "0|b|c", "0|b|c|permit|0", "0|b|c|allow|x"])
def test_a_wrong_entry_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="accepted"):
        parse_trace_entry(text)


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (Policy("GlobalNetworkPolicy", None, "security.pass", "security"), "security.pass"),
        (Policy("GlobalNetworkPolicy", None, "pass", "security"), "security.pass"),
        (Policy("NetworkPolicy", "shop", "web"), "shop/default.web"),
        (Policy("StagedNetworkPolicy", "shop", "default.web", staged=True), "shop/staged:default.web"),
        (Policy("KubernetesNetworkPolicy", "shop", "web"), "shop/knp.default.web"),
    ],
)
def test_a_policy_is_named_as_in_flow_logs(policy: Policy, name: str) -> None:
    assert policy.trace_name == name
    entry = parse_trace_entry(f"0|{policy.tier}|{name}|allow|0")
    assert (entry.namespace, entry.staged) == (policy.namespace, policy.staged)
