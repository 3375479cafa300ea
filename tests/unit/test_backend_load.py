"""Loading ONNX models: what is corrected, what is refused and why, and that nothing stays behind."""

import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from fastserve.backends.base import LoadOptions
from fastserve.backends.examples import WIDE, fill
from fastserve.backends.ort import OrtBackend
from fastserve.errors import LoadFailed
from fastserve.types import DType, Tensor
from tests.support import models
from tests.support.zoo import assert_same, load, loaded, rows_of, runner


def test_what_was_declared_wrongly_is_corrected() -> None:
    (spec,) = loaded("wrongly_declared").signature.outputs
    assert spec.shape == (-1, 3)


def test_a_zipmap_is_served_as_the_tensor_below_it() -> None:
    model = loaded("zipmap")
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.signature.outputs] == [
        ("label", DType.INT64, (-1,)),
        ("probabilities", DType.FLOAT, (-1, 3)),
    ]
    assert model.metadata["classes"] == '["red","green","blue"]'
    x = fill(model.signature, ((4, 4),), WIDE)["x"]
    (answer,) = model.runner().run([{"x": x}], [4])
    (plain,) = loaded("tiny").runner().run([{"x": x}], [4])
    np.testing.assert_allclose(answer["probabilities"], plain["y"], rtol=1e-5)
    np.testing.assert_array_equal(answer["label"], plain["y"].argmax(axis=1))


def test_text_is_folded_where_no_american_locale_is_installed(tmp_path: Path) -> None:
    model = load(models.case_folder(), tmp_path)
    (answer,) = model.runner().run([{"text": np.array(["été", "žluť"], dtype=object)}], [2])
    assert answer["upper"].tolist() == ["ÉTÉ", "ŽLUŤ"]


def test_the_files_own_metadata_is_kept(tmp_path: Path) -> None:
    model = models.tiny()
    onnx.helper.set_model_props(model, {"author": "me", "classes": "[1]"})
    assert load(model, tmp_path).metadata == {"author": "me", "classes": "[1]"}


def test_an_unknown_provider_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = models.save(models.tiny(), tmp_path)
    with pytest.raises(LoadFailed, match=r"execution provider NoSuchProvider is not there; available: .*CPUExecution"):
        OrtBackend().load(path, LoadOptions(providers=("NoSuchProvider",)))


def test_a_graph_that_onnxruntime_refuses_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = models.save(
        models.build([models.node("NoSuchOp", "x", "y")], [models.tensor("x", [1])], [models.tensor("y", [1])]),
        tmp_path,
    )
    with pytest.raises(LoadFailed, match=r"^model.onnx: onnxruntime does not load it: .*NoSuchOp") as failed:
        OrtBackend().load(path, LoadOptions())
    assert str(tmp_path) not in str(failed.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_no_input_was_found_for_is_served_unbatched(tmp_path: Path) -> None:
    picky = models.build(
        [models.node("Reshape", "x shape", "y")],
        [models.tensor("x", ["N", None])],
        [models.tensor("y", [None, 977])],
        [models.weight("shape", np.array([-1, 977]))],
    )
    model = load(picky, tmp_path)
    assert model.example(1) is None
    assert not model.batching.batchable
    assert model.batching.reason.startswith("the probe run failed: the model refused this input: Reshape: ")
    (answer,) = model.runner().run([{"x": np.ones((1, 977), dtype=np.float32)}], [1])
    assert answer["y"].shape == (1, 977)


def test_a_closed_model_makes_no_runner_and_lets_those_there_finish(tmp_path: Path) -> None:
    model = load(models.tiny(), tmp_path)
    left = model.runner()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.runner()
    assert left.run([rows_of("tiny", 2, 0)], [2])[0]["y"].shape == (2, 3)


def test_the_session_goes_with_the_last_runner(tmp_path: Path) -> None:
    model = load(models.tiny(), tmp_path)
    runners = [model.runner() for _ in range(2)]
    for left in runners:
        left.run([rows_of("tiny", 2, 0)], [2])
    session = weakref.ref(model._session._session)  # type: ignore[attr-defined]
    model.close()
    assert session() is not None
    del left, runners
    assert session() is None


def test_runners_of_one_model_work_side_by_side() -> None:
    requests = [rows_of("mlp", 1 + at % 3, at) for at in range(200)]
    expected = [runner("mlp").run([request], [len(request["image"])])[0] for request in requests]

    def work() -> list[dict[str, Tensor]]:
        own = loaded("mlp").runner()
        return [own.run([request], [len(request["image"])])[0] for request in requests]

    with ThreadPoolExecutor(3) as pool:
        for answers in [future.result() for future in [pool.submit(work) for _ in range(3)]]:
            for got, wanted in zip(answers, expected, strict=True):
                assert_same(got, wanted)


def test_onnxruntime_keeps_no_telemetry(tmp_path: Path) -> None:
    code = "import fastserve.backends.ort, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
