"""Interfaces that come and go while another thread looks at the conversations, or ends the collector."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest

from tests.collector.network import need_bcc
from tierflow.collector import attach, bpf_syscall
from tierflow.collector.attach import Attachments
from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.collector.map_layout import CONVERSATION, KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

INDEX = 7


class Netlink:
    """Calls ``asked`` with each request, in place of the kernel."""

    asked: Callable[[str], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""

    def tc(self, command: str, *_: object, **__: object) -> None:
        type(self).asked(command)


@pytest.fixture
def attachments(monkeypatch: pytest.MonkeyPatch) -> Attachments:
    monkeypatch.setattr(attach, "IPRoute", Netlink)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(INDEX, "veth1")])
    return Attachments(["veth*"], {"from_pod": 3, "to_pod": 4})


def test_an_interface_is_known_before_its_programs_count(attachments: Attachments) -> None:
    known = []
    Netlink.asked = lambda _: known.append(dict(attachments.interfaces))
    assert attachments.follow() == ({INDEX: "veth1"}, {})
    assert known == [{INDEX: "veth1"}] * 3


def test_an_interface_that_could_not_be_attached_to_is_new_again(attachments: Attachments) -> None:
    def fail(_: str) -> None:
        raise OSError(24, "Too many open files")

    Netlink.asked = fail
    with pytest.raises(OSError, match="Too many"):
        attachments.follow()
    assert attachments.interfaces == {}
    Netlink.asked = lambda _: None
    assert attachments.follow()[0] == {INDEX: "veth1"}


@pytest.mark.root
def test_a_collector_whose_patterns_match_nothing_says_so(caplog: pytest.LogCaptureFixture) -> None:
    need_bcc()
    source = EbpfSource(EbpfSettings("blind", ("nosuch*", "neither*"), 1.0, 3600.0, 1024))
    source.start()
    try:
        assert source.interfaces == {}
        assert "no interface is named like nosuch*, neither*: nothing is seen until one is" in caplog.text
    finally:
        source.stop()


class Interfaces:
    """What the source believes its filters are on."""

    def __init__(self) -> None:
        self.interfaces: dict[int, str] = {}
        self.looks = 0
        self.at_the_end: Callable[[], None] = lambda: None

    def follow(self) -> tuple[dict[int, str], dict[int, str]]:
        self.looks += 1
        return {}, {}

    def detach(self) -> None:
        self.at_the_end()


def source_of(interfaces: Interfaces) -> EbpfSource:
    source = EbpfSource(EbpfSettings("test", ("veth*",), 1.0, 3600.0, 1024))
    source._attachments = interfaces  # type: ignore[assignment] # stands for it
    return source


def test_a_conversation_of_an_interface_that_comes_during_a_sweep_has_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interfaces, forgotten = Interfaces(), list[int]()

    class States:
        def peek(self, _: int) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
            interfaces.interfaces[INDEX] = "veth1"  # attached, and its pod speaks
            keys, states = np.zeros(1, KEY), np.zeros(1, CONVERSATION)
            keys["ifindex"], states["last_seen_ns"] = INDEX, 1 << 62
            yield keys, states

    def forget(_: int, keys: NDArray[np.void], __: NDArray[np.void]) -> NDArray[np.bool_]:
        forgotten.append(len(keys))
        return np.ones(len(keys), np.bool_)

    monkeypatch.setattr(bpf_syscall, "delete_unchanged", forget)
    source = source_of(interfaces)
    source._fds = {"conversations": -1}
    source._states = States()  # type: ignore[assignment] # stands for it
    assert len(source._sweep(1_780_000_000 * 10**9, 0)) == 0
    assert forgotten == [0]


def test_a_look_at_the_interfaces_that_waits_for_the_end_attaches_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces, waits = Interfaces(), threading.Event()
    source = source_of(interfaces)
    lock = source._lock

    class Lock:
        """The source's, which tells when the look stands at it."""

        def __enter__(self) -> None:
            if threading.current_thread() is look:
                waits.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    def begin_to_look() -> None:
        look.start()
        assert waits.wait(10)

    look = threading.Thread(target=source.follow)
    interfaces.at_the_end = begin_to_look
    monkeypatch.setattr(source, "_lock", Lock())
    source.stop()
    look.join(10)
    assert interfaces.looks == 0
