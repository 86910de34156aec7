"""The Faust app of the Elasticsearch sink: one agent over the documents' topics, and what runs beside it.

Faust shares the partitions among the sinks of a group and commits what is acknowledged; the DuckDB sink needs neither,
as one process owns its file and keeps the positions in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer

from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.ending import let_go
from tierflow.schemas.errors import TierflowError, TransientError
from tierflow.schemas.faust_app import raw_app, raw_channel
from tierflow.sinks import metrics as counted
from tierflow.sinks.elasticsearch.indices import IndexSettings
from tierflow.sinks.elasticsearch.sink import KIND_OF, ElasticsearchSink, SinkSettings
from tierflow.sinks.retry import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import faust

    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.sinks.elasticsearch.indices import IndexNames
    from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter

_LOG = logging.getLogger(__name__)

KEEP_EVERY_S: Final = 3600.0
LAG_EVERY_S: Final = 2.0
LAST_LOAD_S: Final = 3.0
"""How long the last load may take after the signal; what isn't acknowledged comes again."""


@dataclass(frozen=True, slots=True)
class AppSettings:
    """One sink process.

    Attributes:
        kafka: ``host:port`` of the brokers.
        group: consumer group; sinks of one group share the partitions.
        topic_prefix: put before each topic's name.
        session_timeout_s: after which a dead sink's partitions go to others.
        keep_days: whole days kept.
        index: what every index gets; with a lifecycle policy, deleting them is the cluster's.
        client: TLS and SASL arguments of aiokafka.
    """

    kafka: str
    group: str = "tierflow-sink-elasticsearch"
    topic_prefix: str = ""
    session_timeout_s: int = 10
    keep_days: int = 8
    index: IndexSettings = field(default_factory=IndexSettings)
    sink: SinkSettings = field(default_factory=SinkSettings)
    client: Mapping[str, Any] = field(default_factory=dict)


def build_app(settings: AppSettings, sink: ElasticsearchSink, datadir: str) -> faust.App:
    """The app: its agent hands every event to the sink, which acknowledges it later."""
    app = raw_app(
        settings.group, settings.kafka, datadir, session_timeout_s=settings.session_timeout_s,
        fetch_bytes=1 << 20, buffered_events=256, client=settings.client,
    )  # fmt: skip
    channel = raw_channel(app, [settings.topic_prefix + name for name in KIND_OF])

    async def index(stream: Any) -> None:
        async for event in stream.noack().events():
            await sink.take(event)

    app.agent(channel, name="tierflow.sinks.elasticsearch")(index)
    return app


async def run(
    settings: AppSettings,
    writer: ElasticsearchWriter,
    names: IndexNames,
    clock: Clock,
    metrics: Metrics,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Fill Elasticsearch until ``stop`` is set; calls ``ready`` when it reads.

    Raises:
        TierflowError: the store or the broker refuses for good.
    """
    try:
        await _prepare(settings, writer, metrics, stop)
    except Stopped:
        return
    await ensure_topics(
        settings.kafka, [each.with_prefix(settings.topic_prefix) for each in topics.ALL], **settings.client
    )
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", **settings.client)
    dead = topics.DEAD_LETTER.with_prefix(settings.topic_prefix).name
    sink = ElasticsearchSink(
        writer,
        names,
        lambda key, value: producer.send_and_wait(dead, value, key=key),
        clock,
        metrics,
        random.random,
        settings.sink,
        settings.topic_prefix,
    )
    await producer.start()
    with tempfile.TemporaryDirectory(prefix="tierflow-sink-") as datadir:
        app = build_app(settings, sink, datadir)
        tasks = [
            asyncio.create_task(sink.run(stop)),
            asyncio.create_task(keep(settings, writer, clock, metrics, stop)),
        ]
        waiting = asyncio.create_task(stop.wait())
        try:
            app.finalize()
            await app.start()
            tasks.append(asyncio.create_task(_tell_lag(app, sink, metrics, stop)))
            ready()
            await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            # What is being written is finished and acknowledged before the app goes, unless the store takes too long.
            done, _ = await asyncio.wait(tasks, timeout=LAST_LOAD_S)
            for task in done:
                task.result()
        finally:
            stop.set()
            waiting.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
            await let_go(app.stop(), producer.stop())


async def _prepare(settings: AppSettings, writer: ElasticsearchWriter, metrics: Metrics, stop: asyncio.Event) -> None:
    """Put the templates, waiting for a cluster that doesn't answer yet."""
    await settings.sink.retry.until_done(
        lambda: asyncio.to_thread(writer.prepare, settings.index),
        TransientError,
        lambda: metrics.set(counted.STORE_UP, 0),
        stop,
    )
    metrics.set(counted.STORE_UP, 1)


async def _tell_lag(app: faust.App, sink: ElasticsearchSink, metrics: Metrics, stop: asyncio.Event) -> None:
    while not stop.is_set():
        lag: dict[str, int] = {}
        ends = app.monitor.tp_end_offsets
        for partition in app.consumer.assignment() & ends.keys():
            end = ends[partition]
            position = sink.positions.get((partition.topic, partition.partition), end)
            lag[partition.topic] = lag.get(partition.topic, 0) + max(0, end - position)
        for topic, messages in lag.items():
            metrics.set(counted.LAG, messages, topic=topic)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LAG_EVERY_S)


async def keep(
    settings: AppSettings, writer: ElasticsearchWriter, clock: Clock, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Hourly: put the templates again, should someone have removed them, and delete what is past retention."""
    while not stop.is_set():
        try:
            if settings.index.lifecycle is None:
                await _forget(settings, writer, clock, metrics)
            await asyncio.to_thread(writer.prepare, settings.index)
        except TierflowError as error:
            _LOG.warning("templates and retention: %s", error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), KEEP_EVERY_S)


async def _forget(settings: AppSettings, writer: ElasticsearchWriter, clock: Clock, metrics: Metrics) -> None:
    gone = await asyncio.to_thread(writer.forget, clock.now_ns() // NS_PER_S, settings.keep_days)
    if gone:
        metrics.add(counted.FORGOTTEN, len(gone))
        _LOG.info("retention: deleted %s", ", ".join(gone))
