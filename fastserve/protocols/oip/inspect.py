"""What Triton tells of models beyond the protocol: GET .../config and .../stats.

Thread: the door's; statistics are answered from the control's. Memory: none.
"""

import re

import msgspec

from fastserve.clock import wall_ns
from fastserve.engine.engine import Engine
from fastserve.errors import FastServeError, ModelNotFound
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.metrics import Snapshot
from fastserve.protocols.oip.config_json import model_config
from fastserve.protocols.oip.models import TARGET, find
from fastserve.protocols.oip.server import JSON
from fastserve.protocols.oip.statistics import Now, Version, model_stats
from fastserve.types import VersionState


class Inspection:
    """Configuration and statistics."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """`/v2/models/stats` is no model's: it stands before the calls that take a model's name there."""
        return [
            Route("GET", re.compile("/v2/models/stats/?"), "read", infer=self.all_stats, sifts=True),
            Route("GET", re.compile(TARGET + "/stats/?"), "read", infer=self.stats),
            Route("GET", re.compile(TARGET + "/config/?"), "read", infer=self.config),
        ]

    def config(self, request: Request, reply: Reply) -> None:
        """GET MODEL/config."""
        engine = self._engine
        lease = find(engine, request.params)
        reply.subject = lease.subject
        body = model_config(lease, engine.policy(lease.model), engine.declared(lease.model))
        reply.send(Response(200, lease.answer_headers, msgspec.json.encode(body)))

    def stats(self, request: Request, reply: Reply) -> None:
        """GET MODEL/stats: every version that serves, or the one that was asked for."""
        lease = find(self._engine, request.params)
        reply.subject = lease.subject
        versions = [lease.subject] if "version" in request.params else self._serving(lease.model)
        self._tell(versions or [lease.subject], reply)

    def all_stats(self, request: Request, reply: Reply) -> None:
        """GET /v2/models/stats: every version that serves of every model."""
        models = filter(request.caller.may_use, self._engine.models())
        self._tell([version for model in models for version in self._serving(model)], reply)

    def _serving(self, model: str) -> list[Version]:
        try:
            lines = self._engine.status(model)
        except ModelNotFound:  # it went while we looked
            return []
        ready = [line.version for line in lines if line.state is VersionState.READY]
        return [(model, str(version)) for version in sorted(ready)]

    def _tell(self, versions: list[Version], reply: Reply) -> None:
        view = self._engine.control.view()
        workers = 1 if view is None else view.workers
        held = {version: workers * self._file_bytes(version) for version in versions}
        self._engine.control.collect(reply.then(self._encoded, versions, held))

    def _file_bytes(self, version: Version) -> int:
        """What a process holds of it: its files, weights included; what runs take besides, onnxruntime does not tell."""
        model, number = version
        try:
            return self._engine.lease(model, int(number)).file_bytes
        except FastServeError:  # it went while we looked
            return 0

    def _encoded(self, snapshot: Snapshot, versions: list[Version], held: dict[Version, int]) -> Response:
        body = model_stats(snapshot, versions, Now(self._engine.clock(), wall_ns()), held)
        return Response(200, JSON, msgspec.json.encode(body))
