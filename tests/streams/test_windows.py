"""Windows: on time, late, twice, lost, silent, and read again after a crash."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams.scene import START_S, WINDOW, Run, message, record
from tierflow.schemas.record import Reporter
from tierflow.streams.core.messages import decode
from tierflow.streams.core.windows import BOOTS_KEPT, MISSING_KEPT, Partition


def traffic(seed: int, count: int = 40):
    """Messages of two nodes with out-of-order records, late ones, duplicates, gaps and a restart, as one partition."""
    rng = random.Random(seed)
    pods = ["frontend-1", "frontend-2", "backend-1", "backend-2", "rogue", "8.8.8.8"]
    sequences, found, copies = {"node-a": 0, "node-b": 0}, [], []
    end_s = dict.fromkeys(sequences, 0.0)
    for _ in range(count):
        node = rng.choice(list(sequences))
        end_s[node] += rng.choice([0.5, 1, 2, 5])
        records = []
        for _ in range(rng.randrange(0, 6)):
            src, dst = rng.sample(pods, 2)
            age = rng.choice([0.1, 0.1, 0.3, 1, 4, 30])
            at = max(0.0, end_s[node] - age)
            records.append(
                record(
                    src, dst, at_s=at, reporter=Reporter(rng.choice([1, 2])),
                    ports=(rng.randrange(40_000, 40_004), 8080),
                    packets=(rng.randrange(1, 5), rng.randrange(0, 3)),
                    size=(rng.randrange(60, 900), rng.randrange(0, 99)),
                )
            )  # fmt: skip
        made = (node, records, end_s[node], sequences[node])
        sequences[node] += 1
        if rng.random() < 0.08:
            continue
        copies.append(made)
        if rng.random() < 0.1:
            copies.append(rng.choice(copies[-5:]))
        if rng.random() < 0.1 and len(copies) > 2:
            copies[-1], copies[-2] = copies[-2], copies[-1]
    last = max(end_s.values()) + 60
    copies += [(node, [], last, sequences[node]) for node in sequences]
    for offset, (node, records, end, sequence) in enumerate(copies):
        # Kafka's time follows the end of the furthest interval: what is delayed is written late.
        written = max(each[2] for each in copies[: offset + 1])
        found.append(message(offset, records, end_s=end, sequence=sequence, node=node, written_s=written))
    return found


def totals(run: Run) -> Counter[str]:
    found: Counter[str] = Counter()
    for log in run.all_logs():
        if not log["derived"]:
            for name in ("packets_in", "packets_out", "bytes_in", "bytes_out"):
                found[name] += log[name]
    return found


def truth(messages) -> tuple[Counter[str], int]:
    """Totals of every batch once, and how many came more than once."""
    from tierflow.schemas.wire import decode_batch

    seen, found, again = set(), Counter(), 0
    for each in messages:
        batch = decode_batch(each.value)
        key = (batch.header.node, batch.header.boot_id, batch.header.sequence)
        if key in seen:
            again += 1
            continue
        seen.add(key)
        for one in batch.records:
            to, back = ("in", "out") if one["reporter"] == Reporter.DST else ("out", "in")
            for thing in ("packets", "bytes"):
                found[f"{thing}_{to}"] += int(one[f"{thing}_fwd"])
                found[f"{thing}_{back}"] += int(one[f"{thing}_rev"])
    return found, again


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), handful=st.integers(1, 9))
def test_on_time_and_late_logs_together_are_the_input_once(seed: int, handful: int) -> None:
    messages = traffic(seed)
    run = Run()
    for at in range(0, len(messages), handful):
        run.feed(*messages[at : at + handful])
    expected, again = truth(messages)
    assert totals(run) == +expected
    assert sum(each.duplicates for each in run.outcomes) == again
    assert run.settled == list(range(len(messages)))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_a_worker_killed_at_any_moment_is_followed_by_one_that_writes_the_same(seed: int, data: st.DataObject) -> None:
    messages = traffic(seed)
    whole = Run()
    for each in messages:
        whole.feed(each)

    run = Run()
    position = 0
    kills = data.draw(st.lists(st.integers(1, len(messages)), max_size=5))
    for kill_after in [*kills, len(messages)]:
        for each in messages[position : position + kill_after]:
            run.feed(each)
        committed = max(run.settled, default=-1) + 1
        run.settled = list(range(committed))
        run.restart()
        run.stage.recall(messages[:committed])
        position = committed
    for each in messages[position:]:
        run.feed(each)
    assert run.logs == whole.logs
    assert run.counters == whole.counters
    assert run.losses == whole.losses


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), first=st.integers(1, 20), second=st.integers(1, 20))
def test_what_is_written_does_not_depend_on_how_batches_are_bunched(seed: int, first: int, second: int) -> None:
    messages = traffic(seed)
    runs = []
    for handful in (first, second):
        run = Run()
        for at in range(0, len(messages), handful):
            run.feed(*messages[at : at + handful])
        runs.append(run)
    assert runs[0].logs == runs[1].logs
    assert runs[0].counters == runs[1].counters


def test_a_late_record_becomes_its_own_log() -> None:
    run = Run()
    run.feed(message(0, [record("frontend-1", "backend-1", at_s=1)], end_s=10), message(1, [], end_s=20))
    run.feed(message(2, [record("frontend-1", "backend-1", at_s=2, size=(70, 0))], end_s=21))
    logs = sorted(run.all_logs(), key=lambda log: log["late"])
    assert [(log["late"], log["bytes_out"]) for log in logs] == [(False, 300), (True, 70)]
    assert logs[0]["start_time"] == logs[1]["start_time"]
    assert run.outcomes[-1].late_records == 1


def test_a_record_within_the_allowed_lateness_is_on_time() -> None:
    run = Run()
    run.feed(message(0, [], end_s=16.9), message(1, [record("frontend-1", "backend-1", at_s=2)], end_s=17))
    assert [log["late"] for log in run.all_logs()] == [False]


def test_a_window_waits_for_its_own_nodes_watermark_only() -> None:
    run = Run()
    run.feed(
        message(0, [record("frontend-1", "backend-1")], end_s=10, node="slow"),
        message(1, [record("frontend-1", "backend-1")], end_s=10, node="fast"),
        message(2, [], end_s=20, node="fast", sequence=2),
    )
    assert [log["host"] for log in run.all_logs()] == ["fast"]


def test_a_silent_nodes_windows_close_by_other_batches_and_by_the_clock() -> None:
    run = Run()
    run.feed(message(0, [record("frontend-1", "backend-1")], end_s=10, node="gone"))
    run.feed(message(1, [], end_s=69, node="other"))
    assert not run.logs
    run.feed(message(2, [], end_s=70, node="other", sequence=2))
    assert [log["host"] for log in run.all_logs()] == ["gone"]

    run = Run()
    run.feed(message(0, [record("frontend-1", "backend-1")], end_s=10))
    written_ms = 1_780_000_005_000 + 10_000
    run.keep(run.stage.close_idle(written_ms + 59_999))
    assert not run.logs
    run.keep(run.stage.close_idle(written_ms + 60_000))
    assert len(run.logs) == 1
    assert run.settled == [0]


def test_a_missing_batch_is_a_loss_once_its_time_is_over() -> None:
    run = Run()
    # The gap is from second 1 to 3, where the next batch's interval begins; lateness is two seconds.
    run.feed(message(0, [], end_s=1, sequence=0), message(1, [], end_s=4, sequence=3))
    run.feed(message(2, [], end_s=4.9, sequence=4))
    assert not run.losses
    run.feed(message(3, [], end_s=5, sequence=5))
    (loss,) = run.losses.values()
    assert (loss["reason"], loss["batches"]) == ("sequence_gap", 2)


def test_a_batch_that_comes_out_of_order_is_no_loss() -> None:
    run = Run()
    run.feed(message(0, [], end_s=1, sequence=0), message(1, [], end_s=3, sequence=2))
    run.feed(message(2, [record("frontend-1", "backend-1")], end_s=2, sequence=1), message(3, [], end_s=40, sequence=3))
    assert not run.losses
    assert len(run.logs) == 1


def test_the_collectors_own_loss_and_its_restart_are_recorded() -> None:
    run = Run()
    run.feed(message(0, [], end_s=1, lost=7), message(1, [], end_s=9, boot=2))
    assert {each["reason"]: each["records"] for each in run.losses.values()} == {
        "collector_loss": 7,
        "collector_restart": None,
    }


def test_a_loss_told_by_the_worker_before_is_not_told_again() -> None:
    before = [message(0, [], end_s=1, lost=7), message(1, [], end_s=9, boot=2)]
    run = Run().feed(*before)
    assert len(run.losses) == 2
    run.restart()
    run.stage.recall(before)
    run.losses.clear()
    run.feed(message(2, [], end_s=10, boot=2, sequence=2))
    assert not run.losses


def test_a_rules_totals_are_those_of_one_outcome() -> None:
    run = Run()
    for index in range(3):
        at = 15 * index
        run.feed(
            message(2 * index, [record("frontend-1", "backend-1", at_s=at + 1, reporter=Reporter.DST)], end_s=at + 2)
        )
        run.feed(message(2 * index + 1, [], end_s=at + 18))
    told = [list(outcome.rules.values()) for outcome in run.outcomes if outcome.rules]
    assert told == [[[1, 0, 3, 2, 300, 200]]] * 3


def test_what_is_remembered_of_a_nodes_batches_is_bounded() -> None:
    partition = Partition(WINDOW)
    for boot in range(BOOTS_KEPT + 3):
        for sequence in (0, 2 * MISSING_KEPT, 4 * MISSING_KEPT):
            sent = message(0, [], end_s=1, sequence=sequence, boot=boot)
            partition.admit(decode(sent).header, 0, sent.timestamp_ms)
    runs = partition.nodes["node-a"].runs
    assert len(runs) == BOOTS_KEPT
    assert {len(each.missing) for each in runs.values()} == {MISSING_KEPT}


def test_packets_that_belong_to_no_record_are_a_loss_too() -> None:
    run = Run()
    run.feed(message(0, [], end_s=1.5, lost_packets=3))
    (loss,) = run.losses.values()
    assert (loss["start_time"], loss["end_time"]) == (START_S, START_S + 2)  # whole seconds around 0.5 to 1.5
    assert (loss["reason"], loss["records"], loss["packets"]) == ("collector_loss", 0, 3)


@pytest.mark.parametrize("rows", [1024])
def test_a_window_that_is_merged_early_says_the_same(rows: int) -> None:
    from dataclasses import replace

    from tests.streams.scene import WINDOW

    def run(limit: int) -> Run:
        made = Run(window=replace(WINDOW, connections=limit))
        for number in range(14):
            made.feed(
                message(
                    number,
                    [record("frontend-1", "backend-1", at_s=number + 0.5, ports=(p, 8080)) for p in range(4000, 4200)],
                    end_s=number + 1,
                )
            )
        return made.feed(message(14, [], end_s=60))

    merged = run(rows)
    assert merged.logs == run(10**9).logs
    assert [log["num_flows"] for log in merged.all_logs()] == [200]
