"""Requests that come together to one path, right ones and anything else, through its lane: nobody gets what is another's."""

import atexit
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from fastserve.engine.engine import Engine
from tests.support import models
from tests.support.lanes import INFER, LONG_NS, PREDICT, SHORT_NS, Pair, Sent
from tests.support.shelf import Shelf


def _predict(at: int) -> Sent:
    return json.dumps({"instances": [[at, at, 0.5]] * (at % 3 + 1)}).encode(), {}


def _infer(at: int) -> Sent:
    entry = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [at, 1e9, at]}
    return json.dumps({"inputs": [entry]}).encode(), {}


def _infer_binary(at: int) -> Sent:
    entry = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    text = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return text + np.array([at, at, at], np.float32).tobytes(), {"inference-header-content-length": str(len(text))}


MARK = b"\n--\n"
MAX_BODIES = 8
LANE_FORMS: Mapping[str, tuple[str, Callable[[int], Sent]]] = {
    "predict": (PREDICT, _predict),
    "infer": (INFER, _infer),
    "binary": (INFER, _infer_binary),
}


def lanes(data: bytes) -> None:
    """A form, how long runs take, and the bodies of requests that come together: each gets what it would get alone.

    Between two marks, the body of one request; where nothing is, one that is right, with numbers of its own.
    """
    form = list(LANE_FORMS)[data[0] % len(LANE_FORMS)] if data else "predict"
    run_ns = LONG_NS if data[1:2] == b"w" else SHORT_NS
    rest = data[2:]
    path, right = LANE_FORMS[form]
    bodies = rest.split(MARK)[:MAX_BODIES]
    sent = [(body, {**right(0)[1]}) if body else right(at + 1) for at, body in enumerate(bodies)]
    pair = _pair(form, run_ns)
    if not pair.rides(path):
        pair.both(path, [right(0)])
    assert pair.rides(path)
    pair.both(path, [one for one in sent if one[0]])


@cache
def _pair(form: str, run_ns: int) -> Pair:
    """Doors of their own: a path has the lane of the form that was asked first."""
    return Pair(_engine(run_ns), run_ns)


@cache
def _engine(run_ns: int) -> Engine:
    """With a model whose rows come out the same, to the bit, whatever they are run with."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-lanes-")
    shelf = Shelf(Path(folder.name))
    shelf.put(
        "m",
        models.build(
            [models.node("Mul", "x three", "y")],
            [models.tensor("x", ["N", 3])],
            [models.tensor("y", ["N", 3])],
            [models.weight("three", np.array([3], np.float32))],
        ),
    )
    opened = shelf.engine()
    engine = opened.__enter__()
    atexit.register(folder.cleanup)
    atexit.register(opened.__exit__, None, None, None)
    return engine
