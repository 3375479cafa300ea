"""Answers compressed for clients that ask (RFC 9110, 8.4 and 12.5.3): gzip or deflate.

Thread: `packed` takes about 12 us per kB of JSON (bench/micro/test_packing.py), so it runs on an executor thread.
Memory: the body and, until it is sent, its compressed form.
"""

import zlib
from functools import lru_cache

from fastserve.http.message import Headers, Response

LEVEL = 1
"""JSON of floats comes to 48% at level 1, and at level 6, which takes seven times as long, to 43%."""

WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Codings in the order of preference. "deflate" is zlib's format (RFC 1950), as the specification has it."""

VARY: Headers = [("vary", "Accept-Encoding")]

MAX_HEADER_CHARS = 512
"""A longer Accept-Encoding asks for nothing that we have."""

_ALIASES = {"x-gzip": "gzip"}


class Packed(Response, frozen=True, gc=False):
    """A response that needs no more packing."""


def coding_for(accept_encoding: str | None) -> str:
    """`gzip`, `deflate`, or empty for the answer as it is."""
    if accept_encoding is None or len(accept_encoding) > MAX_HEADER_CHARS:
        return ""
    return _best(accept_encoding)


def packed(response: Response, coding: str) -> Packed:
    """`response` in that coding; as it is where that is no shorter, or no coding was asked for."""
    if coding:
        try:
            body = zlib.compress(response.body, LEVEL, WINDOW_BITS[coding])
        except MemoryError:
            body = response.body
        if len(body) < len(response.body):
            return Packed(response.status, [*response.headers, ("content-encoding", coding), *VARY], body)
    return Packed(response.status, response.headers + VARY, response.body)


@lru_cache(maxsize=256)
def _best(accept_encoding: str) -> str:
    weights = _weights(accept_encoding)
    anything = weights.get("*", 0.0)
    best = max(WINDOW_BITS, key=lambda coding: weights.get(coding, anything))  # the first of equals
    weight = weights.get(best, anything)
    # What is not named may always be sent as it is, but who asks for a coding would rather have that.
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def _weights(accept_encoding: str) -> dict[str, float]:
    """Codings with their q-values; what is no q-value counts as a refusal."""
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = _q_value(value.strip())
        name = _ALIASES.get(name, name)
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def _q_value(text: str) -> float:
    plain = text.isascii() and len(text) <= 5 and text.replace(".", "", 1).isdigit()
    return min(float(text), 1.0) if plain else 0.0
