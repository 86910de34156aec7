"""The store that a command reads from."""

from __future__ import annotations

from tierflow.cli.state import state_folder
from tierflow.sinks.read.remote import RemoteStore


def default_address() -> str:
    """Where the embedded sink serves its read side unless told otherwise."""
    return f"unix:{state_folder() / 'store.sock'}"


def open_store(address: str | None) -> RemoteStore:
    """The store at an address; without one, the embedded sink's.

    Raises:
        ConfigurationError: the address has no accepted form.
    """
    return RemoteStore(address or default_address())
