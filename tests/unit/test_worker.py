"""The door without a loop is used with the Granian that it knows, and with no other."""

import asyncio
from types import SimpleNamespace
from typing import Any

import granian
import pytest
from granian.server import mp

from fastserve.config import ServerConfig
from fastserve.http.direct import DirectReply
from fastserve.server import launch, worker


def test_the_installed_granian_is_the_one_that_is_known():
    assert granian.__version__ == worker.GRANIAN_VERSION
    assert worker.unsupported() == ""
    assert launch._worker(ServerConfig()) is worker.run_worker


def test_another_version_falls_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(granian, "__version__", "9.9.9")
    assert "9.9.9" in worker.unsupported()
    assert worker.GRANIAN_VERSION in worker.unsupported()
    assert launch._worker(ServerConfig()) is None


@pytest.mark.parametrize("name", worker.FUTURES_NAMES)
def test_a_missing_name_falls_back(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.delattr(worker._futures, name)
    assert name in worker.unsupported()
    assert launch._worker(ServerConfig()) is None


def _fewer(worker_id: int, callback: Any) -> None: ...


def _in_another_order(callback: Any, worker_id: int, **_: Any) -> None: ...


@pytest.mark.parametrize("function", [_fewer, _in_another_order])
def test_other_arguments_fall_back(monkeypatch: pytest.MonkeyPatch, function: Any):
    monkeypatch.setattr(mp.MPServer, "_spawn_rsgi_worker", staticmethod(function))
    assert "arguments" in worker.unsupported()
    assert launch._worker(ServerConfig()) is None


def test_asgi_takes_a_worker_that_ends_as_ours_do():
    assert launch._worker(ServerConfig(interface="asgi")) is worker.run_asgi_worker


def test_what_the_worker_takes_is_among_what_it_is_given():
    assert set(worker.WORKER_PARAMETERS) <= set(worker.SPAWN_PARAMETERS)


def test_the_loop_calls_ours_at_once_and_others_on_the_loop():
    loop = worker.uvloop.Loop()
    try:
        loop.__class__ = worker._Loop
        called: list[str] = []

        async def later() -> None:
            loop.call_soon_threadsafe(called.append, "other", context=None)
            assert called == []
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert called == ["other"]

        loop.run_until_complete(later())

        reply = DirectReply.__new__(DirectReply)
        reply._by_ns = 0
        reply._door = SimpleNamespace(bodies=SimpleNamespace(waiting={}))  # type: ignore[assignment]
        # Its body came too late: it does nothing, at once, and leaves no handle on the loop.
        assert loop.call_soon_threadsafe(reply, "a body", context=None) is None
    finally:
        loop.close()


def test_a_door_that_fails_hands_the_request_to_the_coroutine_door(caplog: pytest.LogCaptureFixture):
    handed: list[Any] = []

    schedule: list[Any] = []

    class Recorded:
        _to_coroutine = handed.append

        def __setattr__(self, name: str, value: Any) -> None:
            schedule.append(value)

    def takes(watcher: Any) -> bool:
        if watcher == "breaks":
            raise RuntimeError("the door is stuck")
        return bool(watcher == "taken")

    worker._Scheduler.ask_first(Recorded(), takes)  # type: ignore[arg-type]
    for watcher in ("taken", "left", "breaks"):
        schedule[0](watcher)
    assert handed == ["left", "breaks"]
    assert "the door is stuck" in caplog.text
