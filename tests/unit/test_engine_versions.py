"""The engine with real models: versions come and go beneath running requests; when it is ready."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve.config import Config, ModelConfig, RepositoryConfig
from fastserve.engine import load
from fastserve.engine.engine import Engine
from fastserve.types import InferResult, VersionState
from tests.support import slow_models
from tests.support.shelf import LONG_STEPS, Asked, Shelf, ask, known, ready, steps, times
from tests.support.waiting import WITHIN_S, until


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def test_a_version_that_is_replaced_answers_what_is_queued_and_running(shelf: Shelf):
    shelf.put("m", slow_models.patient(), 1)
    with shelf.engine(ModelConfig(name="m", slots=1, max_batch_rows=1)) as engine:
        asked = [ask(engine, "m", steps(LONG_STEPS + i)) for i in range(3)]
        shelf.put("m", slow_models.patient(), 2)
        engine.refresh()
        assert known(engine) == {2: VersionState.READY, 1: VersionState.DRAINING}
        for i, one in enumerate(asked):
            assert one.outputs["done"].tolist() == [LONG_STEPS + i]
            assert isinstance(one.outcome, InferResult)
            assert one.outcome.version == 1
        until(lambda: known(engine) == {2: VersionState.READY})


def test_a_session_is_closed_when_the_last_lease_ends_and_not_before(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    sessions: list[weakref.ref[Any]] = []
    backend_for = load.backend_for

    class Watched:
        def __init__(self, path: Path) -> None:
            self._backend = backend_for(path)

        def load(self, *arguments: Any) -> Any:
            model = self._backend.load(*arguments)
            sessions.append(weakref.ref(model._session))  # type: ignore[attr-defined]
            return model

    monkeypatch.setattr(load, "backend_for", Watched)
    shelf.put("m", times(3), 1)
    with shelf.engine() as engine:
        lease = engine.lease("m")
        shelf.put("m", times(4), 2)
        engine.refresh()
        assert known(engine) == {2: VersionState.READY, 1: VersionState.DRAINING}
        x = np.array([[1, 2]])
        assert Asked(engine, lease, {"x": x}).outputs["y"].tolist() == [[3, 6]]
        assert sessions[0]() is not None
        del lease
        until(lambda: known(engine) == {2: VersionState.READY})
        gc.collect()
        until(lambda: sessions[0]() is None)
        assert ask(engine, "m", {"x": x}).outputs["y"].tolist() == [[4, 8]]


def test_versions_come_break_and_go_while_requests_run_and_none_fails(shelf: Shelf):
    shelf.put("m", times(1), 1)
    configured = ModelConfig(name="m", max_batch_rows=4)
    wrong: list[str] = []
    seen: set[int] = set()
    over = threading.Event()
    with shelf.engine(configured) as engine:

        def client(number: int) -> None:
            for i in count(number * 1_000_000):
                if over.is_set():
                    return
                x = np.array([[i, -i]] * (1 + i % 6), dtype=np.int64)
                outcome = ask(engine, "m", {"x": x}).outcome
                if not isinstance(outcome, InferResult):
                    wrong.append(repr(outcome))
                elif outcome.outputs["y"].tolist() != (x * outcome.version).tolist():
                    wrong.append(f"version {outcome.version} answered {outcome.outputs['y']}")
                else:
                    seen.add(outcome.version)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, number) for number in range(4)]
            for version in (2, 3, 4):
                shelf.put("m", times(version), version)
                engine.refresh()
                assert ready(engine) == [version]
                until(lambda version=version: version in seen)  # type: ignore[misc]
            shelf.put("m", times(5), 5).write_bytes(b"no model")
            engine.refresh()
            assert known(engine)[5] is VersionState.FAILED
            assert ready(engine) == [4]
            (shelf.folder / "m" / "4" / "model.onnx").unlink()
            engine.refresh()
            assert ready(engine) == [3], "a removed version falls back"
            seen.clear()
            until(lambda: 3 in seen)
            over.set()
            for one in clients:
                one.result(WITHIN_S)
        assert wrong == []
        until(lambda: set(known(engine).values()) <= {VersionState.READY, VersionState.FAILED})


def test_changed_files_of_a_version_are_loaded_anew(shelf: Shelf):
    shelf.put("m", times(1), 1)
    x = np.array([[1, 2]])
    with shelf.engine() as engine:
        assert ask(engine, "m", {"x": x}).outputs["y"].tolist() == [[1, 2]]
        shelf.put("m", times(7), 1)
        engine.refresh()
        assert ask(engine, "m", {"x": x}).outputs["y"].tolist() == [[7, 14]]
        until(lambda: known(engine) == {1: VersionState.READY})


def test_before_the_first_look_it_is_starting(shelf: Shelf):
    engine = Engine(Config(repository=RepositoryConfig(path=(str(shelf.folder),))))
    assert not engine.started
    assert engine.not_ready().startswith("starting")
    engine.stop()


def test_without_models_it_is_started_and_not_ready(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with Shelf(tmp_path / "empty").engine() as engine:
        assert engine.started
        assert engine.not_ready().startswith("no models")


def test_one_broken_model_is_named_and_the_others_serve(shelf: Shelf):
    shelf.put("good", times(1))
    broken = shelf.put("broken", times(1))
    broken.write_bytes(b"no model")
    with shelf.engine() as engine:
        assert engine.started
        assert "broken" in engine.not_ready()
        assert ready(engine, "good") == [1]
        shelf.put("broken", times(1))
        engine.refresh()
        assert engine.not_ready() == ""


def test_what_fails_later_never_makes_it_unready(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        assert engine.not_ready() == ""
        shelf.put("m", times(2), 2).write_bytes(b"no model")
        shelf.put("late", times(2), 1).write_bytes(b"no model")
        engine.refresh()
        assert engine.not_ready() == ""


def test_a_configured_model_that_is_nowhere_keeps_it_unready(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine(ModelConfig(name="missing")) as engine:
        assert "missing" in engine.not_ready()


def test_a_loader_that_breaks_costs_its_own_model_only(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    shelf.put("a", times(1))
    shelf.put("z", times(1))
    backend_for = load.backend_for

    def breaking(path: Path) -> Any:
        if "/a/" in str(path):
            raise OSError("the disk is on fire")
        return backend_for(path)

    monkeypatch.setattr(load, "backend_for", breaking)
    with shelf.engine() as engine:
        assert engine.started
        assert ready(engine, "z") == [1]
        assert "a" in engine.not_ready()
