"""``tierflow schema`` prints schemas that are valid and closed."""

from __future__ import annotations

import jsonschema
import orjson
import pytest
from click.testing import CliRunner

from tierflow.cli.main import command
from tierflow.cli.schema import SCHEMAS
from tierflow.schemas import inventory, topics


def test_without_a_topic_all_topics_are_listed() -> None:
    output = CliRunner().invoke(command, ["schema"]).output
    for topic in topics.ALL:
        assert topic.name in output


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_each_json_topic_has_a_valid_schema(name: str) -> None:
    result = CliRunner().invoke(command, ["schema", name.rsplit(".v", 1)[0]])
    assert result.exit_code == 0, result.output
    jsonschema.Draft202012Validator.check_schema(orjson.loads(result.output))


def test_what_the_inventory_publishes_fits_its_schema() -> None:
    schema = inventory.json_schema()
    for message in (
        inventory.Heartbeat(1, "one", 2),
        inventory.ObjectVersion(inventory.ENDPOINT, "Pod/shop/a", 1, None, {"name": "a"}),
        inventory.ObjectVersion(inventory.NODE, "Node//n", 1, 2, {}),
    ):
        _, value = inventory.encode_message(message)
        assert value is not None
        jsonschema.validate(orjson.loads(value), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "kind": "endpoint"}, schema)


def test_an_unknown_topic_names_the_accepted_ones() -> None:
    result = CliRunner().invoke(command, ["schema", "flows.raw"])
    assert "flows.logs.v1" in str(result.exception)
