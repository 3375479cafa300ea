"""A version's configuration as Triton writes one (ModelConfig, in JSON): what is in force, and what its folder says besides.

Pure. What this writes, a load call takes as `parameters.config`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastserve.config import ModelConfig, VersionPolicy
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.engine.lease import Lease
from fastserve.protocols.oip.schema import DATATYPES, PLATFORM
from fastserve.types import DType, TensorSpec

BACKEND = "onnxruntime"
SAID_ONLY: Mapping[str, Any] = {
    "batch_input": [],
    "batch_output": [],
    "optimization": {},
    "default_model_filename": "model.onnx",
    "cc_model_filenames": {},
    "metric_tags": {},
    "model_warmup": [],
}
"""Fields that are shown as the model's folder says them, else so: nothing else tells what they are."""

Declared = Mapping[str, Any]


def model_config(lease: Lease, policy: VersionPolicy, declared: Declared) -> dict[str, Any]:
    """All of it. `declared`: what the model's folder says."""
    config, batched = lease.config, lease.batching.batchable
    entries = {field: _by_name(declared.get(field)) for field in ("input", "output")}
    answer: dict[str, Any] = {
        "name": lease.model,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": _policy(policy),
        "max_batch_size": config.max_batch_rows if batched else 0,
        "input": [_input(spec, batched, entries["input"]) for spec in lease.signature.inputs],
        "output": [_output(spec, batched, entries["output"]) for spec in lease.signature.outputs],
        "instance_group": [{"name": lease.model, "kind": "KIND_CPU", "count": lease.slots}],
        "parameters": _parameters(declared.get("parameters")),
        **{field: declared.get(field, otherwise) for field, otherwise in SAID_ONLY.items()},
    }
    if batched:
        answer["dynamic_batching"] = _dynamic_batching(config)
    return answer


def _by_name(entries: Any) -> dict[str, Declared]:
    """What is said of inputs or outputs; other files than Triton's have other things there."""
    if not isinstance(entries, Sequence):
        return {}
    return {entry["name"]: entry for entry in entries if isinstance(entry, Mapping) and "name" in entry}


def _policy(policy: VersionPolicy) -> dict[str, Any]:
    if policy == "all":
        return {"all": {}}
    if policy == "latest":
        return {"latest": {"num_versions": 1}}
    if isinstance(policy, Mapping):
        return {"latest": {"num_versions": policy["latest"]}}
    return {"specific": {"versions": list(policy)}}


def _tensor(spec: TensorSpec, batched: bool, said: Declared) -> dict[str, Any]:
    shape = (-1,) if spec.shape is None else spec.shape
    tensor: dict[str, Any] = {
        "name": spec.name,
        "data_type": "TYPE_STRING" if spec.dtype is DType.STRING else f"TYPE_{DATATYPES[spec.dtype]}",
        # The batch's dimension is not one of them: max_batch_size says that there is one.
        "dims": list(shape[1:] if batched else shape),
    }
    if "reshape" in said:
        tensor["reshape"] = said["reshape"]
    return tensor


def _input(spec: TensorSpec, batched: bool, said: Mapping[str, Declared]) -> dict[str, Any]:
    own = said.get(spec.name, {})
    return {
        **_tensor(spec, batched, own),
        "format": own.get("format", "FORMAT_NONE"),
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
    }


def _output(spec: TensorSpec, batched: bool, said: Mapping[str, Declared]) -> dict[str, Any]:
    own = said.get(spec.name, {})
    return {
        **_tensor(spec, batched, own),
        "label_filename": own.get("label_filename", ""),
        "is_shape_tensor": False,
    }


def _dynamic_batching(config: ModelConfig) -> dict[str, Any]:
    levels = config.priority_levels
    return {
        "preferred_batch_size": list(config.preferred_batch_rows),
        "max_queue_delay_microseconds": config.max_queue_delay_us,
        "preserve_ordering": False,
        "priority_levels": levels,
        "default_priority_level": config.default_priority if levels else 0,
        "default_queue_policy": _queue_policy(config.queue_policy),
        "priority_queue_policy": {
            str(level): _queue_policy(policy) for level, policy in config.priority_policies.items()
        },
    }


def _queue_policy(policy: QueuePolicyConfig) -> dict[str, Any]:
    return {
        "timeout_action": policy.timeout_action.upper(),
        "default_timeout_microseconds": policy.timeout_us,
        "allow_timeout_override": policy.allow_timeout_override,
        "max_queue_size": policy.max_requests,
    }


def _parameters(said: Any) -> dict[str, Any]:
    """Those of Triton's: MLServer's settings have a member of that name, too, and other things in it."""
    if not isinstance(said, Mapping):
        return {}
    return {
        name: value for name, value in said.items() if isinstance(value, Mapping) and set(value) == {"string_value"}
    }
