"""External data: a plain file inside the model's folder, or refused before anything opens it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from fastserve.backends import ort
from fastserve.backends.base import LoadOptions
from fastserve.backends.external import check_external_data
from fastserve.backends.walk import tensors
from fastserve.errors import LoadFailed
from tests.support import models

SIZE_BYTES = 48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`outside` holds what must not be read, `model` is the model's folder."""
    (tmp_path / "outside").write_bytes(models.external_bytes())
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "./weights.bin", "we ights..bin"])
def test_weights_beside_the_model_are_loaded(folder: Path, location: str) -> None:
    (folder / location).parent.mkdir(exist_ok=True)
    (folder / location).write_bytes(models.external_bytes())
    path = models.save(models.external(location), folder)
    model = ort.OrtBackend().load(path, LoadOptions())
    plain = ort.OrtBackend().load(models.save(models.tiny(), folder, "plain.onnx"), LoadOptions())
    example = plain.example(3)
    assert example is not None
    np.testing.assert_array_equal(
        model.runner().run([example], [3])[0]["y"], plain.runner().run([example], [3])[0]["y"]
    )


def test_weights_of_an_edited_model_are_found(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(models.external_bytes())
    model = models.zipmap()
    model.graph.initializer[0].ClearField("raw_data")
    models.point_at(model.graph.initializer[0], "weights.bin", SIZE_BYTES)
    loaded = ort.OrtBackend().load(models.save(model, folder), LoadOptions())
    assert loaded.batching.batchable


REFUSED_LOCATIONS = {
    "../outside": "it must not lead out of the model's folder",
    "sub/../../outside": "it must not lead out of the model's folder",
    "sub/../weights.bin": "it must not lead out of the model's folder",
    "..": "it must not lead out of the model's folder",
    "/etc/passwd": "it must be relative to the model's folder",
    "~/weights.bin": "it must be relative to the model's folder",
    "C:/weights.bin": "it must be relative to the model's folder",
    "..\\outside": "backslashes are not allowed",
    "*/_ORT_MEM_ADDR_/*": "it is not a file name",
    "weights\n.bin": "it is not a file name",
    "": "no location is given",
    "missing.bin": "No such file or directory",
    "sub": "it is not a regular file",
    ".": "it is not a regular file",
    "weights.bin/x": "Not a directory",
}


@pytest.mark.parametrize("location", REFUSED_LOCATIONS)
def test_other_locations_are_refused(folder: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "weights.bin").write_bytes(models.external_bytes())
    path = models.save(models.external(location), folder)
    monkeypatch.setattr("onnxruntime.InferenceSession", None)  # must not be reached
    with pytest.raises(LoadFailed) as refused:
        ort.OrtBackend().load(path, LoadOptions())
    expected = f'external data of tensor "w" at "{location}" is refused: {REFUSED_LOCATIONS[location]}'
    assert str(refused.value) == expected


def link_out(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("../outside")


def link_folder_out(folder: Path) -> None:
    (folder / "weights.bin").symlink_to(folder.parent, target_is_directory=True)


def hard_link(folder: Path) -> None:
    os.link(folder.parent / "outside", folder / "weights.bin")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "weights.bin")


def device(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("/dev/zero")


def loop(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("weights.bin")


def short(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(SIZE_BYTES - 1))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (link_out, "it leads out of the model's folder"),
        (link_folder_out, "it leads out of the model's folder"),
        (device, "it leads out of the model's folder"),
        (hard_link, "the file has hard links, so it may belong elsewhere; copy it"),
        (fifo, "it is not a regular file"),
        (loop, "it is not a regular file"),
        (short, "bytes 0 to 48 are not in a file of 47 bytes"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("length_bytes", [SIZE_BYTES, None])
def test_files_that_are_not_the_models_own_are_refused(
    folder: Path, make: Callable[[Path], None], reason: str, length_bytes: int | None
) -> None:
    make(folder)
    with pytest.raises(LoadFailed) as refused:
        check_external_data(models.external("weights.bin", length_bytes), folder)
    assert str(refused.value).endswith(f"is refused: {reason}")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("offset", "-1", "bytes -1 to 47 are not in a file of 48 bytes"),
        ("offset", "1", "bytes 1 to 49 are not in a file of 48 bytes"),
        ("length", "-48", "bytes 0 to -48 are not in a file of 48 bytes"),
        ("offset", "0x10", "offset and length must be whole numbers"),
        ("length", str(2**70), f"bytes 0 to {2**70} are not in a file of 48 bytes"),
    ],
)
def test_ranges_outside_the_file_are_refused(folder: Path, key: str, value: str, reason: str) -> None:
    (folder / "weights.bin").write_bytes(models.external_bytes())
    model = models.external("weights.bin")
    next(entry for entry in model.graph.initializer[0].external_data if entry.key == key).value = value
    with pytest.raises(LoadFailed) as refused:
        check_external_data(model, folder)
    assert str(refused.value).endswith(f"is refused: {reason}")


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(models.external_bytes())
    model = models.external("weights.bin")
    model.graph.initializer[0].external_data.add(key="location", value="../outside")
    with pytest.raises(LoadFailed, match="a key is given twice"):
        check_external_data(model, folder)


def test_a_model_that_is_a_link_itself_keeps_its_data_beside_the_link(folder: Path) -> None:
    real = folder / "real"
    real.mkdir()
    (real / "weights.bin").write_bytes(models.external_bytes())
    models.save(models.external("weights.bin"), real)
    for name in ("model.onnx", "weights.bin"):
        (folder / name).symlink_to(real / name)
    assert ort.OrtBackend().load(folder / "model.onnx", LoadOptions()).batching.batchable


def external_tensor(name: str) -> onnx.TensorProto:
    tensor = models.weight(name, np.zeros(3, dtype=np.float32))
    tensor.ClearField("raw_data")
    models.point_at(tensor, "../outside", 12)
    return tensor


def hidden_places() -> dict[str, onnx.ModelProto]:
    """Every place in a model that can hold a tensor, with one that leads out."""
    places: dict[str, onnx.ModelProto] = {}

    def model(place: str, *nodes: onnx.NodeProto) -> onnx.ModelProto:
        places[place] = models.build(nodes, [models.tensor("x", [1])], [models.tensor("y", [1])])
        return places[place]

    bad = external_tensor("bad")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=bad)], "inner", [], [models.tensor("c", [3])]
    )
    model("attribute", helper.make_node("Constant", [], ["y"], value=bad))
    model("tensors", helper.make_node("Custom", [], ["y"], many=[bad]))
    sparse = helper.make_sparse_tensor(bad, models.weight("i", np.array([0, 1, 2])), [9])
    model("sparse attribute", helper.make_node("Constant", [], ["y"], sparse_value=sparse))
    model("sparse initializer").graph.sparse_initializer.append(sparse)
    model("subgraph", helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    outer = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "outer", [], [])
    model("subgraph of a subgraph", helper.make_node("If", ["x"], ["y"], then_branch=outer))
    model("subgraphs", helper.make_node("Custom", ["x"], ["y"], bodies=[inner]))
    function = helper.make_function("own", "f", [], ["c"], list(inner.node), [helper.make_opsetid("", 17)])
    model("function").functions.append(function)
    default = helper.make_function("own", "g", [], [], [], [helper.make_opsetid("", 17)])
    default.attribute_proto.append(helper.make_attribute("value", bad))
    model("default of a function").functions.append(default)
    training = onnx.TrainingInfoProto(algorithm=inner)
    model("training").training_info.append(training)
    return places


@pytest.mark.parametrize("place", hidden_places())
def test_no_tensor_is_overlooked(place: str, folder: Path) -> None:
    model = hidden_places()[place]
    assert any(tensor.name == "bad" for tensor in tensors(model))
    with pytest.raises(LoadFailed, match=r'external data of tensor "bad" at "\.\./outside" is refused'):
        check_external_data(model, folder)


@pytest.mark.parametrize("location", ["w.data", "./w.data", "sub/w.data"])
def test_what_happens_to_the_files_later_does_not_reach_what_serves(folder: Path, location: str) -> None:
    ones = np.ones(1 << 16, dtype=np.float32)
    model = models.build(
        [models.node("Add", "x w", "y")],
        [models.tensor("x", ["N", 1 << 16])],
        [models.tensor("y", ["N", 1 << 16])],
        [models.weight("w", ones)],
    )
    file = folder / location
    file.parent.mkdir(exist_ok=True)
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location=location, size_threshold=0)
    runner = ort.OrtBackend().load(folder / "model.onnx", LoadOptions()).runner()
    with file.open("r+b") as writer:
        writer.write((7 * ones).tobytes())
        writer.flush()
        assert runner.run([{"x": ones[None]}], [1])[0]["y"].max() == 2
        # Mapped memory beyond a file's end is death.
        writer.truncate(0)
        assert runner.run([{"x": ones[None]}], [1])[0]["y"].max() == 2
