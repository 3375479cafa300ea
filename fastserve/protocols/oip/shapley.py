"""Shapley values of any function over rows of features, by the `shap` library.

Features may be of any type: the library sees codes, equal for equal values, and only ever puts a value of the background in
the place of a row's own; what is asked of the model are the values behind the codes.

Thread: its own, for seconds: see `explain`. Memory: `MAX_CELLS` values at a time.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from msgspec import Struct

from fastserve.errors import FastServeError, InvalidRequest
from fastserve.protocols.oip.errors import NotOffered
from fastserve.types import Tensor

MAX_CELLS = 1 << 24
"""Rows x features that one explained row may take (128 MB in the library's own numbers)."""

MISSING = "explain needs the shap library, which is not installed here: pip install 'fastserve[explain]'"

Table = list[Tensor]
"""A column of values for each feature."""

Ask = Callable[[Table], Tensor]
"""The numbers that the model answers, [rows, numbers], to rows of a table."""


class Contributions(Struct, frozen=True):
    """`values`: [rows, features, numbers]. `base`: [numbers], what the background is answered on average."""

    values: Tensor
    base: Tensor


def contributions(rows: Table, background: Table, ask: Ask, samples: int) -> Contributions:
    """What each feature of each row contributes. `samples`: sets of features tried for a row; 0: as many as usual.

    Raises NotOffered without the library, InvalidRequest for what would take too much, and what `ask` raises.
    """
    explainer_of = _library()
    codes, vocabulary = _coded(rows, background)
    count = len(background[0])
    samples = _samples(samples, len(rows), count)
    failure: list[FastServeError] = []

    def answer(table: Tensor) -> Tensor:
        try:
            return ask([words[column.astype(np.intp)] for words, column in zip(vocabulary, table.T, strict=True)])
        except FastServeError as error:  # the library must not wrap it
            failure.append(error)
            raise

    try:
        explainer = explainer_of(answer, codes[-count:].astype(np.float64))
        found = explainer.shap_values(
            codes[: len(codes) - count].astype(np.float64), nsamples=samples, l1_reg=0, silent=True, gc_collect=False
        )
    except FastServeError:
        raise failure[0] from None
    values = np.asarray(found, np.float64)
    base = np.atleast_1d(np.asarray(explainer.expected_value, np.float64))
    return Contributions(values if values.ndim == 3 else values[..., None], base)


def warm_up() -> None:
    """Have the library at hand, so that no request waits for it; without it, every request is told what to install."""
    row, other = [np.zeros(1), np.zeros(1)], [np.ones(1), np.ones(1)]
    with suppress(NotOffered):
        contributions(row, other, lambda table: table[0][:, None], 0)


def _library() -> Any:
    try:
        from shap import KernelExplainer
    except ImportError:
        raise NotOffered(MISSING) from None
    return KernelExplainer


def _coded(rows: Table, background: Table) -> tuple[Tensor, list[Tensor]]:
    """Codes of the rows and, below them, the background; and of each feature what a code stands for."""
    codes, vocabulary = [], []
    for own, other in zip(rows, background, strict=True):
        words, found = np.unique(np.concatenate([own, other]), return_inverse=True)
        codes.append(found.reshape(-1))
        vocabulary.append(words)
    return np.stack(codes, axis=1), vocabulary


def _samples(asked: int, features: int, background: int) -> int:
    """How many sets of features are tried: all there are, or as many as there is room for, but never too few."""
    every = (1 << features) - 2 if features < 30 else 1 << 30
    # From here on the library tries every feature alone, so that its equations have one solution.
    fewest = math.ceil(2 * features * (math.log(features) + 2))
    wanted = min(max(asked or 2 * features + 2048, fewest), max(every, 2))
    room = MAX_CELLS // max(1, features * background)
    if room < min(wanted, 2 * features):
        raise InvalidRequest(
            f"an explanation of {features} features by {background} rows of background takes too much: send fewer rows as"
            " parameters.background"
        )
    return min(wanted, room)
