"""Traces: of some requests, when what happened to them, as a line of JSON each in the server's log.

Thread: any; what is on is replaced as a whole, so a request sees it before or after a change. Memory: one counter a model.
"""

import logging
from collections.abc import Mapping
from itertools import count
from typing import Any

import msgspec

from fastserve.engine.engine import Engine, Lease
from fastserve.errors import FastServeError
from fastserve.protocols.oip import trace_settings
from fastserve.protocols.oip.schema import DATATYPES
from fastserve.protocols.oip.trace_settings import Sampling
from fastserve.types import Answer, InferRequest, InferResult, Tensor, TensorSpec

_log = logging.getLogger(__name__)


class Sampler:
    """Chooses requests of one model, by each worker for itself."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        # Taking the next number is atomic: none is given twice, whatever threads ask.
        self._next = count(1)

    def takes(self) -> bool:
        """Whether this request is one to be traced."""
        number, rest = divmod(next(self._next), self.sampling.rate)
        return rest == 0 and (self.sampling.count < 0 or number <= self.sampling.count)


class Tracing:
    """The models whose requests are traced. `active`: whether there are any; nothing else costs requests anything."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._clock = engine.clock
        self._samplers: Mapping[str, Sampler] = {}
        self.active = False
        engine.when_changed(self._follow)

    def _follow(self) -> None:
        """Calls may have set something else. On the loading thread, before they are answered."""
        # Where nothing changes for a model, its counts go on.
        known, samplings = self._samplers, self._samplings()
        self._samplers = {
            model: known[model] if model in known and known[model].sampling == sampling else Sampler(sampling)
            for model, sampling in samplings.items()
        }
        self.active = bool(samplings)

    def _samplings(self) -> dict[str, Sampling]:
        """What is to be traced, by model."""
        engine = self._engine
        changed = engine.settings(trace_settings.AREA)
        found: dict[str, Sampling] = {}
        for model in engine.models():
            own = engine.settings(trace_settings.area(model))
            sampling = trace_settings.sampling(trace_settings.shown(changed, own)) if changed or own else None
            if sampling is not None:
                found[model] = sampling
        return found

    def traced(self, lease: Lease, request: InferRequest, answer: Answer) -> Answer:
        """`answer`; of a request that is traced, one that writes the trace as well."""
        sampler = self._samplers.get(lease.model)
        if sampler is None or not sampler.takes():
            return answer
        submitted_ns = self._clock()
        inputs = _shapes(request.inputs, lease.signature.inputs) if sampler.sampling.tensors else None
        model, version, specs = lease.model, lease.version, lease.signature.outputs

        def traced(outcome: InferResult | FastServeError) -> None:
            answer(outcome)
            line: dict[str, Any] = {"model_name": model, "model_version": version, "request_id": request.id}
            line["timestamps"] = self._timestamps(request.received_ns or submitted_ns, submitted_ns, outcome)
            if isinstance(outcome, FastServeError):
                line["error"] = outcome.code
            if inputs is not None:
                outputs = {} if isinstance(outcome, FastServeError) else outcome.outputs
                line["tensors"] = [*inputs, *_shapes(outputs, specs)]
            _log.info("trace %s", msgspec.json.encode(line).decode())

        return traced

    def _timestamps(
        self, received_ns: int, submitted_ns: int, outcome: InferResult | FastServeError
    ) -> list[dict[str, Any]]:
        """On the engine's clock, in the words of Triton's traces."""
        told = [("REQUEST_START", received_ns), ("QUEUE_START", submitted_ns)]
        if not isinstance(outcome, FastServeError):
            started_ns = submitted_ns + outcome.timing.queue_ns
            told += [("COMPUTE_START", started_ns), ("COMPUTE_END", started_ns + outcome.timing.run_ns)]
        told.append(("REQUEST_END", self._clock()))
        return [{"name": name, "ns": when_ns} for name, when_ns in told]


def _shapes(tensors: Mapping[str, Tensor], specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    """Names, types and shapes. What is in them is the clients' own, and never logged."""
    return [
        {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": tensors[spec.name].shape}
        for spec in specs
        if spec.name in tensors
    ]
