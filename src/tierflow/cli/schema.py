"""``tierflow schema``: the JSON Schema of a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from tierflow.schemas import flow_log, inventory, loss, policy_counter, topics
from tierflow.schemas.errors import ConfigurationError
from tierflow.schemas.fields import json_schema

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    topics.FLOWS_LOGS.name: lambda: json_schema(topics.FLOWS_LOGS, "Flow log", flow_log.FIELDS),
    topics.POLICY_COUNTERS.name: lambda: json_schema(topics.POLICY_COUNTERS, "Policy counter", policy_counter.FIELDS),
    topics.FLOWS_LOSS.name: lambda: json_schema(topics.FLOWS_LOSS, "Loss record", loss.LOSS_FIELDS),
    topics.DEAD_LETTER.name: lambda: json_schema(topics.DEAD_LETTER, "Dead letter", loss.DEAD_LETTER_FIELDS),
    topics.INVENTORY.name: inventory.json_schema,
}


@click.command("schema")
@click.argument("topic", required=False)
def command(topic: str | None) -> None:
    """Print the JSON Schema of TOPIC; without it, list the topics.

    The name may leave out the version. flows.raw is binary: schemas/wire.py and collector/bpf/record.h have its layout.
    """
    if topic is None:
        for each in topics.ALL:
            form = "JSON" if each.name in SCHEMAS else "binary"
            click.echo(f"{each.name:22} {form:7} key: {each.key}\n    {each.about}")
        return
    name = next((known for known in SCHEMAS if topic in (known, known.rsplit(".v", 1)[0])), None)
    if name is None:
        raise ConfigurationError(f"TOPIC {topic!r} has no JSON Schema; accepted: {', '.join(SCHEMAS)}")
    click.echo(orjson.dumps(SCHEMAS[name](), option=orjson.OPT_INDENT_2).decode())
