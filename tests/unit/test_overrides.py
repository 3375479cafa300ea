"""What a load call asks to be other than configured: any JSON is read, or refused in words that name no folder."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from fastserve.engine.overrides import overridden, read_overrides
from fastserve.engine.registry import OnDisk
from fastserve.errors import InvalidRequest

BASE = Path("/srv/models/m")


def on_disk(**fields: Any) -> OnDisk:
    return OnDisk(BASE.parent, ModelConfig(name="m", **fields), "latest", {}, {}, base=BASE)


def fields(config: Any, **configured: Any) -> dict[str, Any]:
    return dict(read_overrides({"config": json.dumps(config)}, on_disk(**configured)).fields)


def test_only_what_is_given_is_other_than_configured():
    assert fields({}, max_batch_rows=8) == {}
    assert fields({"max_batch_size": 64}, max_batch_rows=8) == {"max_batch_rows": 64, "batching": True}
    assert fields({"max_batch_size": 0})["batching"] is False
    assert fields({"instance_group": [{"kind": "KIND_CPU", "count": 3}]}) == {"slots": 3}


def test_what_is_given_leaves_nothing_of_what_it_decides():
    given = fields({"dynamic_batching": {"priority_levels": 2, "default_priority_level": 1}}, max_queue_delay_us=50)
    assert (given["max_queue_delay_us"], given["priority_levels"], given["queue_policy"]["timeout_us"]) == (0, 2, 0)


def test_fields_of_our_own_come_over_tritons():
    asked = {"config": '{"max_batch_size": 4}', "max_batch_rows": 5}
    assert read_overrides(asked, on_disk()).fields["max_batch_rows"] == 5


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('{"name": "n"}', '"n"'),
        ('{"platform": "ensemble"}', "ensembles are not served"),
        ('{"backend": "python"}', '"python"'),
        ('{"max_batch_size": -1}', "config: max_batch_size: expected at least 0, got -1"),
        ('{"output": [{"name": "y", "label_filename": "none.txt"}]}', "none.txt"),
        ('{"output": [{"name": "y", "label_filename": "../../x"}]}', "leads out"),
        ("nonsense", "config: "),
        ("[1]", "config: "),
        ("[" * 100_000, "config: "),
        ('{"input": ' + "[" * 5000 + "]" * 5000 + "}", "config: "),
        ('{"max_batch_size": 1e400}', "config: "),
        ('{"max_batch_size": 3000000000}', "config: "),
    ],
)
def test_what_is_refused_is_told_without_a_folder(config: str, text: str):
    with pytest.raises(InvalidRequest) as raised:
        read_overrides({"config": config}, on_disk())
    assert text in str(raised.value)
    assert str(BASE) not in str(raised.value)


NAMES = [
    *("name", "platform", "max_batch_size", "input", "output", "dims", "data_type", "reshape", "shape", "parameters"),
    *("dynamic_batching", "preferred_batch_size", "max_queue_delay_microseconds", "priority_queue_policy", "kind"),
    *("instance_group", "count", "version_policy", "latest", "num_versions", "specific", "versions", "all", "inputs"),
    *("model_warmup", "batch_size", "optimization", "default_queue_policy", "string_value", "label_filename", "what"),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "1", "TYPE_FP32", "KIND_CPU", "\u0000", "é", "m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5))
def test_any_json_is_read_or_refused(config: dict[str, Any]):
    disk, refused, found = on_disk(max_batch_rows=8), "", None
    try:
        found = read_overrides({"config": json.dumps(config)}, disk)
    except InvalidRequest as error:
        refused = str(error)
    assert str(BASE) not in refused
    if found is not None:
        msgspec.msgpack.encode(found.fields)  # it goes to other processes
        overridden(disk.config, found.fields)


def test_whatever_is_not_said_by_json_is_as_it_was():
    assert overridden(on_disk(slots=2).config, {}) == on_disk(slots=2).config
