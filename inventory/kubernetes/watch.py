"""One kind of object: listed in pages, then watched, for ever."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.inventory.fields import MalformedObject
from tierflow.inventory.kubernetes.api import Forbidden, Gone, NotServed, Refused, Unauthorized, lines
from tierflow.inventory.objects import Reduced, consequence, object_key, reduce
from tierflow.schemas import metrics
from tierflow.schemas.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    import urllib3

    from tierflow.inventory.kinds import Kind
    from tierflow.inventory.kubernetes.api import Api
    from tierflow.inventory.names import Naming
    from tierflow.schemas.clock import Clock

PAGE: Final = 500
WATCH_S: Final = 100
"""Seconds after which the server ends a watch, and it is begun anew where it stopped."""
SILENCE_S: Final = 120.0
"""A watch on which nothing came for so long, not even its end, is broken."""
CATCH_UP_S: Final = 1.0
"""A watch that resumes gets what it missed right after it is opened; no mark says where that ends."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0

LISTS: Final = metrics.counter(
    "tierflow_inventory_lists_total", "lists", "Complete lists of a kind read from the API server, and why.", "reason"
)
BREAKS: Final = metrics.counter(
    "tierflow_inventory_watch_breaks_total", "breaks", "Watches that ended other than at their time.", "reason"
)
REFUSED: Final = metrics.counter(
    "tierflow_inventory_refused_requests_total", "requests",
    "Requests that the API server refused, for want of valid credentials or of rights.", "want",
)  # fmt: skip
MALFORMED: Final = metrics.counter(
    "tierflow_inventory_malformed_objects_total", "objects", "Objects that can't be used, by kind.", "kind"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """All objects of a kind that exist."""

    kind: Kind
    objects: tuple[Reduced, ...]
    at_ns: int


@dataclass(frozen=True, slots=True)
class Changed:
    """One object is there or has changed; its ``object`` is None when it holds nothing (any more).

    Attributes:
        reduced: what it is now.
        at_ns: when we learnt of it.
        what: ``ADDED``, ``MODIFIED`` or ``DELETED``.
    """

    reduced: Reduced
    at_ns: int
    what: str


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a person should know: a malformed object, a refused request."""

    text: str


Event = Listed | Changed | Said


class KindWatch:
    """A thread that hands over events of one kind in the server's order."""

    def __init__(
        self,
        kind: Kind,
        group_version: str,
        api: Api,
        clock: Clock,
        take: Callable[[Event], None],
        live: metrics.Metrics,
        naming: Naming,
    ) -> None:
        """Inert until ``start``; ``take`` is called on the watch's own thread; ``naming`` names pods."""
        self._naming = naming
        self.kind = kind
        self.group_version = group_version
        self._api, self._clock, self._take, self._metrics = api, clock, take, live
        root = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
        self._path = f"{root}/{kind.plural}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {kind.plural}", daemon=True)
        self._response: urllib3.BaseHTTPResponse | None = None
        self._said = ""
        self.left_out: set[str] = set()
        """Keys of the objects that exist and can't be used."""
        self._resumes = False
        self._current_from_s: float | None = None
        self.ended = False
        """Whether the kind is served no more."""

    @property
    def open(self) -> bool:
        """Whether the watch is open, and what happened while it was broken has had time to come."""
        since = self._current_from_s
        return since is not None and self._clock.monotonic_s() >= since

    @property
    def crashed(self) -> bool:
        """Whether the thread has ended without having been told to."""
        return self._thread.ident is not None and not (self._thread.is_alive() or self.ended or self._stop.is_set())

    def start(self) -> None:
        """List, then watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stop.set()
        response = self._response
        if response is not None:
            try:
                response.shutdown()
            except (ValueError, OSError, RuntimeError):
                # Closed already, or not yet reading: the flag ends it.
                response.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        version, delay, reason = "", FIRST_DELAY_S, "start"
        while not self._stop.is_set():
            try:
                if not version:
                    version = self._list()
                    self._metrics.add(LISTS, reason=reason)
                version = self._watch(version)
                delay = FIRST_DELAY_S
            except Gone:
                version, reason = "", "gone"
                self._metrics.add(BREAKS, reason=reason)
            except NotServed:
                # The kind was removed, and its objects with it.
                self._take(Listed(self.kind, (), self._clock.now_ns()))
                self.ended = True
                return
            except _Interrupted as interrupted:
                version, delay, self._resumes = interrupted.version, FIRST_DELAY_S, True
                self._metrics.add(BREAKS, reason="connection")
                self._wait(delay)
            except Refused:
                # A version that the server refuses would be refused again: begin with a list.
                version, reason = "", "refused"
                self._metrics.add(BREAKS, reason=reason)
                self._wait(delay)
                delay = min(LONGEST_DELAY_S, delay * 2)
            except (TransientError, Forbidden) as error:
                # Out of reach, or a right or credential is missing: what we know holds, and we go on from there.
                self._resumes = True
                if isinstance(error, Forbidden):
                    self._say(str(error))
                count_refused(self._metrics, error)
                self._wait(delay)
                delay = min(LONGEST_DELAY_S, delay * 2)

    def _wait(self, delay_s: float) -> None:
        self._stop.wait(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries, guards nothing

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._take(Said(text))

    def _list(self) -> str:
        query = {"limit": str(PAGE)}
        found: list[Reduced] = []
        self._resumes = False
        self.left_out.clear()
        while True:
            at = self._clock.now_ns()
            page = self._api.get(self._path, query)
            found.extend(each for item in page.get("items") or () if (each := self._reduced(item)) is not None)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                self._take(Listed(self.kind, tuple(found), at))
                return str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    def _watch(self, version: str) -> str:
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_S),
        }  # fmt: skip
        self._response = response = self._api.open(self._path, query, SILENCE_S)
        self._current_from_s = self._clock.monotonic_s() + (CATCH_UP_S if self._resumes else 0.0)
        self._resumes = False
        try:
            # A stop that came while the request was under way had nothing to close.
            for line in () if self._stop.is_set() else lines(response):
                if self._stop.is_set():
                    break
                version = self._event(orjson.loads(line)) or version
        except Refused:
            raise
        except (TransientError, orjson.JSONDecodeError) as error:
            raise _Interrupted(version) from error
        finally:
            self._current_from_s = self._response = None
            response.close()
        return version

    def _event(self, event: dict[str, Any]) -> str:
        found = event.get("object") or {}
        if event.get("type") == "ERROR":
            if found.get("code") == 410:
                raise Gone(str(found.get("message", "")))
            raise Refused(f"{self._path}: {found.get('message', found)}")
        at = self._clock.now_ns()
        if event.get("type") != "BOOKMARK":
            reduced = self._reduced(found)
            metadata = found.get("metadata") or {}
            if reduced is None or event.get("type") == "DELETED":
                key = self._key(metadata)
                if event.get("type") == "DELETED":
                    self.left_out.discard(key)
                reduced = Reduced(self.kind.becomes[0], key, None, None)
            self._take(Changed(reduced, at, event["type"]))
        return str((found.get("metadata") or {}).get("resourceVersion", ""))

    def _key(self, metadata: dict[str, Any]) -> str:
        return object_key(self.kind, metadata.get("namespace") or "", metadata.get("name") or "")

    def _reduced(self, manifest: dict[str, Any]) -> Reduced | None:
        try:
            reduced = reduce(self.kind, manifest, self._naming)
        except MalformedObject as error:
            metadata = manifest.get("metadata")
            metadata = metadata if isinstance(metadata, dict) else {}
            self.left_out.add(self._key(metadata))
            name = "/".join(str(metadata[part]) for part in ("namespace", "name") if metadata.get(part))
            self._metrics.add(MALFORMED, kind=self.kind.name)
            self._take(Said(f"{self.kind.name} {name or '(no name)'}: {error}{consequence(self.kind)}"))
            return None
        self.left_out.discard(reduced.key)
        return reduced


def count_refused(live: metrics.Metrics, error: Exception) -> None:
    """Count a request that was refused for want of credentials or rights; others are not counted."""
    if isinstance(error, Unauthorized | Forbidden):
        live.add(REFUSED, want="credentials" if isinstance(error, Unauthorized) else "rights")


class _Interrupted(Exception):
    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version
