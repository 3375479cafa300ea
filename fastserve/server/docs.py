"""/openapi.json, and /docs: a page in which its calls can be tried (Swagger UI, from the extra `docs`), all from this server.

Thread: the door's. Memory: the document is made when it is first asked for, the page's files are read then; both are kept.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastserve.errors import UnknownPath, quoted
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Route

DOCUMENT_PATH = "/openapi.json"
PAGE_PATH = "/docs"
JSON: Headers = [("content-type", "application/json")]

SCRIPT = "text/javascript; charset=utf-8"
FILES: Mapping[str, str] = {"swagger-ui.css": "text/css; charset=utf-8", "swagger-ui-bundle.js": SCRIPT}
"""Of the package's files, those that the page is made of."""

START = "start.js"
START_TEXT = b"""window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#docs",
    deepLinking: true,
    validatorUrl: null,
    supportedSubmitMethods: ["get", "post", "head"],
  });
};
"""
# Only files of this server, no script in the page itself, shown in no other page. Swagger UI draws its icons from data: URLs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE: Headers = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
]
HTML: Headers = [("content-type", "text/html; charset=utf-8"), *SAFE]

PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>fastserve</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
PLAIN_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>fastserve</title>
<link rel="icon" href="data:,">
<style>body { font: 1rem/1.5 sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem }</style>
</head>
<body>
<h1>fastserve</h1>
<p>A server of ONNX models. It is up; programs talk to it:</p>
<ul>
<li><a href="/v2/models">/v2/models</a>: the models;
<code>POST /v2/models/MODEL/infer</code> asks one (Open Inference Protocol)
<li><code>/v1/models/MODEL</code>: a model's versions;
<code>POST /v1/models/MODEL:predict</code> asks it (TensorFlow Serving)
<li><a href="/readyz">/readyz</a>: whether it is ready, <a href="/metrics">/metrics</a>: its figures
<li><a href="/openapi.json">/openapi.json</a>: all of its paths, for programs that make clients
</ul>
<p>To try calls on this page, install it where the server runs, and start the server again:</p>
<pre>pip install 'fastserve[docs]'</pre>
</body>
</html>
"""


class Docs:
    """The calls. `document`: makes the API document."""

    def __init__(self, document: Callable[[], bytes]) -> None:
        self._document = cache(lambda: Kept(document(), JSON))

    def routes(self) -> list[Route]:
        """What they tell is the same for every caller: it names no model."""
        calls = [
            (re.escape(DOCUMENT_PATH), self.document),
            (re.escape(PAGE_PATH) + "/?", self.page),
            (re.escape(PAGE_PATH) + "/(?P<file>[^/]+)", self.file),
        ]
        return [
            Route(method, re.compile(pattern), "read", infer=call, sifts=True)
            for pattern, call in calls
            for method in ("GET", "HEAD")
        ]

    def document(self, request: Request, reply: Reply) -> None:
        """GET openapi.json."""
        _send(request, reply, self._document())

    def page(self, _: Request, reply: Reply) -> None:
        """GET docs."""
        reply.send(Response(200, HTML, PAGE if assets() is not None else PLAIN_PAGE))

    def file(self, request: Request, reply: Reply) -> None:
        """GET docs/FILE: one of the page's, by its name in our table and by no other."""
        name = request.params["file"]
        if name == START:
            _send(request, reply, _STARTS)
            return
        folder = assets()
        if folder is None or name not in FILES:
            raise UnknownPath(f"nothing is served at {quoted(request.path)}; the page is {PAGE_PATH}")
        _send(request, reply, _read(folder / name))


@cache
def assets() -> Path | None:
    """Where the package's files are; None where it is not installed. The package itself is not imported."""
    found = find_spec("swagger_ui")
    for place in (found.submodule_search_locations or []) if found is not None else []:
        folder = Path(place) / "static"
        if all((folder / name).is_file() for name in FILES):
            return folder
    return None


class Kept:
    """What is answered alike each time."""

    def __init__(self, body: bytes, headers: Headers) -> None:
        self.body = body
        self.tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self.headers = [*headers, ("etag", self.tag), ("cache-control", "no-cache")]


_STARTS = Kept(START_TEXT, [("content-type", SCRIPT), *SAFE])


@cache
def _read(file: Path) -> Kept:
    return Kept(file.read_bytes(), [("content-type", FILES[file.name]), *SAFE])


def _send(request: Request, reply: Reply, kept: Kept) -> None:
    """The body, or that it is what the client has already."""
    if request.headers.get("if-none-match") == kept.tag:
        reply.send(Response(304, kept.headers, b""))
    else:
        reply.send(Response(200, kept.headers, kept.body))
