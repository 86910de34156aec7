"""Namespaces that stand for a node with two pods, their traffic, and a look at them from within."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.conftest import absent
from tierflow.collector.ebpf import BPF_FILE_SYSTEM
from tierflow.collector.loader import import_bcc
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

POD_A, POD_B = "10.98.1.2", "10.98.2.2"
SERVICE = "10.98.250.1"

NFT = """
table ip count {{
  counter a_out {{ }}
  counter a_in {{ }}
  counter b_out {{ }}
  counter b_in {{ }}
  chain before {{
    type filter hook prerouting priority -300; policy accept;
    iifname {a} counter name a_out
    iifname {b} counter name b_out
  }}
  chain after {{
    type filter hook postrouting priority 300; policy accept;
    oifname {a} counter name a_in
    oifname {b} counter name b_in
  }}
  chain nat {{
    type nat hook prerouting priority -100; policy accept;
    ip daddr {service} tcp dport 80 dnat to {backend}:8080
  }}
}}
"""


def need_bcc(*tools: str) -> None:
    """Skip, or fail where services are required, without BCC or one of the tools."""
    for tool in tools:
        if shutil.which(tool) is None:
            absent(f"needs {tool}")
    try:
        import_bcc()
    except UnavailableError as error:
        absent(str(error))


def sh(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30, **options)


def unpin(node: str) -> None:
    """Remove what collectors of a node have pinned."""
    pinned = BPF_FILE_SYSTEM / "tierflow"
    shutil.rmtree(pinned / node, ignore_errors=True)
    with contextlib.suppress(OSError):  # others pin there too
        pinned.rmdir()


class Network:
    """A router namespace (the node) with the host-side veths of pods a and b."""

    def __init__(self) -> None:
        tag = secrets.token_hex(3)
        self.node, self.a, self.b = (f"tfc{tag}{suffix}" for suffix in "nab")
        self.veth_a, self.veth_b = f"tf{tag}a", f"tf{tag}b"
        self.pattern = f"tf{tag}*"

    def __enter__(self) -> Self:
        try:
            for name in (self.node, self.a, self.b):
                sh("ip", "netns", "add", name)
                sh("ip", "-n", name, "link", "set", "lo", "up")
            for pod, veth, number in ((self.a, self.veth_a, 1), (self.b, self.veth_b, 2)):
                self.connect(pod, veth, number)
            for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                self.on(self.node, "sysctl", "-qw", f"{key}=1")
            rules = NFT.format(a=self.veth_a, b=self.veth_b, service=SERVICE, backend=POD_B)
            self.on(self.node, "nft", "-f", "-", input=rules)
        except BaseException:
            self.__exit__()
            raise
        return self

    def connect(self, pod: str, veth: str, number: int) -> None:
        sh("ip", "-n", self.node, "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pod)
        for where, device, last in ((self.node, veth, 1), (pod, "eth0", 2)):
            sh("ip", "-n", where, "addr", "add", f"10.98.{number}.{last}/24", "dev", device)
            sh("ip", "-n", where, "-6", "addr", "add", f"fd98:{number}::{last}/64", "dev", device, "nodad")
            sh("ip", "-n", where, "link", "set", device, "up")
        sh("ip", "-n", pod, "route", "add", "default", "via", f"10.98.{number}.1")
        sh("ip", "-n", pod, "-6", "route", "add", "default", "via", f"fd98:{number}::1")

    def __exit__(self, *_: object) -> None:
        for name in (self.a, self.b, self.node):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=30)

    def on(self, namespace: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return sh("nsenter", f"--net=/run/netns/{namespace}", *argv, **options)

    def start(self, namespace: str, *argv: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", *argv],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def python(self, namespace: str, program: str, *arguments: str) -> str:
        """What ``program`` printed, once it has ended and its connections too.

        A server's FIN comes when the server gets to it: that may be after its client is gone.
        """
        printed = self.on(namespace, sys.executable, "-c", program, *arguments).stdout
        deadline = time.monotonic() + 60
        while any(inside(pod, open_connections) for pod in (self.a, self.b)):
            assert time.monotonic() < deadline, "a connection was left open"
            time.sleep(0.005)  # between two looks at a table that the kernel writes
        return printed

    def counters(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes by nftables counter."""
        import json

        listed = json.loads(self.on(self.node, "nft", "-j", "list", "counters").stdout)["nftables"]
        found = [item["counter"] for item in listed if "counter" in item]
        return {item["name"]: (item["packets"], item["bytes"]) for item in found}


def open_connections() -> list[str]:
    """The calling thread's network namespace's TCP sockets that may still send something."""
    listening, waiting = "0A", "06"  # TIME_WAIT answers only what is sent again
    lines = [
        line
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/thread-self/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    ]
    return [line for line in lines if line.split()[3] not in (listening, waiting)]


def inside(namespace: str, work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a thread of its own that lives in ``namespace``."""
    result: list[Any] = []

    def run() -> None:
        fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)
        result.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=120)
    if not result:
        raise AssertionError("the work in the namespace failed")
    return result[0]


HTTP_SERVER = """
import http.server, socketserver, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"x" * int(self.path.rsplit("/", 1)[1])
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    server_bind = socketserver.TCPServer.server_bind  # without asking DNS for its own name
server = S((sys.argv[1], 8080), H)
print("ready", flush=True)
server.serve_forever()
"""

HTTP_CLIENT = """
import sys, urllib.request
for size in sys.argv[2:]:
    assert len(urllib.request.urlopen(f"http://{sys.argv[1]}/{size}", timeout=10).read()) == int(size)
"""
