"""What is on disk becomes what is served: new versions, broken ones, removed ones, labels, one step at a time."""

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import ModelConfig
from fastserve.engine.registry import OnDisk, Registry
from fastserve.errors import LabelNotFound, LoadFailed, ModelNotFound, ModelNotReady, VersionNotFound
from fastserve.types import VersionState


class FakeLease:
    def __init__(self, model: str, version: int) -> None:
        self.model = model
        self.version = version


class FakeLoaded:
    def __init__(self, lease: FakeLease) -> None:
        self.lease = lease


class Disk:
    """A repository whose files a test writes and breaks."""

    def __init__(self) -> None:
        self.models: dict[str, dict[int, str]] = {}
        self.broken: set[str] = set()
        self.configs: dict[str, ModelConfig] = {}
        self.policies: dict[str, Any] = {}
        self.loads: list[str] = []
        self.gone: list[Any] = []
        self.while_loading: Any = None
        self.forgotten: list[str] = []
        self.registry = Registry(self._load, forget=lambda model, version: self.forgotten.append(f"{model}/{version}"))

    def _load(self, config: ModelConfig, version: int, path: Path, gone: Any) -> Any:
        self.loads.append(f"{config.name}/{version}")
        if self.while_loading is not None:
            self.while_loading()
        if str(path) in self.broken:
            raise LoadFailed("the file is no model")
        self.gone.append(gone)
        return FakeLoaded(FakeLease(config.name, version))

    def look(self) -> None:
        self.registry.reconcile(
            {
                name: OnDisk(
                    place=Path("models"),
                    config=self.configs.get(name, ModelConfig(name=name)),
                    policy=self.policies.get(name, "latest"),
                    versions={number: Path(content) for number, content in versions.items()},
                    stamps=versions,
                )
                for name, versions in self.models.items()
            }
        )

    def serving(self, model: str = "m") -> list[int]:
        return [s.version for s in self.registry.status(model) if s.state is VersionState.READY]

    def newest(self, model: str = "m") -> int:
        return self.registry.lease(model, None, None).version


def repository(*versions: int) -> Disk:
    disk = Disk()
    disk.models["m"] = {number: f"v{number}" for number in versions}
    disk.look()
    return disk


def test_by_default_the_highest_version_serves_compared_as_numbers():
    disk = repository(9, 10)
    assert disk.newest() == 10
    with pytest.raises(VersionNotFound):
        disk.registry.lease("m", 9, None)


@pytest.mark.parametrize(
    ("policy", "serving"), [("all", [3, 2, 1]), ({"latest": 2}, [3, 2]), ((1, 3), [3, 1]), ((2, 7), [2])]
)
def test_a_policy_says_which_versions_serve(policy: Any, serving: list[int]):
    disk = Disk()
    disk.models["m"] = {1: "a", 2: "b", 3: "c"}
    disk.policies["m"] = policy
    disk.look()
    assert disk.serving() == serving
    assert disk.newest() == serving[0]


def test_a_new_version_is_loaded_while_the_old_one_serves_and_then_replaces_it():
    disk = repository(1)
    seen = []
    disk.while_loading = lambda: seen.append(disk.newest())
    disk.models["m"][2] = "v2"
    disk.look()
    assert seen == [1]
    assert disk.serving() == [2]


def test_a_broken_new_version_is_left_aside_with_its_reason_and_the_old_one_serves_on():
    disk = repository(1)
    disk.broken.add("v2")
    disk.models["m"][2] = "v2"
    disk.look()
    disk.look()
    assert disk.newest() == 1
    status = disk.registry.status("m")
    assert [(s.version, s.state) for s in status] == [(2, VersionState.FAILED), (1, VersionState.READY)]
    assert "no model" in status[0].reason
    assert disk.loads.count("m/2") == 1, "a broken file is tried once, not at every look"


def test_a_broken_version_whose_file_changes_is_tried_again():
    disk = repository(1)
    disk.broken.add("v2")
    disk.models["m"][2] = "v2"
    disk.look()
    disk.models["m"][2] = "v2 mended"
    disk.look()
    assert disk.newest() == 2


def test_at_start_a_broken_highest_version_gives_way_to_the_next():
    disk = Disk()
    disk.broken.add("v2")
    disk.models["m"] = {1: "v1", 2: "v2"}
    disk.look()
    assert disk.newest() == 1


def test_a_removed_version_falls_back_to_the_one_below_without_a_gap():
    disk = repository(1, 2)
    seen = []
    disk.while_loading = lambda: seen.append(disk.newest())
    del disk.models["m"][2]
    disk.look()
    assert seen == [2], "version 2 serves until version 1 is up"
    assert disk.serving() == [1]


def test_a_version_whose_file_is_replaced_is_loaded_anew():
    disk = repository(1)
    before = disk.registry.lease("m", None, None)
    disk.models["m"][1] = "v1 again"
    disk.look()
    assert disk.registry.lease("m", None, None) is not before
    assert disk.serving() == [1]


def test_a_version_whose_replaced_file_is_broken_serves_on_as_it_was():
    disk = repository(1)
    before = disk.registry.lease("m", None, None)
    disk.broken.add("half a file")
    disk.models["m"][1] = "half a file"
    disk.look()
    disk.look()
    assert disk.registry.lease("m", None, None) is before
    assert "no model" in disk.registry.status("m")[0].reason


def test_a_folder_that_is_emptied_unloads_its_model():
    disk = repository(1)
    disk.models["m"] = {}
    disk.look()
    with pytest.raises(VersionNotFound):
        disk.newest()


def test_a_model_that_is_gone_is_not_found():
    disk = repository(1)
    del disk.models["m"]
    disk.look()
    with pytest.raises(ModelNotFound):
        disk.newest()
    assert disk.registry.models() == []


def test_a_model_none_of_whose_versions_loads_is_not_there_and_the_others_serve():
    disk = Disk()
    disk.broken.add("v1")
    disk.models = {"m": {1: "v1"}, "other": {1: "fine"}}
    disk.look()
    assert disk.newest("other") == 1
    with pytest.raises(VersionNotFound):
        disk.newest("m")


def test_a_loader_that_breaks_is_logged_and_the_other_models_are_served(caplog: pytest.LogCaptureFixture):
    disk = Disk()
    disk.while_loading = lambda: 1 / 0 if disk.loads[-1] == "m/1" else None
    disk.models = {"m": {1: "v1"}, "other": {1: "fine"}}
    disk.look()
    assert disk.newest("other") == 1
    assert disk.registry.status("m")[0].state is VersionState.FAILED
    assert "ZeroDivisionError" in caplog.text


def test_a_model_that_is_being_loaded_says_so():
    disk = Disk()
    disk.models["m"] = {1: "v1"}
    seen: list[Any] = []

    def ask() -> None:
        with pytest.raises(ModelNotReady):
            disk.newest()
        seen.extend(s.state for s in disk.registry.status("m"))

    disk.while_loading = ask
    disk.look()
    assert seen == [VersionState.LOADING]


def test_a_label_points_to_its_version_once_that_is_up_and_to_its_old_target_until_then():
    disk = Disk()
    disk.models["m"] = {1: "v1", 2: "v2"}
    disk.policies["m"] = "all"
    disk.configs["m"] = ModelConfig(name="m", labels={"stable": 1, "canary": 2})
    disk.look()
    assert disk.registry.lease("m", None, "stable").version == 1
    disk.configs["m"] = ModelConfig(name="m", labels={"stable": 3, "canary": 2})
    disk.broken.add("v3")
    disk.models["m"][3] = "v3"
    disk.look()
    assert disk.registry.lease("m", None, "stable").version == 1
    disk.models["m"][3] = "v3 mended"
    disk.look()
    assert disk.registry.lease("m", None, "stable").version == 3
    with pytest.raises(LabelNotFound):
        disk.registry.lease("m", None, "nightly")


def test_a_label_whose_version_never_was_up_is_not_found():
    disk = Disk()
    disk.models["m"] = {1: "v1"}
    disk.configs["m"] = ModelConfig(name="m", labels={"stable": 7})
    disk.look()
    with pytest.raises(LabelNotFound):
        disk.registry.lease("m", None, "stable")


def test_an_alias_is_another_name():
    disk = Disk()
    disk.models["m"] = {1: "v1"}
    disk.configs["m"] = ModelConfig(name="m", aliases=("deployment-42",))
    disk.look()
    assert disk.newest("deployment-42") == 1
    assert disk.registry.models() == ["m"]
    disk.models["m"][2] = "v2"
    disk.look()
    assert disk.newest("deployment-42") == 2


def test_before_the_folders_were_looked_at_nothing_is_said_not_to_be_there():
    disk = Disk()
    for ask in (lambda: disk.registry.lease("m", None, None), lambda: disk.registry.status("m")):
        with pytest.raises(ModelNotReady, match="is starting"):
            ask()
    disk.look()
    with pytest.raises(ModelNotFound):
        disk.registry.lease("m", None, None)


def test_an_old_version_drains_until_its_last_lease_ends():
    disk = repository(1)
    held = disk.registry.lease("m", None, None)
    disk.models["m"][2] = "v2"
    disk.look()
    states = {s.version: s.state for s in disk.registry.status("m")}
    assert states == {2: VersionState.READY, 1: VersionState.DRAINING}
    del held
    gc.collect()
    disk.gone[0]()
    assert [s.version for s in disk.registry.status("m")] == [2]


def test_versions_that_are_gone_for_good_are_forgotten_once_nobody_holds_them():
    disk = repository(1)
    disk.models["m"] = {2: "v2"}
    disk.look()
    assert disk.forgotten == [], "somebody may still hold it"
    disk.gone[0]()
    disk.look()
    disk.look()
    assert disk.forgotten == ["m/1"]


def test_a_version_that_is_loaded_again_is_not_forgotten():
    disk = repository(1)
    disk.models["m"] = {1: "v1 changed"}
    disk.look()
    disk.gone[0]()
    disk.look()
    disk.models = {}
    disk.look()
    disk.models = {"m": {1: "v1 again"}}
    disk.look()
    disk.gone[1]()
    disk.look()
    assert disk.forgotten == []


def test_versions_of_a_model_that_is_gone_are_forgotten_too():
    disk = repository(1, 2)
    disk.models = {}
    disk.look()
    disk.gone[0]()
    disk.look()
    disk.look()
    assert disk.forgotten == ["m/2"]


def test_a_label_that_moves_while_its_version_goes_always_has_a_target():
    disk = repository(1)
    over = threading.Event()
    failures: list[Exception] = []
    looked: list[int] = []

    def look_up() -> None:
        while not over.is_set():
            try:
                looked.append(disk.registry.lease("m", None, "x").version)
            except Exception as error:
                failures.append(error)

    disk.configs["m"] = ModelConfig(name="m", labels={"x": 1})
    disk.look()
    thread = threading.Thread(target=look_up)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for version in range(2, 300):
            disk.configs["m"] = ModelConfig(name="m", labels={"x": version})
            disk.models["m"] = {version: f"v{version}"}
            disk.look()
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join()
    assert failures == []
    assert looked == sorted(looked)
