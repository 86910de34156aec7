"""Puts the programs on the interfaces that match, follows those that come and go, and takes them off again."""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import os
import socket
from typing import TYPE_CHECKING, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterable

_log = logging.getLogger(__name__)

PRIORITY: Final = 0x7F10
"""Preference of tierflow's filters: with the handle and the name it says whose they are."""
HANDLE: Final = 0x1
FILTER_NAME: Final = "tierflow"
_PARENTS: Final = {"from_pod": 0xFFFFFFF2, "to_pod": 0xFFFFFFF3}
"""clsact's ingress and egress."""
_RTMGRP_LINK: Final = 1


def link_events() -> socket.socket:
    """A non-blocking netlink socket that becomes readable when a link comes, goes or changes."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    events.bind((0, _RTMGRP_LINK))
    return events


def discard(events: socket.socket) -> None:
    """Read away what waits; an overrun is no loss, because the links are listed afresh."""
    while True:
        try:
            events.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            continue


class Attachments:
    """tierflow's filters on the interfaces whose names match ``patterns``; blocking netlink calls."""

    __slots__ = ("_attached", "_patterns", "_programs", "_refused")

    def __init__(self, patterns: Iterable[str], programs: dict[str, int]) -> None:
        self._patterns = tuple(patterns)
        self._programs = programs
        self._attached: dict[int, str] = {}
        self._refused: set[int] = set()

    @property
    def interfaces(self) -> dict[int, str]:
        """Index and name of the interfaces watched now."""
        return dict(self._attached)

    def follow(self) -> tuple[dict[int, str], dict[int, str]]:
        """Attach to new interfaces, and to those that refused before; returns those that came and those that went."""
        present = {
            index: name
            for index, name in socket.if_nameindex()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns)
        }
        gone = {index: name for index, name in self._attached.items() if index not in present}
        for index in gone:
            del self._attached[index]
        came: dict[int, str] = {}
        new = {index: name for index, name in present.items() if index not in self._attached}
        if new:
            with IPRoute() as netlink:
                came = {index: name for index, name in new.items() if self._take(netlink, index, name)}
        self._refused &= present.keys()
        return came, gone

    def _take(self, netlink: IPRoute, index: int, name: str) -> bool:
        """Attach to an interface that is known before its programs count: to a sweep, what isn't known has ended."""
        self._attached[index] = name
        attached = False
        try:
            attached = self._attach(netlink, index, name)
        finally:
            if not attached:
                del self._attached[index]
        return attached

    def _attach(self, netlink: IPRoute, index: int, name: str) -> bool:
        try:
            with contextlib.suppress(NetlinkError):  # there already: another program's, or our own of before
                netlink.tc("add", "clsact", index)
            for program, parent in _PARENTS.items():
                # Replacing puts the new program in the place of one that a killed collector left, without a gap.
                netlink.tc(
                    "replace-filter", "bpf", index, HANDLE,
                    fd=self._programs[program], name=FILTER_NAME, parent=parent,
                    prio=PRIORITY, direct_action=True,
                )  # fmt: skip
        except NetlinkError as error:
            if name not in dict(_named()):
                return False  # went while it was attached to
            if index not in self._refused:
                self._refused.add(index)
                _log.warning("interface %s: could not attach, trying again: %s", name, os.strerror(error.code))
            return False
        self._refused.discard(index)
        return True

    def detach(self) -> None:
        """Take tierflow's filters off all interfaces; clsact goes too where nothing else uses it."""
        with IPRoute() as netlink:
            for index in self._attached:
                for parent in _PARENTS.values():
                    with contextlib.suppress(NetlinkError):  # the link, and its filter with it, is gone
                        netlink.tc("del-filter", "bpf", index, HANDLE, parent=parent, prio=PRIORITY)
                with contextlib.suppress(NetlinkError):
                    if not any(list(netlink.get_filters(index, parent=parent)) for parent in _PARENTS.values()):
                        netlink.tc("del", "clsact", index)
        self._attached.clear()


def _named() -> Iterable[tuple[str, int]]:
    return [(name, index) for index, name in socket.if_nameindex()]
