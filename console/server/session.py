"""Who may ask: a token in an address opens a session; what guards each request around it.

A Kubernetes log-in takes the place of the two kinds of sessions later: the rest of the server only knows ``admits``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from tierflow.console.server.problem import problem
from tierflow.schemas.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tierflow.schemas.clock import Clock

COOKIE: Final = "tierflow_session"
CSRF_HEADER: Final = "x-tierflow-csrf"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
MOST_SESSIONS: Final = 256
SESSION_S: Final = 7 * 24 * 3600
NEXT: Final = "The file console.url in the state folder holds an address that works now."

SECURITY_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Sessions(Protocol):
    """The seam for other ways to log in."""

    def admits(self, cookie: str | None) -> bool:
        """Whether a request with this session cookie may ask."""
        ...

    def open(self, token: str) -> str | None:
        """A new session's cookie, or None where the token isn't right."""
        ...

    def close(self, cookie: str) -> None:
        """End a session."""
        ...


class PrintedTokenSessions:
    """Sessions in memory, each opened by a token of its own; the oldest ends when there are too many."""

    __slots__ = ("_open", "_renew", "_token")

    def __init__(self, token: str, renew: Callable[[], str]) -> None:
        """``renew`` gives the next token when one has been used."""
        self._token = token
        self._renew = renew
        self._open: dict[str, None] = {}

    def admits(self, cookie: str | None) -> bool:
        """Whether the session is open."""
        return cookie is not None and cookie in self._open

    def open(self, token: str) -> str | None:
        """Open a session with the right token, which is used up by it."""
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        self._token = self._renew()
        if len(self._open) >= MOST_SESSIONS:
            del self._open[next(iter(self._open))]
        cookie = secrets.token_urlsafe(32)
        self._open[cookie] = None
        return cookie

    def close(self, cookie: str) -> None:
        """End a session; one that isn't open stays so."""
        self._open.pop(cookie, None)


class SharedTokenSessions:
    """Sessions of every server with the same token: cookies are signed with it, so that none has to know another's.

    A cookie is ``until.nonce.signature``: seconds since the Unix epoch, 16 random bytes, and the HMAC-SHA-256 of both.
    The token opens any number of sessions; with another token, all of them end. A session that is closed ends at the
    server that was asked, and at the others when it is out of date.
    """

    __slots__ = ("_clock", "_closed", "_token")

    def __init__(self, token: str, clock: Clock) -> None:
        self._token = token.encode()
        self._clock = clock
        self._closed: dict[str, None] = {}

    def admits(self, cookie: str | None) -> bool:
        """Whether the cookie is one of ours, in date, and not closed here."""
        signed, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            return False
        return int(signed.partition(".")[0]) > self._now_s() and cookie not in self._closed

    def open(self, token: str) -> str | None:
        """Open a session with the right token."""
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        signed = f"{self._now_s() + SESSION_S}.{secrets.token_urlsafe(16)}"
        return f"{signed}.{self._signature(signed)}"

    def close(self, cookie: str) -> None:
        """End a session here; what isn't one is not remembered."""
        if self.admits(cookie):
            if len(self._closed) >= MOST_SESSIONS:
                del self._closed[next(iter(self._closed))]
            self._closed[cookie] = None

    def _signature(self, signed: str) -> str:
        return hmac.new(self._token, b"session " + signed.encode(), hashlib.sha256).hexdigest()

    def _now_s(self) -> int:
        return self._clock.now_ns() // NS_PER_S


class Guard:
    """ASGI middleware: host, session, same origin for unsafe methods, and security headers on every answer."""

    __slots__ = ("_app", "_hosts", "_sessions")

    def __init__(self, app: ASGIApp, sessions: Sessions, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, open a session, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(Request(scope))
        await (self._app if answer is None else answer)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        if _host_of(request.headers) not in self._hosts:
            return problem(421, "This server doesn't answer to that host name; use the address that it printed.")
        token = request.query_params.get("token")
        if token is not None and request.method == "GET" and not request.url.path.startswith("/api/"):
            known = open_session(request, self._sessions) is not None
            return RedirectResponse("/flows", 303) if known else self._log_in(token, request)
        if _is_public(request.url.path):
            return None
        if open_session(request, self._sessions) is None:
            if request.url.path.startswith("/api/"):
                return problem(401, "No session: open the address that the console printed.")
            return PlainTextResponse(f"Open the address that `tierflow console` printed. {NEXT}\n", 401)
        if request.method not in SAFE_METHODS and not _same_origin(request):
            return problem(403, f"Unsafe methods need the header {CSRF_HEADER}: 1 and the page's own origin.")
        return None

    def _log_in(self, token: str, request: Request) -> Response:
        cookie = self._sessions.open(token)
        if cookie is None:
            return PlainTextResponse(f"This token isn't right, or has been used. {NEXT}\n", 401)
        answer = RedirectResponse("/flows", 303)
        # Browsers keep cookies by host, not by port: without its port, one console would end the session of another.
        name = f"{COOKIE}_{request.url.port}" if request.url.port else COOKIE
        secure = request.url.scheme == "https"
        answer.set_cookie(name, cookie, httponly=True, samesite="strict", path="/", secure=secure)
        return answer


def open_session(request: Request, sessions: Sessions) -> str | None:
    """The cookie of a session that is open, among those of this and of other consoles; None without one."""
    mine = (value for name, value in request.cookies.items() if name.startswith(COOKIE))
    return next((cookie for cookie in mine if sessions.admits(cookie)), None)


def _host_of(headers: Headers) -> str:
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_public(path: str) -> bool:
    return path in {"/healthz", "/icon.svg"} or path.startswith("/assets/")


def _same_origin(request: Request) -> bool:
    if request.headers.get(CSRF_HEADER) != "1":
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
