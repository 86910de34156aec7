"""The storefront's policies deny the rogue everywhere and let the application through."""

from __future__ import annotations

import numpy as np
import pytest
from tests.policy import storefront

from tierflow.policy import ALLOW, DENY, NOT_JUDGED, Trace, compile_policies
from tierflow.schemas.record import address_halves


def judge(source: str, destination: str, port: int = 8080) -> tuple[int, int, Trace | None, Trace | None]:
    pods = storefront.endpoints()
    policy_set = compile_policies(storefront.resources())
    ends = []
    for name in (source, destination):
        pod = pods.get(name)
        number = policy_set.endpoint_class(pod) if pod else -1
        hi, lo = address_halves(pod.addresses[0] if pod else name)
        owner = np.array([number], np.int32)
        ends.append(policy_set.sides(owner, np.array([hi], np.uint64), np.array([lo], np.uint64)))
    answer = policy_set.judge(*ends, np.array([6], np.uint8), np.array([40000], np.uint16), np.array([port], np.uint16))
    egress, ingress = (
        policy_set.traces[each[0]] if each[0] >= 0 else None for each in (answer.egress_trace, answer.ingress_trace)
    )
    return int(answer.egress_action[0]), int(answer.ingress_action[0]), egress, ingress


@pytest.mark.parametrize(
    ("target", "decider"),
    [
        ("frontend", "1|default|storefront/default.dmz|deny|1"),
        ("microservice1", "1|default|storefront/default.trusted|deny|2"),
        ("microservice2", "1|default|storefront/default.trusted|deny|2"),
        ("backend", "1|default|storefront/default.restricted|deny|2"),
        ("logging", "1|platform|platform.logging|deny|1"),
    ],
)
def test_each_target_denies_the_rogue_by_its_own_rule(target: str, decider: str) -> None:
    egress_action, ingress_action, egress, ingress = judge("rogue", target)
    assert (egress_action, ingress_action) == (ALLOW, DENY)
    assert ingress is not None
    assert egress is not None
    assert ingress.enforced_strings() == ("0|security|security.pass|pass|0", decider)
    assert ingress.holds_deny
    assert egress.enforced_strings()[-1] == "2|__PROFILE__|__PROFILE__.kns.storefront|allow|0"
    assert egress.pending_strings()[-1] == "2|default|staged:default.default-deny|deny|-1"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("frontend", "microservice1"),
        ("frontend", "logging"),
        ("microservice1", "microservice2"),
        ("microservice2", "backend"),
        ("backend", "logging"),
    ],
)
def test_the_application_is_allowed_on_both_sides(source: str, target: str) -> None:
    assert judge(source, target)[:2] == (ALLOW, ALLOW)


def test_an_external_destination_is_judged_at_the_source_only() -> None:
    assert judge("microservice2", "203.0.113.1")[:2] == (ALLOW, NOT_JUDGED)
    assert judge("microservice2", "198.51.100.20")[:2] == (DENY, NOT_JUDGED)
