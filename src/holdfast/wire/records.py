"""Figures and entries of the audit log as documents, for moves between stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.audit import AuditEntry
from holdfast.errors import ContentError
from holdfast.job.commands import ImportRecords
from holdfast.job.facts import Audited, Figured
from holdfast.job.figures import end_of, unpack
from holdfast.job.ids import check_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPANS: Final = frozenset({60, 3_600})
_LAST: Final = 2**31
_MOST: Final = 2**53


class FigureDoc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was counted in one minute or hour: `span` seconds long, the number-th since 1970. outcome: as it is stored.

    waited, ran: microseconds in all. waits, runs: packed histograms, in base64. timed: of how many the worker told a
    duration; took: microseconds of these in all.
    """

    span: int
    number: int
    queue: str
    task: str
    outcome: int
    worker: str
    n: int
    waited: int
    ran: int
    waits: bytes
    runs: bytes
    timed: int = 0
    took: int = 0


class RecordsBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What another store counted, and entries of its audit log, oldest first."""

    figures: tuple[FigureDoc, ...] = ()
    audit: tuple[AuditEntry, ...] = ()


class FiguresOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which figures: of minutes or hours (span: 60 or 3,600), from the `first` to the `last` since 1970."""

    span: int
    first: int
    last: int


def figure_doc(figure: Figured) -> FigureDoc:
    """Return a figure as a document."""
    return FigureDoc(**{name: getattr(figure, name) for name in FigureDoc.__struct_fields__})


def figure_of(doc: FigureDoc) -> Figured:
    """Return the figure of a document, as it may be stored. Raises ContentError or ConfigError otherwise."""
    check_name(doc.queue, "figure: queue")
    check_name(doc.task, "figure: task")
    numbers = (doc.number, doc.n, doc.waited, doc.ran, doc.timed, doc.took)
    try:
        buckets = [*unpack(doc.waits).items(), *unpack(doc.runs).items()]
        end_of(doc.outcome)
    except (msgspec.MsgspecError, KeyError) as error:
        raise ContentError(
            f"figure: expected an outcome and histograms as an export has them, found {error}."
        ) from error
    if doc.span not in _SPANS or doc.number >= _LAST or not all(0 <= one < _MOST for one in numbers):
        raise ContentError(f"figure: expected a minute or an hour and counts from 0, found {numbers} by {doc.span} s.")
    if len(doc.worker) > 512 or not all(-1_000 < place < 1_000 and 0 <= n < _MOST for place, n in buckets):
        raise ContentError("figure: expected histograms of durations and a worker's name, found others.")
    return Figured(**{name: getattr(doc, name) for name in FigureDoc.__struct_fields__})


def audit_doc(fact: Audited) -> AuditEntry:
    """Return an entry of the audit log as a document."""
    return AuditEntry(**{name: getattr(fact, name) for name in AuditEntry.__struct_fields__})


def records_of(figures: Sequence[FigureDoc], audit: Sequence[AuditEntry]) -> ImportRecords:
    """Return figures and entries of the audit log as they may be stored. Raises ContentError or ConfigError otherwise."""
    entries = tuple(Audited(one.who, one.action, one.subject, one.detail, one.at, one.count) for one in audit)
    for entry in entries:
        texts = (entry.who, entry.action, entry.subject, entry.detail)
        if max(map(len, texts)) > 1_000 or not 0 <= entry.at < 1e12 or not 0 <= entry.count < _MOST:
            raise ContentError(
                f"audit: expected texts up to 1,000 characters, a time and a count, found {entry!r:.200}."
            )
    return ImportRecords(figures=tuple(map(figure_of, figures)), audit=entries)
