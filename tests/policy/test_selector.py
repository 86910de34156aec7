"""The selector language: what parses, what it selects, and what is said when it doesn't parse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierflow.policy import SelectorError, parse_selector
from tierflow.policy.columns import LabelColumns
from tierflow.policy.selector import All, And, Compare, Has, In, Node, Not, Or

LABELS = {"app": "web", "zone": "dmz-1", "k8s.io/name": "x", "empty": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        (" \t", True),
        ("all()", True),
        ("all( )", True),
        ('app == "web"', True),
        ("app=='web'", True),
        ('app != "web"', False),
        ('missing != "web"', True),
        ('missing == ""', False),
        ('empty == ""', True),
        ('app in {"a", "web"}', True),
        ('app in {"a", "web",}', True),
        ("app in {}", False),
        ('app not in {"web"}', False),
        ('app notin {"web"}', False),
        ('missing not in {"web"}', True),
        ("has(k8s.io/name)", True),
        ("has( app )", True),
        ("!has(app)", False),
        ("! has(app)", False),
        ("!!has(app)", True),
        ('zone contains "mz"', True),
        ('zone starts with "dmz"', True),
        ('zone startswith "dmz"', True),
        ('zone ends with "-1"', True),
        ('zone endswith "-2"', False),
        ('missing contains ""', False),
        ('app == "web" && zone == "x" || has(app)', True),
        ('app == "web" && (zone == "x" || has(nope))', False),
        ("app == 'a\"b'", False),
        ('app == "\\"', False),
    ],
)
def test_a_selector_selects(text: str, selected: bool) -> None:
    assert parse_selector(text).matches(LABELS) is selected


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("app", 3, "one of =="),
        ("app = 'a'", 4, "one of =="),
        ("app == a", 7, "a text in quotes"),
        ("app == 'a", 7, "a closing '"),
        ("(app == 'a'", 11, ")"),
        ("app == 'a')", 10, "&&, || or the end"),
        ("app == 'a' & has(b)", 11, "&&, || or the end"),
        ("app == 'a' &&", 13, "a label"),
        ("app in 'a'", 7, "{"),
        ("app in {'a' 'b'}", 12, ", or }"),
        ("app in {,}", 8, "a text in quotes"),
        ("has()", 4, "a label"),
        ("has(a", 5, ")"),
        ("all(x)", 4, ")"),
        ("app ==\n'a'", 6, "a text in quotes"),
        ("app isn't", 4, "one of =="),
        (f"has({'a' * 513})", 4, "at most 512"),
    ],
)
def test_a_wrong_selector_says_where_and_what_was_expected(text: str, position: int, expected: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert caught.value.position == position
    assert expected in caught.value.expected


def test_a_label_of_512_characters_is_fine() -> None:
    assert parse_selector(f"has({'a' * 512})").matches({"a" * 512: ""})


labels = st.sampled_from(["app", "zone", "k8s.io/name", "in", "has", "contains", "not", "all"])
values = st.text(st.characters(blacklist_characters="'\"", blacklist_categories=["Cs"]), max_size=4)
leaves: st.SearchStrategy[Node] = st.one_of(
    st.just(All()),
    st.builds(Has, labels),
    st.builds(Compare, labels, st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]), values),
    st.builds(In, labels, st.frozensets(values, max_size=3), st.booleans()),
)
nodes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.filter(lambda node: not isinstance(node, Not)).map(Not),
        st.lists(inner.filter(lambda n: not isinstance(n, And)), min_size=2, max_size=3).map(lambda n: And(tuple(n))),
        st.lists(inner.filter(lambda n: not isinstance(n, Or)), min_size=2, max_size=3).map(lambda n: Or(tuple(n))),
    ),
    max_leaves=8,
)


@given(nodes)
def test_a_selector_printed_and_parsed_is_the_same(node: Node) -> None:
    assert parse_selector(str(node)) == node


@given(nodes, st.lists(st.dictionaries(labels, values, max_size=4), max_size=12), st.integers(0, 12))
def test_columns_select_what_label_sets_one_by_one_select(node: Node, sets: list[dict[str, str]], cut: int) -> None:
    columns = LabelColumns(sets[:cut])
    columns.extend(sets[cut:])
    assert np.array_equal(columns.select(node), np.array([node.matches(each) for each in sets], dtype=np.bool_))
