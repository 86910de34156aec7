"""Errors as RFC 9457 problem documents, in words for the reader."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import JSONResponse


class BadQuery(Exception):
    """A parameter is wrong; the text names it, what was given and what is accepted."""


def problem(status: int, detail: str) -> JSONResponse:
    """One error as a response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")
