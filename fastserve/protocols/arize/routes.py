"""POST /v1/log, /v1/bulk, /v1/preprod and /v1/pandas_arrow: what is sent is checked, stored, and then answered.

Thread: whichever the door runs a route on; answers leave from the log's own thread, once what they acknowledge is stored.
Memory: the log holds the body as it came until it is on disk.
"""

import logging
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from fastserve.clock import Clock, wall_ns
from fastserve.engine.engine import Engine
from fastserve.engine.executor import on_executor_thread
from fastserve.errors import (
    ErrorCode,
    FastServeError,
    InvalidRequest,
    ModelForbidden,
    WrongMethod,
    quoted,
)
from fastserve.http.message import Reply, Request, Response
from fastserve.http.recorded import told_id
from fastserve.http.routes import Route
from fastserve.logs import mishap
from fastserve.protocols.arize import errors, rules
from fastserve.protocols.arize.frame import Head, pack
from fastserve.protocols.arize.headers import check_space, space_of
from fastserve.protocols.arize.record import Record, read_record
from fastserve.protocols.arize.rules import Limits
from fastserve.protocols.arize.several import Enclosed, read_bulk, read_lines
from fastserve.protocols.arize.table import Records
from fastserve.store.errors import StoreError
from fastserve.store.frames import Kind
from fastserve.store.writer import Writer
from fastserve.types import Caller

STORED = Response(200, errors.JSON, b"{}")
TABLE_STORED = Response(200, errors.JSON, b'{"realTimeIngestionUri":""}')
"""A client prints what stands there as a link."""


_log = logging.getLogger(__name__)


class LogIsOff(FastServeError):
    """Nothing says where it should be kept."""

    code = ErrorCode.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("this server keeps no prediction log: say where with [log] directory, or --log-dir")


class Arize:
    """The protocol over one engine's log."""

    name = "arize"
    owns = re.compile(r"/v1/(?:log|bulk|preprod|pandas_arrow)")

    def __init__(self, engine: Engine, wall: Clock = wall_ns) -> None:
        self._engine = engine
        self._wall = wall
        log = engine.config.log
        self._limits = Limits(log.max_age_days, log.max_ahead_seconds * 1_000_000_000)
        self._ids = Ids()

    def routes(self) -> list[Route]:
        """Bodies name models: each is looked at."""
        several = {"bulk": self._bulk, "preprod": self._preprod, "pandas_arrow": self._table}
        ways = {"log": self.log, **{name: self._elsewhere(way) for name, way in several.items()}}
        return [Route("POST", re.compile(f"/v1/{name}"), "log", infer=way, sifts=True) for name, way in ways.items()]

    def unmatched(self, method: str, path: str) -> FastServeError:
        """405: every path that this owns has a route."""
        return WrongMethod(f"{method} is not taken at {quoted(path)}: POST is")

    def encode_error(self, error: FastServeError) -> Response:
        """`error` as gRPC gateways have it."""
        return errors.encode_error(error)

    def log(self, request: Request, reply: Reply) -> None:
        """One record."""
        writer = self._writer()
        space = space_of(request.headers)
        caller = request.caller
        if space:
            _check_space(caller, space)
        body = request.body
        record = read_record(body)
        if not space:
            space = _space_in(record)
            _check_space(caller, space)
        rules.check(record, self._wall(), self._limits)
        assert record.model_id is not None
        self._check_model(caller, record.model_id)
        made, response = "", STORED
        if not record.prediction_id:
            made = self._ids.next()
            response = Response(200, [*errors.JSON, told_id(made)], b"{}")
        _store(writer, [(Kind.RECORD, pack(Head(space, made), body))], reply, response)

    def _elsewhere(self, way: Callable[[Request, Reply], None]) -> Callable[[Request, Reply], None]:
        """On an executor thread: several records take longer to read than a door's thread may be held."""

        def work(request: Request, reply: Reply) -> None:
            try:
                way(request, reply)
            except FastServeError as error:
                reply.fail(error)
            except Exception:  # the app's edge
                reply.fail(mishap(_log, "records could not be read"))

        def run(request: Request, reply: Reply) -> None:
            if on_executor_thread():
                way(request, reply)
            else:
                self._engine.executor.post(partial(work, request, reply))

        return run

    def _bulk(self, request: Request, reply: Reply) -> None:
        """Many records, in an object."""
        writer = self._writer()
        space = self._space(request)
        self._store_several(read_bulk(request.body, Head(space), self._wall(), self._limits), request, reply, writer)

    def _preprod(self, request: Request, reply: Reply) -> None:
        """Records of training and validation, a line each."""
        writer = self._writer()
        space = self._space(request)
        _check_whole(request)
        self._store_several(read_lines(request.body, Head(space), self._wall(), self._limits), request, reply, writer)

    def _table(self, request: Request, reply: Reply) -> None:
        """Many records, in columns."""
        writer = self._writer()
        space = self._space(request)
        _check_space(request.caller, space)
        records = Records(request.body)
        self._check_model(request.caller, records.model_id)
        records.check(self._wall(), self._limits)
        rows = max(records.num_rows, 1)
        payload = pack(Head(space, self._ids.next()), request.body)
        _store(writer, [(Kind.ARROW, payload)] if records.num_rows else [], reply, TABLE_STORED, rows)

    def _writer(self) -> Writer:
        writer = self._engine.log
        if writer is None:
            raise LogIsOff
        return writer

    @staticmethod
    def _space(request: Request) -> str:
        """The header's; where it names one, whether the caller may log to it is known before the body is looked at."""
        space = space_of(request.headers)
        if space:
            _check_space(request.caller, space)
        return space

    def _check_model(self, caller: Caller, model: str) -> None:
        if caller.models is not None and not caller.may_use(self._engine.own_name(model), model):
            raise ModelForbidden(caller.name, model)

    def _store_several(self, found: Sequence[Enclosed], request: Request, reply: Reply, writer: Writer) -> None:
        frames: list[tuple[int, bytes]] = []
        for one in found:
            head, record = one.head, one.record
            space = head.space or _space_in(record)
            _check_space(request.caller, space)
            self._check_model(request.caller, record.model_id or "")
            made = "" if record.prediction_id else self._ids.next()
            head = Head(space, made, head.model_id, head.model_version, head.environment, head.batch_id)
            frames.append((Kind.RECORD, pack(head, one.body)))
        _store(writer, frames, reply, STORED)


class Ids:
    """Ids for predictions that came without one: nobody else makes them, in whichever process."""

    def __init__(self) -> None:
        self._prefix = os.urandom(10).hex()
        self._numbers = count(1)

    def next(self) -> str:
        """One more."""
        return f"{self._prefix}-{next(self._numbers):x}"


def _store(writer: Writer, frames: list[tuple[int, bytes]], reply: Reply, response: Response, rows: int = 1) -> None:
    if not frames:
        reply.send(response)
        return

    def done(error: StoreError | None) -> None:
        """The log's own thread."""
        if error is None:
            reply.send(response)
        else:
            reply.fail(error)

    writer.append(frames, done, rows)


def _space_in(record: Record) -> str:
    """What the body says."""
    space = record.space_key or record.organization_key or ""
    check_space(space)
    return space


def _check_space(caller: Caller, space: str) -> None:
    if caller.spaces is not None and not caller.may_log_to(space):
        raise errors.Refused(
            errors.NO_SPACE, f"the caller {quoted(caller.name)} may not log to the space {quoted(space)}"
        )


def _check_whole(request: Request) -> None:
    """Raises InvalidRequest where nothing says that the body is whole: a part of its lines is lines.

    Everything does but HTTP/1's chunks with trailers (see `http/rsgi`).
    """
    if request.headers.get("transfer-encoding") is not None and request.headers.get("trailer") is not None:
        raise InvalidRequest(
            "expected a body without trailers: behind them nobody can tell whether all lines have come"
        )
