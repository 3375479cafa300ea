"""What the server says about itself: one line per event on standard error, and in a file where one is asked for.

Thread: any (the logging module locks). Never logged: bodies, header values, secrets.
"""

import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

from fastserve.errors import ConfigError

FILE_NAME = "fastserve.log"
HUMAN_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


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
    for old in [*logger.handlers]:
        logger.removeHandler(old)
        old.close()
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(logging.Formatter(HUMAN_FORMAT))
    logger.addHandler(shown)
    if directory is not None:
        logger.addHandler(_file_handler(Path(directory)))
    logger.setLevel(level)
    logger.propagate = False


def _file_handler(directory: Path) -> logging.Handler:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Several workers append to one file; each line is one write, so they do not mix.
        handler = logging.handlers.WatchedFileHandler(directory / FILE_NAME, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the log cannot be written to {directory}: {error.strerror} (--log-dir)") from error
    handler.setFormatter(JsonLines())
    return handler
