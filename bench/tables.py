"""Markdown's tables, and numbers as people read them."""

from collections.abc import Iterable, Iterator

Row = Iterable[str]

NOTHING = "-"


def table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    """Its lines."""
    head = tuple(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def figure(number: float) -> str:
    """Three digits at least: 0.412, 5.31, 27.4, 1,234."""
    places = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{places}f}"


def time(seconds: float) -> str:
    """In us or ms."""
    return f"{figure(seconds * 1e6)} us" if seconds < 1e-3 else f"{figure(seconds * 1e3)} ms"
