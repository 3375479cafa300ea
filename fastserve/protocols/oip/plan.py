"""What this protocol needs of one version, worked out once: the plan lives on the lease, with what clients keep repeating.

Thread: any; its dictionaries are only added to, and emptied when they are full.
Memory: bounded by the `MAX_` constants.
"""

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fastserve.config import ModelConfig
from fastserve.engine.lease import Lease
from fastserve.http.message import Headers
from fastserve.protocols.oip.classification import Ranking
from fastserve.protocols.oip.schema import DATATYPES, describe
from fastserve.types import DType, TensorSpec, decode_classes

if TYPE_CHECKING:
    from fastserve.protocols.oip.envelope import Asked
    from fastserve.protocols.oip.template import Template

NAME = "oip"
"""The plan's key on the lease."""

MAX_KEPT = 128
MAX_KEPT_BYTES = 4096
"""Requests' JSON that is longer is parsed each time."""

Key = TypeVar("Key")
Value = TypeVar("Value")

Wish = tuple[str, bool, int]
"""An output that is wanted, whether in binary, and as how many of its best classes; 0: as it is."""

Head = tuple[bytes, Headers]
"""The JSON of an answer without an id whose tensors follow it, and the answer's headers."""

STRING = int(DType.STRING)


class InputPlan(Struct, frozen=True, gc=False):
    """One input: `dtype` is ONNX's number, `item_bytes` 0 for strings. `takes_words`: "NaN" in quotes is a number."""

    name: str
    dtype: int
    datatype: str
    item_bytes: int
    takes_words: bool
    shape: tuple[int, ...] | None


class OutputPlan(Struct, frozen=True, gc=False):
    """One output; `opening` is its JSON up to its shape's first number."""

    name: str
    dtype: int
    opening: bytes


class Form(Struct, frozen=True):
    """How an answer looks: its outputs in their order, and which of them are binary.

    `wanted`: what the engine is asked for, None for all. `numbers_only`: all of it is binary, and none of it strings.
    `heads`: of such answers, by the shapes of their outputs. `rankings`: of each output; empty where all are as they are.
    """

    outputs: tuple[OutputPlan, ...]
    binary: tuple[bool, ...]
    wanted: tuple[str, ...] | None
    numbers_only: bool
    any_binary: bool
    heads: dict[tuple[tuple[int, ...], ...], Head]
    rankings: tuple[Ranking | None, ...] = ()


class InferPlan(Struct, frozen=True):
    """What inference needs of one version. `opening`: of every answer's JSON. `takes`: all inputs, for errors.

    `labels`: names of the classes, as far as they are known. `strict`: NaN and infinities are refused.
    """

    inputs: dict[str, InputPlan]
    outputs: dict[str, OutputPlan]
    batchable: bool
    labels: tuple[str, ...]
    strict: bool
    takes: str
    gives: str
    opening: bytes
    json_headers: Headers
    binary_headers: Headers
    all_json: Form
    all_binary: Form
    forms: dict[tuple[Wish, ...], Form]
    asked: "dict[bytes, Asked]"
    """Requests without an id of their own and all of whose tensors follow the JSON, by that JSON."""
    latest: "list[tuple[str, bytes, Asked]]"
    """The latest of them, with its length as the header says it: mostly the next one's too."""
    templates: "list[Template]"
    """The other requests of late, the newest first."""
    heeds_types: bool = True
    """Whether a request that has content types is another matter: `typed` reads it."""
    always_typed: bool = False
    """Whether all of them have, by the model's configuration."""

    def form(self, wishes: tuple[Wish, ...]) -> Form:
        """The form of these outputs in this order."""
        form = self.forms.get(wishes)
        if form is None:
            outputs = tuple(self.outputs[name] for name, _, _ in wishes)
            form = _form(outputs, tuple(binary for _, binary, _ in wishes), True)
            if any(classes for _, _, classes in wishes):
                form = self._ranked(form, [classes for _, _, classes in wishes])
            keep(self.forms, wishes, form)
        return form

    def _ranked(self, form: Form, wanted: list[int]) -> Form:
        """`form` with those outputs as classes of which some are wanted."""
        pairs = list(zip(form.outputs, wanted, strict=True))
        rankings = [
            Ranking(most, output.dtype, self.labels, self.batchable) if most else None for output, most in pairs
        ]
        outputs = tuple(_output_plan(output.name, DType.STRING) if most else output for output, most in pairs)
        return replace(form, outputs=outputs, rankings=tuple(rankings), numbers_only=False)


def plan_of(lease: Lease) -> InferPlan:
    """The plan of the version that `lease` holds."""
    plan: InferPlan | None = lease.codecs.get(NAME)
    if plan is None:
        plan = lease.codecs[NAME] = _make_plan(lease)
    return plan


def _make_plan(lease: Lease) -> InferPlan:
    """It must not hold the lease, which holds it: the last reference would never go."""
    signature, headers = lease.signature, lease.answer_headers
    outputs = tuple(_output_plan(spec.name, spec.dtype) for spec in signature.outputs)
    every = len(outputs)
    return InferPlan(
        inputs={spec.name: _input_plan(spec, lease.strict) for spec in signature.inputs},
        outputs={output.name: output for output in outputs},
        batchable=lease.batching.batchable,
        labels=decode_classes(lease.metadata),
        strict=lease.strict,
        takes=describe(signature.inputs),
        gives=describe(signature.outputs),
        opening=msgspec.json.encode({"model_name": lease.model, "model_version": str(lease.version)})[:-1],
        json_headers=headers,
        binary_headers=[("content-type", "application/octet-stream"), *headers[1:]],
        all_json=_form(outputs, (False,) * every, False),
        all_binary=_form(outputs, (True,) * every, False),
        forms={},
        asked={},
        latest=[],
        templates=[],
        always_typed=_has_types(lease.config),
    )


def _has_types(config: ModelConfig) -> bool:
    return bool(config.content_type or any(one.content_type for one in config.inputs))


def keep(kept: dict[Key, Value], key: Key, value: Value) -> None:
    """Add to a dictionary that must not grow for ever: what is asked for again comes back soon."""
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[key] = value


def _form(outputs: tuple[OutputPlan, ...], binary: tuple[bool, ...], chosen: bool) -> Form:
    return Form(
        outputs=outputs,
        binary=binary,
        wanted=tuple(output.name for output in outputs) if chosen else None,
        numbers_only=all(binary) and all(output.dtype != STRING for output in outputs),
        any_binary=any(binary),
        heads={},
    )


def _input_plan(spec: TensorSpec, strict: bool) -> InputPlan:
    strings = spec.dtype is DType.STRING
    return InputPlan(
        name=spec.name,
        dtype=int(spec.dtype),
        datatype=DATATYPES[spec.dtype],
        item_bytes=0 if strings else spec.dtype.numpy.itemsize,
        takes_words=spec.dtype.is_float and not strict,
        shape=spec.shape,
    )


def _output_plan(name: str, dtype: DType) -> OutputPlan:
    opening = msgspec.json.encode({"name": name, "datatype": DATATYPES[dtype]})[:-1] + b',"shape":['
    return OutputPlan(name, int(dtype), opening)
