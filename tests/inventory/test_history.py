"""Laws of the history: any interleaving gives the as-of answer of a plain search, and a replay the same bytes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inventory.follower import holder
from tierflow.inventory.history import History
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import (
    ENDPOINT,
    Heartbeat,
    Message,
    ObjectVersion,
    Tombstone,
    decode_message,
    encode_message,
)
from tierflow.schemas.record import address_columns, address_halves

ADDRESSES = ["10.0.0.1", "10.0.0.2", "fd00::1"]


def pod(name: str, addresses: list[str], label: str = "a") -> dict[str, Any]:
    return {
        "type": "wep", "namespace": "shop", "name": name, "labels": {"v": label}, "service_account": "default",
        "named_ports": [], "addresses": addresses, "node": "n", "name_aggr": f"{name}-*", "policed": True,
    }  # fmt: skip


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "drop", "look"]),
        st.sampled_from(["web", "api", "db"]),
        st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True),
        st.sampled_from("abc"),
        st.integers(0, 3),
    ),
    max_size=40,
)


def publish(steps: list[Any]) -> tuple[list[Message], list[int]]:
    """What a publisher writes, and the positions at which a reader takes a snapshot."""
    versions, messages, looks, now = Versions(), [], [], 100
    for what, name, addresses, label, later in steps:
        now += later
        if what == "put":
            messages += versions.put(ENDPOINT, name, pod(name, addresses, label), began_ns=now - 2, now_ns=now)
        elif what == "drop":
            messages += versions.drop(ENDPOINT, name, now_ns=now)
        else:
            looks.append(len(messages))
            messages.append(Heartbeat(now, "test", 1))
    return messages, looks


def oracle(messages: list[Message], address: str, at: int) -> ObjectVersion | None:
    """The last word on every version, searched one by one."""
    latest = {(each.key, each.valid_from_ns): each for each in messages if isinstance(each, ObjectVersion)}
    holding = [
        each
        for each in latest.values()
        if address in each.object["addresses"]
        and each.valid_from_ns <= at
        and (each.valid_to_ns is None or at < each.valid_to_ns)
    ]
    return max(holding, key=lambda each: (each.valid_from_ns, each.key), default=None)


@settings(max_examples=300)
@given(STEPS)
def test_any_interleaving_of_changes_and_look_ups_gives_the_answer_of_a_plain_search(steps) -> None:
    messages, looks = publish(steps)
    history = History()
    for position, message in enumerate(messages):
        history.apply(message)
        if position in looks or position == len(messages) - 1:
            snapshot = history.snapshot()
            for address in ADDRESSES:
                for at in range(95, 230, 3):
                    expected = oracle(messages[: position + 1], address, at)
                    found = holder(snapshot, address, at)
                    if expected is None:
                        assert found is None
                    else:
                        assert found is not None
                        assert (found.key, found.valid_from_ns) == (expected.key, expected.valid_from_ns)
                        assert dict(found.endpoint.labels) == expected.object["labels"]


@settings(max_examples=100)
@given(STEPS)
def test_a_replay_gives_byte_identical_results_whenever_snapshots_were_taken(steps) -> None:
    messages, looks = publish(steps)
    wire = [encode_message(message) for message in messages]

    def answers(snapshots_at: set[int]) -> bytes:
        history = History()
        for position, (key, value) in enumerate(wire):
            history.apply(decode_message(key, value))
            if position in snapshots_at:
                history.snapshot()
        snapshot = history.snapshot()
        halves = np.array([address_halves(address) for address in ADDRESSES] * 45, np.uint64)
        times = np.repeat(np.arange(95, 230, 3), len(ADDRESSES))
        ids = snapshot.lookup(halves[:, 0].copy(), halves[:, 1].copy(), times)
        return ids.tobytes() + pickle.dumps(snapshot.endpoints) + snapshot.endpoint_namespace.tobytes()

    assert answers(set()) == answers(set(looks)) == answers(set(range(len(wire))))


@given(STEPS)
def test_a_compacted_topic_gives_the_same_history(steps) -> None:
    messages, _ = publish(steps)
    compacted = {encode_message(message)[0]: message for message in messages}
    full, short = History(), History()
    for message in messages:
        full.apply(message)
    for message in compacted.values():
        short.apply(message)
    for address in ADDRESSES:
        for at in range(95, 230, 3):
            assert holder(full.snapshot(), address, at) == holder(short.snapshot(), address, at)


@given(STEPS)
def test_a_publisher_that_takes_over_publishes_only_what_differs(steps) -> None:
    messages, _ = publish(steps)
    second = Versions()
    for message in messages:
        second.load(message)
    now = {message.key: message for message in messages if isinstance(message, ObjectVersion)}
    alive = {key: message.object for key, message in now.items() if message.valid_to_ns is None}
    repeated = [
        message
        for key, content in alive.items()
        for message in second.put(ENDPOINT, key, content, began_ns=1, now_ns=999)
    ]
    assert repeated == []
    assert second.retain(ENDPOINT, set(alive), now_ns=999) == []
    assert {each.key for each in second.retain(ENDPOINT, set(), now_ns=999)} == set(alive)


def test_an_address_is_not_given_to_a_pod_before_the_one_before_gave_it_back() -> None:
    versions = Versions()
    messages = versions.put(ENDPOINT, "old", pod("old", ["10.0.0.1"]), began_ns=10, now_ns=10)
    messages += versions.drop(ENDPOINT, "old", now_ns=50)
    # The new pod was accepted by its node at 40, and got the address when the old one was gone.
    messages += versions.put(ENDPOINT, "new", pod("new", ["10.0.0.1"]), began_ns=40, now_ns=55)
    history = History()
    for message in messages:
        history.apply(message)
    assert [holder(history.snapshot(), "10.0.0.1", at).endpoint.name for at in (45, 49, 50, 54)] == [
        "old", "old", "new", "new",
    ]  # fmt: skip


def test_versions_are_dropped_once_they_ended_before_the_retained_past_and_the_rest_keeps_its_answer() -> None:
    hour = 3600 * NS_PER_S
    versions = Versions()
    messages: list[Message] = [*versions.put(ENDPOINT, "a", pod("a", ["10.0.0.1"]), began_ns=hour, now_ns=hour)]
    messages += versions.drop(ENDPOINT, "a", now_ns=hour + 5)
    messages += versions.put(ENDPOINT, "b", pod("b", ["10.0.0.1"]), began_ns=2 * hour, now_ns=2 * hour)
    history = History()
    for message in [*messages, Heartbeat(2 * hour, "test", 1)]:
        history.apply(message)
    before = history.snapshot()
    assert holder(before, "10.0.0.1", hour).endpoint.name == "a"
    history.apply(Heartbeat(3 * hour, "test", 1))
    after = history.snapshot()
    assert holder(after, "10.0.0.1", hour) is None
    assert holder(after, "10.0.0.1", 2 * hour).endpoint.name == "b"
    assert after.generation == before.generation + 1
    assert [version.endpoint.name for version in before.endpoints] == ["a", "b"], "an old snapshot must not change"
    assert versions.expire(2 * hour) == [Tombstone(ENDPOINT, "a", hour)]


def test_a_snapshot_after_each_of_thousands_of_changes_equals_one_taken_at_the_end_and_ids_outlive_a_expiry() -> None:
    minute = 60 * NS_PER_S
    versions, step_by_step, at_once = Versions(), History(), History()
    expected: dict[tuple[str, int], str] = {}
    times: set[int] = set()
    for change in range(3_000):
        # One address changes hands all the time, the others seldom: both ways of keeping intervals, and both tables.
        address = "10.0.0.1" if change % 3 == 0 else f"10.1.{change % 1500 >> 8}.{change % 1500 & 255}"
        now = minute + change * NS_PER_S
        messages = versions.put(ENDPOINT, address, pod(f"p{change}", [address]), began_ns=now, now_ns=now)
        for message in [*messages, Heartbeat(now, "test", 1)]:
            step_by_step.apply(message)
            at_once.apply(message)
        times.update(message.valid_from_ns for message in messages)
        expected[address, now] = f"p{change}"
        step_by_step.snapshot()
    one, other = step_by_step.snapshot(), at_once.snapshot()
    assert one.boundaries_ns.tolist() == other.boundaries_ns.tolist() == sorted(times)
    for (address, now), name in expected.items():
        for snapshot in (one, other):
            found = holder(snapshot, address, now)
            assert found is not None
            assert found.endpoint.name == name
    last = max(now for _, now in expected)
    horizon = last - 25 * minute
    for history in (step_by_step, at_once):
        history.apply(Heartbeat(horizon + 3600 * NS_PER_S, "test", 1))
    one, other = step_by_step.snapshot(), at_once.snapshot()
    assert one.generation == other.generation == 1
    assert one.endpoints == other.endpoints
    assert 0 < len(one.endpoints) < 3_000
    assert one.boundaries_ns.tolist() == other.boundaries_ns.tolist()
    for (address, now), name in expected.items():
        if now >= horizon:
            found = holder(one, address, now)
            assert found is not None
            assert found == holder(other, address, now)
            assert found.endpoint.name == name


def test_boundaries_are_the_times_at_which_an_address_changed_hands_or_policies_did() -> None:
    history = History()
    history.apply(ObjectVersion(ENDPOINT, "a", 5, None, pod("a", ["10.0.0.1"])))
    first = history.snapshot()
    assert first.boundaries_ns.tolist() == [5]
    history.apply(Heartbeat(10, "test", 1))
    assert history.snapshot().boundaries_ns is first.boundaries_ns
    history.apply(ObjectVersion("namespace", "Namespace//shop", 7, None, NAMESPACE))
    history.apply(ObjectVersion(ENDPOINT, "a", 5, 9, pod("a", ["10.0.0.1"])))
    assert history.snapshot().boundaries_ns.tolist() == [5, 7, 9]
    assert first.boundaries_ns.tolist() == [5], "an old snapshot must not change"


def test_a_heartbeat_of_a_publisher_that_was_replaced_moves_nothing() -> None:
    history = History()
    history.apply(Heartbeat(10, "second", 2))
    history.apply(Heartbeat(20, "first", 1))
    assert history.snapshot().watermark_ns == 10
    history.apply(Heartbeat(30, "second", 2))
    assert history.snapshot().watermark_ns == 30


def test_an_unchanged_history_gives_the_same_snapshot_and_a_heartbeat_only_another_watermark() -> None:
    history = History()
    history.apply(ObjectVersion(ENDPOINT, "a", 1, None, pod("a", ["10.0.0.1"])))
    first = history.snapshot()
    assert history.snapshot() is first
    history.apply(Heartbeat(10, "test", 1))
    assert history.snapshot() == replace(first, watermark_ns=10)


def test_policies_in_force_are_those_of_the_records_time() -> None:
    history = History()

    def policy(name: str, begin: int, end: int | None) -> ObjectVersion:
        manifest = {
            "apiVersion": "projectcalico.org/v3",
            "kind": "GlobalNetworkPolicy",
            "metadata": {"name": name},
            "spec": {"selector": "all()", "ingress": [{"action": "Allow"}]},
        }
        return ObjectVersion("policy", f"projectcalico.org/GlobalNetworkPolicy//{name}", begin, end, manifest)

    history.apply(policy("one", 0, None))
    history.apply(policy("two", 50, None))
    history.snapshot()
    history.apply(policy("one", 0, 80))
    snapshot = history.snapshot()
    versions = snapshot.policy_version(np.array([-1, 0, 49, 50, 79, 80, 1000]))
    names = [[policy.base_name for policy in snapshot.policy_versions[each].policies] for each in versions]
    assert names == [["one"], ["one"], ["one"], ["one", "two"], ["one", "two"], ["two"], ["two"]]


def test_network_sets_are_those_of_the_records_time() -> None:
    history = History()

    def network_set(net: str, begin: int, end: int | None) -> ObjectVersion:
        manifest = {
            "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
            "metadata": {"name": f"set-{begin}"}, "spec": {"nets": [net]},
        }  # fmt: skip
        return ObjectVersion("network-set", f"projectcalico.org/GlobalNetworkSet//set-{begin}", begin, end, manifest)

    for version in (network_set("192.0.2.0/24", 10, 50), network_set("192.0.0.0/16", 50, None)):
        history.apply(version)
    snapshot = history.snapshot()
    times = np.array([5, 10, 49, 50, 1000], np.int64)
    hi, lo = address_columns(["192.0.2.1"] * len(times))
    found = snapshot.network_set(hi, lo, times).tolist()
    assert [None if each < 0 else snapshot.network_sets[each].name for each in found] == [
        None, "set-10", "set-10", "set-50", "set-50",
    ]  # fmt: skip


def service(name: str, begin: int, end: int | None, *ports: tuple[str, int, int], target: int = 8080) -> ObjectVersion:
    content = {
        "name": name, "namespace": "shop", "addresses": ["10.96.0.1"],
        "manifest": {"spec": {"ports": [{"port": port, "targetPort": target} for _, port, _ in ports]}},
        "ports": [{"name": each, "port": port, "protocol": proto, "node_port": 0} for each, port, proto in ports],
    }  # fmt: skip
    return ObjectVersion("service", f"Service/shop/{name}", begin, end, content)


def test_services_are_those_of_the_records_time_and_one_that_changed_is_shown_as_one() -> None:
    history = History()
    dns = [("dns", 53, 17), ("dns-tcp", 53, 6)]
    for version in (
        service("old", 10, 50, ("http", 80, 6)),
        service("new", 60, 80, ("http", 80, 6), *dns),
        service("new", 80, None, ("http", 80, 6), *dns, target=9090),
    ):
        history.apply(version)
    snapshot = history.snapshot()
    times = np.array([5, 10, 49, 50, 60, 80], np.int64)
    columns = address_columns(["10.96.0.1"] * len(times))
    port, proto = np.full(len(times), 80, np.uint16), np.full(len(times), 6, np.uint8)
    found = snapshot.service(*columns, port, proto, times)
    assert [None if each < 0 else snapshot.services[each].name for each in found.tolist()] == [
        None, "old", "old", None, "new", "new",
    ]  # fmt: skip
    assert [snapshot.services[each].target_port for each in found[-2:].tolist()] == [8080, 9090]
    shown = snapshot.as_shown(found).tolist()
    assert shown[:4] == found.tolist()[:4]
    assert shown[4] == shown[5], "one Service would make two flow logs with one id"
    udp = snapshot.service(*columns, np.full(len(times), 53, np.uint16), np.full(len(times), 17, np.uint8), times)
    assert [snapshot.services[each].shown_name for each in (shown[5], udp[5])] == ["http", "*"]
    assert [each.name for each in snapshot.services_at(*address_halves("10.96.0.1"), 49)] == ["old"]


def test_slices_of_a_service_are_kept_as_long_as_the_retained_past() -> None:
    hour = 3600 * NS_PER_S
    content = {"namespace": "shop", "service": "web", "backends": ["10.0.0.1"], "ports": []}
    history = History()
    for begin, end in ((hour, 2 * hour), (2 * hour, None)):
        history.apply(ObjectVersion("endpoint-slice", "EndpointSlice/shop/web-x", begin, end, content))
    history.apply(Heartbeat(2 * hour + 1, "test", 1))
    before = history.snapshot()
    assert [each.valid_from_ns for each in before.slices["shop", "web"]] == [hour, 2 * hour]
    assert history.snapshot().slices is before.slices
    history.apply(Heartbeat(4 * hour, "test", 1))
    assert [each.valid_from_ns for each in history.snapshot().slices["shop", "web"]] == [2 * hour]
    assert len(before.slices["shop", "web"]) == 2, "an old snapshot must not change"
