"""GET and POST /log/performance, /log/drift: how well a model does, and whether its data are what they were.

Thread: routes on the door's, answers from the log's threads (`questions`).
"""

import re

import msgspec

from fastserve.clock import wall_ns
from fastserve.engine.engine import Engine
from fastserve.http.message import Pending, Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.monitor.asking import answer, check
from fastserve.monitor.question import DriftQuestion, PerformanceQuestion, Question, from_body, from_query
from fastserve.protocols.log.answers import JSON
from fastserve.protocols.log.questions import Questions

PERFORMANCE = re.compile("/log/performance")
DRIFT = re.compile("/log/drift")


class Monitoring:
    """The routes over one engine's log; parameters come in the query or as JSON."""

    def __init__(self, engine: Engine, questions: Questions) -> None:
        self._engine = engine
        self._questions = questions

    def routes(self) -> list[Route]:
        """All are the readers'; the model and the space are looked at before anything is read."""
        return [
            Route("GET", PERFORMANCE, "read", infer=self.performance_in_path, sifts=True),
            Route("POST", PERFORMANCE, "read", infer=self.performance, sifts=True),
            Route("GET", DRIFT, "read", infer=self.drift_in_path, sifts=True),
            Route("POST", DRIFT, "read", infer=self.drift, sifts=True),
        ]

    def performance_in_path(self, request: Request, reply: Reply) -> Pending:
        """GET /log/performance?model=..."""
        return self._ask(from_query(request.query, PerformanceQuestion), request, reply)

    def performance(self, request: Request, reply: Reply) -> Pending:
        """POST /log/performance."""
        return self._ask(from_body(request.body, PerformanceQuestion), request, reply)

    def drift_in_path(self, request: Request, reply: Reply) -> Pending:
        """GET /log/drift?model=..."""
        return self._ask(from_query(request.query, DriftQuestion), request, reply)

    def drift(self, request: Request, reply: Reply) -> Pending:
        """POST /log/drift."""
        return self._ask(from_body(request.body, DriftQuestion), request, reply)

    def _ask(self, question: Question, request: Request, reply: Reply) -> Pending:
        caller = request.caller
        check(question, caller, self._engine.own_name(question.model))

        def work() -> Response:
            found = answer(self._questions.reader(), question, wall_ns(), caller)
            return Response(200, JSON, msgspec.json.encode(found))

        return self._questions.later(reply, work)
