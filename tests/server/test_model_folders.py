"""Folders as Triton's and MLServer's users have them, served."""

from pathlib import Path
from typing import Any

import msgspec

from tests.support import models
from tests.support.served import wire
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import until


def predict(server: ServerProcess, model: str, body: bytes = b'{"instances": [[1, 1]]}') -> Any:
    with wire(server) as one:
        answer = one.post(f"/v1/models/{model}:predict", body)
    return msgspec.json.decode(answer.body)


def infer(server: ServerProcess, model: str) -> Any:
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 1]}]}
    with wire(server) as one:
        answer = one.post(f"/v2/models/{model}/infer", msgspec.json.encode(body))
    return msgspec.json.decode(answer.body)["outputs"][0]["data"]


def test_folders_of_triton_and_of_mlserver_are_served_and_what_they_say_is_told(tmp_path: Path):
    for version in (1, 2, 3):
        models.save(times(version), tmp_path / "triton" / str(version))
    config = tmp_path / "triton" / "config.pbtxt"
    config.write_text(
        """
        platform: "onnxruntime_onnx"
        max_batch_size: 16
        input [ { name: "x" data_type: TYPE_INT64 dims: [ 2 ] } ]
        version_policy: { specific { versions: [ 1, 2 ] } }
        instance_group [ { kind: KIND_CPU count: 3 } ]
        dynamic_batching { default_queue_policy { default_timeout_microseconds: 20000000 } }
        model_warmup { inputs { key: "x" value { data_type: TYPE_INT64 dims: [ 2 ] random_data: true } } }
        response_cache { enable: true }
        """
    )
    models.save(times(5), tmp_path / "folder")
    (tmp_path / "folder" / "model-settings.json").write_text('{"name": "five", "parameters": {"version": "v7"}}')
    models.save(times(7), tmp_path / "named")
    (tmp_path / "named" / "model-settings.json").write_text('{"name": "seven", "parameters": {"version": "v0.1.0"}}')
    models.save(times(6), tmp_path / "wrong" / "1")
    (tmp_path / "wrong" / "config.pbtxt").write_text('\ninput { name: "x" data_type: TYPE_FP32 }')
    with ServerProcess(str(tmp_path), "--poll-seconds", "0.1") as server:
        until(lambda: "/readyz" in server.output)
        assert predict(server, "triton") == {"predictions": [[2, 2]]}
        assert predict(server, "triton/versions/1") == {"predictions": [[1, 1]]}
        assert "error" in predict(server, "triton/versions/3")
        assert predict(server, "five/versions/7") == {"predictions": [[5, 5]]}
        assert infer(server, "five/versions/v7") == [5, 5]
        assert infer(server, "seven/versions/v0.1.0") == [7, 7]
        assert "error" in predict(server, "wrong")
        assert "3 x 1" in server.output
        assert f'{tmp_path}/wrong/config.pbtxt, line 2: "x": said to be FP32, and the graph has INT64' in server.output
        assert f"note: {config}, line 9: response_cache is not applied" in server.output
        config.write_text("version_policy { all {} } instance_group { count: 4 }")
        until(lambda: predict(server, "triton") == {"predictions": [[3, 3]]})
        config.write_text("version_policy {")
        until(lambda: "a model's changed settings cannot be used" in server.output)
        assert predict(server, "triton") == {"predictions": [[3, 3]]}


def test_labels_of_a_config_are_the_classes_of_the_model(tmp_path: Path):
    model = models.build(
        [models.node("Softmax", "x", "y")], [models.tensor("x", ["N", 3])], [models.tensor("y", ["N", 3])]
    )
    models.save(model, tmp_path / "m" / "1")
    (tmp_path / "m" / "config.pbtxt").write_text('output { name: "y" label_filename: "labels.txt" }')
    (tmp_path / "m" / "labels.txt").write_text("cat\ndog\nbird\n")
    with ServerProcess(str(tmp_path)) as server, wire(server) as one:
        body = msgspec.json.decode(one.post("/v1/models/m:classify", b'{"examples": [{"x": [0.5, 9.0, 0.25]}]}').body)
    assert "results" in body, body
    assert [label for label, _ in body["results"][0]] == ["cat", "dog", "bird"]


def test_queue_settings_of_a_config_hold_for_requests_of_every_protocol(tmp_path: Path):
    models.save(times(2), tmp_path / "m" / "1")
    config = tmp_path / "m" / "config.pbtxt"
    config.write_text("dynamic_batching { default_queue_policy { default_timeout_microseconds: 1 } }")
    row = msgspec.json.encode({"instances": [[1, 1]]})
    infer = msgspec.json.encode({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [1, 1]}]})
    with ServerProcess(str(tmp_path), "--poll-seconds", "0.1") as server, wire(server) as one:
        assert one.post("/v1/models/m:predict", row).status == 504
        assert one.post("/v2/models/m/infer", infer).status == 504
        config.write_text("max_batch_size: 8")
        until(lambda: one.post("/v1/models/m:predict", row).status == 200)
        assert one.post("/v2/models/m/infer", infer).status == 200


def test_a_batch_of_a_preferred_size_does_not_wait_for_the_delay(tmp_path: Path):
    models.save(times(2), tmp_path / "m" / "1")
    (tmp_path / "m" / "config.pbtxt").write_text(
        "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 60000000 preferred_batch_size: 4 }"
    )
    # A request waits for company until half of its time is over: here, far longer than a client's patience.
    with ServerProcess(str(tmp_path), "--request-timeout-ms", "600000") as server:
        answer = predict(server, "m", b'{"instances": [[1, 1], [2, 2], [3, 3], [4, 4]]}')
        assert answer == {"predictions": [[2, 2], [4, 4], [6, 6], [8, 8]]}
