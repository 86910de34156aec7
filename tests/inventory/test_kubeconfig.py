"""A kubeconfig that can't be used is said once, by its name, at the start; credentials that go later are waited for."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest
from kubernetes import client, config

from tierflow.inventory.kubernetes.api import Api, connect
from tierflow.schemas.clock import ManualClock
from tierflow.schemas.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[", b"a: 1", b"current-context: nowhere\n"])
def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"--kubeconfig {path}: "):
        connect(path)


def test_credentials_are_wrong_at_the_start_and_waited_for_later(tmp_path: Path) -> None:
    path = tmp_path / "config"
    api = Api(partial(connect, path), ManualClock(0))
    with pytest.raises(ConfigurationError, match="--kubeconfig"):
        api.load()
    with pytest.raises(TransientError, match="--kubeconfig"):
        api.get("/version")


def test_a_token_file_that_is_empty_for_a_moment_is_waited_for() -> None:
    configuration = client.Configuration()

    def refresh(_: client.Configuration) -> None:
        raise config.ConfigException("Token file exists but empty.")

    configuration.api_key["BearerToken"] = "bearer once"
    configuration.refresh_api_key_hook = refresh
    with pytest.raises(TransientError, match="Token file exists but empty"):
        Api(lambda: client.ApiClient(configuration), ManualClock(0)).get("/version")


def test_a_connection_that_was_forgotten_on_the_way_is_noticed_by_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        "{current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}], users: [{name: it, user: {}}],"
        " clusters: [{name: it, cluster: {server: 'http://127.0.0.1:1'}}]}"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pool = connect(path).rest_client.pool_manager.connection_from_url(f"http://127.0.0.1:{port}")
        connection = pool._new_conn()
        connection.connect()
        idle, every, times = (
            connection.sock.getsockopt(socket.IPPROTO_TCP, each)
            for each in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + every * times == 25
        connection.close()
