"""Triton's model control: POST /v2/repository/index, .../models/M/load, .../models/M/unload.

A call is answered when what it asks for is so in every worker.
Thread: the door's; answers come from the control's. Memory: none.
"""

import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from fastserve.engine.engine import Engine
from fastserve.engine.state import IndexEntry, Outcome
from fastserve.engine.uploads import FILES, Upload, check_names
from fastserve.errors import InvalidRequest, quoted
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.protocols.oip import bodies
from fastserve.protocols.oip.errors import NotOffered
from fastserve.protocols.oip.server import JSON
from fastserve.types import Caller, VersionState

STATES: Mapping[VersionState, str] = {
    VersionState.READY: "READY",
    VersionState.LOADING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
    VersionState.UNLOADED: "UNAVAILABLE",
    VersionState.FAILED: "UNAVAILABLE",
}
"""The states that Triton has words for."""

UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]|^\.\.?$")
"""What a model's name may not have or be: it would be taken for a path, or for several lines of a log."""

FILE_PREFIX = "file:"
MAX_NOTES = 32
TEXT: bodies.Rule = ("string", lambda value: isinstance(value, str))
INDEX: Mapping[str, bodies.Rule] = {"ready": bodies.FLAG}
LOAD: Mapping[str, bodies.Rule] = {"config": TEXT}
UNLOAD: Mapping[str, bodies.Rule] = {"unload_dependents": bodies.FLAG}


class Repository:
    """The calls that look at the disk, and that decide what is served."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """A name with a slash in it, encoded or not, is told so; so are repositories that are named."""
        own = r"/v2/repository/models/(?P<model>.+)"
        other = r"/v2/repository/(?!models/)[^/]+/(?:index|models/.+/(?:load|unload))/?"
        return [
            Route("POST", re.compile("/v2/repository/index/?"), "read", infer=self.index, sifts=True),
            Route("POST", re.compile(own + "/load/?", re.DOTALL), "admin", infer=self.load),
            Route("POST", re.compile(own + "/unload/?", re.DOTALL), "admin", infer=self.unload),
            Route("POST", re.compile(other, re.DOTALL), "read", infer=self.named, sifts=True),
        ]

    def index(self, request: Request, reply: Reply) -> None:
        """POST index: every version of every model, served or only on disk."""
        found = bodies.read_object(request.body)
        bodies.check(found, INDEX, "$", others=True)
        self._engine.control.index(reply.then(_encoded_index, found.get("ready", False), request.caller))

    def load(self, request: Request, reply: Reply) -> None:
        """POST MODEL/load: what is on disk now, with another configuration where one is given; or the files it brings."""
        model = _name(request)
        found = _parameters(request.body)
        bodies.check(found, LOAD, "$.parameters", others=True)
        files = {name.removeprefix(FILE_PREFIX): name for name in found if name.startswith(FILE_PREFIX)}
        overrides = {"config": found["config"]} if "config" in found else {}
        others = [name for name in found if name not in LOAD and name not in files.values()]
        told = reply.then(_encoded, model, "load", tuple(map(_not_known, others[:MAX_NOTES])))
        if not files:
            self._engine.control.load(model, told, overrides)
            return
        if not overrides:
            raise InvalidRequest(
                'files come with the model\'s "config", as JSON ("{}" will do) - at `$.parameters.config`'
            )
        check_names(model, files)
        upload = self._stored(model, {name: found[key] for name, key in files.items()})

        def ended(outcome: Outcome) -> None:
            upload.release()
            told(outcome)

        self._engine.control.load(model, ended, {**overrides, FILES: str(upload.folder)})

    def _stored(self, model: str, files: Mapping[str, Any]) -> Upload:
        """The files as the director takes them."""
        upload = Upload(model, self._engine.config.server.weights_dir)
        try:
            for name, content in files.items():
                upload.write(name, _content(content, f"$.parameters[{quoted(FILE_PREFIX + name)}]"))
        except Exception:
            upload.remove()
            raise
        return upload

    def unload(self, request: Request, reply: Reply) -> None:
        """POST MODEL/unload: none of its versions serves, until it is loaded or its files change."""
        model = _name(request)
        # No model depends on another one here, so there are no dependents to be unloaded with it.
        bodies.check(_parameters(request.body), UNLOAD, "$.parameters", others=True)
        self._engine.control.unload(model, reply.then(_encoded, model, "unload", ()))

    def named(self, _: Request, __: Reply) -> None:
        """Any call about a repository that is named."""
        raise NotOffered("repositories have no names here: leave the name out of the path, as in /v2/repository/index")


def _name(request: Request) -> str:
    model = request.params["model"]
    if UNSAFE.search(model):
        raise InvalidRequest(f"a model's name must not contain path traversal characters, got {quoted(model)}")
    return model


def _content(text: Any, path: str) -> bytes:
    """What a file holds."""
    if not isinstance(text, str):
        raise bodies.wrong("a file in base64", text, path)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidRequest(f"expected a file in base64: {error} - at `{path}`") from None


def _parameters(body: bytes) -> dict[str, Any]:
    return bodies.object_at(bodies.read_object(body).get("parameters"), "$.parameters")


def _not_known(parameter: str) -> str:
    return f"$.parameters: {quoted(parameter)} is not applied: expected config, or file:VERSION/NAME"


def _encoded(entries: list[IndexEntry], model: str, verb: str, ignored: tuple[str, ...]) -> Response:
    """As KServe's answer; with it what the call says and is not applied, where there is any."""
    ignored = (*ignored, *(entries[0].notes if entries else ()))
    notes = {"notes": [_text(note) for note in ignored]} if ignored else {}
    return Response(200, JSON, msgspec.json.encode({"name": model, verb: True, **notes}))


def _encoded_index(entries: list[IndexEntry], ready_only: bool, caller: Caller) -> Response:
    shown = [
        entry
        for entry in entries
        if caller.may_use(entry.model) and (not ready_only or entry.state is VersionState.READY)
    ]
    return Response(200, JSON, msgspec.json.encode([_item(entry) for entry in shown]))


def _item(entry: IndexEntry) -> dict[str, str]:
    name = {"name": _text(entry.model)}
    if entry.version is None and not entry.reason:
        return name
    version = {} if entry.version is None else {"version": str(entry.version)}
    return {**name, **version, "state": STATES[entry.state], "reason": _text(entry.reason)}


def _text(text: str) -> str:
    """A name on disk that is no UTF-8 is shown as it can be."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
