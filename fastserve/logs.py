"""What the server says about itself: one line per event on standard error, and in a file where one is asked for.

Thread: any (the logging module locks). Never logged: bodies, header values, secrets.
"""

import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from fastserve.errors import ConfigError, FastServeError, InternalError, OutOfMemory

FILE_NAME = "fastserve.log"
HUMAN_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
SILENT = logging.CRITICAL + 1


def mishap(log: logging.Logger, what: str) -> FastServeError:
    """Log what an app's edge has caught, and the error that its client is told. For `except` blocks.

    Without memory the traceback says only where it ran out.
    """
    if isinstance(sys.exc_info()[1], MemoryError):
        log.error("%s: out of memory", what)
        return OutOfMemory()
    log.exception(what)
    return InternalError()


class Choice(Struct, frozen=True):
    """Which lines are written, as calls may choose while serving; and whether times for people are ISO 8601, too."""

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose_level: int = 0
    iso_times: bool = False

    def takes(self, level: int) -> bool:
        """Whether lines of that level are written."""
        if level >= logging.ERROR:
            return self.error
        if level >= logging.WARNING:
            return self.warning
        return self.info if level >= logging.INFO else self.verbose_level > 0

    @property
    def least(self) -> int:
        """The lowest level that is written."""
        levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
        return next((level for level in levels if self.takes(level)), SILENT)


class _Chosen(logging.Filter):
    """One for all handlers: what is chosen holds for each of them. `level`: the least one at start."""

    choice = Choice()
    level = logging.INFO

    def filter(self, record: logging.LogRecord) -> bool:
        return self.choice.takes(record.levelno)


class _ForPeople(logging.Formatter):
    """Local time, as people read it."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        if _chosen.choice.iso_times:
            return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return super().formatTime(record, datefmt)


_chosen = _Chosen()


class JsonLines(logging.Formatter):
    """One JSON object per line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """`time` (UTC, RFC 3339), `level`, `logger`, `message`, `pid` and, where there is one, `traceback`."""
        line: dict[str, str | int | None] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        """RFC 3339 with microseconds."""
        return datetime.fromtimestamp(record.created, UTC).isoformat()


def set_up(directory: str | None = None, level: str = "INFO") -> None:
    """Send what fastserve logs to standard error, for people, and as JSON lines to `directory/fastserve.log` as well.

    Calling it again replaces what it set up. The file may be rotated: it is opened anew when it was moved. Raises
    ConfigError where it cannot be written.
    """
    logger = logging.getLogger("fastserve")
    _chosen.choice, _chosen.level = Choice(), logging.getLevelNamesMapping()[level]
    for old in [*logger.handlers]:
        logger.removeHandler(old)
        old.close()
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(_ForPeople(HUMAN_FORMAT))
    handlers: list[logging.Handler] = [shown]
    if directory is not None:
        handlers.append(_file_handler(Path(directory)))
    for handler in handlers:
        handler.addFilter(_chosen)
        logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def choose(choice: Choice) -> None:
    """Write what is chosen from now on. Any thread; the same choice again changes nothing."""
    before = _chosen.choice
    if choice != before:
        _chosen.choice = choice
        # Where somebody else has set up the logging, the level is all that is ours.
        logging.getLogger("fastserve").setLevel(_chosen.level if choice == Choice() else choice.least)


def file_name() -> str:
    """The name of the log's file; empty where there is none. Its folder is nobody's business but the operator's."""
    handlers = logging.getLogger("fastserve").handlers
    return FILE_NAME if any(isinstance(handler, logging.FileHandler) for handler in handlers) else ""


def _file_handler(directory: Path) -> logging.Handler:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Several workers append to one file; each line is one write, so they do not mix.
        handler = logging.handlers.WatchedFileHandler(directory / FILE_NAME, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the log cannot be written to {directory}: {error.strerror} (--log-dir)") from error
    handler.setFormatter(JsonLines())
    return handler
