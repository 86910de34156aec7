"""HTTP servers that stand before an Elasticsearch, or in its place."""

from __future__ import annotations

import contextlib
import http.server
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class PassingOn(http.server.BaseHTTPRequestHandler):
    """Passes requests on to ``target``; a subclass says in ``handle_request`` which, and answers the others."""

    target = ""

    def handle_request(self) -> None:
        """Deal with one request."""
        self.pass_on()

    def pass_on(self) -> None:
        """Give the client what the target answers."""
        self.answer(*self.asked())

    def asked(self) -> tuple[int, bytes]:
        """The target's answer to this request."""
        # The client's media types name the version that it speaks.
        headers = {name: value for name in ("Content-Type", "Accept") if (value := self.headers.get(name))}
        request = urllib.request.Request(self.target + self.path, self.body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def answer(self, status: int, body: bytes) -> None:
        """Answer as Elasticsearch does."""
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=8")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.handle_request()

    do_POST = do_PUT = do_GET = _handle  # noqa: N815 - the names that http.server calls

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
        del arguments


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port on which it serves."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is what is tested
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
