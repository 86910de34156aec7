"""Whatever stands in a manifest, reading it ends in problems or in policies to judge, never in an exception."""

from __future__ import annotations

import copy
import random
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy import storefront
from tests.policy.test_examples import EXAMPLES
from tests.policy.test_judge import assert_agree
from tests.policy.test_validation import CASES

from tierflow.policy import Endpoint, Flow, Side, compile_policies, parse_documents

GARBAGE: list[Any] = [
    None, True, 0, 7, -1, 1.5, float("nan"), 10**30, "", "x", "a'b", "☃", "0", "1.2.3.4/99", "all()", "((((",
    [], [None], [[]], {}, {"a": None}, {"": ""}, {1: 2}, {"selector": {}}, [{"action": "Allow"}],
]  # fmt: skip
GOOD = [
    *(document for _, _, document in storefront.documents()),
    *(each for _, page, example in EXAMPLES for text in (page["common"], example["documents"])
      for each in yaml.safe_load_all(text)),
    *(each for case in CASES for each in case.documents),
]  # fmt: skip
POD = Side("10.0.0.1", Endpoint("wep", "shop", "a", {"app": "a"}, "default", (("http", 6, 80),)))
FLOWS = [Flow(POD, POD, protocol, 40000, 80) for protocol in (1, 6, 17)]


def spoil(node: Any, chooser: random.Random) -> Any:
    """The document with something in it changed: a value replaced, a field added, taken away or renamed."""
    if not isinstance(node, dict | list) or not node or chooser.random() < 0.15:
        return chooser.choice(GARBAGE)
    place = chooser.choice(list(node) if isinstance(node, dict) else range(len(node)))
    what = chooser.random()
    if what < 0.1:
        del node[place]
    elif what < 0.2 and isinstance(node, dict):
        node[chooser.choice(["x", 5, "spec", "nets", "ports"])] = chooser.choice(GARBAGE)
    else:
        node[place] = spoil(node[place], chooser)
    return node


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_reading_garbage_ends_in_problems_or_in_policies(seed: int) -> None:
    chooser = random.Random(seed)
    documents = [copy.deepcopy(chooser.choice(GOOD)) for _ in range(3)]
    documents[0] = spoil(documents[0], chooser)
    resources, problems = parse_documents([("a.yaml", index, each) for index, each in enumerate(documents)])
    for problem in problems:
        assert problem.field
        assert problem.accepted
    # What was understood of a wrong object is judged, too: an inventory keeps the rest of the cluster in force.
    assert_agree(compile_policies(resources), FLOWS)
