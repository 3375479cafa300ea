"""The echo backend, and the table that chooses a backend by a file's suffix."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastserve.backends.base import LoadedModel, LoadOptions
from fastserve.backends.echo import EchoBackend
from fastserve.backends.table import BACKENDS, backend_for
from fastserve.errors import LoadFailed


def load(folder: Path, *inputs: dict[str, object]) -> LoadedModel:
    path = folder / "model.echo"
    path.write_text(json.dumps({"inputs": inputs}))
    return EchoBackend().load(path, LoadOptions())


@pytest.mark.parametrize(
    ("shape", "batchable", "reason"),
    [
        ([-1], True, "every row is answered as it came"),
        ([-1, 4], True, "every row is answered as it came"),
        ([1, 4], False, 'first axis of input "x" is fixed'),
        ([], False, 'first axis of input "x" is fixed'),
    ],
)
def test_rows_are_the_first_axis(shape: list[int], batchable: bool, reason: str, tmp_path: Path) -> None:
    batching = load(tmp_path, {"name": "x", "dtype": "FLOAT", "shape": shape}).batching
    assert (batching.batchable, batching.reason) == (batchable, reason)


def test_every_request_is_answered_with_a_copy_of_itself(tmp_path: Path) -> None:
    model = load(
        tmp_path,
        {"name": "x", "dtype": "INT64", "shape": [-1, 2]},
        {"name": "s", "dtype": "STRING", "shape": [-1, -1]},
    )
    example = model.example(3)
    assert example is not None
    assert (example["x"].shape, example["s"].tolist()) == ((3, 2), [[""], [""], [""]])
    requests = [{"x": np.full((rows, 2), rows), "s": np.full((rows, 1), "é", dtype=object)} for rows in (1, 0, 2)]
    for request, answer in zip(requests, model.runner().run(requests, [1, 0, 2]), strict=True):
        for name, array in request.items():
            np.testing.assert_array_equal(answer[name], array)
            assert not np.shares_memory(answer[name], array)
    model.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "model.echo is not an echo model: Input data was truncated"),
        ('{"inputs": []}', "model.echo: an echo model needs at least one input"),
        (
            '{"inputs": [{"name": "x", "dtype": "FLOATY", "shape": []}]}',
            'input "x" has unknown dtype "FLOATY"; known: FLOAT,',
        ),
        (
            '{"inputs": [{"name": "x", "dtype": "FLOAT", "shape": [-2]}]}',
            'input "x" has a negative dimension; -1 means free',
        ),
    ],
)
def test_bad_files_say_what_is_wrong(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.echo"
    path.write_text(text)
    with pytest.raises(LoadFailed) as refused:
        EchoBackend().load(path, LoadOptions())
    assert reason in str(refused.value)


@pytest.mark.parametrize("suffix", [*BACKENDS, ".ONNX"])
def test_backends_are_chosen_by_suffix(suffix: str) -> None:
    assert suffix.lower() in backend_for(Path(f"model{suffix}")).suffixes


def test_an_unknown_suffix_names_the_known_ones() -> None:
    with pytest.raises(LoadFailed, match=r"^model\.pb: no backend loads files named \*\.pb; known: \.onnx, \.echo$"):
        backend_for(Path("/srv/model.pb"))


def test_reading_the_table_does_not_load_onnxruntime() -> None:
    # The parent process reads it and then forks.
    code = "import sys, fastserve.backends.table; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
