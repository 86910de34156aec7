"""Topics to stores (DuckDB, Elasticsearch), and the stores' read side."""
