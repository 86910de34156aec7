"""Fixtures that all parts share, and what happens where a service or privilege is absent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.guard import spawn
from tierflow.cli.broker import broker_argv, free_port, wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUIRE_SERVICES = os.environ.get("TIERFLOW_REQUIRE_SERVICES") == "1"

# How long an example takes says something of the machine alone. What CI tries is the same each time, so that it judges
# the change and not its luck; what people try is not.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("gate", settings.get_profile("ours"), derandomize=True)
settings.load_profile("gate" if REQUIRE_SERVICES else "ours")


def absent(reason: str) -> None:
    """Skip with a visible reason, or fail where services are required."""
    if REQUIRE_SERVICES:
        pytest.fail(f"{reason} (TIERFLOW_REQUIRE_SERVICES=1)")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("TIERFLOW_") and name != "TIERFLOW_REQUIRE_SERVICES":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _root(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        absent("needs root: network namespaces, eBPF and nftables")


@contextlib.contextmanager
def embedded_broker(log: Path, port: int | None = None) -> Iterator[str]:
    """``host:port`` of an embedded broker of one's own; what it says goes to ``log``."""
    port = port or free_port()
    with log.open("wb") as output:
        process = spawn(broker_argv(port), stdout=output, stderr=output, start_new_session=True)
    try:
        asyncio.run(wait_for_broker(f"127.0.0.1:{port}", timeout_s=20))
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded broker that lives as long as the test session."""
    with embedded_broker(tmp_path_factory.mktemp("broker") / "broker.log") as address:
        yield address
