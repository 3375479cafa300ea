"""Several workers are one: what is asked at any is so at all before it is answered; what they count is summed."""

import threading
from queue import SimpleQueue
from typing import Any

import pytest

from fastserve.engine.meters import ModelMeters
from fastserve.errors import InvalidRequest, LoadRefused, ModelNotFound, WorkerSilent
from fastserve.metrics import Snapshot
from fastserve.protocols.oip.statistics import Now, model_stats
from fastserve.server import hub as hub_module
from fastserve.server import member as member_module
from tests.support.calls import entries, outcome, refusal
from tests.support.fleet import FakeFleet, FakeWorker, Shelves, expected, fleet
from tests.support.waiting import WITHIN_S, until


def counted(worker: FakeWorker) -> dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, ...]]:
    """What a scrape of that worker shows."""
    told: SimpleQueue[Snapshot] = SimpleQueue()
    worker.member.collect(told.put)
    return {(f.name, p.labels): p.values for f in told.get(timeout=WITHIN_S) for p in f.points}


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_call_at_any_worker_is_so_at_all_of_them_before_it_is_answered(call: int):
    with fleet(3, m=1, other=1) as one:
        control = one.workers[call].member
        assert entries(control.unload, "m") == [("m", 1, "UNLOADED")]
        assert [worker.states[-1].models["m"].unloaded for worker in one.workers] == [True] * 3
        assert [worker.view["m"] for worker in one.workers] == [[(1, "UNLOADED")]] * 3
        assert entries(control.load, "m") == [("m", 1, "READY")]
        assert [worker.view["m"] for worker in one.workers] == [[(1, "READY")]] * 3


def test_there_is_one_watcher_of_the_disk():
    with fleet(3, m=1) as one:
        before = one.shelves.looks
        one.shelves.models["m"] = 2
        assert ("m", 2, "READY") in entries(one.workers[2].member.refresh)
        assert one.shelves.looks == before + 1
        assert [worker.view for worker in one.workers] == [expected({"m": 2})] * 3


def test_a_version_is_there_when_every_worker_serves_it():
    with fleet(2, m=1) as one:
        gate = threading.Event()
        one.workers[1].gate = lambda: gate.wait(WITHIN_S)
        one.shelves.models["m"] = 2
        told: SimpleQueue[Any] = SimpleQueue()
        one.workers[0].member.refresh(told.put)
        until(lambda: one.workers[0].view["m"] == [(2, "LOADING"), (1, "LOADING")])
        assert told.empty()
        gate.set()
        told.get(timeout=WITHIN_S)
        assert one.workers[0].view == one.workers[1].view == expected({"m": 2})


def test_a_model_that_fails_in_one_worker_is_refused_with_the_reason():
    with fleet(2, m=1) as one:
        one.workers[1].broken.add("m")
        error = refusal(one.workers[0].member.load, "m")
        assert isinstance(error, LoadRefused)
        assert "it is broken" in str(error)


def test_errors_come_back_as_what_they_were():
    with fleet(2, m=1) as one:
        control = one.workers[1].member
        error = refusal(control.load, "nobody")
        assert isinstance(error, ModelNotFound)
        assert error.model == "nobody"
        assert isinstance(refusal(control.load, "m", {"nonsense": 1}), InvalidRequest)
        assert isinstance(refusal(control.load, "\ud800"), InvalidRequest), "no text"
        assert isinstance(refusal(control.change, "trace", {"rate": 2**70}), InvalidRequest), "too large to be sent"
        assert entries(control.index) == [("m", 1, "READY")]


def test_settings_reach_every_worker():
    with fleet(2, m=1) as one:
        assert outcome(one.workers[0].member.change, "logging", {"level": 2, "files": ["a"]}) == []
        assert [worker.states[-1].settings for worker in one.workers] == [{"logging": {"level": 2, "files": ["a"]}}] * 2


def test_a_worker_that_dies_meanwhile_keeps_nobody_waiting():
    with fleet(2, m=1) as one:
        gate = threading.Event()
        one.workers[1].gate = lambda: gate.wait(WITHIN_S)
        told: SimpleQueue[Any] = SimpleQueue()
        one.workers[0].member.unload("m", told.put)
        until(lambda: one.workers[0].states[-1].models["m"].unloaded)
        assert told.empty()
        one.workers[1].die()
        assert not isinstance(told.get(timeout=WITHIN_S), Exception)
        gate.set()


def test_a_successor_takes_requests_once_it_has_what_the_others_have():
    with fleet(2, m=1, other=3) as one:
        entries(one.workers[0].member.unload, "m")
        fresh = one.replace(1)
        gate = threading.Event()
        fresh.gate = lambda: gate.wait(WITHIN_S)
        fresh.start()
        assert ("other", 3, "READY") in entries(one.workers[0].member.refresh), "nobody waits for it"
        one.shelves.models["other"] = 4
        entries(one.workers[0].member.refresh)
        assert not fresh.is_admitted
        gate.set()
        until(lambda: fresh.is_admitted)
        assert fresh.states[-1].models["m"].unloaded, "what was asked before it came holds for it too"
        until(lambda: fresh.view == {"m": [(1, "UNLOADED")], "other": [(4, "READY")]})
        assert one.hub.view().report.not_ready == ""


def test_a_successor_of_the_only_worker_opens_before_its_models_are_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_module, "LONE_SUCCESSOR_S", 0.0)
    with fleet(1, m=1) as one:
        fresh = one.replace(0)
        gate = threading.Event()
        fresh.gate = lambda: gate.wait(WITHIN_S)
        fresh.start()
        until(lambda: fresh.is_admitted)
        assert not fresh.states
        gate.set()


def test_before_every_worker_has_started_none_is_ready():
    one = FakeFleet(2, Shelves(m=1))
    try:
        one.hub.start()
        one.workers[0].start()
        until(lambda: one.workers[0].view == expected({"m": 1}, "LOADING"))
        report = one.hub.view().report
        assert not report.started
        assert "starting" in report.not_ready
        one.workers[1].start()
        until(lambda: one.hub.view().report.started)
        assert one.hub.view().report.not_ready == ""
    finally:
        for worker in one.workers:
            worker.stop()
        one.hub.stop()


def test_counts_are_summed_and_those_of_the_dead_stay():
    labels = {"model": "m"}
    key = ("asked_total", (("model", "m"),))
    with fleet(2, m=1) as one:
        for amount, worker in enumerate(one.workers, 1):
            worker.metrics.counter("asked_total", "A.", labels).add(amount)
            times = worker.metrics.histogram("times", "T.", labels, (10, 20), 1)
            times.observe(amount * 10)
            worker.metrics.gauge("waiting", "W.", labels, lambda: 5)
            worker.metrics.gauge("largest", "L.", labels, lambda amount=amount: amount, over="max")
        until(lambda: counted(one.workers[0]).get(key) == (3,))
        counts = counted(one.workers[1])
        assert counts["times", (("model", "m"),)] == (1, 1, 0, 30)
        assert counts["waiting", (("model", "m"),)] == (10,)
        assert counts["largest", (("model", "m"),)] == (2,)
        one.workers[1].metrics.counter("asked_total", "A.", labels).add(100)
        fresh = one.replace(1)
        assert counted(one.workers[0])[key] == (103,), "counted after the last scrape, by one that was killed"
        fresh.start()
        until(lambda: fresh.is_admitted)
        fresh.metrics.counter("asked_total", "A.", labels).add(1)
        until(lambda: counted(fresh)[key] == (104,))
        counts = counted(fresh)
        assert counts["fastserve_workers", (("state", "serving"),)] == (2,)
        assert counts["fastserve_worker_restarts_total", ()] == (1,)


def test_what_versions_served_is_summed_and_outlives_the_dead():
    def stats(worker: FakeWorker) -> dict[str, Any]:
        told: SimpleQueue[Snapshot] = SimpleQueue()
        worker.member.collect(told.put)
        now = Now(monotonic_ns=10_000_000, wall_ns=90_000_000)
        (found,) = model_stats(told.get(timeout=WITHIN_S), [("m", "1")], now)["model_stats"]
        return dict(found)

    with fleet(2, m=1) as one:
        for ended_ns, worker in ((9_000_000, one.workers[0]), (5_000_000, one.workers[1])):
            meter = ModelMeters(worker.metrics, "m", 1).version
            meter.lone(1_000_000, 2_000_000, ended_ns, ended_ns, 40)
            meter.failed(7)
        until(lambda: stats(one.workers[0])["execution_count"] == 2)
        before = stats(one.workers[1])
        assert (before["inference_count"], before["last_inference"]) == (80, 89)
        assert before["inference_stats"]["success"] == {"count": 2, "ns": 12_000_000}
        assert before["inference_stats"]["fail"] == {"count": 2, "ns": 14}
        assert [(size["batch_size"], size["compute_infer"]) for size in before["batch_stats"]] == [
            (40, {"count": 2, "ns": 10_000_000})
        ]
        one.replace(0).start()
        until(lambda: one.workers[0].is_admitted)
        assert stats(one.workers[0]) == stats(one.workers[1]) == before


def test_a_worker_whose_parent_is_silent_answers_for_itself_and_says_so(monkeypatch: pytest.MonkeyPatch):
    with fleet(2, m=1) as one:
        for worker in one.workers:
            worker.metrics.counter("asked_total", "A.", {}).add(1)
        until(lambda: counted(one.workers[0]).get(("asked_total", ())) == (2,))
        monkeypatch.setattr(member_module, "SILENT_S", -1.0)
        counts = counted(one.workers[0])
        assert counts["asked_total", ()] == (1,)
        assert counts["fastserve_workers_counted", ()] == (1,)
        assert one.workers[0].member.view() is None
        assert isinstance(refusal(one.workers[0].member.load, "m"), WorkerSilent)


def test_a_worker_that_says_nothing_is_named_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch):
    with fleet(2, m=1) as one:
        gate = threading.Event()
        one.workers[1].member._thread.call(lambda: gate.wait(WITHIN_S))  # as stopped by a debugger
        monkeypatch.setattr(hub_module, "PATIENCE_S", 1.5)
        try:
            error = refusal(one.workers[0].member.unload, "m")
            assert isinstance(error, WorkerSilent)
            assert "worker 2" in str(error)
            assert one.workers[0].states[-1].models["m"].unloaded
            assert counted(one.workers[0])["fastserve_workers_counted", ()] == (1,)
        finally:
            gate.set()


def test_a_worker_whose_link_is_cut_ends(monkeypatch: pytest.MonkeyPatch):
    killed: SimpleQueue[int] = SimpleQueue()
    with fleet(2, m=1) as one:
        monkeypatch.setattr(member_module.os, "kill", lambda _, number: killed.put(number))
        member = one.hub._members[1]
        one.hub._thread.call(member.link.close)
        assert killed.get(timeout=WITHIN_S) == member_module.signal.SIGTERM
