"""A capture file as a source: the same records as the live one makes of the same packets, at the file's own pace."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.collector.capture import TruncatedError, frames
from tierflow.collector.conversations import Conversations
from tierflow.collector.drain import ESTABLISHED_S
from tierflow.collector.packet import CutShortError, parse
from tierflow.collector.source import Drain, Loss
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tierflow.collector.capture import Frame

_log = logging.getLogger(__name__)

END_S: Final = ESTABLISHED_S
"""How far past its last packet a finished file moves the watermark: nothing more comes, so every window may close."""


@dataclass(frozen=True, slots=True)
class PcapSettings:
    """Which file, and how it is cut into intervals; see ``EbpfSettings`` for the last three."""

    file: Path
    interval_s: float
    keepalive_s: float
    max_conversations: int


class PcapSource:
    """Reads a capture file once; intervals follow the packets' times, which may step back a little."""

    def __init__(self, settings: PcapSettings) -> None:
        self._settings = settings
        self._conversations = Conversations(settings.max_conversations)
        self._interval_ns = int(settings.interval_s * NS_PER_S)
        self._keepalive_ns = int(settings.keepalive_s * NS_PER_S)
        self._loss = Loss()
        self._newest_ns = 0
        self._span = -1

    def start(self) -> None:
        """Look at the file, so that one that can't be read is refused before anything is sent.

        Raises:
            ConfigurationError: it can't be opened, is no capture, or has a link type that isn't read.
        """
        try:
            next(frames(self._settings.file), None)
        except TruncatedError:
            return  # the drain says so, after what is good of it

    def drain(self) -> Iterator[Drain]:
        """The whole file, an interval at a time.

        Raises:
            TruncatedError: the file ends within a packet; raised after the records of the packets before it.
        """
        begin_ns = end_ns = 0
        damage: TruncatedError | None = None
        source = frames(self._settings.file)
        while True:
            try:
                frame = next(source, None)
            except TruncatedError as error:
                damage, frame = error, None
            if frame is None:
                break
            if not end_ns:
                begin_ns, end_ns = frame.time_ns, frame.time_ns + self._interval_ns
            while frame.time_ns >= end_ns:
                yield self._interval(begin_ns, end_ns)
                begin_ns, end_ns = end_ns, end_ns + self._interval_ns
                if not self._conversations.open:  # nothing can happen until the next packet, however late it is
                    end_ns += max(frame.time_ns - begin_ns, 0) // self._interval_ns * self._interval_ns
            if len(self._conversations) >= self._settings.max_conversations:
                until_ns = max(self._newest_ns, begin_ns)
                yield self._interval(begin_ns, until_ns)
                begin_ns = until_ns
            self._add(frame)
        until_ns = max(self._newest_ns + 1, begin_ns)
        yield self._interval(begin_ns, until_ns)
        if self._newest_ns:
            yield Drain(np.zeros(0, RECORD), until_ns, until_ns, until_ns + END_S * NS_PER_S)
        if damage is not None:
            raise damage

    def stop(self) -> None:
        """Nothing is held."""

    def _add(self, frame: Frame) -> None:
        self._newest_ns = max(self._newest_ns, frame.time_ns)
        try:
            packet = parse(frame)
        except CutShortError:
            if not self._loss.packets:
                _log.warning("%s: frames were cut within their headers; they count as lost", self._settings.file)
            self._loss += Loss(0, 1, frame.length)
            return
        if packet is not None:
            self._conversations.add(packet, frame.time_ns)

    def _interval(self, begin_ns: int, end_ns: int) -> Drain:
        records = self._conversations.take()
        loss, self._loss = self._loss, Loss()
        span = end_ns // self._keepalive_ns
        alive = span != self._span and (span + 1) * self._keepalive_ns - end_ns <= 1.5 * self._interval_ns
        if alive:
            self._span = span
        swept = self._conversations.sweep(end_ns, span * self._keepalive_ns if alive else None)
        # Files aren't always in order: what is up to one interval late is still before no watermark.
        watermark_ns = max(end_ns - self._interval_ns, 0)
        return Drain(np.concatenate([records, swept]), begin_ns, end_ns, watermark_ns, loss)
