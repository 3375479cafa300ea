"""A served version, as its users hold it.

The reference is the lease: whoever holds one keeps the version alive, from lookup until the answer is encoded; when the
last one is let go, the version's session is closed on a thread of its own. No count to keep, none to get wrong.
"""

from typing import Any

from fastserve.config import ModelConfig
from fastserve.engine.batcher import Batcher
from fastserve.engine.block import Blocks
from fastserve.engine.finite import floats_of
from fastserve.engine.meters import ModelMeters
from fastserve.engine.queue_rules import QueueRules
from fastserve.engine.recording import Recording
from fastserve.engine.validate import Validator
from fastserve.types import Batching, Metadata, Signature


class Lease:
    """Everything about one version that protocols and engine look up per request, laid out once at load.

    `strict`: NaN and infinities are refused. `rules`: what the configuration says of requests' places in the queue; None for
    nothing. `gate`: who is let in, asked before a body is read; None for everybody. `blocks`: many plain requests at a time,
    where the version takes them so. `codecs`: what a protocol has worked out for this version, by the protocol's name.

    `config`: what it was loaded with. `slots`: runs at a time, short ones not counted. `file_bytes`: of the model's files,
    what each process holds of it at least. `strict`: whether NaN and infinities are refused (`non_finite = "error"`).
    `rules`: what the configuration says of requests' places in the queue, None for nothing. `recording`: what keeps its
    predictions, None where nothing does.
    """

    __slots__ = (
        "__weakref__",
        "answer_headers",
        "batcher",
        "batching",
        "blocks",
        "codecs",
        "config",
        "file_bytes",
        "finite_outputs",
        "gate",
        "input_dtypes",
        "input_names",
        "metadata",
        "meters",
        "model",
        "output_dtypes",
        "output_names",
        "recording",
        "rules",
        "signature",
        "slots",
        "strict",
        "subject",
        "validator",
        "version",
    )

    def __init__(
        self,
        *,
        model: str,
        version: int,
        signature: Signature,
        batching: Batching,
        metadata: Metadata,
        batcher: Batcher,
        validator: Validator,
        meters: ModelMeters,
        config: ModelConfig,
        slots: int,
        rules: QueueRules | None = None,
        file_bytes: int = 0,
        blocks: Blocks | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self.signature = signature
        self.batching = batching
        self.metadata = metadata
        self.batcher, self.gate = batcher, batcher.gate
        self.validator = validator
        self.meters = meters
        self.config = config
        self.slots = slots
        self.strict = config.non_finite == "error"
        self.rules = rules
        self.file_bytes = file_bytes
        self.blocks = blocks
        self.finite_outputs = floats_of(signature.outputs)
        self.input_names = tuple(spec.name for spec in signature.inputs)
        self.input_dtypes = tuple(int(spec.dtype) for spec in signature.inputs)
        self.output_names = tuple(spec.name for spec in signature.outputs)
        self.output_dtypes = tuple(int(spec.dtype) for spec in signature.outputs)
        self.answer_headers = [("content-type", "application/json"), ("x-model-version", str(version))]
        self.subject = (model, str(version))
        self.recording: Recording | None = None
        self.codecs: dict[str, Any] = {}
