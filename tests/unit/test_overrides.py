"""What a load call asks to be other than configured: any JSON is read, or refused in words that name no folder."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from fastserve.engine.overrides import Overrides, overridden, read_overrides, with_versions
from fastserve.engine.registry import OnDisk
from fastserve.errors import InvalidRequest, LoadRefused

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
        (
            '{"max_batch_size": 3000000000}',
            "config: max_batch_size: expected an integer of -2147483648 to 2147483647, got 3000000000",
        ),
        ('{"max_batch_size": true}', "config: max_batch_size: expected an integer of "),
        ('{"max_batch_size": 4, "maxBatchSize": 4}', "config: max_batch_size is given twice"),
        ('{"name": 5}', "config: name: expected a string, got 5"),
        ('{"input": 5}', "config: input: expected a list, got 5"),
        ('{"input": [null]}', "config: input[0]: expected an object, got null"),
        ('{"input": [{"name": "x", "dims": [1, "a"]}]}', "config: input[0].dims[1]: expected an integer of "),
        (
            '{"input": [{"name": "x", "data_type": "FP32"}]}',
            "config: input[0].data_type: expected one of TYPE_INVALID, ",
        ),
        ('{"dynamic_batching": []}', "config: dynamic_batching: expected an object, got []"),
        ('{"dynamic_batching": {"priority_queue_policy": {"a": {}}}}', "priority_queue_policy.a: expected an integer"),
        (
            '{"version_policy": {"all": {}, "latest": {}}}',
            "config: version_policy.all is given beside latest: only one",
        ),
        ('{"optimization": 5}', "config: optimization: expected an object, got 5"),
    ],
)
def test_what_is_refused_is_told_without_a_folder(config: str, text: str):
    with pytest.raises(InvalidRequest) as raised:
        read_overrides({"config": config}, on_disk())
    assert text in str(raised.value)
    assert str(BASE) not in str(raised.value)


def notes(config: Any) -> tuple[str, ...]:
    return read_overrides({"config": json.dumps(config)}, on_disk()).notes


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"max_batch_sise": 4}, "config: max_batch_sise: unknown field; did you mean max_batch_size?"),
        ({"frobnicate": None}, "config: frobnicate: unknown field; known here: name, platform, "),
        (
            {"input": [{"name": "x"}, {"name": "y", "nme": 1}]},
            "config: input[1].nme: unknown field; did you mean name?",
        ),
        ({"optimization": {"cuda": {"graphs": True}}}, "config: optimization is not applied: graphs are always"),
        ({"responseCache": {"enable": True}}, "config: response_cache is not applied: answers are not kept"),
        ({"instance_group": [{"gpus": [0]}]}, "config: instance_group[0].gpus is not applied: models run on the CPU"),
        ({"parameters": {"a": {"string_value": "b"}}}, 'config: parameter "a" is not applied'),
        ({"a\nb" + "c" * 1000: 1}, "config: a\\nb" + "c" * 61 + "...: unknown field; "),
    ],
)
def test_what_is_not_applied_is_told(config: dict[str, Any], text: str):
    (told,) = notes(config)
    assert told.startswith(text)


def test_what_asks_for_nothing_is_not_told():
    bare = {"optimization": {}, "metric_tags": {}, "batch_input": [], "sequence_batching": None}
    tensor = {"name": "x", "format": "FORMAT_NONE", "optional": False}
    assert notes({**bare, "input": [tensor], "maxBatchSize": "8"}) == ()


def test_what_is_told_does_not_grow_with_the_request():
    assert len(notes({f"a{i}": 1 for i in range(1000)})) == 32


def test_versions_that_are_not_there_are_told_and_refused_where_none_is():
    def asked(*numbers: int) -> Overrides:
        config = {"version_policy": {"specific": {"versions": numbers}}}
        return with_versions(read_overrides({"config": json.dumps(config)}, on_disk()), {1, 2, 10})

    assert asked(1, 10).notes == ()
    assert asked(1, 99).notes == ("versions 99 are asked for and not there; there are 1, 2, 10",)
    with pytest.raises(LoadRefused, match=r"versions 98, 99 are asked for and not there; there are 1, 2, 10"):
        asked(98, 99)
    for policy in ("latest", "all", {"latest": 2}):
        assert with_versions(Overrides({"versions": policy}), {1}).notes == ()


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
