"""What a model takes and gives, and whether it is ready: /v2/models/M.

Thread: the door's. Memory: none.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from fastserve.engine.engine import Engine, Lease
from fastserve.errors import ModelNotReady, VersionNotFound, quoted
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.protocols.oip.errors import NoSuchVersion, NotOffered, NotReady
from fastserve.protocols.oip.schema import model_metadata
from fastserve.types import VersionState, VersionStatus

TARGET = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
"""A model, or a version of it, as every call's path names it."""

MAX_VERSION = 2**63 - 1


class Models:
    """The calls that only look at a model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Metadata and readiness."""
        return [
            Route("GET", re.compile(TARGET + "/ready/?"), "open", infer=self.ready),
            Route("HEAD", re.compile(TARGET + "/ready/?"), "open", infer=self.ready),
            Route("GET", re.compile(TARGET + "/?"), "read", infer=self.metadata),
        ]

    def metadata(self, request: Request, reply: Reply) -> None:
        """GET MODEL: names, types and shapes, and the versions that serve, or the one that was asked for."""
        lease = find(self._engine, request.params)
        reply.subject = lease.subject
        versions = [lease.version] if "version" in request.params else self._serving(request.params["model"])
        body = model_metadata(lease.model, lease.version, versions or [lease.version], lease.signature)
        reply.send(Response(200, lease.answer_headers, msgspec.json.encode(body)))

    def ready(self, request: Request, reply: Reply) -> None:
        """GET MODEL/ready: 200, or 400 for one that is known and not ready."""
        try:
            lease = find(self._engine, request.params)
        except ModelNotReady as error:
            raise NotReady(str(error)) from error
        reply.subject = lease.subject
        body = msgspec.json.encode({"name": lease.model, "ready": True})
        reply.send(Response(200, lease.answer_headers, body))

    def _serving(self, model: str) -> list[int]:
        return [line.version for line in self._engine.status(model) if line.state is VersionState.READY]


def find(engine: Engine, params: dict[str, str]) -> Lease:
    """The version that a path names. Raises ModelNotFound, VersionNotFound, NoSuchVersion, ModelNotReady."""
    model, text = params["model"], params.get("version")
    version = None if text is None else _version(engine, model, text)
    try:
        return engine.lease(model, version)
    except VersionNotFound as error:
        if _is_ensemble(engine.declared(model)):
            raise NotOffered(
                f"{quoted(model)} is an ensemble: ensembles are not served; call its models one by one"
            ) from error
        lines = engine.status(model)
        reason = _why_not_ready(lines, version) if lines else engine.found_instead(model)
        if reason:
            raise ModelNotReady(reason) from error
        raise


def _version(engine: Engine, model: str, text: str) -> int:
    """A number; one of the model's labels; or a number as MLServer and MLRun like to write it, `v2`."""
    number = _number(text)
    if number is None:
        config = engine.config_of(model)
        number = None if config is None else config.labels.get(text)
    if number is None:
        number = _number(text.removeprefix("v"))
    if number is None:
        raise NoSuchVersion(model, text)
    return number


def _number(text: str) -> int | None:
    digits = text.lstrip("0") or "0"
    # Length first: int() of a very long text is slow, and refuses at thousands of digits.
    return int(digits) if text.isascii() and text.isdigit() and len(digits) <= len(str(MAX_VERSION)) else None


def _is_ensemble(declared: Mapping[str, Any]) -> bool:
    return declared.get("platform") == "ensemble" or "ensemble_scheduling" in declared


def _why_not_ready(lines: list[VersionStatus], version: int | None) -> str:
    """Why a version that is known, or any at all, does not serve; empty where it is not meant to."""
    for line in lines:
        if version in (None, line.version) and line.state is VersionState.LOADING:
            return f"version {line.version} of this model is being loaded"
        if version in (None, line.version) and line.state is VersionState.FAILED:
            return f"version {line.version} of this model did not load: {line.reason}"
    return ""
