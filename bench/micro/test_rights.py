"""What it costs to know who is calling: the direct door's question, whose answer was found out before."""

from base64 import b64encode
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.access.callers import Callers
from fastserve.access.hashes import hash_key
from fastserve.config import AuthConfig, KeyConfig, UserConfig
from fastserve.errors import FastServeError
from fastserve.http.rights import Rights
from fastserve.http.routes import Route
from fastserve.http.table import Match
from fastserve.types import INFER, Caller

KEY = "fsk_" + "k" * 43
HEADERS = {
    "X-API-Key": {"x-api-key": KEY},
    "Bearer": {"authorization": f"Bearer {KEY}"},
    "Basic": {"authorization": "Basic " + b64encode(b"pineapple:fanatic").decode()},
}
AUTH = AuthConfig(
    users=(UserConfig(username="pineapple", password="fanatic"),), keys=(KeyConfig(name="k", key_hash=hash_key(KEY)),)
)


def known_rights(headers: dict[str, str]) -> Rights:
    """Of a server that knows who sent these."""
    told: list[Caller | FastServeError] = []
    callers = Callers(AUTH, lambda work: work())
    callers.recognise(headers, INFER, "127.0.0.1", told.append)
    assert isinstance(told[0], Caller)
    return Rights(listens_locally=True, callers=callers)


@pytest.mark.parametrize("kind", HEADERS)
def test_known_caller(benchmark: Any, kind: str) -> None:
    benchmark.group = "who is calling"
    protocol: Any = None
    match = Match(protocol, Route("POST", SimpleNamespace(), INFER), {"model": "m"}, None)  # type: ignore[arg-type]
    rights, headers = known_rights(HEADERS[kind]), HEADERS[kind]
    assert benchmark(lambda: rights.at_once(match, headers))
