"""Requests to the Kubernetes API server: JSON in, JSON out, and every failure as one of a few errors.

Connection, TLS and credentials are the ``kubernetes`` client's; after a refused credential they are loaded afresh,
which is how a rotated token is picked up.
"""

from __future__ import annotations

import os
import socket
import threading
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson
import urllib3
import yaml
from kubernetes import client, config
from urllib3.connection import HTTPConnection

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import ConfigurationError, TierflowError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tierflow.schemas.clock import Clock

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 30.0
# A watch may be silent for long: the kernel asks every few seconds whether the other side is still there, so that one
# whose connection was forgotten on the way is noticed within 25 s.
_KEEP_ALIVE: Final = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
_NOBODY: Final = '"system:anonymous"'
"""Whom the API server's refusals name when a request had no credentials."""
CLOCKS_AGREE_NS: Final = 2 * NS_PER_S
"""A difference of clocks below it is taken for none: the server tells its time in whole seconds."""


class Gone(TierflowError):
    """410: the past that was asked for has been compacted away."""


class NotServed(TierflowError):
    """404: no such object, or the kind isn't installed."""


class Conflict(TierflowError):
    """409: somebody else wrote first."""


class Refused(TransientError):
    """Any other status: the same request may be refused for ever."""


class Unauthorized(TransientError):
    """The credentials have expired, been withdrawn, or weren't there; the next request loads them afresh."""


class Forbidden(TierflowError):
    """403: the role lacks a right; the text names verb and resource."""


def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client from a kubeconfig file, from the pod's service account, or from the user's own kubeconfig.

    Raises:
        ConfigurationError: there is none that can be used.
    """
    configuration = client.Configuration()
    # One connection for each watch, and some for requests; more than that would be thrown away after use.
    configuration.connection_pool_maxsize = 64
    configuration.socket_options = _KEEP_ALIVE
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # the client ships partial types
        else:
            config.load_kube_config(  # type: ignore[no-untyped-call]  # the client ships partial types
                config_file=str(kubeconfig) if kubeconfig else None,
                client_configuration=configuration,
                persist_config=False,
            )
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--kubeconfig {kubeconfig or '(default)'}: {error}") from error
    return client.ApiClient(configuration)


class Api:
    """One API server; used by several threads."""

    def __init__(self, load: Callable[[], client.ApiClient], clock: Clock) -> None:
        """``load`` makes a client with the credentials that hold now."""
        self._load, self._clock = load, clock
        self._client: client.ApiClient | None = None
        self._loading = threading.Lock()
        self.ahead_ns = 0
        """How far the server's clock is ahead of ours; 0 when no more than it can be told (some 2 s)."""

    def load(self) -> None:
        """Load the credentials for the first time.

        Raises:
            ConfigurationError: there are none that can be used.
        """
        with self._loading:
            self._client = self._load()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The object or list at a path."""
        return self._json("GET", path, query, None)

    def send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST or PUT an object; the one that the server then has."""
        return self._json(method, path, None, body)

    def open(self, path: str, query: Mapping[str, str], read_timeout_s: float) -> urllib3.BaseHTTPResponse:
        """The answer to a GET, its body not yet read."""
        return self._request("GET", path, query, None, read_timeout_s)

    def _json(
        self, method: str, path: str, query: Mapping[str, str] | None, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        before = self._clock.now_ns()
        response = self._request(method, path, query, body, READ_TIMEOUT_S)
        self._compare_clocks(response.headers.get("Date"), before)
        try:
            content: dict[str, Any] = orjson.loads(response.read())
        except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError, OSError) as error:
            raise TransientError(f"{method} {path}: {error}") from error
        finally:
            response.release_conn()
        return content

    def _compare_clocks(self, date: str | None, before_ns: int) -> None:
        if date is None:
            return
        now = self._clock.now_ns()
        try:
            # Cut to seconds: half of one is added.
            server = int(parsedate_to_datetime(date).timestamp()) * NS_PER_S + NS_PER_S // 2
        except ValueError:
            return
        ahead = server - (before_ns + now) // 2
        self.ahead_ns = ahead if abs(ahead) > CLOCKS_AGREE_NS + (now - before_ns) else 0

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: dict[str, Any] | None,
        read_timeout_s: float,
    ) -> urllib3.BaseHTTPResponse:
        used = self._current()
        try:
            response = self._send(used, method, path, query, body, read_timeout_s)
        except (urllib3.exceptions.HTTPError, OSError, config.ConfigException) as error:
            raise TransientError(f"{method} {path}: {error}") from error
        if response.status < 400:
            return response
        try:
            said = response.read(10_000).decode(errors="replace")
        except (urllib3.exceptions.HTTPError, OSError):
            said = ""
        finally:
            response.release_conn()
        message = _message(said) or f"status {response.status}"
        # Who reads a token file that is just being rewritten finds no token in it, and is nobody to the server.
        if response.status == 401 or (response.status == 403 and _NOBODY in message):
            self._reload(used)
            raise Unauthorized(f"{method} {path}: credentials refused ({response.status}): {message}")
        by_status = {403: Forbidden, 404: NotServed, 409: Conflict, 410: Gone, 429: TransientError, 503: TransientError}
        raise by_status.get(response.status, Refused)(f"{method} {path}: {message}")

    @staticmethod
    def _send(
        used: client.ApiClient,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: dict[str, Any] | None,
        read_timeout_s: float,
    ) -> urllib3.BaseHTTPResponse:
        configuration = used.configuration
        # Asking for the settings is what makes the client look whether its token file has changed.
        headers = {
            each["key"]: each["value"] for each in configuration.auth_settings().values() if each["in"] == "header"
        }
        headers["Accept"] = "application/json"
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = configuration.host + path + (f"?{urlencode(query)}" if query else "")
        response: urllib3.BaseHTTPResponse = used.rest_client.pool_manager.request(
            method, url, headers=headers, body=None if body is None else orjson.dumps(body), preload_content=False,
            retries=False, timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
        )  # fmt: skip
        return response

    def _current(self) -> client.ApiClient:
        with self._loading:
            if self._client is None:
                try:
                    self._client = self._load()
                except ConfigurationError as error:
                    # They were good once: a file that is being rewritten is read again.
                    raise TransientError(str(error)) from error
            return self._client

    def _reload(self, refused: client.ApiClient) -> None:
        with self._loading:
            if self._client is refused:
                self._client = None


def _message(said: str) -> str:
    try:
        status = orjson.loads(said)
    except orjson.JSONDecodeError:
        return said.strip()[:200]
    return str(status.get("message", ""))[:300] if isinstance(status, dict) else ""


def lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The lines of a body as they arrive.

    Raises:
        TransientError: the connection broke, or nothing came for the read time-out.
    """
    rest = b""
    try:
        for chunk in response.stream(65_536, decode_content=True):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise TransientError(f"watch broke: {error}") from error
