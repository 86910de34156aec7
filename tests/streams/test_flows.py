"""A node's connections and pairs: found again, split where an address changes hands, dropped when out of use."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams.scene import START_NS, START_S, WINDOW, Run, inventory, message, pod, record
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import ENDPOINT, Heartbeat, ObjectVersion
from tierflow.schemas.record import Reporter
from tierflow.streams.core.grouping import distinct_rows
from tierflow.streams.core.groups import Levels
from tierflow.streams.core.index import Index


@settings(max_examples=60)
@given(
    keys=st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=6),
    spread=st.sampled_from([1, 3, 2**64 - 1]),
)
def test_an_index_finds_the_last_row_of_each_key_whatever_the_hashes(keys: list[list[int]], spread: int) -> None:
    # Row 0 has no key.
    table = np.concatenate(([-1], *(np.array(each, np.int64) for each in keys)))
    index, known, count = Index(200), {}, 1

    def hashes(of: np.ndarray) -> np.ndarray:
        return (of.astype(np.uint64) % np.uint64(spread)) * np.uint64(0x9E3779B97F4A7C15)

    for added in keys:
        asked = np.arange(41)
        position, _ = index.first(hashes(asked))
        found = index.find(position, lambda rows, at, asked=asked: table[rows] == asked[at])
        assert found.tolist() == [known.get(key, 0) for key in asked.tolist()]
        rows = np.arange(count, count + len(added))
        count += len(added)
        index.add(hashes(table[rows]), rows, lambda there, at, rows=rows: table[there] == table[rows[at]])
        known.update(zip(added, rows.tolist(), strict=True))
    assert index.used == len(known)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=40))
def test_distinct_rows_are_exact_though_hashes_collide(rows: list[tuple[int, int, int]]) -> None:
    first, second, hashes = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    hashes = first % np.uint64(2)
    chosen, number = distinct_rows(hashes, [first, second])
    pairs = [(a, b) for a, b, _ in rows]
    assert [pairs[at] for at in chosen[number].tolist()] == pairs
    assert len(chosen) == len(set(pairs))


ADDRESSES = [f"10.0.9.{number}" for number in range(3)]
NAMES = [f"pod-{number}" for number in range(6)]


def holders(rng: random.Random) -> list[tuple[str, str, float, float]]:
    """(pod, address, from, to) in seconds of the scene; an address has one holder at a time, with gaps."""
    found = []
    for at, address in enumerate(ADDRESSES):
        now = rng.choice([-100.0, 1.5])
        for _ in range(rng.randrange(1, 5)):
            end = now + rng.choice([0.5, 2, 4])
            found.append((NAMES[at * 2 + len(found) % 2], address, now, end))
            now = end + rng.choice([0, 0, 1])
    return found


def versions(held: list[tuple[str, str, float, float]], known_s: float) -> list[ObjectVersion]:
    """What is known at a time of the scene: the end of what still holds is not."""
    return [
        ObjectVersion(
            ENDPOINT, f"Pod/shop/{name}", START_NS + int(begin * NS_PER_S),
            START_NS + int(end * NS_PER_S) if end <= known_s else None,
            pod("frontend-1") | {"name": name, "name_aggr": name, "addresses": [address]},
        )
        for name, address, begin, end in held
        if begin <= known_s
    ]  # fmt: skip


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), handful=st.integers(1, 6))
def test_each_record_counts_for_whoever_held_the_addresses_at_its_time(seed: int, handful: int) -> None:
    rng = random.Random(seed)
    held = holders(rng)

    def who(address: str, at_s: float) -> str:
        return next((name for name, its, begin, end in held if its == address and begin <= at_s < end), "pvt")

    run = Run(Levels(1, 1), history=inventory())
    expected: Counter[tuple[str, str]] = Counter()
    messages = []
    for number in range(12):
        records = []
        for _ in range(rng.randrange(0, 8)):
            src, dst = rng.sample(ADDRESSES, 2)
            at_s = max(0.0, number + 1 - rng.choice([0.25, 0.5, 0.75, 1.25, 3.0]))
            size = rng.randrange(60, 900)
            records.append(record(src, dst, at_s=at_s, until_s=number + 0.9, ports=(4000 + rng.randrange(2), 80),
                                  packets=(1, 0), size=(size, 0)))  # fmt: skip
            expected[who(src, at_s), who(dst, at_s)] += size
        messages.append((number + 1.0, message(number, records, end_s=number + 1)))
    messages.append((60.0, message(12, [], end_s=60)))
    for at in range(0, len(messages), handful):
        some = messages[at : at + handful]
        # The inventory learns bit by bit, always as far as the batches reach.
        for version in versions(held, some[-1][0]):
            run.history.apply(version)
        run.history.apply(Heartbeat(START_NS + 700 * NS_PER_S + at, "more", 1))
        run.stage.use(run.history.snapshot())
        run.feed(*(each for _, each in some))
    found: Counter[tuple[str, str]] = Counter()
    for log in run.all_logs():
        found[log["source_name_aggr"], log["dest_name_aggr"]] += log["bytes_out"]
    assert found == +expected


def test_what_is_not_seen_any_more_is_dropped_and_what_goes_on_stays_the_same() -> None:
    run = Run(Levels(1, 1))
    for window in range(12):
        churn = [
            record("8.8.8.8", "frontend-1", at_s=window * 15 + 5, reporter=Reporter.DST, ports=(port, 8080))
            for port in range(2000 + window * 3000, 2000 + (window + 1) * 3000)
        ]
        same = record("frontend-1", "backend-1", at_s=window * 15 + 5)
        run.feed(message(window, [*churn, same], end_s=window * 15 + 14))
    run.feed(message(12, [], end_s=400))
    node = run.stage.partitions[0].nodes["node-a"]
    assert node.flows.connections.capacity < 4 * 3000
    steady = [log for log in run.all_logs() if log["dest_name"] == "backend-1"]
    assert [log["num_flows"] for log in steady] == [1] * 12
    assert [log["num_flows"] for log in run.all_logs() if log["dest_name"] == "frontend-1"] == [3000] * 12


def test_addresses_are_told_anew_when_rows_are_numbered_anew() -> None:
    many = [record(f"10.1.{each >> 8}.{each & 255}", "backend-1", at_s=16) for each in range(3_000)]
    run = Run()
    run.feed(message(0, [record("frontend-1", "backend-1", at_s=1)], end_s=2))  # the first row
    run.feed(message(1, many, end_s=18))
    run.feed(message(2, [record("frontend-2", "backend-1", at_s=45.5)], end_s=46))
    run.feed(message(3, [record("backend-1", "8.8.8.8", at_s=44)], end_s=46.5))
    # The window up to 45 s closes, the many are dropped, and the second frontend has the first row now.
    run.feed(message(4, [], end_s=50))
    assert run.stage.partitions[0].nodes["node-a"].flows.pairs.count < 10
    run.feed(message(5, [], end_s=80))
    told = {log["start_time"] - START_S: log["source_ips"] for log in run.all_logs() if log["source_type"] == "wep"}
    assert (told[0], told[45]) == (["10.0.0.1"], ["10.0.0.2"])


def test_a_node_that_fell_silent_is_not_remembered_but_for_its_batches() -> None:
    run = Run()
    run.feed(message(0, [record("frontend-1", "backend-1")], end_s=2))
    node = run.stage.partitions[0].nodes["node-a"]
    known = node.flows
    run.keep(run.stage.close_idle(START_NS // 1_000_000 + 100_000))
    assert len(run.logs) == 1
    assert node._flows is None, "17 kB for each node that has left the cluster for good"
    assert node.flows is not known
    assert node.flows.connections.count == 1
    run.feed(message(1, [record("frontend-1", "backend-1", at_s=101)], end_s=102), message(2, [], end_s=140))
    assert len(run.logs) == 2
    run.feed(message(3, [record("frontend-1", "backend-1", at_s=101)], end_s=102, sequence=1, written_s=150))
    assert run.outcomes[-1].duplicates == 1


@pytest.mark.parametrize("handful", [1, 3, 20])
def test_a_window_over_its_bound_is_written_in_parts_that_add_up_and_are_the_same_when_replayed(handful: int) -> None:
    messages = [
        message(
            number,
            [record("frontend-1", "backend-1", at_s=number + 0.5, ports=(p, 8080)) for p in range(first, first + 400)],
            end_s=number + 1,
        )
        for number, first in enumerate(range(3000, 3000 + 13 * 300, 300))
    ]
    messages.append(message(13, [], end_s=60))
    run, again = (Run(window=replace(WINDOW, connections=1024)) for _ in range(2))
    for at in range(0, len(messages), handful):
        run.feed(*messages[at : at + handful])
    for each in messages:
        again.feed(each)
    assert run.logs == again.logs
    assert run.counters == again.counters
    logs = run.all_logs()
    assert sum(each.parts for each in run.outcomes) == len(logs) - 1 == 3
    assert sum(log["packets_out"] for log in logs) == 13 * 400 * 3
    assert not any(log["late"] for log in logs)
    assert max(log["num_flows"] for log in logs) <= 1024 + 400
    assert run.settled == list(range(14))


def test_a_call_ends_early_when_it_has_written_much_and_the_next_goes_on() -> None:
    run = Run()
    run.stage.settings = replace(run.stage.settings, documents=1)
    nodes = [f"node-{number}" for number in range(6)]
    messages = [
        message(at, [record("frontend-1", "backend-1")], end_s=2, node=node, sequence=0)
        for at, node in enumerate(nodes)
    ]
    messages += [message(6 + at, [], end_s=60, node=node, sequence=1) for at, node in enumerate(nodes)]
    outcomes = []
    for outcome in run.stage.outcomes(messages):
        run.keep(outcome)
        outcomes.append(outcome)
    assert [len(each.logs) for each in outcomes if each.logs] == [1] * 6
    assert sum(each.taken for each in outcomes) == len(messages)
    assert {log["host"] for log in run.all_logs()} == set(nodes)
    assert run.settled == list(range(12))


def test_a_silent_nodes_window_is_written_right_though_the_inventory_has_numbered_all_anew() -> None:
    run = Run()
    run.feed(message(0, [record("rogue", "backend-1")], end_s=2))
    begin = START_NS - 3600 * NS_PER_S
    gone = ObjectVersion(ENDPOINT, "Pod/shop/frontend-1", begin, begin + NS_PER_S, pod("frontend-1"))
    before = run.history.snapshot().generation
    run.history.apply(gone)
    run.history.apply(Heartbeat(START_NS + 7200 * NS_PER_S, "later", 2))
    run.stage.use(run.history.snapshot())
    assert run.history.snapshot().generation > before
    run.keep(run.stage.close_idle(START_NS // 1_000_000 + 100_000))
    logs = [log for log in run.all_logs() if not log["derived"]]
    assert [(log["source_name_aggr"], log["dest_name_aggr"]) for log in logs] == [("rogue-847-*", "backend-7c9-*")]
