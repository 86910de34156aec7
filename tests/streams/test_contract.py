"""The flow log contract, line by line, where upstream's documentation says how it must be and where we differ."""

from __future__ import annotations

from typing import Any

import pytest

from tests.streams.scene import CLUSTER_IP, START_NS, Run, inventory, message, record
from tierflow.schemas import flow_log
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import ENDPOINT, NETWORK_SET, POLICY, ObjectVersion
from tierflow.schemas.record import Mark, Reporter
from tierflow.streams.core.groups import Levels

BEGIN_NS = START_NS - 3600 * NS_PER_S
API = "projectcalico.org/v3"


def logs(*records: Any, levels: Levels | None = None, more: tuple[ObjectVersion, ...] = ()) -> list[dict[str, Any]]:
    run = Run(levels or Levels(), history=inventory(*more))
    return run.feed(message(0, list(records), end_s=15), message(1, [], end_s=40)).all_logs()


def staged_deny() -> ObjectVersion:
    """Staged: nobody may leave a frontend."""
    manifest = {
        "apiVersion": API, "kind": "StagedGlobalNetworkPolicy", "metadata": {"name": "default.lock"},
        "spec": {"tier": "default", "order": 1, "selector": "app == 'frontend'", "types": ["Egress"],
                 "egress": [{"action": "Deny"}]},
    }  # fmt: skip
    return ObjectVersion(POLICY, "StagedGlobalNetworkPolicy/default.lock", BEGIN_NS, None, manifest)


@pytest.mark.parametrize("allowed", range(4))
@pytest.mark.parametrize("denied", range(4))
def test_allowed_and_denied_flows_have_levels_of_their_own_and_a_staged_deny_counts_as_denied(
    allowed: int, denied: int
) -> None:
    found = logs(
        record("rogue", "frontend-1"),
        record("rogue", "backend-1", packets=(1, 0), size=(60, 0)),
        record("frontend-1", "8.8.8.8"),
        levels=Levels(allowed, denied),
        more=(staged_deny(),),
    )
    seen = {(log["source_name_aggr"][:5], log["dest_name_aggr"][:5], log["reporter"]): log for log in found}
    assert {key: (log["action"], log["aggregation_level"]) for key, log in seen.items()} == {
        ("rogue", "front", "src"): ("allow", allowed),
        ("rogue", "backe", "src"): ("allow", allowed),
        ("rogue", "backe", "dst"): ("deny", denied),
        ("front", "pub", "src"): ("allow", denied),
    }
    staged = seen["front", "pub", "src"]["policies"]
    assert staged["pending_policies"] == ["0|default|staged:default.lock|deny|0"]
    assert staged["enforced_policies"] == ["0|__PROFILE__|__PROFILE__.kns.shop|allow|0"]


def test_the_systems_own_labels_are_hidden_also_where_nothing_was_intersected() -> None:
    (log,) = logs(record("frontend-1", "backend-1"))
    assert log["dest_labels"]["labels"] == ["app=backend"]


def test_an_empty_intersection_stays_empty_however_windows_are_merged() -> None:
    run = Run(Levels(2, 2))
    for number, source in enumerate(("10.0.0.3", "10.0.0.4", "10.0.0.3")):
        run.feed(message(number, [record(source, "8.8.8.8", ports=(40_000 + number, 53))], end_s=5 + number))
    run.feed(message(3, [], end_s=40))
    (log,) = run.all_logs()
    assert log["source_labels"]["labels"] == ["app=backend"]

    bare = ("10.0.0.1", {"app": "one"}), ("10.0.0.2", {"app": "two"})
    more = tuple(
        ObjectVersion(ENDPOINT, f"Pod/shop/frontend-{number + 1}", BEGIN_NS + 1, None, {
            "type": "wep", "namespace": "shop", "name": f"frontend-{number + 1}", "labels": labels,
            "service_account": "", "named_ports": [], "addresses": [address], "name_aggr": "frontend-5d4-*",
            "node": "node-a", "policed": True,
        })
        for number, (address, labels) in enumerate(bare)
    )  # fmt: skip
    run = Run(Levels(2, 2), history=inventory(*more))
    for number, source in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.1")):
        run.feed(message(number, [record(source, "8.8.8.8", ports=(40_000 + number, 53))], end_s=5 + number))
    run.feed(message(3, [], end_s=40))
    (log,) = run.all_logs()
    assert log["source_labels"]["labels"] == []


def test_what_a_node_only_forwarded_is_told_by_the_reporter_fwd() -> None:
    (log,) = logs(record("8.8.8.8", "9.9.9.9", reporter=Reporter.FWD, packets=(3, 2), size=(300, 200)))
    assert (log["reporter"], log["action"]) == ("fwd", "allow")
    assert log["policies"] == {"all_policies": [], "enforced_policies": [], "pending_policies": []}
    assert (log["packets_out"], log["packets_in"]) == (3, 2)


def test_a_node_is_a_host_endpoint_whose_aggregated_name_is_its_own_and_which_no_policy_judges() -> None:
    node = {
        "type": "hep", "namespace": "", "name": "node-a", "labels": {"role": "worker"}, "service_account": "",
        "named_ports": [], "addresses": ["10.9.0.1"], "name_aggr": "node-a", "node": "node-a", "policed": False,
    }  # fmt: skip
    (log,) = logs(
        record("10.9.0.1", "frontend-1", reporter=Reporter.DST),
        more=(ObjectVersion(ENDPOINT, "Node/node-a", BEGIN_NS, None, node),),
    )
    assert (log["source_type"], log["source_namespace"]) == ("hep", "-")
    assert (log["source_name_aggr"], log["source_name"]) == ("node-a", "-")


def test_a_direct_endpoint_beats_a_network_set_and_the_longest_prefix_wins() -> None:
    def network_set(name: str, net: str) -> ObjectVersion:
        manifest = {
            "apiVersion": API, "kind": "GlobalNetworkSet", "metadata": {"name": name, "labels": {"set": name}},
            "spec": {"nets": [net]},
        }  # fmt: skip
        return ObjectVersion(NETWORK_SET, f"GlobalNetworkSet/{name}", BEGIN_NS, None, manifest)

    found = logs(
        record("frontend-1", "backend-1"), record("frontend-1", "10.0.0.77"), record("frontend-1", "10.0.9.9"),
        more=(network_set("all", "10.0.0.0/8"), network_set("near", "10.0.0.0/24")),
    )  # fmt: skip
    assert {(log["dest_type"], log["dest_name_aggr"], *log["dest_labels"]["labels"]) for log in found} == {
        ("wep", "backend-7c9-*", "app=backend"), ("ns", "near", "set=near"), ("ns", "all", "set=all"),
    }  # fmt: skip


@pytest.mark.parametrize(("proto", "name"), [(1, "icmp"), (58, "icmp6"), (50, "esp"), (4, "ipip"), (253, "253")])
@pytest.mark.parametrize("level", range(4))
def test_what_has_no_ports_shows_none(proto: int, name: str, level: int) -> None:
    found = logs(record("frontend-1", "8.8.8.8", proto=proto, ports=(7, 8 << 8)), levels=Levels(level, level))
    assert [(log["proto"], log["source_port"], log["dest_port"]) for log in found] == [(name, None, None)]


@pytest.mark.parametrize(("level", "shown"), [(2, ("http", "http", 80)), (3, ("-", "-", None))])
def test_level_3_keeps_the_service_and_drops_its_port(level: int, shown: tuple[Any, ...]) -> None:
    (log,) = logs(
        record("frontend-1", CLUSTER_IP, ports=(41_000, 80), nat=("backend-2", 8080)), levels=Levels(level, level)
    )
    assert (log["dest_service_namespace"], log["dest_service_name"]) == ("shop", "backend")
    assert tuple(log[f"dest_service_port{part}"] for part in ("", "_name", "_num")) == shown


def test_fields_that_need_what_is_not_collected_are_null_and_say_so() -> None:
    (log,) = logs(record("frontend-1", "backend-1"))
    for field in flow_log.FIELDS:
        if not field.collected:
            assert log[field.name] is None
            assert field.nullable
            assert "Not collected yet" in field.about


def test_a_connection_that_says_nothing_in_a_window_is_active_in_it_all_the_same() -> None:
    alive = record("frontend-1", "backend-1", at_s=20, packets=(0, 0), size=(0, 0), marks=Mark.ALIVE)
    run = Run()
    run.feed(
        message(0, [record("frontend-1", "backend-1", at_s=1, marks=Mark.STARTED)], end_s=15),
        message(1, [alive], end_s=30),
        message(2, [record("frontend-1", "backend-1", at_s=40, marks=Mark.COMPLETED)], end_s=45),
        message(3, [], end_s=80),
    )
    found = sorted(run.all_logs(), key=lambda log: log["start_time"])
    assert [(log["num_flows"], log["num_flows_started"], log["num_flows_completed"]) for log in found] == [
        (1, 1, 0), (1, 0, 0), (1, 0, 1),
    ]  # fmt: skip
    assert [log["evidence"] for log in found] == ["answered", "unknown", "answered"]
