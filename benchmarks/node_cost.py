"""What the collector takes of a node: processor and memory of the real command, at rest and at 50,000 packets/s.

Two namespaces with a veth between them, the embedded broker, and ``tierflow collect`` as the chart starts it. Needs
root and kernel headers. The program in the kernel runs on whoever sends the packet: its time is told apart.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks.collector import STATISTICS
from benchmarks.harness import Report, check
from tierflow.cli.broker import broker_argv
from tierflow.collector import bpf_syscall
from tierflow.collector.ebpf import BPF_FILE_SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDS_ROOT = True
RATE = 50_000
CONVERSATIONS = 1_000
TICKS = os.sysconf("SC_CLK_TCK")
SEND = """
import socket, sys, time
rate, seconds, conversations = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(conversations)]
for number, s in enumerate(sockets): s.connect((sys.argv[1], 9000 + number % 100))
started, sent, burst = time.monotonic(), 0, rate // 200
while (now := time.monotonic() - started) < seconds:
    while sent < now * rate and sent < rate * seconds:
        for _ in range(burst):
            try: sockets[sent % conversations].send(b"x" * 64)
            except ConnectionRefusedError: pass
            sent += 1
    time.sleep(0.001)
print(sent)
"""
# What is sent to is there, so that no refusal travels back.
SINK = """
import select, socket
sockets = []
for port in range(9000, 9100):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", port)); sockets.append(s)
print("ready", flush=True)
while True:
    for s in select.select(sockets, [], [])[0]:
        s.recv(2048)
"""


class _Node:
    """A node's and a pod's namespace with the broker and the collector in the node's."""

    def __init__(self) -> None:
        tag = secrets.token_hex(3)
        self.node, self.pod, self.veth, self.name = f"tfn{tag}n", f"tfn{tag}p", f"tfn{tag}", f"cost{tag}"
        self._left = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            for namespace in (self.node, self.pod):
                _run("ip", "netns", "add", namespace)
                undo.callback(_run, "ip", "netns", "del", namespace)
                _run("ip", "-n", namespace, "link", "set", "lo", "up")
            peer = ("type", "veth", "peer", "name", "eth0", "netns", self.pod)
            _run("ip", "-n", self.node, "link", "add", self.veth, *peer)
            for namespace, device, last in ((self.node, self.veth, 1), (self.pod, "eth0", 2)):
                _run("ip", "-n", namespace, "addr", "add", f"10.97.2.{last}/24", "dev", device)
                _run("ip", "-n", namespace, "link", "set", device, "up")
            undo.enter_context(_running(self.inside(self.node, *broker_argv(9092)), None))
            self.collector = undo.enter_context(
                _running(
                    self.inside(
                        self.node, sys.executable, "-m", "tierflow.cli.main", "collect", "--kafka=127.0.0.1:9092",
                        f"--interfaces={self.veth}", "--interval-s=1", f"--node={self.name}", "--metrics-port=9464",
                        "--log-format=text",
                    ),
                    "ready",
                )
            )  # fmt: skip
            undo.enter_context(_running(self.inside(self.node, sys.executable, "-c", SINK), "ready"))
            self._left = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    @staticmethod
    def inside(namespace: str, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{namespace}", *argv]

    def send(self, seconds: float) -> int:
        """UDP datagrams of 92 bytes at the rate; returns how many were sent."""
        argv = self.inside(
            self.pod, sys.executable, "-c", SEND, "10.97.2.1", str(RATE), str(seconds), str(CONVERSATIONS)
        )
        return int(_run(*argv))

    def sent_records(self) -> int:
        """Records that the broker has acknowledged, by the collector's own metric."""
        question = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
        said = _run(*self.inside(self.node, sys.executable, "-c", question))
        lines = [line for line in said.splitlines() if line.startswith("tierflow_collector_records_sent_total ")]
        return int(float(lines[0].split()[1])) if lines else 0

    def kernel(self) -> tuple[int, int]:
        """Nanoseconds and runs of the two programs since they were loaded."""
        (folder,) = (BPF_FILE_SYSTEM / "tierflow" / self.name).iterdir()
        total = [0, 0]
        for program in ("from_pod", "to_pod"):
            fd = bpf_syscall.open_pinned(folder / program)
            found = bpf_syscall.program_statistics(fd)
            os.close(fd)
            total = [total[0] + found[0], total[1] + found[1]]
        return total[0], total[1]


@contextlib.contextmanager
def _running(argv: list[str], word: str | None) -> Iterator[subprocess.Popen[str]]:
    """A process, once it has said the word."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said: list[str] = []
        while word is not None and (not said or word not in said[-1]):
            said.append(process.stdout.readline())
            check(said[-1] != "", f"{argv[3:6]} ended: {said}")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        process.stdout.close()


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=180).stdout


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def run(quick: bool) -> list[Report]:
    """The collector's processor time and memory, at rest and under load."""
    seconds = 3.0 if quick else 25.0
    report = Report(
        "collector, cost on a node", {"packets/s": RATE, "conversations": CONVERSATIONS, "seconds": seconds}
    )
    before_enabled = STATISTICS.read_text()
    with _Node() as node:
        pid = node.collector.pid
        try:
            STATISTICS.write_text("1\n")
            began, cpu = time.monotonic(), _cpu_s(pid)
            time.sleep(seconds)
            rest = (_cpu_s(pid) - cpu) / (time.monotonic() - began)
            at_rest_bytes = _memory_bytes(pid)
            began, cpu, kernel = time.monotonic(), _cpu_s(pid), node.kernel()
            sent = node.send(seconds)
            took = time.monotonic() - began
            load = (_cpu_s(pid) - cpu) / took
            nanoseconds, runs = (after - before for after, before in zip(node.kernel(), kernel, strict=True))
            loaded_bytes = _memory_bytes(pid)
        finally:
            STATISTICS.write_text(before_enabled)
        time.sleep(2.5)
        records = node.sent_records()
    check(sent >= 0.9 * RATE * seconds, f"only {sent} packets sent in {seconds} s: the machine is too busy")
    check(sent <= runs <= sent * 1.05 + 1_000, f"{runs} runs of the program for {sent} packets")
    check(records >= CONVERSATIONS * (seconds - 2), f"only {records} records reached the broker")
    report.checked = "packets against the program's runs, records against the broker's acknowledgements"
    report.add("process at rest", rest * 1000, "millicores", "lower")
    report.add("process at 50,000 packets/s", load * 1000, "millicores", "lower")
    report.add("in the kernel, on the senders", nanoseconds / took / 1e6, "millicores", "lower")
    report.add("in the kernel, per packet", nanoseconds / runs, "ns", "lower")
    report.add("memory at rest", at_rest_bytes / 2**20, "MiB", "lower")
    report.add("memory under load", loaded_bytes / 2**20, "MiB", "lower")
    return [report]
