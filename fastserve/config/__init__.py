"""The configuration: what may be set (`fields`), and one `Config` from the command line, the environment and a file.

Command line > environment > file > default.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fastserve.config.fields import Config, ModelConfig, RepositoryConfig, ServerConfig, VersionPolicy
from fastserve.config.options import CONFIG_VARIABLE, OPTIONS, PATH_VARIABLE, Option, from_environment
from fastserve.config.source import line_of, read_file
from fastserve.errors import ConfigError

__all__ = [
    "CONFIG_VARIABLE",
    "OPTIONS",
    "Config",
    "ModelConfig",
    "Option",
    "RepositoryConfig",
    "ServerConfig",
    "VersionPolicy",
    "line_of",
    "load_config",
]


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
    config = read_file(Path(files[0]), env) if files else Config()
    values = from_environment(env)
    values |= {name: value for name, value in (options or {}).items() if value is not None and value != ()}
    if models:
        values["path"] = tuple(models)
    config = _overlay(config, values)
    _check_agreement(config.server)
    return config


def _split_paths(value: str) -> list[str]:
    """`a:b` as a list, as in PATH."""
    return [part for part in value.split(os.pathsep) if part]


def _files_and_models(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Configuration files, and the rest."""
    files: list[str] = []
    models: list[str] = []
    for path in paths:
        if not os.path.isdir(path) and path.endswith((".config", ".yaml", ".yml", ".pbtxt", "model-settings.json")):
            raise ConfigError(f"{path}: this kind of file is not read by this version; give a fastserve.toml instead")
        (files if path.endswith(".toml") else models).append(path)
    return files, models


def _overlay(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with these options set, by option name."""
    for name, value in values.items():
        option = OPTIONS[name]
        section = msgspec.structs.replace(getattr(config, option.section), **{option.field: value})
        config = msgspec.structs.replace(config, **{option.section: section})
    return config


def _check_agreement(server: ServerConfig) -> None:
    """What no single field can say."""
    if bool(server.ssl_certificate) != bool(server.ssl_keyfile):
        raise ConfigError("ssl_certificate and ssl_keyfile go together: one of them is missing")
    if server.ssl_ca and not server.ssl_certificate:
        raise ConfigError("ssl_ca needs ssl_certificate and ssl_keyfile")
