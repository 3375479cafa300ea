"""Strict models (`non_finite = "error"`): no NaN and no infinity goes in or out, whatever protocol or encoding it comes in.

Thread: any. Costs a look at every number; models that are not strict never come here.
"""

from fastserve.engine.validate import Validator
from fastserve.errors import FastServeError, InvalidTensor, NonFiniteOutput, OutOfMemory
from fastserve.types import Answer, InferRequest, InferResult, Signature, TensorSpec, first_non_finite


class FiniteValidator(Validator):
    """A validator that looks at the numbers too. JSON is refused before, where its text still tells the place."""

    def __init__(self, signature: Signature, batchable: bool, example_row_bytes: int) -> None:
        super().__init__(signature, batchable, example_row_bytes)
        self._floats = floats_of(signature.inputs)

    def rows(self, request: InferRequest) -> int:
        """As the base; raises InvalidTensor for the first number that is none."""
        rows = super().rows(request)
        for spec in self._floats:
            found = first_non_finite(request.inputs[spec.name], spec.dtype)
            if found is not None:
                got = f"{found.text} at {list(found.indices)}"
                raise InvalidTensor(expected=f"finite numbers ({spec.dtype.name})", got=got, path=spec.name)
        return rows


def answer_finite(floats: tuple[TensorSpec, ...], answer: Answer, outcome: InferResult | FastServeError) -> None:
    """Tell `answer` the outcome; a result that holds what is no number, as the error that says so."""
    answer(outcome if isinstance(outcome, FastServeError) else _checked(floats, outcome))


def _checked(floats: tuple[TensorSpec, ...], result: InferResult) -> InferResult | FastServeError:
    try:
        return _first_other(floats, result) or result
    except MemoryError:
        return OutOfMemory()


def _first_other(floats: tuple[TensorSpec, ...], result: InferResult) -> NonFiniteOutput | None:
    for spec in floats:
        tensor = result.outputs.get(spec.name)
        found = None if tensor is None else first_non_finite(tensor, spec.dtype)
        if found is not None:
            return NonFiniteOutput(spec.name, found.indices, found.text)
    return None


def floats_of(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Those that can hold what is no number."""
    return tuple(spec for spec in specs if spec.dtype.is_float)
