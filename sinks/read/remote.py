"""A store in another process of this machine, over a Unix socket or loopback HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from tierflow.schemas.errors import ConfigurationError, UnavailableError
from tierflow.sinks.read.calls import answer_from
from tierflow.sinks.read.interface import (
    MAX_LIMIT,
    Facet,
    Filter,
    FlowGroup,
    FlowLogPage,
    HistogramBucket,
    Loss,
    PolicyEndpoints,
    RuleStatistics,
)


class RemoteStore:
    """The read side of a store that ``tierflow sink`` serves.

    Args:
        address: ``unix:PATH`` or ``http://HOST:PORT``.
        timeout_s: for one call.

    Raises:
        ConfigurationError: the address has neither form.
    """

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        self._address = address
        if address.startswith("unix:"):
            transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"))
            self._client = httpx.Client(transport=transport, base_url="http://store", timeout=timeout_s)
        elif address.startswith("http://"):
            # Never through a proxy of the environment: the store is on this machine.
            self._client = httpx.Client(base_url=address, timeout=timeout_s, trust_env=False)
        else:
            raise ConfigurationError(f"--store {address}: accepted are unix:PATH and http://HOST:PORT")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def flow_logs(
        self,
        where: Filter,
        *,
        sort: str = "end_time",
        descending: bool = True,
        limit: int = 100,
        cursor: str | None = None,
    ) -> FlowLogPage:
        """A page of flow logs, sorted by a field and then by id."""
        page: FlowLogPage = self._call(
            "flow_logs", where=where, sort=sort, descending=descending, limit=limit, cursor=cursor
        )
        return page

    def flow_groups(self, where: Filter, *, limit: int = MAX_LIMIT) -> tuple[FlowGroup, ...]:
        """The flows of the visualizer, largest by bytes first."""
        groups: tuple[FlowGroup, ...] = self._call("flow_groups", where=where, limit=limit)
        return groups

    def histogram(self, where: Filter, *, width_s: int) -> tuple[HistogramBucket, ...]:
        """Flow logs over time by action, oldest first."""
        found: tuple[HistogramBucket, ...] = self._call("histogram", where=where, width_s=width_s)
        return found

    def rule_statistics(self, start_s: int, end_s: int, *, buckets: int = 0) -> tuple[RuleStatistics, ...]:
        """What each rule did in the range."""
        found: tuple[RuleStatistics, ...] = self._call("rule_statistics", start_s=start_s, end_s=end_s, buckets=buckets)
        return found

    def policy_endpoints(self, start_s: int, end_s: int) -> tuple[PolicyEndpoints, ...]:
        """How many endpoints each policy applied to."""
        found: tuple[PolicyEndpoints, ...] = self._call("policy_endpoints", start_s=start_s, end_s=end_s)
        return found

    def facets(self, where: Filter, field: str, *, limit: int = 20, prefix: str = "") -> tuple[Facet, ...]:
        """The most frequent values of a field under a filter."""
        found: tuple[Facet, ...] = self._call("facets", where=where, field=field, limit=limit, prefix=prefix)
        return found

    def losses(self, start_s: int, end_s: int) -> tuple[Loss, ...]:
        """What went missing in the range, by node and reason."""
        found: tuple[Loss, ...] = self._call("losses", start_s=start_s, end_s=end_s)
        return found

    def newest_s(self) -> int | None:
        """End of the newest window stored."""
        newest: int | None = self._call("newest_s")
        return newest

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            response = self._client.post(f"/v1/{method}", content=orjson.dumps(arguments))
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"--store {self._address}: no store answers there ({error}); is tierflow up, or tierflow sink, running?"
            ) from error
        try:
            answer = orjson.loads(response.content)
            if response.status_code == httpx.codes.OK:
                return answer_from(method, answer)
            detail = str(answer["detail"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnavailableError(
                f"--store {self._address}: what answers there is no store (status {response.status_code})"
            ) from error
        raise (ConfigurationError if response.status_code == httpx.codes.BAD_REQUEST else UnavailableError)(detail)
