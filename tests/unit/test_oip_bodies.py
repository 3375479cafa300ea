"""Small JSON bodies: any bytes are read or refused, and nothing but what is allowed comes through."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.errors import FastServeError, InvalidRequest
from fastserve.logs import Choice
from fastserve.protocols.oip import bodies, log_settings, trace_settings
from fastserve.protocols.oip.trace_settings import Sampling

Read = Callable[[bytes], dict[str, Any]]

READERS: list[Read] = [bodies.read_object, lambda body: log_settings.read(body, ""), trace_settings.read]
NAMES = st.sampled_from([*log_settings.RULES, *trace_settings.DEFAULTS]) | st.text(max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.sampled_from(["", "OFF", "TIMESTAMPS", "TENSORS", "5", "-1", "default", "ISO8601", "triton"])
)
OBJECTS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=4)


def read(reader: Read, body: bytes) -> dict[str, Any] | None:
    """What was read; None where it was refused."""
    try:
        return reader(body)
    except FastServeError:
        return None


@pytest.mark.parametrize("reader", READERS)
@given(st.binary(max_size=60) | OBJECTS.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(reader: Read, body: bytes):
    found = read(reader, body)
    assert found is None or isinstance(found, dict)


@given(OBJECTS)
def test_what_is_taken_of_log_settings_can_be_applied(given: dict[str, Any]):
    found = read(READERS[1], json.dumps(given).encode())
    if found is not None:
        assert isinstance(log_settings.choice(found), Choice)
        shown = msgspec.json.encode(log_settings.shown(found, ""))
        assert log_settings.read(shown, "").items() >= found.items(), "what is shown can be given back"


@given(OBJECTS, OBJECTS)
def test_what_is_taken_of_trace_settings_can_be_applied(one: dict[str, Any], other: dict[str, Any]):
    both = [read(READERS[2], json.dumps(given).encode()) for given in (one, other)]
    changed, own = ({name: value for name, value in (found or {}).items() if value is not None} for found in both)
    shown = trace_settings.shown(changed, own)
    sampling = trace_settings.sampling(shown)
    assert sampling is None or (isinstance(sampling, Sampling) and sampling.rate >= 1)
    assert trace_settings.read(msgspec.json.encode(shown)) == shown, "what is shown can be given back"


def test_a_value_is_shown_cut():
    assert str(bodies.wrong("x", "y" * 5000, "$.z")).startswith('expected x, got "yyy')
    assert len(str(bodies.wrong("x", "y" * 5000, "$.z"))) < 150


def test_deep_values_that_can_be_read_can_be_told():
    for depth in range(100, 2000, 50):
        found = read(bodies.read_object, b'{"ready":' + b"[" * depth + b"]" * depth + b"}")
        if found is not None:
            with pytest.raises(InvalidRequest, match="ready"):
                bodies.check(found, {"ready": bodies.FLAG}, "$")
