"""Faust as the stages use it: an app that reads raw messages of topics and acknowledges them when it is told to."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mode.utils.times import Seconds

with warnings.catch_warnings():
    # Faust imports modules that newer Pythons deprecate; nothing of ours is to be learnt from it.
    warnings.simplefilter("ignore")
    import faust
    from faust.tables import TableManager
    from faust.types.auth import CredentialsT  # noqa: TC002 - loads faust's lazy modules inside this block

HEARTBEAT_S: Final = 0.5
"""Members of a group hear of a change by their heartbeats, and nothing is read until the last of them has heard."""


class NoTables(TableManager):
    """Faust waits a second for tables to be declared before it joins the group; there are none here."""

    async def sleep(self, n: Seconds) -> None:
        """Let others go on, no longer; only the wait at start calls this."""
        del n
        await super().sleep(0)


def raw_app(
    group: str,
    kafka: str,
    datadir: Path | str,
    *,
    session_timeout_s: int,
    fetch_bytes: int,
    buffered_events: int,
    client: Mapping[str, Any],
) -> faust.App:
    """A Faust app without tables, changelog or web server.

    Args:
        group: consumer group; the apps of one group share the partitions.
        kafka: ``host:port`` of the brokers.
        datadir: where Faust may keep files; nothing in it is needed again.
        session_timeout_s: seconds after which a dead app's partitions go to others.
        fetch_bytes: that one partition gives in one answer of the broker.
        buffered_events: that wait in a stream before no more is read.
        client: TLS and SASL arguments of aiokafka.
    """
    return faust.App(
        group,
        broker=f"kafka://{kafka}",
        broker_credentials=credentials(client),
        store="memory://",
        TableManager=NoTables,
        datadir=str(datadir),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=fetch_bytes,
        stream_wait_empty=False,
        stream_buffer_maxsize=buffered_events,
        key_serializer="raw",
        value_serializer="raw",
        autodiscover=False,
    )


def raw_channel(app: faust.App, topics: Iterable[str]) -> Any:
    """The topics' messages as bytes, for an agent."""
    return app.topic(*topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def credentials(client: Mapping[str, Any]) -> CredentialsT | None:
    """Faust's form of aiokafka's arguments; None for a plain connection."""
    context = client.get("ssl_context")
    if "sasl_mechanism" in client:
        return faust.SASLCredentials(
            username=client["sasl_plain_username"], password=client["sasl_plain_password"],
            mechanism=client["sasl_mechanism"], ssl_context=context,
        )  # fmt: skip
    return None if context is None else faust.SSLCredentials(context)
