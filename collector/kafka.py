"""The Kafka end of the publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tierflow.schemas.errors import TransientError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tierflow.schemas.topics import Topic


class KafkaSender:
    """Sends each message and waits for the broker's acknowledgement."""

    def __init__(self, bootstrap: str, topic: Topic, security: Mapping[str, Any]) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self.security = security
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            UnavailableError: no broker answers.
        """
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            request_timeout_ms=10_000,
            max_request_size=self._topic.max_message_bytes,
            **self.security,
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self.stop()
            raise UnavailableError(
                f"--kafka {self._bootstrap}: no Kafka broker answers there ({type(error).__name__})"
            ) from error

    async def send(self, key: bytes, value: bytes) -> None:
        """Return when the broker has the message."""
        if self._producer is None:
            raise TransientError("not connected")
        try:
            await self._producer.send_and_wait(self._topic.name, value, key=key)
        except (KafkaError, OSError) as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None
