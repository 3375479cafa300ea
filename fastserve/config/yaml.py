"""A YAML file with the lines of its keys, read as plain values; `${ env:X }` and `${ secrets:X }` are put in where asked for.

Thread: the reader's. Only PyYAML's safe loader reads: no object is made but plain ones.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from fastserve.errors import ConfigError

Keys = tuple[str | int, ...]

INSTALL = "reading YAML takes PyYAML: pip install 'fastserve[datasets]'"
MAX_FILE_BYTES = 1 << 20
VARIABLE = re.compile(r"\$\{\s*(env|secrets|\w+)\s*:\s*([\w.-]+)\s*\}")
ENV_FILES = (".env.local", ".env")
"""Beside the file, as Spice reads them; the environment itself wins."""


class Document(Struct, frozen=True):
    """One file: its values, and the line of each key."""

    path: Path
    value: Any
    lines: Mapping[Keys, int]
    env: Mapping[str, str]

    def place(self, keys: Keys) -> str:
        """File and line, of the nearest key above where the key itself has none."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}, line {self.lines[keys]}" if keys in self.lines else str(self.path)

    def error(self, keys: Keys, reason: str) -> ConfigError:
        """A ConfigError at `keys`."""
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
        return ConfigError(f"{self.place(keys)}: {dotted}: {reason}" if keys else f"{self.place(keys)}: {reason}")

    def mapping(self, keys: Keys, value: Any) -> dict[str, Any]:
        """`value` if it is a mapping with names for keys."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.error(keys, f"expected keys and values, got {_kind(value)}")
        return value

    def sequence(self, keys: Keys, value: Any) -> list[Any]:
        """`value` if it is a list; an empty one for nothing."""
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(keys, f"expected a list, got {_kind(value)}")
        return value

    def text(self, keys: Keys, entry: Mapping[str, Any], name: str) -> str:
        """A text that must be there, its variables put in."""
        value = entry.get(name)
        if not isinstance(value, str) or not value:
            raise self.error((*keys, name), f"expected a text, got {_kind(value)}")
        return self.expanded((*keys, name), value)

    def expanded(self, keys: Keys, text: str) -> str:
        """`text` with what it takes from the environment. The error names the variable, never a value."""

        def variable(match: re.Match[str]) -> str:
            name = match[2]
            # Spice's own store of secrets is the environment, with and without its prefix.
            stored = [name.upper(), f"SPICE_{name.upper()}"] if match[1] != "env" else []
            candidates = [name, *stored]
            found = next((self.env[one] for one in candidates if one in self.env), None)
            if found is None:
                raise self.error(keys, f"the environment has no variable {' or '.join(dict.fromkeys(candidates))}")
            return found

        return VARIABLE.sub(variable, text)

    def referred(self, keys: Keys, ref: Any, file: str) -> dict[str, Any]:
        """What stands in the file, or the folder's file, that a `ref` names."""
        if not isinstance(ref, str):
            raise self.error((*keys, "ref"), f"expected a path, got {_kind(ref)}")
        path = self.path.absolute().parent / ref
        if path.is_dir():
            path = path / file
        if not path.is_file():
            raise self.error((*keys, "ref"), f"{path} is not there")
        return self.mapping(keys, read_yaml(path, self.env).value)


def read_yaml(path: Path, env: Mapping[str, str]) -> Document:
    """The file. Raises ConfigError with file and line."""
    if not find_spec("yaml"):
        raise ConfigError(f"{path}: {INSTALL}")
    import yaml  # for those who have such a file

    text = _text(path)
    try:
        lines = dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader), (), set()))
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or 'it cannot be read'}") from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {str(error)[:200]}") from None
    return Document(path, value, lines, {**_env_files(path.absolute().parent), **env})


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: expected at most {MAX_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None


def _lines(node: Any, keys: Keys, seen: set[int]) -> Iterator[tuple[Keys, int]]:
    """The line of every key and item; what is there by an alias is told where it stands first."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield keys, node.start_mark.line + 1
    if node.id == "mapping":
        for key, value in node.value:
            yield from _lines(value, (*keys, str(key.value)), seen)
            yield (*keys, str(key.value)), key.start_mark.line + 1
    elif node.id == "sequence":
        for i, value in enumerate(node.value):
            yield from _lines(value, (*keys, i), seen)


def _env_files(folder: Path) -> dict[str, str]:
    """`NAME=value` lines of the files beside; quotes around a value are taken off."""
    found: dict[str, str] = {}
    for name in reversed(ENV_FILES):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for line in text.splitlines():
            key, equals, value = line.strip().removeprefix("export ").partition("=")
            if equals and not key.startswith("#"):
                found[key.strip()] = value.strip().strip("\"'")
    return found


def _kind(value: Any) -> str:
    names = {dict: "keys and values", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
