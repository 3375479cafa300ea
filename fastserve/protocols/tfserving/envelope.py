"""What the bodies of all POST calls have in common: an object, and the name of a signature in it.

Thread: any; pure functions.
"""

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidRequest
from fastserve.limits import MAX_DEPTH


def enter_body(body: bytes, *, strict: bool = False) -> Cursor:
    """A cursor inside the body's object. Raises InvalidJson, or InvalidRequest where it is none.

    `strict`: NaN and infinities are refused.
    """
    if not body:
        raise InvalidRequest("JSON Parse error: The document is empty")
    cursor = Cursor(body, MAX_DEPTH, strict)
    if cursor.kind() != "{":
        raise InvalidRequest(f"JSON Value: {skipped(cursor)} Is not object")
    cursor.enter_object()
    return cursor


def read_signature_name(cursor: Cursor) -> str:
    """The value of `signature_name` at the cursor."""
    if cursor.kind() != '"':
        raise InvalidRequest(
            f"JSON Value: {skipped(cursor)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return cursor.string("$.signature_name")


def skipped(cursor: Cursor) -> str:
    """The value at the cursor, cut short, to be quoted. Raises InvalidJson where it is none."""
    text = cursor.excerpt()
    cursor.skip()
    return text
