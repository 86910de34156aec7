"""``tierflow policy``: what a user reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tierflow.cli.policy import command

MISTAKES = Path(__file__).parent / "mistakes"
STOREFRONT = Path(__file__).parents[2] / "deploy" / "storefront"

EXPECTED = (
    ("04-broken.yaml", 0, "document"),
    ("01-tiers.yaml", 0, "spec.order"),
    ("01-tiers.yaml", 0, "spec.defaultAction"),
    ("01-tiers.yaml", 1, "spec.order"),
    ("01-tiers.yaml", 2, "apiVersion"),
    ("02-policies.yaml", 0, "metadata.name"),
    ("02-policies.yaml", 0, "spec.tier"),
    ("02-policies.yaml", 0, "spec.selector"),
    ("02-policies.yaml", 0, "spec.types[1]"),
    ("02-policies.yaml", 0, "spec.egres"),
    ("02-policies.yaml", 0, "spec.ingress[0].action"),
    ("02-policies.yaml", 0, "spec.ingress[1].protocol"),
    ("02-policies.yaml", 0, "spec.ingress[2].source.nets[0]"),
    ("02-policies.yaml", 0, "spec.ingress[3].destination.ports"),
    ("02-policies.yaml", 0, "spec.ingress[4].destination.ports[0]"),
    ("02-policies.yaml", 0, "spec.ingress[5].icmp"),
    ("02-policies.yaml", 0, "spec.ingress[6].source.nets[0]"),
    ("02-policies.yaml", 1, "metadata.namespace"),
    ("02-policies.yaml", 1, "spec.applyOnForward"),
    ("02-policies.yaml", 1, "spec.ingress[0].source.domains"),
    ("02-policies.yaml", 2, "metadata.name"),
    ("03-kubernetes.yaml", 0, "spec.podSelector.matchExpressions[0].operator"),
    ("03-kubernetes.yaml", 0, "spec.ingress[0].from[0].ipBlock.except"),
    ("03-kubernetes.yaml", 1, "metadata.labels.port"),
    ("03-kubernetes.yaml", 2, "spec.node"),
)


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(command, list(arguments), input=stdin)


def test_lint_names_every_mistake_at_once_and_nothing_else() -> None:
    result = run("lint", str(MISTAKES), "--json")
    assert result.exit_code == 1
    found = {(Path(each["file"]).name, each["document"], each["field"]) for each in json.loads(result.stdout)}
    assert len(EXPECTED) >= 20
    assert found == set(EXPECTED)


def test_lint_prints_one_line_a_mistake_with_what_is_accepted() -> None:
    result = run("lint", str(MISTAKES))
    lines = result.stdout.splitlines()
    assert len(lines) == len(EXPECTED)
    assert all("; accepted: " in line for line in lines)


def test_the_storefront_has_no_mistake() -> None:
    assert run("lint", str(STOREFRONT)).exit_code == 0


@pytest.mark.parametrize(
    ("target", "decided_by"),
    [
        ("frontend", "rule 1 of storefront/default.dmz in tier default"),
        ("microservice1", "rule 2 of storefront/default.trusted in tier default"),
        ("microservice2", "rule 2 of storefront/default.trusted in tier default"),
        ("backend", "rule 2 of storefront/default.restricted in tier default"),
        ("logging", "rule 1 of platform.logging in tier platform"),
    ],
)
def test_trace_says_which_rule_denies_the_rogue(target: str, decided_by: str) -> None:
    arguments = ("--manifests", str(STOREFRONT), "--from", "storefront/rogue", "--to", f"storefront/{target}")
    result = run("trace", *arguments, "--port", "80")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0].endswith(": DENIED")
    assert f"enters storefront/{target}: deny, by {decided_by}" in result.output
    index, policy = decided_by.split()[1], decided_by.split()[3]
    assert f"\n    rule {index} of {policy} is: Deny anything\n" in result.output
    assert f"\n    {policy} applies: it is for [" in result.output


def test_trace_names_the_label_that_the_rogue_lacks() -> None:
    arguments = ("--manifests", str(STOREFRONT), "--from", "storefront/rogue", "--to", "storefront/backend")
    output = run("trace", *arguments, "--port", "80").output
    assert "source storefront/rogue: no label fw-zone" in output
    assert "Nearest change: storefront/rogue has no label fw-zone; with fw-zone=" in output


def test_trace_says_first_what_decides_and_which_rules_would_have_done_otherwise() -> None:
    arguments = ("--manifests", str(STOREFRONT), "--from", "storefront/rogue", "--to", "storefront/frontend")
    lines = run("trace", *arguments, "--port", "80").output.splitlines()
    assert lines[:8] == [
        "storefront/rogue -> storefront/frontend tcp port 8080 (through service storefront/frontend:80): DENIED",
        "  leaves storefront/rogue: allow, by profile kns.storefront, as no policy decided",
        "    passed on by tier security, then tier platform",
        "  enters storefront/frontend: deny, by rule 1 of storefront/default.dmz in tier default",
        '    storefront/default.dmz applies: it is for [namespace == "storefront" && fw-zone == "dmz"]',
        (
            '    rule 0 of storefront/default.dmz would Allow from [in no namespace && type == "public"]; but source '
            'storefront/rogue: the namespace is "storefront", wanted none; no label type, wanted "public"'
        ),
        "    rule 1 of storefront/default.dmz is: Deny anything",
        '  Nearest change: storefront/frontend has fw-zone="dmz"; without fw-zone, the verdict would be allow',
    ]


def test_trace_explains_the_allowed_path_too() -> None:
    arguments = ("--manifests", str(STOREFRONT), "--from", "storefront/frontend", "--to", "storefront/microservice1")
    found = json.loads(run("trace", *arguments, "--port", "80", "--json").stdout)
    assert found["verdict"] == "allow"
    assert found["egress"]["because"][-1] == (
        'rule 0 of storefront/default.dmz is: Allow to [namespace == "storefront" && '
        '(fw-zone == "trusted" || app == "logging")]'
    )
    assert found["service"] == "storefront/microservice1:80"
    assert found["dest_port"] == 8080
    assert found["egress"]["enforced"][-1] == "2|default|storefront/default.dmz|allow|0"
    assert found["ingress"]["enforced"][-1] == "1|default|storefront/default.trusted|allow|0"


def test_trace_of_an_unknown_pod_lists_the_known_ones() -> None:
    result = run(
        "trace", "--manifests", str(STOREFRONT), "--from", "storefront/nobody", "--to", "8.8.8.8", "--port", "1"
    )
    assert "--from 'storefront/nobody'" in str(result.exception)
    assert "storefront/backend" in str(result.exception)


def test_verdict_answers_each_line_with_both_traces() -> None:
    flows = [
        {"src": "storefront/rogue", "dst": "storefront/backend", "proto": "tcp", "sport": 40000, "dport": 80},
        {"src": "storefront/frontend", "dst": "storefront/logging", "proto": "tcp", "dport": 80},
        {"src": "8.8.8.8", "dst": "storefront/frontend", "proto": 6, "dport": 8080},
    ]
    lines = "\n".join(json.dumps(flow) for flow in flows)
    result = run("verdict", "--manifests", str(STOREFRONT), "--flows", "-", stdin=lines)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["action"] for each in answers] == ["deny", "allow", "allow"]
    assert answers[0]["ingress"]["enforced_policies"][-1] == "1|default|storefront/default.restricted|deny|2"
    assert answers[0]["egress"]["pending_policies"][-1] == "2|default|staged:default.default-deny|deny|-1"
    assert answers[2]["egress"] is None


@pytest.mark.parametrize("line", ["{", "[]", '{"src": "a"}', '{"src": "8.8.8.8", "dst": "8.8.4.4", "dport": 70000}'])
def test_a_wrong_line_of_flows_is_named(line: str) -> None:
    result = run("verdict", "--manifests", str(STOREFRONT), "--flows", "-", stdin=line)
    assert "--flows line 1" in str(result.exception)


@pytest.mark.parametrize("content", [b"\xff\n", b"[" * 100_000])
def test_flows_that_are_no_text_or_endlessly_nested_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "flows").write_bytes(content)
    result = run("verdict", "--manifests", str(STOREFRONT), "--flows", str(tmp_path / "flows"))
    assert "--flows line 1" in str(result.exception)


def test_the_board_shows_tiers_in_order_with_endpoint_counts() -> None:
    tiers = json.loads(run("board", "--manifests", str(STOREFRONT), "--json").stdout)
    assert [tier["name"] for tier in tiers] == ["security", "platform", "default"]
    counts = {policy["trace_name"]: policy["endpoints"] for tier in tiers for policy in tier["policies"]}
    assert counts["storefront/default.trusted"] == 2
    assert counts["security.quarantine"] == 0
    printed = run("board", "--manifests", str(STOREFRONT)).output
    assert "storefront/default.trusted" in printed
    assert 'service account label PCI == "true"' in printed


def test_a_flow_between_strangers_is_not_judged() -> None:
    line = json.dumps({"src": "192.0.2.1", "dst": "8.8.8.8", "dport": 53})
    answer = json.loads(run("verdict", "--manifests", str(STOREFRONT), "--flows", "-", stdin=line).stdout)
    assert (answer["action"], answer["egress"], answer["ingress"]) == (None, None, None)
    arguments = ("--from", "192.0.2.1", "--to", "8.8.8.8", "--port", "53")
    output = run("trace", "--manifests", str(STOREFRONT), *arguments).output
    assert output.splitlines()[0].endswith(": NOT JUDGED")


@pytest.mark.parametrize(("net", "action"), [("0.0.0.0/0", "allow"), ("10.0.0.0/8", "deny"), ("::/0", "deny")])
def test_a_pod_without_an_address_is_in_all_addresses_and_no_other_net(tmp_path: Path, net: str, action: str) -> None:
    (tmp_path / "p.yaml").write_text(f"""
{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: n, labels: {{a: b}}}}, spec: {{containers: []}}}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: nets}}
spec: {{ingress: [{{action: Allow, source: {{nets: ['{net}']}}}}]}}
""")
    line = json.dumps({"src": "n/a", "dst": "n/a", "dport": 80})
    answer = json.loads(run("verdict", "--manifests", str(tmp_path), "--flows", "-", stdin=line).stdout)
    assert answer["action"] == action


def test_a_pod_without_an_address_talks_the_ip_version_of_the_other_end(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("""
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n}, spec: {containers: []}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: six}
spec: {egress: [{action: Allow, ipVersion: 6}]}
""")
    for destination, action in (("2001:db8::1", "allow"), ("192.0.2.1", "deny")):
        line = json.dumps({"src": "n/a", "dst": destination, "dport": 80})
        answer = json.loads(run("verdict", "--manifests", str(tmp_path), "--flows", "-", stdin=line).stdout)
        assert answer["action"] == action


def test_what_is_no_yaml_is_named_with_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: x\n---\na: [1\n")
    output = run("lint", str(tmp_path)).stdout
    assert (
        "document 1, ?: document: expected ',' or ']', but got '<stream end>' at line 4, column 1; accepted" in output
    )
