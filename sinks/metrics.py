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
