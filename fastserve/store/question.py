"""A question to the log in somebody else's words, its answer, and how both go to the process that finds it, and back.

Thread: any.
"""

import base64
import datetime
import decimal
import math
from typing import Any, Literal

from msgspec import Struct

from fastserve.errors import ErrorCode, FastServeError

Format = Literal["json", "arrow"]

MAX_ROWS = 100_000
DEFAULT_ROWS = 10_000
MAX_ANSWER_BYTES = 64 << 20


class Limits(Struct, frozen=True, kw_only=True):
    """What one question may take. `memory_bytes`: of DuckDB; its process has as much again for what it does not count."""

    memory_bytes: int = 512 << 20
    threads: int = 2
    within_s: float = 30.0
    answer_bytes: int = MAX_ANSWER_BYTES


class Question(Struct, frozen=True, kw_only=True):
    """`sql` with `parameters` for its `?`; of the answer's rows, at most `max_rows`."""

    sql: str
    parameters: tuple[str | float | int | bool | None, ...] = ()
    max_rows: int = DEFAULT_ROWS
    format: Format = "json"


class Asked(Struct, frozen=True, kw_only=True):
    """A question on its way. `tables`: names of the Arrow tables that come beside it, as files, in this order."""

    question: Question
    limits: Limits
    paths: list[str]
    sqls: list[str]
    tables: list[str]


class Told(Struct, frozen=True, kw_only=True):
    """What came of it, before the answer's `body_bytes`. `error`: why there is none, and whose fault that is."""

    error: str = ""
    code: str = ErrorCode.INVALID_ARGUMENT.value
    body_bytes: int = 0
    rows: int = 0
    truncated: bool = False


class Answer(Struct, frozen=True):
    """The body in the format that was asked for. `truncated`: there were more rows."""

    body: bytes
    rows: int
    truncated: bool


class QuestionFailed(FastServeError):
    """The statement is wrong, or asks for too much; the text is the database's."""

    code = ErrorCode.INVALID_ARGUMENT


class QuestionRefused(FastServeError):
    """Our own fault, or the machine's."""

    code = ErrorCode.INTERNAL


def plain(value: Any) -> Any:
    """A value of a result as JSON has it: instants in ISO 8601, numbers that are not finite by name, bytes as base64."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, decimal.Decimal):
        return plain(float(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    return str(value)
