"""ClusterIP Services by nftables DNAT, as kube-proxy's nftables mode would do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.lab.command import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tierflow.lab.manifests import Service
    from tierflow.lab.record import Pod

TABLE: Final = "tierflow_services"


def ruleset(services: Iterable[Service], pods: Sequence[Pod]) -> str:
    """The table that sends each Service's address and port to one of its pods, in turn; to nobody if it has none."""
    rules, refusals = [], []
    for service in services:
        backends = [pod.addresses[0] for pod in pods if pod.deployment and service.selects(pod.namespace, pod.labels)]
        for port in service.ports:
            match = f"ip daddr {service.cluster_ip} {port.protocol} dport {port.port}"
            comment = f'comment "{service.namespace}/{service.name}"'
            if not backends:
                refusals.append(f"{match} reject {comment}")
            elif len(backends) == 1:
                rules.append(f"{match} dnat to {backends[0]}:{port.target_port} {comment}")
            else:
                turns = ", ".join(f"{turn} : {address}" for turn, address in enumerate(backends))
                target = f"numgen inc mod {len(backends)} map {{ {turns} }}:{port.target_port}"
                rules.append(f"{match} dnat to {target} {comment}")
    body = "\n    ".join(rules)
    refused = "\n    ".join(refusals)
    return f"""table ip {TABLE} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {body}
  }}
  chain forward {{
    type filter hook forward priority -20; policy accept;
    {refused}
  }}
}}
"""


def replace_table(table: str, rules: str) -> None:
    """Put a table in place of its predecessor in one transaction.

    Raises:
        UnavailableError: nft refuses.
    """
    # Declaring it first makes the deletion right whether it was there or not.
    run("nft", "-f", "-", stdin=f"table ip {table}\ndelete table ip {table}\n{rules}")
