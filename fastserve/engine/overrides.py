"""What a load call asks to be other than configured.

Thread: the director's.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from fastserve.config import ModelConfig
from fastserve.engine.registry import OnDisk
from fastserve.errors import ConfigError, InvalidRequest, LoadRefused, quoted

FIXED_FIELDS = ("name", "path")
"""What a call cannot override: they say which model it is."""

CONFIG = "config"
"""Among the overrides, Triton's configuration as JSON; the others are fields of ModelConfig."""

MAX_LISTED = 8

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "max_batch_size": ("max_batch_rows", "batching"),
    "input": ("inputs",),
    "output": ("outputs",),
    "dynamic_batching": (
        "max_queue_delay_us",
        "preferred_batch_rows",
        "priority_levels",
        "default_priority",
        "queue_policy",
        "priority_policies",
        "max_queue_rows",
    ),
    "instance_group": ("slots",),
    "model_warmup": ("warmup",),
}
"""What a field of Triton's decides where it is given, whatever it says: nothing that was configured is left of that."""


DECIDED = frozenset(field for fields in _FIELDS.values() for field in fields) | {"classes", "versions"}
"""All fields that Triton's configuration decides: of files that come with one, nothing else says them."""


class Overrides(Struct, frozen=True):
    """`fields`: of ModelConfig. `declared`: what Triton's configuration said, as plain values. `notes`: not applied.

    `model_file`: the file's name inside version folders, if that was said.
    """

    fields: Mapping[str, Any] = {}
    declared: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    model_file: str = ""


def read_overrides(asked: Mapping[str, Any], disk: OnDisk) -> Overrides:
    """What `asked` means for that model. Raises InvalidRequest naming what is unknown, fixed, or has a wrong value."""
    found = Overrides(asked)
    if CONFIG in asked:
        found = _from_triton(asked[CONFIG], {name: value for name, value in asked.items() if name != CONFIG}, disk)
    overridden(disk.config, found.fields)
    return found


def with_versions(found: Overrides, there: Collection[int]) -> Overrides:
    """`found` with a note of versions that it asks for by number and are not there. Raises LoadRefused where none is."""
    asked = found.fields.get("versions")
    missing = [number for number in asked if number not in there] if isinstance(asked, Sequence) else []
    if not missing or isinstance(asked, str):
        return found
    told = f"versions {_listed(missing)} are asked for and not there; there are {_listed(sorted(there)) or 'none'}"
    if len(missing) == len(asked or ()):
        raise LoadRefused(told)
    return replace(found, notes=(*found.notes, told))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:MAX_LISTED])) + (", ..." if len(numbers) > MAX_LISTED else "")


def overridden(config: ModelConfig, overrides: Mapping[str, Any]) -> ModelConfig:
    """`config` with these fields. Raises InvalidRequest naming the field that is unknown, fixed, or has a wrong value."""
    if not overrides:
        return config
    known = asdict(config)
    for name in overrides:
        if name not in known or name in FIXED_FIELDS:
            takes = ", ".join(field for field in known if field not in FIXED_FIELDS)
            raise InvalidRequest(f"{quoted(name)} cannot be overridden; expected one of {takes}")
    try:
        return msgspec.convert({**msgspec.to_builtins(config), **overrides}, ModelConfig)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"overrides of model {quoted(config.name)}: {error}") from None


def _from_triton(text: str, others: Mapping[str, Any], disk: OnDisk) -> Overrides:
    from fastserve.config import triton  # protobuf, for those who need it

    try:
        said, given = triton.read_overrides(text, disk.base)
    except ConfigError as error:
        raise InvalidRequest(without_folder(str(error), disk)) from None
    if said.refused:
        raise InvalidRequest(without_folder("; ".join(said.refused), disk))
    if said.name not in ("", disk.config.name):
        raise InvalidRequest(f"config: the name {quoted(said.name)} is another model's than {quoted(disk.config.name)}")
    bare = asdict(ModelConfig(name="x"))
    decided = [field for name, fields in _FIELDS.items() if name in given for field in fields]
    fields = {**{field: bare[field] for field in decided}, **said.values, **others}
    notes = tuple(without_folder(note, disk) for note in (*said.notes, *said.problems))
    plain = msgspec.to_builtins(fields)
    for tensor in (*plain.get("inputs", ()), *plain.get("outputs", ())):
        tensor["where"] = without_folder(tensor["where"], disk)
    return Overrides(plain, said.declared, notes, said.model_file)


def without_folder(text: str, disk: OnDisk) -> str:
    """`text` as callers are told it: they need not know where models lie."""
    return text.replace(f"{disk.base}/", "").replace(str(disk.base), "the model's folder")
