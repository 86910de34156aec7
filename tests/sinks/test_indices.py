"""Names, templates and types of the indices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sinks.documents import DAY_S
from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.elasticsearch.indices import (
    FLOWS,
    KINDS,
    UPSTREAM_NAMES,
    IndexNames,
    IndexSettings,
    conflict,
    index_template,
    mappings,
)

DAY = "20251124"


@pytest.mark.parametrize(
    ("pattern", "cluster", "name"),
    [
        ("tierflow_{kind}.{cluster}.{day}", "prod", f"tierflow_flows.prod.{DAY}"),
        ("tierflow_{kind}.{cluster}.{day}", "", f"tierflow_flows.cluster.{DAY}"),
        ("tierflow_{kind}.{cluster}.{day}", "Eu/West 1", f"tierflow_flows.eu-west-1.{DAY}"),
        (
            "tierflow_{kind}.{cluster}.{day}",
            "arn:aws:eks:eu-west-1:123456789012:cluster/prod",
            f"tierflow_flows.arn-aws-eks-eu-west-1-123456789012-cluster-prod.{DAY}",
        ),
        ("tierflow_{kind}.{cluster}.{day}", "x" * 253, f"tierflow_flows.{'x' * 190}.{DAY}"),
        (UPSTREAM_NAMES, "cluster", f"tigera_secure_ee_flows.cluster.{DAY}"),
        ("{kind}-{day}", "prod", f"flows-{DAY}"),
    ],
)
def test_an_index_is_named_by_its_kind_its_cluster_and_the_day_its_window_starts_in(
    pattern: str, cluster: str, name: str
) -> None:
    names = IndexNames(pattern)
    assert names.of(FLOWS, cluster, DAY_S) == names.of(FLOWS, cluster, DAY_S + 86_399) == name
    assert names.of(FLOWS, cluster, DAY_S + 86_400) != name
    assert names.older_than(FLOWS, [name], DAY_S + 9 * 86_400, 8) == [name]
    assert names.older_than(FLOWS, [name, "flows", f"{name}-archive"], DAY_S + 8 * 86_400, 8) == []


@pytest.mark.parametrize(
    "pattern",
    ["{kind}", "{day}", "{kind}{kind}{day}", "{kind}-{day}-{node}", "Upper_{kind}.{day}", "_{kind}.{day}", "*"],
)
def test_a_pattern_that_names_no_index_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="--elasticsearch-index"):
        IndexNames(pattern)


def test_types_are_upstream_s_and_nothing_undeclared_is_taken() -> None:
    made = mappings(KINDS[FLOWS])
    held = made["properties"]
    assert made["dynamic"] == "strict"
    assert held["source_ip"]["type"] == held["dest_ip"]["type"] == "ip"
    assert held["source_namespace"]["type"] == held["action"]["type"] == "keyword"
    assert held["bytes_in"]["type"] == held["num_flows"]["type"] == held["dest_port"]["type"] == "long"
    assert (held["start_time"]["type"], held["start_time"]["format"]) == ("date", "epoch_second")
    assert held["policies"]["properties"]["all_policies"]["type"] == "keyword"
    assert held["source_labels"]["properties"]["labels"]["type"] == "keyword"


def test_a_template_takes_in_every_index_of_its_kind_and_no_other() -> None:
    names = IndexNames(UPSTREAM_NAMES)
    made = {kind: index_template(names, kind, IndexSettings(3, 2)) for kind in KINDS}
    assert made[FLOWS]["index_patterns"] == ["tigera_secure_ee_flows.*.*"]
    assert len({names.template(kind) for kind in KINDS}) == len(KINDS)
    index = made[FLOWS]["template"]["settings"]["index"]
    assert (index["number_of_shards"], index["number_of_replicas"], "lifecycle" in index) == (3, 2, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"id": {"type": "text"}}, "field id is text, must be keyword"),
        ({"policies": {"type": "keyword"}}, "field policies.all_policies is not mapped, must be keyword"),
        ({"bytes_in": {"type": "float"}}, "field bytes_in is float, must be long"),
    ],
)
def test_an_index_that_something_else_made_is_told_by_its_first_wrong_field(
    change: dict[str, Any], said: str | None
) -> None:
    assert conflict(FLOWS, mappings(KINDS[FLOWS])["properties"] | change) == said
