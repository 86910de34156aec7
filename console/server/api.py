"""The API's endpoints: read parameters, ask the store, shape the answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from starlette.responses import Response, StreamingResponse

from tierflow.console.server import board, explain
from tierflow.console.server import parameters as p
from tierflow.console.server.covered import Oldest, covered_s
from tierflow.console.server.flows import bundle, csv_lines, flat, flow
from tierflow.console.server.problem import BadQuery, problem
from tierflow.console.server.session import open_session
from tierflow.schemas.clock import NS_PER_S, Clock
from tierflow.schemas.errors import ConfigurationError, TierflowError
from tierflow.schemas.flow_log import FIELD_NAMES, FIELDS
from tierflow.sinks.read.interface import MAX_LIMIT, Filter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from tierflow.console.server.inventory import Inventory
    from tierflow.console.server.parameters import Query
    from tierflow.console.server.session import Sessions
    from tierflow.console.server.settings import ConsoleSettings
    from tierflow.sinks.read.interface import FlowLogPage, Store

T = TypeVar("T")
logger = logging.getLogger(__name__)

MOST_FACETS: Final = 100
MOST_EXPLAINED: Final = 100
MOST_DENIED_LOGS: Final = 2_000
HISTOGRAM_BARS: Final = 60
EXPORT_PAGE: Final = 500
MOST_DENIALS: Final = 50
LIVE_INTERVAL_S: Final = 2.0
HEARTBEAT_EVERY: Final = 8


class Api:
    """Answers requests from a store and the inventory; holds nothing but its bounds."""

    __slots__ = ("_clock", "_inventory", "_live", "_oldest", "_sessions", "_settings", "_store", "_turns")

    def __init__(
        self, store: Store, inventory: Inventory, sessions: Sessions, clock: Clock, settings: ConsoleSettings
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._sessions = sessions
        self._clock = clock
        self._settings = settings
        self._turns = asyncio.Semaphore(settings.concurrent_queries)
        self._oldest = Oldest(store, clock)
        self._live = 0

    async def flows(self, request: Request) -> Response:
        """Flows of the range, one by one up to a bound, the rest summed."""
        query = self._query(request, p.FILTER)
        where = await self._where(query)
        groups, newest, oldest = await asyncio.gather(
            self._ask(lambda: self._store.flow_groups(where, limit=MAX_LIMIT)),
            self._newest(),
            self._ask(self._oldest.start_s),
        )
        kept, smaller = bundle([flow(group) for group in groups], self._settings.most_flows)
        covered = covered_s(*query.range, oldest, newest)
        return _json(
            {"range": _range(query), "covered_s": covered, "flows": kept, "smaller": smaller, "newest_s": newest}
        )

    async def flow_logs(self, request: Request) -> Response:
        """One page of flow logs."""
        query = self._query(request, (*p.FILTER, p.SORT, p.CURSOR, p.LIMIT))
        given = request.query_params
        sort = p.choice(given, p.SORT, "-end_time")
        limit, cursor = p.integer(given, p.LIMIT, 50), given.get("cursor")
        where = await self._where(query)
        page, total, newest = await asyncio.gather(
            self._ask(
                lambda: self._store.flow_logs(
                    where, sort=sort.removeprefix("-"), descending=sort.startswith("-"), limit=limit, cursor=cursor
                )
            ),
            self._count(where),
            self._newest(),
        )
        logs = [flat(log) for log in page.logs]
        return _json({"range": _range(query), "logs": logs, "cursor": page.cursor, "total": total, "newest_s": newest})

    async def histogram(self, request: Request) -> Response:
        """Flow logs by action over the range."""
        query = self._query(request, p.FILTER)
        where = await self._where(query)
        start, end = query.range
        width = max(1, -(-(end - start) // HISTOGRAM_BARS))
        bars = {
            at: {"start_s": at * width, "allow": 0, "deny": 0} for at in range(start // width, (end - 1) // width + 1)
        }
        for bucket in await self._ask(lambda: self._store.histogram(where, width_s=width)):
            bar = bars.get(bucket.start_s // width)
            if bar is not None and bucket.action in bar:
                bar[bucket.action] += bucket.logs
        return _json({"range": _range(query), "width_s": width, "buckets": list(bars.values())})

    async def facets(self, request: Request) -> Response:
        """The values of a field."""
        query = self._query(request, (*p.FILTER, p.FIELD, p.PREFIX))
        field = p.choice(request.query_params, p.FIELD)
        prefix = request.query_params.get("prefix", "")
        where = await self._where(query)
        asked = p.EITHER_END.get(field, field)
        values = await self._ask(lambda: self._store.facets(where, asked, limit=MOST_FACETS, prefix=prefix))
        return _json({"field": field, "values": [{"value": str(each.value), "logs": each.logs} for each in values]})

    async def fields(self, request: Request) -> Response:
        """Every field of a flow log with its meaning."""
        p.check(request.query_params, ())
        told = [
            {"name": each.name, "type": each.type.value, "about": each.about, "collected": each.collected}
            for each in FIELDS
        ]
        return _json({"fields": told})

    async def export(self, request: Request) -> Response:
        """Flow logs of the filter as a file, up to a bound."""
        query = self._query(request, (*p.FILTER, p.FORMAT))
        form = p.choice(request.query_params, p.FORMAT)
        media = "text/csv" if form == "csv" else "application/jsonl"
        headers = {"content-disposition": f'attachment; filename="flow-logs.{form}"'}
        where = await self._where(query)
        first = await self._page(where, None)
        return StreamingResponse(self._pages(where, form, first), media_type=media, headers=headers)

    async def _page(self, where: Filter, cursor: str | None) -> FlowLogPage:
        return await self._ask(lambda: self._store.flow_logs(where, limit=EXPORT_PAGE, cursor=cursor))

    async def _pages(self, where: Filter, form: str, page: FlowLogPage) -> AsyncIterator[bytes]:
        if form == "csv":
            yield csv_lines([FIELD_NAMES])
        sent = 0
        while True:
            logs = page.logs[: self._settings.most_exported - sent]
            sent += len(logs)
            if form == "csv":
                yield csv_lines([log.get(name) for name in FIELD_NAMES] for log in map(flat, logs))
            else:
                yield b"".join(orjson.dumps(log) + b"\n" for log in logs)
            if page.cursor is None or sent >= self._settings.most_exported:
                return
            page = await self._page(where, page.cursor)

    async def explain(self, request: Request) -> Response:
        """The policies that judged the flow that the filter leaves."""
        where = await self._where(self._query(request, p.FILTER))
        page = await self._ask(lambda: self._store.flow_logs(where, limit=MOST_EXPLAINED))
        return _json(explain.explain([flat(log) for log in page.logs], self._inventory.in_force()))

    async def board(self, request: Request) -> Response:
        """Tiers and policies in order, with rates."""
        start, end = self._range(request, p.RANGE)
        counters, newest, oldest = await asyncio.gather(
            self._ask(lambda: self._store.rule_statistics(start, end, buckets=board.SPARK_BUCKETS)),
            self._newest(),
            self._ask(self._oldest.start_s),
        )
        covered = covered_s(start, end, oldest, newest)
        now = self._inventory.in_force()
        # Every policy is held against every endpoint: on a thread, or no other reader would be answered meanwhile.
        tiers = await self._ask(lambda: board.board(now, counters, end - start, covered))
        return _json(
            {
                "range": {"from_s": start, "to_s": end},
                "covered_s": covered,
                "tiers": tiers,
                "no_policy": board.no_policy(counters, covered),
                "newest_s": newest,
            }
        )

    async def policy(self, request: Request) -> Response:
        """One policy with its rules and whom they deny."""
        start, end = self._range(request, (*p.RANGE, p.POLICY_ID))
        now = self._inventory.in_force()
        found = board.find_policy(now, request.query_params["id"])
        if found is None:
            return problem(404, "No policy of this name is in force; the Policy Board lists those that are.")
        name = found.trace_name
        denied = Filter(start_s=start, end_s=end, actions=("deny",), policies=(f"|{name}|deny",))
        counters, page, newest, oldest = await asyncio.gather(
            self._ask(lambda: self._store.rule_statistics(start, end)),
            self._ask(lambda: self._store.flow_logs(denied, limit=MOST_DENIED_LOGS)),
            self._newest(),
            self._ask(self._oldest.start_s),
        )
        covered = covered_s(start, end, oldest, newest)
        body = await self._ask(lambda: board.policy_page(now, found, counters, covered))
        body |= {"range": {"from_s": start, "to_s": end}, "covered_s": covered, "newest_s": newest}
        body["denials"] = board.denials([flat(log) for log in page.logs], name, MOST_DENIALS)
        return _json(body)

    async def losses(self, request: Request) -> Response:
        """What is missing from every other answer about the range."""
        start, end = self._range(request, p.RANGE)
        found = await self._ask(lambda: self._store.losses(start, end))
        return _json({"range": {"from_s": start, "to_s": end}, "losses": [asdict(each) for each in found]})

    async def endpoint(self, request: Request) -> Response:
        """The policies that apply to an aggregated name."""
        p.check(request.query_params, (p.ENDPOINT_NAMESPACE, p.ENDPOINT_NAME))
        namespace, name = request.query_params["namespace"], request.query_params["name"]
        return _json(board.applied(self._inventory.in_force(), namespace, name))

    async def session(self, request: Request) -> Response:
        """End the session."""
        p.check(request.query_params, ())
        self._sessions.close(open_session(request, self._sessions) or "")
        return Response(status_code=204)

    async def live(self, request: Request) -> Response:
        """Server-sent events: ``newest`` with the end of the newest window, whenever it moves."""
        p.check(request.query_params, ())
        if self._live >= self._settings.most_live:
            return problem(503, "Too many pages are open; close one.")
        return StreamingResponse(
            self._events(request), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        self._live += 1
        try:
            last: int | None = -1
            quiet = 0
            cookie = open_session(request, self._sessions)
            while self._sessions.admits(cookie) and not await request.is_disconnected():
                newest = await self._newest()
                quiet += 1
                if newest != last:
                    last, quiet = newest, 0
                    yield b"event: newest\ndata: %d\n\n" % (newest or 0)
                elif quiet % HEARTBEAT_EVERY == 0:
                    yield b": still here\n\n"
                await asyncio.sleep(LIVE_INTERVAL_S)
        finally:
            self._live -= 1

    def _query(self, request: Request, accepted: tuple[p.Parameter, ...]) -> Query:
        p.check(request.query_params, accepted)
        return p.read_query(request.query_params, self._now_s(), self._settings.longest_range_s)

    def _range(self, request: Request, accepted: tuple[p.Parameter, ...]) -> tuple[int, int]:
        p.check(request.query_params, accepted)
        return p.time_range(request.query_params, self._now_s(), self._settings.longest_range_s)

    def _now_s(self) -> int:
        return self._clock.now_ns() // NS_PER_S

    async def _where(self, query: Query) -> Filter:
        """The store's filter; what is left out becomes all other values that the field has."""
        where = query.where
        for field, value in query.left_out:
            narrowed = where
            found = await self._ask(lambda: self._store.facets(narrowed, field, limit=MAX_LIMIT))  # noqa: B023  # asked at once
            kept = [each.value for each in found if str(each.value) != value]
            name = p.FILTER_FIELDS[field]
            if not kept:
                # Nothing else is there; a range of no length says so in every store.
                return replace(where, end_s=where.start_s)
            held: Any = tuple(int(each) for each in kept) if name == "ports" else tuple(kept)
            where = replace(where, **{name: held})
        return where

    async def _newest(self) -> int | None:
        return await self._ask(self._store.newest_s)

    async def _count(self, where: Filter) -> int:
        width = max(1, (where.end_s or 0) - (where.start_s or 0))
        return sum(each.logs for each in await self._ask(lambda: self._store.histogram(where, width_s=width)))

    async def _ask(self, question: Callable[[], T]) -> T:
        """A question on a thread, in turn; waiting and answer together are bounded in time.

        A question that takes too long keeps its turn until the store is done with it: no more run at once than there
        are turns, however many readers give up.
        """
        async with asyncio.timeout(self._settings.query_timeout_s):
            await self._turns.acquire()
            asked = asyncio.ensure_future(asyncio.to_thread(question))
            asked.add_done_callback(self._done)
            return await asyncio.shield(asked)

    def _done(self, asked: asyncio.Future[Any]) -> None:
        self._turns.release()
        if not asked.cancelled():
            # Whoever asked may be gone: an exception that nobody awaits would be logged as lost.
            asked.exception()


async def answer_error(request: Request, error: Exception) -> Response:
    """An exception as a problem document; what isn't expected is logged and answered without its text."""
    del request
    if isinstance(error, BadQuery | ConfigurationError):
        return problem(400, str(error))
    if isinstance(error, TimeoutError):
        return problem(503, "The store took too long. Ask for a shorter time range or a narrower filter.")
    if isinstance(error, TierflowError):
        return problem(503, f"The store can't answer now: {error}. See whether `tierflow sink` still runs.")
    logger.exception("request failed", exc_info=error)
    return problem(500, "The console failed; its log says how.")


def _range(query: Query) -> dict[str, int]:
    start, end = query.range
    return {"from_s": start, "to_s": end}


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})
