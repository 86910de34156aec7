"""Network namespaces joined by veths, as a CNI with routed pods would make them.

The node is the network namespace that the command runs in. A pod's address is a /32 behind its host-side veth; its only
neighbour is 169.254.1.1, at a MAC address that all host sides share. Forwarding is switched on for those veths alone,
so that nothing else of the node changes.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tierflow.lab.command import run, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.lab.record import Pod

GATEWAY: Final = "169.254.1.1"
HOST_MAC: Final = "ee:ee:ee:ee:ee:ee"
NETNS_FOLDER: Final = Path("/run/netns")
RESOLVER_FOLDER: Final = Path("/etc/netns")
"""``ip netns exec`` shows ``<folder>/<namespace>/resolv.conf`` as ``/etc/resolv.conf``."""


def add_pod(pod: Pod, resolver: str) -> None:
    """Make a pod's namespace, its link and its routes, and write its resolv.conf.

    Raises:
        UnavailableError: the kernel refuses.
    """
    folder = RESOLVER_FOLDER / pod.netns
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resolv.conf").write_text(resolver)
    mac = _mac(pod.addresses[0])
    run("ip", "netns", "add", pod.netns)
    # IPv6 would add neighbour discovery to every link; the lab speaks IPv4.
    run("ip", "netns", "exec", pod.netns, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    run("ip", "link", "add", pod.link, "address", HOST_MAC, "type", "veth",
        "peer", "name", "eth0", "address", mac, "netns", pod.netns)  # fmt: skip
    for key in ("ipv6/conf/{}/disable_ipv6", "ipv4/conf/{}/forwarding"):
        Path("/proc/sys/net", key.format(pod.link)).write_text("1")
    run("ip", "-batch", "-", stdin=_lines(
        f"link set {pod.link} up",
        *(f"route add {address}/32 dev {pod.link} scope link" for address in pod.addresses),
        *(f"neigh replace {address} lladdr {mac} dev {pod.link} nud permanent" for address in pod.addresses),
    ))  # fmt: skip
    run("ip", "-n", pod.netns, "-batch", "-", stdin=_lines(
        "link set lo up",
        *(f"addr add {address}/32 dev eth0" for address in pod.addresses),
        "link set eth0 up",
        f"neigh replace {GATEWAY} lladdr {HOST_MAC} dev eth0 nud permanent",
        f"route add {GATEWAY} dev eth0 scope link",
        f"route add default via {GATEWAY} dev eth0",
    ))  # fmt: skip


def remove_pod(netns: str, link: str | None) -> None:
    """Remove a namespace, its link and its resolver file, whatever of them is there; processes must be gone."""
    if link is not None:
        # The pair goes with either end; deleted by name, it is gone when this returns.
        succeeds("ip", "link", "delete", link)
    succeeds("ip", "netns", "delete", netns)
    (NETNS_FOLDER / netns).unlink(missing_ok=True)
    shutil.rmtree(RESOLVER_FOLDER / netns, ignore_errors=True)
    with contextlib.suppress(OSError):
        RESOLVER_FOLDER.rmdir()


def namespaces(prefix: str) -> list[str]:
    """Names of the namespaces that begin with a prefix, also those that a killed command left half made."""
    folders = (NETNS_FOLDER, RESOLVER_FOLDER)
    return sorted({path.name for folder in folders if folder.is_dir() for path in folder.glob(f"{prefix}*")})


def processes(netns: str) -> list[int]:
    """Processes that live in a namespace."""
    if not (NETNS_FOLDER / netns).exists():
        return []
    try:
        inode = (NETNS_FOLDER / netns).stat().st_ino
    except OSError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == inode:
                    found.append(int(entry.name))
    return found


def stop_processes(netns_names: Iterable[str], patience_s: float = 2.0) -> None:
    """End all processes of some namespaces: SIGTERM, then SIGKILL; returns when none is left."""
    names = tuple(netns_names)
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, patience_s)):
        handles = []
        for pid in (pid for name in names for pid in processes(name)):
            # A handle can't come to mean another process, as a number can.
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                handles.append((pid, handle))
                signal.pidfd_send_signal(handle, number)
        for pid, handle in handles:
            _await_end(pid, handle, wait_s)


def _await_end(pid: int, handle: int, wait_s: float) -> None:

    select.select([handle], [], [], wait_s)
    os.close(handle)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _mac(address: str) -> str:
    return "02:54:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
