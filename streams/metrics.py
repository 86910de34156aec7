"""The metrics of the stream stage."""

from __future__ import annotations

from typing import Final

from tierflow.schemas.metrics import counter, gauge, histogram

BATCHES: Final = counter("tierflow_stream_read_batches_total", "batches", "Raw batches read.")
RECORDS: Final = counter("tierflow_stream_read_records_total", "records", "Raw records taken in.")
DUPLICATES: Final = counter(
    "tierflow_stream_duplicate_batches_total", "batches", "Raw batches seen before and left out."
)
LATE: Final = counter(
    "tierflow_stream_late_records_total", "records", "Records that came after their window was written."
)
REJECTED: Final = counter(
    "tierflow_stream_rejected_batches_total", "batches", "Raw batches that can't be used.", "reason"
)
REJECTED_RECORDS: Final = counter(
    "tierflow_stream_rejected_records_total", "records", "Records left out of batches that were used.", "reason"
)
LOST: Final = counter(
    "tierflow_stream_loss_events_total", "events", "Times at which something is known to be missing.", "reason"
)
LOST_BATCHES: Final = counter("tierflow_stream_lost_batches_total", "batches", "Batches that never came.")
LOST_RECORDS: Final = counter(
    "tierflow_stream_lost_records_total", "records", "Conversations that collectors could not keep."
)
JOINED_EARLY: Final = counter(
    "tierflow_stream_joined_early_batches_total", "batches",
    "Batches that were joined before the inventory had caught up with them.",
)  # fmt: skip
UNKNOWN: Final = counter(
    "tierflow_stream_unknown_address_rows_total", "rows",
    "Ends of address pairs, once a window, with a private address that belongs to nobody known.",
)  # fmt: skip
LOGS: Final = counter("tierflow_stream_flow_logs_total", "logs", "Flow logs written.")
COUNTERS: Final = counter("tierflow_stream_policy_counters_total", "records", "Policy counters written.")
WINDOWS: Final = counter("tierflow_stream_windows_total", "windows", "Windows written.")
PARTS: Final = counter(
    "tierflow_stream_window_parts_total", "parts", "Parts of windows written early: more connections than the bound."
)
REOPENED: Final = counter(
    "tierflow_stream_reopened_partitions_total", "partitions", "Partitions taken up, at start or after a rebalance."
)
LAG: Final = gauge("tierflow_stream_lag_messages", "messages", "Raw batches not yet read.", "partition")
OPEN_WINDOWS: Final = gauge("tierflow_stream_open_windows", "windows", "Windows waiting for their end.")
WAITING: Final = gauge(
    "tierflow_stream_waiting_bytes", "bytes", "Raw batches read and not yet worked on; past the bound no more is read."
)
PAUSED: Final = counter(
    "tierflow_stream_paused_seconds_total", "seconds",
    "Time in which nothing was read because too much waited: the output or this worker is too slow.",
)  # fmt: skip
UNSETTLED: Final = gauge(
    "tierflow_stream_unsettled_batches", "batches", "Batches that would be read again after a crash."
)
DELAY: Final = histogram(
    "tierflow_stream_window_delay_seconds", "seconds", "From the end of a window to its flow logs in the topic.",
    buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300),
)  # fmt: skip
RULE_CONNECTIONS: Final = counter(
    "tierflow_policy_rule_connections_total", "connections", "Connections by policy rule.",
    "tier", "policy", "rule_index", "rule_direction", "action",
)  # fmt: skip
RULE_PACKETS: Final = counter(
    "tierflow_policy_rule_packets_total", "packets", "Packets by policy rule, both ways.",
    "tier", "policy", "rule_index", "rule_direction", "action",
)  # fmt: skip
RULE_BYTES: Final = counter(
    "tierflow_policy_rule_bytes_total", "bytes", "Bytes by policy rule, both ways.",
    "tier", "policy", "rule_index", "rule_direction", "action",
)  # fmt: skip
POLICY_UNKNOWNS: Final = gauge(
    "tierflow_policy_unknowns", "things",
    "What rules in force depend on and isn't known (Services without backends, domain names, HTTP conditions): "
    "verdicts that hang on it may be wrong.",
    "kind",
)  # fmt: skip
POLICY_ENDPOINTS: Final = gauge(
    "tierflow_policy_endpoints", "endpoints", "Endpoints that a policy applies to, by the newest window.",
    "tier", "policy", "rule_direction",
)  # fmt: skip
