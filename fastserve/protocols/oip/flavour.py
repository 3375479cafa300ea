"""One URL, several kinds of bodies: which one a body is, seen from its headers and its `inputs` alone.

Pure. Asked for bodies that are no plain Open Inference request, so that those pay nothing.
"""

import re
from enum import Enum

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidJson, InvalidTensor
from fastserve.http.message import Request
from fastserve.protocols.oip.binary import LENGTH_HEADER

IMAGE = "image/"
TEXT_TYPES = frozenset({"", "json", "application/json", "application/x-www-form-urlencoded", "text/plain", "text/json"})
"""Types under which clients send JSON: a body that is none is told why."""

PLAIN_FROM_THE_START = re.compile(rb'\s*\{\s*"inputs"\s*:\s*\[\s*[^{\]\s]').match
"""Whether a body is one of plain lists, as far as its first bytes say so: most such bodies do."""

TENSOR_MEMBERS = frozenset({"name", "shape", "datatype", "data"})
TO_INFER_DICT = "; rows of names and values go to .../infer_dict"


class Flavour(Enum):
    """A kind of body. TENSORS: Open Inference. PLAIN: MLRun's lists, or a URL of them. BINARY: no JSON at all."""

    TENSORS = "tensors"
    PLAIN = "plain"
    BINARY = "binary"


def media_type(request: Request) -> str:
    """The content type without its parameters, in lower case."""
    told: str = request.headers.get("content-type", "")
    return told.partition(";")[0].strip().lower()


def flavour_of(request: Request) -> Flavour:
    """Which kind of body that is."""
    if request.headers.get(LENGTH_HEADER) is not None:
        return Flavour.TENSORS
    if PLAIN_FROM_THE_START(request.body):
        return Flavour.PLAIN
    kind = media_type(request)
    if kind.startswith(IMAGE):
        return Flavour.BINARY
    try:
        return _flavour_of_json(request.body)
    except (InvalidJson, InvalidTensor):
        return Flavour.TENSORS if kind in TEXT_TYPES or kind.endswith("+json") else Flavour.BINARY


def hint(request: Request) -> str:
    """What to tell a client whose body was none of tensors: empty, but for rows that came to the wrong path."""
    try:
        return TO_INFER_DICT if _are_rows(Cursor(request.body)) else ""
    except (InvalidJson, InvalidTensor):
        return ""


def _flavour_of_json(text: bytes) -> Flavour:
    """By the first item of `inputs`; without any, a `data_url` says where they are."""
    cursor = Cursor(text)
    cursor.enter_object()
    has_url = False
    while (key := cursor.next_key()) is not None:
        if key == "inputs" and cursor.kind() != "n":
            first = cursor.first_item_kind() if cursor.kind() == "[" else ""
            if first != "]":
                return Flavour.PLAIN if first not in ("", "{", "b") else Flavour.TENSORS
        has_url = has_url or (key == "data_url" and cursor.kind() == '"')
        cursor.skip()
    return Flavour.PLAIN if has_url else Flavour.TENSORS


def _are_rows(cursor: Cursor) -> bool:
    """Whether `inputs` begin with an object that has no member of a tensor's."""
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key == "inputs" and cursor.kind() == "[" and cursor.first_item_kind() == "{":
            cursor.enter_array()
            cursor.next_item()
            cursor.enter_object()
            while (member := cursor.next_key()) is not None:
                if member in TENSOR_MEMBERS:
                    return False
                cursor.skip()
            return True
        cursor.skip()
    return False
