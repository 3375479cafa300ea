"""Whether rows of different requests may share a run: found from the signature, proven by running the model.

Never assumed: recurrent state with its batch on another axis, scalar parameters, outputs that do not follow the batch,
fixed first axes and rows that influence each other (cumulative sums, scales taken over the batch) all look harmless.
Thread: any, away from serving. Memory: holds the example inputs and their outputs while it runs.
"""

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from fastserve.backends.examples import candidates
from fastserve.errors import FastServeError
from fastserve.types import Batching, DType, Signature, Tensor, TensorSpec

Run = Callable[[dict[str, Tensor]], Sequence[Tensor]]
"""Runs the model once: inputs by name to outputs in the signature's order; raises a FastServeError where it fails."""

ROWS = 3
_WITNESSES = 2
# Inputs of another shape tried beyond that: rows may be independent at one width only.
_OTHER_ATTEMPTS = 10
_ORDERS = ([0, 1, 2], [2, 0])
# (rtol, atol): the order of sums may change with the number of rows, and with it the last bits.
_TOLERANCE = {
    DType.FLOAT: (1e-4, 1e-5),
    DType.DOUBLE: (1e-4, 1e-5),
    DType.FLOAT16: (1e-2, 1e-2),
    DType.BFLOAT16: (3e-2, 3e-2),
}


class Findings(Struct, frozen=True):
    """What the probe found out.

    `example`: inputs that ran (with ROWS rows if batchable), None if none was found. `signature`: the one given, with
    those output dimensions freed that did not come out as declared.
    """

    batching: Batching
    signature: Signature
    example: dict[str, Tensor] | None


class _Trial(Struct, frozen=True):
    """Inputs that ran, and their outputs."""

    inputs: dict[str, Tensor]
    outputs: Sequence[Tensor]


def probe(signature: Signature, run: Run, sizes: tuple[int, ...] = ()) -> Findings:
    """Find inputs that run, and prove or disprove that rows are independent. `sizes`: likely free dimensions."""
    reason = fixed_reason(signature)
    if not reason:
        trials, failure = _try(signature, run, True, sizes)
        if trials:
            return _findings(signature, _disproof(signature, run, trials), trials)
        reason = f"the probe run failed: {failure}"
    trials, failure = _try(signature, run, False, sizes)
    if trials:
        return _findings(signature, reason, trials)
    if not reason.startswith("the probe run"):
        reason += f"; the probe run failed: {failure}"
    return Findings(batching=Batching(batchable=False, reason=reason), signature=signature, example=None)


def _try(signature: Signature, run: Run, batched: bool, sizes: tuple[int, ...]) -> tuple[list[_Trial], str]:
    """Inputs that run, and why the very first did not: two of one shape, and where there is one, one of another."""
    trials: list[_Trial] = []
    failures: list[str] = []
    attempts_left = _OTHER_ATTEMPTS
    for inputs in candidates(signature, batched, ROWS, sizes):
        enough = len(trials) >= _WITNESSES
        if enough and (attempts_left == 0 or len(trials) > _WITNESSES):
            break
        if enough and _shapes(inputs) == _shapes(trials[0].inputs):
            continue
        attempts_left -= enough
        try:
            trials.append(_Trial(inputs=inputs, outputs=run(inputs)))
        except FastServeError as error:
            failures.append(str(error))
    return trials, failures[0] if failures else ""


def _shapes(inputs: dict[str, Tensor]) -> list[tuple[int, ...]]:
    return [array.shape for array in inputs.values()]


def _findings(signature: Signature, reason: str, trials: list[_Trial]) -> Findings:
    batchable = not reason
    for trial in trials:
        signature = _corrected(signature, trial.outputs, batchable)
    return Findings(
        batching=Batching(batchable=batchable, reason=reason or "rows answer the same alone and together"),
        signature=signature,
        example=trials[0].inputs,
    )


def fixed_reason(signature: Signature) -> str:
    """Why the declared inputs alone rule batching out; empty where they do not."""
    firsts = {spec.dim_names[0] for spec in signature.inputs if spec.dim_names and spec.dim_names[0]}
    for spec in signature.inputs:
        if spec.shape is None:
            return f'the rank of input "{spec.name}" is not declared'
        if not spec.shape:
            return f'input "{spec.name}" is a scalar'
        elsewhere = firsts.intersection(spec.dim_names[1:])
        if elsewhere and spec.dim_names[0] not in elsewhere:
            return f'input "{spec.name}" carries its batch on another axis'
        if elsewhere:
            return f'input "{spec.name}" has as many columns as rows'
        if spec.shape[0] != -1:
            return f'first axis of input "{spec.name}" is fixed at {spec.shape[0]}'
    return ""


def _disproof(signature: Signature, run: Run, trials: list[_Trial]) -> str:
    """Why rows may not share a run; empty where nothing speaks against it."""
    for trial in trials:
        strayed = _strayed(signature, trial.outputs, ROWS)
        if strayed:
            return strayed
    witnesses = [trial for trial in trials if _differ(trial.inputs)]
    if not witnesses:
        return "no inputs were found that differ from row to row"
    return next(filter(None, (_objection(signature, run, trial) for trial in witnesses)), "")


def _differ(inputs: dict[str, Tensor]) -> bool:
    return any(not np.array_equal(array[:1].repeat(ROWS, axis=0), array) for array in inputs.values())


def _objection(signature: Signature, run: Run, trial: _Trial) -> str:
    """What this trial's rows, alone and in other company, have to say against it."""
    try:
        alone = [run(_rows(trial.inputs, [row])) for row in range(ROWS)]
        again = run(_rows(trial.inputs, [0]))
        together = [(order, run(_rows(trial.inputs, order))) for order in _ORDERS]
    except FastServeError as error:
        return f"the probe run failed: {error}"
    if not _same(signature, alone[0], again):
        return "the same input is answered differently from run to run"
    mixed = (_influence(signature, alone, order, outputs) for order, outputs in together)
    return next(filter(None, mixed), "")


def _strayed(signature: Signature, outputs: Sequence[Tensor], rows: int) -> str:
    """Names the first output whose first axis is not the batch."""
    for spec, output in zip(signature.outputs, outputs, strict=True):
        if output.ndim == 0 or len(output) != rows:
            return f'output "{spec.name}" does not follow the batch'
    return ""


def _influence(signature: Signature, alone: list[Sequence[Tensor]], order: list[int], outputs: Sequence[Tensor]) -> str:
    """Compare the rows of one run with the same rows alone."""
    strayed = _strayed(signature, outputs, len(order))
    if strayed:
        return strayed
    for place, row in enumerate(order):
        if not _same(signature, alone[row], [output[place : place + 1] for output in outputs]):
            return "rows influence each other"
    return ""


def _rows(inputs: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    return {name: np.ascontiguousarray(array[order]) for name, array in inputs.items()}


def _same(signature: Signature, left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    return all(_close(spec.dtype, a, b) for spec, a, b in zip(signature.outputs, left, right, strict=True))


def _close(dtype: DType, left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return False
    tolerance = _TOLERANCE.get(dtype)
    if tolerance is None:
        return bool(np.array_equal(left, right))
    if dtype is DType.BFLOAT16:
        left, right = _widened(left), _widened(right)
    rtol, atol = tolerance
    # What cancels out to nearly nothing carries the error of what it is the difference of.
    scale = max(1.0, 0.1 * float(np.max(np.abs(left), initial=0.0, where=np.isfinite(left))))
    return bool(np.allclose(left, right, rtol=rtol, atol=atol * scale, equal_nan=True))


def _widened(bits: Tensor) -> Tensor:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _corrected(signature: Signature, outputs: Sequence[Tensor], batchable: bool) -> Signature:
    """The signature with declared output dimensions freed where the run disagrees: exporters write them wrong."""
    specs = tuple(
        _corrected_spec(spec, output.shape, batchable) for spec, output in zip(signature.outputs, outputs, strict=True)
    )
    return Signature(inputs=signature.inputs, outputs=specs)


def _corrected_spec(spec: TensorSpec, actual: tuple[int, ...], batchable: bool) -> TensorSpec:
    if spec.shape is None or len(spec.shape) != len(actual):
        return TensorSpec(name=spec.name, dtype=spec.dtype, shape=None)
    shape = tuple(
        dim if dim == size and not (batchable and axis == 0) else -1
        for axis, (dim, size) in enumerate(zip(spec.shape, actual, strict=True))
    )
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=shape, dim_names=spec.dim_names)
