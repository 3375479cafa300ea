"""What disk and configuration say together, look by look, over real folders."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import Config, ModelConfig, RepositoryConfig
from fastserve.engine.catalog import Catalog


class Place:
    """A folder of models; files hold text, for nothing is loaded here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, path: str, text: str = "a model") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def catalog(self, *more: Path, models: tuple[ModelConfig, ...] = (), poll_seconds: float = 1.0) -> Catalog:
        paths = tuple(str(path) for path in (self.folder, *more))
        return Catalog(Config(repository=RepositoryConfig(path=paths, poll_seconds=poll_seconds), models=models))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "models")


def versions(catalog: Catalog) -> dict[str, list[int]]:
    return {name: sorted(disk.versions) for name, disk in catalog.look().items()}


def test_the_first_look_takes_everything_as_it_is(place: Place):
    place.write("a/1/model.onnx")
    place.write("a/3/model.onnx")
    place.write("b/b.onnx")
    assert versions(place.catalog()) == {"a": [1, 3], "b": [1]}


def test_a_new_version_is_seen_once_two_looks_saw_the_same_files(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog()
    catalog.look()
    place.write("a/2/model.onnx", "half")
    assert versions(catalog) == {"a": [1]}
    place.write("a/2/model.onnx", "half and half")
    assert versions(catalog) == {"a": [1]}, "it still grows"
    assert versions(catalog) == {"a": [1, 2]}


def test_external_data_that_still_arrives_holds_its_version_back(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog()
    catalog.look()
    place.write("a/2/model.onnx")
    assert versions(catalog) == {"a": [1]}
    place.write("a/2/weights.bin", "weights")
    assert versions(catalog) == {"a": [1]}
    assert versions(catalog) == {"a": [1, 2]}


def test_files_of_a_served_version_that_change_keep_their_old_stamp_until_they_settle(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog()
    first = catalog.look()["a"].stamps[1]
    place.write("a/1/model.onnx", "a longer model")
    assert catalog.look()["a"].stamps[1] == first
    assert catalog.look()["a"].stamps[1] != first


def test_a_new_model_is_seen_when_its_files_have_settled(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog()
    catalog.look()
    place.write("b/1/model.onnx")
    assert versions(catalog) == {"a": [1], "b": []}
    assert versions(catalog) == {"a": [1], "b": [1]}


def test_without_polling_a_look_is_asked_for_when_the_files_are_there(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog(poll_seconds=0)
    catalog.look()
    place.write("a/2/model.onnx")
    assert versions(catalog) == {"a": [1, 2]}


def test_a_version_and_a_model_that_are_removed_are_gone_at_once(place: Place):
    place.write("a/1/model.onnx")
    last = place.write("a/2/model.onnx")
    other = place.write("b/1/model.onnx")
    catalog = place.catalog()
    catalog.look()
    last.unlink()
    assert versions(catalog) == {"a": [1], "b": [1]}
    other.unlink()
    other.parent.rmdir()
    other.parent.parent.rmdir()
    assert versions(catalog) == {"a": [1]}


def test_a_place_that_is_gone_keeps_its_models_and_says_so(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog()
    catalog.look()
    moved = place.folder.rename(place.folder.with_name("elsewhere"))
    assert versions(catalog) == {"a": [1]}
    assert str(place.folder) in catalog.problems[0]
    moved.rename(place.folder)
    assert versions(catalog) == {"a": [1]}
    assert catalog.problems == ()


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("unreadable", [".", "a", "a/2"])
def test_what_cannot_be_read_for_a_while_keeps_what_it_had(
    place: Place, monkeypatch: pytest.MonkeyPatch, unreadable: str, error: int
):
    place.write("a/1/model.onnx")
    place.write("a/2/model.onnx")
    place.write("b/1/model.onnx")
    catalog = place.catalog()
    before = catalog.look()
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if Path(path) == place.folder / unreadable:
            raise OSError(error, os.strerror(error), str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        during = catalog.look()
        assert {name: dict(disk.versions) for name, disk in during.items()} == {
            name: dict(disk.versions) for name, disk in before.items()
        }
        assert {name: disk.stamps for name, disk in during.items()} == {n: disk.stamps for n, disk in before.items()}
    assert versions(catalog) == {"a": [1, 2], "b": [1]}


def test_a_version_folder_whose_file_is_gone_is_no_version_though_the_folder_stays(place: Place):
    place.write("a/1/model.onnx")
    file = place.write("a/2/model.onnx")
    catalog = place.catalog()
    catalog.look()
    file.unlink()
    assert versions(catalog) == {"a": [1]}


def test_a_name_that_is_found_twice_is_served_from_the_first_place(place: Place, tmp_path: Path):
    second = Place(tmp_path / "second")
    place.write("a/1/model.onnx")
    second.write("a/7/model.onnx")
    second.write("b/1/model.onnx")
    catalog = place.catalog(second.folder)
    assert versions(catalog) == {"a": [1], "b": [1]}
    assert '"a"' in catalog.problems[0]
    assert str(place.folder) in catalog.problems[0]
    assert str(second.folder) in catalog.problems[0]


def test_one_place_given_twice_is_no_problem(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog(place.folder)
    assert versions(catalog) == {"a": [1]}
    assert catalog.problems == ()


def test_a_file_is_a_model_of_one_version(place: Place):
    file = place.write("net.onnx")
    catalog = Catalog(Config(repository=RepositoryConfig(path=(str(file),))))
    assert versions(catalog) == {"net": [1]}


@pytest.mark.parametrize("path", ["net.onnx", "folder/1/model.onnx"])
def test_the_configured_name_stands_for_what_is_at_the_configured_path(place: Place, path: str):
    file = place.write(path)
    where = file if path == "net.onnx" else file.parent.parent
    model = ModelConfig(name="mine", path=str(where), max_batch_rows=7)
    catalog = Catalog(Config(models=(model,)))
    found = catalog.look()
    assert {name: sorted(disk.versions) for name, disk in found.items()} == {"mine": [1]}
    assert found["mine"].config is model


def test_configuration_without_a_path_is_for_the_model_of_that_name(place: Place):
    place.write("a/1/model.onnx")
    place.write("b/1/model.onnx")
    model = ModelConfig(name="a", versions="all", max_batch_rows=3)
    found = place.catalog(models=(model,)).look()
    assert found["a"].config is model
    assert found["a"].policy == "all"
    assert found["b"].config.max_batch_rows == ModelConfig(name="b").max_batch_rows
    assert found["b"].policy == "latest"


def test_a_configured_model_that_is_nowhere_is_a_problem(place: Place):
    place.write("a/1/model.onnx")
    catalog = place.catalog(models=(ModelConfig(name="missing"),))
    assert versions(catalog) == {"a": [1]}
    assert '"missing"' in catalog.problems[0]


def test_a_place_that_never_was_is_a_problem_and_no_model(tmp_path: Path):
    catalog = Catalog(Config(repository=RepositoryConfig(path=(str(tmp_path / "nowhere"),))))
    assert versions(catalog) == {}
    assert "nowhere" in catalog.problems[0]
