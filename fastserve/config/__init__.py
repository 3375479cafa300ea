"""The configuration: what may be set (`fields`), and one `Config` from the command line, the environment and a file.

Command line > environment > file > default.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fastserve.config.auth import AuthConfig, KeyConfig, UserConfig
from fastserve.config.fields import (
    Config,
    DatasetConfig,
    DataUrlConfig,
    ImageConfig,
    ModelConfig,
    RepositoryConfig,
    ServerConfig,
    VersionPolicy,
)
from fastserve.config.options import CONFIG_VARIABLE, OPTIONS, PATH_VARIABLE, Option, from_environment
from fastserve.config.origin import FileIdentity, Origin, identity
from fastserve.config.prediction_log import LogConfig
from fastserve.config.source import line_of, read_toml
from fastserve.errors import ConfigError
from fastserve.types import printable, refused_name

__all__ = [
    "CONFIG_VARIABLE",
    "FOLDER_FILES",
    "OPTIONS",
    "AuthConfig",
    "Config",
    "DataUrlConfig",
    "DatasetConfig",
    "ImageConfig",
    "KeyConfig",
    "LogConfig",
    "ModelConfig",
    "Option",
    "Origin",
    "RepositoryConfig",
    "ServerConfig",
    "UserConfig",
    "VersionPolicy",
    "line_of",
    "load_config",
]

PROTOCOL_PREFIXES = ("/v1/", "/v2/", "/model-serving/")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+/?")
PROTO_SUFFIXES = (".config", ".conf", ".textproto", ".pbtxt", ".prototxt")
YAML_SUFFIXES = (".yaml", ".yml")
FOLDER_FILES = ("config.pbtxt", "model-settings.json")
MODEL_NAME_VARIABLE, MODEL_BASE_VARIABLE = "MODEL_NAME", "MODEL_BASE_PATH"
"""What TF Serving's image takes: the model at MODEL_BASE_PATH/MODEL_NAME."""


def load_config(
    paths: Sequence[str] = (),
    file: str | None = None,
    env: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration from all places. Raises ConfigError naming the place, the key and the nearest known key.

    `paths`: models, folders of models, or one configuration file. `file`: what --config names. `env`: the environment;
    None for none. `options`: what the command line set, by option name; None and () count as not set.
    """
    env = env or {}
    files, models = _files_and_models([*paths] or _split_paths(env.get(PATH_VARIABLE, "")))
    if file or (not files and env.get(CONFIG_VARIABLE)):
        files.insert(0, file or env[CONFIG_VARIABLE])
    if len(files) > 1:
        raise ConfigError(f"one configuration file at a time: {' and '.join(files)} were given")
    seen: dict[str, FileIdentity | None] = {}
    config = _read(files[0], env, seen) if files else Config()
    values = from_environment(env)
    values |= {name: value for name, value in (options or {}).items() if value is not None and value != ()}
    if models:
        values["path"] = tuple(models)
    config = _with_files_beside(_overlay(config, values), files, seen)
    if not files and not config.repository.path:
        config = replace(config, models=_named_by(env))
    _check_agreement(config.server)
    if not seen:
        return config
    again = _Again(lambda: load_config(paths, file, env, options))
    return replace(config, origin=replace(config.origin, files=seen, again=again))


class _Again:
    """Reads a configuration again. A class of its own, so that printing a Config prints no environment."""

    def __init__(self, read: Callable[[], Config]) -> None:
        self._read = read

    def __call__(self) -> Config:
        return self._read()


def _read(file: str, env: Mapping[str, str], seen: dict[str, FileIdentity | None]) -> Config:
    """The Config of one file, by its kind."""
    seen[os.path.abspath(file)] = identity(file)  # before it is read: what changes meanwhile is read again
    if file.endswith(YAML_SUFFIXES):
        from fastserve.config.spicepod import read_spicepod

        return read_spicepod(Path(file), env)
    if not _is_proto_text(file):
        return read_toml(Path(file), env)
    from fastserve.config.tfserving import read_models  # protobuf, for those who need it

    return read_models(Path(file))


def _is_proto_text(file: str) -> bool:
    """Whether it is a models.config and no fastserve.toml: by its name, and where that says nothing, by what it holds."""
    if file.endswith((".toml", *YAML_SUFFIXES, *PROTO_SUFFIXES)):
        return file.endswith(PROTO_SUFFIXES)
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return re.search(r"^\s*model_config_list\b", text.read(1 << 16), re.MULTILINE) is not None
    except OSError:
        return False


def _with_files_beside(config: Config, files: Sequence[str], seen: dict[str, FileIdentity | None]) -> Config:
    """`config` with TF Serving's batching and monitoring files: those named, or those beside a models.config."""
    batching, monitoring = config.repository.batching_parameters_file, config.server.monitoring_config_file
    candidates: list[Path] = []
    if not batching and not monitoring and not (files and _is_proto_text(files[0])):
        return config
    from fastserve.config import tfserving

    if files and _is_proto_text(files[0]):
        candidates = [*tfserving.beside(Path(files[0]), (*tfserving.BATCHING_FILES, *tfserving.MONITORING_FILES))]
    notes = [*config.origin.notes]
    found = _chosen(batching, candidates, tfserving.BATCHING_FILES, seen)
    defaults: dict[str, Any] = {}
    if found:
        defaults, more = tfserving.read_batching(found)
        notes += more
    found = _chosen(monitoring, candidates, tfserving.MONITORING_FILES, seen)
    if found:
        path, more = tfserving.read_monitoring(found)
        notes += more
        if path and not config.server.metrics_path:
            config = replace(config, server=replace(config.server, metrics_path=path))
    return replace(config, origin=replace(config.origin, defaults=defaults, notes=tuple(notes)))


def _chosen(
    named: str | None, candidates: Sequence[Path], names: Sequence[str], seen: dict[str, FileIdentity | None]
) -> Path | None:
    """The file that is named, or the first of the candidates of these names that is there."""
    if named:
        seen[os.path.abspath(named)] = identity(named)
        return Path(named)
    mine = [path for path in candidates if path.name in names]
    seen.update((str(path), identity(str(path))) for path in mine)
    return next((path for path in mine if path.is_file()), None)


def _named_by(env: Mapping[str, str]) -> tuple[ModelConfig, ...]:
    """The model of TF Serving's two variables, if they are set."""
    name = env.get(MODEL_NAME_VARIABLE)
    if not name:
        return ()
    if refused_name(name):
        raise ConfigError(f'{MODEL_NAME_VARIABLE}: {refused_name(name)}, got "{printable(name)}"')
    return (ModelConfig(name=name, path=os.path.join(env.get(MODEL_BASE_VARIABLE) or "/models", name)),)


def _split_paths(value: str) -> list[str]:
    """`a:b` as a list, as in PATH."""
    return [part for part in value.split(os.pathsep) if part]


def _files_and_models(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Configuration files, and the rest; a model folder's own file stands for the folder."""
    files: list[str] = []
    models: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            models.append(path)
        elif os.path.basename(path) in FOLDER_FILES:
            models.append(os.path.dirname(path) or ".")
        else:
            (files if path.endswith((".toml", *YAML_SUFFIXES, *PROTO_SUFFIXES)) else models).append(path)
    return files, models


def _overlay(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with these options set, by option name."""
    for name, value in values.items():
        option = OPTIONS[name]
        section = replace(getattr(config, option.section), **{option.field: value})
        config = replace(config, **{option.section: section})
    return config


def _check_agreement(server: ServerConfig) -> None:
    """What no single field can say."""
    if bool(server.ssl_certificate) != bool(server.ssl_keyfile):
        raise ConfigError("ssl_certificate and ssl_keyfile go together: one of them is missing")
    owner = next((prefix for prefix in PROTOCOL_PREFIXES if f"{server.metrics_path}/".startswith(prefix)), None)
    if owner:
        raise ConfigError(f"metrics_path: {server.metrics_path} is under {owner}, which belongs to the models")
    if server.ssl_ca and not server.ssl_certificate:
        raise ConfigError("ssl_ca needs ssl_certificate and ssl_keyfile")
    for origin in server.cors_origins:
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            raise ConfigError(f'cors_origins: expected an origin as in https://page.example, or *, got "{origin}"')
