"""``tierflow kibana``: the saved objects, to a file or into a Kibana."""

from __future__ import annotations

import base64
import http.client
import ssl
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson

from tierflow.cli.settings import secret_setting, setting
from tierflow.schemas.errors import ConfigurationError, UnavailableError
from tierflow.schemas.secrets import secret
from tierflow.sinks.elasticsearch.indices import DEFAULT_NAMES, IndexNames
from tierflow.sinks.kibana.saved_objects import export

TIMEOUT_S = 60.0


@click.group("kibana")
def command() -> None:
    """Load the Kibana saved objects."""


@command.command("export")
@setting("--elasticsearch-index", default=DEFAULT_NAMES, help="Names of indices, as the sink has them.")
def export_command(elasticsearch_index: str) -> None:
    """Print the saved objects: data views, saved search, visualizations, dashboards."""
    click.echo(export(IndexNames(elasticsearch_index)), nl=False)


@command.command("import")
@setting("--kibana", metavar="URL", default="http://127.0.0.1:5601", help="Kibana, with its base path and space.")
@setting("--kibana-ca-file", type=click.Path(path_type=Path), default=None, help="Authority of its certificate.")
@setting("--kibana-username", default=None, help="User, for basic authentication.")
@secret_setting("kibana-password", "password")
@secret_setting("kibana-api-key", "encoded API key")
@setting("--overwrite/--no-overwrite", default=True, help="Replace objects of the same id.")
@setting("--elasticsearch-index", default=DEFAULT_NAMES, help="Names of indices, as the sink has them.")
def import_command(
    kibana: str,
    kibana_ca_file: Path | None,
    kibana_username: str | None,
    kibana_password: str | None,
    kibana_password_file: Path | None,
    kibana_api_key: str | None,
    kibana_api_key_file: Path | None,
    overwrite: bool,
    elasticsearch_index: str,
) -> None:
    """Put the saved objects into a Kibana 8 or 9."""
    headers = {"kbn-xsrf": "true"}
    key = secret("--kibana-api-key-file", "TIERFLOW_KIBANA_API_KEY", kibana_api_key, kibana_api_key_file)
    password = secret("--kibana-password-file", "TIERFLOW_KIBANA_PASSWORD", kibana_password, kibana_password_file)
    if key is not None:
        headers["Authorization"] = f"ApiKey {key}"
    elif kibana_username:
        pair = f"{kibana_username}:{password or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    body = export(IndexNames(elasticsearch_index))
    answer = _post(kibana, kibana_ca_file, headers, body, f"overwrite={str(overwrite).lower()}")
    if not answer.get("success"):
        errors = answer.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else {}
        raise UnavailableError(f"--kibana {kibana}: object {first.get('id')} refused: {first.get('error')}")
    click.echo(f"{answer.get('successCount')} saved objects imported", err=True)


def _post(url: str, ca_file: Path | None, headers: dict[str, str], body: bytes, query: str) -> dict[str, object]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"--kibana {url}: accepted is https://HOST:PORT or http://HOST:PORT")
    boundary = uuid.uuid4().hex
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="tierflow.ndjson"\r\n'
        "Content-Type: application/ndjson\r\n\r\n"
    ).encode() + body + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        connection.request(
            "POST", f"{parts.path.rstrip('/')}/api/saved_objects/_import?{query}", form,
            headers | {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )  # fmt: skip
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or type(error).__name__
        raise UnavailableError(f"--kibana {url}: can't be reached: {reason}") from error
    if response.status != http.HTTPStatus.OK:
        line = text.decode(errors="replace").replace("\n", " ")[:200]
        raise UnavailableError(f"--kibana {url}: {response.status} {line}")
    try:
        found: dict[str, object] = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnavailableError(f"--kibana {url}: answers, but not as Kibana does") from error
    return found
