"""TensorFlow Serving's REST paths: predict, classify, regress, status and metadata, under /v1/models and /model-serving.

Thread: whichever the door runs a route on; answers may leave from any thread.
Memory: none of its own; what is worked out for a version hangs on its lease.
"""

import re

import msgspec

from fastserve.engine.engine import Engine, Lease
from fastserve.errors import (
    MAX_QUOTED_CHARS,
    FastServeError,
    InvalidRequest,
    InvalidTensor,
    ModelNotFound,
    VersionNotFound,
)
from fastserve.http.cors import MAX_AGE
from fastserve.http.message import Pending, Reply, Request, Response
from fastserve.http.recorded import Encode, recorded
from fastserve.http.routes import Route
from fastserve.protocols.tfserving import classify, codec, errors, schema
from fastserve.protocols.tfserving.examples import check_examples
from fastserve.protocols.tfserving.lane import PredictLane, lane_for
from fastserve.types import VersionState, VersionStatus

_TARGET = (
    r"(?i:/v1/models|/model-serving)/(?P<model>[^/:]+)"
    r"(?:(?i:/versions)/(?P<version>[0-9]+)|(?i:/labels)/(?P<label>[^/:]+))?"
)
_JSON = [("content-type", "application/json")]

MAX_VERSION = 2**63 - 1


class TfServing:
    """The protocol over one engine."""

    name = "tfserving"
    owns = errors.OWNED

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The five calls, and what browsers ask first."""
        return [
            Route(
                "POST", re.compile(_TARGET + ":predict"), "infer", infer=self.predict, lane=self.lane, early=self.early
            ),
            Route("POST", re.compile(_TARGET + ":classify"), "infer", infer=self.classify, early=self.early),
            Route("POST", re.compile(_TARGET + ":regress"), "infer", infer=self.regress, early=self.early),
            Route("GET", re.compile(_TARGET), "read", infer=self.status),
            Route("GET", re.compile(_TARGET + "(?i:/metadata)"), "read", infer=self.metadata),
            Route("OPTIONS", errors.OWNED, "open", infer=self.options),
        ]

    def options(self, request: Request, reply: Reply) -> None:
        """OPTIONS, any path of ours: as upstream, for web pages only."""
        origin = request.headers.get("origin") or ""
        if "http://" not in origin and "https://" not in origin:
            raise InvalidRequest("OPTIONS is for web pages: expected a header Origin with http:// or https://")
        reply.send(Response(200, [*_JSON, MAX_AGE], b""))

    def unmatched(self, method: str, path: str) -> FastServeError:
        """The error for a path under our prefixes that is none of the five calls."""
        return errors.unmatched(method, path)

    def encode_error(self, error: FastServeError) -> Response:
        """`error` as `{"error": "..."}`."""
        return errors.encode_error(error)

    def predict(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL:predict."""
        try:
            lease = self._lease(request.params)
        except FastServeError:
            codec.check_body(request.body)  # a bad body is 400 on an unknown model too
            raise
        reply.subject = lease.subject
        if lease.gate is not None:
            lease.gate.turn_away(request.received_ns, request.deadline_ns)
        plan = lease.codecs.get("tfserving") or _plan(lease)
        infer, style = codec.decode_predict(request, plan)
        encode: Encode = codec.encode_predict
        if lease.recording is not None:
            encode = recorded(lease.recording, infer, request.headers, encode)
        try:
            return self._engine.submit(lease, infer, reply.then(encode, plan, style))
        except InvalidTensor as error:
            raise error.at(codec.path_of(error.path, plan, style)) from error

    def early(self, request: Request, reply: Reply) -> None:
        """Raises Overloaded where the model could not answer in time, whatever the body holds."""
        try:
            lease = self._lease(request.params)
        except FastServeError:
            return  # the body is looked at first
        if lease.gate is not None:
            reply.subject = lease.subject
            lease.gate.turn_away(request.received_ns, request.deadline_ns)

    def lane(self, request: Request) -> PredictLane | None:
        """The short way for predict's requests by row, where the model has a short one."""
        params = request.params
        lease = self._lease(params)
        plan = lease.codecs.get("tfserving") or _plan(lease)
        return lane_for(lease, plan, lambda: self._lease(params) is lease)

    def classify(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL:classify."""
        return self._ask_with_examples(request, reply, classify.CLASSIFY)

    def regress(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL:regress."""
        return self._ask_with_examples(request, reply, classify.REGRESS)

    def _ask_with_examples(self, request: Request, reply: Reply, verb: str) -> Pending | None:
        try:
            lease = self._lease(request.params)
        except FastServeError:
            check_examples(request.body)
            raise
        reply.subject = lease.subject
        if lease.gate is not None:
            lease.gate.turn_away(request.received_ns, request.deadline_ns)
        plan = lease.codecs.get(verb) or _examples_plan(lease, verb)
        infer, count = classify.decode_examples(request, plan)
        encode: Encode = classify.encode_examples
        if lease.recording is not None:
            encode = recorded(lease.recording, infer, request.headers, encode)
        try:
            return self._engine.submit(lease, infer, reply.then(encode, plan, count, request.path))
        except InvalidTensor as error:
            raise error.at("$.examples") from error

    def status(self, request: Request, reply: Reply) -> None:
        """GET MODEL: every version, or the one asked for. As upstream, a label is not looked at."""
        model, version = request.params["model"], _version(request.params)
        try:
            lines = self._engine.status(model)
        except ModelNotFound as error:
            raise errors.StatusNotFound(model) from error
        if version is not None:
            lines = _lines_of(version, lines)
        if not lines:
            raise errors.StatusNotFound(model, version, self._engine.found_instead(model) if version is None else "")
        reply.subject = (model, "")
        reply.send(Response(200, _JSON, msgspec.json.encode(schema.status_body(lines))))

    def metadata(self, request: Request, reply: Reply) -> None:
        """GET MODEL/metadata: the signature."""
        lease = self._lease(request.params)
        reply.subject = lease.subject
        body = schema.metadata_body(lease.model, lease.version, lease.signature)
        reply.send(Response(200, lease.answer_headers, msgspec.json.encode(body)))

    def _lease(self, params: dict[str, str]) -> Lease:
        version = _version(params)
        try:
            return self._engine.lease(params["model"], version, params.get("label"))
        except VersionNotFound:
            if version != 0:
                raise
            return self._engine.lease(params["model"])  # some clients say version 0 for "the latest"


def _plan(lease: Lease) -> codec.PredictPlan:
    plan = codec.make_plan(lease.signature, lease.answer_headers, strict=lease.strict)
    lease.codecs["tfserving"] = plan
    return plan


def _examples_plan(lease: Lease, verb: str) -> classify.ExamplesPlan:
    plan = classify.make_plan(verb, lease.signature, lease.metadata, lease.answer_headers, strict=lease.strict)
    lease.codecs[verb] = plan
    return plan


def _version(params: dict[str, str]) -> int | None:
    text = params.get("version")
    if text is None:
        return None
    digits = text.lstrip("0") or "0"
    # Length first: int() of a very long text is slow, and refuses at thousands of digits.
    if len(digits) > len(str(MAX_VERSION)) or int(digits) > MAX_VERSION:
        raise InvalidRequest(f"Failed to convert version: {text[:MAX_QUOTED_CHARS]} to numeric.")
    return int(digits)


def _lines_of(version: int, lines: list[VersionStatus]) -> list[VersionStatus]:
    found = [line for line in lines if line.version == version]
    if found or version != 0:
        return found
    serving = [line for line in lines if line.state is VersionState.READY]
    return (serving or lines)[:1]
