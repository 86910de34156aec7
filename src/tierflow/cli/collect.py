"""``tierflow collect``: packets to raw records on ``flows.raw``."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.kinds import CLUSTER, NODE, Finite
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting, topic_prefix_setting
from tierflow.cli.stage import MetricsAddress, Stage, metrics_settings, run_stage
from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.collector.kafka import KafkaSender
from tierflow.collector.pcap import PcapSettings, PcapSource
from tierflow.collector.publisher import Publisher, PublisherSettings
from tierflow.collector.run import RunSettings, run
from tierflow.collector.synthetic import SyntheticSettings, SyntheticSource
from tierflow.schemas import topics
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError
from tierflow.schemas.wire import Source

if TYPE_CHECKING:
    from tierflow.collector.source import RecordSource

log = logging.getLogger("tierflow.collect")

SourceName = Literal["ebpf", "pcap", "synthetic"]
_SOURCES = {"ebpf": Source.EBPF, "pcap": Source.PCAP, "synthetic": Source.SYNTHETIC}


@click.command("collect")
@kafka_setting
@kafka_security
@log_setting
@setting("--source", type=click.Choice(list(_SOURCES)), default="ebpf", help="Where records come from.")
@setting(
    "--interfaces", default="cali*,veth*,tf*", metavar="PATTERNS", help="Pods' host-side interfaces, comma-separated."
)
@setting("--interval-s", type=Finite(0.05, 3600), default=5.0, help="Seconds between drains.")
@setting(
    "--keepalive-s", type=Finite(1, 86_400), default=300.0,
    help="A silent, open conversation is reported once in each span of this width: the window's.",
)  # fmt: skip
@setting(
    "--max-conversations", type=click.IntRange(1024, 16_777_216), default=131_072, help="Entries of the kernel's maps."
)
@setting(
    "--hand-over/--no-hand-over", default=False,
    help="At the end, leave the kernel counting for the collector that comes next.",
)  # fmt: skip
@setting(
    "--node", type=NODE, default=socket.gethostname, show_default="host name", help="This node's name in Kubernetes."
)
@setting("--cluster", type=CLUSTER, default="", help="This cluster's name.")
@topic_prefix_setting
@setting("--file", type=click.Path(path_type=Path), default=None, help="Capture file of --source pcap.")
@setting("--seed", type=click.IntRange(0), default=1, help="Seed of --source synthetic.")
@metrics_settings
def command(
    kafka: str,
    kafka_security: KafkaSecurity,
    source: SourceName,
    interfaces: str,
    interval_s: float,
    keepalive_s: float,
    max_conversations: int,
    hand_over: bool,
    node: str,
    cluster: str,
    topic_prefix: str,
    file: Path | None,
    seed: int,
    metrics_at: MetricsAddress,
) -> None:
    """Turn packets into raw records and send them to the broker, until SIGTERM or Ctrl-C."""
    patterns = tuple(part.strip() for part in interfaces.split(",") if part.strip())
    if not patterns:
        raise ConfigurationError(
            f"--interfaces {interfaces!r}: no pattern; accepted: comma-separated, like cali*,veth*"
        )
    ebpf = EbpfSettings(node, patterns, interval_s, keepalive_s, max_conversations, hand_over)
    chosen = _source(source, ebpf, file, seed)
    finite = source == "pcap"
    # A file can wait for the broker; packets can't.
    patience_s, flush_s = (600.0, 60.0) if finite else (1.0, 3.0)
    settings = PublisherSettings(node, cluster, os.urandom(16), _SOURCES[source], patience_s=patience_s)
    client = kafka_security.client_arguments()
    sender = KafkaSender(kafka, topics.FLOWS_RAW.with_prefix(topic_prefix), client)
    how = RunSettings(interval_s, finite, flush_s)

    async def work(stage: Stage) -> None:
        await sender.start()
        try:
            await run(chosen, Publisher(settings, sender, stage.live), how, stage.stop, stage.ready)
        finally:
            await sender.stop()

    asyncio.run(run_stage(kafka, client, metrics_at, work))


def _source(name: SourceName, ebpf: EbpfSettings, file: Path | None, seed: int) -> RecordSource:
    if name == "ebpf":
        return EbpfSource(ebpf)
    if name == "synthetic":
        log.warning("SYNTHETIC traffic: made up from a seed, not measured")
        return SyntheticSource(SyntheticSettings(seed), SystemClock())
    if file is None:
        raise ConfigurationError("--source pcap needs --file; accepted: the path of a pcap or pcapng file")
    capture = PcapSource(PcapSettings(file, ebpf.interval_s, ebpf.keepalive_s, ebpf.max_conversations))
    capture.start()  # a file that can't be read is the user's to mend first, broker or not
    return capture
