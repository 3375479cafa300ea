"""The slow, obvious twin of ext/tensorize.pyx: JSON text to a tree, the tree to an array, rounding by exact fractions.

`Refused.path` is None where the text is not JSON, else the JSON path of what does not fit its tensor.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fastserve.types import DType, Tensor

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_RANK = 64
TOO_LARGE = 2**1024 - 2**970
"""From here on a double rounds to infinity."""

FLOATS = {
    DType.FLOAT: (8, 23, np.uint32),
    DType.DOUBLE: (11, 52, np.uint64),
    DType.FLOAT16: (5, 10, np.uint16),
    DType.BFLOAT16: (8, 7, np.uint16),
}
"""Bits of exponent and of fraction, and what holds the whole."""

_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NONFINITE = re.compile(rb"NaN|-?Inf(?:inity)?")
_LITERAL = re.compile(rb"true|false|null")
_STRING = re.compile(rb'"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"')
_SPACE = re.compile(rb"[ \t\r\n]*")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Refused(Exception):
    """The text, or a value in it, is not taken."""

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        self.path = path


@dataclass
class Node:
    """One value: `kind` as `Cursor.kind()` says it, its own bytes, its items or members, where it ends."""

    kind: str
    token: bytes
    items: list["Node"]
    members: list[tuple[bytes, "Node"]]
    end: int


# ---- text to tree -----------------------------------------------------------------------------------------------


def parse(text: bytes, at: int = 0) -> Node:
    """The value at `at`, spaces before it allowed."""
    at = _space(text, at)
    first = text[at : at + 1]
    if first == b"[":
        return _parse_list(text, at)
    if first == b"{":
        return _parse_object(text, at)
    for pattern, kind in ((_STRING, '"'), (_NONFINITE, "0"), (_NUMBER, "0"), (_LITERAL, "")):
        found = pattern.match(text, at)
        if found:
            token = found.group()
            _check_scalar(kind, token, text[found.end() : found.end() + 1])
            return Node(kind or token[:1].decode(), token, [], [], found.end())
    raise Refused(None)


def _space(text: bytes, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _check_scalar(kind: str, token: bytes, behind: bytes) -> None:
    if kind == '"':
        _check_surrogates(token)
    elif kind == "0" and _NUMBER.fullmatch(token):
        # What might still belong to the number and does not make one: `01`, `1.`, `1e`.
        whole = token.lstrip(b"-").isdigit()
        if (whole and (behind.isdigit() or behind == b".")) or (b"e" not in token.lower() and behind in (b"e", b"E")):
            raise Refused(None)
        if abs(exact(token) or 0) >= TOO_LARGE:
            raise Refused(None)


def _check_surrogates(token: bytes) -> None:
    units = [int(unit, 16) if unit else 0 for unit, _ in _ESCAPE.findall(token)]
    ends = [found.end() for found in _ESCAPE.finditer(token)]
    starts = [found.start() for found in _ESCAPE.finditer(token)]
    pending = False
    for index, unit in enumerate(units):
        low = 0xDC00 <= unit <= 0xDFFF
        if low != pending or (pending and starts[index] != ends[index - 1]):
            raise Refused(None)
        pending = 0xD800 <= unit <= 0xDBFF
    if pending:
        raise Refused(None)


def _parse_list(text: bytes, at: int) -> Node:
    items: list[Node] = []
    start = at
    at = _space(text, at + 1)
    while text[at : at + 1] != b"]" or items:
        items.append(parse(text, at))
        at = _space(text, items[-1].end)
        if text[at : at + 1] != b",":
            break
        at += 1
    return _closed(text, start, at, b"]", Node("[", b"", items, [], 0))


def _parse_object(text: bytes, at: int) -> Node:
    members: list[tuple[bytes, Node]] = []
    start = at
    at = _space(text, at + 1)
    while text[at : at + 1] != b"}" or members:
        key = parse(text, at)
        at = _space(text, key.end)
        if key.kind != '"' or text[at : at + 1] != b":":
            raise Refused(None)
        members.append((key.token, parse(text, at + 1)))
        at = _space(text, members[-1][1].end)
        if text[at : at + 1] != b",":
            break
        at += 1
    return _closed(text, start, at, b"}", Node("{", b"", [], members, 0))


def _closed(text: bytes, start: int, at: int, bracket: bytes, node: Node) -> Node:
    if text[at : at + 1] != bracket:
        raise Refused(None)
    node.end = at + 1
    node.token = text[start : node.end]
    return node


def plain(token: bytes) -> str:
    """A string token's characters; escaped surrogates meet in UTF-16."""
    units: list[bytes] = []
    at = 1
    try:
        for found in _ESCAPE.finditer(token):
            units.append(token[at : found.start()].decode().encode("utf-16-le"))
            unit, named = found.groups()
            character = chr(int(unit, 16)) if unit else _ESCAPED.get(named, named).decode()
            units.append(character.encode("utf-16-le", "surrogatepass"))
            at = found.end()
        units.append(token[at:-1].decode().encode("utf-16-le"))
    except UnicodeDecodeError as error:
        raise Refused(None) from error
    return b"".join(units).decode("utf-16-le")


# ---- numbers ----------------------------------------------------------------------------------------------------


def exact(token: bytes) -> Fraction | None:
    """The number's value; None where its exponent is so small that no type tells it from zero."""
    mantissa, _, power = token.lower().partition(b"e")
    whole, _, fraction = mantissa.partition(b".")
    digits = int(whole + fraction)
    scale = int(power or 0) - len(fraction)
    if digits == 0:
        return Fraction(0)
    if scale + len(whole + fraction) < -500:
        return None
    if scale > 500:
        return Fraction(10) ** 500
    return Fraction(digits) * Fraction(10) ** scale


def round_bits(token: bytes, dtype: DType) -> int:
    """The bits of the float nearest to the token, half to even; past the range infinity."""
    exponent_bits, fraction_bits, _ = FLOATS[dtype]
    bias = 2 ** (exponent_bits - 1) - 1
    infinity = (2**exponent_bits - 1) << fraction_bits
    sign = (1 << (exponent_bits + fraction_bits)) if token.startswith(b"-") else 0
    if not _NUMBER.fullmatch(token):
        return sign | infinity | ((1 << (fraction_bits - 1)) if token == b"NaN" else 0)
    value = abs(exact(token) or Fraction(0))
    exponent = max(_floor_log2(value), 1 - bias) if value else 1 - bias
    steps = value / Fraction(2) ** (exponent - fraction_bits)
    rounded = round(steps)  # Python rounds fractions half to even
    # A rounding up to the next power of two carries into the exponent by itself; subnormals lack the leading bit.
    bits = ((exponent + bias - 1) << fraction_bits) + rounded
    return sign | min(bits, infinity)


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


# ---- tree to arrays ---------------------------------------------------------------------------------------------


def tensor(text: bytes, dtype: DType, path: str = "$", max_depth: int = 100, quoted_floats: bool = False) -> Tensor:
    """As `Cursor.tensor`."""
    node = parse(text)
    if quoted_floats and dtype in FLOATS:
        _unquote(node)
    shape = _shape(node, path, min(max_depth, MAX_RANK))
    leaves: list[Any] = []
    _collect(node, shape, dtype, path, leaves)
    return _array(leaves, shape, dtype)


def sole_rows(text: bytes, key: bytes, dtype: DType, path: str = "$") -> Tensor | None:
    """As the native one, but a text that is not JSON is refused as a whole."""
    members = parse(text.removeprefix(BYTE_ORDER_MARK)).members
    if not members or members[0][0] != b'"' + key + b'"' or b"\\" in key:
        return None
    rows = members[0][1]
    if rows.kind != "[" or not rows.items or rows.items[0].kind == "{":
        return None
    array = tensor(rows.token, dtype, path)
    return array if len(members) == 1 else None


def rows(
    text: bytes,
    names: tuple[str, ...],
    dtypes: tuple[DType, ...],
    path: str = "$",
    others: bool = False,
    quoted_floats: bool = False,
) -> dict[str, Tensor]:
    """As `Cursor.rows`."""
    node = parse(text)
    if node.kind != "[":
        raise Refused(path)
    leaves: dict[str, list[Any]] = {name: [] for name in names}
    shapes: dict[str, list[int]] = {}
    for index, row in enumerate(node.items):
        seen: set[str] = set()
        here = f"{path}[{index}]"
        for token, value in row.members:
            name = plain(token)
            if name not in names and others:
                continue
            if name not in names or name in seen:
                raise Refused(here)
            if quoted_floats and dtypes[names.index(name)] in FLOATS:
                _unquote(value)
            seen.add(name)
            shapes.setdefault(name, _shape(value, f"{here}.{name}", MAX_RANK - 1))
            _collect(value, shapes[name], dtypes[names.index(name)], f"{here}.{name}", leaves[name])
        if row.kind != "{" or len(seen) != len(names):
            raise Refused(here)
    count = len(node.items)
    return {
        name: _array(leaves[name], [count, *shapes.get(name, [])], dtype)
        for name, dtype in zip(names, dtypes, strict=True)
    }


def table(text: bytes, dtypes: tuple[DType, ...], path: str = "$", quoted_floats: bool = False) -> list[Tensor]:
    """As `Cursor.table`."""
    node = parse(text)
    if node.kind != "[":
        raise Refused(path)
    columns: list[list[Any]] = [[] for _ in dtypes]
    for at, row in enumerate(node.items):
        if quoted_floats:
            for cell, dtype in zip(row.items, dtypes, strict=False):
                if dtype in FLOATS:
                    _unquote(cell)
        for index, (cell, dtype) in enumerate(zip(row.items, dtypes, strict=False)):
            here = f"{path}[{at}][{index}]"
            if cell.kind == "[":
                raise Refused(here)
            _collect(cell, [], dtype, here, columns[index])
        if row.kind != "[" or len(row.items) != len(dtypes):
            raise Refused(f"{path}[{at}]")
    return [_array(cells, [len(node.items)], dtype) for cells, dtype in zip(columns, dtypes, strict=True)]


def value(text: bytes) -> Any:
    """As `Cursor.value`."""
    return _plain_value(parse(text))


def _plain_value(node: Node) -> Any:
    if node.kind == "[":
        return [_plain_value(item) for item in node.items]
    if node.kind == "{":
        members: dict[str, Any] = {}
        for key, member in node.members:
            members.setdefault(plain(key), _plain_value(member))
        return members
    if node.kind == "0":
        return int(node.token) if re.fullmatch(rb"-?[0-9]+", node.token) else float(node.token)
    return plain(node.token) if node.kind == '"' else {"t": True, "f": False, "n": None}[node.kind]


def _shape(node: Node, path: str, max_rank: int) -> list[int]:
    shape: list[int] = []
    while node.kind == "[":
        if len(shape) == max_rank:
            raise Refused(path)
        shape.append(len(node.items))
        if not node.items:
            break
        node = node.items[0]
    return shape


def _collect(node: Node, shape: list[int], dtype: DType, path: str, leaves: list[Any]) -> None:
    if not shape:
        leaves.append(_leaf(node, dtype, path))
        return
    if node.kind != "[":
        raise Refused(path)
    for index, item in enumerate(node.items):
        _collect(item, shape[1:], dtype, f"{path}[{index}]", leaves)
    if len(node.items) != shape[0]:
        raise Refused(path)


def _unquote(node: Node) -> None:
    """Make numbers of the strings that are non-finite floats."""
    for item in node.items:
        _unquote(item)
    if node.kind == '"' and _NONFINITE.fullmatch(node.token[1:-1]):
        node.kind, node.token = "0", node.token[1:-1]


def _leaf(node: Node, dtype: DType, path: str) -> Any:
    if dtype in FLOATS and node.kind == "0":
        return round_bits(node.token, dtype)
    if dtype == DType.BOOL and node.kind in ("t", "f"):
        return node.kind == "t"
    if dtype == DType.STRING:
        return _string_leaf(node, path)
    if dtype.numpy.kind in "iu" and dtype not in FLOATS and re.fullmatch(rb"-?[0-9]+", node.token):
        limits = np.iinfo(dtype.numpy)
        if limits.min <= int(node.token) <= limits.max:
            return int(node.token)
    raise Refused(path)


def _string_leaf(node: Node, path: str) -> str:
    if node.kind == '"':
        return plain(node.token)
    if node.kind != "{" or [(plain(key), member.kind) for key, member in node.members] != [("b64", '"')]:
        raise Refused(path)
    text = re.sub(r"[ \t-\r]", "", plain(node.members[0][1].token)).replace(".", "=")
    padding = "" if "=" in text else "=" * (-len(text) % 4)
    if re.search(r"[^A-Za-z0-9+/=]", text) or len(text.rstrip("=")) % 4 == 1 or "=" in text.rstrip("="):
        raise Refused(path)
    try:
        return base64.b64decode(text + padding, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused(path) from error


def _array(leaves: list[Any], shape: list[int], dtype: DType) -> Tensor:
    if dtype in FLOATS:
        return np.array(leaves, dtype=FLOATS[dtype][2]).view(dtype.numpy).reshape(shape)
    return np.array(leaves, dtype=dtype.numpy).reshape(shape)
