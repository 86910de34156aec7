"""Laws of the core: conservation, levels, order, and that poison is counted and kills nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import islice

import pytest
from benchmarks.poison import Poison
from benchmarks.streams import connections_of, messages_of, totals_of, truth
from benchmarks.workload import Size, Workload
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams.scene import START_NS, Run, inventory, message, record
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import Reporter
from tierflow.streams.core.groups import Levels

SMALL = Size(connections=800, pods=80, namespaces=5, services=20, nodes=3, policies=20)
SUMS = ("packets_in", "packets_out", "bytes_in", "bytes_out", "num_flows_started", "num_flows_completed")


@pytest.fixture(scope="module")
def runs() -> tuple[Workload, list, dict[int, Run]]:
    workload = Workload(SMALL)
    messages = messages_of(workload, 4)
    made = {}
    for level in range(4):
        run = made[level] = Run(Levels(level, level), history=workload.history())
        run.feed(*messages)
    return workload, messages, made


@pytest.mark.parametrize("level", range(4))
def test_flow_logs_sum_to_the_records_to_the_byte(runs, level: int) -> None:
    _, messages, made = runs
    import orjson

    logs = [orjson.dumps(log) for log in made[level].all_logs()]
    assert totals_of(logs) == truth(each.value for each in messages)
    flows = sum(log["num_flows"] for log in made[level].all_logs() if not log["derived"])
    assert flows == connections_of(each.value for each in messages)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_logs_of_level_0_summed_up_are_those_of_a_higher_level(runs, level: int) -> None:
    _, _, made = runs

    def key(log: dict) -> tuple:
        same = [
            log["host"], log["start_time"], log["reporter"], log["action"], log["derived"], log["proto"],
            log["source_type"], log["source_namespace"], log["source_name_aggr"], log["dest_type"],
            log["dest_namespace"], log["dest_name_aggr"], log["dest_service_namespace"], log["dest_service_name"],
            tuple(log["policies"]["enforced_policies"]),
        ]  # fmt: skip
        if level <= 2:
            same += [log["dest_port"], log["dest_service_port"]]
        if level <= 1:
            same += [log["source_ip"], log["dest_ip"], log["source_name"], log["dest_name"]]
        return tuple(same)

    def summed(logs: list[dict]) -> dict[tuple, Counter]:
        found: dict[tuple, Counter] = defaultdict(Counter)
        for log in logs:
            found[key(log)].update({name: log[name] for name in (*SUMS, "num_flows")})
        return dict(found)

    assert summed(made[0].all_logs()) == summed(made[level].all_logs())
    assert len(made[0].logs) > len(made[level].logs)


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_ipv6_and_ipv4_conversations_are_counted_alike(address: str) -> None:
    run = Run()
    run.feed(
        message(0, [record(address, "8.8.8.8"), record("2001:db8::1", "10.0.0.1")], end_s=2),
        message(1, [record(address, "8.8.8.8")], end_s=3),
        message(2, [], end_s=60),
    )
    assert sorted(log["num_flows"] for log in run.all_logs()) == [1, 1]


def test_translated_destinations_that_differ_in_the_upper_half_only_are_two_connections() -> None:
    one, other = (record("fd00::1", "fd00::9", nat=(f"fd00:{each}::5", 8080)) for each in (1, 2))
    run = Run().feed(message(0, [one, other], end_s=2), message(1, [one, other], end_s=3), message(2, [], end_s=60))
    assert sum(log["num_flows"] for log in run.all_logs()) == 2


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_poison_kills_nothing_and_everything_is_accounted_for(seed: int) -> None:
    run = Run()
    offset = 0
    for key, value in islice(Poison(seed, START_NS + 2 * NS_PER_S), 20):
        run.feed(replace(message(offset, [], end_s=2), key=key, value=value or b""))
        offset += 1
    run.feed(message(offset, [record("rogue", "frontend-1")], end_s=3, node="fine", sequence=0))
    run.feed(message(offset + 1, [], end_s=4000, node="fine", sequence=1))
    fine = [log for log in run.all_logs() if log["host"] == "fine" and not log["late"]]
    assert [log["packets_out"] for log in fine] == [3]
    assert run.settled == list(range(offset + 2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"last_seen_ns": START_NS + 10**13}, "bad_time"),
        ({"first_seen_ns": 0}, "bad_time"),
        ({"first_seen_ns": 2**64 - 1}, "bad_time"),
        ({"bytes_fwd": 2**64 - 1}, "bad_value"),
        ({"reporter": 9}, "bad_value"),
        ({"src_hi": 0, "src_lo": 0}, "bad_value"),
        ({"dst_hi": 0, "dst_lo": 0}, "bad_value"),
    ],
)
def test_a_record_that_cannot_be_is_rejected_and_the_others_are_used(change: dict[str, int], reason: str) -> None:
    bad = record("frontend-1", "backend-1")
    for name, value in change.items():
        bad[name] = value
    run = Run(history=inventory())
    run.feed(message(0, [bad, record("frontend-2", "backend-2")], end_s=2), message(1, [], end_s=60))
    assert run.rejected == [reason]
    assert len(run.logs) == 1


def test_a_batch_from_the_far_future_does_not_close_windows() -> None:
    run = Run()
    run.feed(message(0, [record("frontend-1", "backend-1")], end_s=2))
    run.feed(message(1, [], end_s=10**7, written_s=3), message(2, [], end_s=3, watermark_s=10**7))
    assert run.rejected == ["bad_time", "bad_time"]
    assert not run.logs


def test_the_reporter_word_covers_all_reporters() -> None:
    run = Run()
    run.feed(message(0, [record("8.8.8.8", "9.9.9.9", reporter=Reporter.FWD)], end_s=2), message(1, [], end_s=60))
    assert [log["reporter"] for log in run.all_logs()] == ["fwd"]
