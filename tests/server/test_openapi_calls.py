"""The server called as its own API document says, with whatever fits it and whatever does not (schemathesis).

Nothing is ever a 500, and every answer is one that the document tells: its status, its type, its shape. FASTSERVE_TEST_CALLS
is how many calls of each operation are made: by hand as many as one likes, in the suite two, on one path of those that mean
the same.
"""

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.protocols.test_openapi import ALL, DOCUMENT
from tests.support import models
from tests.support.server import ServerProcess

for media_type in ("application/x-ndjson", "application/vnd.apache.arrow.stream"):
    schemathesis.openapi.media_type(media_type, st.binary())

CALLS = int(os.environ.get("FASTSERVE_TEST_CALLS", "2"))
SEED = int(os.environ.get("FASTSERVE_TEST_SEED", "1"))

SERVED = ["floats", "integers", "strings", "nobody"]
"""What stands for a model's name: three that are there, one that is not."""
FIXED = {"model": SERVED, "version": ["1", "2"], "label": ["stable", "nothing"], "dataset": ["d", "nothing"]}
SPARE = "spare"
"""The one that calls load and unload."""

MODES = {"as told": GenerationMode.POSITIVE, "otherwise": GenerationMode.NEGATIVE}

CONFIG = """
[repository]
path = "models"
[[models]]
name = "floats"
labels = { stable = 1 }
dataset = "d"
[[datasets]]
name = "d"
from = "d.csv"
[log]
directory = "log"
"""


def narrowed() -> dict[str, Any]:
    """The document, with names of this server's own in its paths: others lead to a 404 and no further."""
    document = copy.deepcopy(DOCUMENT)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                names = FIXED.get(parameter["name"])
                if names is not None and parameter["in"] == "path":
                    parameter["schema"] = {"enum": [SPARE] if path.startswith("/v2/repository") else names}
    return document


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("calls")
    for name, kind in (("floats", T.FLOAT), ("integers", T.INT64), ("strings", T.STRING), (SPARE, T.FLOAT)):
        models.save(models.identity(kind), folder / "models" / name / "1")
    (folder / "d.csv").write_text("a,b\n0.45,0.5\n")
    (folder / "fastserve.toml").write_text(CONFIG)
    with ServerProcess(
        str(folder / "fastserve.toml"), "--poll-seconds", "0", "--log-dir", str(folder / "log")
    ) as server:
        yield server
        assert "Traceback" not in server.output


@pytest.fixture(scope="module")
def schema(server: ServerProcess) -> Any:
    schema = schemathesis.openapi.from_dict(narrowed())
    schema.config.update(base_url=f"http://{server.host}:{server.port}")
    return schema


OPERATIONS = [
    (path, operation.method.lower())
    for one in ALL
    for operation in one.operations
    for path in (operation.paths if "FASTSERVE_TEST_CALLS" in os.environ else operation.paths[:1])
]
FROM_DATASET = "/v1/models/{model}/predict"
"""As upstream, a model that has no dataset, or none that fits, is answered 500 there, and why."""


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_calls_are_answered_as_the_document_says(schema: Any, path: str, method: str, mode: str) -> None:
    @seed(SEED)
    @settings(
        max_examples=CALLS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method.upper()].as_strategy(generation_mode=MODES[mode]))
    def call(case: Any) -> None:
        response = case.call(timeout=20)
        assert response.status_code != 500 or path == FROM_DATASET, response.text
        if response.status_code == 405:  # a path that was made another one
            return
        case.validate_response(
            response, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
        )

    call()
