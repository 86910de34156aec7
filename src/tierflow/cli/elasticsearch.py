"""How to reach Elasticsearch: settings that sink, flows, console and kibana share."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierflow.cli.settings import secret_setting, setting
from tierflow.sinks.elasticsearch.indices import DEFAULT_NAMES, UPSTREAM_NAMES

if TYPE_CHECKING:
    from tierflow.sinks.elasticsearch.client import ElasticsearchSettings

DEFAULT_URL = "http://127.0.0.1:9200"


def elasticsearch_settings(function: Any) -> Any:
    """The settings; the command receives ``elasticsearch`` (None without a URL) and ``elasticsearch_index``."""

    @setting("--elasticsearch", metavar="URL", default=None, help="https://HOST:PORT of Elasticsearch 8 or 9.")
    @setting(
        "--elasticsearch-ca-file", type=click.Path(path_type=Path), default=None, help="Authority of its certificate."
    )
    @setting("--elasticsearch-username", default=None, help="User, for basic authentication.")
    @secret_setting("elasticsearch-password", "password")
    @secret_setting("elasticsearch-api-key", "encoded API key")
    @setting(
        "--elasticsearch-index",
        default=DEFAULT_NAMES,
        help=f"Names of indices; upstream's pattern is {UPSTREAM_NAMES}.",
    )
    @functools.wraps(function)
    def with_elasticsearch(
        *arguments: Any,
        elasticsearch: str | None,
        elasticsearch_ca_file: Path | None,
        elasticsearch_username: str | None,
        elasticsearch_password: str | None,
        elasticsearch_password_file: Path | None,
        elasticsearch_api_key: str | None,
        elasticsearch_api_key_file: Path | None,
        **options: Any,
    ) -> Any:
        from tierflow.sinks.elasticsearch.client import ElasticsearchSettings

        found: ElasticsearchSettings | None = None
        if elasticsearch is not None:
            found = ElasticsearchSettings(
                elasticsearch,
                elasticsearch_ca_file,
                elasticsearch_username,
                elasticsearch_password,
                elasticsearch_password_file,
                elasticsearch_api_key,
                elasticsearch_api_key_file,
            )
        return function(*arguments, elasticsearch=found, **options)

    return with_elasticsearch
