"""Index names and templates, from the fields that the schemas declare. Pure.

One index a day, by the day in which a document's window starts (UTC). A data stream or a rollover alias would put a
replayed document into whatever index is newest, where its id is free again; so the index follows from the document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tierflow.schemas.errors import ConfigurationError
from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import FLOW_LOG_TYPES, LOSS_TYPES, POLICY_COUNTER_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FLOWS: Final = "flows"
POLICY_COUNTERS: Final = "policy_counters"
LOSSES: Final = "losses"
KINDS: Final[dict[str, Mapping[str, FieldType]]] = {
    FLOWS: FLOW_LOG_TYPES,
    POLICY_COUNTERS: POLICY_COUNTER_TYPES,
    LOSSES: LOSS_TYPES,
}
DEFAULT_NAMES: Final = "tierflow_{kind}.{cluster}.{day}"
UPSTREAM_NAMES: Final = "tigera_secure_ee_{kind}.{cluster}.{day}"
NO_CLUSTER: Final = "cluster"
"""Stands in a name for the cluster of documents that name none."""

_CLUSTER_LENGTH: Final = 190
"""An index name has up to 255 bytes, and what stands around the cluster needs some."""

_IP: Final = {"type": "ip", "fields": {"text": {"type": "keyword"}}}
"""As upstream has it; the text beside it sorts and counts as other stores do."""
_KEYWORD: Final = {"type": "keyword", "ignore_above": 8191}
_TYPES: Final[dict[FieldType, dict[str, Any]]] = {
    FieldType.KEYWORD: _KEYWORD,
    FieldType.KEYWORDS: _KEYWORD,
    FieldType.LONG: {"type": "long"},
    FieldType.LONGS: {"type": "long"},
    FieldType.DOUBLE: {"type": "double"},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.IP: _IP,
    FieldType.IPS: _IP,
    FieldType.DATE_S: {"type": "date", "format": "epoch_second"},
    FieldType.DATE_MS: {"type": "date", "format": "epoch_millis"},
}


@dataclass(frozen=True, slots=True)
class IndexNames:
    """How indices are named.

    Attributes:
        pattern: with ``{kind}`` and ``{day}`` each once, and ``{cluster}`` at most once; the day is eight digits.

    Raises:
        ConfigurationError: another form.
    """

    pattern: str = DEFAULT_NAMES

    def __post_init__(self) -> None:
        rest = self.pattern
        for place in ("{kind}", "{day}"):
            if self.pattern.count(place) != 1:
                raise ConfigurationError(f"--elasticsearch-index {self.pattern}: must hold {place} once")
        for place in ("{kind}", "{day}", "{cluster}"):
            rest = rest.replace(place, "", 1)
        if not re.fullmatch(r"[a-z0-9._-]*", rest) or not re.match(r"[a-z0-9{]", self.pattern):
            raise ConfigurationError(
                f"--elasticsearch-index {self.pattern}: accepted are a-z 0-9 . _ - and {{kind}}, {{cluster}}, {{day}}"
            )

    def of(self, kind: str, cluster: str, start_s: int) -> str:
        """The index of a document."""
        day = datetime.fromtimestamp(start_s, UTC).strftime("%Y%m%d")
        name = re.sub(r"[^a-z0-9_-]", "-", cluster.lower())[:_CLUSTER_LENGTH].strip("-_") or NO_CLUSTER
        return self.pattern.replace("{kind}", kind).replace("{cluster}", name).replace("{day}", day)

    def all_of(self, kind: str) -> str:
        """The wildcard that takes in every index of a kind."""
        return self.pattern.replace("{kind}", kind).replace("{cluster}", "*").replace("{day}", "*")

    def template(self, kind: str) -> str:
        """The name of a kind's index template."""
        return self.pattern.replace("{kind}", kind).replace("{cluster}", "").replace("{day}", "").strip(".-_")

    def older_than(self, kind: str, names: Iterable[str], now_s: int, keep_days: int) -> list[str]:
        """Those of ``names`` whose whole day is more than ``keep_days`` days ago."""
        parts = re.split(r"(\{cluster\}|\{day\})", self.pattern.replace("{kind}", kind))
        places = {"{cluster}": ".+", "{day}": r"(\d{8})"}
        form = re.compile("".join(places.get(part, re.escape(part)) for part in parts))
        first = datetime.fromtimestamp(now_s, UTC).date() - timedelta(days=keep_days)
        return sorted(name for name in names if (match := form.fullmatch(name)) and _day(match[1]) < first)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What every index gets.

    Attributes:
        shards: primary shards.
        replicas: of each.
        lifecycle: the cluster's lifecycle policy that looks after the indices, their end included; None: the sink does.
    """

    shards: int = 1
    replicas: int = 1
    lifecycle: str | None = None


def index_template(names: IndexNames, kind: str, settings: IndexSettings) -> dict[str, Any]:
    """The body of a composable index template for a kind."""
    held: dict[str, Any] = {
        "number_of_shards": settings.shards,
        "number_of_replicas": settings.replicas,
        "refresh_interval": "2s",
    }
    if settings.lifecycle is not None:
        held["lifecycle"] = {"name": settings.lifecycle}
    return {
        "index_patterns": [names.all_of(kind)],
        "priority": 500,
        "template": {"settings": {"index": held}, "mappings": mappings(KINDS[kind])},
        "_meta": {"description": f"tierflow {kind}"},
    }


def mappings(types: Mapping[str, FieldType]) -> dict[str, Any]:
    """Explicit mappings; a field that isn't declared is refused."""
    root: dict[str, Any] = {"dynamic": "strict", "properties": {}}
    for name, kind in types.items():
        *parents, leaf = name.split(".")
        node = root["properties"]
        for parent in parents:
            node = node.setdefault(parent, {"properties": {}})["properties"]
        node[leaf] = dict(_TYPES[kind])
    return root


def conflict(kind: str, properties: Mapping[str, Any]) -> str | None:
    """The first field that an existing index has under another type, as a sentence part; None: they agree.

    Args:
        kind: of the index.
        properties: the index's own ``mappings.properties``.
    """
    for name, declared in KINDS[kind].items():
        node: Any = {"properties": properties}
        for part in name.split("."):
            node = node.get("properties", {}).get(part) if isinstance(node, dict) else None
        wanted = _TYPES[declared]["type"]
        if node is not None and node.get("type") != wanted:
            return f"field {name} is {node.get('type', 'object')}, must be {wanted}"
        if node is None:
            return f"field {name} is not mapped, must be {wanted}"
    return None


def _day(digits: str) -> date:
    try:
        return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return date.max
