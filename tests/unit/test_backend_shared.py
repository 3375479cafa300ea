"""Models that workers share: the same answers to the last bit, from files that go when nobody uses them."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fastserve.backends import ort, prepared
from fastserve.backends.base import LoadOptions
from fastserve.backends.shared import PREFIX, CannotPrepareError, SharedFolder, SharedModels
from tests.support import models

WIDTH = 96


def dense(kind: str, transposed: int = 0) -> onnx.ModelProto:
    """Two layers of MatMul or Gemm, which onnxruntime packs."""
    extra = {"transB": transposed} if kind == "Gemm" else {}
    return models.build(
        [models.node(kind, "x w", "h", **extra), models.node("Relu", "h", "r"), models.node(kind, "r v", "y", **extra)],
        [models.tensor("x", ["N", WIDTH])],
        [models.tensor("y", ["N", WIDTH])],
        [models.weight(name, models.random(WIDTH, WIDTH, seed=i)) for i, name in enumerate("wv")],
    )


def convolution() -> onnx.ModelProto:
    """Weights in another layout, by the optimizer."""
    return models.build(
        [models.node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), models.node("Relu", "c", "y")],
        [models.tensor("x", ["N", 16, 7, 7])],
        [models.tensor("y", ["N", 32, 7, 7])],
        [models.weight("w", models.random(32, 16, 3, 3)), models.weight("b", models.random(32))],
    )


def embedding() -> onnx.ModelProto:
    """Weights that are looked up."""
    return models.build(
        [models.node("Gather", "w x", "y")],
        [models.tensor("x", ["N", 3], onnx.TensorProto.INT64)],
        [models.tensor("y", ["N", 3, 64])],
        [models.weight("w", models.random(100, 64))],
    )


KINDS = {
    "matmul": dense("MatMul"),
    "gemm": dense("Gemm"),
    "gemm transposed": dense("Gemm", 1),
    "convolution": convolution(),
    "embedding": embedding(),
    "mlp": models.mlp(),
}


@pytest.fixture
def shared(tmp_path: Path):
    """A worker's end of a server's folder, and the server's."""
    (tmp_path / "cache").mkdir()
    folder = SharedFolder(str(tmp_path / "cache"))
    yield SharedModels(folder.path, 1)
    folder.close()


def kept(shared: SharedModels) -> list[Path]:
    """The models that lie there."""
    return [path for path in shared._folder.iterdir() if path.is_dir()]


def answers(model: ort.OrtModel) -> list[bytes]:
    """For several numbers of rows, which kernels differ by."""
    found = []
    for rows in (1, 2, 5, 33):
        example = model.example(rows)
        assert example is not None
        answer = model.runner().run([example], [rows])[0]
        found += [answer[name].tobytes() for name in sorted(answer)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_answers_are_those_of_the_file_to_the_last_bit(shared: SharedModels, tmp_path: Path, kind: str) -> None:
    path = models.save(KINDS[kind], tmp_path)
    plain = ort.OrtBackend().load(path, LoadOptions())
    for _ in range(2):  # who prepares, and who finds it prepared
        model = ort.OrtBackend().load(path, LoadOptions(shared=shared))
        assert mapped(shared)
        assert answers(model) == answers(plain)
        assert (model.signature, model.batching) == (plain.signature, plain.batching)


def mapped(shared: SharedModels) -> bool:
    """Whether this process has weights of the folder mapped."""
    return f"{shared._folder}/" in Path("/proc/self/maps").read_text()


def test_packed_weights_are_mapped_too(shared: SharedModels, tmp_path: Path) -> None:
    """Of the packed ones nobody has a copy: the file holds the weights and the packed weights."""
    path = models.save(dense("MatMul"), tmp_path)
    model = ort.OrtBackend().load(path, LoadOptions(shared=shared))
    (folder,) = kept(shared)
    assert (folder / "weights").stat().st_size >= 2 * 2 * WIDTH * WIDTH * 4
    assert model.runner() is not None


def test_what_happens_to_the_files_later_does_not_reach_what_serves(shared: SharedModels, tmp_path: Path) -> None:
    onnx.save_model(
        dense("MatMul"), tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0
    )
    model = ort.OrtBackend().load(tmp_path / "m.onnx", LoadOptions(shared=shared))
    before = answers(model)
    os.truncate(tmp_path / "w.data", 0)  # mapped memory beyond a file's end is death
    (tmp_path / "m.onnx").write_bytes(b"other")
    for folder in kept(shared):
        for file in folder.iterdir():
            file.unlink()
    assert answers(model) == before


def test_other_contents_are_prepared_anew(shared: SharedModels, tmp_path: Path) -> None:
    path = models.save(dense("MatMul"), tmp_path)
    first = ort.OrtBackend().load(path, LoadOptions(shared=shared))
    models.save(dense("Gemm", 1), tmp_path)
    second = ort.OrtBackend().load(path, LoadOptions(shared=shared))
    assert len(kept(shared)) == 2
    assert answers(first) != answers(second)


def test_files_are_private_and_go_with_the_last_that_uses_them(shared: SharedModels, tmp_path: Path) -> None:
    path = models.save(models.mlp(), tmp_path)
    loaded = [ort.OrtBackend().load(path, LoadOptions(shared=shared)) for _ in range(2)]
    (folder,) = kept(shared)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (shared._folder, folder, *folder.iterdir())]
    assert modes == [0o700, 0o700, 0o600, 0o600, 0o600]
    loaded[0].close()
    assert kept(shared) == [folder]
    loaded[1].close()
    assert kept(shared) == []


def test_small_models_are_left_alone(shared: SharedModels, tmp_path: Path) -> None:
    shared.least_bytes = 1 << 20
    ort.OrtBackend().load(models.save(models.mlp(), tmp_path), LoadOptions(shared=shared))
    assert kept(shared) == []


def test_a_full_disk_means_plain_loading_and_one_line(
    shared: SharedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: Usage())
    path = models.save(models.mlp(), tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = [ort.OrtBackend().load(path, LoadOptions(shared=shared)) for _ in range(2)]
    assert [record.getMessage() for record in caplog.records] == [
        "model.onnx: its weights are not shared between the workers: "
        "1 MiB are to be free there (--weights-dir), and 0 MiB are"
    ]
    assert answers(loaded[0]) == answers(loaded[1])
    assert not mapped(shared)


class Usage:
    """Of a full disk."""

    free = 1000


@pytest.mark.parametrize("place", ["/proc", "/dev/null", "{}/gone"])
def test_a_place_that_cannot_be_written_means_plain_loading_and_one_line(
    tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = SharedModels(Path(place.format(tmp_path)), 1)
    path = models.save(models.mlp(), tmp_path)
    with caplog.at_level(logging.WARNING):
        model = ort.OrtBackend().load(path, LoadOptions(shared=shared))
    assert len(caplog.records) == 1
    assert "its weights are not shared between the workers" in caplog.text
    assert answers(model)


def test_another_answer_means_plain_loading(
    shared: SharedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A graph that draws random numbers never answers the same twice."""
    model = models.build(
        [models.node("RandomUniformLike", "x", "r", dtype=1), models.node("MatMul", "r w", "y")],
        [models.tensor("x", ["N", WIDTH])],
        [models.tensor("y", ["N", WIDTH])],
        [models.weight("w", models.random(WIDTH, WIDTH))],
    )
    ort.OrtBackend().load(models.save(model, tmp_path), LoadOptions(shared=shared))
    assert "output y would not be the same to the last bit" in caplog.text
    assert not mapped(shared)


def test_files_that_change_while_they_are_prepared_are_not_shared(
    shared: SharedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = models.save(models.mlp(), tmp_path)
    monkeypatch.setattr(ort, "same_answers", lambda *_: os.utime(path, ns=(1, 1)))
    ort.OrtBackend().load(path, LoadOptions(shared=shared))
    assert "its files changed meanwhile" in caplog.text
    assert not mapped(shared)


def test_what_cannot_be_prepared_is_tried_by_one_worker_only(shared: SharedModels) -> None:
    tries = []

    def prepare(folder: Path) -> None:
        tries.append(folder)
        (folder / "half").touch()
        raise CannotPrepareError("no")

    held = [shared.take("model", prepare) for _ in range(2)]
    assert [one.refused for one in held] == ["no", "no"]
    assert len(tries) == 1
    assert not (tries[0] / "half").exists()
    for one in held:
        one.release()
    assert kept(shared) == []


def test_what_one_that_died_left_half_done_is_done_again(shared: SharedModels) -> None:
    (shared._folder / "model").mkdir()
    (shared._folder / "model" / "half").touch()
    held = shared.take("model", lambda folder: (folder / "whole").touch())
    assert sorted(file.name for file in held.folder.iterdir()) == ["ready", "whole"]


def test_what_those_that_were_killed_used_goes_with_the_next_load(shared: SharedModels) -> None:
    (shared._folder / "older").mkdir()
    (shared._folder / "older" / "ready").touch()
    held = shared.take("model", lambda _: None)
    assert [path.name for path in kept(shared)] == ["model"]
    held.release()


def test_a_killed_servers_folder_goes_at_the_next_start_and_a_living_ones_does_not(tmp_path: Path) -> None:
    script = (
        "import os, sys; from fastserve.backends.shared import SharedFolder; "
        "print(SharedFolder(sys.argv[1]).path, flush=True); os.kill(os.getpid(), 9)"
    )
    left = Path(
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], stdout=-1, check=False).stdout.decode()[:-1]
    )
    assert left.is_dir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path.parent)
    living = SharedFolder(str(tmp_path))
    assert not left.exists()
    other = SharedFolder(str(tmp_path))
    assert living.path.is_dir()
    assert (tmp_path / f"{PREFIX}link").is_symlink()
    for one in (living, other):
        one.close()
        assert not one.path.exists()


def test_arrays_of_texts_are_compared_too() -> None:
    texts = np.array(["a", "b"], dtype=object)
    assert prepared._same(texts, texts.copy())
    assert not prepared._same(texts, texts[::-1])
