"""Create the topics that a stage needs; whoever starts first makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierflow.schemas.topics import Topic


async def ensure_topics(
    bootstrap: str, topics: Sequence[Topic], partitions: int | None = None, **client: Any
) -> dict[str, int]:
    """Create what is missing; ``partitions`` overrides the contract where it has more than one.

    Args:
        bootstrap: ``host:port`` of the broker.
        topics: the contracts.
        partitions: for topics that may have several; None is the contract's own number.
        client: TLS and SASL arguments of aiokafka.

    Returns:
        the number of partitions of each topic, as it is.

    Raises:
        UnavailableError: the broker refuses to make a topic.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **client)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in there]
        if missing:
            answer = await admin.create_topics([_new(topic, partitions) for topic in missing])
            for name, code, *rest in answer.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    why = rest[0] if rest else ""
                    raise UnavailableError(f"topic {name}: {for_code(code).__name__} {why}".rstrip())
        found = await admin.describe_topics([topic.name for topic in topics])
        return {each["topic"]: len(each["partitions"]) for each in found}
    finally:
        await admin.close()


def _new(topic: Topic, partitions: int | None) -> NewTopic:
    return NewTopic(
        topic.name,
        partitions if partitions and topic.partitions > 1 else topic.partitions,
        1,
        topic_configs=topic.settings,
    )
