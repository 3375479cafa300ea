"""Calls to an engine's control, waited for."""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from fastserve.engine.engine import Engine
from fastserve.engine.state import IndexEntry, Outcome
from fastserve.errors import FastServeError
from tests.support.waiting import WITHIN_S


def outcome(call: Callable[..., None], *arguments: Any) -> Outcome:
    """What a call comes to; `told` stands after its first argument, as everywhere in `Control`."""
    told: SimpleQueue[Outcome] = SimpleQueue()
    call(*arguments[:1], told.put, *arguments[1:])
    result = told.get(timeout=WITHIN_S)
    assert told.empty(), "it was told twice"
    return result


def entries(call: Callable[..., None], *arguments: Any) -> list[tuple[str, int | None, str]]:
    """Model, version and state of a call that must succeed."""
    result = outcome(call, *arguments)
    assert not isinstance(result, FastServeError), result
    return [short(entry) for entry in result]


def refusal(call: Callable[..., None], *arguments: Any) -> FastServeError:
    """The error of a call that must fail."""
    result = outcome(call, *arguments)
    assert isinstance(result, FastServeError), result
    return result


def index(engine: Engine) -> list[tuple[str, int | None, str]]:
    """Of all models, after a look at the disk."""
    return entries(engine.control.index)


def short(entry: IndexEntry) -> tuple[str, int | None, str]:
    return entry.model, entry.version, entry.state.value
