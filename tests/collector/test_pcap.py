"""Capture files: the same records as the live source makes of the same packets, and files that can't be read."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collector.network import HTTP_CLIENT, POD_B, SERVICE, Network, inside, need_bcc
from tests.collector.test_live import collecting, serving
from tierflow.collector.capture import TruncatedError, frames
from tierflow.collector.pcap import PcapSettings, PcapSource
from tierflow.schemas.errors import ConfigurationError, TierflowError
from tierflow.schemas.record import RECORD, Mark, Reporter, address_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SENTINEL = b"the last packet of this capture"
MIXED = """
import socket, sys
b4, b6, seconds = sys.argv[1], sys.argv[2], 5
for family, address in ((socket.AF_INET, b4), (socket.AF_INET6, b6)):
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.settimeout(seconds)
    for size in (1, 1200, 9000):
        udp.sendto(b"x" * size, (address, 7))
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.settimeout(seconds)
    try:
        tcp.connect((address, 81))
    except ConnectionRefusedError:
        pass
    udp.close(); tcp.close()
"""
PING = """
import socket, struct, sys
def sums(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.settimeout(5)
for sequence in range(3):
    head = struct.pack(">HHH", 4242, sequence, 0)
    raw.sendto(struct.pack(">HH", 8 << 8, sums(b"\\x08\\0" + head)) + head, (sys.argv[1], 0))
    while raw.recv(100)[20] != 0:
        pass
"""
END = """
import socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.sendto(b"\\0\\0\\0\\0\\0\\0\\0\\0" + sys.argv[2].encode(), (sys.argv[1], 0))
"""


def records_of(file: Path, interval_s: float = 3600, keepalive_s: float = 86_400) -> NDArray[np.void]:
    source = PcapSource(PcapSettings(file, interval_s, keepalive_s, 65_536))
    source.start()
    return np.concatenate([part.records for part in source.drain()])


def sorted_ipv4_and_pods(records: NDArray[np.void]) -> NDArray[np.void]:
    """Without what the kernel sends on its own at any time (neighbour discovery, multicast reports)."""
    kept = records[records["proto"] != 58]
    identity = ["src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port", "proto", "reporter", "bytes_fwd"]
    return kept[np.argsort(kept, order=identity)]


@pytest.mark.root
def test_a_capture_gives_the_records_that_the_live_source_gave_of_the_same_packets(tmp_path: Path) -> None:
    need_bcc("tcpdump", "ip", "nft")
    file = tmp_path / "node.pcap"
    # The server is started within both: what it sends as it starts must be in both.
    with Network() as network, capturing(network, file), collecting(network, tmp_path) as live, serving(network):
        network.python(network.a, HTTP_CLIENT, f"{POD_B}:8080", "10", "300000")
        network.python(network.a, HTTP_CLIENT, SERVICE, "500")
        network.python(network.a, PING, POD_B)
        network.python(network.a, MIXED, POD_B, "fd98:2::2")
        network.python(network.a, END, POD_B, SENTINEL.decode())
        until_captured(file, SENTINEL)
        seen, loss = live.drain()
    assert loss == (0, 0, 0)
    expected, captured = sorted_ipv4_and_pods(seen), sorted_ipv4_and_pods(records_of(file))
    assert identities(captured) == identities(expected)
    assert len(captured) > 12
    for field in RECORD.names or ():
        if field.startswith("nat_dst"):
            continue  # the node's connection tracking knows it, the packets don't
        if field in ("first_seen_ns", "last_seen_ns", "handshake_rtt_us"):
            scale = 1_000 if field.endswith("us") else 1
            apart = np.abs(captured[field].astype(np.int64) - expected[field].astype(np.int64)) * scale
            assert apart.max() < 20_000_000, field
            assert ((captured[field] == 0) == (expected[field] == 0)).all(), field
        else:
            assert (captured[field] == expected[field]).all(), field


def identities(records: NDArray[np.void]) -> list[tuple[str, int, str, int, int, str, int]]:
    return [
        (
            address_text(int(each["src_hi"]), int(each["src_lo"])), int(each["src_port"]),
            address_text(int(each["dst_hi"]), int(each["dst_lo"])), int(each["dst_port"]),
            int(each["proto"]), Reporter(each["reporter"]).label, int(each["bytes_fwd"]),
        )
        for each in records
    ]  # fmt: skip


class capturing:  # noqa: N801 - reads as a statement
    """tcpdump on all of a node's interfaces, in cooked form, which says interface and direction."""

    def __init__(self, network: Network, file: Path) -> None:
        self._argv = (
            "tcpdump", "-i", "any", "-y", "LINUX_SLL2", "-U", "--immediate-mode", "-B", "32768", "-s", "200",
            "--time-stamp-precision=nano", "-Z", "root", "-w", str(file),
        )  # fmt: skip
        self._network = network

    def __enter__(self) -> None:
        self._process = self._network.start(self._network.node, *self._argv, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "listening on" in line:
                return
        raise AssertionError("tcpdump did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)


def until_captured(file: Path, sentinel: bytes) -> None:
    """Return when both crossings of the last packet, into the node and out of it, are in the file."""
    deadline = time.monotonic() + 20
    while file.read_bytes().count(sentinel) < 2:
        assert time.monotonic() < deadline, "the capture never saw its last packet"
        time.sleep(0.02)  # between two looks at a file that another process writes


def ethernet(kind: int, payload: bytes, vlans: int = 0) -> bytes:
    tags = b"".join(struct.pack(">HH", 0x8100, 7 + each) for each in range(vlans))
    return bytes(12) + tags + struct.pack(">H", kind) + payload


def ipv4(proto: int, payload: bytes, src: int = 1, dst: int = 2, identity: int = 0, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), identity, fragment, 64, proto, 0)
    return head + bytes((10, 0, 0, src)) + bytes((10, 0, 0, dst)) + payload


def ipv6(proto: int, payload: bytes) -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(payload), proto, 64)
    return head + bytes(15) + b"\1" + bytes(15) + b"\2" + payload


def udp(src: int, dst: int, size: int = 4) -> bytes:
    return struct.pack(">HHHH", src, dst, 8 + size, 0) + bytes(size)


def pcap(packets: list[bytes], link_type: int = 1, order: str = "<", snap: int = 65_535, step_s: int = 0) -> bytes:
    out = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap, link_type)
    for index, packet in enumerate(packets):
        kept = packet[:snap]
        out += struct.pack(order + "IIII", 1_700_000_000 + index * step_s, index, len(kept), len(packet)) + kept
    return out


def block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def pcapng(packets: list[tuple[int, bytes]], order: str = "<", resolution: int = 9) -> bytes:
    """``(direction, frame)``; an interface of Ethernet frames with times in 10^-resolution s."""
    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    options = struct.pack(order + "HHB3x", 9, 1, resolution) + struct.pack(order + "HH", 0, 0)
    out += block(1, struct.pack(order + "HHI", 1, 0, 0) + options, order)
    for index, (direction, packet) in enumerate(packets):
        units = 1_700_000_000 * 10**resolution + index
        body = struct.pack(order + "IIIII", 0, units >> 32, units & 0xFFFFFFFF, len(packet), len(packet))
        body += packet + bytes(-len(packet) % 4)
        body += struct.pack(order + "HHI", 2, 4, direction) + struct.pack(order + "HH", 0, 0)
        out += block(6, body, order)
    return out


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link_type", [1, 101, 113, 276])
def test_each_link_type_in_each_byte_order_gives_the_same_counts(tmp_path: Path, order: str, link_type: int) -> None:
    there, back = ipv4(17, udp(40_000, 53, 10)), ipv4(17, udp(53, 40_000, 100), 2, 1)
    heads = {
        1: bytes(12) + b"\x08\x00", 101: b"",
        113: struct.pack(">HHH8xH", 0, 1, 6, 0x0800), 276: struct.pack(">HHIHBB8x", 0x0800, 0, 5, 1, 0, 6),
    }  # fmt: skip
    outgoing = {**heads, 113: b"\0\4" + heads[113][2:], 276: heads[276][:10] + b"\4" + heads[276][11:]}
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([heads[link_type] + there, outgoing[link_type] + back], link_type, order))
    (record,) = records_of(file)
    assert (record["packets_fwd"], record["packets_rev"]) == (1, 1)
    assert (record["bytes_fwd"], record["bytes_rev"]) == (38, 128)
    assert (record["src_port"], record["dst_port"], record["proto"]) == (40_000, 53, 17)
    assert record["reporter"] == (Reporter.SRC if link_type in (113, 276) else Reporter.FWD)
    assert record["last_seen_ns"] - record["first_seen_ns"] == 1_000


@pytest.mark.parametrize(("order", "resolution"), [("<", 9), (">", 9), ("<", 6), ("<", 3)])
def test_a_pcapng_file_says_direction_and_time(tmp_path: Path, order: str, resolution: int) -> None:
    file = tmp_path / "x.pcapng"
    into, out = ethernet(0x0800, ipv4(17, udp(50_000, 53))), ethernet(0x0800, ipv4(17, udp(53, 50_000), 2, 1))
    file.write_bytes(pcapng([(2, into), (1, out)], order, resolution))
    (record,) = records_of(file)
    assert record["reporter"] == Reporter.DST
    assert record["first_seen_ns"] == 1_700_000_000 * 10**9
    assert record["last_seen_ns"] - record["first_seen_ns"] == 10 ** (9 - resolution)


def odd_frames() -> list[bytes]:
    """SCTP in two VLANs, UDP past extension headers, a datagram in fragments, a stray fragment, an echo, and ARP."""
    extension = struct.pack(">BBHI", 60, 0, 0, 0) + struct.pack(">BBHI", 17, 0, 0, 0)
    datagram = udp(40_000, 53, 32)
    return [
        ethernet(0x0800, ipv4(132, struct.pack(">HHII", 36_412, 38_412, 0, 0)), vlans=2),
        ethernet(0x86DD, ipv6(0, extension + udp(40_000, 53))),
        ethernet(0x0800, ipv4(17, datagram[:24], identity=9, fragment=0x2000)),
        ethernet(0x0800, ipv4(17, datagram[24:], identity=9, fragment=3)),
        ethernet(0x0800, ipv4(17, datagram[24:], identity=10, fragment=3)),
        ethernet(0x0800, ipv4(1, struct.pack(">BBHHH", 8, 0, 0, 77, 1))),
        ethernet(0x0806, bytes(28)),
    ]


@pytest.mark.root
def test_hand_made_frames_are_counted_in_the_kernel_as_from_a_file(tmp_path: Path) -> None:
    need_bcc()

    def send(frames: list[bytes]) -> bool:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            for frame in frames:
                raw.send(frame)
        return True

    file = tmp_path / "x.pcap"
    file.write_bytes(pcap(odd_frames()))
    with Network() as network, collecting(network, tmp_path) as live:
        inside(network.a, lambda: send(odd_frames()))
        seen, loss = live.drain()
    assert loss == (0, 0, 0)
    fields = [
        "src_hi",
        "src_lo",
        "dst_hi",
        "dst_lo",
        "src_port",
        "dst_port",
        "proto",
        "marks",
        "packets_fwd",
        "bytes_fwd",
    ]
    captured = records_of(file)
    assert len(captured) == 5
    found = {tuple(int(each[field]) for field in fields) for each in seen if each["proto"] != 58}
    assert found == {tuple(int(each[field]) for field in fields) for each in captured}


def test_vlan_tags_extension_headers_and_fragments_are_passed_over_as_in_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap(odd_frames()))
    sctp, six, whole, orphan, echo = records_of(file)
    assert (echo["src_port"], echo["dst_port"]) == (77, 8 << 8)
    assert (sctp["proto"], sctp["src_port"], sctp["dst_port"]) == (132, 36_412, 38_412)
    assert (six["proto"], six["src_lo"], six["dst_lo"], six["dst_port"], six["bytes_fwd"]) == (17, 1, 2, 53, 68)
    assert (whole["packets_fwd"], whole["src_port"], whole["dst_port"]) == (2, 40_000, 53)
    assert orphan["marks"] & Mark.FRAGMENTED
    assert (orphan["src_port"], orphan["packets_fwd"]) == (0, 1)


def test_intervals_follow_the_packets_and_idle_conversations_are_completed(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([ethernet(0x0800, ipv4(17, udp(40_000 + each // 2, 53))) for each in range(4)], step_s=40))
    source = PcapSource(PcapSettings(file, 5, 3600, 1024))
    parts = list(source.drain())
    records = np.concatenate([part.records for part in parts])
    assert records["packets_fwd"].sum() == 4
    assert (records["marks"] & Mark.COMPLETED != 0).sum() == 3
    watermarks = [part.watermark_ns for part in parts]
    assert watermarks == sorted(watermarks)
    for index, part in enumerate(parts):
        assert part.interval_start_ns <= part.interval_end_ns
        if index:
            assert (part.records["last_seen_ns"] >= watermarks[index - 1]).all()


def test_a_packet_up_to_an_interval_out_of_order_is_before_no_watermark(tmp_path: Path) -> None:
    def at(seconds: float, port: int) -> bytes:
        frame = ethernet(0x0800, ipv4(17, udp(port, 53)))
        return (
            struct.pack("<IIII", 1_700_000_000 + int(seconds), int(seconds % 1 * 1e6), len(frame), len(frame)) + frame
        )

    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([]) + at(0, 40_000) + at(6, 40_001) + at(4.9, 40_002) + at(12, 40_003))
    passed_ns = 0
    for part in PcapSource(PcapSettings(file, 5, 3600, 1024)).drain():
        assert not len(part.records) or part.records["last_seen_ns"].min() >= passed_ns
        passed_ns = max(passed_ns, part.watermark_ns)
    assert passed_ns > 1_700_000_012 * 10**9


def test_frames_cut_within_their_headers_count_as_loss(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([ethernet(0x0800, ipv4(17, udp(40_000, 53)))], snap=20))
    loss = [part.loss for part in PcapSource(PcapSettings(file, 5, 3600, 1024)).drain()]
    assert sum(each.packets for each in loss) == 1


def test_a_truncated_file_yields_what_is_whole_and_then_says_where_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([ethernet(0x0800, ipv4(17, udp(40_000, 53)))] * 3)[:-5])
    source, seen = PcapSource(PcapSettings(file, 5, 3600, 1024)), 0
    source.start()
    with pytest.raises(TruncatedError, match="after packet 2"):  # noqa: PT012 - the error ends the loop
        for part in source.drain():
            seen += int(part.records["packets_fwd"].sum())
    assert seen == 2


def test_a_time_beyond_every_calendar_is_damage(tmp_path: Path) -> None:
    frame = ethernet(0x0800, ipv4(17, udp(40_000, 53)))
    good = pcapng([(1, frame)], resolution=9)
    times = {units: good.replace(struct.pack("<II", *divmod(17 * 10**17, 1 << 32)), struct.pack("<II", units, 0))
             for units in (1 << 30, (1 << 32) - 1)}  # fmt: skip
    for units, content in times.items():
        file = tmp_path / f"{units}.pcapng"
        file.write_bytes(content)
        with pytest.raises(TruncatedError, match="damaged after packet 1"):
            records_of(file)


@settings(max_examples=300)
@given(
    ng=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.integers(0, 10_000),
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, ng: bool, changes: list[tuple[int, int]], length: int
) -> None:
    frames_of = [ethernet(0x0800, ipv4(17, udp(40_000, 53))), ethernet(0x86DD, ipv6(17, udp(53, 40_000)))]
    content = bytearray(pcapng([(1, each) for each in frames_of]) if ng else pcap(frames_of))
    for at, byte in changes:
        content[at % len(content)] = byte
    file = tmp_path_factory.mktemp("damaged") / "x"
    file.write_bytes(content[: length % len(content) if length % 3 == 0 else None])
    with contextlib.suppress(TierflowError):
        records = records_of(file)
        assert int(records["packets_fwd"].sum() + records["packets_rev"].sum()) <= 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a capture file"),
        (b"PK\3\4 some archive", "not a capture file"),
        (pcap([], link_type=105), "link type 105"),
        (None, "No such file"),
    ],
)
def test_a_missing_or_foreign_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "x.pcap"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says) as caught:
        next(frames(file))
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
