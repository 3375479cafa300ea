"""Classify and regress: examples to tensors, and outputs to results, for models that can be asked so.

Thread: any; pure functions. Memory: a plan lives as long as its lease; decoded tensors own their buffers.
"""

from collections.abc import Callable

from msgspec import Struct

from fastserve.errors import InvalidRequest, InvalidTensor
from fastserve.http.message import Headers, Request, Response
from fastserve.protocols.tfserving import results
from fastserve.protocols.tfserving.codec import describe
from fastserve.protocols.tfserving.examples import MissingFeature, read_examples
from fastserve.protocols.tfserving.features import InputPlan, input_plan, make_tensor
from fastserve.types import InferRequest, InferResult, Metadata, Signature, Tensor

CLASSIFY = "classify"
REGRESS = "regress"
"""The two verbs."""

DEPLOYMENTS = "/model-serving/"
"""Paths below it answer `result`, as their document says, and `results`, as the server it was written for does."""

Results = Callable[[dict[str, Tensor], results.ResultPlan, int], bytes]


class ExamplesPlan(Struct, frozen=True, gc=False):
    """What one verb needs of one version, found once. Tuples are in the signature's order."""

    names: tuple[str, ...]
    inputs: tuple[InputPlan, ...]
    takes: str
    """All inputs with types and shapes, for errors."""
    results: results.ResultPlan
    write: Results
    refusal: str
    """Why the model cannot be asked so; mostly empty."""
    headers: Headers
    strict: bool
    """Whether NaN and infinities are refused."""


def make_plan(
    verb: str, signature: Signature, metadata: Metadata, headers: Headers, *, strict: bool = False
) -> ExamplesPlan:
    """The plan of a version with `signature`, whose answers carry `headers`."""
    inputs = tuple(input_plan(spec, strict) for spec in signature.inputs)
    gives = describe(signature.outputs)
    if verb == CLASSIFY:
        plan, write = results.classify_plan(signature, metadata, gives), results.classes_of
    else:
        plan, write = results.regress_plan(signature, gives), results.values_of
    refusals = (plan.refusal, *(one.refusal for one in inputs))
    return ExamplesPlan(
        names=tuple(spec.name for spec in signature.inputs),
        inputs=inputs,
        takes=describe(signature.inputs),
        results=plan,
        write=write,
        refusal=next(filter(None, refusals), ""),
        headers=headers,
        strict=strict,
    )


def decode_examples(request: Request, plan: ExamplesPlan) -> tuple[InferRequest, int]:
    """What the engine is asked, and for how many examples."""
    try:
        examples = read_examples(request.body, plan.names, strict=plan.strict)
        if plan.refusal:
            raise InvalidRequest(plan.refusal)
        size = len(request.body)
        inputs = {one.name: make_tensor(examples, index, one, size) for index, one in enumerate(plan.inputs)}
    except (InvalidTensor, MissingFeature) as error:
        raise InvalidRequest(f"{error}; the model takes {plan.takes}") from error
    return InferRequest(inputs, None, "", request.received_ns, request.deadline_ns), examples.count


def encode_examples(result: InferResult, plan: ExamplesPlan, count: int, path: str) -> Response:
    """The answer to a request at `path`."""
    text = plan.write(result.outputs, plan.results, count)
    if path[: len(DEPLOYMENTS)].lower() == DEPLOYMENTS:
        return Response(200, plan.headers, b'{"result": %s, "results": %s}' % (text, text))
    return Response(200, plan.headers, b'{"results": %s}' % text)
