"""Asks DuckDB what the collector was asked, on the same Parquet files.

stdin: {"logs": "GLOB", "threads": 2, "queries": ["SELECT …", …]}, in which `logs` is the view of the files.
stdout: [{"seconds": …, "first": …}, …]: each query once, with the page cache dropped before it where that is allowed.
"""

import json
import sys
import time

import duckdb


def drop_page_cache():
    try:
        with open("/proc/sys/vm/drop_caches", "w") as caches:
            caches.write("1")
    except PermissionError:
        pass


def main():
    asked = json.load(sys.stdin)
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(asked['threads'])}")
    connection.execute("SET TimeZone = 'UTC'")
    # It would be drawn on stdout.
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"CREATE VIEW logs AS SELECT * FROM read_parquet('{asked['logs']}')")
    answers = []
    for query in asked["queries"]:
        drop_page_cache()
        start = time.perf_counter()
        rows = connection.execute(query).fetchall()
        answers.append({"seconds": time.perf_counter() - start, "first": str(rows[0][0]) if rows else None})
    json.dump(answers, sys.stdout)


main()
