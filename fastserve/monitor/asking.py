"""A question put to the log that is there: over its reader, as a caller may see it; what goes wrong is an answer too.

Thread: one that may take its time. Memory: see `performance` and `drift`.
"""

import logging
from importlib.util import find_spec
from typing import Any

from fastserve.errors import ErrorCode, FastServeError, Forbidden, ModelForbidden, quoted
from fastserve.monitor import drift, performance
from fastserve.monitor.question import DriftQuestion, PerformanceQuestion, Question
from fastserve.monitor.source import literal
from fastserve.store.reader import LogUnavailable, Reader
from fastserve.types import EVERYBODY, Caller

INSTALL = "performance and drift take scipy: pip install 'fastserve[log]'"

_log = logging.getLogger(__name__)


class NothingLogged(FastServeError):
    """The log has nothing of that model, or nothing that the caller may see."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, model: str) -> None:
        super().__init__(f"model: the prediction log has no records of {quoted(model)}; /log/models lists what it has")


class TooMuch(FastServeError):
    """The rows do not fit into the memory that a question may take."""

    code = ErrorCode.INVALID_ARGUMENT

    def __init__(self) -> None:
        super().__init__(
            "start: so many rows take more memory than one question may; ask about less time, or fewer dimensions"
        )


def check(question: Question, caller: Caller, own_name: str) -> None:
    """Raises Forbidden where the caller may not ask that; `own_name`: of the question's model, which may be an alias."""
    if not caller.may_use(own_name, question.model):
        raise ModelForbidden(caller.name, question.model)
    if question.space is not None and not caller.may_log_to(question.space):
        raise Forbidden(f"the caller {quoted(caller.name)} may not use the space {quoted(question.space)}")


def answer(reader: Reader, question: Question, now_ns: int, caller: Caller = EVERYBODY) -> Any:
    """Performance or Drift. Raises FastServeError."""
    if find_spec("scipy") is None:
        raise LogUnavailable(INSTALL)
    import duckdb

    try:
        with reader.connection(question.model, caller) as connection:
            rows = connection.execute(f"select 1 from records where model_id = {literal(question.model)} limit 1")
            if not rows.fetchall():
                raise NothingLogged(question.model)
            if isinstance(question, DriftQuestion):
                return drift.ask(connection, question, now_ns)
            assert isinstance(question, PerformanceQuestion)
            return performance.ask(connection, question, now_ns)
    except duckdb.OutOfMemoryException:
        raise TooMuch from None
