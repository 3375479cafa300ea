"""What the parent and its workers say to each other, as bytes. Pure; any thread."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fastserve.engine.registry import OnDisk
from fastserve.engine.state import IndexEntry, Outcome, Report, State, View
from fastserve.errors import (
    Draining,
    FastServeError,
    InternalError,
    InvalidRequest,
    LoadRefused,
    ModelNotFound,
    WorkerSilent,
)
from fastserve.metrics import Family, Made


class Apply(Struct, frozen=True, tag=True):
    """To a worker: serve this."""

    state: State


class Show(Struct, frozen=True, tag=True):
    """To a worker: what all of them serve. It says when it has seen it."""

    number: int
    view: View


class Admit(Struct, frozen=True, tag=True):
    """To a worker: you have what the others have; take requests."""


class Ping(Struct, frozen=True, tag=True):
    """To a worker: say something."""


class ReadGauges(Struct, frozen=True, tag=True):
    """To a worker: what do your gauges say?"""

    number: int


class Failure(Struct, frozen=True):
    """A FastServeError: its class, its text, and the model where it names one."""

    kind: str
    text: str
    model: str = ""


class Answered(Struct, frozen=True, tag=True):
    """To a worker: what its call came to."""

    number: int
    entries: tuple[IndexEntry, ...] = ()
    failure: Failure | None = None


class Collected(Struct, frozen=True, tag=True):
    """To a worker: the counts of all workers."""

    number: int
    families: tuple[Family, ...]


class Reported(Struct, frozen=True, tag=True):
    """From a worker: what it serves."""

    report: Report


class Seen(Struct, frozen=True, tag=True):
    """From a worker: its requests are answered by that view from now on."""

    number: int


class Pong(Struct, frozen=True, tag=True):
    """From a worker: something."""


class Gauges(Struct, frozen=True, tag=True):
    """From a worker: what its gauges say."""

    number: int
    families: tuple[Family, ...]


class Asked(Struct, frozen=True, tag=True):
    """From a worker: a call to the director. `subject`: the model, or the area of settings."""

    number: int
    call: str
    subject: str = ""
    values: dict[str, Any] | None = None


class Collect(Struct, frozen=True, tag=True):
    """From a worker: the counts of all workers, please."""

    number: int


class Counting(Struct, frozen=True, tag=True):
    """From a worker: a series whose cells it counts in from now on."""

    made: Made


class Dropped(Struct, frozen=True, tag=True):
    """From a worker: the series with all of these labels are gone."""

    labels: dict[str, str]


ToWorker = Apply | Show | Admit | Ping | ReadGauges | Answered | Collected
FromWorker = Reported | Seen | Pong | Gauges | Asked | Collect | Counting | Dropped

_ERRORS = {each.__name__: each for each in (Draining, InvalidRequest, LoadRefused, ModelNotFound, WorkerSilent)}


def encoded(message: ToWorker | FromWorker) -> bytes:
    """`message` as a frame. Raises ValueError or OverflowError for text that is none, and numbers that are too large."""
    return _ENCODER.encode(message)


def to_worker(frame: bytes) -> ToWorker:
    """The parent's message."""
    message: ToWorker = _TO_WORKER.decode(frame)
    return message


def from_worker(frame: bytes) -> FromWorker:
    """A worker's message."""
    message: FromWorker = _FROM_WORKER.decode(frame)
    return message


def sendable(state: State) -> State:
    """`state` as it goes to others: stamps as digests, since they are only compared, and nothing that is no text."""
    models = {name: _sendable_model(disk) for name, disk in state.models.items()}
    problems, notes = tuple(map(_text, state.problems)), tuple(map(_text, state.notes))
    return replace(state, models=models, problems=problems, notes=notes)


def sendable_report(report: Report) -> Report:
    """`report` with nothing in it that is no text."""
    models = {
        name: tuple(replace(status, reason=_text(status.reason)) for status in statuses)
        for name, statuses in report.models.items()
    }
    return replace(report, models=models)


def answer_of(number: int, outcome: Outcome) -> Answered:
    """What a call came to, as it is sent."""
    if isinstance(outcome, FastServeError):
        model = outcome.model if isinstance(outcome, ModelNotFound) else ""
        return Answered(number, failure=Failure(type(outcome).__name__, _text(str(outcome)), _text(model)))
    return Answered(number, tuple(map(_sendable_entry, outcome)))


def _sendable_entry(entry: IndexEntry) -> IndexEntry:
    return replace(entry, reason=_text(entry.reason), notes=tuple(map(_text, entry.notes)))


def outcome_of(answer: Answered) -> Outcome:
    """What a call came to, as it was sent."""
    failure = answer.failure
    if failure is None:
        return list(answer.entries)
    if failure.kind == ModelNotFound.__name__:
        return ModelNotFound(failure.model)
    kind = _ERRORS.get(failure.kind)
    return kind(failure.text) if kind is not None else InternalError()


def _sendable_model(disk: OnDisk) -> OnDisk:
    return replace(
        disk,
        config=replace(disk.config, path=None),
        of_versions={number: replace(config, path=None) for number, config in disk.of_versions.items()},
        stamps={number: _digest(stamp) for number, stamp in disk.stamps.items()},
        problems=tuple(_text(problem) for problem in disk.problems),
    )


def _digest(stamp: Any) -> str:
    return hashlib.blake2b(repr(stamp).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _encode_path(value: Any) -> Any:
    if isinstance(value, Path):
        return os.fsencode(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} is not sent")


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(os.fsdecode(value))
    raise NotImplementedError(f"{kind.__name__} is not sent")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode_path)
_TO_WORKER = msgspec.msgpack.Decoder(ToWorker, dec_hook=_decode_path)
_FROM_WORKER = msgspec.msgpack.Decoder(FromWorker, dec_hook=_decode_path)
