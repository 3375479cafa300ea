"""Which records the current ones are compared with: an environment's, a fixed time's, or those of the time right before."""

from typing import Any

from msgspec import Struct, structs

from fastserve.errors import InvalidRequest, quoted
from fastserve.monitor import spans
from fastserve.monitor.performance import time_of
from fastserve.monitor.question import DriftQuestion
from fastserve.monitor.source import Relation, Source

MAX_MOVING_WINDOWS = 100


class Baseline(Struct, frozen=True, kw_only=True):
    """Both sides of a comparison. `start_ns`, `end_ns`: of the current records; `since_ns`, `until_ns`: of the baseline."""

    kind: str
    question: DriftQuestion
    start_ns: int
    end_ns: int
    baseline: Relation
    current: Relation
    since_ns: int | None = None
    until_ns: int | None = None

    def counted(self, source: Source) -> tuple[int, int]:
        """Rows of the baseline, and current ones."""
        counts = [source.row(f"select count(*) from {one.sql}")[0] for one in (self.baseline, self.current)]
        return counts[0], counts[1]

    def span(self) -> tuple[str | None, str | None, float | None]:
        """From when, to when, and of a moving one how long."""
        told = [None if moment is None else spans.told(moment) for moment in (self.since_ns, self.until_ns)]
        return told[0], told[1], None

    def of_view(self, view: str, source: Source) -> "Baseline":
        """The same rows of another view."""
        return structs.replace(
            self,
            baseline=_baseline_of(source, self.question, self.kind, self.since_ns, self.until_ns, view),
            current=_current_of(source, self.question, self.start_ns, self.end_ns, view),
        )


class Moving(Baseline, frozen=True, kw_only=True):
    """The baseline of each moment is the `length_ns` before it."""

    length_ns: int
    table: str

    def span(self) -> tuple[str | None, str | None, float | None]:
        """The one before the first window."""
        start, end, _ = super().span()
        return start, end, self.length_ns / 1e9

    def before(self, start_ns: int, end_ns: int) -> "Baseline":
        """One window beside the time before it."""
        since = start_ns - self.length_ns
        return Baseline(
            kind=self.kind,
            question=self.question,
            start_ns=start_ns,
            end_ns=end_ns,
            baseline=_between(self.table, since, start_ns),
            current=_between(self.table, max(start_ns, self.start_ns), min(end_ns, self.end_ns)),
        )

    def of_view(self, view: str, source: Source) -> "Baseline":
        """The same rows of another view, kept."""
        table = f"{view}_kept"
        _keep(source, self.question, view, table, (self.start_ns - self.length_ns, self.end_ns))
        return structs.replace(
            self,
            table=table,
            baseline=_between(table, self.start_ns - self.length_ns, self.start_ns),
            current=_between(table, self.start_ns, self.end_ns),
        )


def chosen(source: Source, question: DriftQuestion, now_ns: int) -> Baseline:
    """What is asked for, or for `auto` what there is. Raises InvalidRequest."""
    kind = _kind(source, question)
    start_ns, end_ns = time_of(source, question, now_ns)
    if kind == "moving":
        return _moving(source, question, start_ns, end_ns)
    since, until = None, None
    if kind == "fixed":
        since, until = _fixed(question, now_ns)
    elif kind == "first half":
        since, until = start_ns, start_ns + (end_ns - start_ns) // 2
        start_ns = until
    return Baseline(
        kind=kind,
        question=question,
        start_ns=start_ns,
        end_ns=end_ns,
        baseline=_baseline_of(source, question, kind, since, until, "predictions"),
        current=_current_of(source, question, start_ns, end_ns, "predictions"),
        since_ns=since,
        until_ns=until,
    )


def _kind(source: Source, question: DriftQuestion) -> str:
    """`auto`: by the parameters that belong to one kind, else by what the log has."""
    if question.baseline != "auto":
        return question.baseline
    if question.baseline_start is not None or question.baseline_end is not None:
        return "fixed"
    if question.baseline_window is not None:
        return "moving"
    for environment in ("training", "validation"):
        if environment == question.environment:
            continue
        rows = _baseline_of(source, question, environment, None, None, "predictions")
        if source.rows(f"select 1 from {rows.sql} limit 1"):
            return environment
    return "first half"


def _fixed(question: DriftQuestion, now_ns: int) -> tuple[int, int]:
    if question.baseline_start is None or question.baseline_end is None:
        missing = "baseline_start" if question.baseline_start is None else "baseline_end"
        raise InvalidRequest(f"{missing}: a fixed baseline takes it")
    since = spans.moment_ns(question.baseline_start, "baseline_start", now_ns)
    until = spans.moment_ns(question.baseline_end, "baseline_end", now_ns)
    if until <= since:
        raise InvalidRequest(f"baseline_end: {spans.told(until)} is not after baseline_start, {spans.told(since)}")
    return since, until


def _moving(source: Source, question: DriftQuestion, start_ns: int, end_ns: int) -> Moving:
    length = spans.window_ns(question.window, start_ns, end_ns)
    count = len(spans.windows(start_ns, end_ns, length))
    if count > MAX_MOVING_WINDOWS:
        raise InvalidRequest(
            f"window: {quoted(question.window)} makes {count} windows; with a moving baseline at most {MAX_MOVING_WINDOWS}"
        )
    if question.baseline_window is not None:
        before = spans.length_ns(question.baseline_window, "baseline_window")
    else:
        before = length or max(1, end_ns - start_ns)
    if question.start is None:
        start_ns = min(end_ns, start_ns + before)  # there is nothing before the first record
    table = "predictions_kept"
    _keep(source, question, "predictions", table, (start_ns - before, end_ns))
    return Moving(
        kind="moving",
        question=question,
        start_ns=start_ns,
        end_ns=end_ns,
        baseline=_between(table, start_ns - before, start_ns),
        current=_between(table, start_ns, end_ns),
        since_ns=start_ns - before,
        until_ns=start_ns,
        length_ns=before,
        table=table,
    )


def _keep(source: Source, question: DriftQuestion, view: str, table: str, span: tuple[int, int]) -> None:
    """In order of time, so that one window is found without reading the others."""
    rows = _current_of(source, question, *span, view)
    source.connection.execute(f"create or replace temp table {table} as select * from {rows.sql} order by ts_ns")


def _between(table: str, start_ns: int, end_ns: int) -> Relation:
    return Relation(f"(select * from {table} where ts_ns >= {start_ns:d} and ts_ns < {end_ns:d})")


def _current_of(source: Source, question: DriftQuestion, start_ns: int, end_ns: int, view: str) -> Relation:
    return source.relation(
        question,
        view,
        environment=question.environment,
        start_ns=start_ns,
        end_ns=end_ns,
        versions=question.version,
        batch_id=question.batch_id,
    )


def _baseline_of(
    source: Source, question: DriftQuestion, kind: str, since: int | None, until: int | None, view: str
) -> Relation:
    """An environment's records are those of all time, unless a time is said."""
    environment: Any = kind if kind in ("training", "validation") else question.environment
    return source.relation(
        question,
        view,
        environment=environment,
        start_ns=since,
        end_ns=until,
        versions=question.baseline_version,
        batch_id=question.baseline_batch_id,
    )
