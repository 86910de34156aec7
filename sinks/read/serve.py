"""Serves a store's read side to other processes of this machine: one JSON call a method."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from tierflow.schemas.errors import ConfigurationError, TierflowError
from tierflow.sinks.read.calls import METHODS, filter_from

if TYPE_CHECKING:
    from starlette.requests import Request

    from tierflow.sinks.read.interface import Store

_LOG = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 1 << 20


def application(store: Store) -> Starlette:
    """An ASGI application with ``POST /v1/<method>``, arguments as a JSON object, the answer as JSON."""

    async def call(request: Request) -> Response:
        method = request.path_params["method"]
        if method not in METHODS:
            return _problem(404, f"no method {method}; accepted: {', '.join(sorted(METHODS))}")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return _problem(413, f"more than {MAX_REQUEST_BYTES} bytes")
        try:
            arguments = _arguments(body)
            bound = inspect.signature(getattr(store, method)).bind(**arguments)
        except (ConfigurationError, TypeError, orjson.JSONDecodeError) as error:
            return _problem(400, str(error))
        try:
            answer = await run_in_threadpool(getattr(store, method), *bound.args, **bound.kwargs)
        except ConfigurationError as error:
            return _problem(400, str(error))
        except TierflowError as error:
            _LOG.warning("%s: %s", method, error)
            return _problem(503, str(error))
        return Response(orjson.dumps(answer), media_type="application/json")

    return Starlette(routes=[Route("/v1/{method}", call, methods=["POST"])])


def _arguments(body: bytes) -> dict[str, Any]:
    arguments = orjson.loads(body or b"{}")
    if not isinstance(arguments, dict):
        raise ConfigurationError("the body must be a JSON object of arguments")
    if isinstance(arguments.get("where"), dict):
        arguments["where"] = filter_from(arguments["where"])
    return arguments


def _problem(status: int, detail: str) -> Response:
    return Response(orjson.dumps({"detail": detail}), status_code=status, media_type="application/json")
