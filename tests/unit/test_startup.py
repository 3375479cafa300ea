"""What an operator reads when the models are loaded: one line per input and output, addresses that can be pasted."""

from typing import Any

import pytest

from fastserve.config import ModelConfig, ServerConfig
from fastserve.engine.engine import Line
from fastserve.engine.load import Loaded
from fastserve.engine.plan import Plan
from fastserve.server.startup import address, announce, model_row
from fastserve.server.table import MAX_SPECS
from fastserve.types import Batching, DType, Signature, TensorSpec, VersionState, VersionStatus


class FakeLease:
    """What the table shows of a lease."""

    version = 3

    def __init__(self, inputs: int = 1, batching: Batching | None = None, **config: Any) -> None:
        specs = tuple(TensorSpec(f"x{i}", DType.FLOAT, (-1, 4), ("rows", "")) for i in range(inputs))
        self.signature = Signature(specs, (TensorSpec("y", DType.INT64, (-1,)), TensorSpec("z", DType.STRING, ())))
        self.batching = batching or Batching(batchable=True, reason="")
        self.config = ModelConfig(name="m", **config)


class FakeEngine:
    """What is announced of an engine."""

    log = None

    def __init__(self, *lines: Line, problems: tuple[str, ...] = ()) -> None:
        self._lines = lines
        self._problems = problems

    def lines(self) -> list[Line]:
        return list(self._lines)

    def problems(self) -> list[str]:
        return list(self._problems)

    def notes(self) -> tuple[str, ...]:
        return ()


def loaded(model: str, lease: Any = None, reason: str = "") -> Line:
    version = Loaded(lease or FakeLease(), ("CUDAExecutionProvider", "CPUExecutionProvider"), Plan(2, 1))
    return Line(model, VersionStatus(3, VersionState.READY, reason), version, ())


@pytest.fixture(autouse=True)
def wide_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def announced(capsys: pytest.CaptureFixture[str], *lines: Line, **told: Any) -> list[str]:
    announce(FakeEngine(*lines, **told), ServerConfig())  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("iris", "iris"),
        ("a-b_c.d~e", "a-b_c.d~e"),
        ("mod!el (1)", "mod%21el%20%281%29"),
        ("50%", "50%25"),
        ("a?b#c", "a%3Fb%23c"),
        ("é", "%C3%A9"),
    ],
)
def test_an_address_can_be_pasted_whatever_the_model_is_called(
    capsys: pytest.CaptureFixture[str], model: str, path: str
) -> None:
    lines = announced(capsys, loaded(model))
    assert lines[-2] == f"http://127.0.0.1:8000/v1/models/{path}:predict"
    assert lines[2].startswith(model)


def test_each_model_has_one_address_and_health_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Line("c", VersionStatus(1, VersionState.FAILED, "no ONNX file"), None, ())
    lines = announced(capsys, loaded("a"), loaded("a"), loaded("b"), failed)
    urls = [line for line in lines if line.startswith("http://")]
    base = "http://127.0.0.1:8000"
    assert urls == [
        f"{base}/v1/models/a:predict",
        f"{base}/v1/models/b:predict",
        f"{base}/v2  {base}/readyz  {base}/metrics  {base}/docs",
    ]
    assert "c 1: no ONNX file" in lines


def test_problems_are_told_and_so_is_that_there_are_no_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert announced(capsys, problems=("models/a: no model.onnx",))[1:] == [
        "problem: models/a: no model.onnx",
        "no models: give a .onnx file or a folder of models (fastserve serve --help)",
    ]
    assert len(announced(capsys, loaded("a"))) == 6


def test_inputs_and_outputs_have_a_line_each() -> None:
    row = model_row(loaded("a"))
    assert (row.model, row.version, row.state, row.reason) == ("a", "3", "READY", "")
    assert row.inputs == "x0 float[rows, 4]"
    assert row.outputs == "y int64[?]\nz string[]"
    assert (row.batch, row.threads, row.provider) == ("yes", "2 x 1", "CUDA, CPU")


def test_very_many_inputs_are_counted() -> None:
    assert model_row(loaded("a", FakeLease(inputs=MAX_SPECS + 2))).inputs.splitlines()[MAX_SPECS:] == ["and 2 more"]


def test_why_rows_do_not_share_a_run_is_said() -> None:
    lease = FakeLease(batching=Batching(batchable=False, reason="the first axis is fixed"))
    assert model_row(loaded("a", lease)).batch == "no: the first axis is fixed"


def test_the_objective_and_the_allowed_sizes_are_said():
    row = model_row(loaded("a", FakeLease(slo_ms=20.0, batch_sizes=(1, 4))))
    assert (row.objective, row.batch) == ("20 ms", "yes: 1, 4")
    row = model_row(loaded("a"))
    assert (row.objective, row.batch) == ("", "yes")


def test_what_did_not_load_is_a_line_too() -> None:
    row = model_row(Line("a", VersionStatus(2, VersionState.FAILED, "no ONNX file"), None, ("passed over",)))
    assert (row.version, row.state, row.inputs, row.reason) == ("2", "FAILED", "", "no ONNX file")
    row = model_row(Line("a", None, None, ("no version folder", "a stray file")))
    assert (row.version, row.state, row.reason) == ("", "FAILED", "no version folder; a stray file")
    assert model_row(loaded("a", reason="version 4 does not load")).reason == "version 4 does not load"


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (ServerConfig(), "http://127.0.0.1:8000"),
        (ServerConfig(host="::1", port=9), "http://[::1]:9"),
        (ServerConfig(uds="/run/fastserve.sock"), "unix:/run/fastserve.sock"),
        (ServerConfig(ssl_certificate="c.pem", ssl_keyfile="k.pem"), "https://127.0.0.1:8000"),
    ],
)
def test_the_address_is_where_it_listens(server: ServerConfig, url: str) -> None:
    assert address(server) == url
