"""Filters of lists that few or none of the jobs match, and the commonest: a page by them costs the same beside any history.

The crowds of the plan tests are of the queue "default" and the task "t" or "mail.welcome"; nothing is of another name.
"""

from __future__ import annotations

from typing import Final

from holdfast.job import commands as c
from holdfast.job.state import State

PAGE: Final = 50
FILTERS: Final = (
    c.JobFilter(task="none"),
    c.JobFilter(task="rare"),
    c.JobFilter(worker="none"),
    c.JobFilter(worker="rare"),
    c.JobFilter(queue="none"),
    c.JobFilter(queue="default"),
    c.JobFilter(queue="default", task="rare", states=(State.SUCCEEDED, State.QUEUED)),
    c.JobFilter(states=(State.FAILED, State.PAUSED)),
    c.JobFilter(states=(State.SUCCEEDED, State.SCHEDULED)),
    c.JobFilter(worker="rare", states=(State.CANCELED, State.RETRYING)),
    c.JobFilter(task="rare", deleted=True),
)
ENDED: Final = (*FILTERS[:8], c.JobFilter(states=(State.SUCCEEDED,)))
PAGES: Final = [
    (which, c.Page(limit=PAGE, newest_first=newest_first, by_end=by_end))
    for by_end, filters in ((False, FILTERS), (True, ENDED))
    for which in filters
    for newest_first in (True, False)
]
