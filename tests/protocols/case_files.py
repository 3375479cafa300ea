"""Protocol cases: what a file under `cases/` says, as a request to send and an answer to expect.

A file is a list of `{"name", "request", "response"}`.
Request: `method` (POST), `path`, `headers`, `gzip`, `chunked`, and the body as one of `json`, `text`, `base64` or
`repeat` (a list of texts, each followed by how often it comes; once if no number follows). `tail`: base64 of binary
tensors behind it, whose start a header tells unless `headers` do. `deflate`: as `gzip`.
`@now@`, `@now-91d@`, `@now+30s@` in it are times, RFC 3339.
Response: `status` (200), `headers`, `max_bytes`, the body as `json` (equal, types
included; `any`: its members that are there with any value),
`json_text` (the same as text, for tokens that JSON lacks) or `text` (equal) or `contains` (texts), `error` (the message),
`error_contains` (texts in it); `message` and `field`: the error of a gRPC gateway, and the place that it names; `rows`: what
the prediction log keeps of it (`test_arize_rows`); `numbers_of` names the numpy type in which numbers are compared. `tail`:
base64 of what follows the JSON.
"""

import base64
import gzip
import json
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from tests.support.doors import Answer, Sent

LENGTH_HEADER = "inference-header-content-length"
CASES = Path(__file__).parent / "cases"


class Case(Struct, frozen=True):
    """One request and what must come of it."""

    id: str
    request: dict[str, Any]
    response: dict[str, Any]

    def sent(self) -> Sent:
        """The request."""
        body = _body(self.request)
        headers = dict(self.request.get("headers", {}))
        if "tail" in self.request:
            headers.setdefault(LENGTH_HEADER, str(len(body)))
            body += base64.b64decode(self.request["tail"])
        return Sent(
            method=self.request.get("method", "POST"),
            path=self.request["path"],
            headers=headers,
            body=_compressed(body, self.request),
            chunked=self.request.get("chunked", False),
        )

    def check(self, answer: Answer) -> None:
        """Assert that `answer` is what the case says."""
        expected = self.response
        assert answer.status == expected.get("status", 200), answer.body[:2000]
        for name, value in expected.get("headers", {}).items():
            assert answer.headers.get(name) == value
        assert len(answer.body) <= expected.get("max_bytes", len(answer.body))
        size = int(answer.headers.get(LENGTH_HEADER, len(answer.body)))
        assert answer.body[size:] == base64.b64decode(expected.get("tail", ""))
        text = answer.body[:size].decode()
        _check_body(expected, text)
        if "message" in expected:
            _check_gateway_error(expected, answer, text)
            return
        told = {"json", "text"} & expected.keys()
        if answer.status >= 400 and self.request.get("method") != "HEAD" and not told:
            _check_error(expected, answer, text)


def load_cases(protocol: str) -> list[Case]:
    """Every case of a protocol."""
    return [
        Case(f"{file.stem}: {case['name']}", case["request"], case["response"])
        for file in sorted((CASES / protocol).glob("*.json"))
        for case in json.loads(file.read_text())
    ]


def _body(request: dict[str, Any]) -> bytes:
    return _TIME.sub(_time, _written(request))


_TIME = re.compile(rb"@now(?:([+-][0-9]+)([ds]))?@")


def _time(match: "re.Match[bytes]") -> bytes:
    seconds = int(match[1] or 0) * (86_400 if match[2] == b"d" else 1)
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def _written(request: dict[str, Any]) -> bytes:
    if "json" in request:
        return json.dumps(request["json"]).encode()
    if "base64" in request:
        return base64.b64decode(request["base64"])
    if "repeat" in request:
        return _repeated(request["repeat"]).encode()
    text: str = request.get("text", "")
    return text.encode()


def _compressed(body: bytes, request: dict[str, Any]) -> bytes:
    if request.get("gzip"):
        return gzip.compress(body)
    return zlib.compress(body) if request.get("deflate") else body


def _repeated(parts: list[str | int]) -> str:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, int):
            texts[-1] *= part
        else:
            texts.append(part)
    return "".join(texts)


def _check_body(expected: dict[str, Any], text: str) -> None:
    if "json" in expected or "json_text" in expected:
        wanted = expected["json"] if "json" in expected else json.loads(expected["json_text"])
        number = expected.get("numbers_of", "float64")
        found = _without_times(json.loads(text))
        for member in expected.get("any", []):
            assert found.pop(member)
        assert _canonical(found, number) == _canonical(wanted, number)
    if "text" in expected:
        assert text == expected["text"]
    for part in expected.get("contains", []):
        assert part in text


def _check_error(expected: dict[str, Any], answer: Answer, text: str) -> None:
    """Every error is JSON with one member, whatever else it says."""
    assert answer.headers["content-type"] == "application/json"
    error = json.loads(text)
    assert list(error) == ["error"]
    assert error["error"] == expected.get("error", error["error"])
    for part in expected.get("error_contains", []):
        assert part in error["error"]


GATEWAY_CODES = {400: 3, 403: 7, 404: 5, 405: 12, 413: 8, 501: 12, 503: 14}


def _check_gateway_error(expected: dict[str, Any], answer: Answer, text: str) -> None:
    """The shape that gRPC gateways' errors have, of both versions."""
    assert answer.headers["content-type"] == "application/json"
    error = json.loads(text)
    assert sorted(error) == ["code", "details", "error", "message"]
    assert error["code"] == GATEWAY_CODES[answer.status]
    assert error["error"] == error["message"]
    assert error["message"] == expected["message"] or expected["message"] is None
    for part in expected.get("error_contains", []):
        assert part in error["message"]
    if "field" in expected:
        ((violation,),) = (detail["fieldViolations"] for detail in error["details"])
        assert violation["field"] == expected["field"]
        assert violation["description"].startswith("expected ")


def _without_times(value: Any) -> Any:
    """`value` with every duration_ms made 0, once it is seen to be one."""
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "duration_ms" in value:
        assert type(value["duration_ms"]) is int
        assert value["duration_ms"] >= 0
        value = {**value, "duration_ms": 0}
    return {name: _without_times(item) for name, item in value.items()}


def _canonical(value: Any, number: str) -> str:
    """`value` as text that tells 1 from 1.0 and true, and in which NaN equals NaN."""
    return json.dumps(_rounded(value, number), sort_keys=True)


def _rounded(value: Any, number: str) -> Any:
    if isinstance(value, float):
        return float(np.dtype(number).type(value))
    if isinstance(value, list):
        return [_rounded(item, number) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item, number) for key, item in value.items()}
    return value
