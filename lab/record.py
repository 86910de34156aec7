"""What the lab has made, written down before it is made, so that any later run can remove it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX: Final = "tierflow-"
VERSION: Final = 1
NODE: Final = "lab-node"
"""The node that the lab stands for where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One namespace with an address: a pod, or the internet host (``deployment`` is then empty).

    Attributes:
        namespace, name: of the pod.
        deployment: that it belongs to.
        netns: name of its network namespace.
        link: the host-side veth.
        addresses: IPv4; a pod has one.
        labels, service_account, template_hash: of the pod.
        containers: name, program file and arguments of each process.
        started: RFC 3339 time.
        uid: of the Pod object.
        node: that it runs on.
    """

    namespace: str
    name: str
    deployment: str
    netns: str
    link: str
    addresses: tuple[str, ...]
    labels: dict[str, str]
    service_account: str
    template_hash: str
    containers: tuple[tuple[str, str, tuple[str, ...]], ...]
    ports: tuple[tuple[str, str, int], ...]
    started: str
    uid: str
    node: str = NODE


@dataclass(frozen=True, slots=True)
class Record:
    """The lab as recorded.

    Attributes:
        lab_id: six hexadecimal digits in the name of every namespace of this lab.
        node_netns: inode of the network namespace that the lab uses as its node.
        complete: set-up has ended well.
        next_host: last part of the next pod's address.
        pods: all that exist or are about to.
        node: name of the node that the lab stands for.
    """

    lab_id: str
    node_netns: int
    complete: bool = False
    next_host: int = 10
    pods: tuple[Pod, ...] = field(default=())
    node: str = NODE

    @property
    def netns_prefix(self) -> str:
        """What the names of this lab's namespaces begin with."""
        return f"{PREFIX}{self.lab_id}-"

    def without(self, gone: tuple[Pod, ...]) -> Record:
        """The record once some pods are gone."""
        return replace(self, pods=tuple(pod for pod in self.pods if pod not in gone))


def new_record(node: str = NODE) -> Record:
    """A record of nothing yet, with a fresh lab id."""
    return Record(lab_id=secrets.token_hex(3), node_netns=current_netns(), node=node)


def current_netns() -> int:
    """Inode of this process's network namespace."""
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116  # a plain number is wanted


def save(folder: Path, record: Record) -> None:
    """Replace the record file at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = folder / "lab.json.new"
    draft.write_bytes(orjson.dumps({"version": VERSION, **asdict(record)}, option=orjson.OPT_INDENT_2))
    draft.replace(folder / "lab.json")


def load(folder: Path) -> Record | None:
    """The recorded lab, or None.

    Raises:
        ConfigurationError: the file isn't one that this version wrote.
    """
    path = folder / "lab.json"
    try:
        document: dict[str, Any] = orjson.loads(path.read_bytes())
        if document.pop("version") != VERSION:
            raise ConfigurationError(f"{path}: written by another version of tierflow; take the lab down with that one")
        pods = tuple(_pod(each) for each in document.pop("pods"))
        return Record(pods=pods, **document)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: not a record of the lab: {error}") from error


def _pod(document: dict[str, Any]) -> Pod:
    containers = tuple((name, program, tuple(argv)) for name, program, argv in document.pop("containers"))
    ports = tuple((name, protocol, port) for name, protocol, port in document.pop("ports"))
    addresses = tuple(document.pop("addresses"))
    return Pod(containers=containers, ports=ports, addresses=addresses, **document)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lab's lock: two commands never change it at once; the second waits."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
