"""The API fuzzed from its own OpenAPI document: each answer is one that the document allows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.console.serving import TOKEN, Scene, serve

from tierflow.console.server.openapi import document
from tierflow.console.server.session import COOKIE, CSRF_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _with_a_session() -> dict[str, Any]:
    """The document as for who has a session: the fuzzer's cookie is always there, so it must not vary it."""
    described = document()
    del described["security"], described["components"]["securitySchemes"]
    return described


# `live` never ends and `session` would end the fuzzer's own: both have tests of their own.
SCHEMA = schemathesis.openapi.from_dict(_with_a_session()).exclude(operation_id=["live", "session"])
EXAMPLES = 40
"""Requests an operation and phase; all of it takes about 20 s."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    scene = Scene(folder)
    scene.rogue = True
    scene.fill(int(time.time()), windows=4)
    with serve(scene.app()) as served:
        yield served


@pytest.fixture(scope="module")
def cookie(address: str) -> str:
    (value,) = httpx.get(address, params={"token": TOKEN}, trust_env=False).cookies.values()
    return value


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented_and_none_is_a_failure(
    case: schemathesis.Case, address: str, cookie: str
) -> None:
    answer = case.call(base_url=address, cookies={COOKIE: cookie}, headers={CSRF_HEADER: "1"})
    assert answer.status_code < 500, (case.path, case.query, answer.text[:300])
    # A schema can't say what a selector's grammar is, nor that a range ends after it starts: that is refused with 400.
    case.validate_response(answer, excluded_checks=[positive_data_acceptance])
