"""Packets and bytes per pair of addresses, counted by nftables apart from everything that tierflow counts.

Two sets with counters: ``sent`` before policy enforcement, ``delivered`` after it, both at the forward hook, where a
packet's addresses are those of the pods in either direction (a Service's address is already, or still, translated).
Bytes are IP total lengths, as in raw records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from tierflow.lab.command import run
from tierflow.lab.services import replace_table

TABLE: Final = "tierflow_truth"
CAPACITY: Final = 65536


@dataclass(frozen=True, slots=True)
class Count:
    """Packets and bytes (IP total length)."""

    packets: int
    bytes: int


Pairs = dict[tuple[str, str], Count]
"""(source address, destination address) to what went that way."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What pods sent, and what reached them, since the table was made."""

    sent: Pairs
    delivered: Pairs


def ruleset() -> str:
    """The table; it accepts everything."""
    counted = f"type ipv4_addr . ipv4_addr; flags dynamic; counter; size {CAPACITY};"
    return f"""table ip {TABLE} {{
  set sent {{ {counted} }}
  set delivered {{ {counted} }}
  chain before {{
    type filter hook forward priority -10; policy accept;
    iifname "tf*" update @sent {{ ip saddr . ip daddr }}
  }}
  chain after {{
    type filter hook forward priority 10; policy accept;
    update @delivered {{ ip saddr . ip daddr }}
  }}
}}
"""


def start() -> None:
    """Count from zero.

    Raises:
        UnavailableError: nft refuses.
    """
    replace_table(TABLE, ruleset())


def read() -> Truth:
    """The counters now.

    Raises:
        UnavailableError: nft refuses, or nothing is being counted.
    """
    return Truth(*(pairs(run("nft", "-j", "list", "set", "ip", TABLE, name)) for name in ("sent", "delivered")))


def pairs(listed: str) -> Pairs:
    """The counters of one set, from what ``nft -j list set`` says."""
    document: dict[str, Any] = orjson.loads(listed)
    elements = next(each["set"] for each in document["nftables"] if "set" in each).get("elem", [])
    found = {}
    for element in elements:
        source, destination = element["elem"]["val"]["concat"]
        counter = element["elem"]["counter"]
        found[source, destination] = Count(counter["packets"], counter["bytes"])
    return found
