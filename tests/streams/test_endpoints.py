"""How many endpoints a policy applies to: once a window for the whole cluster, as of the window's end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from tests.streams.scene import START_NS, START_S, Run, inventory, message, pod, record
from tierflow.schemas import policy_counter, topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.fields import json_schema
from tierflow.schemas.inventory import ENDPOINT, POLICY, Heartbeat, ObjectVersion

BEGIN_NS = START_NS - 3600 * NS_PER_S


def counted(run: Run) -> list[dict[str, Any]]:
    found = [each for each in run.counters.values() if each["record"] == "endpoints"]
    return sorted(found, key=lambda each: (each["start_time"], each["policy"], each["rule_direction"]))


def traffic(node: str = "node-a", *, offset: int = 0, window: int = 0) -> list:
    start = 15 * window
    return [
        message(
            offset,
            [record("frontend-1", "backend-1", at_s=start + 1)],
            end_s=start + 15,
            node=node,
            sequence=2 * window,
        ),
        message(offset + 1, [], end_s=start + 20, node=node, sequence=2 * window + 1),
    ]


def heir(start_s: float, end_s: float | None = None) -> ObjectVersion:
    end = None if end_s is None else START_NS + int(end_s * NS_PER_S)
    body = pod("backend-1") | {"name": "heir", "addresses": ["10.0.0.77"]}
    return ObjectVersion(ENDPOINT, "Pod/shop/heir", START_NS + int(start_s * NS_PER_S), end, body)


def test_a_window_says_how_many_endpoints_each_policy_applies_to() -> None:
    run = Run().feed(*traffic())
    (record_,) = counted(run)
    jsonschema.validate(record_, json_schema(topics.POLICY_COUNTERS, "policy counter", policy_counter.FIELDS))
    assert (record_["policy"], record_["rule_direction"], record_["endpoints"]) == (
        "shop/default.backend",
        "ingress",
        2,
    )
    assert (record_["host"], record_["rule_index"], record_["action"]) == ("-", None, None)
    assert (record_["start_time"], record_["end_time"]) == (START_S, START_S + 15)
    assert run.outcomes[-1].endpoints == {("default", "shop/default.backend", "ingress"): 2}


def test_nodes_and_workers_that_close_one_window_write_one_record() -> None:
    one, other = Run(), Run()
    one.feed(*traffic("node-a")).feed(*traffic("node-b", offset=2)).feed(*traffic("node-a", offset=4, window=1))
    other.feed(*traffic("node-c"))
    written = [outcome.counters for outcome in one.outcomes]
    assert len([each for made in written for each in made if b'"record":"endpoints"' in each[1]]) == 2
    first, second = counted(one)
    assert (first["start_time"], second["start_time"]) == (START_S, START_S + 15)
    assert counted(other) == [first]


def test_a_window_that_only_a_slower_node_has_is_counted_too_and_the_newest_stays_the_one_shown() -> None:
    run = Run(history=inventory(heir(20, 50))).feed(*traffic("node-a", window=2))
    run.feed(*traffic("node-b", offset=2, window=1))
    assert [(each["start_time"] - START_S, each["endpoints"]) for each in counted(run)] == [(15, 3), (30, 3)]
    run.feed(*traffic("node-a", offset=4, window=3), *traffic("node-c", offset=6))
    assert [(each["start_time"] - START_S, each["endpoints"]) for each in counted(run)] == [
        (0, 2), (15, 3), (30, 3), (45, 2),
    ]  # fmt: skip
    assert run.stage._endpoints.latest == {("default", "shop/default.backend", "ingress"): 2}


def test_endpoints_count_as_of_the_windows_end() -> None:
    history = inventory(heir(5, 40), heir(50))
    run = Run(history=history).feed(
        *(each for window in range(3) for each in traffic(offset=2 * window, window=window))
    )
    assert [each["endpoints"] for each in counted(run)] == [3, 3, 2]


def test_a_policy_counts_from_the_window_at_whose_end_it_holds() -> None:
    manifest = {
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "default.all"},
        "spec": {"tier": "default", "order": 1, "selector": "has(app)", "types": ["Ingress", "Egress"],
                 "ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]},
    }  # fmt: skip
    run = Run(
        history=inventory(
            ObjectVersion(POLICY, "GlobalNetworkPolicy/default.all", START_NS + 16 * NS_PER_S, None, manifest)
        )
    )
    run.feed(*traffic(), *traffic(offset=2, window=1))
    assert [(each["policy"], each["rule_direction"], each["endpoints"]) for each in counted(run)] == [
        ("shop/default.backend", "ingress", 2),
        ("default.all", "egress", 5),
        ("default.all", "ingress", 5),
        ("shop/default.backend", "ingress", 2),
    ]


def test_a_node_without_a_host_endpoint_is_not_counted() -> None:
    node = {
        "type": "hep", "namespace": "", "name": "node-a", "labels": {"app": "backend"}, "service_account": "",
        "named_ports": [], "addresses": ["10.9.0.1"], "name_aggr": "node-a", "node": "node-a", "policed": False,
    }  # fmt: skip
    manifest = {
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "default.all"},
        "spec": {"tier": "default", "selector": "has(app)", "types": ["Ingress"],
                 "ingress": [{"action": "Allow"}]},
    }  # fmt: skip
    run = Run(
        history=inventory(
            ObjectVersion(ENDPOINT, "Node/node-a", BEGIN_NS, None, node),
            ObjectVersion(POLICY, "GlobalNetworkPolicy/default.all", BEGIN_NS, None, manifest),
        )
    )
    run.feed(*traffic())
    assert [each["endpoints"] for each in counted(run)] == [5, 2]


@pytest.mark.parametrize("behind_s", [1, 14])
def test_a_window_that_the_inventory_has_not_reached_is_not_counted_but_the_next_is(behind_s: int) -> None:
    run = Run()
    snapshot = run.history.snapshot()
    run.stage.use(replace(snapshot, watermark_ns=START_NS + (15 - behind_s) * NS_PER_S))
    run.feed(*traffic())
    assert counted(run) == []
    assert len(run.logs) == 1
    run.stage.use(replace(snapshot, watermark_ns=START_NS + 30 * NS_PER_S))
    run.feed(*traffic(offset=2, window=1))
    assert [each["start_time"] for each in counted(run)] == [START_S + 15]


def test_late_records_count_no_endpoints() -> None:
    run = Run().feed(message(0, [], end_s=60, sequence=0))
    run.feed(message(1, [record("frontend-1", "backend-1")], end_s=61, sequence=1))
    assert [log["late"] for log in run.all_logs()] == [True]
    assert counted(run) == []


def test_a_heartbeat_alone_changes_no_count() -> None:
    history = inventory()
    history.apply(Heartbeat(START_NS + 900 * NS_PER_S, "scene", 2))
    assert counted(Run(history=history).feed(*traffic())) == counted(Run().feed(*traffic()))
