"""What a publisher makes of changes: ends of what vanished unseen, clocks that step, settings, the turn of another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inventory.follower import holder
from tests.inventory.test_history import NAMESPACE, pod
from tierflow.inventory.address_ranges import WIDER_PRIVATE, private_prefixes
from tierflow.inventory.history import History
from tierflow.inventory.publish import PublishSettings, publish
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import NS_PER_S, ManualClock
from tierflow.schemas.inventory import (
    ENDPOINT,
    SETTINGS,
    Heartbeat,
    Message,
    ObjectVersion,
    Settings,
    Tombstone,
)
from tierflow.schemas.inventory import (
    NAMESPACE as NAMESPACE_KIND,
)
from tierflow.schemas.record import address_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

A = "10.0.0.1"
UPSTREAM = Settings(private_prefixes(["upstream"]), 3600)


def put(versions: Versions, name: str, address: str, began: int | None, now: int) -> list[ObjectVersion]:
    return versions.put(ENDPOINT, name, pod(name, [address]), began_ns=began, now_ns=now)


def names(messages: Iterable[Message], address: str, times: Iterable[int]) -> list[str | None]:
    history = History()
    for message in messages:
        history.apply(message)
    found = [holder(history.snapshot(), address, at) for at in times]
    return [None if each is None else each.endpoint.name for each in found]


def test_what_vanished_unseen_ended_when_another_took_its_address_else_when_it_was_missed() -> None:
    versions = Versions()
    messages = put(versions, "old", A, 10, 10) + put(versions, "gone", "10.0.0.2", 10, 10)
    # A list after a gap: the new pod says that it began at 40.
    messages += versions.retain(ENDPOINT, {"new"}, now_ns=60, taken_ns={A: 40})
    messages += put(versions, "new", A, 40, 60)
    assert names(messages, A, (10, 39, 40, 59, 60)) == ["old", "old", "new", "new", "new"]
    assert names(messages, "10.0.0.2", (59, 60)) == ["gone", None]


def test_a_pod_of_the_same_name_with_another_address_that_began_later_ends_the_one_before_then() -> None:
    versions = Versions()
    messages = put(versions, "db-0", A, 10, 10) + put(versions, "db-0", "10.0.0.2", 40, 60)
    assert names(messages, A, (39, 40)) == ["db-0", None]
    assert names(messages, "10.0.0.2", (39, 40)) == [None, "db-0"]


def test_a_pod_that_got_another_address_in_its_life_has_it_since_it_was_seen() -> None:
    versions = Versions()
    messages = put(versions, "db-0", A, 10, 10) + put(versions, "db-0", "10.0.0.2", 10, 60)
    assert names(messages, A, (59, 60)) == ["db-0", None]
    assert names(messages, "10.0.0.2", (59, 60)) == [None, "db-0"]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop"]), st.sampled_from("abc"), st.sampled_from([A, "10.0.0.2"]), st.integers(0, 9)
    ),
    max_size=20,
)


TOLD = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "list", "tell"]), st.sampled_from("abc"), st.sampled_from([A, "10.0.0.2"]),
        st.integers(0, 9), st.integers(-40, 9),
    ),
    max_size=30,
)  # fmt: skip


@given(TOLD)
def test_what_readers_were_told_is_complete_never_changes_however_early_a_pod_says_that_it_began(steps) -> None:
    versions, history, now = Versions(), History(), 100
    messages: list[Message] = []
    answers: dict[tuple[str, int], str | None] = {}
    watermark = 0
    for what, name, address, later, began in steps:
        now += later
        if what == "put":
            made = put(versions, name, address, now + began, now)
        elif what == "drop":
            made = versions.drop(ENDPOINT, name, now_ns=now + began)
        elif what == "list":
            made = versions.retain(ENDPOINT, {name}, now_ns=now, taken_ns={address: now + began})
        else:
            watermark = max(watermark, now - 20)
            versions.complete_to(watermark)
            made = []
            for at in range(max(0, watermark - 30), watermark):
                found = {each: holder(history.snapshot(), each, at) for each in (A, "10.0.0.2")}
                for each, version in found.items():
                    answers.setdefault((each, at), None if version is None else version.endpoint.name)
        for message in made:
            history.apply(message)
        messages += made
    for address in (A, "10.0.0.2"):
        told = {at: name for (each, at), name in answers.items() if each == address}
        assert names(messages, address, told) == list(told.values())


def test_a_publisher_whose_predecessors_clock_was_ahead_begins_by_its_own() -> None:
    hour = 3600 * NS_PER_S
    versions = Versions()
    for message in (*put(versions, "a", A, None, 9 * hour), Heartbeat(9 * hour, "other", 4)):
        versions.load(message)
    messages, _, said = asyncio.run(run([([], hour), ([], hour + NS_PER_S), ([], 0)], versions))
    assert said == ["the publisher before had a clock 28800.0 s ahead of ours: what begins later than now begins now"]
    assert names(messages, A, (hour - 1, hour)) == [None, "a"]


@given(CHANGES, st.integers(1, 200), CHANGES)
def test_after_a_clock_was_put_back_who_is_there_is_found_at_every_moment_from_then_on(before, back, after) -> None:
    versions, messages, now = Versions(), [], 1000
    alive: dict[str, str] = {}

    def change(what: str, name: str, address: str) -> None:
        nonlocal messages
        if what == "drop":
            alive.pop(name, None)
            messages += versions.drop(ENDPOINT, name, now_ns=now)
        elif address not in alive.values() or alive.get(name) == address:
            alive[name] = address
            messages += put(versions, name, address, None, now)

    for what, name, address, later in before:
        now += later
        change(what, name, address)
    now -= back
    messages += versions.clock_went_back(now)
    assert versions.clock_went_back(now + 1) == []
    truth = []
    for what, name, address, later in after:
        now += 100 * (1 + later)
        change(what, name, address)
        # A begin that a version of before the step has as well is put off by a nanosecond, as the key must differ.
        truth.append((now + 50, dict(alive)))
    for address in (A, "10.0.0.2"):
        expected = [{held: name for name, held in alive.items()}.get(address) for _, alive in truth]
        assert names(messages, address, [at for at, _ in truth]) == expected


def test_versions_are_forgotten_in_the_order_of_their_ends_and_once_each() -> None:
    versions = Versions()
    for number, end in enumerate((30, 10, 20)):
        put(versions, f"p{number}", f"10.0.0.{number}", 1, 5)
        versions.drop(ENDPOINT, f"p{number}", now_ns=end)
    forgotten = [[each.key for each in versions.expire(at)] for at in (10, 11, 25, 99, 99)]
    assert forgotten == [[], ["p1"], ["p2"], ["p0"], []]


class Scripted:
    """A source whose answers and whose clock a test has written down: (watermark, versions, clock after it)."""

    def __init__(self, clock: ManualClock, stop: asyncio.Event, script: list[tuple[list[ObjectVersion], int]]) -> None:
        self._clock, self._stop, self._script = clock, stop, script
        self.watermark_ns, self.steps_back = 0, 0

    def look(self) -> list[ObjectVersion]:
        found, self.watermark_ns = self._script.pop(0)
        self._clock.advance_ns(self.watermark_ns - self._clock.now_ns())
        if not self._script:
            self._script.append(([], self.watermark_ns + 2 * NS_PER_S))
            self._stop.set()
        return found

    def clock_went_back(self) -> None:
        self.steps_back += 1

    def complaints(self) -> list[str]:
        return []


class Published:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish(self, messages: Iterable[Message]) -> None:
        self.messages += messages


async def run(
    script: list[tuple[list[ObjectVersion], int]], versions: Versions, may: Callable[[], bool] = lambda: True
) -> tuple[list[Message], Scripted, list[str]]:
    clock, stop, published, said = ManualClock(script[0][1]), asyncio.Event(), Published(), []
    source = Scripted(clock, stop, script)
    await publish(
        source, versions, published, PublishSettings("me", 5, UPSTREAM), clock, stop,
        pause_s=0, may=may, ready=lambda: None, say=said.append,
    )  # fmt: skip
    return published.messages, source, said


async def test_a_clock_that_was_put_back_takes_the_watermark_with_it() -> None:
    hour, versions = 3600 * NS_PER_S, Versions()
    opened = versions.put(NAMESPACE_KIND, "Namespace//shop", NAMESPACE, began_ns=None, now_ns=2 * hour)
    messages, source, said = await run([(opened, 2 * hour), ([], hour), ([], hour + NS_PER_S), ([], 0)], versions)
    history = History()
    for message in messages:
        history.apply(message)
    assert source.steps_back == 1
    assert said == ["the clock went back by 3600.0 s: what begins later than now begins now"]
    assert [(each.watermark_ns, each.epoch) for each in messages if isinstance(each, Heartbeat)][-1] == (
        hour + NS_PER_S, 6,
    )  # fmt: skip
    assert history.watermark_ns == hour + NS_PER_S
    held = [each for each in messages if isinstance(each, ObjectVersion) and each.kind == NAMESPACE_KIND]
    assert [(each.valid_from_ns, each.valid_to_ns) for each in held] == [
        (2 * hour, None), (2 * hour, 2 * hour), (hour, None),
    ]  # fmt: skip


async def test_nothing_is_published_once_it_is_anothers_turn() -> None:
    turns = iter([True, False])
    messages, _, _ = await run(
        [([], NS_PER_S), ([], 3 * NS_PER_S), ([], 5 * NS_PER_S)], Versions(), lambda: next(turns)
    )
    assert [each.watermark_ns for each in messages if isinstance(each, Heartbeat)] == [NS_PER_S]


async def test_every_reader_goes_by_the_settings_of_the_topic_as_of_the_records_time() -> None:
    hour, versions = 3600 * NS_PER_S, Versions()
    messages, _, _ = await run([([], hour), ([], hour)], versions)
    [first] = [each for each in messages if isinstance(each, ObjectVersion)]
    assert (first.kind, first.valid_from_ns, first.object) == (SETTINGS, 0, UPSTREAM.to_object())
    again, _, _ = await run([([], hour), ([], hour)], versions)
    assert not [each for each in again if isinstance(each, ObjectVersion)], "unchanged settings are published once"
    wider = Settings(private_prefixes(["wider"]), 7200)
    messages += versions.put(SETTINGS, "settings", wider.to_object(), began_ns=0, now_ns=2 * hour)
    history = History()
    for message in [*messages, Heartbeat(3 * hour, "me", 9)]:
        history.apply(message)
    assert history.known_from_ns == hour, "the topic says how long versions are kept"
    hi, lo = address_columns(["100.64.0.1"] * 3 + ["10.0.0.1"])
    times = np.array([0, 2 * hour - 1, 2 * hour, 0], np.int64)
    assert history.snapshot().private(hi, lo, times).tolist() == [False, False, True, True]


def test_private_ranges_are_words_and_prefixes_together() -> None:
    assert private_prefixes(["wider"]) == WIDER_PRIVATE
    assert private_prefixes(["upstream", "203.0.113.0/24", "10.0.0.0/8"]) == (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "203.0.113.0/24",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"^10\.0\.0\.1/8$"):
        private_prefixes(["10.0.0.1/8"])


def test_a_tombstone_of_the_topic_is_no_version_for_the_publisher_that_takes_over() -> None:
    versions = Versions()
    versions.load(ObjectVersion(ENDPOINT, "a", 1, 5, pod("a", [A])))
    versions.load(Tombstone(ENDPOINT, "a", 1))
    assert versions.expire(99) == []


def test_what_says_to_have_begun_later_than_now_begins_now() -> None:
    (begun,) = Versions().put(ENDPOINT, "web", pod("web", [A]), began_ns=20, now_ns=10)
    assert begun.valid_from_ns == 10


def test_a_tombstone_takes_nothing_that_has_not_ended() -> None:
    history = History()
    bank = NAMESPACE | {"metadata": {"name": "bank"}}
    for message in (
        ObjectVersion(NAMESPACE_KIND, "shop", 0, None, NAMESPACE),
        Heartbeat(100, "test", 1),
        Tombstone(NAMESPACE_KIND, "shop", 0),
        # What is in force is put together anew by the next change only.
        ObjectVersion(NAMESPACE_KIND, "bank", 110, None, bank),
        Heartbeat(200, "test", 1),
    ):
        history.apply(message)
        history.snapshot()
    assert sorted(history.snapshot().policy_versions[-1].namespaces) == ["bank", "shop"]
