"""``tierflow stream``: one worker that joins, judges and aggregates raw records."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import click

from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.kinds import GROUP, LATENESS_S, WINDOW_S, Finite
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting, topic_prefix_setting
from tierflow.cli.stage import MetricsAddress, Stage, metrics_settings, run_stage
from tierflow.cli.state import state_folder
from tierflow.schemas.errors import ConfigurationError


@click.command("stream")
@kafka_setting
@kafka_security
@log_setting
@setting("--window-s", type=WINDOW_S, default=300, help="Width of an aggregation window in seconds.")
@setting("--lateness-s", type=LATENESS_S, default=10, help="Seconds that a window waits for late records.")
@setting(
    "--idle-s",
    type=click.IntRange(1, 86_400),
    default=60,
    help="Seconds of silence after which a node's windows close.",
)
@setting("--aggregation-allowed", type=click.IntRange(0, 3), default=2, help="Aggregation level of allowed flows.")
@setting("--aggregation-denied", type=click.IntRange(0, 3), default=1, help="Aggregation level of denied flows.")
@setting(
    "--sample-addresses", type=click.IntRange(0, 1000), default=10, help="Addresses that a flow log names per side."
)
@setting("--inventory-wait-s", type=Finite(0, 600), default=5.0, help="Seconds a batch waits for the inventory.")
@setting("--buffer-mib", type=click.IntRange(8, 4096), default=32, help="Raw batches held in memory at most.")
@setting(
    "--window-connections",
    type=click.IntRange(1),
    default=262_144,
    help="Connections of one node's window; with more it is written in parts.",
)
@setting("--group", type=GROUP, default="tierflow-stream", help="Consumer group; workers of one group share the work.")
@topic_prefix_setting
@setting(
    "--partitions", type=click.IntRange(1, 10_000), default=None, help="Partitions of topics that have to be made."
)
@setting(
    "--session-timeout-s", type=click.IntRange(6, 300), default=10, help="Seconds until a dead worker is replaced."
)
@metrics_settings
@setting(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), default=None,
    show_default="stream in the state folder", help="Folder for scratch files; nothing in it is needed again.",
)  # fmt: skip
def command(
    kafka: str,
    kafka_security: KafkaSecurity,
    window_s: int,
    lateness_s: int,
    idle_s: int,
    aggregation_allowed: int,
    aggregation_denied: int,
    sample_addresses: int,
    inventory_wait_s: float,
    buffer_mib: int,
    window_connections: int,
    group: str,
    topic_prefix: str,
    partitions: int | None,
    session_timeout_s: int,
    metrics_at: MetricsAddress,
    data_dir: Path | None,
) -> None:
    """Turn raw records into flow logs and policy counters."""
    from tierflow.streams.app import StreamSettings, run
    from tierflow.streams.core.groups import Levels
    from tierflow.streams.core.stage import StageSettings
    from tierflow.streams.core.windows import WindowSettings
    from tierflow.streams.worker import WorkerSettings

    settings = StreamSettings(
        kafka=kafka,
        data_dir=data_dir or state_folder() / "stream",
        stage=StageSettings(
            WindowSettings(window_s, lateness_s, idle_s, window_connections),
            Levels(aggregation_allowed, aggregation_denied),
            sample_addresses,
        ),
        worker=WorkerSettings(buffer_bytes=buffer_mib << 20, inventory_wait_s=inventory_wait_s),
        group=group,
        topic_prefix=topic_prefix,
        partitions=partitions,
        session_timeout_s=session_timeout_s,
        client=kafka_security.client_arguments(),
    )

    async def work(stage: Stage) -> None:
        await run(settings, stage.live, stage.probes, stage.stop, stage.ready)
        # Faust leaves tasks and a thread behind that may never end; nothing is left to do, so they aren't waited for.
        logging.shutdown()
        os._exit(0)

    try:
        asyncio.run(run_stage(kafka, settings.client, metrics_at, work))
    except OSError as error:
        raise ConfigurationError(f"stream: {error}") from error
