"""What rules in force depend on and isn't known is told once, and counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tierflow.inventory.history import History
from tierflow.schemas.inventory import POLICY, ObjectVersion
from tierflow.schemas.metrics import Metrics
from tierflow.streams.metrics import POLICY_UNKNOWNS
from tierflow.streams.unknowns import Unknowns

if TYPE_CHECKING:
    import pytest


def policy(name: str, begin_ns: int, rule: dict[str, Any]) -> ObjectVersion:
    manifest = {
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name},
        "spec": {"selector": "all()", "types": ["Egress", "Ingress"], **rule},
    }  # fmt: skip
    return ObjectVersion(POLICY, f"projectcalico.org/GlobalNetworkPolicy//{name}", begin_ns, None, manifest)


def test_what_rules_depend_on_and_is_unknown_is_told_once_and_counted_as_long_as_they_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    history, live = History(), Metrics()
    unknowns = Unknowns(live)

    def told() -> list[str]:
        caplog.clear()
        unknowns.tell(history.snapshot())
        return [each.getMessage() for each in caplog.records]

    def counted() -> list[float]:
        return [live.value(POLICY_UNKNOWNS, kind=kind) for kind in ("service", "domain", "network-set", "http")]

    assert told() == []
    by_domain = policy("web", 10, {"egress": [{"action": "Allow", "destination": {"domains": ["a.example"]}}]})
    history.apply(by_domain)
    text = "the addresses of a.example are unknown: no domain names are learnt"
    assert told() == [f"{text}; verdicts by the rules of default.web may be wrong for it"]
    assert (told(), counted()) == ([], [0, 1, 0, 0])
    history.apply(
        policy("api", 20, {"ingress": [{"action": "Allow", "protocol": "TCP", "http": {"methods": ["GET"]}}]})
    )
    assert [each.partition(" are ")[0] for each in told()] == ["HTTP methods and paths"]
    assert counted() == [0, 1, 0, 1]
    history.apply(replace(by_domain, valid_to_ns=30))
    assert (told(), counted()) == ([], [0, 0, 0, 1])
