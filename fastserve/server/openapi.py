"""The API document, OpenAPI 3.1: every route of every protocol, as the tables of routes and what is said beside them have it.

Pure. What is in it is the same for every server of this version: no model's name, no address.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fastserve import __version__
from fastserve.errors import BodyTimeout, FastServeError, Forbidden, Unauthenticated, UnsupportedEncoding
from fastserve.http.operations import Answer, Described, Media, Operation, Parameter, Schema
from fastserve.http.routes import Protocol, Route
from fastserve.http.site import TIMEOUT_HEADER
from fastserve.types import OPEN

PARAMETERS: Mapping[str, tuple[str, Schema, str]] = {
    "model": ("A model's name, or an alias of it.", {"type": "string", "minLength": 1}, "iris"),
    "version": ("One of its versions.", {"type": "string", "pattern": "^[0-9]{1,18}$"}, "1"),
    "label": ("A name for one of its versions.", {"type": "string", "minLength": 1}, "stable"),
    "dataset": ("A dataset's name.", {"type": "string", "minLength": 1}, "input_data"),
}
"""Names in paths that all protocols have: what they are, their schema, an example."""

ALWAYS: Mapping[int, str] = {
    400: "The request makes no sense: the text says what was expected, what came, and where.",
    404: "No such path, or nothing of that name.",
    413: "The body is over the limit, as sent or decompressed.",
    429: "Too much waits already; Retry-After says when to come back.",
    500: "The server's own fault, or the model's.",
    503: "Not ready: starting, draining, or overloaded.",
}
GUARDED: tuple[FastServeError, ...] = (Unauthenticated((), missing=True), Forbidden(""))
WITH_BODY: tuple[FastServeError, ...] = (BodyTimeout(), UnsupportedEncoding(""))
"""What may come of routes that ask who is calling, and of those that read a body; each protocol has its own codes for it."""
TEXTS: Mapping[int, str] = {
    **ALWAYS,
    401: "Nobody knows who is calling; WWW-Authenticate says what to send.",
    403: "The caller has no right to it, or is not known.",
    408: "The body did not come in time.",
    415: "The body's type or encoding is not read.",
    422: "The body is JSON, of another shape.",
    501: "A part of the protocol that this server leaves out.",
    504: "The request's time ran out.",
}

SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer KEY`."},
    "keyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key."},
    "user": {"type": "http", "scheme": "basic", "description": "A user's name and password."},
}
TIMEOUT = Parameter(
    TIMEOUT_HEADER,
    "The longest that this request may take, in milliseconds; never beyond the server's own limit.",
    {"type": "integer", "minimum": 1, "maximum": 999_999_999_999},
    "header",
)
TEXT = """What this server answers, on one port, in the protocols that its clients have. A path belongs to one protocol, and
what goes wrong there comes in that protocol's shape. Bodies may be compressed with gzip or deflate (`Content-Encoding`)."""


def document(protocols: Sequence[Protocol], described: Sequence[Described]) -> dict[str, Any]:
    """All of it. `described` are of `protocols`, by name."""
    by_name = {protocol.name: protocol for protocol in protocols}
    routes = {protocol.name: protocol.routes() for protocol in protocols}
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Schema] = {}
    for one in described:
        schemas.update(one.schemas)
        for operation in one.operations:
            for path in operation.paths:
                for method, route in _methods(operation, path, one, routes[one.name]):
                    paths.setdefault(path, {})[method.lower()] = _operation(
                        one, operation, path, method, route, by_name[one.name]
                    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fastserve",
            "version": __version__,
            "description": TEXT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": one.name, "description": one.text} for one in described],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "responses": {_error_name(one, status): _error(one, status) for one in described for status in TEXTS},
            "securitySchemes": SECURITY,
        },
    }


def encoded(protocols: Sequence[Protocol], described: Sequence[Described]) -> bytes:
    """The document as it is answered."""
    return msgspec.json.encode(document(protocols, described))


def sample_path(path: str, one: Described) -> str:
    """`path` with something in the place of each of its parameters."""
    return path.format_map({**{name: example for name, (_, _, example) in PARAMETERS.items()}, **one.samples})


def route_of(method: str, path: str, routes: Sequence[Route]) -> Route | None:
    """The route that answers; the first match wins, as when it is served."""
    found = (route for route in routes if route.method == method and route.pattern.fullmatch(path))
    return next(found, None)


def _methods(operation: Operation, path: str, one: Described, routes: Sequence[Route]) -> Iterator[tuple[str, Route]]:
    """The operation's own method, and HEAD beside a GET that has it."""
    sample = sample_path(path, one)
    for method in (operation.method, "HEAD") if operation.method == "GET" else (operation.method,):
        route = route_of(method, sample, routes)
        if route is not None:
            yield method, route


def _operation(
    one: Described, operation: Operation, path: str, method: str, route: Route, protocol: Protocol
) -> dict[str, Any]:
    answers = {str(answer.status): _answer(answer, with_body=method != "HEAD") for answer in operation.answers}
    refusals = [*(GUARDED if route.scope != OPEN else ()), *(WITH_BODY if operation.body else ())]
    found = {protocol.encode_error(error).status for error in refusals}
    for status in sorted({*ALWAYS, *operation.errors, *found}):
        answers.setdefault(str(status), _error_of(one, status, method))
    told: dict[str, Any] = {
        "tags": [one.name],
        "operationId": _id(method, path),
        "summary": operation.summary,
        "description": _text(operation, route),
        "parameters": _parameters(path, operation, one),
        "responses": answers,
        "security": [] if route.scope == OPEN else [{}, *({name: []} for name in SECURITY)],
    }
    if operation.body:
        told["requestBody"] = {"required": operation.needs_body, "content": dict(map(_content, operation.body))}
    return told


def _text(operation: Operation, route: Route) -> str:
    right = "" if route.scope == OPEN else f"Takes the right `{route.scope}` where there are users or keys."
    return " ".join(part for part in (operation.text, right) if part)


def _id(method: str, path: str) -> str:
    words = "".join(char if char.isalnum() else " " for char in path).split()
    return "_".join([method.lower(), *words])


def _parameters(path: str, operation: Operation, one: Described) -> list[dict[str, Any]]:
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    found = [_path_parameter(name, one) for name in names]
    for parameter in (*operation.parameters, TIMEOUT):
        found.append(
            {
                "name": parameter.name,
                "in": parameter.place,
                "description": parameter.text,
                "schema": parameter.schema,
            }
        )
    return found


def _path_parameter(name: str, one: Described) -> dict[str, Any]:
    text, schema, example = PARAMETERS.get(name) or ("", {"type": "string", "minLength": 1}, one.samples[name])
    told = {"name": name, "in": "path", "required": True, "schema": schema, "example": example}
    return {**told, "description": text} if text else told


def _answer(answer: Answer, *, with_body: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.text}
    if answer.media and with_body:
        told["content"] = dict(map(_content, answer.media))
    if answer.headers:
        told["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return told


def _error_of(one: Described, status: int, method: str) -> dict[str, Any]:
    if method == "HEAD":
        return {"description": TEXTS[status]}
    return {"$ref": f"#/components/responses/{_error_name(one, status)}"}


def _error_name(one: Described, status: int) -> str:
    return f"{one.name}-{status}"


def _error(one: Described, status: int) -> dict[str, Any]:
    return {"description": TEXTS[status], "content": dict([_content(one.error)])}


def _content(media: Media) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {"schema": media.schema}
    if media.examples:
        told["examples"] = {name: {"value": value} for name, value in media.examples.items()}
    return media.type, told
