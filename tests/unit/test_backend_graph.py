"""What is read from a graph, and what is refused with a reason to act on."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from fastserve.backends.graph import Graph, read_graph
from fastserve.errors import LoadFailed
from fastserve.types import DType
from tests.support import models


def read(model: onnx.ModelProto, folder: Path) -> Graph:
    return read_graph(models.save(model, folder))


@pytest.mark.parametrize(
    ("dims", "shape", "names"),
    [
        ([], (), ()),
        (None, None, ()),
        ([2, 3], (2, 3), ()),
        (["N", 3], (-1, 3), ("N", "")),
        ([None, "T", 3], (-1, -1, 3), ("", "T", "")),
        ([-1, 3], (-1, 3), ()),
        ([0, 3], (0, 3), ()),
    ],
)
def test_shapes(dims: models.Dims, shape: tuple[int, ...] | None, names: tuple[str, ...], tmp_path: Path) -> None:
    (spec,) = read(models.identity(T.FLOAT, dims), tmp_path).signature.inputs
    assert (spec.shape, spec.dim_names) == (shape, names)


@pytest.mark.parametrize("dtype", list(DType))
def test_element_types(dtype: DType, tmp_path: Path) -> None:
    signature = read(models.identity(dtype), tmp_path).signature
    assert [spec.dtype for spec in (*signature.inputs, *signature.outputs)] == [dtype, dtype]


def test_inputs_with_a_value_of_their_own_are_not_asked_for(tmp_path: Path) -> None:
    model = models.tiny()
    model.graph.input.extend([models.tensor("w", [4, 3]), models.tensor("b", [3])])
    assert [spec.name for spec in read(model, tmp_path).signature.inputs] == ["x"]


def test_sizes_are_those_of_the_weights_in_use(tmp_path: Path) -> None:
    assert read(models.mlp(), tmp_path).sizes == (784, 128, 10)


def test_a_graph_that_needs_no_change_is_not_changed(tmp_path: Path) -> None:
    assert read(models.tiny(), tmp_path).edited is None


def output_of(kind: onnx.TypeProto) -> onnx.ModelProto:
    model = models.tiny()
    model.graph.output[0].type.CopyFrom(kind)
    return model


FLOATS = helper.make_tensor_type_proto(T.FLOAT, None)
CAST = "which cannot be served; cast it in the graph"
NO_INPUTS = models.build([models.node("Constant", "", "y", value_float=1.0)], [], [models.tensor("y", [])])
NO_OUTPUTS = models.build([models.node("Neg", "x", "y")], [models.tensor("x", [1])], [])
REFUSED = {
    "complex": (models.identity(T.COMPLEX64), f'input "x" has element type COMPLEX64, {CAST}'),
    "float8": (models.identity(T.FLOAT8E4M3FN), f'input "x" has element type FLOAT8E4M3FN, {CAST}'),
    "number 99": (models.identity(99), f'input "x" has element type 99, {CAST}'),
    "sequence": (
        output_of(helper.make_sequence_type_proto(FLOATS)),
        'output "y" is a sequence, not a tensor; export it as one tensor (a classifier\'s probabilities: zipmap=False)',
    ),
    "map": (
        output_of(helper.make_map_type_proto(T.INT64, FLOATS)),
        'output "y" is a map, not a tensor; export it as tensors of keys and of values',
    ),
    "optional": (
        output_of(helper.make_optional_type_proto(FLOATS)),
        'output "y" is optional; export the model with it always there',
    ),
    "sparse": (
        output_of(helper.make_sparse_tensor_type_proto(T.FLOAT, [1])),
        'output "y" is sparse; export it as a dense tensor',
    ),
    "untyped": (output_of(onnx.TypeProto()), 'output "y" has no type; export the model with typed inputs and outputs'),
    "no inputs": (NO_INPUTS, "the graph has no inputs"),
    "no outputs": (NO_OUTPUTS, "the graph has no outputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_says_what_to_do(case: str, tmp_path: Path) -> None:
    model, reason = REFUSED[case]
    with pytest.raises(LoadFailed) as refused:
        read(model, tmp_path)
    assert str(refused.value) == reason


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"\xff" * 100])
def test_files_of_another_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(LoadFailed, match=r"^model\.onnx is not an ONNX file"):
        read_graph(path)


@pytest.mark.parametrize(
    ("name", "reason"), [("gone.onnx", "No such file or directory"), ("folder.onnx", "Is a directory")]
)
def test_files_that_cannot_be_read(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(LoadFailed, match=f"^{name}: {reason}$"):
        read_graph(tmp_path / name)


def test_a_file_beyond_what_the_format_holds(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(LoadFailed, match=r"^model\.onnx is larger than 2 GiB; save its weights as external data$"):
        read_graph(tmp_path / "model.onnx")


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = models.save(models.mlp(), tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LoadFailed, match=r"^model\.onnx is not an ONNX file"):
        read_graph(path)


@pytest.mark.parametrize(("int_labels", "classes"), [(False, '["red","green","blue"]'), (True, "[0,1,2]")])
def test_zipmaps_are_dropped(int_labels: bool, classes: str, tmp_path: Path) -> None:
    graph = read(models.zipmap(int_labels), tmp_path)
    assert graph.metadata["classes"] == classes
    assert graph.edited is not None
    edited = onnx.load_model_from_string(graph.edited)
    assert [node.op_type for node in edited.graph.node] == ["Gemm", "Softmax", "ArgMax", "Identity"]
    assert graph.signature.outputs[1].shape == (-1, 3)


def test_a_zipmap_without_labels_is_refused(tmp_path: Path) -> None:
    model = models.zipmap()
    del model.graph.node[-1].attribute[:]
    with pytest.raises(LoadFailed, match="a ZipMap has no class labels"):
        read(model, tmp_path)


def test_a_zipmap_inside_the_graph_is_left_alone(tmp_path: Path) -> None:
    model = models.zipmap()
    del model.graph.output[1]
    assert read(model, tmp_path).edited is None


LINEAR: dict[str, Any] = {"coefficients": [0.5] * 12, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}
WIDTHS = {
    "linear classifier": (models.classical("LinearClassifier", **LINEAR), 4),
    "linear classifier without intercepts": (
        models.classical("LinearClassifier", coefficients=[0.5] * 10, classlabels_ints=[0, 1]),
        5,
    ),
    "linear regressor": (models.classical("LinearRegressor", coefficients=[0.5] * 7), 7),
    "linear regressor of two": (models.classical("LinearRegressor", coefficients=[0.5] * 8, targets=2), 4),
    "scaler": (models.classical("Scaler", offset=[0.0] * 6, scale=[1.0] * 6), 6),
    "scaler of all alike": (models.classical("Scaler", offset=[0.0], scale=[1.0]), -1),
    "svm classifier": (models.classical("SVMClassifier", support_vectors=[0.5] * 15, vectors_per_class=[2, 3]), 3),
    "svm regressor": (models.classical("SVMRegressor", support_vectors=[0.5] * 12, n_supports=6), 2),
    "behind what passes columns on": (
        models.classical("LinearClassifier", passing=["Normalizer", "Scaler", "Cast"], **LINEAR),
        4,
    ),
    "behind what may not": (models.classical("LinearClassifier", passing=["ArrayFeatureExtractor"], **LINEAR), -1),
    "a width that is declared": (models.classical("LinearClassifier", ["N", 3], **LINEAR), 3),
    "numbers that make no rows": (models.classical("LinearRegressor", coefficients=[0.5] * 7, targets=2), -1),
}


@pytest.mark.parametrize("case", WIDTHS)
def test_a_free_width_is_fixed_by_what_uses_it(case: str, tmp_path: Path) -> None:
    model, width = WIDTHS[case]
    (spec,) = read(model, tmp_path).signature.inputs
    assert spec.shape == (-1, width)


@pytest.mark.parametrize("dims", [["N"], ["N", "T", None], None])
def test_only_tables_have_a_width(dims: models.Dims, tmp_path: Path) -> None:
    shape = read(models.classical("LinearClassifier", dims, **LINEAR), tmp_path).signature.inputs[0].shape
    assert shape == (None if dims is None else (-1,) * len(dims))


def test_trees_say_how_wide_their_input_is_at_least(tmp_path: Path) -> None:
    trees = models.classical("TreeEnsembleRegressor", nodes_featureids=[0, 29, 4])
    assert read(trees, tmp_path).sizes == (30,)


@pytest.mark.parametrize("attributes", [{}, {"locale": "en_US.UTF-8"}, {"locale": "en_US"}, {"locale": ""}])
def test_text_is_folded_without_an_american_locale(attributes: dict[str, str], tmp_path: Path) -> None:
    edited = read(models.case_folder(**attributes), tmp_path).edited
    assert edited is not None
    named = {attribute.name: attribute.s for attribute in onnx.load_model_from_string(edited).graph.node[0].attribute}
    assert named == {"case_change_action": b"UPPER", "locale": b"C.UTF-8"}


def test_another_locale_is_left_alone(tmp_path: Path) -> None:
    assert read(models.case_folder(locale="tr_TR.UTF-8"), tmp_path).edited is None


def test_names_that_are_not_utf_8_are_told(tmp_path: Path) -> None:
    data = models.tiny().SerializeToString()
    for name, reason in ((b"x", "not UTF-8"), (b"y", "not UTF-8")):
        (tmp_path / "model.onnx").write_bytes(data.replace(b"\n\x01" + name, b"\n\x01\xff"))
        with pytest.raises(LoadFailed, match=reason):
            read_graph(tmp_path / "model.onnx")
    model = models.external("weights.bin")
    model.graph.initializer[0].external_data[0].value = "location"
    data = model.SerializeToString().replace(b"location", b"\xff" * 8)
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(LoadFailed):
        read_graph(tmp_path / "model.onnx")
