"""What upstream says of a tensor that does not fit, from our own error: its clients match on these words.

Pure; any thread.
"""

import re

from fastserve.errors import InvalidTensor

_PLACE = re.compile(
    r"\$\.(?P<style>instances|inputs)(?:\[(?P<row>\d+)\])?(?P<key>\.[^.\[]+|\[\".*\"\])?(?P<rest>.*)", re.DOTALL
)
_NOUN = re.compile(r"(?:object|list|string|number) (?=[{\[\"0-9NI-])")
_TYPE = re.compile(r"\((\w+)\)\Z")
_COUNT = re.compile(r"list of (\d+)")
_ABSENT = re.compile(r'unknown key "(.*)"', re.DOTALL)

_JSON_TYPES = {"{": "Object", "[": "Array", '"': "String", "t": "True", "f": "False", "n": "Null"}
_DTYPES = {"FLOAT16": "half"}


def upstream_words(error: InvalidTensor) -> str:
    """Upstream's words for `error`, which `Cursor` raised for a value of `instances` or `inputs`; empty if it has none."""
    place = _PLACE.fullmatch(error.path)
    if place is None:
        return ""
    row, level = place["row"], place["rest"].count("[")
    if place["style"] == "inputs" or row is None:
        return _of_tensor(error, level + (row is not None))
    if error.fault == "row":
        return f"Expecting object but got list at item {row} of input list"
    if error.fault == "type" and level == 0 and not place["key"] and error.got.startswith("object "):
        return f"Expecting value/list but got object at item {row} of input list"
    words = _of_row(error, level)
    key = f"key: {place['key'].strip('.[]')} " if place["key"] else ""
    return (
        f"Failed to process element: {row} {key}of 'instances' list. Error: INVALID_ARGUMENT: {words}" if words else ""
    )


def _of_row(error: InvalidTensor, level: int) -> str:
    """Of one element of `instances`; `level` counts from there."""
    if error.fault == "keys":
        absent = _ABSENT.search(error.got)
        keys = error.expected.removeprefix("object whose ")
        return f"JSON object: does not have named input: {absent[1]}" if absent else f"JSON object: {keys}"
    if error.fault == "length" and level == 0:
        return f"Expecting tensor size: {_count(error.expected)} but got: {_count(error.got)}"
    return _of_tensor(error, level)


def _of_tensor(error: InvalidTensor, level: int) -> str:
    value = _NOUN.sub("", error.got, count=1)
    match error.fault:
        case "type" if value.startswith("["):
            return f"Encountered list at unexpected level: {level} expected < {level}"
        case "type" if value.startswith("{") and error.expected.endswith("(STRING)"):
            return f"JSON Value: {value} not formatted correctly for base64 data"
        case "type":
            kind = _JSON_TYPES.get(value[:1], "Number")
            return f"JSON Value: {value} Type: {kind} is not of expected type: {_dtype(error.expected)}"
        case "level":
            return (
                f"JSON Value: {value} found at incorrect level: {level} in the JSON DOM. Expected at level: {level + 1}"
            )
        case "length":
            return (
                f"Encountered list at unexpected size: {_count(error.got)} at level: {level}"
                f" expected size: {_count(error.expected)}"
            )
        case "base64":
            return "Unable to base64 decode"
        case _:
            return ""


def _dtype(expected: str) -> str:
    found = _TYPE.search(expected)
    name = found[1] if found else ""
    return _DTYPES.get(name, name.lower())


def _count(text: str) -> str:
    found = _COUNT.match(text)
    return found[1] if found else text
