"""The ASGI application: routes, guard, the built page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tierflow.console.server.api import Api, answer_error
from tierflow.console.server.openapi import OPERATIONS, document
from tierflow.console.server.problem import BadQuery, problem
from tierflow.console.server.session import Guard, Sessions
from tierflow.schemas.errors import TierflowError, UnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request

    from tierflow.console.server.inventory import Inventory
    from tierflow.console.server.settings import ConsoleSettings
    from tierflow.schemas.clock import Clock
    from tierflow.sinks.read.interface import Store

VIEWS = ("flows", "board", "policy", "logs")


def console_app(
    store: Store, inventory: Inventory, sessions: Sessions, clock: Clock, settings: ConsoleSettings
) -> Starlette:
    """The application.

    Raises:
        UnavailableError: the page hasn't been built.
    """
    index = settings.static_folder / "index.html"
    if not index.is_file():
        raise UnavailableError(f"the page isn't built: {index} is missing; run deploy/setup/page.sh")
    api = Api(store, inventory, sessions, clock, settings)
    described = document()

    async def page(request: Request) -> Response:
        del request
        return FileResponse(index, headers={"cache-control": "no-cache"})

    async def root(request: Request) -> Response:
        del request
        return RedirectResponse("/flows", 307)

    async def health(request: Request) -> Response:
        del request
        return PlainTextResponse("ok\n")

    async def icon(request: Request) -> Response:
        del request
        return FileResponse(settings.static_folder / "icon.svg")

    async def described_api(request: Request) -> Response:
        del request
        return JSONResponse(described)

    async def not_found(request: Request, error: Exception) -> Response:
        del error
        return problem(404, f"Nothing is at {request.url.path[:100]}.")

    async def not_allowed(request: Request, error: Exception) -> Response:
        del error
        answer = problem(405, f"{request.method} isn't answered here.")
        answer.headers["allow"] = "GET, HEAD"
        return answer

    routes = [
        Route("/", root),
        Route("/healthz", health),
        Route("/icon.svg", icon),
        Route("/api/openapi.json", described_api),
        *(Route(f"/{view}", page) for view in VIEWS),
        *(Route(each.path, getattr(api, each.handler), methods=[each.method.upper()]) for each in OPERATIONS),
        Mount("/assets", StaticFiles(directory=settings.static_folder / "assets")),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, sessions=sessions, hosts=settings.hosts),
            Middleware(GZipMiddleware, minimum_size=1024, compresslevel=5),
        ],
        exception_handlers={
            404: not_found,
            405: not_allowed,
            BadQuery: answer_error,
            TierflowError: answer_error,
            TimeoutError: answer_error,
            Exception: answer_error,
        },
    )
