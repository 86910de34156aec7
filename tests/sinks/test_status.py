"""The state of a flow from what its two sides reported, and whose counters count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierflow.sinks.read.status import SideSums, flow_groups

PAIR = ("storefront", "a-*", "wep", "storefront", "b-*", "wep", "tcp", 80)


def side(reporter: str, action: str, *evidence: str, service: str = "", amount: int = 1) -> SideSums:
    return SideSums((*PAIR, service), reporter, action, frozenset(evidence), amount, amount * 10, amount * 100)


@pytest.mark.parametrize(
    ("sides", "states"),
    [
        ([side("src", "allow", "answered")], {"allowed": 1}),
        ([side("src", "allow", "unanswered")], {"unanswered": 1}),
        ([side("src", "allow", "unknown")], {"unknown": 1}),
        ([side("src", "allow", "answered", "unanswered")], {"allowed": 1}),
        ([side("src", "allow", "unknown", "unanswered")], {"unanswered": 1}),
        ([side("src", "allow", "unknown", "answered")], {"allowed": 1}),
        ([side("dst", "allow", "answered", amount=2)], {"allowed": 2}),
        ([side("src", "deny", "enforced")], {"denied": 1}),
        ([side("src", "deny", "enforced", "leak")], {"leak": 1}),
        ([side("dst", "deny", "enforced", amount=3)], {"denied": 3}),
        ([side("dst", "deny", "leak")], {"leak": 1}),
        # Both sides report: the destination's counters are the traffic.
        ([side("src", "allow", "answered", amount=5), side("dst", "allow", "answered", amount=4)], {"allowed": 4}),
        (
            [side("src", "allow", "unanswered", amount=5), side("dst", "deny", "enforced", amount=4)],
            {"denied_by_destination": 4},
        ),
        # What the source denied never reached the destination, and counts by itself.
        ([side("src", "deny", "enforced", amount=5), side("dst", "allow", "answered", amount=4)],
         {"denied": 5, "allowed": 4}),
        (
            [
                side("src", "allow", "answered", amount=9), side("dst", "allow", "answered", amount=5),
                side("dst", "deny", "enforced", amount=4),
            ],
            {"allowed": 5, "denied_by_destination": 4},
        ),
    ],
)  # fmt: skip
def test_the_state_of_a_flow_and_whose_counters_count(sides: list[SideSums], states: dict[str, int]) -> None:
    found = flow_groups(sides, 10)
    assert {group.status: group.connections for group in found} == states
    assert {group.status: group.bytes for group in found} == {state: 100 * each for state, each in states.items()}


def test_the_service_that_the_source_alone_knows_is_the_flow_s() -> None:
    (found,) = flow_groups([side("src", "allow", "answered", service="storefront/b"), side("dst", "allow", "x")], 10)
    assert found.service == "storefront/b"


SIDES = st.lists(
    st.builds(
        side,
        st.sampled_from(["src", "dst", "fwd"]),
        st.sampled_from(["allow", "deny"]),
        st.sampled_from(["enforced", "leak", "answered", "unanswered", "unknown"]),
        amount=st.integers(0, 9),
    ),
    min_size=1,
    max_size=8,
)


@given(SIDES)
def test_nothing_is_counted_twice_and_what_the_destination_saw_is_never_left_out(sides: list[SideSums]) -> None:
    found = flow_groups(sides, 100)
    assert len({group.status for group in found}) == len(found)
    counted = sum(group.connections for group in found)
    at_dest = sum(each.connections for each in sides if each.reporter == "dst")
    denied = sum(each.connections for each in sides if each.reporter == "src" and each.action == "deny")
    allowed = sum(each.connections for each in sides if each.reporter != "dst" and each.action == "allow")
    seen = any(each.reporter == "dst" for each in sides)
    assert counted == denied + (at_dest if seen else allowed)


@given(SIDES, st.randoms())
def test_the_order_of_the_sides_means_nothing(sides: list[SideSums], random: object) -> None:
    mixed = list(sides)
    random.shuffle(mixed)  # type: ignore[attr-defined]  # Hypothesis' own random.Random
    assert {(group.status, group.bytes) for group in flow_groups(mixed, 9)} == {
        (group.status, group.bytes) for group in flow_groups(sides, 9)
    }
