"""Flow-log columns to JSON documents with deterministic ids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
import orjson

from tierflow.schemas import flow_log
from tierflow.schemas.flow_log import ABSENT, EndpointType
from tierflow.schemas.record import Reporter, address_text, protocol_name
from tierflow.streams.core.aggregate import EVIDENCE
from tierflow.streams.core.join import DENY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import ServicePort, Snapshot
    from tierflow.streams.core.aggregate import Logs
    from tierflow.streams.core.entities import Ends, Traces
    from tierflow.streams.core.join import Joined

NOT_COLLECTED: Final = {field.name: None for field in flow_log.FIELDS if not field.collected}
_REPORTERS: Final = {int(each): each.label for each in Reporter}


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot number stands for.

    Attributes:
        cluster: cluster name.
        node: node name.
        start_s: start of the window.
        end_s: its end.
        late: ``""``, or what makes the late logs of one batch their own: its boot id and sequence.
    """

    cluster: str
    node: str
    start_s: int
    end_s: int
    late: str = ""


def document_id(*parts: object) -> str:
    """The id of a document: 32 hexadecimal digits of a hash over its key."""
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).hexdigest()


text_of = lru_cache(maxsize=65_536)(address_text)


def port_names(services: Sequence[ServicePort], wanted: NDArray[np.int32]) -> dict[int, str]:
    """The shown port name of each wanted Service port; ``*`` when several names share the number."""
    names: dict[tuple[str, str, int], set[str]] = {}
    for each in services:
        names.setdefault((each.namespace, each.name, each.port), set()).add(each.port_name)
    shown = {}
    for index in np.unique(wanted[wanted >= 0]).tolist():
        port = services[index]
        several = len(names[port.namespace, port.name, port.port]) > 1
        shown[index] = "*" if several else (port.port_name or ABSENT)
    return shown


def encode_logs(
    logs: Logs,
    slots: Sequence[Slot],
    rows: NDArray[np.void],
    joined: Joined,
    snapshot: Snapshot,
    ends: Ends,
    traces: Traces,
) -> Iterator[tuple[str, bytes]]:
    """``(node, JSON)`` of each flow log, in the order of ``logs``."""
    port_of = port_names(snapshot.services, logs.service)
    source_labels = _intersections(logs.source_labels, ends)
    dest_labels = _intersections(logs.dest_labels, ends)
    source_hi, source_lo = rows["src_hi"].tolist(), rows["src_lo"].tolist()
    dest_hi, dest_lo = joined.dst_hi.tolist(), joined.dst_lo.tolist()
    source_sample, source_at = logs.source_sample[0].tolist(), logs.source_sample[1].tolist()
    dest_sample, dest_at = logs.dest_sample[0].tolist(), logs.dest_sample[1].tolist()
    columns = zip(
        logs.slot.tolist(), logs.level.tolist(), logs.reporter.tolist(), logs.action.tolist(), logs.derived.tolist(),
        logs.evidence.tolist(), logs.proto.tolist(), logs.source.tolist(), logs.dest.tolist(),
        logs.source_name.tolist(), logs.dest_name.tolist(), logs.service.tolist(), logs.source_port.tolist(),
        logs.dest_port.tolist(), logs.trace.tolist(), logs.row.tolist(), logs.flows.tolist(), logs.started.tolist(),
        logs.completed.tolist(), logs.packets_in.tolist(), logs.packets_out.tolist(), logs.bytes_in.tolist(),
        logs.bytes_out.tolist(), logs.rtt_sum_us.tolist(), logs.rtt_count.tolist(), logs.rtt_max_us.tolist(),
        logs.source_ips.tolist(), logs.dest_ips.tolist(), strict=True,
    )  # fmt: skip
    for position, (
        slot_number, level, reporter, action, derived, evidence, proto, source, dest, source_name, dest_name, service,
        source_port, dest_port, trace, row, flows, started, completed, packets_in, packets_out, bytes_in, bytes_out,
        rtt_sum, rtt_count, rtt_max, source_ips, dest_ips,
    ) in enumerate(columns):  # fmt: skip
        slot = slots[slot_number]
        source_type, source_namespace, source_aggr = ends.aggregates[source]
        dest_type, dest_namespace, dest_aggr = ends.aggregates[dest]
        fine = level <= 1
        source_ip = text_of(source_hi[row], source_lo[row]) if fine else None
        dest_ip = text_of(dest_hi[row], dest_lo[row]) if fine else None
        source_pod = ends.names[source_name] if fine and source_type == EndpointType.WEP else ABSENT
        dest_pod = ends.names[dest_name] if fine and dest_type == EndpointType.WEP else ABSENT
        reporter_name, action_name = _REPORTERS[reporter], "deny" if action == DENY else "allow"
        proto_name = protocol_name(proto)
        source_port_shown = None if source_port < 0 else source_port
        dest_port_shown = None if dest_port < 0 else dest_port
        service_namespace = service_name = service_port = ABSENT
        service_number = None
        if service >= 0:
            found = snapshot.services[service]
            service_namespace, service_name = found.namespace, found.name
            if level <= 2:
                service_port, service_number = port_of[service], found.port
        yield slot.node, orjson.dumps({
            "id": document_id(
                slot.cluster, slot.node, slot.start_s, slot.end_s, slot.late, reporter_name, action_name, derived,
                level,
                proto_name, source_type, source_namespace, source_aggr, source_pod, source_ip, source_port_shown,
                dest_type, dest_namespace, dest_aggr, dest_pod, dest_ip, dest_port_shown,
                service_namespace, service_name, service_port, service_number,
                traces.enforced[trace], traces.pending[trace],
            ),
            "start_time": slot.start_s,
            "end_time": slot.end_s,
            "@timestamp": slot.end_s * 1000,
            "cluster": slot.cluster,
            "host": slot.node,
            "reporter": reporter_name,
            "action": action_name,
            "evidence": EVIDENCE[evidence],
            "derived": derived,
            "late": slot.late != "",
            "aggregation_level": level,
            "proto": proto_name,
            "source_ip": source_ip,
            "dest_ip": dest_ip,
            "source_name": source_pod,
            "dest_name": dest_pod,
            "source_name_aggr": source_aggr,
            "dest_name_aggr": dest_aggr,
            "source_namespace": source_namespace,
            "dest_namespace": dest_namespace,
            "source_type": source_type,
            "dest_type": dest_type,
            "source_port": source_port_shown,
            "dest_port": dest_port_shown,
            "source_labels": {"labels": source_labels[position]},
            "dest_labels": {"labels": dest_labels[position]},
            "dest_service_namespace": service_namespace,
            "dest_service_name": service_name,
            "dest_service_port": service_port,
            "dest_service_port_name": service_port,
            "dest_service_port_num": service_number,
            "num_flows": flows,
            "num_flows_started": started,
            "num_flows_completed": completed,
            "packets_in": packets_in,
            "packets_out": packets_out,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "policies": {
                "all_policies": traces.all[trace],
                "enforced_policies": traces.enforced[trace],
                "pending_policies": traces.pending[trace],
            },
            "handshake_rtt_mean_us": round(rtt_sum / rtt_count) if rtt_count else None,
            "handshake_rtt_max_us": rtt_max if rtt_count else None,
            "source_ips": _addresses(source_sample, source_at, position, source_hi, source_lo),
            "dest_ips": _addresses(dest_sample, dest_at, position, dest_hi, dest_lo),
            "num_source_ips": source_ips,
            "num_dest_ips": dest_ips,
            **NOT_COLLECTED,
        })  # fmt: skip


def _addresses(sample: list[int], at: list[int], position: int, hi: list[int], lo: list[int]) -> list[str]:
    return [text_of(hi[row], lo[row]) for row in sample[at[position] : at[position + 1]]]


def _intersections(pairs: tuple[NDArray[np.int64], NDArray[np.int64]], ends: Ends) -> list[tuple[str, ...]]:
    """Per log, the labels that all of its endpoints have; pairs are ordered by log and every log has one."""
    found: list[tuple[str, ...]] = []
    for log, labels in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True):
        if log == len(found):
            found.append(ends.labels[labels])
        else:
            also = frozenset(ends.labels[labels])
            found[log] = tuple(label for label in found[log] if label in also)
    return found
