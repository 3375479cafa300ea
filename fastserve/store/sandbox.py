"""The process that one question runs in: `python -m fastserve.store.sandbox FD`, with one end of a socket pair.

Statements of others run here because a database cannot be trusted to stop: it may be inside one call when its time is up, and
texts are not in the memory that it counts. A process can be ended, and its memory has a limit that the system keeps.
It has no file to write to, none to read but those it is told of, and ends when its one answer is told or nobody waits for it.

Thread: its own, and a timer's. Memory: what `Limits` say and what it took before it was asked.
"""

import json
import os
import re
import resource
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytz

from fastserve.errors import ErrorCode, InvalidRequest
from fastserve.store.plan import Plan, options
from fastserve.store.question import Asked, Told, plain
from fastserve.store.statement import MAX_SQL_CHARS, check

NICENESS = 5
GRACE_S = 5
SLACK_BYTES = 256 << 20
"""Addresses that allocators take in advance, for threads, and do not use."""

HEAD_BYTES = 8
MAX_TABLES = 8
CHUNK_ROWS = 512
MAX_REASON_CHARS = 2000


def main() -> None:
    """Wait for the question, answer it, end."""
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to everybody; whoever asked ends us
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _warm()
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        head, fds, _, _ = socket.recv_fds(asking, HEAD_BYTES, MAX_TABLES)
        if len(head) < HEAD_BYTES:
            return  # nobody asks any more
        asked = _ASKED.decode(_read(asking, int.from_bytes(head, "little")))
        told, body = _answered(asked, fds)
        data = msgspec.msgpack.encode(told)
        asking.sendall(len(data).to_bytes(HEAD_BYTES, "little") + data)
        asking.sendall(body)


def _warm() -> None:
    """What a first question would wait for is done while nobody waits."""
    import duckdb

    assert pytz.utc is not None, "DuckDB asks for it"
    with duckdb.connect(":memory:", config=options(64 << 20, 1)) as one:
        one.execute("select json_serialize_sql('select 1'), now()").fetchall()


def _answered(asked: Asked, fds: Sequence[int]) -> tuple[Told, bytes]:
    import duckdb

    limits = asked.limits
    _bound(limits.memory_bytes, limits.within_s)
    try:
        plan = Plan(asked.paths, asked.sqls, dict(zip(asked.tables, map(_table, fds), strict=True)))
        with duckdb.connect(":memory:", config=options(limits.memory_bytes, limits.threads)) as one:
            plan.make(one)
            plan.lock(one)
            timer = threading.Timer(limits.within_s, one.interrupt)
            timer.daemon = True
            timer.start()
            _check(one, asked.question.sql)
            return _result(one, asked)
    except InvalidRequest as error:
        return Told(error=str(error)), b""
    except duckdb.InterruptException:
        text = f"the answer took longer than {limits.within_s:g} s"
        return Told(error=text, code=ErrorCode.DEADLINE_EXCEEDED.value), b""
    except (duckdb.OutOfMemoryException, MemoryError):
        return Told(error=f"the answer takes more memory than the {limits.memory_bytes >> 20} MiB that there are"), b""
    except (duckdb.Error, RuntimeError, OverflowError, UnicodeError) as error:
        return Told(error=_reason(error)), b""


def _bound(memory_bytes: int, within_s: float) -> None:
    """From here on the system ends what goes too far."""
    with open("/proc/self/statm") as file:
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    most = now_bytes + 2 * memory_bytes + SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.alarm(int(within_s) + GRACE_S)


def _table(fd: int) -> pa.Table:
    with pa.memory_map(f"/proc/self/fd/{fd}") as file:
        return pa.ipc.open_stream(file).read_all()


def _check(one: Any, sql: str) -> None:
    if len(sql) > MAX_SQL_CHARS:
        raise InvalidRequest(f"expected at most {MAX_SQL_CHARS} characters, got {len(sql)}")
    ((tree,),) = one.execute("select json_serialize_sql(?)", [sql]).fetchall()
    check(json.loads(tree))


def _result(one: Any, asked: Asked) -> tuple[Told, bytes]:
    question = asked.question
    relation = one.sql(question.sql, params=list(question.parameters)).limit(question.max_rows + 1)
    if question.format == "arrow":
        return _arrow(relation, asked)
    columns = [{"name": name, "type": str(kind)} for name, kind in zip(relation.columns, relation.types, strict=True)]
    rows: list[bytes] = []
    room = asked.limits.answer_bytes
    truncated = False
    for row in relation.fetchall():
        data = json.dumps(plain(row), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        room -= len(data) + 1
        truncated = room < 0 or len(rows) >= question.max_rows
        if truncated:
            break
        rows.append(data)
    head = json.dumps(columns, ensure_ascii=False).encode("utf-8", "replace")
    body = b'{"columns":%b,"rows":[%b],"truncated":%b}' % (head, b",".join(rows), b"true" if truncated else b"false")
    return Told(body_bytes=len(body), rows=len(rows), truncated=truncated), body


def _arrow(relation: Any, asked: Asked) -> tuple[Told, bytes]:
    reader = relation.to_arrow_reader(CHUNK_ROWS)
    sink = pa.BufferOutputStream()
    rows, truncated = 0, False
    with pa.ipc.new_stream(sink, reader.schema) as out:
        for batch in reader:
            part = batch.slice(0, asked.question.max_rows - rows)
            truncated = part.num_rows < batch.num_rows or sink.tell() + part.nbytes > asked.limits.answer_bytes
            if truncated and part.num_rows == batch.num_rows:
                break
            out.write_batch(part)
            rows += part.num_rows
            if truncated:
                break
    body = sink.getvalue().to_pybytes()
    return Told(body_bytes=len(body), rows=rows, truncated=truncated), body


def _reason(error: Exception) -> str:
    """The database's own words, without the folders of this machine."""
    return re.sub(r"(?<![\w.])/[^\s'\"]*/", "", str(error).strip())[:MAX_REASON_CHARS]


def _read(asking: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = asking.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError("whoever asked is gone")
        data += chunk
    return bytes(data)


_ASKED = msgspec.msgpack.Decoder(Asked)

if __name__ == "__main__":
    main()
