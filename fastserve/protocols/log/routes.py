"""The paths below /log: read records, list models, ask in SQL, delete.

Thread: routes on the door's, answers from the log's threads (`questions`).
"""

import re
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from fastserve.engine.engine import Engine
from fastserve.errors import ErrorCode, FastServeError, InvalidRequest, UnknownPath, WrongMethod, quoted
from fastserve.http.message import Pending, Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.http.status import json_error
from fastserve.protocols.log import answers
from fastserve.protocols.log.monitoring import Monitoring
from fastserve.protocols.log.questions import NoLog, Questions
from fastserve.store.errors import StoreError
from fastserve.store.frames import Kind
from fastserve.store.question import DEFAULT_ROWS, MAX_ROWS, Answer, Format, Question
from fastserve.store.rows import Row
from fastserve.store.tombstones import encode_tombstone
from fastserve.types import Caller

RECORD = re.compile(r"/log/records/(?P<record>.+?/.+)", re.DOTALL)
ARROW = "application/vnd.apache.arrow.stream"
MAX_SLASHES = 64


Integer = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class QueryBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /log/query. `model`: ask about one only, which is quicker."""

    sql: str
    model: str | None = None
    parameters: list[str | Integer | float | bool | None] = []
    max_rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = DEFAULT_ROWS


class NoRecord(FastServeError):
    """Nothing was logged under that id, or nothing that the caller may see."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no record {quoted(path)} in the prediction log; expected /log/records/MODEL/PREDICTION_ID"
        )


class Log:
    """The protocol over one engine's log."""

    name = "log"
    owns = re.compile(r"/log(?:/.*)?", re.DOTALL)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._questions = Questions(engine)
        self._monitoring = Monitoring(engine, self._questions)

    def routes(self) -> list[Route]:
        """All but deletion are the readers'; what is not theirs they do not see."""
        query = re.compile("/log/query")
        return [
            Route("GET", RECORD, "read", infer=self.record, sifts=True),
            Route("DELETE", RECORD, "admin", infer=self.delete, sifts=True),
            Route("GET", re.compile("/log/models"), "read", infer=self.models, sifts=True),
            Route("GET", query, "read", infer=self.query_in_path, sifts=True),
            Route("POST", query, "read", infer=self.query, sifts=True),
            *self._monitoring.routes(),
        ]

    def unmatched(self, method: str, path: str) -> FastServeError:
        """405 for one of ours with another method, else 404."""
        if any(route.pattern.fullmatch(path) for route in self.routes()):
            return WrongMethod(f"{method} is not taken here")
        return UnknownPath(
            f"nothing is served at {quoted(path)}; there are /log/models, /log/records/MODEL/PREDICTION_ID, "
            "/log/query, /log/performance and /log/drift"
        )

    def encode_error(self, error: FastServeError) -> Response:
        """`{"error": "..."}`."""
        return json_error(error, str(error))

    def record(self, request: Request, reply: Reply) -> Pending:
        """GET /log/records/MODEL/PREDICTION_ID: everything that was logged for it."""
        path, space = request.params["record"], _only(request.query, "space").get("space")
        return self._questions.later(reply, lambda: self._record(path, space, request.caller))

    def _record(self, path: str, space: str | None, caller: Caller) -> Response:
        found = answers.records(self._rows(path, space, caller))
        if not found:
            raise NoRecord(path)
        if len(found) > 1:
            spaces = ", ".join(quoted(one["space"]) for one in found)
            raise InvalidRequest(f"that record is in several spaces: {spaces}; say which with ?space=")
        return answers.as_json(found[0])

    def _rows(self, path: str, space: str | None, caller: Caller) -> list[Row]:
        reader = self._questions.reader()
        for model, prediction_id in splits(path):
            rows = reader.record(model, prediction_id, caller)
            rows = [row for row in rows if space in (None, row.space)]
            if rows:
                return rows
        return []

    def delete(self, request: Request, reply: Reply) -> Pending:
        """DELETE: what was logged for it so far is seen no more; its bytes are gone when the log was compacted."""
        path, space = request.params["record"], _only(request.query, "space").get("space")
        return self._questions.later(reply, lambda: self._delete(path, space, request.caller, reply))

    def _delete(self, path: str, space: str | None, caller: Caller, reply: Reply) -> Response | None:
        rows = self._rows(path, space, caller)
        if not rows:
            raise NoRecord(path)
        writer = self._engine.log
        if writer is None:
            raise NoLog
        spaces = sorted({row.space for row in rows})
        model, prediction_id = rows[0].model_id, rows[0].prediction_id
        told = answers.as_json(
            {"model_id": model, "prediction_id": prediction_id, "spaces": spaces, "deleted": len(rows)}
        )

        def done(error: StoreError | None) -> None:
            if error is None:
                reply.send(told)
            else:
                reply.fail(error)

        writer.append([(Kind.TOMBSTONE, encode_tombstone(model, prediction_id, one)) for one in spaces], done)
        return None

    def models(self, request: Request, reply: Reply) -> Pending:
        """GET /log/models: what is logged of each, how much of it is joined, how late labels come."""
        caller = request.caller
        return self._questions.later(reply, lambda: self._models(caller))

    def _models(self, caller: Caller) -> Response:
        with self._questions.reader().connection(None, caller) as one:
            return answers.as_json(answers.models(one.execute(answers.MODELS_SQL).fetchall()))

    def query(self, request: Request, reply: Reply) -> Pending:
        """POST /log/query: one SELECT."""
        return self._query(_body(request.body), request, reply)

    def query_in_path(self, request: Request, reply: Reply) -> Pending:
        """GET /log/query?sql=..."""
        given = _only(request.query, "sql", "model", "max_rows")
        try:
            body = msgspec.convert(given, QueryBody, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequest(str(error)) from None
        return self._query(body, request, reply)

    def _query(self, body: QueryBody, request: Request, reply: Reply) -> Pending:
        wanted: Format = "arrow" if ARROW in (request.headers.get("accept") or "") else "json"
        question = Question(sql=body.sql, parameters=tuple(body.parameters), max_rows=body.max_rows, format=wanted)
        caller = request.caller

        def work() -> Response:
            plan = self._questions.reader().plan(body.model, caller)
            return _answer(self._questions.desk().ask(plan, question), wanted)

        return self._questions.later(reply, work)


def splits(path: str) -> list[tuple[str, str]]:
    """`model/id`, where both may hold slashes: as which model and id that may be meant, the shortest model first."""
    places = [at for at, char in enumerate(path) if char == "/" and 0 < at < len(path) - 1][:MAX_SLASHES]
    return [(path[:at], path[at + 1 :]) for at in places]


def _answer(answer: Answer, wanted: Format) -> Response:
    kind = ARROW if wanted == "arrow" else "application/json"
    truncated = [("fastserve-truncated", "true")] if answer.truncated else []
    return Response(200, [("content-type", kind), *truncated], answer.body)


def _body(body: bytes) -> QueryBody:
    try:
        return _QUERY.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def _only(query: str, *known: str) -> dict[str, str]:
    """The parameters of a query. Raises InvalidRequest for others."""
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError as error:
        raise InvalidRequest(f"the query cannot be read: {error}") from None
    for name, _ in given:
        if name not in known:
            raise InvalidRequest(f"unknown parameter {quoted(name)}; expected {', '.join(known)}")
    return dict(given)


_QUERY = msgspec.json.Decoder(QueryBody)
