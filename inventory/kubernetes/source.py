"""A cluster as a source of the inventory: a watch for each kind that is installed, and what they say as versions."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

from tierflow.inventory.kinds import KINDS, Kind
from tierflow.inventory.kubernetes.api import Forbidden, NotServed
from tierflow.inventory.kubernetes.watch import Changed, KindWatch, Listed, Said, count_refused
from tierflow.inventory.names import Naming, calico_name
from tierflow.inventory.objects import POLICIES_LEFT_OUT, object_key
from tierflow.schemas import metrics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import TransientError
from tierflow.schemas.inventory import POLICY

if TYPE_CHECKING:
    from tierflow.inventory.kubernetes.api import Api
    from tierflow.inventory.kubernetes.watch import Event
    from tierflow.inventory.versions import Versions
    from tierflow.schemas.clock import Clock
    from tierflow.schemas.inventory import ObjectVersion
    from tierflow.schemas.metrics import Metrics

PROBE_EVERY_S: Final = 1.0
SETTLE_NS: Final = 2 * NS_PER_S
"""How far the watermark stays behind now: an event takes a moment from the server to here."""
_MOST_EVENTS: Final = 10_000

CLOCK_AHEAD: Final = metrics.gauge(
    "tierflow_inventory_server_clock_ahead_seconds", "seconds",
    "How far the API server's clock is ahead of ours; 0 up to 2 seconds, which is all that can be told.",
)  # fmt: skip


class KubernetesSource:
    """Watches a cluster on threads of its own; ``drain`` and the properties belong to one caller's thread."""

    def __init__(
        self,
        api: Api,
        versions: Versions,
        clock: Clock,
        live: Metrics,
        naming: Naming = calico_name,
        probe_every_s: float = PROBE_EVERY_S,
    ) -> None:
        """``versions`` is what has been published already, ``naming`` names pods; inert until ``start``."""
        self._naming = naming
        self._api, self._versions, self._clock, self._metrics = api, versions, clock, live
        self._probe_every_s = probe_every_s
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._watches: dict[Kind, KindWatch] = {}
        self._listed: set[Kind] = set()
        self._appeared_ns: dict[str, int] = {}
        self._expected: frozenset[Kind] | None = None
        self._stop = threading.Event()
        self._prober = threading.Thread(target=self._probe, name="probe", daemon=True)
        self._asked_ns, self._reached_ns = 0, 0
        self._clocks_differ = False
        self._watermark_ns = 0
        self.said: list[str] = []
        """What a person should know, oldest first; the caller takes it away."""

    def start(self) -> None:
        """Begin to look which kinds there are, and to watch them."""
        self._prober.start()

    def stop(self) -> None:
        """End all watches."""
        self._stop.set()
        self._prober.join(timeout=10)
        for watch in list(self._watches.values()):
            watch.stop()

    @property
    def synced(self) -> bool:
        """Whether every kind that is installed has been listed."""
        return self._expected is not None and self._expected <= self._listed

    @property
    def watermark_ns(self) -> int:
        """Everything that happened before this time has been drained; stands still while the server is out of reach."""
        return self._watermark_ns

    def drain(self, timeout_s: float) -> list[ObjectVersion]:
        """Versions that began or ended, in order; waits up to ``timeout_s`` for the first.

        Raises:
            RuntimeError: a thread has crashed; its own error has been printed.
        """
        if self._prober_crashed or any(each.crashed for each in self._watched()):
            raise RuntimeError("a thread that watches the cluster has crashed")
        self._metrics.set(POLICIES_LEFT_OUT, self._left_out)
        # Taken before the events: what is in the queue by now is drained below.
        reached = self._reached_ns if self.synced and all(each.open for each in self._watched()) else None
        messages: list[ObjectVersion] = []
        try:
            event = self._events.get(timeout=timeout_s)
            for _ in range(_MOST_EVENTS):
                messages += self._apply(event)
                event = self._events.get_nowait()
            messages += self._apply(event)
        except queue.Empty:
            if reached is not None:
                self._watermark_ns = max(self._watermark_ns, reached - SETTLE_NS)
        return messages

    def clock_went_back(self) -> None:
        """Our own clock was ahead: the watermark is as far back as the clock."""
        self._watermark_ns = 0

    @property
    def _prober_crashed(self) -> bool:
        return self._prober.ident is not None and not (self._prober.is_alive() or self._stop.is_set())

    @property
    def _left_out(self) -> int:
        watches = [each for each in self._watched() if each.kind.becomes[0] == POLICY]
        return sum(len(each.left_out) for each in watches)

    def _watched(self) -> list[KindWatch]:
        return [watch for watch in list(self._watches.values()) if not watch.ended]

    def _apply(self, event: Event) -> list[ObjectVersion]:
        if isinstance(event, Said):
            self.said.append(event.text)
            return []
        if isinstance(event, Changed):
            return self._take_change(event)
        return self._take_list(event)

    def _take_change(self, event: Changed) -> list[ObjectVersion]:
        each, began = event.reduced, self._by_our_clock(event.reduced.began_ns)
        if event.what == "ADDED":
            self._appeared_ns[each.key] = event.at_ns
        appeared = self._appeared_ns.get(each.key)
        if appeared is not None and began is not None:
            # An object's own times are cut to seconds; it can't have begun before the watch saw it made.
            began = max(began, appeared)
        if event.what == "DELETED":
            self._appeared_ns.pop(each.key, None)
        if each.object is None:
            return self._versions.drop(each.kind, each.key, now_ns=event.at_ns)
        return self._versions.put(each.kind, each.key, each.object, began_ns=began, now_ns=event.at_ns)

    def _take_list(self, listed: Listed) -> list[ObjectVersion]:
        self._listed.add(listed.kind)
        holding = [each for each in listed.objects if each.object is not None]
        prefix = object_key(listed.kind, "", "").removesuffix("//") + "/"
        taken = {
            address: began
            for each in holding
            if (began := self._by_our_clock(each.began_ns)) is not None
            for address in (each.object or {}).get("addresses", ())
        }
        messages = self._versions.retain(
            listed.kind.becomes[0], {each.key for each in holding}, now_ns=listed.at_ns, prefix=prefix, taken_ns=taken
        )
        for each in holding:
            began = self._by_our_clock(each.began_ns)
            messages += self._versions.put(each.kind, each.key, each.object or {}, began_ns=began, now_ns=listed.at_ns)
        return messages

    def _by_our_clock(self, time_ns: int | None) -> int | None:
        return None if time_ns is None else time_ns - self._api.ahead_ns

    def _compare_clocks(self) -> None:
        ahead = self._api.ahead_ns
        self._metrics.set(CLOCK_AHEAD, ahead / NS_PER_S)
        if bool(ahead) != self._clocks_differ:
            self._clocks_differ = bool(ahead)
            text = f"{abs(ahead) / NS_PER_S:.0f} s {'ahead of' if ahead > 0 else 'behind'}" if ahead else "again as"
            self._events.put(Said(f"kubernetes: the API server's clock is {text} ours"))

    def _probe(self) -> None:
        """Look whether the server answers, and which kinds it serves."""
        said = ""
        while not self._stop.is_set():
            try:
                served = self._served()
            except (TransientError, Forbidden) as error:
                count_refused(self._metrics, error)
                if str(error) != said:
                    said = str(error)
                    self._events.put(Said(f"kubernetes: {error}"))
            else:
                said = ""
                self._compare_clocks()
                self._begin(served)
                self._reached_ns = self._asked_ns
            self._stop.wait(self._probe_every_s)

    def _served(self) -> dict[Kind, str]:
        served: dict[Kind, str] = {}
        plurals: dict[str, set[str]] = {}
        for kind in KINDS:
            for version in kind.group_versions:
                if version not in plurals:
                    plurals[version] = self._plurals(version)
                if kind not in served and kind.plural in plurals[version]:
                    served[kind] = version
        return served

    def _plurals(self, group_version: str) -> set[str]:
        path = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
        self._asked_ns = self._clock.now_ns()
        try:
            found = self._api.get(path)
        except NotServed:
            return set()
        return {each["name"] for each in found.get("resources", ()) if "watch" in each.get("verbs", ())}

    def _begin(self, served: dict[Kind, str]) -> None:
        for kind, version in served.items():
            watch = self._watches.get(kind)
            if watch is None or watch.ended:
                self._watches[kind] = watch = KindWatch(
                    kind, version, self._api, self._clock, self._events.put, self._metrics, self._naming
                )
                watch.start()
        self._expected = frozenset(served)
