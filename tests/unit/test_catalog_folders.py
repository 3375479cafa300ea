"""What models' folders say of themselves, look by look: config.pbtxt, model-settings.json, batching_params.pbtxt."""

from pathlib import Path
from typing import Any

import pytest

from fastserve.config import Config, ModelConfig, RepositoryConfig, load_config
from fastserve.engine.catalog import Catalog
from fastserve.engine.registry import OnDisk


class Place:
    """A folder of models; files hold text, for nothing is loaded here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, path: str, text: str = "a model") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.new")
        fresh.write_text(text)
        return fresh.rename(file)

    def catalog(self, *models: ModelConfig, poll_seconds: float = 0, path: str = "") -> Catalog:
        repository = RepositoryConfig(path=(str(self.folder / path),), poll_seconds=poll_seconds)
        return Catalog(Config(repository=repository, models=models))

    def only(self, *models: ModelConfig, path: str = "") -> OnDisk:
        (disk,) = self.catalog(*models, path=path).look().values()
        return disk


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "models")


def files(disk: OnDisk, place: Place) -> dict[int, str]:
    return {number: str(path.relative_to(place.folder)) for number, path in disk.versions.items()}


@pytest.mark.parametrize("path", ["", "m"])
def test_a_config_pbtxt_configures_the_model_of_its_folder(place: Place, path: str):
    place.write("m/1/model.onnx")
    place.write("m/2/model.onnx")
    place.write("m/config.pbtxt", 'name: "m" max_batch_size: 8 version_policy { all {} }')
    disk = place.only(path=path)
    assert (disk.config.name, disk.config.max_batch_rows, disk.policy) == ("m", 8, "all")
    assert disk.declared["max_batch_size"] == 8
    assert disk.problems == ()


def test_what_the_configuration_writes_wins_over_the_folder_also_where_it_is_the_default(place: Place, tmp_path: Path):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", "max_batch_size: 8 instance_group { count: 3 }")
    file = tmp_path / "fastserve.toml"
    file.write_text('[repository]\npath = "models"\n[[models]]\nname = "m"\nmax_batch_rows = 64\n')
    disk = Catalog(load_config([str(file)])).look()["m"]
    assert (disk.config.max_batch_rows, disk.config.slots) == (64, 3)
    assert place.only(ModelConfig(name="m", slots=5)).config.slots == 5


def test_the_folder_wins_over_what_stands_for_all_models(place: Place, tmp_path: Path):
    place.write("m/1/model.onnx")
    place.write("n/1/model.onnx")
    place.write("m/config.pbtxt", "max_batch_size: 8")
    batching = tmp_path / "batching.txt"
    batching.write_text("max_batch_size { value: 16 } num_batch_threads { value: 2 }")
    catalog = Catalog(load_config([str(place.folder)], options={"batching_parameters_file": str(batching)}))
    found = catalog.look()
    assert [(found[name].config.max_batch_rows, found[name].config.slots) for name in "mn"] == [(8, 2), (16, 2)]


def test_the_file_of_a_version_may_have_any_name_that_is_said(place: Place):
    place.write("m/1/a.onnx")
    place.write("m/1/b.onnx")
    place.write("m/config.pbtxt", 'default_model_filename: "b.onnx"')
    assert files(place.only(), place) == {1: "m/1/b.onnx"}
    place.write("m/config.pbtxt", 'default_model_filename: "c.onnx"')
    disk = place.only()
    assert disk.versions == {}
    assert disk.problems == (f"{place.folder}/m/1: no c.onnx; found a.onnx, b.onnx",)


def test_a_model_of_several_files_lies_in_a_folder_called_like_one(place: Place):
    place.write("m/1/model.onnx/model.onnx")
    weights = place.write("m/1/model.onnx/weights.bin")
    before = place.only()
    assert files(before, place) == {1: "m/1/model.onnx/model.onnx"}
    weights.write_text("other weights")
    assert place.only().stamps != before.stamps


def test_a_name_that_is_not_the_folders_is_told(place: Place):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", 'name: "n"')
    disk = place.only()
    assert disk.config.name == "m"
    assert disk.problems == (
        f'{place.folder}/m/config.pbtxt: the name "n" is not that of its folder; it is served as m',
    )


@pytest.mark.parametrize("text", ["max_batch_size: x", 'platform: "ensemble"'])
def test_a_model_that_is_described_as_what_cannot_be_is_not_served(place: Place, text: str):
    place.write("m/1/model.onnx")
    place.write("n/1/model.onnx")
    place.write("m/config.pbtxt", text)
    found = place.catalog().look()
    assert found["m"].versions == {}
    assert f"{place.folder}/m/config.pbtxt, line 1" in found["m"].problems[0]
    assert found["n"].versions


@pytest.mark.parametrize("text", ["max_batch_size: x", 'platform: "ensemble"'])
def test_a_file_that_breaks_later_changes_nothing(place: Place, text: str, caplog: pytest.LogCaptureFixture):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", "max_batch_size: 8")
    catalog = place.catalog()
    before = catalog.look()["m"]
    place.write("m/config.pbtxt", text)
    for _ in range(3):
        disk = catalog.look()["m"]
        assert disk.config == before.config
        assert "what was read before stays in force" in disk.problems[0]
    assert len(caplog.records) == 1
    place.write("m/config.pbtxt", "max_batch_size: 9")
    assert catalog.look()["m"].config.max_batch_rows == 9
    assert catalog.look()["m"].problems == ()


def test_a_broken_file_that_is_mended_serves_also_where_the_fault_lay_in_another(place: Place):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", 'output { name: "y" label_filename: "labels.txt" }')
    catalog = place.catalog()
    assert catalog.look()["m"].versions == {}
    place.write("m/labels.txt", "a\nb")
    disk = catalog.look()["m"]
    assert sorted(disk.versions) == [1]
    assert disk.config.classes == ("a", "b")
    place.write("m/labels.txt", "c\nd")
    assert catalog.look()["m"].config.classes == ("c", "d")


def test_a_changed_file_waits_until_it_looks_the_same_twice(place: Place):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", "max_batch_size: 8")
    catalog = place.catalog(poll_seconds=1)
    first = catalog.look()["m"]
    place.write("m/config.pbtxt", "max_batch_size: 9")
    during = catalog.look()["m"]
    assert (during.config.max_batch_rows, during.stamps) == (8, first.stamps)
    after = catalog.look()["m"]
    assert after.config.max_batch_rows == 9
    assert after.stamps != first.stamps


def test_a_call_that_says_that_a_model_is_complete_is_believed(place: Place):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", "max_batch_size: 8")
    catalog = place.catalog(poll_seconds=1)
    catalog.look()
    place.write("m/config.pbtxt", "max_batch_size: 9")
    assert catalog.look(finished=("m",))["m"].config.max_batch_rows == 9


def test_notes_of_folders_are_those_of_the_catalogue(place: Place):
    place.write("m/1/model.onnx")
    place.write("m/config.pbtxt", "response_cache { enable: true }")
    catalog = place.catalog()
    catalog.look()
    (note,) = catalog.notes
    assert note.startswith(f"{place.folder}/m/config.pbtxt, line 1: response_cache is not applied")


SETTINGS: list[tuple[str, list[str], dict[str, dict[int, str]]]] = [
    ('{"name": "q"}', ["a/model.onnx"], {"q": {1: "a/model.onnx"}}),
    ('{"name": "q"}', ["a/other.onnx"], {"q": {1: "a/other.onnx"}}),
    ('{"name": "q"}', ["a/q.onnx", "a/other.onnx"], {"q": {1: "a/q.onnx"}}),
    ('{"name": "q"}', ["a/3/model.onnx"], {"q": {3: "a/3/model.onnx"}}),
    ("{}", ["a/a.onnx"], {"a": {1: "a/a.onnx"}}),
    ('{"parameters": {"uri": "net.onnx", "version": "4"}}', ["a/net.onnx", "a/x.onnx"], {"a": {4: "a/net.onnx"}}),
    ('{"parameters": {"uri": "./deep"}}', ["a/deep/net.onnx"], {"a": {1: "a/deep/net.onnx"}}),
    ('{"parameters": {"uri": "gone.onnx"}}', ["a/x.onnx"], {"a": {}}),
]


@pytest.mark.parametrize(("text", "there", "served"), SETTINGS)
def test_mlservers_settings_name_and_find_the_model(place: Place, text: str, there: list[str], served: Any):
    for file in there:
        place.write(file)
    place.write("a/model-settings.json", text)
    assert {name: files(disk, place) for name, disk in place.catalog().look().items()} == served


def test_folders_that_name_the_same_model_are_its_versions(place: Place):
    for version in ("1", "2"):
        place.write(f"net-{version}/model.onnx")
        settings = f'{{"name": "net", "max_batch_size": {version}0, "parameters": {{"version": "v{version}"}}}}'
        place.write(f"net-{version}/model-settings.json", settings)
    disk = place.only()
    assert files(disk, place) == {1: "net-1/model.onnx", 2: "net-2/model.onnx"}
    assert disk.config.max_batch_rows == 20, "the newest one's"


def test_a_link_out_of_the_place_is_not_followed(place: Place, tmp_path: Path):
    (tmp_path / "secret.onnx").write_text("a model")
    place.write("a/model-settings.json", '{"parameters": {"uri": "net.onnx"}}')
    (place.folder / "a" / "net.onnx").symlink_to(tmp_path / "secret.onnx")
    disk = place.only()
    assert disk.versions == {}
    assert 'parameters.uri "net.onnx" leads out of' in disk.problems[0]


def test_a_version_has_batching_of_its_own(place: Place):
    place.write("m/1/model.onnx")
    place.write("m/2/model.onnx")
    place.write("m/2/batching_params.pbtxt", "max_batch_size { value: 5 } pad_variable_length_inputs: true")
    catalog = place.catalog(ModelConfig(name="m", slots=2))
    disk = catalog.look()["m"]
    assert [disk.config_of(number).max_batch_rows for number in (1, 2)] == [64, 5]
    assert [disk.config_of(number).slots for number in (1, 2)] == [2, 2]
    assert "pad_variable_length_inputs is not applied" in catalog.notes[0]
    assert disk.identity(2)[1].max_batch_rows == 5
    place.write("m/2/batching_params.pbtxt", "max_batch_size { value: 0 }")
    disk = catalog.look()["m"]
    assert "expected at least 1, got 0" in disk.problems[0]
    assert disk.config_of(2).max_batch_rows == 5, "what was read before stays in force"
