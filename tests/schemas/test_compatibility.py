"""This version reads what earlier ones wrote to the topics, and writes what the last of them can read.

``recorded/<version>/`` holds each version's own bytes (recording.py). A topic's name ends in its schema version, so a
change that these tests refuse is a new topic beside the old one.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.schemas.recording import inventory_messages, meaning, recording
from tests.streams.scene import Run
from tierflow.inventory.history import History
from tierflow.schemas import topics
from tierflow.schemas.inventory import Heartbeat, decode_message
from tierflow.sinks.documents import FLOW_LOG_TYPES, LOSS_TYPES, POLICY_COUNTER_TYPES, flatten, nest
from tierflow.streams.core.messages import Message

RECORDED = sorted((Path(__file__).parent / "recorded").iterdir())
DOCUMENTS = {
    topics.FLOWS_LOGS.name: FLOW_LOG_TYPES,
    topics.POLICY_COUNTERS.name: POLICY_COUNTER_TYPES,
    topics.FLOWS_LOSS.name: LOSS_TYPES,
}

pytestmark = pytest.mark.parametrize("version", RECORDED, ids=lambda path: path.name)


def messages(version: Path, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    lines = [json.loads(line) for line in (version / f"{topic}.jsonl").read_text().splitlines()]
    return [
        (
            None if line["key"] is None else line["key"].encode(),
            None if line["value"] is None else base64.b64decode(line["value"]),
        )
        for line in lines
    ]


def test_every_topic_of_that_version_is_still_there(version: Path) -> None:
    assert {path.stem for path in version.glob("*.jsonl")} <= {topic.name for topic in topics.ALL}


def test_its_raw_batches_mean_what_they_meant(version: Path) -> None:
    now = [meaning(value) for _, value in messages(version, topics.FLOWS_RAW.name) if value is not None]
    assert json.loads(json.dumps(now)) == json.loads((version / "meaning.json").read_text())


def test_its_inventory_makes_the_same_messages(version: Path) -> None:
    read = [decode_message(key, value) for key, value in messages(version, topics.INVENTORY.name)]
    assert read == inventory_messages()


def test_its_documents_are_taken_whole_by_the_sinks(version: Path) -> None:
    for topic, types in DOCUMENTS.items():
        found = messages(version, topic)
        assert found
        for _, value in found:
            document = json.loads(value or b"")
            assert nest(flatten(document, types)) == document


def test_a_worker_of_now_makes_flow_logs_of_its_raw_batches_and_its_inventory(version: Path) -> None:
    history = History()
    for key, value in messages(version, topics.INVENTORY.name):
        history.apply(decode_message(key, value))
    raw = messages(version, topics.FLOWS_RAW.name)
    batches = [Message(0, offset, 1_780_000_050_000, key, value or b"") for offset, (key, value) in enumerate(raw)]
    run = Run(history=history).feed(*batches)
    assert run.rejected == []
    recorded = [json.loads(value or b"") for _, value in messages(version, topics.FLOWS_LOGS.name)]
    for name in ("packets_in", "packets_out", "bytes_in", "bytes_out", "num_flows"):
        assert sum(log[name] for log in run.all_logs()) == sum(log[name] for log in recorded)


def shape(document: Any) -> Any:
    """Names and kinds of a document's fields; null fits any kind."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    return None if document is None else type(document).__name__


def covers(newer: Any, older: Any) -> bool:
    """Whether whoever knows the older shape finds all of it in the newer one."""
    if isinstance(older, dict):
        return isinstance(newer, dict) and all(name in newer and covers(newer[name], older[name]) for name in older)
    return older is None or newer is None or newer == older


def test_what_is_written_now_has_all_that_a_reader_of_that_version_looks_for(version: Path) -> None:
    """A rollback, and the time in which both versions run: the older one reads what the newer one wrote."""
    now = recording()
    assert now[topics.FLOWS_RAW.name] == messages(version, topics.FLOWS_RAW.name)
    for topic in (*DOCUMENTS, topics.DEAD_LETTER.name, topics.INVENTORY.name):
        for (key, new), (old_key, old) in zip(now[topic], messages(version, topic), strict=True):
            assert key == old_key
            assert (new is None) == (old is None)
            if new is not None and old is not None:
                assert covers(shape(json.loads(new)), shape(json.loads(old))), topic


def test_a_heartbeat_of_that_version_still_hands_over_to_a_later_publisher(version: Path) -> None:
    read = [decode_message(key, value) for key, value in messages(version, topics.INVENTORY.name)]
    assert [each.epoch for each in read if isinstance(each, Heartbeat)] == [7]
