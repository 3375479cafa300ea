"""Questions in others' words, each answered by a process of its own (`sandbox`); one of them always waits for the next.

Thread: any; a caller's waits until the answer is there, so not a door's. Memory: the answer.
"""

import array
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import msgspec

from fastserve.errors import ErrorCode
from fastserve.store.plan import Plan
from fastserve.store.question import Answer, Asked, Limits, Question, QuestionFailed, QuestionRefused, Told
from fastserve.store.reader import QuestionTooLong

HEAD_BYTES = 8
START_WITHIN_S = 30.0
KILL_AFTER_S = 1.0
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""Of the environment: secrets of the configuration may stand in the rest."""


class _Process:
    """One that waits for a question."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            self._process = subprocess.Popen(  # noqa: S603 - our own program, and a number
                [sys.executable, "-m", "fastserve.store.sandbox", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**environment, "MALLOC_ARENA_MAX": "2", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def ask(self, asked: Asked, tables: Sequence[int]) -> tuple[Told, bytes]:
        """Raises OSError, EOFError where it ends without an answer, TimeoutError."""
        due = time.monotonic() + START_WITHIN_S
        data = msgspec.msgpack.encode(asked)
        self._socket.settimeout(START_WITHIN_S)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", tables))] if tables else []
        self._socket.sendmsg([len(data).to_bytes(HEAD_BYTES, "little")], rights)
        self._socket.sendall(data)
        due += asked.limits.within_s + KILL_AFTER_S
        told = _TOLD.decode(self._read(int.from_bytes(self._read(HEAD_BYTES, due), "little"), due))
        return told, self._read(min(told.body_bytes, 2 * asked.limits.answer_bytes), due)

    def end(self) -> None:
        """Whatever it does."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _read(self, size: int, due: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(max(due - time.monotonic(), 0.001))
            chunk = self._socket.recv(min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError("it ended without an answer")
            data += chunk
        return bytes(data)


class Desk:
    """Where questions are asked; `close` when there are no more."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._spare: _Process | None = None
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, plan: Plan, question: Question) -> Answer:
        """Raises QuestionFailed, QuestionTooLong, QuestionRefused."""
        asked = Asked(
            question=question,
            limits=self._limits,
            paths=list(plan.paths),
            sqls=list(plan.sqls),
            tables=list(plan.tables),
        )
        process = self._taken()
        with ExitStack() as stack:
            stack.callback(self.prepare)  # not sooner: two that start take each other's CPU
            stack.callback(process.end)
            tables = [_in_memory(stack, name, table) for name, table in plan.tables.items()]
            try:
                told, body = process.ask(asked, tables)
            except TimeoutError:
                raise self._too_long() from None
            except (EOFError, OSError, msgspec.DecodeError):
                # The system ended it: of all limits, memory is the one that it keeps so.
                raise QuestionFailed("the answer takes more memory or time than there is for one question") from None
        if not told.error:
            return Answer(body, told.rows, told.truncated)
        if told.code == ErrorCode.DEADLINE_EXCEEDED.value:
            raise self._too_long()
        raise QuestionFailed(told.error)

    def close(self) -> None:
        """End the process that waits."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()

    def prepare(self) -> None:
        """Start a process that waits, where none does: the next question will not have to wait for its start."""
        with self._lock:
            if self._spare is None and not self._closed:
                with suppress(OSError):  # the question itself says so, if it is still so then
                    self._spare = _Process()

    def _taken(self) -> _Process:
        """One that has started already, where there is one."""
        with self._lock:
            if self._closed:
                raise QuestionRefused("the server is shutting down")
            spare, self._spare = self._spare, None
        try:
            return spare or _Process()
        except OSError as error:
            raise QuestionRefused(f"no process can be started: {error.strerror}") from None

    def _too_long(self) -> QuestionTooLong:
        return QuestionTooLong(f"the prediction log's answer took longer than {self._limits.within_s:g} s")


def _in_memory(stack: ExitStack, name: str, table: Any) -> int:
    """A file without a name that holds the table."""
    import pyarrow as pa

    fd = os.memfd_create(name)
    stack.callback(_close, fd)
    with pa.OSFile(f"/proc/self/fd/{fd}", "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    return fd


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


_TOLD = msgspec.msgpack.Decoder(Told)
