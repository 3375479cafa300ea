"""Questions about a large log, beside the same questions put to plain DuckDB."""
