"""The connection to Elasticsearch: settings, TLS, credentials; what goes wrong, in one line."""

from __future__ import annotations

import contextlib
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from tierflow.schemas.errors import ConfigurationError, TierflowError, TransientError, UnavailableError
from tierflow.schemas.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+")
AUTHENTICATION = (401, 403)
BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class ElasticsearchSettings:
    """How to reach a cluster.

    Attributes:
        url: ``https://host:port`` or ``http://host:port``.
        ca_file: authority of its certificate; None: the system's.
        username: for basic authentication, with a password.
        password: itself, or None.
        password_file: holds it instead; read again when the cluster refuses what it held before.
        api_key: encoded, instead of a user.
        api_key_file: holds it instead, likewise.
        timeout_s: of one request.
    """

    url: str
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = None
    password_file: Path | None = None
    api_key: str | None = None
    api_key_file: Path | None = None
    timeout_s: float = 30.0


class Refused(UnavailableError):
    """The cluster doesn't take these credentials, or this process its certificate: either may be renewed meanwhile."""


class Connection:
    """A cluster and how it is reached; threads may share it.

    Args:
        settings: of the cluster.

    Raises:
        ConfigurationError: the settings don't fit together, or a file of theirs can't be used.
    """

    def __init__(self, settings: ElasticsearchSettings) -> None:
        self._settings = settings
        self.client = _client(settings)

    @property
    def url(self) -> str:
        """For messages."""
        return self._settings.url

    def explained(self, error: Exception) -> TierflowError:
        """The error of a request in one line; after a refusal the next request takes what the files hold by then."""
        found = explained(self.url, error)
        if isinstance(found, Refused):
            # A file that is being replaced may be gone for a moment: what was read before stays until it is there.
            with contextlib.suppress(ConfigurationError):
                self.client, before = _client(self._settings), self.client
                before.close()
        return found

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _parts(url: str) -> SplitResult:
    """Scheme, host and port, which are sound.

    Raises:
        ConfigurationError: they aren't.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:  # a port of letters, a bracket left open
        sound = None
    if not sound:
        raise ConfigurationError(f"--elasticsearch {url}: accepted is https://HOST:PORT or http://HOST:PORT")
    return parts


def _client(settings: ElasticsearchSettings) -> Elasticsearch:
    """A client; nothing is sent yet.

    The client neither retries nor looks for other nodes: the sink does the one, a load balancer the other.
    """
    password = secret(
        "--elasticsearch-password-file", "TIERFLOW_ELASTICSEARCH_PASSWORD", settings.password, settings.password_file
    )
    api_key = secret(
        "--elasticsearch-api-key-file", "TIERFLOW_ELASTICSEARCH_API_KEY", settings.api_key, settings.api_key_file
    )
    if "@" in settings.url:
        # Neither is shown: the line may end up in a log.
        raise ConfigurationError(
            "--elasticsearch: no user name or password in the URL; --elasticsearch-username and "
            "--elasticsearch-password-file take them"
        )
    parts = _parts(settings.url)
    if (settings.username is None) != (password is None):
        raise ConfigurationError("--elasticsearch-username and --elasticsearch-password-file: give both or neither")
    if api_key is not None and settings.username is not None:
        raise ConfigurationError("--elasticsearch-api-key-file and --elasticsearch-username exclude each other")
    url = settings.url if parts.port else f"{settings.url.rstrip('/')}:{443 if parts.scheme == 'https' else 9200}"
    arguments: dict[str, Any] = {"request_timeout": settings.timeout_s, "max_retries": 0, "retry_on_timeout": False}
    if settings.username is not None:
        arguments["basic_auth"] = (settings.username, password)
    if api_key is not None:
        arguments["api_key"] = api_key
    if parts.scheme == "https":
        arguments["ssl_context"] = _context(settings.ca_file)
    elif settings.ca_file is not None:
        raise ConfigurationError("--elasticsearch-ca-file: only with https://")
    return Elasticsearch(url, **arguments)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = "no PEM certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"--elasticsearch-ca-file {ca_file}: {reason}") from error


def explained(url: str, error: Exception) -> TierflowError:
    """The error of a request in one line that names the setting to look at; transient where waiting may help."""
    where = f"--elasticsearch {url}"
    if isinstance(error, UnsupportedProductError):
        return UnavailableError(f"{where}: what answers there isn't Elasticsearch; accepted are Elasticsearch 8 and 9")
    if isinstance(error, ApiError):
        status = error.status_code
        if status == AUTHENTICATION[0]:
            return Refused(
                f"{where}: refuses these credentials (401); see --elasticsearch-username, -password-file, -api-key-file"
            )
        reason = _reason(error)
        if "media_type_header_exception" in reason:
            return UnavailableError(f"{where}: a version that this client can't speak to; accepted are 8 and 9")
        if status in BUSY or _blocked(reason):
            return TransientError(f"{where}: {status} {reason}")
        if status == AUTHENTICATION[1]:
            return UnavailableError(f"{where}: this user may not do that (403): {reason}")
        return UnavailableError(f"{where}: {status} {reason}")
    text = str(getattr(error, "message", error)).replace("\n", " ")
    if "certificate" in text.lower():
        start = text.find("certificate verify failed")
        return Refused(f"{where}: {text[max(start, 0) :][:200]}; see --elasticsearch-ca-file")
    if isinstance(error, TransportError):
        return TransientError(f"{where}: {text[:200] or type(error).__name__}")
    return UnavailableError(f"{where}: {text[:200]}")


def _reason(error: ApiError) -> str:
    body = error.body
    cause = body.get("error") if isinstance(body, dict) else None
    if isinstance(cause, dict):
        return f"{cause.get('type', '')}: {cause.get('reason', '')}"[:300].replace("\n", " ")
    return str(cause or error.message)[:300].replace("\n", " ")


def _blocked(reason: str) -> bool:
    return "cluster_block_exception" in reason
