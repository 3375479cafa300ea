"""Lanes beside the general way: the same requests through both, and what is answered has to be the same."""

from typing import Any

from fastserve.engine.engine import Engine
from fastserve.http.lanes import ASK_AGAIN_NS
from fastserve.protocols.oip.routes import OpenInference
from fastserve.protocols.tfserving.routes import TfServing
from tests.support.fake_doors import DirectExchange, FakeDirectDoor
from tests.support.waiting import until

PREDICT, INFER = "/v1/models/m:predict", "/v2/models/m/infer"
SHORT_NS, LONG_NS = 1000, 10_000_000
Sent = tuple[bytes, dict[str, str]]


class Pair:
    """Two doors to one engine: one with lanes, one that never gets one."""

    def __init__(self, engine: Engine, run_ns: int = SHORT_NS) -> None:
        self.engine = engine
        self._run_ns = run_ns
        self.fast, self.plain = (
            FakeDirectDoor(TfServing(engine), OpenInference(engine), timeout_s=0) for _ in range(2)
        )
        for door in (self.fast, self.plain):
            door.advance(ASK_AGAIN_NS / 1e9)
        self.plain.site.access = object()  # type: ignore[assignment]  # asked only whether there is one

    def both(self, path: str, sent: list[Sent]) -> list[Any]:
        """The same requests through both, those of the fast one together; the answers of that."""
        for _ in range(200):  # so that it is known to be so, whatever the machine was doing
            for rows in (1, 2, 4):
                self.engine.lease("m").batcher.short.costs.observe(rows, self._run_ns)
        exchanges = [self._begin(path, body, headers) for body, headers in sent]
        for exchange, (body, _) in zip(exchanges, sent, strict=True):
            exchange.send(body)
        alone = [self.plain.post(path, body, {**headers}) for body, headers in sent]
        until(lambda: all(one.answered for one in (*exchanges, *alone)))
        for ours, theirs in zip(exchanges, alone, strict=True):
            assert ours.answers == theirs.answers
        return exchanges

    def _begin(self, path: str, body: bytes, headers: dict[str, str]) -> DirectExchange:
        exchange = self.fast.request("POST", path, {**headers}, declared=len(body))
        assert isinstance(exchange, DirectExchange)
        return exchange

    def rides(self, path: str) -> bool:
        return path in self.fast.door.express.lanes
