"""TLS and SASL arguments of aiokafka in the form that Faust takes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

with warnings.catch_warnings():
    # Faust imports modules that newer Pythons deprecate; nothing of ours is to be learnt from it.
    warnings.simplefilter("ignore")
    import faust
    from faust.types.auth import CredentialsT  # noqa: TC002 - loads faust's lazy modules inside this block


def credentials(client: Mapping[str, Any]) -> CredentialsT | None:
    """Faust's form of aiokafka's arguments; None for a plain connection."""
    context = client.get("ssl_context")
    if "sasl_mechanism" in client:
        return faust.SASLCredentials(
            username=client["sasl_plain_username"], password=client["sasl_plain_password"],
            mechanism=client["sasl_mechanism"], ssl_context=context,
        )  # fmt: skip
    return None if context is None else faust.SSLCredentials(context)
