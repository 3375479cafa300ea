"""TensorFlow Serving's models.config, served, and changed under load."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import models
from tests.support.served import Load, health, wire
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import until


class Listed:
    """A models.config beside its models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for version in (1, 2, 3):
            models.save(times(version), folder / "m" / str(version))
        models.save(times(1), folder / "other" / "1")

    @property
    def file(self) -> str:
        return str(self.folder / "models.config")

    def write(self, m: str, *others: str) -> None:
        text = f'model_config_list {{ config {{ name: "m" base_path: "m" {m} }} {" ".join(others)} }}'
        fresh = self.folder / "models.config.new"
        fresh.write_text(text)
        fresh.rename(self.folder / "models.config")


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    return Listed(tmp_path)


ROW = b'{"instances": [[1, 1]]}'


def ask(server: ServerProcess, path: str) -> Any:
    """The factor that answers there, or the status."""
    with wire(server) as one:
        answer = one.post(f"/v1/models/{path}:predict", ROW)
    return msgspec.json.decode(answer.body)["predictions"][0][0] if answer.status == 200 else answer.status


def test_a_list_is_served_and_changes_under_load_and_no_request_fails(listed: Listed):
    other = 'config { name: "other" base_path: "other" model_platform: "tensorflow" }'
    listed.write("model_version_policy { specific { versions: 1 versions: 2 } } version_labels { key: 'x' value: 1 }")
    with ServerProcess(listed.file, "--poll-seconds", "0.1") as server:
        assert [ask(server, path) for path in ("m", "m/versions/1", "m/labels/x")] == [2, 1, 1]
        assert [ask(server, path) for path in ("m/versions/3", "m/labels/y", "other")] == [404, 400, 404]
        with Load(server, clients=2) as load:
            listed.write("model_version_policy { all {} } version_labels { key: 'x' value: 3 }", other)
            until(lambda: load.versions == {3})
            until(lambda: ask(server, "other") == 1)
            until(lambda: ask(server, "m/labels/x") == 3)
            listed.write("broken {")
            until(lambda: "the changed configuration cannot be used" in server.output)
            assert [ask(server, path) for path in ("m", "other")] == [3, 1]
            listed.write("model_version_policy { specific { versions: 2 } } version_labels { key: 'z' value: 2 }")
            until(lambda: load.versions == {2})
            until(lambda: ask(server, "other") == 404)
            assert [ask(server, path) for path in ("m/labels/z", "m/labels/x", "m/versions/3")] == [2, 400, 404]
        assert load.failed == []
        assert health(server, "/readyz")[0] == 200


def test_a_label_keeps_its_version_until_the_new_one_is_up(listed: Listed):
    policy = "model_version_policy { all {} } version_labels { key: 'x' value: %d }"
    listed.write(policy % 1)
    with ServerProcess(listed.file, "--poll-seconds", "0.1") as server:
        assert ask(server, "m/labels/x") == 1
        listed.write(policy % 9)
        until(lambda: "m: labels changed" in server.output)
        assert ask(server, "m/labels/x") == 1
        models.save(times(9), listed.folder / "m" / "9")
        until(lambda: ask(server, "m/labels/x") == 9)


def test_batching_and_monitoring_files_beside_it_and_what_is_not_applied(listed: Listed):
    listed.write("logging_config {}")
    (listed.folder / "batching_parameters.txt").write_text(
        "num_batch_threads { value: 3 }\npad_variable_length_inputs: true"
    )
    (listed.folder / "monitoring.config").write_text("prometheus_config { enable: true path: '/my/metrics' }")
    with ServerProcess(listed.file) as server:
        with wire(server) as one:
            assert one.get("/my/metrics").body.startswith(b"# HELP")
            assert one.get("/monitoring/prometheus/metrics").status == 200
        until(lambda: "/readyz" in server.output)
        assert "3 x 1" in server.output
        assert "models.config, line 1: model_config_list.config[0].logging_config is not applied" in server.output
        assert "batching_parameters.txt, line 2: pad_variable_length_inputs is not applied" in server.output


def test_the_variables_of_tensorflow_servings_image(listed: Listed):
    environment = {"MODEL_NAME": "m", "MODEL_BASE_PATH": str(listed.folder)}
    with ServerProcess(environment=environment) as server:
        assert ask(server, "m") == 3


def test_a_model_that_is_listed_and_missing_keeps_it_unready_until_it_is_listed_no_more(listed: Listed):
    listed.write("", 'config { name: "x" base_path: "nowhere" }')
    with ServerProcess(listed.file, "--poll-seconds", "0.1") as server:
        assert health(server, "/readyz") == (503, {"ready": False, "reason": "no version serves of: x"})
        listed.write("")
        until(lambda: health(server, "/readyz")[0] == 200)
        listed.write("", 'config { name: "x" base_path: "nowhere" }')
        until(lambda: "model x is new" in server.output)
        assert health(server, "/readyz")[0] == 200
