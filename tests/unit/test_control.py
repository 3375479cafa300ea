"""Models that are loaded and unloaded by calls, over real files and a real engine."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from fastserve.config import ModelConfig
from fastserve.engine import load
from fastserve.engine.engine import Engine
from fastserve.engine.state import Outcome
from fastserve.errors import Draining, InvalidRequest, LoadRefused, ModelNotFound, VersionNotFound
from fastserve.types import VersionState
from tests.support.calls import entries, index, outcome, refusal
from tests.support.shelf import Shelf, ask, ready, times
from tests.support.waiting import WITHIN_S, until

X = np.array([[1, 2]])

GOING = ("DRAINING", "UNLOADED")
"""What a version is that was let go just now: whatever still holds it may take a moment."""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def first_answer(engine: Engine, name: str = "m") -> int:
    return int(ask(engine, name, {"x": X}).outputs["y"][0, 0])


def test_an_unload_holds_until_a_load_call(shelf: Shelf):
    shelf.put("m", times(1))
    shelf.put("other", times(2))
    with shelf.engine() as engine:
        control = engine.control
        assert entries(control.unload, "m")[0][2] in GOING
        with pytest.raises(VersionNotFound, match="unloaded"):
            engine.lease("m")
        engine.refresh()
        engine.refresh()
        until(lambda: index(engine) == [("m", 1, "UNLOADED"), ("other", 1, "READY")])
        assert engine.not_ready() == "", "what was unloaded by a call does not make it unready"
        assert first_answer(engine, "other") == 2
        assert entries(control.load, "m") == [("m", 1, "READY")]
        assert first_answer(engine) == 1


def test_an_unload_holds_until_the_files_change(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        entries(engine.control.unload, "m")
        shelf.put("m", times(3), 2)
        engine.refresh()
        assert first_answer(engine) == 3
        entries(engine.control.unload, "m")
        assert ready(engine) == []


def test_a_model_that_went_and_came_back_is_served_whatever_was_asked_before(shelf: Shelf):
    file = shelf.put("m", times(1))
    with shelf.engine() as engine:
        entries(engine.control.unload, "m")
        file.unlink()
        file.parent.rmdir()
        file.parent.parent.rmdir()
        engine.refresh()
        until(lambda: index(engine) == [])
        shelf.put("m", times(1))
        until(lambda: index(engine) == [("m", 1, "READY")])


def test_calls_may_be_repeated(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        lease = engine.lease("m")
        for _ in range(2):
            assert entries(engine.control.load, "m") == [("m", 1, "READY")]
        assert engine.lease("m") is lease, "what is loaded and unchanged is not loaded again"
        for _ in range(2):
            assert entries(engine.control.unload, "m")[0][:2] == ("m", 1)


@pytest.mark.parametrize("call", ["load", "unload"])
def test_an_unknown_model_is_not_found(shelf: Shelf, call: str):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        error = refusal(getattr(engine.control, call), "nobody")
        assert isinstance(error, ModelNotFound)
        assert "nobody" in str(error)


def test_load_finds_a_model_that_was_just_put_there_even_while_young_files_are_waited_for(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine(poll_seconds=86_000) as engine:
        shelf.put("fresh", times(4))
        shelf.put("m", times(2), 2)
        assert entries(engine.control.load, "fresh") == [("fresh", 1, "READY")]
        assert first_answer(engine, "fresh") == 4
        assert ready(engine) == [1], "of the others, files that may still grow are left alone"


def test_an_alias_is_as_good_as_the_name(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine(ModelConfig(name="m", aliases=("deployment",))) as engine:
        assert entries(engine.control.unload, "deployment")[0][2] in GOING
        assert entries(engine.control.load, "deployment") == [("m", 1, "READY")]


def test_a_load_that_fails_says_why_and_the_old_version_serves_on(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        shelf.put("m", times(2), 2).write_bytes(b"no model")
        error = refusal(engine.control.load, "m")
        assert isinstance(error, LoadRefused)
        assert "version 2" in str(error)
        assert first_answer(engine) == 1
        assert index(engine) == [("m", 2, "FAILED"), ("m", 1, "READY")]
        shelf.put("m", times(2), 2)
        assert ("m", 2, "READY") in entries(engine.control.load, "m")


def test_changed_files_that_do_not_load_are_told_too(shelf: Shelf):
    file = shelf.put("m", times(1))
    with shelf.engine() as engine:
        whole = file.read_bytes()
        file.write_bytes(b"no model")
        assert "what changed does not load" in str(refusal(engine.control.load, "m"))
        assert first_answer(engine) == 1
        file.write_bytes(whole)
        assert ("m", 1, "READY") in entries(engine.control.load, "m")


def test_what_failed_for_a_reason_outside_its_files_is_tried_again_by_a_call(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    shelf.put("m", times(1))
    whole = load.backend_for

    def without_memory(_: Path) -> Any:
        raise MemoryError

    monkeypatch.setattr(load, "backend_for", without_memory)
    with shelf.engine() as engine:
        assert index(engine) == [("m", 1, "FAILED")]
        monkeypatch.setattr(load, "backend_for", whole)
        engine.refresh()
        assert index(engine) == [("m", 1, "FAILED")], "by itself it is not tried again and again"
        assert entries(engine.control.load, "m") == [("m", 1, "READY")]
        assert engine.not_ready() == ""


def test_overrides_hold_until_the_next_load(shelf: Shelf):
    for version in (1, 2, 3):
        shelf.put("m", times(version), version)
    with shelf.engine() as engine:
        assert ready(engine) == [3]
        entries(engine.control.load, "m", {"versions": [1, 2], "labels": {"stable": 1}})
        assert ready(engine) == [2, 1]
        assert engine.lease("m", label="stable").version == 1
        engine.refresh()
        assert ready(engine) == [2, 1]
        entries(engine.control.load, "m")
        assert ready(engine) == [3]


def test_overrides_that_change_how_it_runs_load_it_anew(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        before = engine.lease("m")
        entries(engine.control.load, "m", {"max_batch_rows": 2, "slots": 1})
        assert engine.lease("m") is not before
        assert first_answer(engine) == 1


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({"max_batch_rows": 0}, "max_batch_rows"),
        ({"max_batch_rows": "many"}, "max_batch_rows"),
        ({"nonsense": 1}, "nonsense"),
        ({"name": "other"}, "name"),
        ({"path": "/etc"}, "path"),
        ({"labels": {"a": "b"}}, "labels"),
        ({"versions": "newest"}, "versions"),
    ],
)
def test_overrides_that_cannot_be_are_refused_and_nothing_changes(shelf: Shelf, overrides: dict[str, Any], names: str):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        lease = engine.lease("m")
        error = refusal(engine.control.load, "m", overrides)
        assert isinstance(error, InvalidRequest)
        assert names in str(error)
        assert engine.lease("m") is lease


def test_overrides_that_do_not_load_are_taken_back(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        error = refusal(engine.control.load, "m", {"providers": ["NoSuchProvider"]})
        assert "NoSuchProvider" in str(error)
        assert first_answer(engine) == 1
        lease = engine.lease("m")
        engine.refresh()
        status = engine.status("m")[0]
        assert (status.state, status.reason) == (VersionState.READY, "")
        assert engine.lease("m") is lease, "what served all the time was not loaded again"


def test_loads_that_come_together_are_told_what_came_of_each(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        told: list[SimpleQueue[Outcome]] = [SimpleQueue() for _ in range(6)]
        for number, one in enumerate(told):
            engine.control.load(
                "m", one.put, {"slots": number + 1} if number % 2 else {"providers": ["NoSuchProvider"]}
            )
        outcomes = [one.get(timeout=WITHIN_S) for one in told]
        assert [isinstance(one, LoadRefused) for one in outcomes] == [True, False] * 3, outcomes
        assert engine.lease("m").slots == 6
        assert isinstance(refusal(engine.control.load, "m", {"slots": "many"}), InvalidRequest)
        assert entries(engine.control.load, "m") == [("m", 1, "READY")], "a call that is refused holds up no other"


def test_the_index_holds_what_is_on_disk_and_not_served(shelf: Shelf):
    shelf.put("m", times(1), 1)
    shelf.put("m", times(2), 2)
    (shelf.folder / "empty" / "7").mkdir(parents=True)
    with shelf.engine() as engine:
        shelf.put("new", times(1))
        result = outcome(engine.control.index)
        assert not isinstance(result, Exception)
        by_key = {(entry.model, entry.version): entry for entry in result}
        assert by_key["m", 2].state is VersionState.READY
        assert by_key["m", 1].state is VersionState.UNLOADED
        assert "version policy" in by_key["m", 1].reason
        assert "no model.onnx" in by_key["empty", None].reason
        assert ("new", 1) in by_key


def test_settings_are_kept_by_area(shelf: Shelf):
    with shelf.engine() as engine:
        seen: list[Any] = []
        engine.when_changed(lambda: seen.append(dict(engine.settings("logging"))))
        assert engine.settings("logging") == {}
        assert entries(engine.control.change, "logging", {"info": False, "level": 3}) == []
        assert engine.settings("logging") == {"info": False, "level": 3}
        entries(engine.control.change, "logging", {"info": None})
        assert engine.settings("logging") == {"level": 3}
        assert engine.settings("trace") == {}
        assert {"info": False, "level": 3} in seen


def test_calls_of_an_engine_that_stops_are_answered(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        control = engine.control
    assert isinstance(refusal(control.load, "m"), Draining)
