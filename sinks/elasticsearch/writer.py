"""Writes documents in bulks that are bounded in bytes, tries again what may pass, and says what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from elasticsearch import ApiError, TransportError, UnsupportedProductError

from tierflow.schemas.errors import ConfigurationError, TransientError
from tierflow.sinks.elasticsearch.indices import KINDS, IndexNames, IndexSettings, conflict, index_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tierflow.sinks.elasticsearch.client import Connection

_FAILED: Final = (ApiError, TransportError, UnsupportedProductError)
THERE_ALREADY: Final = 409
NOT_FOUND: Final = 404
BAD_REQUEST: Final = 400
RETRIED: Final = frozenset({429, 500, 502, 503, 504})
BLOCKED: Final = "cluster_block_exception"
"""A read-only index, or a disk past its flood stage: an operator's to lift, and then it goes on."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document on its way.

    Attributes:
        kind: a key of :data:`tierflow.sinks.elasticsearch.indices.KINDS`.
        index: where it goes.
        id: its document id.
        source: its JSON.
    """

    kind: str
    index: str
    id: str
    source: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that Elasticsearch will never take, by its place in the load, and why."""

    position: int
    detail: str


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a load: added, there already by the same id, refused."""

    added: int
    repeated: int
    refused: tuple[Refusal, ...]


class ElasticsearchWriter:
    """Puts documents under their ids, each once however often it comes.

    Args:
        connection: to the cluster.
        names: how indices are named.
        max_bulk_bytes: of one bulk's body.
    """

    def __init__(self, connection: Connection, names: IndexNames, max_bulk_bytes: int = 5 << 20) -> None:
        self._connection = connection
        self._names = names
        self._max_bulk_bytes = max_bulk_bytes

    def prepare(self, settings: IndexSettings) -> None:
        """Put the index templates, and see that indices which are there already have the same types.

        Raises:
            ConfigurationError: an index has a field under another type, or the cluster lacks the lifecycle policy.
            UnavailableError: the cluster refuses; waiting doesn't help.
            TransientError: it doesn't answer or is busy.
        """
        try:
            if settings.lifecycle is not None:
                self._find_lifecycle(settings.lifecycle)
            for kind in KINDS:
                self._connection.client.indices.put_index_template(
                    name=self._names.template(kind), **index_template(self._names, kind, settings)
                )
            for kind in KINDS:
                found = self._connection.client.indices.get_mapping(
                    index=self._names.all_of(kind), allow_no_indices=True, ignore_unavailable=True
                )
                for index, each in found.items():
                    wrong = conflict(kind, each["mappings"].get("properties", {}))
                    if wrong is not None:
                        raise ConfigurationError(
                            f"--elasticsearch-index: index {index} was made by something else: {wrong}; "
                            "delete or reindex it, or choose other names"
                        )
        except _FAILED as error:
            raise self._connection.explained(error) from error

    def write(self, documents: Sequence[Document], retried: Callable[[str], None]) -> Written:
        """One attempt at everything, bulk by bulk; ``retried`` is called with the cause when some must be tried again.

        Raises:
            TransientError: some documents aren't in yet; all may be written again.
            UnavailableError: the cluster refuses; waiting doesn't help.
        """
        added = repeated = 0
        refused: list[Refusal] = []
        waiting = ""
        for positions in self._bulks(documents):
            answer = self._bulk([documents[i] for i in positions])
            for position, item in zip(positions, answer["items"], strict=True):
                result = item["create"]
                status = result["status"]
                if status in (200, 201):
                    added += 1
                elif status == THERE_ALREADY:
                    repeated += 1
                else:
                    cause = result.get("error", {})
                    detail = f"{cause.get('type')}: {_reasons(cause)}"[:500].replace("\n", " ")
                    if status in RETRIED or cause.get("type") == BLOCKED:
                        waiting = f"{result['_index']}: {status} {detail}"
                    else:
                        refused.append(Refusal(position, detail))
        if waiting:
            retried("blocked" if BLOCKED in waiting else "busy")
            raise TransientError(f"--elasticsearch {self._connection.url}: {waiting}")
        return Written(added, repeated, tuple(refused))

    def forget(self, now_s: int, keep_days: int) -> list[str]:
        """Delete the indices of days past retention; returns their names.

        Raises:
            TierflowError: the cluster doesn't answer or refuses.
        """
        gone: list[str] = []
        try:
            for kind in KINDS:
                there = self._connection.client.indices.get_settings(
                    index=self._names.all_of(kind), allow_no_indices=True, ignore_unavailable=True
                )
                for name in self._names.older_than(kind, there, now_s, keep_days):
                    self._connection.client.indices.delete(index=name, ignore_unavailable=True)
                    gone.append(name)
        except _FAILED as error:
            raise self._connection.explained(error) from error
        return gone

    def _find_lifecycle(self, policy: str) -> None:
        flag = f"--elasticsearch-lifecycle {policy}"
        try:
            self._connection.client.ilm.get_lifecycle(name=policy)
        except ApiError as error:
            if error.status_code == NOT_FOUND:
                raise ConfigurationError(f"{flag}: this cluster has no such policy") from error
            if error.status_code == BAD_REQUEST:
                # What a cluster without the module answers to a path that it doesn't know.
                raise ConfigurationError(f"{flag}: this cluster has no lifecycle management") from error
            raise

    def _bulk(self, documents: Iterable[Document]) -> Any:
        lines: list[bytes] = []
        for each in documents:
            lines += (orjson.dumps({"create": {"_index": each.index, "_id": each.id}}), each.source)
        try:
            return self._connection.client.bulk(
                operations=lines,  # type: ignore[arg-type]  # bytes go as they are; the hint leaves them out
                filter_path="items.*.status,items.*.error,items.*._index",
            ).body
        except _FAILED as error:
            raise self._connection.explained(error) from error

    def _bulks(self, documents: Sequence[Document]) -> Iterator[list[int]]:
        positions: list[int] = []
        size = 0
        for position, each in enumerate(documents):
            if positions and size + len(each.source) > self._max_bulk_bytes:
                yield positions
                positions, size = [], 0
            positions.append(position)
            size += len(each.source) + 200
        if positions:
            yield positions


def _reasons(cause: dict[str, Any]) -> str:
    inner = cause.get("caused_by") or {}
    return f"{cause.get('reason', '')} {inner.get('reason', '')}".strip()
