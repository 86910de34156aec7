"""The store that a command reads from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierflow.cli.state import state_folder
from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.read.remote import RemoteStore

if TYPE_CHECKING:
    from tierflow.sinks.elasticsearch.client import ElasticsearchSettings
    from tierflow.sinks.elasticsearch.store import ElasticsearchStore

TIMEOUT_S = 30.0


def default_address() -> str:
    """Where the embedded sink serves its read side unless told otherwise."""
    return f"unix:{state_folder() / 'store.sock'}"


def open_store(
    address: str | None,
    elasticsearch: ElasticsearchSettings | None = None,
    elasticsearch_index: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> RemoteStore | ElasticsearchStore:
    """The store at an address; without one Elasticsearch where it is set, else the embedded sink's.

    Raises:
        ConfigurationError: the address has no accepted form, or both are given.
    """
    if elasticsearch is None:
        return RemoteStore(address or default_address(), timeout_s=timeout_s)
    if address is not None:
        raise ConfigurationError("--store and --elasticsearch exclude each other")
    # Imported late: most commands start quicker without the client.
    from tierflow.sinks.elasticsearch.client import Connection
    from tierflow.sinks.elasticsearch.indices import DEFAULT_NAMES, IndexNames
    from tierflow.sinks.elasticsearch.store import ElasticsearchStore

    names = IndexNames(elasticsearch_index or DEFAULT_NAMES)
    return ElasticsearchStore(Connection(elasticsearch), names)
