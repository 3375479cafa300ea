"""An engine without models: leases of any signature, and answers from plain functions, on the caller's thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastserve.clock import monotonic_ns
from fastserve.config import Config, ModelConfig
from fastserve.errors import FastServeError, LabelNotFound, ModelNotFound, VersionNotFound
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Protocol
from fastserve.types import (
    Answer,
    Batching,
    InferRequest,
    InferResult,
    Signature,
    Tensor,
    Timing,
    VersionState,
    VersionStatus,
)

Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass
class FakeLease:
    """What protocols read of a lease."""

    model: str
    version: int
    signature: Signature
    run: Run
    metadata: dict[str, str] = field(default_factory=dict)
    codecs: dict[str, Any] = field(default_factory=dict)
    strict: bool = False
    gate: Any = None
    recording: Any = None
    batching: Batching = field(default_factory=lambda: Batching(batchable=True, reason=""))
    config: ModelConfig = field(default_factory=lambda: ModelConfig(name="m"))

    @property
    def subject(self) -> tuple[str, str]:
        return (self.model, str(self.version))

    @property
    def answer_headers(self) -> Headers:
        return [("content-type", "application/json"), ("x-model-version", str(self.version))]


class FakeEngine:
    """Leases what was added; `refusal` set makes every submit answer with it; `submitted` remembers the requests."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.leases: dict[str, dict[int, FakeLease]] = {}
        self.labels: dict[str, dict[str, int]] = {}
        self.lines: dict[str, list[VersionStatus]] = {}
        self.control: Any = None
        """Nobody changes here what is served."""
        self.refusal: FastServeError | None = None
        self.submitted: list[InferRequest] = []
        self.clock = monotonic_ns

    def add(self, model: str, version: int, signature: Signature, run: Run) -> FakeLease:
        lease = FakeLease(model, version, signature, run)
        self.leases.setdefault(model, {})[version] = lease
        self.lines.setdefault(model, []).insert(0, VersionStatus(version, VersionState.READY))
        return lease

    def lease(self, model: str, version: int | None = None, label: str | None = None) -> FakeLease:
        versions = self.leases.get(model)
        if versions is None:
            raise ModelNotFound(model)
        if label is not None:
            if label not in self.labels.get(model, {}):
                raise LabelNotFound(model, label)
            version = self.labels[model][label]
        if version is None:
            version = max(versions)
        if version not in versions:
            raise VersionNotFound(model, version)
        return versions[version]

    def config_of(self, model: str) -> ModelConfig | None:
        if model not in self.leases:
            return None
        return ModelConfig(name=model, labels=self.labels.get(model, {}))

    def submit(self, lease: FakeLease, request: InferRequest, answer: Answer) -> None:
        self.submitted.append(request)
        if self.refusal is not None:
            answer(self.refusal)
            return
        answer(InferResult(lease.model, lease.version, lease.run(request.inputs), Timing()))

    def status(self, model: str) -> list[VersionStatus]:
        if model not in self.lines:
            raise ModelNotFound(model)
        return self.lines[model]

    def found_instead(self, model: str) -> str:
        assert model in self.lines
        return ""

    def when_changed(self, _: Callable[[], None]) -> None:
        """Nothing ever does."""

    def own_name(self, model: str) -> str:
        return model

    def models(self) -> list[str]:
        return sorted(self.lines)


class KeptReply(Reply):
    """Keeps what is sent."""

    __slots__ = ("sent",)

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol)
        self.sent: list[Response] = []

    def deliver(self, response: Response) -> None:
        self.sent.append(response)


def call(
    protocol: Protocol,
    method: str,
    path: str,
    body: bytes = b"",
    deadline_ns: int = 0,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """What `protocol` answers, as a server would have it answer: routes, then errors in its own shape."""
    reply = KeptReply(protocol)
    assert protocol.owns.fullmatch(path)
    try:
        _route(protocol, Request(method, path, "", headers or {}, body, {}, 1, deadline_ns), reply)
    except FastServeError as error:
        reply.fail(error)
    assert len(reply.sent) == 1
    return reply.sent[0]


def _route(protocol: Protocol, request: Request, reply: Reply) -> None:
    for route in protocol.routes():
        match = route.pattern.fullmatch(request.path)
        if match and route.method == request.method and route.infer:
            request.params = {name: value for name, value in match.groupdict().items() if value is not None}
            route.infer(request, reply)
            return
    raise protocol.unmatched(request.method, request.path)
