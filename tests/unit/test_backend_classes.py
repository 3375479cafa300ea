"""What the classes are called: read from metadata in every spelling that exporters use, else from the nodes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fastserve.backends.classes import name_classes
from fastserve.backends.graph import read_graph
from fastserve.types import decode_classes
from tests.support import models

ML = "ai.onnx.ml"


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"classes": '["cat", "dog"]'}, ("cat", "dog")),
        ({"classes": "cat,dog"}, ("cat", "dog")),
        ({"labels": "cat\ndog\n"}, ("cat", "dog")),
        ({"class_names": "['cat', 'dog']"}, ("cat", "dog")),
        ({"names": "{0: 'cat', 1: 'dog'}"}, ("cat", "dog")),
        ({"names": '{"1": "dog", "0": "cat"}'}, ("cat", "dog")),
        ({"classes": "[3, 7]"}, ("3", "7")),
        ({"classes": "(True, 1.5)"}, ("True", "1.5")),
        ({"classes": "{0: 'cat', 2: 'dog'}"}, ()),
        ({"classes": "{'cat': 0}"}, ()),
        ({"classes": "[1, 2"}, ()),
        ({"classes": "[__import__('os')]"}, ()),
        ({"classes": "[" * 5000}, ()),
        ({"classes": "a," * 200_000}, ()),
        ({"classes": ""}, ()),
        ({"classes": "", "names": "['cat', 'dog']"}, ("cat", "dog")),
        ({"author": "somebody"}, ()),
    ],
)
def test_metadata_names_classes_in_many_spellings(metadata: dict[str, str], names: tuple[str, ...]) -> None:
    name_classes(metadata, [])
    assert decode_classes(metadata) == names


@pytest.mark.parametrize(
    ("told", "names"),
    [('["x", "y"]', ("x", "y")), ('["x", "y", "z"]', ("0", "1")), ("what the classes are", ("0", "1"))],
)
def test_what_metadata_says_counts_if_it_is_of_as_many_classes(told: str, names: tuple[str, ...]) -> None:
    metadata = {"classes": told}
    name_classes(metadata, [0, 1])
    assert decode_classes(metadata) == names


def picked(values: np.ndarray, op: str = "ArrayFeatureExtractor", constant: bool = False) -> onnx.ModelProto:
    """The best of three scores, and its label picked out of `values`."""
    domain = ML if op == "ArrayFeatureExtractor" else ""
    names = numpy_helper.from_array(values, "names")
    nodes = [helper.make_node("Constant", [], ["names"], value=names)] if constant else []
    nodes += [
        models.node("ArgMax", "x", "best", axis=1, keepdims=0),
        helper.make_node(op, ["names", "best"], ["picked"], domain=domain),
        models.node("Identity", "picked", "label"),
    ]
    kind = names.data_type
    weights = [] if constant else [names]
    return models.build(nodes, [models.tensor("x", ["N", 3])], [models.tensor("label", ["N"], kind)], weights)


def encoded(**attributes: object) -> onnx.ModelProto:
    nodes = [
        models.node("ArgMax", "x", "best", axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["best"], ["label"], domain=ML, **attributes),
    ]
    return models.build(nodes, [models.tensor("x", ["N", 3])], [models.tensor("label", ["N"], onnx.TensorProto.STRING)])


TEXTS = np.array(["a", "b", "c"], dtype=object)
TRACED = {
    "picked strings": (picked(TEXTS), ("a", "b", "c")),
    "picked strings of a constant": (picked(TEXTS, constant=True), ("a", "b", "c")),
    "gathered integers": (picked(np.array([5, 6, 7]), "Gather"), ("5", "6", "7")),
    "gathered floats are no labels": (picked(np.array([5.0, 6.0, 7.0]), "Gather"), ()),
    "encoded places": (encoded(keys_int64s=[2, 0, 1], values_strings=["c", "a", "b"]), ("a", "b", "c")),
    "no classifier": (models.tiny(), ()),
    "an input handed through": (models.identity(onnx.TensorProto.INT64), ()),
}


@pytest.mark.parametrize("case", TRACED)
def test_labels_are_found_where_the_nodes_choose_them(case: str, tmp_path: Path) -> None:
    model, names = TRACED[case]
    assert decode_classes(read_graph(models.save(model, tmp_path)).metadata) == names


def test_a_long_chain_of_nodes_is_not_followed_for_ever(tmp_path: Path) -> None:
    nodes = [models.node("Identity", f"t{i}", f"t{i + 1}") for i in range(1000)]
    model = models.build(nodes, [models.tensor("t0", ["N"])], [models.tensor("t1000", ["N"])])
    assert decode_classes(read_graph(models.save(model, tmp_path)).metadata) == ()
