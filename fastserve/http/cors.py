"""Pages of other origins: what lets a browser's script call, and read answers (Fetch standard, CORS protocol).

Thread: any. Headers are laid out once for each origin that is allowed.
"""

from collections.abc import Sequence

from fastserve.http.message import HeaderMap, Headers

METHODS = "POST, GET"
REQUEST_HEADERS = (
    "Content-Type, Content-Encoding, Authorization, X-API-Key, X-Request-Id, X-Request-Timeout-Ms,"
    " Inference-Header-Content-Length"
)
ANSWER_HEADERS = "X-Model-Version, X-Request-Id, Inference-Header-Content-Length, Retry-After"
"""Those that a script may read beside the few that it always may."""

MAX_AGE = ("access-control-max-age", "600")
"""So long, in seconds, a browser need not ask again (Chromium's own limit is 7200)."""

_STRANGER: Headers = [("vary", "Origin")]


class Cors:
    """Whose pages may call: these origins, or `*` for any; none for nobody's."""

    def __init__(self, origins: Sequence[str]) -> None:
        # As browsers send it: no path, not even a slash, and lower case.
        allowed = [origin.rstrip("/").lower() for origin in origins]
        self.enabled = bool(allowed)
        self._by_origin = {origin: _allowing(origin) for origin in allowed}
        self._anybody = self._by_origin.get("*", _STRANGER)

    def headers(self, request: HeaderMap) -> Headers:
        """What is added to the answer to a request with these headers, right or wrong."""
        origin = request.get("origin")
        return self._anybody if origin is None else self._by_origin.get(origin, self._anybody)


def _allowing(origin: str) -> Headers:
    # As TF Serving does, on every answer and not only on the one to the browser's question.
    return [
        ("access-control-allow-origin", origin),
        ("access-control-allow-methods", METHODS),
        ("access-control-allow-headers", REQUEST_HEADERS),
        ("access-control-expose-headers", ANSWER_HEADERS),
        ("vary", "Origin"),
    ]
