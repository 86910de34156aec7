"""The collector: time in the kernel for each packet, a drain of a full map, memory. Needs root and kernel headers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.harness import Report, check, process_memory_bytes
from tierflow.collector import bpf_syscall
from tierflow.collector.ebpf import BPF_FILE_SYSTEM, EbpfSettings, EbpfSource
from tierflow.collector.map_layout import KEY
from tierflow.collector.publisher import Publisher, PublisherSettings
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import RECORD, V4_MAPPED, Reporter
from tierflow.schemas.wire import Source, decode_batch

NEEDS_ROOT = True
STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
ENTRIES = 1 << 20
ROUNDS = 6
SEND = """
import socket, sys
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
for s in sockets: s.connect((sys.argv[1], 9))
for number in range(int(sys.argv[2])):
    try: sockets[number % 100].send(b"x" * 64)
    except ConnectionRefusedError: sockets[number % 100].send(b"x" * 64)
"""


class _Counting:
    """A sender that takes all at once, as the fastest broker would, and sums what it gets."""

    def __init__(self) -> None:
        self.records = self.packets = self.bytes = 0

    async def send(self, key: bytes, value: bytes) -> None:
        records = decode_batch(value).records
        self.records += len(records)
        self.packets += int(records["packets_fwd"].sum()) + int(records["packets_rev"].sum())
        self.bytes += int(records["bytes_fwd"].sum()) + int(records["bytes_rev"].sum())


def collect(node: str, pattern: str) -> None:
    """The measured process: drains at each line read, and says what came of it and what it took."""
    source = EbpfSource(EbpfSettings(node, (pattern,), 1.0, 86_400.0, ENTRIES))
    source.start()
    print("ready", flush=True)
    try:
        for _ in sys.stdin:
            print(json.dumps(asyncio.run(_drained(source))), flush=True)
    finally:
        source.stop()


async def _drained(source: EbpfSource) -> dict[str, Any]:
    sender = _Counting()
    publisher = Publisher(PublisherSettings("bench", "", bytes(16), Source.EBPF, patience_s=60), sender, Metrics())
    sending = asyncio.create_task(publisher.run())
    in_source = 0.0
    started, cpu_started = time.perf_counter(), time.process_time()
    parts = source.drain()
    while True:
        before = time.perf_counter()
        part = await asyncio.to_thread(next, parts, None)
        in_source += time.perf_counter() - before
        if part is None:
            break
        await publisher.offer(part)
    left = await publisher.flush(60)
    total = time.perf_counter() - started
    sending.cancel()
    statistics = [bpf_syscall.program_statistics(fd) for fd in source.programs.values()]
    return {
        "records": sender.records, "packets": sender.packets, "bytes": sender.bytes, "left": left,
        "drain_s": in_source, "total_s": total, "cpu_s": time.process_time() - cpu_started,
        "memory": process_memory_bytes(os.getpid()),
        "run_time_ns": sum(each[0] for each in statistics), "run_count": sum(each[1] for each in statistics),
    }  # fmt: skip


class _Bench:
    """A node's and a pod's namespace, and the measured process in the node's."""

    def __init__(self) -> None:
        tag = secrets.token_hex(3)
        self.node, self.pod, self.veth, self.name = f"tfb{tag}n", f"tfb{tag}p", f"tfb{tag}", f"bench{tag}"
        self.drains = 0

    def __enter__(self) -> Self:
        for namespace in (self.node, self.pod):
            _sh("ip", "netns", "add", namespace)
        _sh("ip", "-n", self.node, "link", "add", self.veth, "type", "veth", "peer", "name", "eth0", "netns", self.pod)
        for namespace, device, last in ((self.node, self.veth, 1), (self.pod, "eth0", 2)):
            _sh("ip", "-n", namespace, "addr", "add", f"10.97.1.{last}/24", "dev", device)
            _sh("ip", "-n", namespace, "link", "set", device, "up")
        self.process = subprocess.Popen(
            [
                "nsenter", f"--net=/run/netns/{self.node}", sys.executable, "-m", "benchmarks.collector",
                self.name, self.veth,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert self.process.stdout is not None
        check(self.process.stdout.readline() == "ready\n", "the collector did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        for namespace in (self.pod, self.node):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def drain(self) -> dict[str, Any]:
        """One drain of the measured process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.drains += 1
        self.process.stdin.write("drain\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def send(self, packets: int) -> None:
        """UDP datagrams of 92 bytes from the pod to the node, over 100 conversations."""
        _sh("nsenter", f"--net=/run/netns/{self.pod}", sys.executable, "-c", SEND, "10.97.1.1", str(packets))

    def transmitted(self) -> int:
        """Packets through the watched interface, both ways, by the interface's own counters."""
        shown = json.loads(_sh("ip", "-n", self.node, "-j", "-s", "link", "show", self.veth))
        return int(shown[0]["stats64"]["rx"]["packets"] + shown[0]["stats64"]["tx"]["packets"])

    def fill(self, entries: int) -> None:
        """Put ``entries`` conversations of seven packets into the counters that the next drain takes."""
        (folder,) = (BPF_FILE_SYSTEM / "tierflow" / self.name).iterdir()
        # The source starts with the first map and swaps at each drain.
        active = bpf_syscall.open_pinned(folder / ("counters_b" if self.drains % 2 else "counters_a"))
        for at in range(0, entries, 65_536):
            count = min(65_536, entries - at)
            keys, values = np.zeros(count, KEY), np.zeros(count, RECORD)
            keys["local_lo"] = values["src_lo"] = V4_MAPPED + np.arange(at, at + count)
            keys["proto"] = values["proto"] = 6
            values["reporter"], values["packets_fwd"], values["packets_rev"] = Reporter.SRC, 3, 4
            values["bytes_fwd"] = 700
            bpf_syscall.update_batch(active, keys, values)
        os.close(active)


def _sh(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


def kernel(packets: int) -> Report:
    """Nanoseconds in the eBPF program for each packet, by the kernel's own clock."""
    report = Report("collector, in the kernel", {"packets": packets, "bytes each": 92, "conversations": 100})
    before_enabled = STATISTICS.read_text()
    costs: list[float] = []
    with _Bench() as bench:
        try:
            STATISTICS.write_text("1\n")
            bench.send(1_000)
            before, moved = bench.drain(), bench.transmitted()
            for _ in range(ROUNDS):
                bench.send(packets // ROUNDS)
                passed, after = bench.transmitted() - moved, bench.drain()
                runs = after["run_count"] - before["run_count"]
                check(after["packets"] >= packets // ROUNDS, f"{after['packets']} counted of {packets // ROUNDS} sent")
                check(abs(after["packets"] - passed) <= passed // 100, f"{after['packets']} counted, {passed} passed")
                check(abs(runs - passed) <= passed // 100, f"{runs} runs of the program for {passed} packets")
                costs.append((after["run_time_ns"] - before["run_time_ns"]) / runs)
                before, moved = after, moved + passed
        finally:
            STATISTICS.write_text(before_enabled)
    report.checked = "packets against the interface's own counters (ARP is there and not in the records)"
    report.add("eBPF program, per packet, best round", min(costs), "ns", "lower")
    report.add("eBPF program, per packet, median round", sorted(costs)[ROUNDS // 2], "ns", "lower")
    return report


def drain(entries: int) -> Report:
    """A drain of a map with ``entries`` conversations, to encoded batches; and the memory of the whole process."""
    report = Report("collector, a drain", {"conversations": entries, "map entries": ENTRIES})
    with _Bench() as bench:
        bench.drain()
        bench.fill(entries)
        found = bench.drain()
        memory = process_memory_bytes(bench.process.pid)
    check(found["left"] == 0, "records were left")
    check(entries <= found["records"] <= entries + 100, f"{found['records']} records of {entries}")
    check(abs(found["packets"] - 7 * entries) <= 1_000, f"{found['packets']} packets of {7 * entries}")
    report.checked = "records and packets against what was put in; the node's own few neighbour packets apart"
    report.add("map to records", found["drain_s"], "s", "lower")
    report.add("map to encoded batches", found["total_s"], "s", "lower")
    report.add("map to encoded batches, processor time", found["cpu_s"], "s", "lower")
    report.add("memory of the process, at most", max(memory, found["memory"]) / (1 << 20), "MiB", "lower")
    return report


def run(quick: bool) -> list[Report]:
    """All benchmarks of the collector."""
    return [kernel(20_000 if quick else 300_000), drain(100_000 if quick else 1_000_000)]


if __name__ == "__main__":
    collect(*sys.argv[1:3])
