"""Records of the prediction log: read by types or by tables, in either spelling, they come to the same; nothing else than an
answer with 4xx comes of what is none."""

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.errors import FastServeError
from fastserve.http.status import STATUS
from fastserve.protocols.arize import rules, several
from fastserve.protocols.arize.frame import Head, pack, unpack
from fastserve.protocols.arize.protojson import Mistake, camel, real, whole
from fastserve.protocols.arize.record import Record, any_json, of_json, read_record
from fastserve.protocols.arize.rows import rows_of
from fastserve.protocols.arize.rules import Limits
from fastserve.protocols.arize.times import parse_ns
from fastserve.store.rows import Row

NOW_NS = 1_795_000_000_000_000_000

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
int64s = st.integers(-(2**63), 2**63 - 1)
whole_numbers = int64s.flatmap(lambda n: st.sampled_from([n, str(n)]))
finite = st.floats(allow_nan=False, allow_infinity=False)
doubles = st.one_of(finite, finite.map(repr), st.sampled_from(["NaN", "Infinity", "-Infinity"]), st.integers(-99, 99))
embeddings = st.fixed_dictionaries(
    {"vector": st.lists(doubles, max_size=3)},
    optional={
        "link_to_data": st.none() | texts,
        "raw_data": st.fixed_dictionaries(
            {"tokenArray": st.fixed_dictionaries({"tokens": st.lists(texts, max_size=2)})}
        ),
    },
)
values = st.one_of(
    st.fixed_dictionaries({"string": texts}),
    st.fixed_dictionaries({"int": whole_numbers}),
    st.fixed_dictionaries({"double": doubles}),
    st.fixed_dictionaries({"multi_value": st.fixed_dictionaries({"values": st.lists(texts, max_size=3)})}),
    st.fixed_dictionaries({"embedding": embeddings}),
    st.fixed_dictionaries(
        {"dictionary": st.fixed_dictionaries({"values": st.dictionaries(texts, doubles, max_size=2)})}
    ),
)
members = st.dictionaries(texts, values, max_size=4)
score_categories = st.one_of(
    st.fixed_dictionaries({"category": st.fixed_dictionaries({}, optional={"category": texts})}),
    st.fixed_dictionaries({"score_category": st.fixed_dictionaries({"category": texts}, optional={"score": doubles})}),
    st.fixed_dictionaries({"score_value": st.fixed_dictionaries({}, optional={"value": doubles})}),
    st.fixed_dictionaries({}, optional={"categorical": texts, "score": doubles}),
)
labels = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"numeric": doubles}),
    st.fixed_dictionaries({"categorical": texts}),
    st.fixed_dictionaries({"binary": st.booleans()}),
    st.fixed_dictionaries({"score_categorical": score_categories}),
    st.fixed_dictionaries(
        {
            "ranking": st.fixed_dictionaries(
                {}, optional={"rank": whole_numbers, "prediction_score": doubles, "label": texts}
            )
        }
    ),
)
actual_labels = labels.filter(lambda label: "ranking" not in label)
times = st.just("2026-11-18T00:00:00.123456789+01:00")
records = st.fixed_dictionaries(
    {"model_id": texts.filter(bool), "prediction_id": texts.filter(bool)},
    optional={
        "prediction": st.fixed_dictionaries(
            {},
            optional={
                "timestamp": times,
                "model_version": texts,
                "label": labels,
                "prediction_label": labels,
                "features": members,
                "tags": members,
            },
        ),
        "actual": st.fixed_dictionaries(
            {}, optional={"timestamp": times, "label": actual_labels, "actual_label": actual_labels, "tags": members}
        ),
        "feature_importances": st.fixed_dictionaries(
            {}, optional={"feature_importances": st.dictionaries(texts, doubles, max_size=3)}
        ),
        "environment_params": st.sampled_from(
            [{}, {"production": {}}, {"training": {}}, {"validation": {"batch_id": "b"}}, {"validation": {}}]
        ),
        "is_generative_llm_record": st.booleans(),
        "space_key": texts,
    },
).filter(lambda record: {"prediction", "actual", "feature_importances"} & record.keys())

DATA = ("features", "tags", "values")
"""Members whose own members' names are data."""


def camelled(value: Any, *, data: bool = False) -> Any:
    if isinstance(value, list):
        return [camelled(item) for item in value]
    if not isinstance(value, dict):
        return value
    if data:
        return {name: camelled(item) for name, item in value.items()}
    return {
        camel(name): camelled(item, data=name in DATA or (name == "feature_importances" and "model_id" not in value))
        for name, item in value.items()
    }


def rows(record: Record) -> list[Row]:
    return list(rows_of(record, Head("s"), 7, 8))


def as_text(found: list[Row]) -> str:
    """So that NaN is NaN."""
    return repr(found)


@settings(max_examples=60)
@given(sent=records)
def test_types_and_tables_and_both_spellings_come_to_the_same(sent: dict[str, Any]) -> None:
    body = json.dumps(sent).encode()
    typed, told = read_record(body), of_json(json.loads(body), "$")
    rules.check(typed, NOW_NS, Limits())
    rules.check(told, NOW_NS, Limits())
    expected = as_text(rows(typed))
    assert as_text(rows(told)) == expected
    assert as_text(rows(read_record(json.dumps(camelled(sent)).encode()))) == expected


def refusal(call: Callable[[], Any]) -> FastServeError | None:
    try:
        call()
    except FastServeError as error:
        return error
    return None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member and item, as what holds it and where it is there."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(item)


@settings(max_examples=60)
@given(sent=records, data=st.data())
def test_a_record_with_something_wrong_in_it_is_refused_or_kept_and_never_fails(
    sent: dict[str, Any], data: Any
) -> None:
    holder, key = data.draw(st.sampled_from([(sent, name) for name in sent] + list(places(sent))))
    holder[key] = data.draw(json_values)
    body = json.dumps(sent).encode()
    refused = refusal(lambda: rules.check(read_record(body), NOW_NS, Limits()))
    by_tables = refusal(lambda: rules.check(of_json(any_json(body), "$"), NOW_NS, Limits()))
    assert (refused is None) == (by_tables is None)
    if refused is None:
        assert as_text(rows(of_json(any_json(body), "$"))) == as_text(rows(read_record(body)))
    else:
        assert STATUS[refused.code] == 400
        assert str(refused)


@given(body=st.binary(max_size=60))
def test_bytes_are_a_record_or_a_refusal(body: bytes) -> None:
    head = Head()
    for read in (
        lambda: rules.check(read_record(body), NOW_NS, Limits()),
        lambda: several.read_bulk(body, head, NOW_NS, Limits()),
        lambda: several.read_lines(body, head, NOW_NS, Limits()),
    ):
        refused = refusal(read)
        assert refused is None or STATUS[refused.code] == 400


@given(value=json_values)
def test_json_is_a_record_or_a_refusal(value: Any) -> None:
    body = json.dumps(value).encode()
    for read in (lambda: read_record(body), lambda: several.read_bulk(body, Head(), NOW_NS, Limits())):
        refused = refusal(read)
        assert refused is None or STATUS[refused.code] == 400


@given(
    moment=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    nanoseconds=st.integers(0, 999_999_999),
    digits=st.integers(0, 9),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_times_are_read_to_the_nanosecond(moment: datetime, nanoseconds: int, digits: int, offset: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    fraction = f"{nanoseconds:09}"[:digits]
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + (f".{fraction}" if fraction else "")
    text += f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert parse_ns(text, "$") == seconds * 10**9 + int(fraction.ljust(9, "0"))


@given(text=st.text(max_size=40))
def test_other_texts_are_no_times(text: str) -> None:
    refused = refusal(lambda: parse_ns(text, "$.t"))
    assert refused is None or (isinstance(refused, Mistake) and refused.path == "$.t")


@given(number=int64s)
def test_int64s_are_exact(number: int) -> None:
    assert whole(number) == whole(str(number)) == number
    assert whole(number + 2**64) is None


@given(number=finite)
def test_doubles_are_exact(number: float) -> None:
    assert real(number) == real(repr(number)) == number
    assert whole(number) == (int(number) if number.is_integer() and abs(number) < 2**63 else whole(number))


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "+1", "01", "1.", ".5", "1e", "0x1", "1_0", " 1", "1 ", "", "\u0661"]
)
def test_texts_that_python_would_read_are_no_numbers(text: str) -> None:
    assert real(text) is None
    assert whole(text) is None


def test_numbers_beyond_doubles_are_none() -> None:
    assert real(10**400) is None
    assert real("1e999") is None
    assert math.isinf(real("Infinity") or 0)


@given(st.builds(Head, texts, texts, texts, texts, texts, texts), st.binary(max_size=50))
def test_frames_come_back(head: Head, body: bytes) -> None:
    assert unpack(pack(head, body)) == (head, body)


@given(st.binary(max_size=40))
def test_other_payloads_are_told_apart(payload: bytes) -> None:
    try:
        unpack(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return


def test_a_head_of_an_older_writer_is_read() -> None:
    """Fields were added: what a head lacks is empty."""
    old = msgspec.msgpack.encode(["space", "id"])
    assert unpack(len(old).to_bytes(2, "little") + old + b"{}") == (Head("space", "id"), b"{}")
