"""What Calico's and Kubernetes' documentation says that their examples do, as tables; every flow by both judges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.policy.test_judge import assert_agree

from tierflow.policy import (
    EGRESS,
    INGRESS,
    Endpoint,
    Flow,
    Resources,
    ScalarJudge,
    Side,
    compile_policies,
    parse_documents,
)
from tierflow.policy.ports import read_protocol

FOLDER = Path(__file__).parent / "examples"
DIRECTIONS = {"ingress": INGRESS, "egress": EGRESS}


def _examples() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    pages = [(path.stem, yaml.safe_load(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))]
    return [(f"{stem}: {each['what']}", page, each) for stem, page in pages for each in page["examples"]]


EXAMPLES = _examples()


def resources_of(page: dict[str, Any], example: dict[str, Any]) -> Resources:
    texts = yaml.safe_load_all(page["common"] + "\n---\n" + example["documents"])
    found, problems = parse_documents([("example.yaml", index, each) for index, each in enumerate(texts)])
    assert [str(each) for each in problems] == []
    return dataclasses.replace(found, domains={name: tuple(nets) for name, nets in page.get("domains", {}).items()})


def side_of(name: str, holder: dict[str, Any]) -> Side:
    if "node" not in holder and "namespace" not in holder:
        return Side(holder["address"])
    ports = tuple(
        (port, read_protocol(text.split()[0]) or 0, int(text.split()[1]))
        for port, text in holder.get("ports", {}).items()
    )
    kind, namespace = ("hep", "") if "node" in holder else ("wep", holder["namespace"])
    own = holder.get("node", name)
    endpoint = Endpoint(kind, namespace, own, holder["labels"], holder.get("account", ""), ports, (holder["address"],))
    return Side(holder["address"], endpoint)


def flow_of(page: dict[str, Any], source: str, destination: str, what: str) -> Flow:
    protocol, _, port = what.partition(" ")
    kind, slash, code = port.partition("/")
    number = (int(kind) << 8 | int(code)) if slash else int(port)
    ends = [side_of(name, page["holders"][name]) for name in (source, destination)]
    return Flow(*ends, read_protocol(protocol) or 0, 40000, number)


@pytest.mark.parametrize(("page", "example"), [each[1:] for each in EXAMPLES], ids=[each[0] for each in EXAMPLES])
def test_an_example_does_what_its_page_says(page: dict[str, Any], example: dict[str, Any]) -> None:
    found = resources_of(page, example)
    judge = ScalarJudge(found)
    flows = []
    for written, source, destination, what, expected in example["flows"]:
        flow = flow_of(page, source, destination, what)
        flows.append(flow)
        pending, _, direction = written.rpartition(" ")
        trace = judge.trace(flow, DIRECTIONS[direction])
        answer = "nothing"
        if trace is not None:
            hit = (trace.pending if pending else trace.enforced)[-1]
            answer = f"{hit.action} {hit.trace_name} {hit.rule_index}"
        assert answer == expected, (written, source, destination, what)
    assert_agree(compile_policies(found), flows)
