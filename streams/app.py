"""Wire the stage together: Faust for reading, the inventory, the core, the output, health."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tierflow.inventory.history import History
from tierflow.inventory.topic import Reader
from tierflow.policy import compile_policies
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.ending import let_go
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.faust_app import raw_app, raw_channel
from tierflow.streams.core.stage import Stage, StageSettings
from tierflow.streams.output import Output
from tierflow.streams.worker import Worker, WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import faust

    from tierflow.schemas.clock import Clock
    from tierflow.schemas.health import Probes
    from tierflow.schemas.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One worker's configuration.

    Attributes:
        kafka: ``host:port`` of the broker.
        data_dir: where Faust may keep files; nothing in it is needed again.
        group: consumer group; workers of one group share the partitions.
        topic_prefix: put before each topic's name.
        partitions: of topics that this worker makes; None: as the contract says.
        session_timeout_s: after which a dead worker's partitions are given to others.
        client: TLS and SASL arguments of aiokafka.
    """

    kafka: str
    data_dir: Path
    stage: StageSettings = field(default_factory=StageSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    group: str = "tierflow-stream"
    topic_prefix: str = ""
    partitions: int | None = None
    session_timeout_s: int = 10
    client: Mapping[str, Any] = field(default_factory=dict)


SLOW_S: Final = 30.0
"""A worker whose loop has not come round for this long is not ready: most likely the broker takes nothing."""
STUCK_S: Final = 300.0
"""After this long it is not alive: a fresh start costs little, as the raw log is the state."""


@dataclass(slots=True)
class _State:
    """What is to be said about a worker's health."""

    worker: Worker
    history: History
    reading: bool = False

    def ready(self) -> str:
        if not self.reading:
            return "starting: the inventory is being read"
        if not self.history.snapshot().watermark_ns:
            return "no inventory: nothing in the topic says who holds which address"
        return self._standing(SLOW_S)

    def alive(self) -> str:
        return self._standing(STUCK_S) if self.reading else ""

    def _standing(self, limit_s: float) -> str:
        silent_s = self.worker.silent_s
        return f"stuck: nothing has gone on for {silent_s:.0f} s" if silent_s > limit_s else ""


def build_app(settings: StreamSettings, worker: Worker) -> faust.App:
    """The Faust app: one agent that hands raw events to the worker."""
    app = raw_app(
        settings.group, settings.kafka, settings.data_dir, session_timeout_s=settings.session_timeout_s,
        fetch_bytes=4 << 20, buffered_events=64, client=settings.client,
    )  # fmt: skip
    channel = raw_channel(app, [topics.FLOWS_RAW.with_prefix(settings.topic_prefix).name])

    async def read_batches(stream: Any) -> None:
        async for event in stream.noack().events():
            worker.consumer = app.consumer
            await worker.take(event)

    app.agent(channel, name="tierflow.streams.raw")(read_batches)
    return app


async def run(
    settings: StreamSettings,
    live: Metrics,
    probes: Probes,
    stop: asyncio.Event,
    ready: Callable[[], None],
    clock: Clock | None = None,
) -> None:
    """Run one worker until ``stop`` is set; calls ``ready`` when it reads.

    Raises:
        UnavailableError: the broker refuses the topics, or Faust has crashed.
    """
    clock = clock or SystemClock()
    prefix = settings.topic_prefix
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    await ensure_topics(
        settings.kafka, [each.with_prefix(prefix) for each in topics.ALL], settings.partitions, **settings.client
    )
    history = History()
    reader = Reader(settings.kafka, live, topics.INVENTORY.with_prefix(prefix), settings.client)
    output = Output(settings.kafka, clock, prefix, settings.client)
    stage = Stage(settings.stage, compile_policies, seed=os.urandom(16))
    worker = Worker(
        settings.worker, stage, output, history.snapshot, live, clock, settings.kafka,
        topics.FLOWS_RAW.with_prefix(prefix).name, settings.client,
    )  # fmt: skip
    state = _State(worker, history)
    probes.ready, probes.alive = state.ready, state.alive
    await reader.start()
    await output.start()
    await reader.catch_up(history.apply)
    # What has been read stays for long: a collection that walks it all would take longer than a snapshot may be late.
    gc.freeze()
    app = build_app(settings, worker)
    tasks = [
        asyncio.create_task(_follow(reader, history), name="inventory"),
        asyncio.create_task(worker.run(), name="worker"),
    ]
    try:
        app.finalize()
        waiting = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(app.start())
        # Joining a group whose members have died takes until they are given up; who is told to go doesn't wait for it.
        await asyncio.wait({waiting, starting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        starting.result()
        tasks.append(asyncio.create_task(_watch(app), name="faust"))
        state.reading = True
        ready()
        done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in done - {waiting}:
            task.result()
    finally:
        state.reading = False
        for task in tasks:
            task.cancel()
        await let_go(*tasks, app.stop())
        await let_go(output.stop(), reader.stop())


async def _watch(app: faust.App) -> None:
    await app.wait_until_stopped()
    raise UnavailableError(f"Faust has ended: {app.crash_reason!r}")


async def _follow(reader: Reader, history: History) -> None:
    async for messages in reader.batches():
        for message in messages:
            history.apply(message)
