"""The flow log: fields by the names and types of Calico's flow logs, and tierflow's own.

Source of names and types: Calico Enterprise, "Flow log data types".
``in`` and ``out`` are seen from the reporting endpoint.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tierflow.schemas.fields import Field, FieldType


class Evidence(StrEnum):
    """What the packets say about the verdict."""

    ENFORCED = "enforced"
    """Denied, and nothing reached the other side or came back."""
    LEAK = "leak"
    """Denied by policy, and yet a packet reached the pod or was answered."""
    ANSWERED = "answered"
    """Allowed, and answered; a question of the window's last second also by the next window."""
    UNANSWERED = "unanswered"
    """Allowed, and nothing came back."""
    UNKNOWN = "unknown"
    """No packet in this window that could tell: none at all, or bare TCP acknowledgements and resets."""


class EndpointType(StrEnum):
    """What stands at one end of a flow."""

    WEP = "wep"
    """Workload endpoint: a pod."""
    HEP = "hep"
    """Host endpoint: a node."""
    NS = "ns"
    """Network set."""
    NET = "net"
    """Any other address."""


ABSENT: Final = "-"
"""What a keyword says that doesn't apply or was aggregated away."""

_K, _L = FieldType.KEYWORD, FieldType.LONG


def _ends(
    name: str, kind: FieldType, about: str, *, nullable: bool = False, values: tuple[str, ...] = ()
) -> list[Field]:
    return [
        Field(f"{prefix}_{name}", kind, about.format(end=end), nullable, values)
        for prefix, end in (("source", "source"), ("dest", "destination"))
    ]


def _later(name: str, kind: FieldType, about: str) -> Field:
    return Field(name, kind, f"{about} Not collected yet: always null.", nullable=True, collected=False)


FIELDS: Final[tuple[Field, ...]] = (
    Field("id", _K, "Document id: a hash of cluster, node, window and aggregation key; a replay writes the same."),
    Field("start_time", FieldType.DATE_S, "Start of the aggregation window, Unix seconds."),
    Field("end_time", FieldType.DATE_S, "End of the aggregation window, Unix seconds."),
    Field("@timestamp", FieldType.DATE_MS, "End of the window in milliseconds: the event time."),
    Field("cluster", _K, "Cluster name; empty when there is only one."),
    Field("host", _K, "Node that saw the packets."),
    Field(
        "reporter",
        _K,
        "Side that reports: src saw the flow leave its source, dst saw it reach its destination.",
        False,
        ("src", "dst", "fwd"),
    ),
    Field("action", _K, "Final verdict of the policies on the reporter's side.", False, ("allow", "deny")),
    Field(
        "evidence",
        _K,
        "Whether the packets agree with the verdict: a leak was denied and yet passed, unanswered was allowed and "
        "nothing came back, unknown had no packet that asks for an answer.",
        False,
        tuple(Evidence),
    ),
    Field(
        "derived",
        FieldType.BOOLEAN,
        "True for a destination's denial concluded from the source's record, as no packet arrived.",
    ),
    Field("late", FieldType.BOOLEAN, "True when its records came after the window was flushed; adds to that window."),
    Field("aggregation_level", _L, "0 to 3: what was merged, from nothing to pod prefixes without ports."),
    Field("proto", _K, "Protocol: tcp, udp, icmp, icmp6, sctp, ipip, esp, or its number."),
    *_ends("ip", FieldType.IP, "Address of the {end}; null when aggregated away.", nullable=True),
    *_ends("name", _K, "Pod name of the {end}; '-' when aggregated or not a pod."),
    *_ends("name_aggr", _K, "Aggregated name of the {end}: pod prefix with '*', node, network set, pub or pvt."),
    *_ends("namespace", _K, "Namespace of the {end}; '-' when it has none."),
    *_ends(
        "type",
        _K,
        "Kind of the {end}: wep pod, hep node, ns network set, net any other address.",
        values=tuple(EndpointType),
    ),
    Field("source_port", _L, "Source port; null when aggregated.", nullable=True),
    Field("dest_port", _L, "Destination port as the pod sees it; null for ICMP and when aggregated.", nullable=True),
    *_ends("labels.labels", FieldType.KEYWORDS, "Labels key=value that every endpoint merged into the {end} has."),
    Field("dest_service_namespace", _K, "Namespace of the Service that was addressed; '-' if none."),
    Field("dest_service_name", _K, "Name of the Service that was addressed; '-' if none."),
    Field("dest_service_port", _K, "Port name of that Service; '*' when several names match, '-' if none."),
    Field("dest_service_port_name", _K, "The same as dest_service_port, under its later name."),
    Field("dest_service_port_num", _L, "Port number of that Service, before translation.", nullable=True),
    Field("num_flows", _L, "Distinct connections active at any time in the window."),
    Field("num_flows_started", _L, "Connections that began in the window."),
    Field("num_flows_completed", _L, "Connections that ended in the window."),
    Field("packets_in", _L, "Packets towards the reporting endpoint."),
    Field("packets_out", _L, "Packets from the reporting endpoint."),
    Field("bytes_in", _L, "Bytes (IP length) towards the reporting endpoint."),
    Field("bytes_out", _L, "Bytes (IP length) from the reporting endpoint."),
    Field(
        "policies.all_policies", FieldType.KEYWORDS, "Enforced and staged hits: index|tier|policy|action|rule index."
    ),
    Field("policies.enforced_policies", FieldType.KEYWORDS, "Hits of the enforced policies that decided."),
    Field("policies.pending_policies", FieldType.KEYWORDS, "Hits as they would be were staged policies enforced."),
    Field(
        "handshake_rtt_mean_us",
        _L,
        "Mean time from SYN to SYN-ACK in microseconds; null without a handshake.",
        nullable=True,
    ),
    Field("handshake_rtt_max_us", _L, "Longest time from SYN to SYN-ACK in microseconds.", nullable=True),
    *_ends("ips", FieldType.IPS, "Sample of the addresses merged into the {end}."),
    Field("num_source_ips", _L, "Distinct source addresses, including those beyond the sample."),
    Field("num_dest_ips", _L, "Distinct destination addresses, including those beyond the sample."),
    _later("dest_domains", FieldType.KEYWORDS, "Domain names linked to the destination."),
    _later("nat_outgoing_ports", FieldType.LONGS, "Source ports after source translation."),
    _later("original_source_ips", FieldType.IPS, "Clients behind an ingress."),
    _later("num_original_source_ips", _L, "Number of clients behind an ingress."),
    _later("http_requests_allowed_in", _L, "HTTP requests allowed."),
    _later("http_requests_denied_in", _L, "HTTP requests denied."),
    _later("process_name", _K, "Executable of the reporting endpoint."),
    _later("process_id", _K, "Process id of the reporting endpoint."),
    _later("process_args", FieldType.KEYWORDS, "Arguments of the process."),
    _later("num_process_names", _L, "Distinct process names."),
    _later("num_process_ids", _L, "Distinct process ids."),
    _later("num_process_args", _L, "Distinct argument lists."),
    _later("tcp_mean_send_congestion_window", _L, "Mean TCP send window."),
    _later("tcp_min_send_congestion_window", _L, "Smallest TCP send window."),
    _later("tcp_mean_smooth_rtt", _L, "Mean smoothed RTT, microseconds."),
    _later("tcp_max_smooth_rtt", _L, "Longest smoothed RTT, microseconds."),
    _later("tcp_mean_min_rtt", _L, "Mean of the least RTT, microseconds."),
    _later("tcp_max_min_rtt", _L, "Longest of the least RTT, microseconds."),
    _later("tcp_mean_mss", _L, "Mean segment size."),
    _later("tcp_min_mss", _L, "Smallest segment size."),
    _later("tcp_total_retransmissions", _L, "Retransmitted segments."),
    _later("tcp_lost_packets", _L, "Lost packets."),
    _later("tcp_unrecovered_to", _L, "Timeouts without recovery."),
)
"""All fields of a flow log, in the order in which they are shown."""

FIELD_NAMES: Final = tuple(field.name for field in FIELDS)
