"""A sink on a real Elasticsearch, handed events as Faust would; what it stored and what it sent away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from tests.sinks.documents import DAY_S, whole_log
from tierflow.schemas import topics
from tierflow.schemas.clock import ManualClock
from tierflow.schemas.metrics import Metrics
from tierflow.sinks import metrics as counted
from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
from tierflow.sinks.elasticsearch.indices import IndexNames, IndexSettings
from tierflow.sinks.elasticsearch.sink import ElasticsearchSink, SinkSettings
from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter
from tierflow.sinks.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.elasticsearch import Elasticsearch

BOUND_S = 90
INDEX = IndexSettings(replicas=0)


@dataclass
class Message:
    """As Faust's, by what the sink reads."""

    value: bytes
    offset: int
    topic: str = topics.FLOWS_LOGS.name
    partition: int = 0
    key: bytes = b"node"


@dataclass
class Event:
    """As Faust's."""

    message: Message
    acknowledged: bool = False

    def ack(self) -> bool:
        self.acknowledged = True
        return True


@dataclass
class Running:
    """A sink under test, with what it sent to the dead-letter topic."""

    reached: str | ElasticsearchSettings
    names: IndexNames
    settings: SinkSettings = field(
        default_factory=lambda: SinkSettings(linger_s=0, max_documents=50, retry=Retry(0.05, 0.2))
    )
    metrics: Metrics = field(default_factory=Metrics)
    letters: list[dict[str, Any]] = field(default_factory=list)
    broker_errors: list[Exception] = field(default_factory=list)
    """What the next dead letters meet instead of a broker that takes them, first to last."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        reached = ElasticsearchSettings(self.reached, timeout_s=5) if isinstance(self.reached, str) else self.reached
        self.writer = ElasticsearchWriter(Connection(reached), self.names)
        self.sink = ElasticsearchSink(
            self.writer, self.names, self._send, ManualClock(0), self.metrics, lambda: 0.5, self.settings
        )

    async def _send(self, key: bytes, value: bytes) -> None:
        assert key == topics.FLOWS_LOGS.name.encode()
        if self.broker_errors:
            raise self.broker_errors.pop(0)
        self.letters.append(orjson.loads(value))

    async def feed(self, events: list[Event], meanwhile: Callable[[], None] | None = None) -> None:
        """Hand over events and run until all are acknowledged; ``meanwhile`` runs once the sink waits for the store."""
        running = asyncio.create_task(self.sink.run(self.stop))
        feeding = asyncio.create_task(self._feed(events))
        try:
            if meanwhile is not None:
                async with asyncio.timeout(BOUND_S):
                    while self.metrics.value(counted.FAILURES) == 0:  # noqa: ASYNC110 - a condition, with a bound
                        await asyncio.sleep(0.01)
                assert self.metrics.value(counted.STORE_UP) == 0
                assert not all(event.acknowledged for event in events)
                # It may start a node, which has a bound of its own.
                await asyncio.to_thread(meanwhile)
            async with asyncio.timeout(BOUND_S):
                while not all(event.acknowledged for event in events):
                    if running.done():
                        running.result()
                    await asyncio.sleep(0.01)
        finally:
            self.stop.set()
            feeding.cancel()
            await asyncio.gather(running, feeding, return_exceptions=True)

    async def _feed(self, events: list[Event]) -> None:
        for event in events:
            await self.sink.take(event)


def events(count: int, *more: bytes) -> list[Event]:
    values = [orjson.dumps(whole_log(id=f"{number:06x}", bytes_in=number, start_time=DAY_S)) for number in range(count)]
    return [Event(Message(value, offset)) for offset, value in enumerate([*values, *more])]


def stored(node: Elasticsearch, names: IndexNames) -> tuple[int, int]:
    """Number of documents, and the sum of a field: neither a lost nor a doubled one leaves both as they were."""
    index = names.all_of("flows")
    node.ask("POST", f"/{index}/_refresh")
    answer: Any = node.ask(
        "POST", f"/{index}/_search",
        {"size": 0, "track_total_hits": True, "aggs": {"bytes": {"sum": {"field": "bytes_in"}}}},
    )  # fmt: skip
    # Before the first document there is no index, and nothing is summed.
    sums = answer.get("aggregations", {"bytes": {"value": 0}})
    return answer["hits"]["total"]["value"], int(sums["bytes"]["value"])


def whole(count: int) -> tuple[int, int]:
    return count, count * (count - 1) // 2


def names(text: str) -> IndexNames:
    return IndexNames(f"{text}_{{kind}}-{{day}}")
