"""Stamps tell every kind of change; the watcher looks when told and when it is time, and outlives what goes wrong."""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from fastserve.repository.watch import Watcher, stamp


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version's model file, with external data and a folder of more beside it."""
    folder = tmp_path / "a" / "1"
    (folder / "parts").mkdir(parents=True)
    for name in ("model.onnx", "model.onnx.data", "weights.bin", "parts/0"):
        (folder / name).write_bytes(b"first")
    return folder / "model.onnx"


def rewrite(path: Path) -> None:
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))


def swap(path: Path) -> None:
    """By rename, with time and size as they were."""
    seen = path.stat()
    new = path.with_name("new")
    new.write_bytes(b"other")
    os.utime(new, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    new.rename(path)


def grow(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(b"longer than it was")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite, swap, grow, os.remove])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "weights.bin", "parts/0"])
def test_every_change_of_a_versions_files_shows(name: str, change: Callable[[Path], None], version: Path) -> None:
    before = stamp(version)
    assert stamp(version) == before
    change(version.parent / name)
    assert stamp(version) != before


def test_a_new_file_shows(version: Path) -> None:
    before = stamp(version)
    (version.parent / "late").touch()
    assert stamp(version) != before


def test_beside_a_single_file_only_its_own_data_counts(tmp_path: Path) -> None:
    for name in ("net.onnx", "net.onnx.data", "other.onnx"):
        (tmp_path / name).write_bytes(b"first")
    before = stamp(tmp_path / "net.onnx")
    assert [Path(file.path).name for file in before.files] == ["net.onnx", "net.onnx.data"]
    rewrite(tmp_path / "other.onnx")
    assert stamp(tmp_path / "net.onnx") == before
    rewrite(tmp_path / "net.onnx.data")
    assert stamp(tmp_path / "net.onnx") != before


def test_what_is_gone_has_no_files(version: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "a")
    assert stamp(version).files == ()
    assert stamp(tmp_path / "gone" / "net.onnx").files == ()


class Wake(threading.Event):
    """An event whose waits end when the test says so; `waits` holds the time that each was to take at most."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Queue[float | None] = Queue()
        self.over: Queue[bool] = Queue()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.put(timeout)
        return self.over.get()

    def set(self) -> None:
        super().set()
        self.over.put(True)


@pytest.fixture
def looks() -> Iterator[Callable[..., Watcher]]:
    """Makes watchers, and stops them."""
    made: list[Watcher] = []

    def watch(look: Callable[[], None], poll_seconds: float, wake: threading.Event | None = None) -> Watcher:
        made.append(Watcher(look, poll_seconds, wake=wake))
        return made[-1]

    yield watch
    for watcher in made:
        watcher.stop()


@pytest.mark.parametrize(("poll_seconds", "timeout"), [(1.5, 1.5), (0, None)])
def test_it_waits_as_long_as_it_was_told(
    poll_seconds: float, timeout: float | None, looks: Callable[..., Watcher]
) -> None:
    wake, looked = Wake(), Queue[int]()
    looks(lambda: looked.put(1), poll_seconds, wake)
    assert wake.waits.get() == timeout
    assert looked.empty()
    wake.over.put(False)  # the time is over
    looked.get()
    assert wake.waits.get() == timeout
    assert looked.empty()


def test_look_now_returns_after_a_look_that_began_after_it(looks: Callable[..., Watcher]) -> None:
    seen: list[int] = []
    watcher = looks(lambda: seen.append(len(seen)), 0)
    for count in range(1, 5):
        assert watcher.look_now()
        assert len(seen) == count


def test_a_look_already_under_way_is_not_enough(looks: Callable[..., Watcher]) -> None:
    began, go_on, seen = threading.Semaphore(0), threading.Semaphore(0), Queue[int]()

    def look() -> None:
        began.release()
        go_on.acquire()
        seen.put(1)

    watcher = looks(look, 0)
    watcher.wake()
    began.acquire()
    asker = threading.Thread(target=watcher.look_now)
    asker.start()
    assert not watcher.look_now(timeout_s=0)
    go_on.release()
    began.acquire()
    assert asker.is_alive()
    go_on.release(9)
    asker.join()
    assert seen.qsize() == 2


def test_what_a_look_raises_is_logged_and_survived(
    looks: Callable[..., Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = iter([ZeroDivisionError("once"), None])

    def look() -> None:
        outcome = next(outcomes)
        if outcome:
            raise outcome

    watcher = looks(look, 0)
    with caplog.at_level(logging.ERROR):
        assert watcher.look_now()
        assert watcher.look_now()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_stop_ends_the_thread_and_may_be_called_again() -> None:
    watcher = Watcher(lambda: None, 1000)
    watcher.stop()
    watcher.stop()
    assert not watcher.look_now()
    assert "fastserve-watch" not in [thread.name for thread in threading.enumerate()]


def test_a_look_may_stop_its_own_watcher() -> None:
    stopped = threading.Event()

    def look() -> None:
        watcher.stop()
        stopped.set()

    watcher = Watcher(look, 0)
    watcher.wake()
    assert stopped.wait(10)
    watcher.stop()
