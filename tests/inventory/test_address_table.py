"""Laws of the as-of look-up: it equals a plain search through all versions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tierflow.inventory.address_numbers import AddressNumbers
from tierflow.inventory.address_ranges import WIDER_PRIVATE, NetworkSetTable, PrivateRanges
from tierflow.inventory.address_table import FOREVER, AddressTable, segments_of
from tierflow.schemas.record import address_halves

HALVES = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)) | st.tuples(
    st.just(0), st.integers(0xFFFF0A000000, 0xFFFF0A00000F)
)
HOLDERS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from("abc")).map(
        lambda each: (min(each[:2]), max(each[:2]), each[2])
    ),
    max_size=30,
)


def halves(*addresses: str) -> tuple[np.ndarray, np.ndarray]:
    columns = np.array([address_halves(address) for address in addresses], np.uint64).reshape(-1, 2)
    return columns[:, 0].copy(), columns[:, 1].copy()


@given(st.lists(HALVES, unique=True, max_size=200), st.lists(HALVES, max_size=50))
def test_the_number_of_an_address_is_its_position_and_strangers_have_none(known, strangers) -> None:
    columns = np.array(known, np.uint64).reshape(-1, 2)
    table = AddressNumbers(columns[:, 0].copy(), columns[:, 1].copy())
    asked = known + strangers
    query = np.array(asked, np.uint64).reshape(-1, 2)
    expected = [known.index(each) if each in known else -1 for each in asked]
    assert table.numbers(query[:, 0].copy(), query[:, 1].copy()).tolist() == expected


@given(st.dictionaries(HALVES, HOLDERS, min_size=1, max_size=8))
def test_a_look_up_by_address_and_time_equals_a_search_through_all_holders(held) -> None:
    numbered, number = {}, 0
    for address, holders in held.items():
        numbered[address] = [(begin, end, key, number + i) for i, (begin, end, key) in enumerate(holders)]
        number += len(holders)
    columns = np.array(list(numbered), np.uint64)
    table = AddressTable.of(
        columns[:, 0].copy(), columns[:, 1].copy(), [segments_of(holders) for holders in numbered.values()]
    )
    for address, holders in numbered.items():
        times = np.arange(-1, 52, dtype=np.int64)
        ids, known = table.lookup(
            np.full(len(times), address[0], np.uint64), np.full(len(times), address[1], np.uint64), times
        )
        expected = []
        for time in times.tolist():
            holding = [holder for holder in holders if holder[0] <= time < holder[1]]
            winner = max(holding, key=lambda holder: (holder[0], holder[2], holder[1], holder[3]), default=None)
            expected.append(-1 if winner is None else winner[3])
        found = [-1 if i < 0 else i for i in ids.tolist()]
        by_id = {holder[3]: holder[:1] + holder[2:3] for holder in holders}
        assert [by_id.get(i) for i in found] == [by_id.get(i) for i in expected]
        assert known.all()


TABLES = st.lists(
    st.dictionaries(
        st.tuples(st.integers(0, 1), st.integers(0, 5)),
        # Short ones are in padded rows, long ones are not.
        st.integers(0, 40).map(lambda count: [(10 * i, 10 * i + 7, i) for i in range(count)]),
        max_size=8,
    ),
    max_size=5,
)


@given(TABLES, st.permutations(range(40)))
def test_a_merged_table_says_what_the_newest_says_and_a_renumbered_one_says_it_with_new_ids(tables, new) -> None:
    merged, expected = AddressTable.of(*[np.zeros(0, np.uint64)] * 2, ()), {}
    for number, table in enumerate(tables):
        held = {
            address: [(begin + number, end + number, i) for begin, end, i in each] for address, each in table.items()
        }
        columns = np.array(list(held), np.uint64).reshape(-1, 2)
        merged = merged.merged(AddressTable.of(columns[:, 0].copy(), columns[:, 1].copy(), list(held.values())))
        expected |= held
    times = np.arange(-2, 420, 3, dtype=np.int64)
    renumbered = merged.renumbered(np.array(new[:20] + [-1] * 20, np.int32))
    assert merged.count == len(expected)
    for address in [*expected, (5, 5)]:
        asked = np.full(len(times), address[0], np.uint64), np.full(len(times), address[1], np.uint64), times
        ids, known = merged.lookup(*asked)
        assert known.all() == known.any() == (address in expected)
        answer = [
            next((i for begin, end, i in expected.get(address, ()) if begin <= time < end), -1)
            for time in times.tolist()
        ]
        assert ids.tolist() == answer
        assert renumbered.lookup(*asked)[0].tolist() == [new[i] if 0 <= i < 20 else -1 for i in answer]


def test_the_own_namespaces_set_comes_first_then_global_ones_then_others_then_the_longest_prefix_then_the_name() -> (
    None
):
    sets = [
        ("shop", "office", ["192.0.2.0/24"]),
        (None, "world", ["192.0.2.0/25", "2001:db8::/32"]),
        (None, "wide", ["192.0.0.0/16"]),
        ("bank", "narrow", ["192.0.2.1/32", "198.51.100.0/24"]),
        (None, "b", ["203.0.113.0/24"]),
        (None, "a", ["203.0.113.0/24"]),
    ]
    table = NetworkSetTable(sets, {"shop": 0, "bank": 1, "other": 2})

    def find(address: str, namespace: int) -> str:
        index = int(table.find(*halves(address), np.array([namespace], np.int32))[0])
        return "-" if index < 0 else sets[index][1]

    assert find("192.0.2.1", 0) == "office"
    assert find("192.0.2.1", 1) == "narrow"
    assert find("192.0.2.1", 2) == "world"
    assert find("192.0.2.1", -1) == "world"
    assert find("192.0.2.1", 99) == "world"
    assert find("192.0.2.200", 2) == "wide"
    assert find("198.51.100.7", 0) == "narrow"
    assert find("203.0.113.9", -1) == "a"
    assert find("2001:db8::1", -1) == "world"
    assert find("2001:db9::1", -1) == "-"
    assert find("8.8.8.8", -1) == "-"


@given(
    st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)), max_size=12),
    st.lists(st.integers(0, 2**128 - 1), max_size=20),
)
def test_an_address_is_private_when_a_prefix_holds_it(prefixes, addresses) -> None:
    import ipaddress

    networks = [ipaddress.IPv6Network((number, length), strict=False) for number, length in prefixes]
    addresses += [int(network[0]) for network in networks] + [int(network[-1]) for network in networks]
    ranges = PrivateRanges([str(network) for network in networks])
    hi = np.array([address >> 64 for address in addresses], np.uint64)
    lo = np.array([address & (2**64 - 1) for address in addresses], np.uint64)
    expected = [any(ipaddress.IPv6Address(address) in network for network in networks) for address in addresses]
    assert ranges.contains(hi, lo).tolist() == expected


def test_upstream_counts_only_rfc_1918_as_private_and_the_option_counts_more() -> None:
    asked = halves("10.1.2.3", "172.31.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", "fd00::1", "8.8.8.8", "::1")
    assert PrivateRanges().contains(*asked).tolist() == [True, True, True, False, False, False, False, False]
    assert PrivateRanges(WIDER_PRIVATE).contains(*asked).tolist() == [True] * 6 + [False, True]


@given(st.dictionaries(HALVES, HOLDERS, min_size=1, max_size=8))
def test_within_its_span_a_look_up_says_the_same_and_each_end_of_it_is_a_change(held) -> None:
    segments, number = {}, 0
    for address, holders in held.items():
        segments[address] = segments_of((begin, end, key, number + i) for i, (begin, end, key) in enumerate(holders))
        number += len(holders)
    columns = np.array(list(segments), np.uint64)
    table = AddressTable.of(columns[:, 0].copy(), columns[:, 1].copy(), list(segments.values()))
    for hi, lo in [*segments, (1, 1)]:
        times = np.arange(0, 52, dtype=np.int64)
        query = np.full(len(times), hi, np.uint64), np.full(len(times), lo, np.uint64)
        ids, _ = table.lookup(*query, times)
        begin, end, known = table.spans(*query, times)
        assert known.tolist() == [(hi, lo) in segments] * len(times)
        edges = {edge for segment in segments.get((hi, lo), ()) for edge in segment[:2]}
        for at, first, after in zip(times.tolist(), begin.tolist(), end.tolist(), strict=True):
            assert first <= at < after
            assert len(set(ids[first:after].tolist())) == 1
            assert first in edges | {0}
            assert after in edges | {FOREVER}
