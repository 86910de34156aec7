"""A filter as a condition that a scan of ``flow_logs`` can test at once.

The filter is first asked of the few thousand flows. Those chosen become a string of bits, one for each flow by its
number: testing a bit keeps the scan's own shortcuts (it reads the newest rows only, for a page), where joining the two
tables would read them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierflow.sinks.duckdb.conditions import FALSE, TRUE, Condition, flow_condition, time_condition

if TYPE_CHECKING:
    import duckdb

    from tierflow.sinks.read.interface import Filter


def restriction(cursor: duckdb.DuckDBPyConnection, where: Filter) -> Condition:
    """The condition on ``flow_logs``, and its parameters.

    Args:
        cursor: in the transaction in which the condition will be used: a flow that came later has no bit.
        where: the filter.

    Raises:
        ConfigurationError: a label selector can't be parsed.
    """
    in_time, parameters = time_condition(where)
    sql, of_flows = flow_condition(where)
    if sql == TRUE[0]:
        return in_time, parameters
    lowest, highest = cursor.execute("SELECT min(flow), max(flow) FROM flows").fetchall()[0]
    if lowest is None:
        return FALSE
    # The bounds must be constants, and are numbers of our own.
    chosen = cursor.execute(
        f"SELECT CAST(bitstring_agg(flow, {lowest}, {highest}) AS VARCHAR) FROM flows WHERE {sql}",  # noqa: S608 - flow_condition() binds values
        of_flows,
    ).fetchall()[0][0]
    if chosen is None:
        return FALSE
    return f"({in_time}) AND get_bit(CAST(? AS BIT), flow - {lowest}) = 1", [*parameters, chosen]
