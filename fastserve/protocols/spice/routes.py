"""Spice's paths: GET MODEL/predict, POST predict, the lists of models and datasets, ready and health.

Thread: whichever the door runs a route on; answers may leave from any thread.
Memory: see `predict`.
"""

import re
from typing import Any

import msgspec
from msgspec import Struct

from fastserve.engine.engine import Engine
from fastserve.engine.state import Outcome
from fastserve.errors import FastServeError, InvalidRequest, ModelForbidden, UnknownPath, WrongMethod, quoted
from fastserve.http.message import Pending, Reply, Request, Response
from fastserve.http.recorded import given_id
from fastserve.http.routes import Route
from fastserve.limits import MAX_PREDICTIONS
from fastserve.protocols.spice import answers, errors, listing
from fastserve.protocols.spice.predict import Budget, Item, Several

JSON_TYPE = re.compile(r"application/(?:json|[\w.!#$&^+-]+\+json)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
PREDICT = re.compile(r"/v1/models/(?P<model>[^/:]+)/predict")
REFRESH = re.compile(r"/v1/datasets/(?P<dataset>[^/]+)/acceleration/refresh")


class PredictRequest(Struct, frozen=True):
    """One prediction that is asked for."""

    model_name: str


class BatchPredictRequest(Struct, frozen=True):
    """The body of POST predict; what else is in it is not looked at."""

    predictions: list[PredictRequest] = []


class Spice:
    """The protocol over one engine."""

    name = "spice"
    owns = re.compile(
        r"/v1/models|/v1/models/[^/:]+/predict|/v1/predict|/v1/ready|/v1/datasets(?:/.*)?|/health", re.DOTALL
    )

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Health answers HEAD too, for orchestrators."""
        return [
            Route("GET", PREDICT, "infer", infer=self.predict),
            Route("POST", re.compile("/v1/predict"), "infer", infer=self.predict_many, sifts=True),
            Route("GET", re.compile("/v1/models"), "read", infer=self.models, sifts=True),
            Route("GET", re.compile("/v1/datasets"), "read", infer=self.datasets, sifts=True),
            Route("POST", REFRESH, "admin", infer=self.refresh),
            *(Route(method, re.compile("/v1/ready"), "open", infer=self.ready) for method in ("GET", "HEAD")),
            *(Route(method, re.compile("/health"), "open", infer=self.health) for method in ("GET", "HEAD")),
        ]

    def unmatched(self, method: str, path: str) -> FastServeError:
        """405 for one of ours with another method, else 404."""
        if any(route.pattern.fullmatch(path) for route in self.routes()):
            return WrongMethod(f"{method} is not taken here")
        return UnknownPath(f"nothing is served at {quoted(path)}; datasets are listed at /v1/datasets")

    def encode_error(self, error: FastServeError) -> Response:
        """`error` as text."""
        return errors.encode_error(error)

    def predict(self, request: Request, reply: Reply) -> Pending | None:
        """GET MODEL/predict: from its dataset."""

        def done(prediction: answers.Prediction) -> None:
            if item.lease is not None:
                reply.subject = item.lease.subject
            if prediction.error is not None:
                reply.code = prediction.error.code
            reply.send(answers.encode_one(prediction))

        given = given_id(request.headers)
        item = Item(self._engine, request.params["model"], request.deadline_ns, Budget(), done, given)
        item.start()
        return None if reply.done else item

    def predict_many(self, request: Request, reply: Reply) -> Pending | None:
        """POST predict: each from its own dataset, all at a time; one that fails says so for itself."""
        models = [one.model_name for one in _read(request).predictions]
        caller = request.caller

        def refusal(model: str) -> FastServeError | None:
            allowed = caller.may_use(self._engine.own_name(model), model)
            return None if allowed else ModelForbidden(caller.name, model)

        if len(models) > MAX_PREDICTIONS:
            raise InvalidRequest(f"expected at most {MAX_PREDICTIONS} predictions, got {len(models)}")
        several = Several(
            self._engine,
            models,
            request.deadline_ns,
            lambda found, duration_ms: reply.send(answers.encode_many(found, duration_ms)),
            refusal,
        )
        several.start()
        return None if reply.done else several

    def models(self, request: Request, reply: Reply) -> None:
        """GET models."""
        rows = [row for row in listing.models(self._engine) if request.caller.may_use(row["id"])]
        if listing.wants_csv(request.query):
            reply.send(listing.as_csv(rows, ["id", "object", "owned_by", "datasets", "status"]))
        else:
            reply.send(listing.as_json({"object": "list", "data": rows}))

    def datasets(self, request: Request, reply: Reply) -> None:
        """GET datasets: callers of some models are told of theirs."""
        status = listing.wants_status(request.query)
        rows = listing.datasets(self._engine, request.caller, status=status)
        if listing.wants_csv(request.query):
            columns = ["from", "name", "replication_enabled", "acceleration_enabled", *(["status"] if status else [])]
            reply.send(listing.as_csv(rows, columns))
        else:
            reply.send(listing.as_json(rows))

    def refresh(self, request: Request, reply: Reply) -> None:
        """POST DATASET/acceleration/refresh: every worker reads its files again, as they are."""
        name = request.params["dataset"]
        if name not in self._engine.datasets.names():
            raise UnknownPath(f"Dataset {quoted(name)} not found")
        self._engine.refresh_dataset(name, reply.then(_refreshed, name))

    def ready(self, _: Request, reply: Reply) -> None:
        """GET ready: 200 when requests should come here, else 503."""
        if self._engine.not_ready():
            reply.send(Response(503, errors.TEXT, b"not ready"))
        else:
            reply.send(Response(200, errors.TEXT, b"ready"))

    def health(self, _: Request, reply: Reply) -> None:
        """GET health: 200 as long as the process answers."""
        reply.send(Response(200, errors.TEXT, b"ok\n"))


def _refreshed(_: Outcome, name: str) -> Response:
    body = msgspec.json.encode({"message": f"Dataset refresh triggered for {name}."})
    return Response(201, answers.JSON, body)


def _read(request: Request) -> BatchPredictRequest:
    """The body. Raises NotJson (415), InvalidRequest (400, no JSON), WrongShape (422)."""
    if not JSON_TYPE.fullmatch(request.headers.get("content-type") or ""):
        raise errors.NotJson
    try:
        return _BODY.decode(request.body)
    except msgspec.ValidationError as error:
        if _any(request.body) == []:  # as serde reads a struct of which nothing is given
            return BatchPredictRequest()
        raise errors.WrongShape(str(error)[:256]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from None


def _any(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from None


def _no_json(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"Failed to parse the request body as JSON: {str(error)[:256]}")


_BODY = msgspec.json.Decoder(BatchPredictRequest)
