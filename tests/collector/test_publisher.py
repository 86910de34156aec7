"""The publisher against a broker that answers, fails for a while, or is dead; and every metric that it moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from tierflow.collector import publisher as module
from tierflow.collector.publisher import Publisher, PublisherSettings
from tierflow.collector.source import Drain, Loss
from tierflow.schemas.errors import TransientError
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import RECORD
from tierflow.schemas.wire import Batch, Source, decode_batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


class FlakyBroker:
    """Refuses the first ``failures`` messages, and keeps the others."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[Batch] = []

    async def send(self, key: bytes, value: bytes) -> None:
        assert key == b"node"
        if self.failures:
            self.failures -= 1
            raise TransientError("refused")
        self.batches.append(decode_batch(value))


class DeadBroker:
    """Takes a message and never answers."""

    async def send(self, key: bytes, value: bytes) -> None:
        await asyncio.Event().wait()


def drain(count: int, loss: Loss = Loss()) -> Drain:  # noqa: B008 - frozen
    records = np.zeros(count, RECORD)
    records["packets_fwd"], records["bytes_rev"] = 2, 100
    return Drain(records, 10, 20, 20, loss)


def settings(buffer_bytes: int = 1 << 20) -> PublisherSettings:
    return PublisherSettings("node", "", bytes(16), Source.EBPF, buffer_bytes, patience_s=0.01)


def value(measured: Metrics, name: str) -> float:
    return measured.registry.get_sample_value(name) or 0.0


async def publishing(publisher: Publisher, work: Callable[[], Awaitable[None]]) -> int:
    """Run ``work`` while the publisher sends; the records that are left after a flush."""
    sending = asyncio.create_task(publisher.run())
    try:
        await work()
        return await publisher.flush(5)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def test_a_refused_batch_is_sent_again_in_order_and_each_attempt_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    broker, measured = FlakyBroker(failures=3), Metrics()
    publisher = Publisher(settings(), broker, measured)

    async def work() -> None:
        await publisher.offer(drain(5))
        await publisher.offer(drain(0))
        await publisher.offer(drain(7))

    assert asyncio.run(publishing(publisher, work)) == 0
    assert [(each.header.sequence, len(each.records)) for each in broker.batches] == [(0, 5), (1, 0), (2, 7)]
    assert value(measured, "tierflow_collector_send_failures_total") == 3
    assert value(measured, "tierflow_collector_records_sent_total") == 12
    assert value(measured, "tierflow_collector_batches_sent_total") == 3
    assert value(measured, "tierflow_collector_records_lost_total") == 0


def test_what_a_dead_broker_leaves_no_room_for_is_dropped_counted_and_said_in_the_next_header() -> None:
    measured = Metrics()
    one = 8 * RECORD.itemsize + 200

    async def fill() -> Publisher:
        publisher = Publisher(settings(buffer_bytes=2 * one), DeadBroker(), measured)
        for _ in range(5):
            await publisher.offer(drain(8))
        return publisher

    publisher = asyncio.run(fill())
    assert publisher.buffered_bytes <= 2 * one
    assert value(measured, "tierflow_collector_records_lost_total") == 24

    async def recover() -> list[Batch]:
        broker = FlakyBroker()
        again = Publisher(settings(buffer_bytes=2 * one), broker, measured)
        for _ in range(3):
            await again.offer(drain(8))

        async def work() -> None:
            await again.flush(5)
            await again.offer(drain(1))

        assert await publishing(again, work) == 0
        return broker.batches

    batches = asyncio.run(recover())
    assert [each.header.sequence for each in batches] == [0, 1, 2]
    last = batches[-1].header
    assert (last.lost_records, last.lost_packets, last.lost_bytes) == (8, 16, 800)


def test_a_dead_broker_holds_a_whole_drain_up_once_not_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_RECORDS", 1)
    measured = Metrics()

    async def fill() -> None:
        patient = PublisherSettings("node", "", bytes(16), Source.EBPF, buffer_bytes=0, patience_s=0.5)
        async with asyncio.timeout(20):  # once a batch would be a hundred seconds
            await Publisher(patient, DeadBroker(), measured).offer(drain(200))

    asyncio.run(fill())
    assert value(measured, "tierflow_collector_records_lost_total") == 200


def test_the_kernels_own_loss_goes_into_the_header_of_its_drain() -> None:
    broker, measured = FlakyBroker(), Metrics()
    publisher = Publisher(settings(), broker, measured)

    async def work() -> None:
        await publisher.offer(drain(1, Loss(3, 30, 300)))
        await publisher.offer(drain(1))

    asyncio.run(publishing(publisher, work))
    first, second = (each.header for each in broker.batches)
    assert (first.lost_records, first.lost_packets, first.lost_bytes) == (3, 30, 300)
    assert (second.lost_records, second.lost_packets, second.lost_bytes) == (0, 0, 0)
    assert value(measured, "tierflow_collector_records_lost_total") == 3


def test_a_drain_larger_than_a_message_is_split_and_only_its_last_part_moves_the_watermark() -> None:
    broker = FlakyBroker()
    publisher = Publisher(settings(buffer_bytes=1 << 24), broker, Metrics())
    asyncio.run(publishing(publisher, lambda: publisher.offer(drain(20_000))))
    assert [len(each.records) for each in broker.batches] == [8_192, 8_192, 3_616]
    assert [each.header.watermark_ns for each in broker.batches] == [0, 0, 20]


def test_the_buffer_gauge_follows_what_waits() -> None:
    measured = Metrics()
    broker = FlakyBroker()
    waiting: list[float] = []

    async def note(key: bytes, message: bytes) -> None:
        waiting.append(value(measured, "tierflow_collector_buffered_bytes"))
        await FlakyBroker.send(broker, key, message)

    broker.send = note  # type: ignore[method-assign]
    publisher = Publisher(settings(), broker, measured)

    async def work() -> None:
        for _ in range(3):
            await publisher.offer(drain(8))

    asyncio.run(publishing(publisher, work))
    assert waiting[1] > waiting[2] > 0
    assert value(measured, "tierflow_collector_buffered_bytes") == 0
