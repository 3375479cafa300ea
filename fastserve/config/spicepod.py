"""Spice's `spicepod.yaml`: its models, datasets, views and keys as ours; what else it says is named.

Thread: the one that starts the server, then the repository's, which reads the file again when it changes.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from fastserve.config.auth import AuthConfig, KeyConfig, Scope
from fastserve.config.fields import Config, DatasetConfig, ModelConfig, ParamsConfig
from fastserve.config.origin import Origin
from fastserve.config.tables import resolved
from fastserve.config.yaml import Document, Keys, read_yaml

OUTPUT = "y"
"""The column of a result that Spice takes as the prediction."""

ACCESS: dict[str, tuple[Scope, ...]] = {"ro": ("infer", "read"), "rw": ("infer", "read", "admin")}
"""What stands behind a key's last colon; Spice's keys only read unless they say `:rw`."""

SET = frozenset(("name", "path", "dataset", "params", "output", "version_name"))
"""Fields of ModelConfig that a pod's models set."""

FILE = "file:"
ONNX = ".onnx"
FORMATS = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json"}
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

DATASET_KEYS = (
    *("from", "name", "description", "metadata", "columns", "mode", "params", "time_column", "time_format"),
    *("time_partition_column", "time_partition_format", "has_metadata_table", "replication", "acceleration", "access"),
    *("embeddings", "vectors", "full_text_search", "tableType", "table_type", "unsupported_type_action", "metrics"),
    *("invalid_type_action", "ready_state", "check_availability", "availability_monitor", "dependsOn", "depends_on"),
)
"""What a dataset may say; anything else is a mistake, as in Spice."""

QUIET = ("description", "metadata", "dependsOn", "depends_on", "mode", "access", "ready_state", "has_metadata_table")
"""What changes nothing here, and need not be named."""


def read_spicepod(path: Path, env: Mapping[str, str]) -> Config:
    """The file's Config; relative paths are relative to it. Raises ConfigError with file and line."""
    return _Pod(read_yaml(path, env)).config()


class _Pod:
    """One spicepod on its way to a Config."""

    def __init__(self, document: Document) -> None:
        self._doc = document
        self._base = document.path.absolute().parent
        self._notes: list[str] = []
        self._places: dict[str, str] = {}
        self._skipped: set[str] = set()

    def config(self) -> Config:
        root = self._doc.mapping((), self._doc.value)
        if root.get("kind", "Spicepod") != "Spicepod":
            raise self._doc.error(("kind",), f"expected Spicepod, got {root['kind']!r}")
        datasets = [*self._datasets(root), *self._views(root)]
        self._once(datasets)
        models = [*self._models(root, [dataset.name for dataset in datasets])]
        self._once(models)
        known = ("version", "kind", "name", "models", "datasets", "views", "runtime", "secrets", "metadata")
        self._ignore((), [key for key in root if key not in known], "there is nothing like it here")
        auth = self._auth(root)
        if not models:
            self._notes.append(f"{self._doc.path}: no model of it is served")
        written = {model.name: SET for model in models}
        origin = Origin(places=self._places, written=written, notes=tuple(self._notes))
        return Config(models=tuple(models), datasets=tuple(datasets), auth=auth, origin=origin)

    def _entries(self, root: Mapping[str, Any], key: str, file: str) -> Iterator[tuple[Keys, dict[str, Any]]]:
        """The components of that kind; one that is a `ref` is read from its own file."""
        for i, value in enumerate(self._doc.sequence((key,), root.get(key))):
            keys: Keys = (key, i)
            entry = self._doc.mapping(keys, value)
            if "ref" in entry:
                entry = self._doc.referred(keys, entry["ref"], file)
            yield keys, entry

    def _datasets(self, root: Mapping[str, Any]) -> Iterator[DatasetConfig]:
        for keys, entry in self._entries(root, "datasets", "dataset.yaml"):
            self._refuse_unknown(keys, entry)
            name = self._doc.text(keys, entry, "name")
            source = self._doc.text(keys, entry, "from")
            self._places[f'"{name}"'] = self._doc.place((*keys, "name"))
            if not source.startswith(FILE):
                self._skipped.add(name)
                self._note((*keys, "from"), f'dataset "{name}" is not read: from names a {FILE}, not {_scheme(source)}')
                continue
            used = ("name", "from", "time_column", "params", "acceleration", *QUIET)
            self._ignore(keys, [key for key in entry if key not in used], "it is not applied")
            fields: dict[str, Any] = {
                "name": name,
                "source": source,
                "time_column": entry.get("time_column"),
                "format": self._format(keys, entry),
                "refresh_seconds": self._interval(keys, entry),
            }
            yield resolved(self._converted(keys, DatasetConfig, fields), self._base)

    def _views(self, root: Mapping[str, Any]) -> Iterator[DatasetConfig]:
        for keys, entry in self._entries(root, "views", "view.yaml"):
            name, sql = self._doc.text(keys, entry, "name"), self._doc.text(keys, entry, "sql")
            self._ignore(keys, [key for key in entry if key not in ("name", "sql", *QUIET)], "it is not applied")
            yield self._converted(keys, DatasetConfig, {"name": name, "sql": sql})

    def _models(self, root: Mapping[str, Any], datasets: list[str]) -> Iterator[ModelConfig]:
        for keys, entry in self._entries(root, "models", "model.yaml"):
            name = self._doc.text(keys, entry, "name")
            source = self._doc.text(keys, entry, "from")
            path, version = _path_and_version(source, self._files(keys, entry))
            if not path:
                self._note(
                    (*keys, "from"), f'model "{name}" is not served: expected {FILE} and a path to an {ONNX} file'
                )
                continue
            used = ("name", "from", "files", "datasets", "params", *QUIET)
            self._ignore(keys, [key for key in entry if key not in used], "it is not applied")
            fields = {
                "name": name,
                "path": str(self._base / path),
                "version_name": version,
                "dataset": self._dataset_of(keys, entry, datasets),
                **self._params(keys, entry),
            }
            self._places[f'"{name}"'] = self._doc.place((*keys, "name"))
            self._places[fields["path"]] = self._doc.place((*keys, "from"))
            yield self._converted(keys, ModelConfig, fields)

    def _files(self, keys: Keys, entry: Mapping[str, Any]) -> list[str]:
        found = []
        for i, value in enumerate(self._doc.sequence((*keys, "files"), entry.get("files"))):
            file = {"path": value} if isinstance(value, str) else self._doc.mapping((*keys, "files", i), value)
            found.append(self._doc.text((*keys, "files", i), file, "path"))
        return found

    def _dataset_of(self, keys: Keys, entry: Mapping[str, Any], known: list[str]) -> str | None:
        """The first one, as in Spice; one that is not read is as if there were none."""
        names = [str(name) for name in self._doc.sequence((*keys, "datasets"), entry.get("datasets"))]
        for i, name in enumerate(names):
            if name not in known and name not in self._skipped:
                raise self._doc.error(
                    (*keys, "datasets", i), f'no dataset is named "{name}"; known here: {", ".join(known)}'
                )
        if len(names) > 1:
            self._note((*keys, "datasets"), f"{', '.join(names[1:])}: a model is predicted from its first dataset only")
        return names[0] if names and names[0] not in self._skipped else None

    def _params(self, keys: Keys, entry: Mapping[str, Any]) -> dict[str, Any]:
        params = self._doc.mapping((*keys, "params"), entry.get("params") or {})
        self._ignore((*keys, "params"), [key for key in params if key not in ("layout", "window", "output")], "unknown")
        layout: dict[str, Any] = {"layout": "spice"}
        layout |= {key: params[key] for key in ("layout", "window") if key in params}
        found = self._converted((*keys, "params"), ParamsConfig, layout)
        return {"params": found, "output": str(params.get("output", OUTPUT))}

    def _format(self, keys: Keys, entry: Mapping[str, Any]) -> str:
        params = self._doc.mapping((*keys, "params"), entry.get("params") or {})
        self._ignore((*keys, "params"), [key for key in params if key != "file_format"], "it is not applied")
        text = str(params.get("file_format", ""))
        if text and text not in FORMATS:
            raise self._doc.error((*keys, "params", "file_format"), f"expected {', '.join(FORMATS)}, got {text!r}")
        return FORMATS.get(text, "")

    def _interval(self, keys: Keys, entry: Mapping[str, Any]) -> float:
        """Seconds between looks; 0 where the dataset is not accelerated or says nothing."""
        at: Keys = (*keys, "acceleration")
        acceleration = self._doc.mapping(at, entry.get("acceleration") or {})
        used = ("enabled", "refresh_check_interval", "engine", "mode", "refresh_mode")
        self._ignore(at, [key for key in acceleration if key not in used], "it is not applied")
        if acceleration.get("refresh_mode", "full") != "full":
            self._note((*at, "refresh_mode"), "tables are always read in full")
        text = acceleration.get("refresh_check_interval")
        if text is None or acceleration.get("enabled", True) is False:
            return 0.0
        match = DURATION.fullmatch(str(text).strip())
        if match is None:
            raise self._doc.error((*at, "refresh_check_interval"), f"expected a time like 10s, 5m or 1h, got {text!r}")
        return float(match[1]) * UNIT_S[match[2]]

    def _auth(self, root: Mapping[str, Any]) -> AuthConfig:
        """The keys of `runtime.auth`; they may stand in the clear here, as Spice has them."""
        runtime = self._doc.mapping(("runtime",), root.get("runtime") or {})
        self._ignore(("runtime",), [key for key in runtime if key != "auth"], "see fastserve serve --help")
        auth = self._doc.mapping(("runtime", "auth"), runtime.get("auth") or {})
        found: list[KeyConfig] = []
        for name, value in auth.items():
            keys: Keys = ("runtime", "auth", name)
            if name not in ("api-key", "api_key"):
                raise self._doc.error(keys, "expected api-key; other ways are not offered")
            entry = self._doc.mapping(keys, value)
            if entry.get("enabled", True) is not False:
                found += self._keys((*keys, "keys"), entry.get("keys"))
        return AuthConfig(keys=tuple(found))

    def _keys(self, keys: Keys, values: Any) -> Iterator[KeyConfig]:
        """Empty ones are left out, as in Spice; where none is left, nobody could call: that is a mistake."""
        count = 0
        for i, value in enumerate(self._doc.sequence(keys, values)):
            if not isinstance(value, str):
                raise self._doc.error((*keys, i), "expected a text in quotes")  # never the value itself
            text = self._doc.expanded((*keys, i), value)
            key, colon, access = text.rpartition(":")
            if not colon or access not in ACCESS:
                key, access = text, "ro"
            if key:
                count += 1
                yield KeyConfig(name=f"api-key {i + 1}", key=key, scopes=ACCESS[access])
        if not count:
            raise self._doc.error(keys, "expected at least one key, or enabled: false beside it")

    def _refuse_unknown(self, keys: Keys, entry: Mapping[str, Any]) -> None:
        for key in entry:
            if key not in DATASET_KEYS:
                near = get_close_matches(str(key), DATASET_KEYS, n=1, cutoff=0.6)
                hint = f"did you mean {near[0]}?" if near else "datasets have no such key"
                raise self._doc.error((*keys, key), f"unknown key; {hint}")

    def _once(self, entries: list[Any]) -> None:
        seen: set[str] = set()
        for entry in entries:
            if entry.name in seen:
                raise self._doc.error((), f'the name "{entry.name}" is used twice')
            seen.add(entry.name)

    def _ignore(self, keys: Keys, names: list[str], reason: str) -> None:
        for name in names:
            self._note((*keys, name), reason)

    def _note(self, keys: Keys, reason: str) -> None:
        self._notes.append(f"{self._doc.place(keys)}: {_dotted(keys)} is not applied: {reason}")

    def _converted(self, keys: Keys, kind: Any, fields: Mapping[str, Any]) -> Any:
        """The fields' types and bounds."""
        try:
            built = kind(**fields)
            return msgspec.convert(msgspec.to_builtins(built), kind)
        except msgspec.ValidationError as error:
            raise self._doc.error(keys, str(error)[:1].lower() + str(error)[1:]) from None


def _path_and_version(source: str, files: list[str]) -> tuple[str, str]:
    """The ONNX file, empty where there is none; and what the version is called, if `from` says it behind a colon."""
    if not source.startswith(FILE):
        return "", ""
    path = source.removeprefix(FILE)
    path = path.removeprefix("//") if path.startswith("///") else path
    head, colon, tail = path.rpartition(":")
    version = tail if colon and "/" not in tail else ""
    path = head if version else path
    if not path.endswith(ONNX):
        path = next((file.removeprefix(FILE) for file in files if file.endswith(ONNX)), "")
    return path, version


def _scheme(source: str) -> str:
    return source.partition(":")[0][:64] if ":" in source else "that"


def _dotted(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
