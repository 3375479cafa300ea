"""Where `log` commands put their pages."""

from pathlib import Path

import click

from fastserve.cli.client import CallFailed
from fastserve.monitor.drift import Drift
from fastserve.monitor.performance import Performance

HTML = click.Path(dir_okay=False, writable=True, path_type=Path)


def write(path: Path, performance: Performance | None = None, drift: Drift | None = None) -> None:
    """The page of these answers. Raises CallFailed where it cannot be written."""
    from fastserve.monitor.report import page

    text = page(performance, drift)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallFailed(f"{path}: {error.strerror}") from None
