"""A configuration file that changes while serving: what is looked at follows it, and nothing is lost by a broken one."""

import logging
from pathlib import Path

import pytest

from fastserve.config import load_config
from fastserve.engine.catalog import Catalog

LISTED = 'config {{ name: "{0}" base_path: "{0}" {1} }}'


class Shop:
    """A models.config over folders of models; files hold text, for nothing is loaded here."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        self.file = folder / "models.config"
        self.listed({"a": ""})
        self.put("a/1")
        self.put("a/2")
        self.put("b/1")
        self.catalog = Catalog(load_config([str(self.file)], options=options))

    def put(self, version: str) -> None:
        path = self.folder / version / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_text("a model")

    def write(self, text: str, name: str = "models.config") -> None:
        """Swapped by rename: no two of them look alike."""
        fresh = self.folder / f"{name}.new"
        fresh.write_text(text)
        fresh.rename(self.folder / name)

    def listed(self, models: dict[str, str]) -> None:
        entries = [LISTED.format(name, entry) for name, entry in models.items()]
        self.write(f"model_config_list {{ {' '.join(entries)} }}")

    def look(self) -> dict[str, list[int]]:
        return {name: sorted(disk.versions) for name, disk in self.catalog.look().items()}

    def settle(self) -> dict[str, list[int]]:
        """What is written takes effect once it looked the same twice, and so do the files of a new model."""
        self.look()
        self.look()
        return self.look()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_models_that_are_listed_come_and_others_go(shop: Shop):
    assert shop.look() == {"a": [1, 2]}
    shop.listed({"b": ""})
    assert shop.look() == {"a": [1, 2]}, "it may be written still"
    assert shop.settle() == {"b": [1]}


def test_policies_and_labels_change(shop: Shop):
    shop.look()
    shop.listed({"a": "model_version_policy { specific { versions: 1 } } version_labels { key: 'x' value: 1 }"})
    shop.settle()
    disk = shop.catalog.look()["a"]
    assert disk.policy == (1,)
    assert disk.config.labels == {"x": 1}


def test_a_broken_file_changes_nothing_and_is_told_once_and_aloud(shop: Shop, caplog: pytest.LogCaptureFixture):
    shop.look()
    shop.write("model_config_list { config {")
    with caplog.at_level(logging.ERROR):
        assert shop.settle() == {"a": [1, 2]}
        assert shop.settle() == {"a": [1, 2]}
    assert len(caplog.records) == 1
    assert "models.config, line 1, column " in caplog.text
    (problem,) = shop.catalog.problems
    assert "the configuration that was read before stays in force" in problem
    shop.listed({"b": ""})
    assert shop.settle() == {"b": [1]}
    assert shop.catalog.problems == ()


def test_a_file_that_is_gone_changes_nothing(shop: Shop):
    shop.look()
    shop.file.unlink()
    assert shop.settle() == {"a": [1, 2]}
    assert "cannot be read: No such file" in shop.catalog.problems[0]
    shop.listed({"b": ""})
    assert shop.settle() == {"b": [1]}


def test_a_list_that_is_emptied_serves_nothing(shop: Shop):
    shop.look()
    shop.listed({})
    assert shop.settle() == {}


def test_without_polling_one_look_is_enough(tmp_path: Path):
    shop = Shop(tmp_path, poll_seconds=0)
    shop.look()
    shop.listed({"b": ""})
    assert shop.look() == {"b": [1]}


def test_a_batching_file_that_appears_is_read(shop: Shop):
    assert shop.catalog.look()["a"].config.max_batch_rows == 64
    shop.write("max_batch_size { value: 8 } pad_variable_length_inputs: true", "batching_parameters.txt")
    shop.settle()
    assert shop.catalog.look()["a"].config.max_batch_rows == 8
    assert "pad_variable_length_inputs is not applied" in shop.catalog.notes[0]


def test_what_takes_effect_at_the_next_start_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "fastserve.toml"
    file.write_text("[server]\nport = 1\n[repository]\npoll_seconds = 0\npath = 'one'")
    (tmp_path / "two" / "m" / "1").mkdir(parents=True)
    (tmp_path / "two" / "m" / "1" / "model.onnx").write_text("a model")
    catalog = Catalog(load_config([str(file)]))
    catalog.look()
    own = "port = 22\nworkers = 2\n[log]\nsync = 'os'\nretention_days = 3"
    file.write_text(f"[server]\n{own}\n[repository]\npoll_seconds = 0\npath = 'two'\nversions = 'all'")
    with caplog.at_level(logging.WARNING):
        disk = catalog.look()
    assert [record.getMessage() for record in caplog.records] == [
        "configuration: server.port has changed, which takes effect at the next start",
        "configuration: server.workers has changed, which takes effect at the next start",
        "configuration: log.sync has changed, which takes effect at the next start",
        "configuration: log.retention_days has changed, which takes effect at the next start",
    ]
    assert disk["m"].policy == "all"


def test_entries_of_a_toml_file_change(tmp_path: Path):
    file = tmp_path / "fastserve.toml"
    file.write_text("[repository]\npoll_seconds = 0\npath = '.'\n[[models]]\nname = 'm'\nmax_batch_rows = 2")
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_text("a model")
    catalog = Catalog(load_config([str(file)]))
    assert catalog.look()["m"].config.max_batch_rows == 2
    file.write_text("[repository]\npoll_seconds = 0\npath = '.'\n[[models]]\nname = 'm'\naliases = ['n']")
    assert catalog.look()["m"].config.aliases == ("n",)
    assert catalog.look()["m"].config.max_batch_rows == 64


def test_a_version_that_is_asked_for_and_missing_is_a_problem_with_its_line(shop: Shop):
    shop.listed({"a": "model_version_policy { specific { versions: 1 versions: 7 } }"})
    shop.settle()
    disk = shop.catalog.look()["a"]
    assert disk.problems == (f"{shop.folder}/a: version 7 is asked for and not there",)
    assert shop.catalog.placed(disk.problems[0]).startswith(f"{shop.file}, line 1: ")


def test_a_label_that_waits_for_its_version_is_a_problem(shop: Shop):
    shop.listed({"a": "version_labels { key: 'x' value: 1 } version_labels { key: 'y' value: 8 }"})
    shop.settle()
    assert shop.catalog.look()["a"].problems == (
        f'{shop.folder}/a: the label "x" waits for version 1, which the version policy leaves out',
        f'{shop.folder}/a: the label "y" waits for version 8, which is not there',
    )


def test_a_base_path_that_is_not_there_is_told_with_its_line(shop: Shop):
    shop.listed({"a": "", "nowhere": ""})
    shop.settle()
    assert shop.catalog.problems == (f"{shop.file}, line 1: {shop.folder}/nowhere: No such file or directory",)


def test_a_problem_is_placed_at_the_model_that_it_speaks_of(shop: Shop):
    entries = "\n".join(LISTED.format(name, "") for name in ("x", "xy", "x.y"))
    shop.write(f"model_config_list {{\n{entries} }}")
    shop.settle()
    assert [problem.split(": ")[0] for problem in shop.catalog.problems] == [
        f"{shop.file}, line {line}" for line in (2, 3, 4)
    ]
