"""Triton's `config.pbtxt`: the fields that mean something here, each as one of ModelConfig's; the rest by name.

Thread: the repository's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastserve.config.fields import ModelConfig, TensorConfig, bounded
from fastserve.config.folder import FolderSettings, inside
from fastserve.config.protojson import read_json
from fastserve.config.prototext import Document, Keys, Schema, Unapplied, read_document, read_text
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.config.tfserving import POLICY_MESSAGES, policy_of
from fastserve.config.warming import WarmupConfig, WarmupInput
from fastserve.errors import ConfigError

_GPU = Unapplied("models run on the CPU")
_TENSORRT = Unapplied("it is for TensorRT")
_PLATFORMS = ("", "onnxruntime_onnx", "onnxruntime", "onnx", "onnx_onnxv1")
_DATATYPES = (
    *(
        "TYPE_INVALID",
        "TYPE_BOOL",
        "TYPE_UINT8",
        "TYPE_UINT16",
        "TYPE_UINT32",
        "TYPE_UINT64",
        "TYPE_INT8",
        "TYPE_INT16",
    ),
    *("TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16"),
)
THREADS_PARAMETER = "intra_op_thread_count"

_TENSOR: dict[str, str | Unapplied] = {
    "name": "string",
    "data_type": "DataType",
    "dims": "repeated int64",
    "reshape": "Reshape",
    "is_shape_tensor": _TENSORRT,
    "is_non_linear_format_io": _TENSORRT,
}

_CONFIG = Schema(
    "ModelConfig",
    {
        "ModelConfig": {
            "name": "string",
            "platform": "string",
            "backend": "string",
            "version_policy": "VersionPolicy",
            "max_batch_size": "int32",
            "input": "repeated ModelInput",
            "output": "repeated ModelOutput",
            "dynamic_batching": "DynamicBatching",
            "instance_group": "repeated InstanceGroup",
            "default_model_filename": "string",
            "parameters": "map string Parameter",
            "model_warmup": "repeated Warmup",
            "ensemble_scheduling": Unapplied("there are no ensembles", "Ensemble"),
            "runtime": Unapplied("there is one runtime, onnxruntime", "string"),
            "sequence_batching": Unapplied(
                "models keep no state between requests; sequence parameters are ignored", "SequenceBatching"
            ),
            "batch_input": Unapplied("inputs are those that the request has", "repeated Opaque"),
            "batch_output": Unapplied("outputs follow the rows of the request", "repeated Opaque"),
            "optimization": Unapplied("graphs are always fully optimised", "Optimization"),
            "cc_model_filenames": Unapplied(_GPU.reason, "map string string"),
            "metric_tags": Unapplied("metrics have no tags of their own", "map string string"),
            "model_operations": Unapplied("libraries of custom operations are not loaded"),
            "model_transaction_policy": Unapplied("a request has one answer"),
            "model_repository_agents": Unapplied("there are no repository agents", "Agents"),
            "response_cache": Unapplied("answers are not kept"),
            "model_metrics": Unapplied("the histograms have fixed buckets", "Metrics"),
        },
        "ModelInput": {
            **_TENSOR,
            "format": Unapplied("the shape says how an image lies", "Format"),
            "optional": Unapplied("every input that the graph has no value for is needed", "bool"),
            "allow_ragged_batch": Unapplied("requests of different shapes run one after the other", "bool"),
        },
        "ModelOutput": {**_TENSOR, "label_filename": "string"},
        "Reshape": {"shape": "repeated int64"},
        "DynamicBatching": {
            "preferred_batch_size": "repeated int32",
            "max_queue_delay_microseconds": "uint64",
            "priority_levels": "uint64",
            "default_priority_level": "uint64",
            "default_queue_policy": "QueuePolicy",
            "priority_queue_policy": "map uint64 QueuePolicy",
            "preserve_ordering": Unapplied("every request has its own answer, there is no order to keep", "bool"),
        },
        "QueuePolicy": {
            "timeout_action": "TimeoutAction",
            "default_timeout_microseconds": "uint64",
            "max_queue_size": "uint32",
            "allow_timeout_override": "bool",
        },
        "InstanceGroup": {
            "kind": "Kind",
            "count": "int32",
            "name": Unapplied("instances have no names", "string"),
            "gpus": Unapplied(_GPU.reason, "repeated int32"),
            "rate_limiter": Unapplied("models share the CPUs, and have no resources of their own", "RateLimiter"),
            "secondary_devices": Unapplied(_GPU.reason, "repeated Opaque"),
            "profile": _TENSORRT,
            "passive": Unapplied("every instance takes requests", "bool"),
            "host_policy": Unapplied("threads go where the system puts them", "string"),
        },
        "Parameter": {"string_value": "string"},
        "Warmup": {"name": "string", "batch_size": "uint32", "inputs": "map string WarmupInput", "count": "uint32"},
        "WarmupInput": {
            "data_type": "DataType",
            "dims": "repeated int64",
            "zero_data": "bool",
            "random_data": "bool",
            "input_data_file": "string",
        },
        "Ensemble": {"step": "repeated Opaque", "max_inflight_responses": "uint32"},
        # Lists of messages may stand without a colon, which the parser takes only where it knows the field.
        "SequenceBatching": {"control_input": "repeated ControlInput", "state": "repeated State"},
        "ControlInput": {"name": "string", "control": "repeated Opaque"},
        "State": {"initial_state": "repeated Opaque"},
        "Optimization": {"execution_accelerators": "Accelerators", "cuda": "Cuda"},
        "Accelerators": {
            "gpu_execution_accelerator": "repeated Accelerator",
            "cpu_execution_accelerator": "repeated Accelerator",
        },
        "Accelerator": {"name": "string", "parameters": "map string string"},
        "Cuda": {"graph_spec": "repeated Opaque"},
        "Agents": {"agents": "repeated Accelerator"},
        "Metrics": {"metric_control": "repeated Opaque"},
        "RateLimiter": {"resources": "repeated Opaque", "priority": "uint32"},
        "Opaque": {},
        **POLICY_MESSAGES,
    },
    enums={
        "DataType": _DATATYPES,
        "Format": ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"),
        "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
        "TimeoutAction": ("REJECT", "DELAY"),
    },
    one_of={
        "VersionPolicy": ("latest", "all", "specific"),
        "WarmupInput": ("zero_data", "random_data", "input_data_file"),
        "ModelConfig": ("dynamic_batching", "ensemble_scheduling"),
    },
)
_KIND_GPU = 1
_DELAY = 1


def read_config(path: Path) -> FolderSettings:
    """The file at `path`, of the model in its folder. Raises ConfigError with file and line."""
    return _Reader(read_document(path, _CONFIG)).settings()


def read_overrides(text: str, folder: Path) -> tuple[FolderSettings, frozenset[str]]:
    """The same as JSON, as a load call may bring it, for the model in `folder`; and which fields it has.

    Raises ConfigError naming the field.
    """
    document, given = read_json(text, folder / "config", _CONFIG)
    return _Reader(document).settings(), given


class _Reader:
    """One file, field by field."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._message: Any = document.message
        self._folder = document.path.parent
        self._values: dict[str, Any] = {}
        self._notes = [*self._document.notes()]
        self._problems: list[str] = []
        self._refused: list[str] = []
        self._read = [str(document.path)]

    def settings(self) -> FolderSettings:
        """All of it."""
        message = self._message
        for mention in self._document.unknown:
            # A name that resembles no other may be newer than this program; one that does is a slip.
            told = self._problems if mention.near else self._notes
            told.append(f"{self._document.at(mention.line)}: {mention.name}: {mention.reason}")
        self._backend()
        self._rows()
        self._tensors()
        if message.HasField("dynamic_batching"):
            self._dynamic_batching(message.dynamic_batching)
        self._instances()
        self._parameters()
        policy = policy_of(message.version_policy, self._document, ("version_policy",))
        if policy is not None:
            self._values["versions"] = policy
        self._values["warmup"] = tuple(self._warmup())
        if message.default_model_filename:
            self._inside(message.default_model_filename, ("default_model_filename",))
        bare = ModelConfig(name="x")
        return FolderSettings(
            file=str(self._document.path),
            name=message.name,
            values={name: value for name, value in self._values.items() if value != getattr(bare, name)},
            model_file=message.default_model_filename,
            read=tuple(self._read),
            declared=plain_message(message),
            notes=tuple(self._notes),
            problems=tuple(self._problems),
            refused=tuple(self._refused),
        )

    def _note(self, keys: Keys, text: str) -> None:
        self._notes.append(f"{self._document.place(keys)}: {text}")

    def _inside(self, name: str, keys: Keys) -> Path:
        return inside(self._folder, name, f"{self._document.place(keys)}: {keys[-1]}")

    def _backend(self) -> None:
        message = self._message
        if message.HasField("ensemble_scheduling") or message.platform == "ensemble":
            keys: Keys = ("ensemble_scheduling",) if message.HasField("ensemble_scheduling") else ("platform",)
            self._refused.append(f"{self._document.place(keys)}: ensembles are not served; call its models one by one")
        for field in ("platform", "backend"):
            value = getattr(message, field)
            if value not in (*_PLATFORMS, "ensemble"):
                place = self._document.place((field,))
                self._refused.append(f'{place}: {field} "{value}" is not served here; ONNX models are')

    def _rows(self) -> None:
        rows = self._message.max_batch_size
        keys: Keys = ("max_batch_size",)
        if rows < 0:
            raise self._document.error(keys, f"expected at least 0, got {rows}")
        if rows:
            bounded(self._values, "max_batch_rows", rows, self._notes, self._document.place(keys))
        elif keys in self._document.lines:
            self._values["batching"] = False

    def _tensors(self) -> None:
        batched = self._message.max_batch_size > 0 or (None if "batching" not in self._values else False)
        for field, target in (("input", "inputs"), ("output", "outputs")):
            entries = getattr(self._message, field)
            self._values[target] = tuple(self._tensor((field, i), entry, batched) for i, entry in enumerate(entries))
        labels = [(i, output.label_filename) for i, output in enumerate(self._message.output) if output.label_filename]
        for i, name in labels[:1]:
            self._values["classes"] = self._labels(name, ("output", i, "label_filename"))
        for i, name in labels[1:]:
            self._note(("output", i, "label_filename"), f'"{name}" is not applied: one output has classes')

    def _tensor(self, keys: Keys, entry: Any, batched: bool | None) -> TensorConfig:
        if not entry.name:
            raise self._document.error((*keys, "name"), 'expected name: "...", got none')
        for field, dims in (("dims", entry.dims), ("reshape", entry.reshape.shape)):
            if any(dim < -1 for dim in dims):
                raise self._document.error((*keys, field), f"expected dimensions of at least -1, got {list(dims)}")
        return TensorConfig(
            name=entry.name,
            datatype=_datatype(entry.data_type),
            shape=tuple(entry.dims) if entry.dims else None,
            batched=batched,
            reshape=tuple(entry.reshape.shape) if entry.HasField("reshape") else None,
            where=self._document.place(keys),
        )

    def _labels(self, name: str, keys: Keys) -> tuple[str, ...]:
        path = self._inside(name, keys)
        self._read.append(str(path))
        try:
            return tuple(line.strip() for line in read_text(path).rstrip("\n").split("\n"))
        except ConfigError as error:
            raise self._document.error(keys, str(error)) from None

    def _dynamic_batching(self, batching: Any) -> None:
        keys: Keys = ("dynamic_batching",)
        place, notes = self._document.place(keys), self._notes
        delay_us = batching.max_queue_delay_microseconds
        bounded(self._values, "max_queue_delay_us", delay_us, notes, place)
        if any(size < 1 for size in batching.preferred_batch_size):
            raise self._document.error((*keys, "preferred_batch_size"), "expected sizes of at least 1")
        self._values["preferred_batch_rows"] = tuple(batching.preferred_batch_size)
        levels, default = batching.priority_levels, batching.default_priority_level
        if default > levels or (levels and not default):
            got = f"expected a default_priority_level of 1 to priority_levels ({levels}), got {default}"
            raise self._document.error((*keys, "default_priority_level"), got)
        bounded(self._values, "priority_levels", levels, notes, place)
        bounded(self._values, "default_priority", default, notes, place)
        self._queue_policies(batching)

    def _queue_policies(self, batching: Any) -> None:
        if batching.HasField("default_queue_policy"):
            self._values["queue_policy"] = self._queue_policy(batching.default_queue_policy, "default_queue_policy")
        self._values["priority_policies"] = {
            level: self._queue_policy(policy, "priority_queue_policy")
            for level, policy in sorted(batching.priority_queue_policy.items())
        }

    def _queue_policy(self, policy: Any, field: str) -> QueuePolicyConfig:
        values: dict[str, Any] = {"timeout_action": "delay" if policy.timeout_action == _DELAY else "reject"}
        place = self._document.place(("dynamic_batching", field))
        bounded(values, "timeout_us", policy.default_timeout_microseconds, self._notes, place, QueuePolicyConfig)
        bounded(values, "max_requests", policy.max_queue_size, self._notes, place, QueuePolicyConfig)
        return QueuePolicyConfig(**values, allow_timeout_override=policy.allow_timeout_override)

    def _instances(self) -> None:
        slots = 0
        for i, group in enumerate(self._message.instance_group):
            if group.kind == _KIND_GPU:
                self._note(
                    ("instance_group", i), "KIND_GPU is not applied: models run on the CPU, in as many slots as planned"
                )
            elif group.count < 0:
                raise self._document.error(("instance_group", i, "count"), f"expected at least 1, got {group.count}")
            else:
                slots += group.count or 1
        bounded(self._values, "slots", slots, self._notes, self._document.place(("instance_group", 0)))

    def _parameters(self) -> None:
        keys: Keys = ("parameters",)
        for name, parameter in sorted(self._message.parameters.items()):
            if name == THREADS_PARAMETER and parameter.string_value.isdecimal():
                bounded(self._values, "threads", int(parameter.string_value), self._notes, self._document.path.name)
            else:
                self._note(keys, f'parameter "{name}" is not applied')

    def _warmup(self) -> Iterator[WarmupConfig]:
        for i, sample in enumerate(self._message.model_warmup):
            keys: Keys = ("model_warmup", i)
            inputs = {
                name: WarmupInput(
                    shape=tuple(entry.dims),
                    datatype=_datatype(entry.data_type),
                    data="random" if entry.HasField("random_data") else "file" if entry.input_data_file else "zero",
                    file=self._warmup_file(entry.input_data_file, keys),
                )
                for name, entry in sorted(sample.inputs.items())
            }
            if sample.batch_size > self._values.get("max_batch_rows", 1 << 16) or sample.count > 10_000:
                raise self._document.error(keys, "expected a batch_size up to max_batch_size, and a count up to 10000")
            yield WarmupConfig(
                name=sample.name, rows=max(1, sample.batch_size), count=max(1, sample.count), inputs=inputs
            )

    def _warmup_file(self, name: str, keys: Keys) -> str:
        if not name:
            return ""
        path = self._inside(f"warmup/{name}", (*keys, "input_data_file"))
        self._read.append(str(path))
        return str(path)


def plain_message(message: Any) -> dict[str, Any]:
    """A message as JSON has it, with the names of the file; only what was set."""
    plain: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            plain[field.name] = {str(key): _plain_value(field, each) for key, each in sorted(value.items())}
        elif field.is_repeated:
            plain[field.name] = [_plain_value(field, each) for each in value]
        else:
            plain[field.name] = _plain_value(field, value)
    return plain


def _plain_value(field: Any, value: Any) -> Any:
    if hasattr(value, "ListFields"):
        return plain_message(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def _datatype(number: int) -> str:
    """`TYPE_STRING` is BYTES everywhere else."""
    name = _DATATYPES[number].removeprefix("TYPE_") if 0 <= number < len(_DATATYPES) else ""
    return {"INVALID": "", "STRING": "BYTES"}.get(name, name)
