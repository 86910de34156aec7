"""What one flow log says, field by field."""

from __future__ import annotations

import jsonschema
import pytest

from tests.streams.scene import CLUSTER_IP, PODS, START_NS, START_S, Run, inventory, message, pod, policy, record
from tierflow.schemas import flow_log, policy_counter, topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.fields import json_schema
from tierflow.schemas.inventory import ENDPOINT, NETWORK_SET, POLICY, ObjectVersion
from tierflow.schemas.record import Mark, Reporter
from tierflow.streams.core.groups import Levels


def closed(*records, levels: Levels | None = None, history=None) -> Run:
    run = Run(levels or Levels(), history=history or inventory())
    return run.feed(message(0, list(records), end_s=15), message(1, [], end_s=40))


def test_every_flow_log_and_counter_fits_its_schema() -> None:
    run = closed(
        record("frontend-1", "backend-1", rtt_us=90),
        record("rogue", "backend-1", packets=(1, 0), size=(60, 0)),
        record("frontend-1", "8.8.8.8", proto=1, ports=(7, 8 << 8)),
        record("2001:db8::1", "backend-2", reporter=Reporter.DST),
    )
    logs = json_schema(topics.FLOWS_LOGS, "flow log", flow_log.FIELDS)
    counters = json_schema(topics.POLICY_COUNTERS, "policy counter", policy_counter.FIELDS)
    assert len(run.logs) == 5
    for document in run.all_logs():
        jsonschema.validate(document, logs)
    assert run.counters
    for document in run.counters.values():
        jsonschema.validate(document, counters)


def test_traffic_through_a_cluster_ip_shows_the_backend_pod_and_the_service() -> None:
    run = closed(record("frontend-1", CLUSTER_IP, ports=(41_000, 80), nat=("backend-2", 8080), marks=Mark.STARTED))
    (log,) = run.all_logs()
    assert log["dest_name_aggr"] == "backend-7c9-*"
    assert log["dest_port"] == 8080
    assert (log["dest_service_namespace"], log["dest_service_name"]) == ("shop", "backend")
    assert (log["dest_service_port"], log["dest_service_port_num"]) == ("http", 80)
    assert (log["num_flows"], log["num_flows_started"], log["num_flows_completed"]) == (1, 1, 0)
    assert log["dest_ips"] == ["10.0.0.4"]


def test_in_and_out_are_seen_from_the_reporting_endpoint() -> None:
    run = closed(
        record("frontend-1", "backend-1", packets=(3, 2), size=(300, 200)),
        record("frontend-1", "backend-1", packets=(3, 2), size=(300, 200), reporter=Reporter.DST),
    )
    by_reporter = {log["reporter"]: log for log in run.all_logs()}
    src, dst = by_reporter["src"], by_reporter["dst"]
    assert (src["packets_out"], src["packets_in"], src["bytes_out"], src["bytes_in"]) == (3, 2, 300, 200)
    assert (dst["packets_out"], dst["packets_in"], dst["bytes_out"], dst["bytes_in"]) == (2, 3, 200, 300)


def test_a_denial_at_the_destination_is_derived_from_the_source_when_nothing_arrived() -> None:
    run = closed(record("rogue", "backend-1", packets=(2, 0), size=(120, 0)))
    by_reporter = {log["reporter"]: log for log in run.all_logs()}
    assert by_reporter["src"]["action"] == "allow"
    assert by_reporter["src"]["evidence"] == "unanswered"
    derived = by_reporter["dst"]
    assert (derived["action"], derived["derived"], derived["evidence"]) == ("deny", True, "enforced")
    assert (derived["packets_in"], derived["packets_out"], derived["bytes_in"]) == (2, 0, 120)
    assert derived["policies"]["enforced_policies"] == ["0|default|shop/default.backend|deny|1"]
    assert derived["aggregation_level"] == 1
    assert derived["source_ip"] == PODS["rogue"][0]


def test_a_denied_flow_that_arrived_is_one_leak_and_no_second_denial() -> None:
    run = closed(
        record("rogue", "backend-1", packets=(2, 0), size=(120, 0)),
        record("rogue", "backend-1", packets=(2, 0), size=(120, 0), reporter=Reporter.DST),
    )
    denials = [log for log in run.all_logs() if log["action"] == "deny"]
    assert [(log["derived"], log["evidence"], log["packets_in"]) for log in denials] == [(False, "leak", 2)]


def test_an_arrival_without_a_packet_is_none() -> None:
    run = closed(
        record("rogue", "backend-1", packets=(2, 0), size=(120, 0)),
        record("rogue", "backend-1", packets=(0, 0), size=(0, 0), reporter=Reporter.DST, marks=Mark.ALIVE),
    )
    denials = sorted((log["derived"], log["evidence"]) for log in run.all_logs() if log["action"] == "deny")
    assert denials == [(False, "unknown"), (True, "enforced")]


def test_a_connection_on_both_sides_of_a_change_counts_once() -> None:
    begin, switch = START_NS - 3600 * NS_PER_S, START_NS + 5 * NS_PER_S
    relabelled = pod("frontend-1") | {"labels": {"app": "frontend", "fw-zone": "dmz", "i": "9"}}
    history = inventory(
        ObjectVersion(ENDPOINT, "Pod/shop/frontend-1", begin, switch, pod("frontend-1")),
        ObjectVersion(ENDPOINT, "Pod/shop/frontend-1", switch, None, relabelled),
    )
    run = closed(record("frontend-1", "backend-1", at_s=4), record("frontend-1", "backend-1", at_s=6), history=history)
    (log,) = run.all_logs()
    assert (log["num_flows"], log["packets_out"]) == (1, 6)


def test_a_forwarded_flow_to_a_pod_has_the_pods_verdict() -> None:
    (log,) = closed(record("8.8.8.8", "backend-1", reporter=Reporter.FWD)).all_logs()
    assert (log["reporter"], log["action"]) == ("fwd", "deny")


def test_a_denied_flow_that_was_answered_is_not_derived() -> None:
    run = closed(record("rogue", "backend-1", packets=(2, 1), size=(120, 60)))
    assert [log["reporter"] for log in run.all_logs()] == ["src"]


NO_EGRESS = ObjectVersion(
    POLICY, "NetworkPolicy/shop/default.rogue", START_NS - 3600 * NS_PER_S, None,
    {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
     "metadata": {"name": "default.rogue", "namespace": "shop"},
     "spec": {"tier": "default", "order": 5, "selector": "app == 'rogue'", "types": ["Egress"],
              "egress": [{"action": "Deny"}]}},
)  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "reporter", "packets", "expected"),
    [
        (("rogue", "8.8.8.8"), Reporter.SRC, (3, 0), ("deny", "enforced")),
        (("rogue", "8.8.8.8"), Reporter.SRC, (3, 2), ("deny", "leak")),
        (("rogue", "8.8.8.8"), Reporter.SRC, (0, 2), ("deny", "leak")),
        (("rogue", "8.8.8.8"), Reporter.SRC, (0, 0), ("deny", "unknown")),
        (("8.8.8.8", "backend-1"), Reporter.DST, (1, 0), ("deny", "leak")),
        (("8.8.8.8", "backend-1"), Reporter.DST, (0, 1), ("deny", "leak")),
        (("8.8.8.8", "backend-1"), Reporter.DST, (0, 0), ("deny", "unknown")),
        (("frontend-1", "backend-1"), Reporter.SRC, (3, 0), ("allow", "unanswered")),
        (("frontend-1", "backend-1"), Reporter.SRC, (3, 2), ("allow", "answered")),
        (("frontend-1", "backend-1"), Reporter.DST, (3, 0), ("allow", "unanswered")),
        (("frontend-1", "backend-1"), Reporter.SRC, (0, 0), ("allow", "unknown")),
    ],
)
def test_evidence_is_what_the_packets_say_of_the_verdict(
    ends: tuple[str, str], reporter: Reporter, packets: tuple[int, int], expected: tuple[str, str]
) -> None:
    seen = record(*ends, reporter=reporter, packets=packets, size=(60 * packets[0], 60 * packets[1]))
    (log,) = closed(seen, history=inventory(NO_EGRESS)).all_logs()
    assert (log["action"], log["evidence"]) == expected


def test_a_window_without_packets_tells_of_no_denial_at_the_destination() -> None:
    run = closed(record("rogue", "backend-1", packets=(0, 0), size=(0, 0), marks=Mark.ALIVE))
    assert [(log["reporter"], log["evidence"]) for log in run.all_logs()] == [("src", "unknown")]


def test_labels_are_those_that_all_merged_endpoints_have_without_the_systems_own() -> None:
    run = closed(record("frontend-1", "backend-1"), record("frontend-2", "backend-1", ports=(40_001, 8080)))
    (log,) = run.all_logs()
    assert log["source_labels"]["labels"] == ["app=frontend", "fw-zone=dmz"]
    assert log["dest_labels"]["labels"] == ["app=backend"]
    assert log["source_ips"] == ["10.0.0.1", "10.0.0.2"]
    assert (log["num_source_ips"], log["num_dest_ips"]) == (2, 1)


@pytest.mark.parametrize(
    ("level", "logs", "shown"),
    [
        (0, 3, {"source_port", "source_ip", "dest_port"}),
        (1, 2, {"source_ip", "dest_port"}),
        (2, 1, {"dest_port"}),
        (3, 1, set()),
    ],
)
def test_a_level_empties_what_it_merges(level: int, logs: int, shown: set[str]) -> None:
    run = closed(
        record("frontend-1", "backend-1", ports=(40_000, 8080)),
        record("frontend-1", "backend-1", ports=(40_001, 8080)),
        record("frontend-2", "backend-1", ports=(40_000, 8080)),
        levels=Levels(level, level),
    )
    assert len(run.logs) == logs
    for log in run.all_logs():
        assert {name for name in ("source_port", "source_ip", "dest_port") if log[name] is not None} == shown
        assert (log["source_name"] == "-") == (level >= 2)
    assert sum(log["num_flows"] for log in run.all_logs()) == 3


def test_a_connection_in_two_windows_counts_in_both_but_starts_and_ends_once() -> None:
    run = Run()
    run.feed(
        message(0, [record("frontend-1", "backend-1", at_s=1, marks=Mark.STARTED)], end_s=15),
        message(1, [record("frontend-1", "backend-1", at_s=16)], end_s=17),
        message(2, [record("frontend-1", "backend-1", at_s=20, marks=Mark.COMPLETED)], end_s=30),
        message(3, [], end_s=60),
    )
    logs = sorted(run.all_logs(), key=lambda log: log["start_time"])
    assert [log["start_time"] - START_S for log in logs] == [0, 15]
    assert [log["num_flows"] for log in logs] == [1, 1]
    assert [log["num_flows_started"] for log in logs] == [1, 0]
    assert [log["num_flows_completed"] for log in logs] == [0, 1]


def test_an_address_that_changes_hands_inside_a_batch_is_split() -> None:
    begin, switch = START_NS - 3600 * NS_PER_S, START_NS + 5 * NS_PER_S
    gone = pod("rogue")
    heir = pod("rogue") | {"name": "heir", "name_aggr": "heir-1-*", "labels": {"app": "heir"}}
    history = inventory(
        ObjectVersion(ENDPOINT, "Pod/shop/rogue", begin, switch, gone),
        ObjectVersion(ENDPOINT, "Pod/shop/heir", switch, None, heir),
    )
    run = closed(
        record("rogue", "frontend-1", at_s=4, packets=(1, 1)),
        record("rogue", "frontend-1", at_s=6, packets=(5, 5)),
        history=history,
    )
    assert {log["source_name_aggr"]: log["packets_out"] for log in run.all_logs()} == {"rogue-847-*": 1, "heir-1-*": 5}


def test_a_policy_that_changes_inside_a_window_decides_from_then_on() -> None:
    begin, switch = START_NS - 3600 * NS_PER_S, START_NS + 5 * NS_PER_S
    history = inventory(
        ObjectVersion(
            POLICY, "NetworkPolicy/shop/default.backend", begin, switch, policy("backend", {"action": "Deny"})
        ),
        ObjectVersion(
            POLICY, "NetworkPolicy/shop/default.backend", switch, None, policy("backend", {"action": "Allow"})
        ),
    )
    run = closed(
        record("rogue", "backend-1", at_s=4, reporter=Reporter.DST, packets=(1, 1)),
        record("rogue", "backend-1", at_s=5, reporter=Reporter.DST, packets=(5, 5)),
        history=history,
    )
    assert {log["action"]: log["packets_in"] for log in run.all_logs()} == {"deny": 1, "allow": 5}


def test_addresses_of_nobody_are_public_or_private() -> None:
    run = closed(record("frontend-1", "8.8.8.8"), record("frontend-1", "192.168.7.7"))
    assert {(log["dest_type"], log["dest_name_aggr"]) for log in run.all_logs()} == {("net", "pub"), ("net", "pvt")}


def test_a_pod_sees_its_own_namespaces_network_set_before_a_global_one() -> None:
    def network_set(kind: str, name: str, **metadata: str) -> ObjectVersion:
        manifest = {
            "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name, **metadata},
            "spec": {"nets": ["198.51.100.0/24"]},
        }  # fmt: skip
        return ObjectVersion(NETWORK_SET, f"{kind}/{name}", begin, None, manifest)

    begin = START_NS - 3600 * NS_PER_S
    stranger = pod("rogue") | {"namespace": "else", "name": "stranger", "addresses": ["10.0.0.66"]}
    run = closed(
        record("frontend-1", "198.51.100.1"),
        record("10.0.0.66", "198.51.100.1"),
        history=inventory(
            network_set("NetworkSet", "banks", namespace="shop"),
            network_set("GlobalNetworkSet", "abroad"),
            ObjectVersion(ENDPOINT, "Pod/else/stranger", begin, None, stranger),
        ),
    )
    assert {log["source_namespace"]: log["dest_name_aggr"] for log in run.all_logs()} == {
        "shop": "banks",
        "else": "abroad",
    }


def test_counters_credit_the_rule_by_its_real_index() -> None:
    run = closed(
        record("frontend-1", "backend-1", reporter=Reporter.DST),
        record("rogue", "backend-1", packets=(2, 0), size=(120, 0)),
    )
    found = {
        (each["policy"], each["rule_direction"], each["action"], each["rule_index"]): each["packets_in"]
        for each in run.counters.values()
        if each["policy"] == "shop/default.backend" and each["record"] == "traffic"
    }
    assert found == {
        ("shop/default.backend", "ingress", "allow", 0): 3,
        ("shop/default.backend", "ingress", "deny", 1): 2,
    }


def test_counters_credit_staged_rules_with_what_they_would_do() -> None:
    staged = ObjectVersion(
        POLICY, "StagedNetworkPolicy/shop/default.none", START_NS - 3600 * NS_PER_S, None,
        {"apiVersion": "projectcalico.org/v3", "kind": "StagedNetworkPolicy",
         "metadata": {"name": "default.none", "namespace": "shop"},
         "spec": {"tier": "default", "order": 1, "selector": "app == 'backend'", "types": ["Ingress"],
                  "ingress": [{"action": "Deny"}]}},
    )  # fmt: skip
    run = closed(record("frontend-1", "backend-1", reporter=Reporter.DST), history=inventory(staged))
    traffic = [each for each in run.counters.values() if each["record"] == "traffic"]
    assert {(each["name"], each["staged"], each["action"], each["packets_in"]) for each in traffic} == {
        ("default.none", True, "deny", 3),
        ("default.backend", False, "allow", 3),
    }


def test_a_denial_at_both_ends_is_the_sources_alone() -> None:
    run = closed(record("rogue", "backend-1", packets=(2, 0), size=(120, 0)), history=inventory(NO_EGRESS))
    assert [(log["reporter"], log["action"]) for log in run.all_logs()] == [("src", "deny")]


def test_what_is_learnt_later_takes_a_derived_denial_back() -> None:
    run = closed(record("10.0.0.77", "backend-1", packets=(2, 0), size=(120, 0)))
    assert [(log["reporter"], log["action"]) for log in run.all_logs() if log["action"] == "deny"] == [("dst", "deny")]
    late = pod("frontend-1") | {"name": "frontend-3", "addresses": ["10.0.0.77"]}
    run.history.apply(ObjectVersion(ENDPOINT, "Pod/shop/frontend-3", START_NS - 3600 * NS_PER_S, None, late))
    run.stage.use(run.history.snapshot())
    run.logs.clear()
    run.feed(
        message(2, [record("10.0.0.77", "backend-1", at_s=46, packets=(2, 0), size=(120, 0))], end_s=50),
        message(3, [], end_s=80),
    )
    assert [(log["reporter"], log["action"]) for log in run.all_logs()] == [("src", "allow")]


@pytest.mark.parametrize(("proto", "port"), [(6, 8080), (17, 8080), (132, 8080), (136, 8080), (1, None), (58, None)])
def test_ports_are_shown_of_protocols_that_have_them(proto: int, port: int | None) -> None:
    (log,) = closed(record("frontend-1", "backend-1", proto=proto)).all_logs()
    assert log["dest_port"] == port


def test_handshake_times_are_mean_and_largest_of_those_seen() -> None:
    run = closed(
        record("frontend-1", "backend-1", rtt_us=300),
        record("frontend-1", "backend-1", ports=(40_001, 8080), rtt_us=100),
        record("frontend-1", "backend-1", ports=(40_002, 8080)),
    )
    (log,) = run.all_logs()
    assert (log["handshake_rtt_mean_us"], log["handshake_rtt_max_us"]) == (200, 300)
