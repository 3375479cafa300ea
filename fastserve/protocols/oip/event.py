"""Which model and which call an event asks for: POST /, as MLRun's streams and functions send them.

Pure.
"""

import re
from collections.abc import Sequence

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidRequest, ModelNotFound, UnknownPath, quoted
from fastserve.http.message import Request
from fastserve.protocols.oip.models import TARGET

EVENT_PATH = "mlrun-event-path"
DEFAULT = "infer"

_PATH = re.compile(TARGET + "(?:/(?P<call>[^/]+))?/?")


def read_event(request: Request, models: Sequence[str], calls: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The call and the path's parameters. Raises InvalidRequest, ModelNotFound, UnknownPath."""
    params = _from_path(request.headers.get(EVENT_PATH, ""))
    body = _members(request.body)
    call = body.get("operation") or params.pop("call", "") or DEFAULT
    params.pop("call", None)
    if call not in calls:
        raise InvalidRequest(f"illegal model operation {quoted(call)}; there are {', '.join(calls)}")
    if "model" not in params:
        params = _named(body.get("model") or _only(models))
    return call, params


def _from_path(path: str) -> dict[str, str]:
    if path in ("", "/"):
        return {}
    found = _PATH.fullmatch(path)
    if found is None:
        raise UnknownPath(f"Not Found: nothing is served at {quoted(path)}; events go to /v2/models/MODEL/infer")
    return {name: value for name, value in found.groupdict().items() if value is not None}


def _members(text: bytes) -> dict[str, str]:
    """The body's `model` and `operation`; none of a body that is no JSON object: an image says nothing of itself."""
    found: dict[str, str] = {}
    if text.lstrip()[:1] != b"{":
        return found
    cursor = Cursor(text)
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key in ("model", "operation") and key not in found and cursor.kind() != "n":
            found[key] = cursor.string(f"$.{key}")
        else:
            cursor.skip()
    return found


def _named(name: str) -> dict[str, str]:
    """`m3:2` is version 2 of m3."""
    model, _, version = name.partition(":")
    return {"model": model, "version": version} if version else {"model": model}


def _only(models: Sequence[str]) -> str:
    if len(models) == 1:
        return models[0]
    if not models:
        raise ModelNotFound("")
    told = ", ".join(map(quoted, models[:20]))
    raise InvalidRequest(f'the body has no "model", and there are several: {told}')
