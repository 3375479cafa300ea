"""Lines to a file: whole, in order, in a new file after the old one was moved; those that cannot be written are counted."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastserve.errors import ConfigError
from fastserve.lines import AT_A_TIME, LineFile, LineWriter
from tests.support.waiting import until


def encode(entries: Sequence[int]) -> bytes:
    return b"".join(b"%d\n" % entry for entry in entries)


class Writer(LineWriter):
    def __init__(self, path: Path | str, max_waiting: int = 10_000) -> None:
        self.lost: list[int] = []
        super().__init__(LineFile(str(path), "--x"), encode, self.lost.append, max_waiting=max_waiting, gather_s=0)


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()]


def test_what_is_added_is_written_in_order_and_behind_what_was_there(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("7\n")
    writer = Writer(path)
    for entry in range(5 * AT_A_TIME + 1):
        writer.add(entry)
    writer.close()
    assert lines(path) == [7, *range(5 * AT_A_TIME + 1)]
    assert writer.lost == []


def test_a_writer_that_sleeps_is_woken(tmp_path: Path):
    writer = Writer(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0, "who calls is nobody else's business"
    for entry in range(3):
        writer.add(entry)
        until(lambda entry=entry: lines(tmp_path / "log")[-1:] == [entry])
    writer.close()


def test_many_threads_lose_nothing(tmp_path: Path):
    writer = Writer(tmp_path / "log", max_waiting=100_000)
    threads = [threading.Thread(target=lambda i=i: [writer.add(i * 1000 + n) for n in range(1000)]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    written = lines(tmp_path / "log")
    assert sorted(written) == list(range(8000))
    for i in range(8):
        own = [entry for entry in written if entry // 1000 == i]
        assert own == sorted(own)


@pytest.mark.parametrize("told", [True, False])
def test_a_file_that_was_moved_is_opened_anew(tmp_path: Path, told: bool):
    path, old = tmp_path / "log", tmp_path / "log.1"
    writer = Writer(path)
    writer.add(1)
    until(lambda: lines(path) == [1])
    path.rename(old)
    if told:
        writer.look()
        until(path.exists)
    writer.add(2)
    writer.close()
    assert (lines(old), lines(path)) == ([1], [2])


def test_a_file_that_was_cut_is_written_from_its_start(tmp_path: Path):
    path = tmp_path / "log"
    writer = Writer(path)
    writer.add(1)
    until(lambda: lines(path) == [1])
    os.truncate(path, 0)
    writer.add(2)
    writer.close()
    assert lines(path) == [2]


class Pipe:
    """A pipe that nobody reads until told to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pipe"
        os.mkfifo(self.path)
        self.end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def read_all(self) -> bytes:
        got = b""
        os.set_blocking(self.end, True)
        while data := os.read(self.end, 65536):
            got += data
        return got


def test_a_file_that_takes_nothing_holds_up_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    pipe = Pipe(tmp_path)
    writer = Writer(pipe.path, max_waiting=1000)
    added = 0
    while not writer.lost:  # were it to wait, this would never end
        writer.add(added)
        added += 1
    reader: list[bytes] = []
    thread = threading.Thread(target=lambda: reader.append(pipe.read_all()))
    thread.start()
    writer.close()
    thread.join()
    written = [int(line) for line in reader[0].splitlines()]
    assert len(written) == added - sum(writer.lost)
    assert written == sorted(written)
    assert f"{sum(writer.lost)} lines were dropped" in caplog.text


def test_an_error_is_told_and_the_next_lines_are_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "log"
    file = LineFile(str(path), "--x")
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 4:
            return write(fd, data[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastserve.lines.os.write", full)
    with pytest.raises(OSError, match="No space"):
        file.write(b"12345\n")
    monkeypatch.setattr("fastserve.lines.os.write", write)
    file.write(b"6\n")
    file.write(b"7\n")
    assert path.read_text() == "1234\n6\n7\n"
    file.close()


def test_lines_that_cannot_be_written_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "log"
    writer = Writer(path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    write = os.write
    monkeypatch.setattr("fastserve.lines.os.write", full)
    writer.add(1)
    until(lambda: sum(writer.lost) == 1)
    monkeypatch.setattr("fastserve.lines.os.write", write)
    writer.add(2)
    writer.close()
    assert lines(path) == [2]
    assert "1 lines were dropped: No space left on device" in caplog.text


def test_lines_of_several_writers_to_one_pipe_stay_whole(tmp_path: Path):
    pipe = Pipe(tmp_path)
    files = [LineFile(str(pipe.path), "--x") for _ in range(2)]
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_all()))
    reader.start()
    data = [b"".join(b"%c%s\n" % (letter, bytes([letter]) * n) for n in range(300)) for letter in b"ab"]
    threads = [threading.Thread(target=file.write, args=(each,)) for file, each in zip(files, data, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for file in files:
        file.close()
    reader.join()
    assert all(line == line[:1] * len(line) for line in got[0].splitlines())
    assert sorted(got[0].splitlines()) == sorted(b"".join(data).splitlines())


@pytest.mark.parametrize("place", ["no/such/folder/log", "."])
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, place: str):
    with pytest.raises(ConfigError, match=r"cannot be written: .* \(--access-log\)"):
        LineFile(str(tmp_path / place), "--access-log")


def test_standard_output(capfd: pytest.CaptureFixture[str]):
    for name in ("-", "/dev/stdout"):
        file = LineFile(name, "--x")
        file.reopen_if_moved()
        file.write(b"hello\n")
        file.close()
    assert capfd.readouterr().out == "hello\nhello\n"
