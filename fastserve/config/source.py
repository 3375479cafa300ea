"""A `fastserve.toml` as a Config: every mistake in it is told with file, line and key."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fastserve.config import tables
from fastserve.config.allowed import anchored, read_entry
from fastserve.config.auth import auth_tables, mistakes, mistakes_as_written
from fastserve.config.fields import (
    Config,
    DatasetConfig,
    DataUrlConfig,
    ModelConfig,
    RepositoryConfig,
    ServerConfig,
    TensorConfig,
)
from fastserve.config.options import OPTIONS
from fastserve.config.origin import Origin
from fastserve.config.prediction_log import LogConfig
from fastserve.config.warming import WarmupInput
from fastserve.errors import ConfigError
from fastserve.types import printable, refused_name

STANDARD_OUTPUT = "-"

Keys = tuple[str | int, ...]
"""Where in a file: `("models", 0, "path")`."""


def read_toml(path: Path, env: Mapping[str, str]) -> Config:
    """The file's Config; `${NAME}` in strings comes from `env`, relative paths are relative to the file's folder."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {_lower_first(str(error))}") from None
    source = _Source(path=path, text=text)
    source.refuse_unknown_keys(raw)
    source.refuse_first(mistakes_as_written(raw))
    config = source.convert(source.expand(raw, env))
    source.refuse_first(mistakes(config.auth))
    source.check_policies(config)
    source.check_names(config.models)
    tables.check(config, source.error)
    written = {model.name: frozenset(entry) for model, entry in zip(config.models, raw.get("models", ()), strict=True)}
    config = _resolve_paths(source.with_lines(config), path.absolute().parent)
    source.check_allowed(config.data_url)
    return replace(config, origin=Origin(places=source.places(config.models), written=written))


def _resolve_paths(config: Config, base: Path) -> Config:
    """Every path in `config` made absolute."""
    sections: dict[str, Any] = {"server": config.server, "repository": config.repository}
    for option in OPTIONS.values():
        value = getattr(sections[option.section], option.field)
        if option.is_path and value and value != STANDARD_OUTPUT:
            found = tuple(str(base / path) for path in value) if option.many else str(base / value)
            sections[option.section] = replace(sections[option.section], **{option.field: found})
    models = tuple(_resolve_model(model, base) for model in config.models)
    datasets = tuple(tables.resolved(one, base) for one in config.datasets)
    data_url = replace(config.data_url, allow=tuple(anchored(entry, base) for entry in config.data_url.allow))
    log = replace(config.log, directory=str(base / config.log.directory)) if config.log.directory else config.log
    return replace(config, **sections, log=log, models=models, datasets=datasets, data_url=data_url)


def _resolve_model(model: ModelConfig, base: Path) -> ModelConfig:
    warmup = tuple(
        replace(sample, inputs={name: _resolve_input(one, base) for name, one in sample.inputs.items()})
        for sample in model.warmup
    )
    return replace(model, path=str(base / model.path) if model.path else None, warmup=warmup)


def _resolve_input(one: WarmupInput, base: Path) -> WarmupInput:
    return replace(one, file=str(base / one.file)) if one.file else one


class _Source(Struct, frozen=True):
    """One configuration file, to say where in it something is wrong."""

    path: Path
    text: str

    def error(self, keys: Keys, reason: str) -> ConfigError:
        """A ConfigError at `keys`, with its line where that is found."""
        line = line_of(self.text, keys)
        place = f"{self.path}, line {line}" if line else str(self.path)
        return ConfigError(f"{place}: {_dotted(keys)}: {reason}" if keys else f"{place}: {reason}")

    def refuse_unknown_keys(self, raw: dict[str, Any]) -> None:
        """Raises ConfigError for the first key that is not a field, naming the nearest that is."""
        for keys, table, struct in _tables(raw):
            known = [name for name in struct.__struct_encode_fields__ if name != "origin"]
            for key in table:
                if key not in known:
                    near = get_close_matches(key, known, n=1, cutoff=0.6)
                    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                    raise self.error((*keys, key), f"unknown key; {hint}")

    def refuse_first(self, found: Iterator[tuple[Keys, str]]) -> None:
        """Raises ConfigError for the first mistake, where there is one."""
        for keys, reason in found:
            raise self.error(keys, reason)

    def expand(self, value: Any, env: Mapping[str, str], keys: Keys = ()) -> Any:
        """`value` with every `${NAME}` replaced by the environment's value."""
        if isinstance(value, dict):
            return {key: self.expand(item, env, (*keys, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.expand(item, env, (*keys, i)) for i, item in enumerate(value)]
        if not isinstance(value, str):
            return value

        def variable(match: re.Match[str]) -> str:
            if match[1] not in env:
                raise self.error(keys, f"the environment has no variable {match[1]}")
            return env[match[1]]

        return re.sub(r"\$\{(\w+)\}", variable, value)

    def convert(self, raw: dict[str, Any]) -> Config:
        """The fields' types and bounds. Not strict: what came out of `${PORT}` is a string and means a number."""
        repository = raw.get("repository")
        if isinstance(repository, dict) and isinstance(repository.get("path"), str):
            repository["path"] = [repository["path"]]
        try:
            return msgspec.convert(raw, Config, strict=False)
        except msgspec.ValidationError as error:
            # msgspec's text: "Expected `int` <= 65535 - at `$.models[0].port`"
            reason, _, at = str(error).partition(" - at `")
            found = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", at)
            keys = tuple(int(index) if index else key for key, index in found)
            raise self.error(keys, _lower_first(reason)) from None

    def check_policies(self, config: Config) -> None:
        """A policy that is a table says `latest` and nothing else."""
        policies: list[tuple[Keys, Any]] = [(("repository", "versions"), config.repository.versions)]
        policies += [(("models", i, "versions"), model.versions) for i, model in enumerate(config.models)]
        for keys, policy in policies:
            if isinstance(policy, dict) and (set(policy) != {"latest"} or policy["latest"] < 1):
                raise self.error(keys, "expected {latest = n} with n at least 1")

    def check_allowed(self, data_url: DataUrlConfig) -> None:
        """Every entry names something."""
        for i, entry in enumerate(data_url.allow):
            try:
                read_entry(entry)
            except ValueError as error:
                raise self.error(("data_url", "allow", i), str(error)) from None

    def places(self, models: tuple[ModelConfig, ...]) -> dict[str, str]:
        """Where the models and their paths stand, by how problems name them."""
        found: dict[str, str] = {}
        for i, model in enumerate(models):
            for key, name in (("name", f'"{model.name}"'), ("path", model.path)):
                line = line_of(self.text, ("models", i, key))
                if name and line:
                    found[name] = f"{self.path}, line {line}"
        return found

    def with_lines(self, config: Config) -> Config:
        """What is said of tensors knows where: a graph that says otherwise is found much later."""
        models = []
        for i, model in enumerate(config.models):
            inputs = self._placed(("models", i, "inputs"), model.inputs)
            outputs = self._placed(("models", i, "outputs"), model.outputs)
            models.append(replace(model, inputs=inputs, outputs=outputs))
        return replace(config, models=tuple(models))

    def _placed(self, keys: Keys, tensors: tuple[TensorConfig, ...]) -> tuple[TensorConfig, ...]:
        line = line_of(self.text, keys) if tensors else None
        where = f"{self.path}, line {line}" if line else str(self.path)
        return tuple(one if one.where else replace(one, where=where) for one in tensors)

    def check_names(self, models: tuple[ModelConfig, ...]) -> None:
        """Names and aliases may stand in URLs, and are used once."""
        owner: dict[str, str] = {}
        for i, model in enumerate(models):
            if refused_name(model.name):
                raise self.error(("models", i, "name"), f'{refused_name(model.name)}, got "{printable(model.name)}"')
            for alias in filter(refused_name, model.aliases):
                raise self.error(("models", i, "aliases"), f'{refused_name(alias)}, got "{printable(alias)}"')
            for name in (model.name, *model.aliases):
                if name in owner:
                    raise self.error(("models", i), f'the name "{name}" is already that of model "{owner[name]}"')
                owner[name] = model.name


_SECTIONS: tuple[tuple[str, type[Struct]], ...] = (
    ("server", ServerConfig),
    ("repository", RepositoryConfig),
    ("data_url", DataUrlConfig),
    ("log", LogConfig),
)
_LISTS: tuple[tuple[str, type[Struct]], ...] = (("models", ModelConfig), ("datasets", DatasetConfig))


def _tables(raw: dict[str, Any]) -> Iterator[tuple[Keys, dict[str, Any], type[Struct]]]:
    """Every table of the file and the struct that it must fit; what is no table is for the conversion to refuse."""
    yield (), raw, Config
    for name, struct in _SECTIONS:
        if isinstance(raw.get(name), dict):
            yield (name,), raw[name], struct
    yield from auth_tables(raw)
    for name, struct in _LISTS:
        entries = raw.get(name)
        for i, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict):
                yield (name, i), entry, struct


def line_of(text: str, keys: Keys) -> int | None:
    """The line of a key in TOML text; of its table where the key itself is not found; None where neither is.

    Reads `[table]`, `[[array]]` and `key = ...` lines, which is how these files are written.
    """
    table: Keys = ()
    seen: dict[str, int] = {}
    best: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[\[\s*([\w.\"'-]+)\s*\]\]", line):
            seen[match[1]] = seen.get(match[1], -1) + 1
            table = (*re.sub("[\"']", "", match[1]).split("."), seen[match[1]])
        elif match := re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]", line):
            table = tuple(re.sub("[\"']", "", match[1]).split("."))
        elif match := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line):
            if (*table, match[1]) == keys[: len(table) + 1]:
                return number
            continue
        if table and (table == keys[: len(table)] or (keys and best is None and table[: len(keys)] == keys)):
            best = number
    return best


def _dotted(keys: Keys) -> str:
    """`("models", 0, "path")` as `models[0].path`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
