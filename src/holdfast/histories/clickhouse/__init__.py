"""History in ClickHouse: what has ended, for as long as it is kept there. What has not ended is read from the store.

An `Exporter` (see `holdfast.exporter`) brings ended jobs and their attempts here. A row is a version: it is never
changed, a newer one is added, and reads see the newest (FINAL). So a batch that is sent twice is there once, and a job that
is taken back (retried, purged by hand) is covered by a version that says so. Roll-ups are worked out anew from the rows for
the minutes that a batch touched: a materialised view would count a repeated row again, as it sees what comes in and not
what is there.

    client.py     what is asked of a ClickHouse            http.py, embedded.py   a server; chdb in this process
    schema/       the tables, as numbered texts            migrate.py             takes them
    rows.py       jobs and attempts as rows                sink.py                writes what the exporter brings
    queries.py    the texts of all reads                   jobs.py, workers.py    the repositories
"""

from __future__ import annotations

from holdfast.histories.clickhouse.jobs import ClickhouseJobs
from holdfast.histories.clickhouse.opening import open_clickhouse
from holdfast.histories.clickhouse.sink import ClickhouseSink
from holdfast.histories.clickhouse.workers import ClickhouseWorkers

__all__ = ["ClickhouseJobs", "ClickhouseSink", "ClickhouseWorkers", "open_clickhouse"]
