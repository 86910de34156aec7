"""``tierflow topics``: creates the topics that are missing, or checks that those there keep the contract."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal

import click
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from tierflow.cli.broker import wait_for_broker
from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.kinds import Finite
from tierflow.cli.settings import kafka_setting, setting, topic_prefix_setting
from tierflow.schemas import topics
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierflow.schemas.topics import Topic

Mode = Literal["create", "check"]

CHECKED: Final = ("cleanup.policy", "message.timestamp.type")
"""A wrong clean-up policy loses the inventory, a wrong clock makes a replay differ; the rest is the operator's."""


@click.command("topics")
@kafka_setting
@kafka_security
@setting(
    "--mode", type=click.Choice(["create", "check"]), default="check", help="Create what is missing, or only check."
)
@setting("--replication-factor", type=click.IntRange(1), default=1, help="Replication factor of topics created.")
@topic_prefix_setting
@setting("--timeout-s", type=Finite(1, 3600), default=60.0, help="How long to wait for the broker.")
def command(
    kafka: str, kafka_security: KafkaSecurity, mode: Mode, replication_factor: int, topic_prefix: str, timeout_s: float
) -> None:
    """Create the topics that are missing, or check those there; what is there is never changed."""
    wanted = tuple(topic.with_prefix(topic_prefix) for topic in topics.ALL)
    for line in asyncio.run(
        _run(kafka, kafka_security.client_arguments(), mode, replication_factor, wanted, timeout_s)
    ):
        click.echo(line)


async def _run(
    kafka: str,
    security: Mapping[str, Any],
    mode: Mode,
    replication_factor: int,
    wanted: Sequence[Topic],
    timeout_s: float,
) -> list[str]:
    await wait_for_broker(kafka, timeout_s, **security)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka, **security)
    await admin.start()
    try:
        said = await _create(admin, wanted, replication_factor) if mode == "create" else []
        partitions = await _partitions(admin, wanted)
        complaints = [line for topic in wanted for line in complaints_about(topic, partitions.get(topic.name))]
        complaints += await _wrong_settings(admin, [topic for topic in wanted if topic.name in partitions])
    except (KafkaError, OSError) as error:
        raise UnavailableError(f"--kafka {kafka}: {type(error).__name__}: {error}") from error
    finally:
        await admin.close()
    if complaints:
        raise UnavailableError("; ".join(complaints))
    return said or [f"{topic.name}: {partitions[topic.name]} partitions" for topic in wanted]


def complaints_about(topic: Topic, partitions: int | None) -> list[str]:
    """What is wrong with a topic of so many partitions; None: it isn't there."""
    if partitions is None:
        return [f"topic {topic.name} is missing; --mode create makes it"]
    if topic.partitions == 1 and partitions != 1:
        return [f"topic {topic.name} has {partitions} partitions; its order needs exactly 1"]
    return []


async def _create(admin: AIOKafkaAdminClient, wanted: Sequence[Topic], replication_factor: int) -> list[str]:
    there = set(await admin.list_topics())
    missing = [topic for topic in wanted if topic.name not in there]
    if not missing:
        return []
    answer = await admin.create_topics(
        [NewTopic(topic.name, topic.partitions, replication_factor, topic_configs=topic.settings) for topic in missing]
    )
    for name, code, *rest in answer.topic_errors:
        # Somebody else made it in between: the check that follows judges it.
        if code not in (0, TopicAlreadyExistsError.errno):
            raise UnavailableError(f"topic {name}: {for_code(code).__name__} {rest[0] if rest else ''}".rstrip())
    return [f"{topic.name}: created with {topic.partitions} partitions" for topic in missing]


async def _partitions(admin: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> dict[str, int]:
    there = set(await admin.list_topics())
    names = [topic.name for topic in wanted if topic.name in there]
    if not names:
        return {}
    return {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics(names)}


async def _wrong_settings(admin: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> list[str]:
    if not wanted:
        return []
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in wanted]
    found: dict[str, Mapping[str, Any]] = {}
    for response in await admin.describe_configs(resources):
        for resource in response.resources:
            found[resource[3]] = {entry[0]: entry[1] for entry in resource[4]}
    return [
        f"topic {topic.name} has {key}={found[topic.name][key]}; it must be {topic.settings[key]}"
        for topic in wanted
        for key in CHECKED
        # A broker that tells no configuration can't be judged by it.
        if found.get(topic.name, {}).get(key) is not None
        and set(found[topic.name][key].split(",")) != set(topic.settings[key].split(","))
    ]
