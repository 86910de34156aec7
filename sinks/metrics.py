"""What the sinks count."""

from __future__ import annotations

from typing import Final

from tierflow.schemas.metrics import counter, gauge

DOCUMENTS: Final = counter(
    "tierflow_sink_documents_total",
    "documents",
    "Documents read from a topic, by what became of them.",
    "topic",
    "result",
)
FAILURES: Final = counter("tierflow_sink_failures_total", "writes", "Writes that the store refused or that failed.")
LAG: Final = gauge(
    "tierflow_sink_lag_messages", "messages", "Messages between the sink's position and the end.", "topic"
)
RETRIES: Final = counter("tierflow_sink_retries_total", "retries", "Writes that were tried again, by cause.", "cause")
STORE_UP: Final = gauge(
    "tierflow_sink_store_up", "bool", "1 while the store takes documents, 0 while the sink waits for it."
)
PENDING_BYTES: Final = gauge(
    "tierflow_sink_pending_bytes", "bytes", "Bytes of documents read from Kafka and not yet in the store."
)
FORGOTTEN: Final = counter("tierflow_sink_forgotten_indices_total", "indices", "Indices deleted by retention.")
FORGOTTEN_DOCUMENTS: Final = counter(
    "tierflow_sink_forgotten_documents_total", "documents", "Documents deleted by the embedded store's retention."
)
REPEATED: Final = counter(
    "tierflow_sink_repeated_documents_total", "documents", "Documents that came again and were in the store already."
)
