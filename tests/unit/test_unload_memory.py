"""What is unloaded lets its session go, whatever alarms were set for its requests."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from fastserve.clock import monotonic_ns
from fastserve.config import ModelConfig
from fastserve.engine import load
from tests.support import slow_models
from tests.support.calls import entries
from tests.support.shelf import Shelf, ask, steps
from tests.support.waiting import until

FAR_NS = 3_600_000_000_000
"""An hour: a test that waits for the alarm does not end."""


def test_a_far_deadline_does_not_hold_the_session_of_a_model_that_is_unloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shelf = Shelf(tmp_path / "models")
    sessions: list[weakref.ref[Any]] = []
    backend_for = load.backend_for

    class Watched:
        def __init__(self, path: Path) -> None:
            self._backend = backend_for(path)

        def load(self, *arguments: Any) -> Any:
            model = self._backend.load(*arguments)
            sessions.append(weakref.ref(model._session))
            return model

    monkeypatch.setattr(load, "backend_for", Watched)
    shelf.put("m", slow_models.patient(), 1)
    with shelf.engine(ModelConfig(name="m", max_queue_delay_us=1000)) as engine:
        asked = ask(engine, "m", steps(400), deadline_ns=monotonic_ns() + FAR_NS)
        assert asked.outputs["done"].tolist() == [400]
        del asked
        entries(engine.control.unload, "m")

        def is_gone() -> bool:
            gc.collect()
            return sessions[0]() is None

        until(is_gone)
