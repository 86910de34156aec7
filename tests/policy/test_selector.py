"""The selector language: what parses, what it selects, and what is said when it doesn't parse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierflow.policy import SelectorError, parse_selector
from tierflow.policy.columns import LabelColumns
from tierflow.policy.selector import MAX_DEPTH, All, And, Compare, Has, In, Node, Not, Or

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


def grammar() -> st.SearchStrategy[str]:
    """Selectors as the module's grammar makes them, with blanks, quotes, spellings and trailing commas as they come."""
    blank = st.sampled_from(["", " ", "\t", "  "])
    quoted = st.one_of(
        st.text(st.characters(blacklist_characters="'", blacklist_categories=["Cs"]), max_size=3).map("'{}'".format),
        st.text(st.characters(blacklist_characters='"', blacklist_categories=["Cs"]), max_size=3).map('"{}"'.format),
    )
    members = st.tuples(st.lists(quoted, max_size=3), st.booleans(), blank).map(
        lambda parts: f"{{{parts[2]}" + ",".join(parts[0]) + ("," if parts[0] and parts[1] else "") + f"{parts[2]}}}"
    )
    words = st.sampled_from(["contains", "starts with", "startswith", "starts  with", "ends with", "ends\twith"])
    leaf = st.one_of(
        st.tuples(blank, blank).map("all({0[0]}){0[1]}".format),
        st.just("global()"),
        st.tuples(blank, labels, blank).map("has({0[0]}{0[1]}{0[2]})".format),
        st.tuples(labels, blank, st.sampled_from(["==", "!="]), blank, quoted).map("".join),
        st.tuples(labels, words, blank, quoted).map("{0[0]} {0[1]}{0[2]}{0[3]}".format),
        st.tuples(labels, st.sampled_from(["in", "not in", "notin"]), blank, members).map(
            "{0[0]} {0[1]}{0[2]}{0[3]}".format
        ),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(blank, inner, blank).map("({0[0]}{0[1]}{0[2]})".format),
            st.tuples(blank, inner).map("!{0[0]}({0[1]})".format),
            st.tuples(inner, blank, st.sampled_from(["&&", "||"]), blank, inner).map("".join),
        ),
        max_leaves=6,
    )


@given(grammar())
def test_whatever_the_grammar_makes_parses_and_prints_as_the_same(text: str) -> None:
    node = parse_selector(text)
    assert parse_selector(str(node)) == node


@given(grammar(), st.data())
def test_a_broken_selector_is_refused_with_a_place_in_it_or_selects(text: str, data: st.DataObject) -> None:
    """No text raises anything but an error that says where."""
    at = data.draw(st.integers(0, len(text)))
    broken = text[:at] + data.draw(st.sampled_from(["", "&", "'", "(", ")", "!", "=", "in", "\n"])) + text[at + 1 :]
    try:
        found = parse_selector(broken).matches({})
    except SelectorError as caught:
        error = caught
        found = None
    assert found in (True, False) if found is not None else 0 <= error.position <= len(broken)


@pytest.mark.parametrize("opening", ["(", "!(", "( "])
def test_parentheses_inside_each_other_are_bounded(opening: str) -> None:
    deep = opening * MAX_DEPTH + "has(a)" + ")" * MAX_DEPTH
    assert parse_selector(deep) == Has("a")
    with pytest.raises(SelectorError) as caught:
        parse_selector(opening * 500 + "has(a)" + ")" * 500)
    assert caught.value.position == MAX_DEPTH * len(opening) + opening.index("(")
    assert caught.value.expected == f"at most {MAX_DEPTH} parentheses inside each other"


def test_parentheses_beside_each_other_and_many_negations_are_not_bounded() -> None:
    assert parse_selector("(has(a)) || " * 400 + "all()").matches({})
    assert parse_selector("!" * 1001 + "has(a)").matches({})


def test_the_documented_precedence_is_not_then_and_then_or() -> None:
    text = "! has(my-label) || my-label starts with 'prod' && role in {'frontend','business'}"
    bracketed = "((!(has(my-label))) || ((my-label starts with 'prod') && (role in {'frontend','business'})))"
    assert parse_selector(text) == parse_selector(bracketed)
    assert not parse_selector(text).matches({"my-label": "prod-1"})
    assert parse_selector(text).matches({"my-label": "prod-1", "role": "business"})
