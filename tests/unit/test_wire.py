"""Whatever the parent and its workers say arrives as it was said."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fastserve.config import ModelConfig
from fastserve.engine.registry import OnDisk
from fastserve.engine.state import IndexEntry, Report, State, View
from fastserve.errors import (
    Draining,
    FastServeError,
    InternalError,
    InvalidRequest,
    LoadRefused,
    ModelNotFound,
    QueueFull,
    WorkerSilent,
)
from fastserve.metrics import Family, Made, Point
from fastserve.repository.watch import FileStamp, Stamp
from fastserve.server import wire
from fastserve.types import VersionState, VersionStatus

TEXT = st.text(max_size=20)
NUMBERS = st.integers(0, 2**63 - 1)
PATHS = st.binary(min_size=1, max_size=20).map(lambda name: Path("/models") / os.fsdecode(name.replace(b"\0", b"")))
STAMPS = st.builds(
    Stamp, st.lists(st.builds(FileStamp, PATHS.map(str), NUMBERS, NUMBERS, NUMBERS), max_size=2).map(tuple)
)
POLICIES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["latest", "all"]),
    st.builds(lambda n: {"latest": n}, NUMBERS),
    st.lists(NUMBERS, max_size=3).map(tuple),
)
CONFIGS = st.builds(
    ModelConfig,
    name=st.text(min_size=1, max_size=9),
    versions=st.none() | POLICIES,
    labels=st.dictionaries(TEXT, NUMBERS, max_size=2),
    aliases=st.lists(TEXT, max_size=2).map(tuple),
    max_queue_rows=st.integers(1, 9),
)
MODELS = st.builds(
    OnDisk,
    place=PATHS,
    config=CONFIGS,
    policy=POLICIES,
    versions=st.dictionaries(NUMBERS, PATHS, max_size=3),
    stamps=st.dictionaries(NUMBERS, STAMPS, max_size=3),
    problems=st.lists(TEXT, max_size=2).map(tuple),
    unloaded=st.booleans(),
    attempt=NUMBERS,
    of_versions=st.dictionaries(NUMBERS, CONFIGS, max_size=2),
)
STATUSES = st.builds(VersionStatus, NUMBERS, st.sampled_from(VersionState), TEXT)
REPORTS = st.builds(
    Report, NUMBERS, st.booleans(), TEXT, st.dictionaries(TEXT, st.lists(STATUSES, max_size=3).map(tuple), max_size=2)
)


@given(st.builds(State, NUMBERS, st.dictionaries(TEXT, MODELS, max_size=2), st.lists(TEXT, max_size=2).map(tuple)))
def test_a_state_arrives(state: State) -> None:
    sent = wire.sendable(state)
    received = wire.to_worker(wire.encoded(wire.Apply(sent)))
    assert received == wire.Apply(sent)
    for name, disk in state.models.items():
        there = sent.models[name]
        assert there.versions == disk.versions
        assert (there.unloaded, there.attempt, there.policy) == (disk.unloaded, disk.attempt, disk.policy)
        assert list(there.stamps) == list(disk.stamps)


@given(STAMPS, STAMPS)
def test_stamps_that_differ_differ_on_the_other_side(one: Stamp, other: Stamp) -> None:
    place = Path("/models")
    disk = OnDisk(place, ModelConfig(name="m"), "latest", {1: place}, {1: one})
    first = wire.sendable(State(1, {"m": disk})).models["m"].stamps[1]
    second = wire.sendable(State(1, {"m": replace(disk, stamps={1: other})})).models["m"].stamps[1]
    assert (first == second) == (one == other)


@given(REPORTS, NUMBERS)
def test_reports_and_views_arrive(report: Report, number: int) -> None:
    assert wire.from_worker(wire.encoded(wire.Reported(report))) == wire.Reported(report)
    shown = wire.Show(number, View(report, 3, ("worker 1",)))
    assert wire.to_worker(wire.encoded(shown)) == shown


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFound("m"),
        ModelNotFound("\ud800"),
        InvalidRequest("not like this"),
        LoadRefused("it is broken"),
        WorkerSilent("worker 2"),
        Draining("over"),
    ],
)
def test_errors_arrive_as_what_they_are(error: FastServeError) -> None:
    received = wire.to_worker(wire.encoded(wire.answer_of(7, error)))
    assert isinstance(received, wire.Answered)
    again = wire.outcome_of(received)
    assert type(again) is type(error)
    assert str(again) == str(error).replace("\ud800", "\\ud800")


def test_an_error_that_is_never_an_outcome_is_our_own_fault() -> None:
    assert isinstance(wire.outcome_of(wire.answer_of(1, QueueFull("full"))), InternalError)


def test_entries_and_counts_arrive() -> None:
    answer = wire.answer_of(
        1, [IndexEntry("m", None, VersionState.UNLOADED, "broken \udcff name", ("\udcff not applied",))]
    )
    assert wire.to_worker(wire.encoded(answer)) == answer
    family = Family("a", "histogram", "A.", (Point((("model", "m"),), (1, 2, 3), (5,), 1e9),))
    assert wire.to_worker(wire.encoded(wire.Collected(3, (family,)))) == wire.Collected(3, (family,))
    counting = wire.Counting(Made("a", "counter", "A.", (("model", "m"),), 8))
    assert wire.from_worker(wire.encoded(counting)) == counting


@pytest.mark.parametrize("values", [{"a": "\ud800"}, {"a": 2**64}, {"\udfff": 1}])
def test_what_cannot_be_sent_is_refused_before_it_is(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        wire.encoded(wire.Asked(1, "change", "logging", values))
