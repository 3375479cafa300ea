"""The process that compacts is kept running, and ends with who keeps it."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from fastserve.config import Config, LogConfig
from fastserve.server import compactor
from fastserve.server import keeper as keeping
from fastserve.server.keeper import Keeper, keeper
from tests.support.waiting import until

SLEEPS = "import time; time.sleep(600)"


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_it_is_started_again_and_ended() -> None:
    one = Keeper([sys.executable, "-S", "-c", SLEEPS], first_pause_s=0.01)
    one.start()
    until(lambda: one.pid is not None)
    first = one.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: one.pid != first)
    second = one.pid
    assert second is not None
    one.stop()
    assert not is_alive(second)


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keeping, "END_WITHIN_S", 0.1)
    ready = tmp_path / "ready"
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w'); {SLEEPS}"
    one = Keeper([sys.executable, "-S", "-c", stubborn])
    one.start()
    until(ready.exists)
    pid = one.pid
    assert pid is not None
    one.stop()
    until(lambda: not is_alive(pid))


def test_without_a_log_or_without_the_extra_there_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert keeper(Config()) is None
    monkeypatch.setattr(keeping, "unsupported", lambda: "pip install 'fastserve[log]'")
    assert keeper(Config(log=LogConfig(directory="/nowhere"))) is None
    assert "written, but not compacted: pip install" in caplog.text


def test_the_compactor_ends_at_the_word_of_who_started_it_and_not_at_a_signal_for_the_whole_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # ours, and we are not our parent
        assert not compactor._told_to_end(0, os.getppid())
        assert compactor._told_to_end(0, os.getppid() + 1)  # who started it is gone
        monkeypatch.setattr(os, "getppid", os.getpid)
        assert not compactor._told_to_end(0, os.getpid())
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        assert compactor._told_to_end(0, os.getpid())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
