"""The embedded store: flow logs and policy counters in one DuckDB file."""
