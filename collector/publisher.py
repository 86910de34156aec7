"""Sends drained records to ``flows.raw`` in batches; what can't be sent is counted, and said in the next header."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from tierflow.collector.source import Drain, Loss
from tierflow.schemas import metrics
from tierflow.schemas.errors import TransientError
from tierflow.schemas.wire import DEFAULT_RECORDS, BatchHeader, Source, encode_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

RECORDS_SENT: Final = metrics.counter(
    "tierflow_collector_records_sent_total", "records", "Raw records that the broker acknowledged."
)
BATCHES_SENT: Final = metrics.counter(
    "tierflow_collector_batches_sent_total", "batches", "Batches that the broker acknowledged."
)
RECORDS_LOST: Final = metrics.counter(
    "tierflow_collector_records_lost_total", "records", "Records lost to a full map or a full buffer."
)
SEND_FAILURES: Final = metrics.counter(
    "tierflow_collector_send_failures_total", "attempts", "Attempts to send a batch that failed and were repeated."
)
BUFFERED_BYTES: Final = metrics.gauge("tierflow_collector_buffered_bytes", "bytes", "Batches that wait for the broker.")

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0


class Sender(Protocol):
    """Takes one message to the topic."""

    async def send(self, key: bytes, value: bytes) -> None:
        """Return when the broker has it.

        Raises:
            TransientError: it hasn't, and the same call may work later.
        """
        ...


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """Who publishes, and how much may wait.

    Attributes:
        node: node name; the messages' key.
        cluster: cluster name.
        boot_id: 16 bytes, new at every start.
        source: how the records came to be.
        buffer_bytes: batches beyond this are dropped, and counted as lost.
        patience_s: how long an offer waits for room before it drops.
    """

    node: str
    cluster: str
    boot_id: bytes
    source: Source
    buffer_bytes: int = 48 * 1024 * 1024
    patience_s: float = 1.0


@dataclass(frozen=True, slots=True)
class _Message:
    value: bytes
    records: int


class Publisher:
    """A bounded queue of encoded batches and the one task that empties it, in order."""

    def __init__(self, settings: PublisherSettings, sender: Sender, measured: metrics.Metrics) -> None:
        self._settings = settings
        self._sender = sender
        self._metrics = measured
        self._queue: deque[_Message] = deque()
        self._queued_bytes = 0
        self._changed = asyncio.Condition()
        self._sequence = 0
        self._loss = Loss()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the broker."""
        return self._queued_bytes

    async def offer(self, drain: Drain) -> None:
        """Queue a drained part in batches; those without room within the patience become a loss."""
        self._lost(drain.loss)
        # One patience for all of it: a broker that is away must not keep the kernel's maps from being drained.
        until_s = asyncio.get_running_loop().time() + self._settings.patience_s
        parts = [drain.records[at : at + DEFAULT_RECORDS] for at in range(0, len(drain.records), DEFAULT_RECORDS)] or [
            drain.records
        ]
        for index, records in enumerate(parts):
            header = BatchHeader(
                self._settings.node, self._settings.cluster, self._settings.boot_id, self._sequence,
                drain.interval_start_ns, drain.interval_end_ns,
                # Earlier parts may be followed by older records: only the last one moves the watermark.
                drain.watermark_ns if index == len(parts) - 1 else 0,
                self._loss.records, self._loss.packets, self._loss.bytes, self._settings.source,
            )  # fmt: skip
            value = encode_batch(header, records)
            if not await self._has_room(len(value), until_s):
                self._lost(_as_loss(records))
                continue
            # A number is spent only on a batch that is kept: what was dropped is a loss, not a gap as well.
            self._sequence += 1
            self._loss = Loss()
            async with self._changed:
                self._queue.append(_Message(value, len(records)))
                self._queued_bytes += len(value)
                self._changed.notify_all()

    async def run(self) -> None:
        """Send what is queued until cancelled; a failed send is repeated with back-off and jitter."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._queue))
                message = self._queue[0]
            await self._send(message)
            async with self._changed:
                self._queue.popleft()
                self._queued_bytes -= len(message.value)
                self._changed.notify_all()
            self._metrics.add(BATCHES_SENT)
            self._metrics.add(RECORDS_SENT, message.records)
            self._metrics.set(BUFFERED_BYTES, self._queued_bytes)

    async def flush(self, timeout_s: float) -> int:
        """Wait until the queue is empty; returns the records that still wait after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: not self._queue)
        except TimeoutError:
            return sum(message.records for message in self._queue)
        return 0

    async def _has_room(self, size: int, until_s: float) -> bool:
        if self._queued_bytes + size <= self._settings.buffer_bytes:
            return True
        try:
            async with asyncio.timeout_at(until_s), self._changed:
                await self._changed.wait_for(lambda: self._queued_bytes + size <= self._settings.buffer_bytes)
        except TimeoutError:
            return False
        return True

    async def _send(self, message: _Message) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                await self._sender.send(self._settings.node.encode(), message.value)
            except TransientError as error:
                self._metrics.add(SEND_FAILURES)
                if wait_s == FIRST_WAIT_S:
                    _log.warning("batch not sent, trying again: %s", error)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            else:
                return

    def _lost(self, loss: Loss) -> None:
        self._loss += loss
        if loss.records:
            self._metrics.add(RECORDS_LOST, loss.records)


def _as_loss(records: NDArray[np.void]) -> Loss:
    packets = records["packets_fwd"].sum(dtype=np.uint64) + records["packets_rev"].sum(dtype=np.uint64)
    size = records["bytes_fwd"].sum() + records["bytes_rev"].sum()
    return Loss(len(records), int(packets), int(size))
