"""The configuration: four places, one winner, and mistakes told with file, line and key."""

from pathlib import Path
from typing import Any

import pytest

from fastserve.config import (
    OPTIONS,
    Config,
    DatasetConfig,
    DataUrlConfig,
    LogConfig,
    ModelConfig,
    RepositoryConfig,
    ServerConfig,
    load_config,
)
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.config.source import line_of
from fastserve.errors import ConfigError


def write(folder: Path, text: str) -> str:
    path = folder / "fastserve.toml"
    path.write_text(text)
    return str(path)


def test_defaults_are_those_of_the_contract() -> None:
    config = load_config()
    assert config == Config()
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 8000, 1)
    assert config.server.interface == "rsgi"
    assert config.server.max_body_bytes == 64 * 1024 * 1024
    assert (config.server.request_timeout_ms, config.server.drain_timeout_ms) == (30_000, 30_000)
    assert config.server.drain_delay_ms == 0
    assert (config.repository.versions, config.repository.poll_seconds) == ("latest", 1.0)


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nport = 1\nworkers = 2\nhost = 'file'\n")
    env = {"FASTSERVE_PORT": "10", "FASTSERVE_WORKERS": "20"}
    config = load_config([file], None, env, {"port": 100, "uds": None, "cors_origins": ()})
    assert (config.server.port, config.server.workers, config.server.host) == (100, 20, "file")


@pytest.mark.parametrize("place", ["file", "environment", "command line"])
def test_workers_may_be_planned(tmp_path: Path, place: str) -> None:
    file = write(tmp_path, '[server]\nworkers = "auto"\n' if place == "file" else "")
    env = {"FASTSERVE_WORKERS": "auto"} if place == "environment" else {}
    given = {"workers": OPTIONS["workers"].convert("auto", "--workers")} if place == "command line" else {}
    config = load_config([file], None, env, given)
    assert (config.server.workers, config.server.worker_count) == ("auto", 1)
    with pytest.raises(ConfigError, match="--workers: expected integer >= 1 or auto, got 'many'"):
        OPTIONS["workers"].convert("many", "--workers")
    assert config.server.interface == "rsgi"


def test_whole_file_is_read(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [server]
        cors_origins = ["https://a.example"]
        ssl_certificate = "tls/cert.pem"
        ssl_keyfile = "/abs/key.pem"
        [repository]
        path = ["models", "/abs/more"]
        poll_seconds = 0
        versions = "all"
        [[models]]
        name = "digits"
        path = "other/digits"
        versions = {latest = 2}
        labels = { stable = 1, canary = 2 }
        aliases = ["deployment-42"]
        max_batch_rows = 8
        [[models]]
        name = "iris"
        versions = [1, 3]
        """,
    )
    config = load_config([file])
    assert config.server.cors_origins == ("https://a.example",)
    assert config.server.ssl_certificate == str(tmp_path / "tls/cert.pem")
    assert config.server.ssl_keyfile == "/abs/key.pem"
    assert config.repository.path == (str(tmp_path / "models"), "/abs/more")
    digits, iris = config.models
    assert digits.path == str(tmp_path / "other/digits")
    assert (digits.versions, digits.labels, digits.aliases) == (
        {"latest": 2},
        {"stable": 1, "canary": 2},
        ("deployment-42",),
    )
    assert (digits.max_batch_rows, digits.max_queue_rows, digits.max_queue_delay_us) == (8, 4096, 0)
    assert (iris.path, iris.versions) == (None, (1, 3))


def test_what_is_said_of_tensors_knows_its_line_and_warm_up_files_are_relative_to_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """[[models]]
        name = "m"
        inputs = [{ name = "x", datatype = "FP32", shape = [4], batched = true }]
        priority_policies = { 1 = { timeout_us = 5 }, 2 = { timeout_action = "delay" } }
        warmup = [{ inputs = { x = { shape = [4], data = "file", file = "x.bin" } }, rows = 8 }]
        """,
    )
    (model,) = load_config([file]).models
    assert model.inputs[0].where == f"{file}, line 3"
    assert model.warmup[0].inputs["x"].file == str(tmp_path / "x.bin")
    assert model.priority_policies == {
        1: QueuePolicyConfig(timeout_us=5),
        2: QueuePolicyConfig(timeout_action="delay"),
    }


def test_one_path_may_stand_alone(tmp_path: Path) -> None:
    assert load_config([write(tmp_path, "[repository]\npath = 'models'")]).repository.path == (
        str(tmp_path / "models"),
    )


def test_paths_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[repository]\npath = 'models'")
    assert load_config(["here.onnx"], file).repository.path == ("here.onnx",)
    assert load_config(["here.onnx", file]).repository.path == ("here.onnx",)


def test_environment_names_file_and_paths(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nport = 7")
    config = load_config(env={"FASTSERVE_CONFIG": file, "FASTSERVE_PATH": "a:b"})
    assert (config.server.port, config.repository.path) == (7, ("a", "b"))


def test_variables_stand_in_any_string(tmp_path: Path) -> None:
    file = write(tmp_path, '[server]\nport = "${PORT}"\nhost = "h-${NAME}"\n[repository]\npath = ["${WHERE}/models"]')
    config = load_config([file], env={"PORT": "81", "NAME": "x", "WHERE": "/srv"})
    assert (config.server.port, config.server.host, config.repository.path) == (81, "h-x", ("/srv/models",))


MISTAKES = [
    ("[server]\nhots = 'x'", "line 2: server.hots: unknown key; did you mean host?"),
    ("[sever]\nhost = 'x'", "line 1: sever: unknown key; did you mean server?"),
    ("[auth]\nx = 1", "line 2: auth.x: unknown key; known here: users, keys"),
    ("[[models]]\nname = 'a'\n\n[[models]]\nname = 'b'\nmax_batch_row = 1", "line 6: models[1].max_batch_row"),
    ("[[models]]\nname = 'a'\nlabel = {a = 1}", "did you mean labels?"),
    ("[server]\n\nport = 99999", "line 3: server.port: expected `int` <= 65535"),
    ("[server]\nport = -1", "line 2: server.port: expected `int` >= 0"),
    ("[server]\nport = 'x'", "line 2: server.port: expected `int`, got `str`"),
    ("[server]\ninterface = 'wsgi'", "line 2: server.interface: invalid enum value 'wsgi'"),
    ("[[models]]\npath = 'x'", "line 1: models[0]: object missing required field `name`"),
    ("[[models]]\nname = 'a'\nversions = {newest = 1}", "line 3: models[0].versions: expected {latest = n}"),
    ("[repository]\nversions = {latest = 0}", "line 2: repository.versions: expected {latest = n}"),
    ("[[models]]\nname = 'a'\n[[models]]\nname = 'a'", 'line 3: models[1]: the name "a" is already that of model "a"'),
    ("[[models]]\nname = 'a'\n[[models]]\nname = 'b'\naliases = ['a']", "line 3: models[1]: the name"),
    ("[[models]]\nname = 'a/b'", 'line 2: models[0].name: a model\'s name cannot have / in it, got "a/b"'),
    ("[[models]]\nname = ''", "line 2: models[0].name: "),
    (
        '[[models]]\nname = "a\\u0007"',
        "line 2: models[0].name: a model's name cannot have characters that are not printable",
    ),
    (
        "[[models]]\nname = 'a'\naliases = ['b', 'c%d']",
        'line 3: models[0].aliases: a model\'s name cannot have % in it, got "c%d"',
    ),
    ("[server]\nhost = '${NOWHERE}'", "line 2: server.host: the environment has no variable NOWHERE"),
    ("server = 3", "line 1: server: expected `object`, got `int`"),
    ("models = 3", "line 1: models: expected `array`, got `int`"),
    ("[server\nport = 1", "not TOML: "),
    ("[server]\nssl_keyfile = 'k'", "ssl_certificate and ssl_keyfile go together"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([write(tmp_path, text)])
    assert expected in str(caught.value)


def test_every_mistake_names_the_file(tmp_path: Path) -> None:
    for text, _ in MISTAKES[:-1]:
        with pytest.raises(ConfigError, match=r"fastserve\.toml"):
            load_config([write(tmp_path, text)])


def test_a_file_of_a_models_folder_stands_for_the_folder() -> None:
    assert load_config(["models/m/config.pbtxt", "model-settings.json"]).repository.path == ("models/m", ".")


def test_folder_may_be_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "models.config").mkdir()
    assert load_config([str(tmp_path / "models.config")]).repository.path


def test_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_config(["nowhere.toml"])


def test_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"[server]\nhost = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 17"):
        load_config([str(tmp_path / "x.toml")])


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.toml and b\.toml were given"):
        load_config(["b.toml"], "a.toml")


WRONG_VARIABLES = [
    ({"FASTSERVE_PORT": "x"}, "FASTSERVE_PORT: expected `int`, got 'x'"),
    ({"FASTSERVE_PORT": "70000"}, "FASTSERVE_PORT: expected `int` <= 65535, got '70000'"),
    ({"FASTSERVE_INTERFACE": "x"}, "FASTSERVE_INTERFACE: expected rsgi or asgi, got 'x'"),
    ({"FASTSERVE_POTR": "1"}, "FASTSERVE_POTR: unknown variable; did you mean FASTSERVE_PORT?"),
]


@pytest.mark.parametrize(("env", "expected"), WRONG_VARIABLES)
def test_wrong_variable_is_named(env: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(env=env)
    assert str(caught.value) == expected


def test_variables_of_kubernetes_services_are_not_options() -> None:
    links = {
        "FASTSERVE_PORT": "tcp://10.0.0.1:8000",
        "FASTSERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "FASTSERVE_SERVICE_HOST": "10.0.0.1",
        "FASTSERVE_SERVICE_PORT": "8000",
    }
    assert load_config(env=links) == Config()


VARIABLES: list[tuple[str, str, str, str, Any]] = [
    ("FASTSERVE_HOST", "0.0.0.0", "server", "host", "0.0.0.0"),
    ("FASTSERVE_MAX_BODY_BYTES", "10", "server", "max_body_bytes", 10),
    ("FASTSERVE_CORS_ORIGIN", "https://a, https://b", "server", "cors_origins", ("https://a", "https://b")),
    ("FASTSERVE_LOG_DIR", "logs", "server", "log_dir", "logs"),
    ("FASTSERVE_UDS", "/run/x.sock", "server", "uds", "/run/x.sock"),
    ("FASTSERVE_POLL_SECONDS", "0.5", "repository", "poll_seconds", 0.5),
    ("FASTSERVE_VERSIONS", "all", "repository", "versions", "all"),
]


@pytest.mark.parametrize(("variable", "text", "section", "field", "value"), VARIABLES)
def test_variable_sets_its_field(variable: str, text: str, section: str, field: str, value: Any) -> None:
    assert getattr(getattr(load_config(env={variable: text}), section), field) == value


def test_empty_variable_is_not_set() -> None:
    assert load_config(env={"FASTSERVE_UDS": "", "FASTSERVE_PORT": ""}) == Config()


def test_every_option_says_what_it_is() -> None:
    for option in OPTIONS.values():
        assert option.description.endswith("."), option.name
        unit = {"_ms": "milliseconds", "_seconds": "seconds", "_bytes": "bytes", "_us": "microseconds"}
        for suffix, word in unit.items():
            assert not option.name.endswith(suffix) or word in option.description


def test_authority_without_certificate_is_refused() -> None:
    with pytest.raises(ConfigError, match="ssl_ca needs"):
        load_config(options={"ssl_ca": "ca.pem"})


@pytest.mark.parametrize("origin", ["page.example", "https://page.example/x", "https://", "*.example"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"cors_origins: expected an origin as in https://page.example, or \*, got"):
        load_config(options={"cors_origin": ["*", "http://localhost:3000", "null", origin]})


def test_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        ServerConfig().port = 1  # type: ignore[misc]


LINES = [
    ("a = 1", ("a",), 1),
    ("[t]\n  a = 1", ("t", "a"), 2),
    ("[t]\n# a = 1\n'a' = 1", ("t", "a"), 3),
    ("[t]\nb = 1\n", ("t", "a"), 1),
    ("[[m]]\na = 1\n[[m]]\na = 2", ("m", 1, "a"), 4),
    ("[[m]]\na = 1\n[m.b]\nc = 2", ("m", 0, "b"), 1),
    ("[t]\na = [\n 1,\n]", ("t", "a", 0), 2),
    ("[t.u]\na = 1", ("t", "u", "a"), 2),
    ("t = {a = 1}", ("t", "a"), 1),
    ("[t]", ("u",), None),
    ("[t]", (), None),
]


@pytest.mark.parametrize(("text", "keys", "line"), LINES)
def test_line_of_a_key(text: str, keys: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(text, keys) == line


def test_example_file_shows_the_defaults_and_can_be_served() -> None:
    example = Path(__file__).parents[2] / "examples" / "fastserve.toml"
    config = load_config([str(example)])
    assert config.server == ServerConfig()
    assert Path(config.repository.path[0]).is_dir()
    text = example.read_text()
    assert (config.data_url, config.log) == (DataUrlConfig(), LogConfig())
    for struct in (ServerConfig, RepositoryConfig, ModelConfig, DatasetConfig, DataUrlConfig, LogConfig):
        for field in struct.__struct_encode_fields__:
            assert f"\n{field} = " in text or f"\n# {field} = " in text, field
    (iris,) = config.models
    for field in (
        "max_batch_rows",
        "max_queue_delay_us",
        "max_queue_rows",
        "batching",
        "slots",
        "threads",
        "providers",
    ):
        assert getattr(iris, field) == getattr(ModelConfig(name="x"), field), field
