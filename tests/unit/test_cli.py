"""The command line without a server: usage, exit codes, help, and the pure parts of each command."""

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fastserve import __version__, demo
from fastserve.cli.client import CallFailed, Client, model_path
from fastserve.cli.demo import requests_to_try
from fastserve.cli.main import COMMANDS, cli
from fastserve.cli.models import infos
from fastserve.cli.predict import answer_lines, body_of, made_up_body, shortened
from fastserve.cli.settings import ON_THE_COMMAND_LINE
from fastserve.cli.signature import RemoteSpec, remote_inputs
from fastserve.config import Config, ServerConfig


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, env={"NO_COLOR": "1", **(env or {})})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_debug(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"fastserve {command}" in result.output
    assert "--debug" in result.output


def test_help_lists_every_command_with_a_sentence() -> None:
    output = run("--help").output
    for command in COMMANDS:
        assert any(line.strip().startswith(command) and line.endswith(".") for line in output.splitlines())


OPTIONS_OF_SERVE = [
    "--host",
    "--port",
    "--workers",
    "--interface",
    "--config",
    "--log-dir",
    "--max-body-bytes",
    "--versions",
    "--request-timeout-ms",
    "--drain-timeout-ms",
    "--drain-delay-ms",
    "--poll-seconds",
    "--cors-origin",
    "--uds",
    "--ssl-certificate",
    "--ssl-keyfile",
    "--ssl-ca",
]
OPTIONS_BEYOND = [
    "--header-timeout-ms",
    "--metrics-compat",
    "--metrics-path",
    "--monitoring-config-file",
    "--batching-parameters-file",
    "--non-finite",
    "--compress-min-bytes",
    "--access-log",
    "--ssl-client-certificate",
    "--adaptive-affinity",
    "--share-weights-bytes",
    "--weights-dir",
]
"""Those that the contract leaves to us."""


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_options_are_those_of_the_contract(command: str) -> None:
    output = run(command, "--help").output
    expected = OPTIONS_OF_SERVE + OPTIONS_BEYOND
    assert [option for option in expected if f"  {option} " not in output] == []
    assert len(ON_THE_COMMAND_LINE) + 1 == len(expected)


WRONG_USAGE = [
    (("serve",), "nothing to serve"),
    (("serve", "nowhere.onnx"), "'nowhere.onnx' does not exist"),
    (("serve", "--port", "x", "."), "expected `int`, got 'x'"),
    (("serve", "--port", "65536", "."), "expected `int` <= 65535, got '65536'"),
    (("serve", "--interface", "wsgi", "."), "expected rsgi or asgi, got 'wsgi'"),
    (("serve", "--versions", "newest", "."), "expected latest or all, got 'newest'"),
    (("serve", "--prot", "1", "."), "No such option '--prot'"),
    (("check",), "Missing argument"),
    (("predict", "http://127.0.0.1:1"), "Missing argument"),
    (("predict", "x", "m", "--version", "1", "--label", "a"), "exclude each other"),
    (("predict", "x", "m", "--data", "[1"), "not JSON"),
    (("predict", "x", "m", "--data", "@nowhere.json"), "nowhere.json"),
    (("tidy",), "No such command 'tidy'"),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG_USAGE)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], expected: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert expected in result.output


FAILURES = [
    (("models", "ftp://x"), "ftp://x is no http:// or https:// URL"),
    (("models", "http://127.0.0.1:1"), "http://127.0.0.1:1 cannot be reached"),
    (("predict", "127.0.0.1:1", "iris"), "http://127.0.0.1:1 cannot be reached"),
    (("serve", "spicepod.yaml"), "spicepod.yaml: expected keys and values, got nothing"),
]


@pytest.mark.parametrize(("arguments", "expected"), FAILURES)
def test_failure_is_exit_code_1_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.excepthook", _main_hook())
    (tmp_path / "spicepod.yaml").touch()
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert expected in result.output
    assert len(result.output.splitlines()) == 1


def _main_hook() -> Any:
    from fastserve.cli import main

    return main._one_line


def test_version_names_what_is_installed() -> None:
    found = json.loads(run("version", "--json").output)
    assert found["fastserve"] == __version__
    assert "CPUExecutionProvider" in found["providers"]
    assert set(found) >= {"onnxruntime", "granian", "python"}
    assert f"fastserve    {__version__}" in run("version").output


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_an_option_too(option: str) -> None:
    found = CliRunner().invoke(cli, [option])
    assert (found.exit_code, found.output) == (0, f"fastserve {__version__}\n")


def test_check_says_what_would_be_served() -> None:
    result = run("check", str(demo.MODELS), "--json")
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert report["ok"]
    assert [model["model"] for model in report["models"]] == demo.names()
    assert all(model["batch"] == "yes" for model in report["models"])
    table = run("check", str(demo.MODELS)).output
    assert "features float[rows, 4]" in table


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    result = run("check", str(tmp_path), "--json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert not report["ok"]
    broken = next(model for model in report["models"] if model["model"] == "broken")
    assert not broken["ok"]
    assert broken["reason"]
    assert "broken" in run("check", str(tmp_path)).output


def test_check_tells_file_and_line_of_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "fastserve.toml").write_text("[server]\nprot = 1\n")
    result = run("check", str(tmp_path / "fastserve.toml"))
    assert result.exit_code == 1
    assert "fastserve.toml, line 2: server.prot: unknown key; did you mean port?" in result.output


def test_check_tells_the_line_that_names_what_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "fastserve.toml"
    file.write_text('[repository]\npath = "."\n[[models]]\nname = "x"\npath = "nowhere"\n[[models]]\nname = "y"\n')
    problems = json.loads(run("check", str(file), "--json").output)["problems"]
    assert any(problem.startswith(f"{file}, line 5: {tmp_path / 'nowhere'}: ") for problem in problems)
    assert any(problem.startswith(f'{file}, line 7: model "y"') for problem in problems)


def test_check_tells_file_and_line_in_a_models_config_and_what_is_not_applied(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    entry = f'config {{ name: "iris" base_path: "{demo.MODELS / "iris"}" logging_config {{}} }}'
    file.write_text(f"model_config_list {{\n{entry}\n}}")
    result = run("check", str(file))
    assert result.exit_code == 0, result.output
    assert f"note: {file}, line 2: model_config_list.config[0].logging_config is not applied" in result.output
    file.write_text(f'model_config_list {{\n{entry}\nconfig {{ name: "x"\nbase_path: "nowhere" }} }}')
    problems = json.loads(run("check", str(file), "--json").output)["problems"]
    assert problems == [f"{file}, line 4: {tmp_path / 'nowhere'}: No such file or directory"]
    file.write_text("model_config_list {\n config { name 'x' } }")
    result = run("check", str(file))
    assert result.exit_code == 1
    assert f'problem: {file}, line 2, column 16: expected ":" or "{{", got \'x\'' in result.output


def test_check_of_nothing_is_a_failure(tmp_path: Path) -> None:
    assert run("check", str(tmp_path)).exit_code == 1
    assert run("check", str(tmp_path / "nowhere")).exit_code == 1


def test_serve_gets_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("fastserve.server.launch.serve", lambda config: seen.append(config) or 7)
    monkeypatch.setattr("fastserve.logs.set_up", lambda directory: None)
    arguments = ("--cors-origin", "https://a", "--cors-origin", "https://b", "--poll-seconds", "0", "--versions", "all")
    result = run("serve", str(tmp_path), *arguments, env={"FASTSERVE_PORT": "81"})
    assert result.exit_code == 7
    assert seen[0].server == ServerConfig(port=81, cors_origins=("https://a", "https://b"))
    assert seen[0].repository.path == (str(tmp_path),)
    assert (seen[0].repository.poll_seconds, seen[0].repository.versions) == (0, "all")


def test_demo_prints_a_request_and_serves_the_embedded_models(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("fastserve.server.launch.serve", lambda config: seen.append(config) or 0)
    monkeypatch.setattr("fastserve.logs.set_up", lambda directory: None)
    result = run("demo", "--port", "81")
    assert result.exit_code == 0
    assert (
        "curl -d '{\"instances\": [[5.1, 3.5, 1.4, 0.2]]}' http://127.0.0.1:81/v1/models/iris:predict" in result.output
    )
    assert seen[0].repository.path == (str(demo.MODELS),)


TARGETS = [
    (ServerConfig(), "http://127.0.0.1:8000/v1"),
    (ServerConfig(host="0.0.0.0", port=1), "http://127.0.0.1:1/v1"),
    (ServerConfig(host="::"), "http://[::1]:8000/v1"),
    (ServerConfig(host="fe80::1"), "http://[fe80::1]:8000/v1"),
    (ServerConfig(ssl_certificate="c", ssl_keyfile="k"), "--insecure https://127.0.0.1:8000/v1"),
    (ServerConfig(uds="/tmp/a b.sock", port=0), "--unix-socket '/tmp/a b.sock' http://localhost/v1"),
]


@pytest.mark.parametrize(("server", "expected"), TARGETS)
def test_request_to_try_reaches_the_server(server: ServerConfig, expected: str) -> None:
    line = requests_to_try(Config(server=server))[1]
    assert expected in line
    assert shlex.split(line)[0] == "curl"


def test_no_request_to_try_without_a_port() -> None:
    assert requests_to_try(Config(server=ServerConfig(port=0))) == []


BODIES = [
    ("[1, 2.50]", b'{"instances": [[1, 2.50]]}'),
    ("5", b'{"instances": [5]}'),
    ('{"x": 1}', b'{"instances": [{"x": 1}]}'),
    ('{"instances": [1]}', b'{"instances": [1]}'),
    ('{"inputs": 1}', b'{"inputs": 1}'),
    ("NaN", b'{"instances": [NaN]}'),
]


@pytest.mark.parametrize(("text", "body"), BODIES)
def test_data_becomes_a_body(text: str, body: bytes) -> None:
    assert body_of(text) == body


def test_data_that_is_not_json_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="not JSON"):
        body_of("{")


def spec(name: str, dtype: str, *shape: int) -> RemoteSpec:
    return RemoteSpec(name, dtype, shape, ("",) * len(shape))


MADE_UP = [
    ("other", [spec("x", "DT_FLOAT", -1, 2)], {"instances": [{"x": [0, 0]}]}),
    ("other", [spec("x", "DT_STRING", -1)], {"instances": [{"x": ""}]}),
    ("other", [spec("x", "DT_BOOL", -1, -1, 2)], {"instances": [{"x": [[False, False]]}]}),
    ("other", [spec("a", "DT_FLOAT", -1), spec("b", "DT_INT64")], {"inputs": {"a": [0], "b": 0}}),
    ("other", [spec("a", "DT_FLOAT", 2)], {"inputs": {"a": [0, 0]}}),
    ("iris", [spec("features", "DT_FLOAT", -1, 4)], {"instances": [[5.1, 3.5, 1.4, 0.2]]}),
    ("wine", [spec("x", "DT_FLOAT", -1)], {"instances": [{"x": 0}]}),
]


@pytest.mark.parametrize(("model", "inputs", "body"), MADE_UP)
def test_body_is_made_up_from_the_signature(model: str, inputs: list[RemoteSpec], body: Any) -> None:
    assert json.loads(made_up_body(model, inputs)) == body


def test_input_that_is_too_large_is_not_made_up() -> None:
    with pytest.raises(CallFailed, match="too large"):
        made_up_body("x", [spec("x", "DT_FLOAT", -1, 100_000, 100_000)])


ANSWERS = [
    ({"predictions": [1.5]}, ["1.5"]),
    ({"predictions": [{"label": "a", "p": [0.5]}]}, ['label  "a"', "p      [0.5]"]),
    ({"predictions": [[1], [2]]}, ["row 0", "[1]", "row 1", "[2]"]),
    ({"predictions": []}, []),
    ({"outputs": 3}, ["3"]),
    ({"outputs": {"a": 1, "bc": [2]}}, ["a   1", "bc  [2]"]),
    ([1], ["[1]"]),
]


@pytest.mark.parametrize(("answer", "lines"), ANSWERS)
def test_answer_is_shown_by_row_and_name(answer: Any, lines: list[str]) -> None:
    assert answer_lines(answer) == lines


def test_long_body_is_shortened() -> None:
    assert shortened(b"abc", 3) == "abc"
    assert shortened(b"abcd", 3) == "abc... (4 bytes)"


def test_model_infos_are_read_from_metrics() -> None:
    text = "\n".join([
        "# TYPE fastserve_model_info gauge",
        'fastserve_model_info{model="a",state="READY",version="1"} 1.0',
        'fastserve_model_info{model="b\\"\\\\\\n,}",version="2",state="FAILED"} 1',
        'fastserve_model_info{model="c",version="3",state="READY"} 0',
        'fastserve_requests_total{model="a"} 1',
    ])  # fmt: skip
    assert infos(text) == [
        {"model": "a", "state": "READY", "version": "1"},
        {"model": 'b"\\\n,}', "version": "2", "state": "FAILED"},
    ]


PATHS = [
    (("m", None, None), "/v1/models/m"),
    (("a b/c", 2, None), "/v1/models/a%20b%2Fc/versions/2"),
    (("m", None, "x y"), "/v1/models/m/labels/x%20y"),
]


@pytest.mark.parametrize(("arguments", "path"), PATHS)
def test_model_path_is_quoted(arguments: tuple[str, int | None, str | None], path: str) -> None:
    assert model_path(*arguments) == path


URLS = [
    ("127.0.0.1:1", "http://127.0.0.1:1"),
    ("http://h/", "http://h"),
    ("https://h/base/", "https://h/base"),
]


@pytest.mark.parametrize(("typed", "url"), URLS)
def test_url_is_completed(typed: str, url: str) -> None:
    assert Client(typed, 1.0).url == url


@pytest.mark.parametrize("metadata", [None, [], {}, {"metadata": {"signature_def": {}}}])
def test_foreign_metadata_is_told(metadata: Any) -> None:
    with pytest.raises(CallFailed, match="give --data"):
        remote_inputs(metadata)
