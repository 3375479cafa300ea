"""TensorFlow Serving's files: `models.config`, and beside it what says how to batch and where the metrics are.

Thread: the one that starts the server, then the repository's, which reads the files again when they change.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastserve.config.fields import Config, ModelConfig, VersionPolicy, bounded
from fastserve.config.origin import Origin
from fastserve.config.prototext import Document, Keys, Schema, Unapplied, read_document
from fastserve.errors import ConfigError
from fastserve.types import printable, refused_name

BATCHING_FILES = ("batching_parameters.txt", "batching_config.txt", "batching.config")
MONITORING_FILES = ("monitoring.config", "monitoring_config.txt", "prometheus.config")
"""Looked for beside models.config, in this order, where no option names one."""

BUILTIN_METRICS_PATHS = ("/metrics", "/monitoring/prometheus/metrics")
_PLATFORMS = ("", "tensorflow", "onnxruntime", "onnx")

_POLICY = {
    "VersionPolicy": {"latest": "Latest", "all": "All", "specific": "Specific"},
    "Latest": {"num_versions": "uint32"},
    "All": {},
    "Specific": {"versions": "repeated int64"},
}

_MODELS = Schema(
    "ModelServerConfig",
    {
        "ModelServerConfig": {
            "model_config_list": "ModelConfigList",
            "custom_model_config": Unapplied("there are no custom sources of models; list them in model_config_list"),
        },
        "ModelConfigList": {"config": "repeated ModelConfig"},
        "ModelConfig": {
            "name": "string",
            "base_path": "string",
            "model_platform": "string",
            "model_version_policy": "VersionPolicy",
            "version_labels": "map string int64",
            "model_type": Unapplied("what a model is, its file says"),
            "logging_config": Unapplied("requests are not logged by model; see the access log"),
        },
        **_POLICY,
    },
    one_of={"VersionPolicy": ("latest", "all", "specific")},
)

_WRAPPED = {"Int64": {"value": "int64"}, "Text": {"value": "string"}, "Flag": {"value": "bool"}}

_BATCHING = Schema(
    "BatchingParameters",
    {
        "BatchingParameters": {
            "max_batch_size": "Int64",
            "batch_timeout_micros": "Int64",
            "max_enqueued_batches": "Int64",
            "num_batch_threads": "Int64",
            "max_execution_batch_size": "Int64",
            "thread_pool_name": Unapplied("models share the threads of the server"),
            "allowed_batch_sizes": "repeated int64",
            "pad_variable_length_inputs": Unapplied("requests of different shapes are not padded to share a batch"),
            "enable_large_batch_splitting": Unapplied("a request larger than a batch is always split"),
            "mixed_priority_batching_policy": Unapplied("requests of higher priority always leave first"),
            "low_priority_batching_parameters": Unapplied("all priorities share one queue"),
        },
        **_WRAPPED,
    },
)

_MONITORING = Schema(
    "MonitoringConfig",
    {
        "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
        "PrometheusConfig": {"enable": "bool", "path": "string"},
    },
)


def read_models(path: Path) -> Config:
    """The file's models; a relative base_path is relative to the file. Raises ConfigError with file and line."""
    document = read_document(path, _MODELS)
    document.refuse_unknown()
    if not document.message.HasField("model_config_list"):
        raise ConfigError(
            f"{path}: expected model_config_list {{ ... }}, and found none (an empty list is written out)"
        )
    models: list[ModelConfig] = []
    written: dict[str, frozenset[str]] = {}
    places: dict[str, str] = {}
    notes = [*document.notes()]
    for i, entry in enumerate(document.message.model_config_list.config):
        keys: Keys = ("model_config_list", "config", i)
        values = _model_values(document, keys, entry)
        if values["name"] in written:
            raise document.error(
                (*keys, "name"), f'"{values["name"]}" is already the model of {places[_quoted(values)]}'
            )
        written[values["name"]] = frozenset(values)
        places[_quoted(values)] = document.place((*keys, "name"))
        places[values["path"]] = document.place((*keys, "base_path"))
        models.append(ModelConfig(**values))
        if entry.model_platform not in _PLATFORMS:
            where = document.place((*keys, "model_platform"))
            notes.append(
                f'{where}: model_platform "{entry.model_platform}" is not applied: a model\'s file says what it is'
            )
    return Config(models=tuple(models), origin=Origin(places=places, written=written, notes=tuple(notes)))


def read_batching(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A batching file's values, by field of ModelConfig, and what of it is not applied. Raises ConfigError."""
    document = read_document(path, _BATCHING)
    document.refuse_unknown()
    notes = [*document.notes()]
    values: dict[str, Any] = {}
    rows = [_value(document, name, least=1) for name in ("max_batch_size", "max_execution_batch_size")]
    given = [count for count in rows if count is not None]
    if given:
        values["max_batch_rows"] = min(given)
    _put(values, "max_queue_delay_us", _value(document, "batch_timeout_micros", least=0))
    _put(values, "slots", _value(document, "num_batch_threads", least=1))
    batches = _value(document, "max_enqueued_batches", least=1)
    if batches is not None:
        default = ModelConfig(name="x").max_batch_rows
        values["max_queue_rows"] = batches * (max(given) if given else default)
    for name, value in values.items():
        bounded(values, name, value, notes, str(path))
    if document.message.allowed_batch_sizes:
        values["batch_sizes"] = _allowed_sizes(document, min(given, default=None))
    return values, notes


def _allowed_sizes(document: Document, most: int | None) -> tuple[int, ...]:
    """As upstream takes them: ascending, up to the largest batch. Raises ConfigError."""
    sizes = tuple(document.message.allowed_batch_sizes)
    if sizes[0] < 1 or any(one >= other for one, other in pairwise(sizes)):
        raise document.error(("allowed_batch_sizes",), f"expected ascending sizes of at least 1, got {list(sizes)}")
    if most is not None and sizes[-1] != most:
        raise document.error(
            ("allowed_batch_sizes",), f"expected the last to be the largest batch, {most}, got {sizes[-1]}"
        )
    return sizes


def read_monitoring(path: Path) -> tuple[str | None, list[str]]:
    """Where a monitoring file wants the metrics, if elsewhere than they are; and what of it is not applied."""
    document = read_document(path, _MONITORING)
    document.refuse_unknown()
    notes = [*document.notes()]
    wanted = document.message.prometheus_config
    keys: Keys = ("prometheus_config",)
    if not wanted.enable:
        notes.append(
            f"{document.place(keys)}: metrics are served all the same, at {' and '.join(BUILTIN_METRICS_PATHS)}"
        )
        return None, notes
    if not wanted.path or wanted.path in BUILTIN_METRICS_PATHS:
        return None, notes
    if not wanted.path.startswith("/") or not wanted.path.isascii() or not wanted.path.isprintable():
        raise document.error((*keys, "path"), f'expected a path like "/metrics", got "{wanted.path}"')
    return wanted.path, notes


def beside(path: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Files of these names in the folder of `path`, there or not."""
    for name in names:
        if name != path.name:
            yield path.absolute().parent / name


def policy_of(message: Any, document: Document, keys: Keys) -> VersionPolicy | None:
    """A version policy, of TF Serving's or Triton's; None where nothing is chosen."""
    if message.HasField("all"):
        return "all"
    if message.HasField("specific"):
        if not message.specific.versions:
            raise document.error((*keys, "specific"), "expected versions: N at least once, got none")
        return tuple(message.specific.versions)
    if message.HasField("latest"):
        count = max(1, message.latest.num_versions)  # 0 is how protobuf says that nothing was said
        return {"latest": count} if count > 1 else "latest"
    return None


POLICY_MESSAGES = _POLICY


def _quoted(values: Mapping[str, Any]) -> str:
    return f'"{values["name"]}"'


def _model_values(document: Document, keys: Keys, entry: Any) -> dict[str, Any]:
    """One `config`, by field of ModelConfig."""
    for name in ("name", "base_path"):
        if not getattr(entry, name):
            raise document.error((*keys, name), f'expected {name}: "...", got none')
    refused = refused_name(entry.name)
    if refused:
        raise document.error((*keys, "name"), f'{refused}, got "{printable(entry.name)}"')
    if "://" in entry.base_path:
        raise document.error((*keys, "base_path"), f'expected a folder of this machine, got "{entry.base_path}"')
    values: dict[str, Any] = {
        "name": entry.name,
        "path": str(document.path.absolute().parent / entry.base_path),
        "labels": dict(sorted(entry.version_labels.items())),
    }
    policy = policy_of(entry.model_version_policy, document, (*keys, "model_version_policy"))
    _put(values, "versions", policy)
    return values


def _value(document: Document, name: str, *, least: int) -> int | None:
    """A wrapped number; None where it is not given."""
    if not document.message.HasField(name):
        return None
    number: int = getattr(document.message, name).value
    if number < least:
        raise document.error((name, "value"), f"expected at least {least}, got {number}")
    return number


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        values[name] = value
