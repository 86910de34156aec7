"""``tierflow sink elasticsearch``: fill Elasticsearch from Kafka."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import click

from tierflow.cli.elasticsearch import DEFAULT_URL, elasticsearch_settings
from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.kinds import GROUP, Finite
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting, topic_prefix_setting
from tierflow.cli.stage import MetricsAddress, Stage, metrics_settings, run_stage
from tierflow.schemas.clock import SystemClock

if TYPE_CHECKING:
    from tierflow.sinks.elasticsearch.client import ElasticsearchSettings


@click.command("elasticsearch")
@kafka_setting
@kafka_security
@log_setting
@elasticsearch_settings
@setting("--retention-days", type=click.IntRange(1, 3650), default=8, help="Whole days kept; older indices go.")
@setting(
    "--elasticsearch-lifecycle",
    metavar="POLICY",
    default=None,
    help="A lifecycle policy of the cluster that keeps and deletes the indices instead of --retention-days.",
)
@setting("--shards", type=click.IntRange(1, 1024), default=1, help="Primary shards of an index.")
@setting("--replicas", type=click.IntRange(0, 16), default=1, help="Replicas of an index.")
@setting("--bulk-mib", type=click.IntRange(1, 90), default=5, help="Size of one bulk at most.")
@setting("--buffer-mib", type=click.IntRange(1, 4096), default=16, help="Documents held in memory at most.")
@setting("--linger-s", type=Finite(0, 60), default=0.5, help="Seconds that a bulk waits for more.")
@setting(
    "--group", type=GROUP, default="tierflow-sink-elasticsearch",
    help="Consumer group; sinks of one group share the work.",
)  # fmt: skip
@topic_prefix_setting
@setting("--session-timeout-s", type=click.IntRange(6, 300), default=10, help="Seconds until a dead sink is replaced.")
@metrics_settings
def command(
    kafka: str,
    kafka_security: KafkaSecurity,
    elasticsearch: ElasticsearchSettings | None,
    elasticsearch_index: str,
    retention_days: int,
    elasticsearch_lifecycle: str | None,
    shards: int,
    replicas: int,
    bulk_mib: int,
    buffer_mib: int,
    linger_s: float,
    group: str,
    topic_prefix: str,
    session_timeout_s: int,
    metrics_at: MetricsAddress,
) -> None:
    """Fill Elasticsearch with flow logs, policy counters and losses."""
    from tierflow.sinks.elasticsearch.app import AppSettings, run
    from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
    from tierflow.sinks.elasticsearch.indices import IndexNames, IndexSettings
    from tierflow.sinks.elasticsearch.sink import SinkSettings
    from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter

    reached = elasticsearch or ElasticsearchSettings(DEFAULT_URL)
    names = IndexNames(elasticsearch_index)
    settings = AppSettings(
        kafka, group, topic_prefix, session_timeout_s, retention_days,
        IndexSettings(shards, replicas, elasticsearch_lifecycle),
        SinkSettings(max_pending_bytes=buffer_mib << 20, linger_s=linger_s), kafka_security.client_arguments(),
    )  # fmt: skip
    writer = ElasticsearchWriter(Connection(reached), names, bulk_mib << 20)

    async def work(stage: Stage) -> None:
        await run(settings, writer, names, SystemClock(), stage.live, stage.stop, stage.ready)

    with asyncio.Runner() as runner:
        runner.run(run_stage(kafka, settings.client, metrics_at, work))
        # Threads may be left: Faust's when the broker is gone, a bulk's when the store hangs. Nothing is owed to them.
        logging.shutdown()
        os._exit(0)
