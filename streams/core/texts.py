"""The parts of a flow log that don't change from window to window, as JSON text made once and shared."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.schemas.flow_log import ABSENT, EndpointType
from tierflow.schemas.record import Reporter, address_text, protocol_name
from tierflow.streams.core.join import DENY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tierflow.inventory.services import ServicePort
    from tierflow.streams.core.entities import Ends, Traces

DIGEST_BYTES: Final = 16
_REPORTERS: Final = {int(each): each.label for each in Reporter}

text_of = lru_cache(maxsize=65_536)(address_text)


GroupText = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""Members of a group's JSON objects: verdict, addresses and ports, source, destination, Service, trace.

A plain tuple of bytes is nothing that the garbage collector has to visit; there are many."""


def digest(*parts: object) -> bytes:
    """A hash over a key, :data:`DIGEST_BYTES` long."""
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=DIGEST_BYTES).digest()


def members(fields: dict[str, Any]) -> bytes:
    """A comma and the members of a JSON object, without its braces."""
    return b"," + orjson.dumps(fields)[1:-1]


class _Made(dict[Any, tuple[str, bytes]]):
    """Key text and JSON of one part of a flow log, made when it is first asked for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Any], tuple[str, bytes]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: object) -> tuple[str, bytes]:
        made = self[key] = self._make(key)
        return made


class Texts:
    """Texts over numbers of :class:`Ends`, :class:`Traces` and Service ports."""

    __slots__ = ("_dest", "_ends", "_labels", "_service", "_source", "_trace", "_verdict")

    def __init__(self, ends: Ends, traces: Traces, services: Sequence[ServicePort]) -> None:
        self._ends = ends
        self._labels: dict[tuple[str, tuple[int, ...]], bytes] = {}

        def verdict(key: tuple[int, int, int, int, int]) -> tuple[str, bytes]:
            reporter, action, derived, level, proto = key
            return "|".join(map(str, key)), members({
                "reporter": _REPORTERS[reporter], "action": "deny" if action == DENY else "allow",
                "derived": bool(derived), "aggregation_level": level, "proto": protocol_name(proto),
            })  # fmt: skip

        def end(side: str) -> Callable[[tuple[int, int]], tuple[str, bytes]]:
            def made(key: tuple[int, int]) -> tuple[str, bytes]:
                kind, namespace, name_aggr = ends.aggregates[key[0]]
                name = ends.names[key[1]] if kind == EndpointType.WEP else ABSENT
                return f"{kind}/{namespace}/{name_aggr}/{name}", members({
                    f"{side}_type": kind, f"{side}_namespace": namespace, f"{side}_name_aggr": name_aggr,
                    f"{side}_name": name,
                })  # fmt: skip

            return made

        def service(key: tuple[int, bool]) -> tuple[str, bytes]:
            index, with_port = key
            namespace = name = port = ABSENT
            number = None
            if index >= 0:
                found = services[index]
                namespace, name = found.namespace, found.name
                if with_port:
                    port, number = found.shown_name or ABSENT, found.port
            return f"{namespace}/{name}/{port}/{number}", members({
                "dest_service_namespace": namespace, "dest_service_name": name, "dest_service_port": port,
                "dest_service_port_name": port, "dest_service_port_num": number,
            })  # fmt: skip

        def trace(number: int) -> tuple[str, bytes]:
            return f"{';'.join(traces.enforced[number])}/{';'.join(traces.pending[number])}", members({
                "policies": {
                    "all_policies": traces.all[number],
                    "enforced_policies": traces.enforced[number],
                    "pending_policies": traces.pending[number],
                }
            })  # fmt: skip

        self._verdict, self._service, self._trace = _Made(verdict), _Made(service), _Made(trace)
        self._source, self._dest = _Made(end("source")), _Made(end("dest"))

    def group(
        self, source: int, dest: int, source_name: int, dest_name: int, service: int, trace: int, source_port: int,
        dest_port: int, reporter: int, action: int, derived: int, proto: int, level: int, src_hi: int, src_lo: int,
        dst_hi: int, dst_lo: int,
    ) -> tuple[GroupText, bytes]:  # fmt: skip
        """Texts and the digest of a group's key; the arguments are :attr:`Groups.KEY`."""
        verdict_key, verdict = self._verdict[reporter, action, derived, level, proto]
        source_key, source_text = self._source[source, source_name]
        dest_key, dest_text = self._dest[dest, dest_name]
        service_key, service_text = self._service[service, level <= 2]
        trace_key, trace_text = self._trace[trace]
        ends_key, ends = _ends(level, src_hi, src_lo, dst_hi, dst_lo, source_port, dest_port)
        key = f"{verdict_key}|{source_key}|{dest_key}|{service_key}|{ends_key}|{trace_key}"
        return (
            (verdict, ends, source_text, dest_text, service_text, trace_text),
            blake2b(key.encode(), digest_size=DIGEST_BYTES).digest(),
        )

    def labels(self, side: str, sets: list[int], bounds: list[int]) -> list[bytes]:
        """Per log, the labels that its label sets have in common; log i's are ``sets[bounds[i]:bounds[i + 1]]``."""
        if len(sets) == len(bounds) - 1:
            return [self._label_text(side, one) for one in sets]
        return [self._label_text(side, *sets[first:after]) for first, after in pairwise(bounds)]

    def _label_text(self, side: str, *sets: int) -> bytes:
        text = self._labels.get((side, sets))
        if text is None:
            first, *others = (self._ends.labels[each] for each in sets)
            common = [label for label in first if all(label in other for other in others)]
            text = self._labels[side, sets] = members({f"{side}_labels": {"labels": common}})
        return text

    def addresses(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64], offsets: NDArray[np.int64]) -> list[str]:
        """JSON arrays of addresses; array i has those from ``offsets[i]`` to before ``offsets[i + 1]``."""
        quoted = [f'"{text_of(*halves)}"' for halves in zip(hi.tolist(), lo.tolist(), strict=True)]
        bounds = offsets.tolist()
        return [f"[{','.join(quoted[first:after])}]" for first, after in pairwise(bounds)]


@lru_cache(maxsize=16_384)
def _ends(
    level: int, src_hi: int, src_lo: int, dst_hi: int, dst_lo: int, source_port: int, dest_port: int
) -> tuple[str, bytes]:
    source_ip, dest_ip = (text_of(src_hi, src_lo), text_of(dst_hi, dst_lo)) if level <= 1 else (None, None)
    return f"{source_ip or ''}|{dest_ip or ''}|{source_port}|{dest_port}", members({
        "source_ip": source_ip, "dest_ip": dest_ip, "source_port": None if source_port < 0 else source_port,
        "dest_port": None if dest_port < 0 else dest_port,
    })  # fmt: skip
