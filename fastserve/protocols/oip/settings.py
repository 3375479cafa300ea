"""Triton's settings, shown and changed while serving: /v2/logging, /v2/trace/setting, MODEL/trace/setting.

A change is answered when it is in effect in every worker; a worker that starts later begins with it.
Thread: the door's; answers and changes come on the control's. Memory: none.
"""

import re

import msgspec

from fastserve import logs
from fastserve.engine.engine import Engine
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.protocols.oip import log_settings, trace_settings
from fastserve.protocols.oip.server import JSON


class Settings:
    """The calls; and what is set for logs, in effect in this worker. Traces have an eye of their own on theirs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        engine.when_changed(self._follow)

    def routes(self) -> list[Route]:
        """Everybody who may read may look; a change takes the right to change the server."""
        trace = r"/v2(?:/models/(?P<model>[^/]+))?/trace/setting/?"
        return [
            Route("GET", re.compile("/v2/logging/?"), "read", infer=self.logging),
            Route("POST", re.compile("/v2/logging/?"), "admin", infer=self.change_logging),
            Route("GET", re.compile(trace), "read", infer=self.trace),
            Route("POST", re.compile(trace), "admin", infer=self.change_trace),
        ]

    def logging(self, _: Request, reply: Reply) -> None:
        """GET logging."""
        reply.send(self._shown_logging([]))

    def change_logging(self, request: Request, reply: Reply) -> None:
        """POST logging: change what is named; all settings are answered."""
        values = log_settings.read(request.body, logs.file_name())
        self._engine.control.change(log_settings.AREA, reply.then(self._shown_logging), values)

    def trace(self, request: Request, reply: Reply) -> None:
        """GET trace/setting, of a model or of all."""
        reply.send(self._shown_trace([], self._model(request)))

    def change_trace(self, request: Request, reply: Reply) -> None:
        """POST trace/setting: change what is named, null for back to what it is without; all settings are answered."""
        model = self._model(request)
        values = trace_settings.read(request.body)
        self._engine.control.change(trace_settings.area(model), reply.then(self._shown_trace, model), values)

    def _model(self, request: Request) -> str | None:
        """The own name of the model in the path. Raises ModelNotFound."""
        model = request.params.get("model")
        return None if model is None else self._engine.name_of(model)

    def _shown_logging(self, _: object) -> Response:
        changed = self._engine.settings(log_settings.AREA)
        return Response(200, JSON, msgspec.json.encode(log_settings.shown(changed, logs.file_name())))

    def _shown_trace(self, _: object, model: str | None) -> Response:
        engine = self._engine
        own = {} if model is None else engine.settings(trace_settings.area(model))
        body = trace_settings.shown(engine.settings(trace_settings.AREA), own)
        return Response(200, JSON, msgspec.json.encode(body))

    def _follow(self) -> None:
        """Calls may have set something else. On the loading thread, before they are answered."""
        logs.choose(log_settings.choice(self._engine.settings(log_settings.AREA)))
