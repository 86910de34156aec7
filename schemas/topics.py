"""The topics: name with schema version, partition key, clean-up and retention.

A name ends in the schema's major version, so that a rolling upgrade runs both; a prefix is the operator's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

HOUR_MS: Final = 3_600_000
SEGMENT_MS: Final = 600_000
"""After which a compacted topic's segment is closed."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's contract.

    Attributes:
        name: full name, ending in ``.v<schema version>``.
        version: schema version of the messages.
        key: what the message key holds; equal keys stay on one partition, in order.
        partitions: number created by default.
        cleanup: Kafka's ``cleanup.policy``.
        retention_ms: Kafka's ``retention.ms``; -1 keeps for ever.
        max_message_bytes: Kafka's ``max.message.bytes``.
        timestamp: Kafka's ``message.timestamp.type``: when a message was made, or when the broker took it.
        about: one sentence for the documentation.
    """

    name: str
    version: int
    key: str
    partitions: int
    cleanup: Literal["delete", "compact", "compact,delete"]
    retention_ms: int
    about: str
    max_message_bytes: int = 1_048_588
    timestamp: Literal["CreateTime", "LogAppendTime"] = "CreateTime"

    @property
    def settings(self) -> dict[str, str]:
        """Kafka's configuration of the topic."""
        # Only closed segments are compacted; a reader's start goes through all that is not.
        rolled = {"segment.ms": str(SEGMENT_MS)} if "compact" in self.cleanup else {}
        return rolled | {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": self.timestamp,
        }

    def with_prefix(self, prefix: str) -> Topic:
        """The same topic under an operator's prefix, for instance ``prod.``."""
        return replace(self, name=prefix + self.name)


RAW_VERSION: Final = 1
FLOW_LOG_VERSION: Final = 1
POLICY_COUNTER_VERSION: Final = 1
INVENTORY_VERSION: Final = 1
LOSS_VERSION: Final = 1
DEAD_LETTER_VERSION: Final = 1

FLOWS_RAW: Final = Topic(
    "flows.raw.v1", RAW_VERSION, "node name", 8, "delete", HOUR_MS,
    "Batches of raw records: one conversation seen at one point in one interval each.",
    # Whether a node has fallen silent is told by the broker's clock, which never runs back within a partition.
    timestamp="LogAppendTime",
)  # fmt: skip
FLOWS_LOGS: Final = Topic(
    "flows.logs.v1", FLOW_LOG_VERSION, "node name", 8, "delete", 24 * HOUR_MS,
    "Flow logs as JSON, one a message; the same id is the same document.",
)  # fmt: skip
POLICY_COUNTERS: Final = Topic(
    "policy.counters.v1", POLICY_COUNTER_VERSION, "node name", 8, "delete", 24 * HOUR_MS,
    "Connections, packets and bytes per policy rule, direction, action and window, as JSON.",
)  # fmt: skip
FLOWS_LOSS: Final = Topic(
    "flows.loss.v1", LOSS_VERSION, "node name", 1, "delete", 24 * HOUR_MS,
    "What is known to be missing: sequence gaps, full maps, missed drains, as JSON.",
)  # fmt: skip
INVENTORY: Final = Topic(
    "inventory.v1", INVENTORY_VERSION, "object's kind, namespace, name and since when", 1, "compact", -1,
    "Versions of endpoints, namespaces, services, sets and policies with the time from which they hold, as JSON.",
)  # fmt: skip
DEAD_LETTER: Final = Topic(
    "dead-letter.v1", DEAD_LETTER_VERSION, "topic of origin", 1, "delete", 7 * 24 * HOUR_MS,
    "Messages that could not be used, with the reason, as JSON.",
)  # fmt: skip

ALL: Final = (FLOWS_RAW, FLOWS_LOGS, POLICY_COUNTERS, FLOWS_LOSS, INVENTORY, DEAD_LETTER)
