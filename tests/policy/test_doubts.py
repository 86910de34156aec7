"""What isn't known is said where a verdict hangs on it, and only there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tierflow.cli.policy import command

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = """
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {}
---
apiVersion: v1
kind: Pod
metadata: {name: till, namespace: shop, labels: {app: till}}
spec: {}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {ports: [{port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: till, namespace: shop}
spec: {selector: {app: till}, ports: [{port: 80}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: partners, labels: {who: partners}}
spec: {nets: [198.51.100.0/24], allowedEgressDomains: [partner.example]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: cart, namespace: shop}
spec: {selector: app == "cart", types: [Egress], egress: [RULE]}
"""
GLOBAL = {
    "kind: NetworkPolicy\nmetadata: {name: cart, namespace: shop}": "kind: GlobalNetworkPolicy\nmetadata: {name: cart}"
}
INGRESS = {"types: [Egress], egress": "types: [Ingress], ingress"}
NOT_TO_PARTNERS = '{action: Allow, destination: {notSelector: who == "partners"}}'
NET, OUTSIDE, TILL = "198.51.100.7", "203.0.113.7", "shop/till"
TO_SERVICE = "{action: Allow, destination: {services: {name: %s, namespace: shop}}}"
TO_PARTNERS = """
{action: Allow, protocol: TCP, destination: {selector: who == "partners", namespaceSelector: global(), ports: [443]}}
"""
TO_DOMAIN = '{action: Allow, destination: {domains: ["*.example"]}}'
BY_METHOD = "{action: Allow, protocol: TCP, http: {methods: [GET]}}"
SERVICE = "the backends of service shop/by-hand are unknown: it has no selector, and no EndpointSlice names it"
SET = "the addresses that network set partners has by allowedEgressDomains are unknown: no domain names are learnt"
DOMAIN = "the addresses of *.example are unknown: no domain names are learnt"
METHOD = "HTTP methods and paths are unknown: packets don't tell them, and rules are judged without them"


def written(folder: Path, rule: str) -> str:
    (folder / "cluster.yaml").write_text(CLUSTER.replace("RULE", rule))
    return str(folder)


@pytest.mark.parametrize(
    ("rule", "to", "port", "action", "uncertain"),
    [
        (TO_SERVICE % "by-hand", OUTSIDE, 6443, "deny", [f"{SERVICE}; it may be allow"]),
        (TO_SERVICE % "by-hand", TILL, 80, "deny", [f"{SERVICE}; it may be allow"]),
        (TO_SERVICE % "till", OUTSIDE, 6443, "deny", []),
        (TO_SERVICE % "till", TILL, 80, "allow", []),
        (TO_PARTNERS, OUTSIDE, 443, "deny", [f"{SET}; it may be allow"]),
        (TO_PARTNERS, OUTSIDE, 80, "deny", []),
        (TO_PARTNERS, NET, 443, "allow", []),
        (TO_PARTNERS, TILL, 443, "deny", []),
        (NOT_TO_PARTNERS, TILL, 443, "allow", []),
        (TO_DOMAIN, OUTSIDE, 443, "deny", [f"{DOMAIN}; it may be allow"]),
        (TO_DOMAIN, TILL, 443, "deny", []),
        ("{action: Deny}", OUTSIDE, 443, "deny", []),
    ],
)
def test_a_verdict_that_hangs_on_what_is_unknown_is_marked_uncertain_and_no_other(
    tmp_path: Path, rule: str, to: str, port: int, action: str, uncertain: list[str]
) -> None:
    folder = written(tmp_path, rule)
    flow = json.dumps({"src": "shop/cart", "dst": to, "dport": port})
    told = CliRunner().invoke(command, ["verdict", "--manifests", folder, "--flows", "-"], input=flow)
    answer = json.loads(told.stdout)
    assert (answer["action"], answer["uncertain"]) == (action, uncertain)
    traced = CliRunner().invoke(
        command, ["trace", "--manifests", folder, "--from", "shop/cart", "--to", to, "--port", str(port)]
    )
    said = [line for line in traced.stdout.splitlines() if line.startswith("  Uncertain: ")]
    assert said == [f"  Uncertain: {doubt}" for doubt in uncertain]


@pytest.mark.parametrize(
    ("changes", "source", "to", "uncertain"),
    [
        (GLOBAL | {"RULE": NOT_TO_PARTNERS}, "shop/cart", OUTSIDE, f"{SET}; it may be deny"),
        (INGRESS | {"RULE": BY_METHOD}, TILL, "shop/cart", f"{METHOD}; it may be deny"),
    ],
)
def test_what_is_allowed_unless_something_unknown_holds_is_uncertain_too(
    tmp_path: Path, changes: dict[str, str], source: str, to: str, uncertain: str
) -> None:
    text = CLUSTER
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "cluster.yaml").write_text(text)
    flow = json.dumps({"src": source, "dst": to, "dport": 443})
    told = CliRunner().invoke(command, ["verdict", "--manifests", str(tmp_path), "--flows", "-"], input=flow)
    answer = json.loads(told.stdout)
    assert (answer["action"], answer["uncertain"]) == ("allow", [uncertain])


def test_lint_notes_what_is_unknown_and_who_depends_on_it_and_finds_no_mistake_in_that(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["lint", written(tmp_path, f"{TO_SERVICE % 'by-hand'}, {TO_DOMAIN}")])
    assert done.exit_code == 0
    depends = "the rules of shop/default.cart depend on it, and verdicts that would change are marked uncertain"
    assert done.stderr.splitlines()[:-1] == [f"note: {SERVICE}; {depends}", f"note: {DOMAIN}; {depends}"]
    (tmp_path / "cluster.yaml").write_text(CLUSTER.replace("RULE", TO_SERVICE % "till"))
    assert "note:" not in CliRunner().invoke(command, ["lint", str(tmp_path)]).stderr


def test_a_slice_written_by_hand_tells_where_its_service_leads_and_nothing_is_uncertain(tmp_path: Path) -> None:
    folder = written(tmp_path, TO_SERVICE % "by-hand")
    (tmp_path / "slice.yaml").write_text(f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: by-hand-1, namespace: shop, labels: {{kubernetes.io/service-name: by-hand}}}}
addressType: IPv4
endpoints: [{{addresses: [{OUTSIDE}]}}]
ports: [{{name: other, port: 80}}, {{name: "", protocol: UDP, port: 81}}, {{name: "", port: 8443}}]
""")
    flows = "\n".join(json.dumps({"src": "shop/cart", "dst": to, "dport": 443}) for to in ("shop/by-hand", OUTSIDE))
    told = CliRunner().invoke(command, ["verdict", "--manifests", folder, "--flows", "-"], input=flows)
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(each["action"], each["uncertain"]) for each in answers] == [("allow", []), ("deny", [])]
    trace = ["trace", "--manifests", folder, "--from", "shop/cart", "--to", "shop/by-hand", "--port", "443"]
    first = CliRunner().invoke(command, trace).stdout.splitlines()[0]
    assert first == f"shop/cart -> {OUTSIDE} tcp port 8443 (through service shop/by-hand:443): ALLOWED"
