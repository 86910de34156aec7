"""Every mistake that a manifest can hold: named with its place, its value and what is accepted; none without a case."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tierflow.policy import Problem, document, parse_documents

FILE, POSITION = "case.yaml", 3
FOLDER = Path(__file__).parent / "validation"
SOURCES = Path(document.__file__).resolve().parent
NAMESPACED = ("NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "NetworkSet")
CLUSTER = {"anp": "AdminNetworkPolicy", "banp": "BaselineAdminNetworkPolicy", "cnp": "ClusterNetworkPolicy"}
LONG = "x" * (256 * 1024)


@dataclass(frozen=True)
class Case:
    """A document with one mistake, how its object is called, and the problems: (field, value, accepted)."""

    name: str
    documents: list[Any]
    object: str
    problems: list[tuple[str, str, str]]


def _manifest(written: dict[str, Any]) -> tuple[Any, str]:
    """The document that a case stands for, and the name of its object."""
    if "whole" in written:
        return written["whole"], written["object"]
    namespace = {"namespace": "shop"}
    for short, kind in CLUSTER.items():
        if short in written:
            group = f"policy.networking.k8s.io/{'v1alpha2' if short == 'cnp' else 'v1alpha1'}"
            own = {} if short == "banp" else {"priority": 1} | ({"tier": "Admin"} if short == "cnp" else {})
            name = "default" if short == "banp" else "x"
            spec = own | {"subject": {"namespaces": {}}} | written[short]
            return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}, f"{kind} {name}"
    for short, group, kind in (
        ("knp", "networking.k8s.io/v1", "NetworkPolicy"),
        ("sknp", "projectcalico.org/v3", "StagedKubernetesNetworkPolicy"),
        ("service", "v1", "Service"),
    ):
        if short in written:
            metadata = {"name": "x"} | namespace
            return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": written[short]}, f"{kind} shop/x"
    for direction in ("ingress", "egress"):
        if direction in written:
            written = {"kind": "GlobalNetworkPolicy", "spec": {direction: [written[direction]]}}
    kind = written["kind"]
    metadata = {"name": "x"} | (namespace if kind in NAMESPACED else {}) | written.get("metadata", {})
    made = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata}
    if "spec" in written:
        made["spec"] = written["spec"]
    return made, written.get("object", f"{kind} {'shop/' if kind in NAMESPACED else ''}x")


def _cases() -> list[Case]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for name, written, *problem in yaml.safe_load(path.read_text().replace("LONG", LONG)):
            made, called = _manifest(written)
            rule = next((f"spec.{each}[0]." for each in ("ingress", "egress") if each in written), "")
            problems = problem[0] if isinstance(problem[0], list) else [problem]
            documents = [made] * (2 if written.get("twice") else 1)
            expected = [(rule + field, value, accepted) for field, value, accepted in problems]
            found.append(Case(f"{path.stem}: {name}", documents, called, expected))
    return found


CASES = _cases()


def problems_of(case: Case) -> list[Problem]:
    _, problems = parse_documents([(FILE, POSITION + index, each) for index, each in enumerate(case.documents)])
    return problems


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_named_with_its_place_and_what_is_accepted(case: Case) -> None:
    position = POSITION + len(case.documents) - 1
    assert problems_of(case) == [
        Problem(FILE, position, case.object, field, value, accepted) for field, value, accepted in case.problems
    ]


def _report_calls() -> set[tuple[str, int, int]]:
    """(file, first line, last line) of every place in the package where a problem is reported."""
    found = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "report":
                found.add((path.name, node.lineno, node.end_lineno or node.lineno))
    return found


def test_every_place_that_reports_a_problem_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[tuple[str, int]] = set()
    original = document.Place.report

    def recording(self: document.Place, path: str, value: object, accepted: str) -> None:
        frame = sys._getframe(1)
        while frame is not None and Path(frame.f_code.co_filename).resolve().parent == SOURCES:
            reached.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
            frame = frame.f_back
        original(self, path, value, accepted)

    monkeypatch.setattr(document.Place, "report", recording)
    for case in CASES:
        problems_of(case)
    missing = {
        f"{name}:{first}"
        for name, first, last in _report_calls()
        if not any(file == name and first <= line <= last for file, line in reached)
    }
    assert missing == set()


def test_a_tier_without_an_order_stands_where_tier_default_does() -> None:
    documents = [
        {"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": {}}
        for name in ("default", "own")
    ]
    resources, problems = parse_documents([(FILE, index, each) for index, each in enumerate(documents)])
    assert problems == []
    assert [(tier.order, tier.default_action) for tier in resources.tiers] == [(1_000_000.0, "Deny")] * 2
