"""Flow-log columns to JSON documents with deterministic ids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.schemas import flow_log
from tierflow.schemas.flow_log import ABSENT, EndpointType
from tierflow.schemas.record import Reporter, address_text, protocol_name
from tierflow.streams.core.aggregate import EVIDENCE
from tierflow.streams.core.join import DENY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
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
    parts = _Fragments(slots, snapshot, ends, traces)
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
        logs.source_ips.tolist(), logs.dest_ips.tolist(), source_labels, dest_labels, strict=True,
    )  # fmt: skip
    for position, (
        slot, level, reporter, action, derived, evidence, proto, source, dest, source_name, dest_name, service,
        source_port, dest_port, trace, row, flows, started, completed, packets_in, packets_out, bytes_in, bytes_out,
        rtt_sum, rtt_count, rtt_max, source_ips, dest_ips, source_tags, dest_tags,
    ) in enumerate(columns):  # fmt: skip
        slot_key, slot_json = parts.slot[slot]
        verdict_key, verdict_json = parts.verdict[reporter, action, derived, level, proto]
        source_key, source_json = parts.source[source, source_name, source_tags]
        dest_key, dest_json = parts.dest[dest, dest_name, dest_tags]
        service_key, service_json = parts.service[service, level <= 2]
        trace_key, trace_json = parts.trace[trace]
        if level <= 1:
            source_ip, dest_ip = text_of(source_hi[row], source_lo[row]), text_of(dest_hi[row], dest_lo[row])
            ends_key = f"{source_ip}|{dest_ip}|{source_port}|{dest_port}"
            ends_json = f'"source_ip":"{source_ip}","dest_ip":"{dest_ip}"'
        else:
            ends_key = f"||{source_port}|{dest_port}"
            ends_json = '"source_ip":null,"dest_ip":null'
        key = f"{slot_key}|{verdict_key}|{source_key}|{dest_key}|{service_key}|{ends_key}|{trace_key}"
        yield (
            slots[slot].node,
            (
                f'{{"id":"{blake2b(key.encode(), digest_size=16).hexdigest()}",{slot_json},{verdict_json},'
                f'"evidence":"{EVIDENCE[evidence]}",{ends_json},{source_json},{dest_json},'
                f'"source_port":{"null" if source_port < 0 else source_port},'
                f'"dest_port":{"null" if dest_port < 0 else dest_port},{service_json},'
                f'"num_flows":{flows},"num_flows_started":{started},"num_flows_completed":{completed},'
                f'"packets_in":{packets_in},"packets_out":{packets_out},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
                f"{trace_json},"
                f'"handshake_rtt_mean_us":{round(rtt_sum / rtt_count) if rtt_count else "null"},'
                f'"handshake_rtt_max_us":{rtt_max if rtt_count else "null"},'
                f'"source_ips":{_addresses(source_sample, source_at, position, source_hi, source_lo)},'
                f'"dest_ips":{_addresses(dest_sample, dest_at, position, dest_hi, dest_lo)},'
                f'"num_source_ips":{source_ips},"num_dest_ips":{dest_ips},{_NOT_COLLECTED}}}'
            ).encode(),
        )


class _Made(dict[Any, tuple[str, str]]):
    """Key text and JSON of one part of a flow log, made when it is first asked for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Any], tuple[str, str]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: object) -> tuple[str, str]:
        made = self[key] = self._make(key)
        return made


class _Fragments:
    """The parts that flow logs of one flush share, each made once."""

    __slots__ = ("dest", "service", "slot", "source", "trace", "verdict")

    def __init__(self, slots: Sequence[Slot], snapshot: Snapshot, ends: Ends, traces: Traces) -> None:
        def slot(number: int) -> tuple[str, str]:
            it = slots[number]
            return f"{it.cluster}|{it.node}|{it.start_s}|{it.end_s}|{it.late}", _json({
                "start_time": it.start_s, "end_time": it.end_s, "@timestamp": it.end_s * 1000, "cluster": it.cluster,
                "host": it.node, "late": it.late != "",
            })  # fmt: skip

        def verdict(key: tuple[int, int, bool, int, int]) -> tuple[str, str]:
            reporter, action, derived, level, proto = key
            return "|".join(map(str, key)), _json({
                "reporter": _REPORTERS[reporter], "action": "deny" if action == DENY else "allow", "derived": derived,
                "aggregation_level": level, "proto": protocol_name(proto),
            })  # fmt: skip

        def end(side: str) -> Callable[[tuple[int, int, tuple[str, ...]]], tuple[str, str]]:
            def made(key: tuple[int, int, tuple[str, ...]]) -> tuple[str, str]:
                kind, namespace, name_aggr = ends.aggregates[key[0]]
                name = ends.names[key[1]] if kind == EndpointType.WEP else ABSENT
                return f"{kind}/{namespace}/{name_aggr}/{name}", _json({
                    f"{side}_type": kind, f"{side}_namespace": namespace, f"{side}_name_aggr": name_aggr,
                    f"{side}_name": name, f"{side}_labels": {"labels": key[2]},
                })  # fmt: skip

            return made

        def service(key: tuple[int, bool]) -> tuple[str, str]:
            index, with_port = key
            namespace = name = port = ABSENT
            number = None
            if index >= 0:
                found = snapshot.services[index]
                namespace, name = found.namespace, found.name
                if with_port:
                    port, number = found.shown_name or ABSENT, found.port
            return f"{namespace}/{name}/{port}/{number}", _json({
                "dest_service_namespace": namespace, "dest_service_name": name, "dest_service_port": port,
                "dest_service_port_name": port, "dest_service_port_num": number,
            })  # fmt: skip

        def trace(number: int) -> tuple[str, str]:
            return f"{';'.join(traces.enforced[number])}/{';'.join(traces.pending[number])}", _json({
                "policies": {
                    "all_policies": traces.all[number],
                    "enforced_policies": traces.enforced[number],
                    "pending_policies": traces.pending[number],
                }
            })  # fmt: skip

        self.slot, self.verdict, self.service, self.trace = _Made(slot), _Made(verdict), _Made(service), _Made(trace)
        self.source, self.dest = _Made(end("source")), _Made(end("dest"))


def _json(fields: dict[str, Any]) -> str:
    """The members of a JSON object, without its braces."""
    return orjson.dumps(fields)[1:-1].decode()


_NOT_COLLECTED: Final = _json(NOT_COLLECTED)


def _addresses(sample: list[int], at: list[int], position: int, hi: list[int], lo: list[int]) -> str:
    first, after = at[position], at[position + 1]
    if after - first == 1:
        row = sample[first]
        return f'["{text_of(hi[row], lo[row])}"]'
    return (
        '["' + '","'.join([text_of(hi[row], lo[row]) for row in sample[first:after]]) + '"]' if after > first else "[]"
    )


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
