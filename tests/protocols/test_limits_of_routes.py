"""The limits of requests on every route that takes a body, made from the table of routes: at N and at N + 1."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fastserve import limits
from fastserve._ext.tensorize import Cursor
from fastserve.config import load_config
from fastserve.errors import InvalidTensor
from fastserve.http.routes import Route
from fastserve.server.app import create_app
from tests.protocols.test_rights_of_routes import PATHS
from tests.support import models
from tests.support.doors import Answer, AsgiDoor, Sent
from tests.support.shelf import times

MAX_BODY_BYTES = 70_000
"""More than what is read on the door's own thread."""

POSTS = [(path, route) for method, path, route in PATHS if method == "POST" and path != "/more-metrics"]
IDS = [path for path, _ in POSTS]
BOMB = gzip.compress(bytes(40_000_000))
KIND = {"content-type": "application/json"}


def deflated(body: bytes) -> bytes:
    return zlib.compress(body)


def raw(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


SENT: Mapping[str, tuple[dict[str, str], Callable[[bytes], bytes], bool]] = {
    "plain": ({}, bytes, False),
    "chunked": ({}, bytes, True),
    "gzip": ({"content-encoding": "gzip"}, gzip.compress, False),
    "deflate": ({"content-encoding": "deflate"}, deflated, False),
    "raw deflate": ({"content-encoding": "deflate"}, raw, True),
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    folder = tmp_path_factory.mktemp("limits")
    models.save(times(1), folder / "models" / "m" / "1")
    models.save(times(1), folder / "models" / "stays" / "1")
    door = AsgiDoor(
        create_app(
            load_config(
                [str(folder / "models")], options={"max_body_bytes": MAX_BODY_BYTES, "log_dir": str(folder / "log")}
            )
        )
    )
    door.open()
    yield door
    door.close()


def post(door: AsgiDoor, path: str, body: bytes, headers: dict[str, str], *, chunked: bool = False) -> Answer:
    # As a caller on this machine: admin's routes take nobody else where nobody is named.
    caller = {"host": "localhost", **KIND}
    answer = door.send(Sent("POST", path, {**caller, **headers}, body, chunked))
    if path.endswith("/unload"):  # the tests behind this one ask the model, too
        door.send(Sent("POST", path.replace("/unload", "/load"), caller, b""))
    return answer


@pytest.mark.parametrize("way", list(SENT))
@pytest.mark.parametrize(("path", "route"), POSTS, ids=IDS)
def test_bodies_at_the_limit_and_one_byte_beyond(door: AsgiDoor, path: str, route: Route, way: str):
    headers, packed, chunked = SENT[way]
    within = post(door, path, packed(b"{}" + b" " * (MAX_BODY_BYTES - 2)), headers, chunked=chunked)
    assert within.status not in (403, 413, 500)
    beyond = post(door, path, packed(b"{}" + b" " * (MAX_BODY_BYTES - 1)), headers, chunked=chunked)
    assert beyond.status == 413
    assert str(MAX_BODY_BYTES) in beyond.body.decode()


@pytest.mark.parametrize(("path", "route"), POSTS, ids=IDS)
def test_what_unfolds_without_end_is_refused(door: AsgiDoor, path: str, route: Route):
    assert len(BOMB) < MAX_BODY_BYTES
    assert post(door, path, BOMB, {"content-encoding": "gzip"}).status == 413
    assert post(door, path, gzip.compress(gzip.compress(b"{}")), {"content-encoding": "gzip, gzip"}).status == (
        400 if route.scope == "log" else 415  # whose clients know no 415
    )


DEEP = 10_000


@pytest.mark.parametrize(
    "text", ["[" * DEEP, '{"x":' * DEEP, "[" * DEEP + "]" * DEEP, '{"a":%s}' % ("[" * DEEP + "]" * DEEP)]
)
@pytest.mark.parametrize(("path", "route"), POSTS, ids=IDS)
def test_nesting_without_end_is_an_answer_like_any_other(door: AsgiDoor, path: str, route: Route, text: str):
    for body in (
        text,
        f'{{"inputs":{text}}}',
        f'{{"instances":[{text}]}}',
        f'{{"parameters":{text},"predictions":[]}}',
    ):
        assert post(door, path, body.encode(), {}).status in (200, 400, 404, 422, 501), body[:40]


def test_nesting_at_the_limit_and_beyond():
    Cursor(b"[" * limits.MAX_RANK + b"1" + b"]" * limits.MAX_RANK).tensor(1, "$")
    with pytest.raises(InvalidTensor, match=f"at most {limits.MAX_RANK} "):
        Cursor(b"[" * (limits.MAX_RANK + 1) + b"1" + b"]" * (limits.MAX_RANK + 1)).tensor(1, "$")
    for depth, fits in ((limits.MAX_DEPTH, True), (limits.MAX_DEPTH + 1, False)):
        cursor = Cursor(b"[" * depth + b"]" * depth)  # without a depth that is said: the one of limits.py
        if fits:
            assert cursor.value("$") is not None
        else:
            with pytest.raises(InvalidTensor, match=f"at most {limits.MAX_DEPTH} "):
                cursor.value("$")


TENSOR = '{"name":"x","shape":[1,2],"datatype":"INT64","data":[7,8]}'


@pytest.mark.parametrize("count", [limits.MAX_PARAMETERS, limits.MAX_PARAMETERS + 1])
@pytest.mark.parametrize("place", ["request", "input", "output"])
def test_parameters_are_counted(door: AsgiDoor, count: int, place: str):
    told = '"parameters":{{{}}}'.format(",".join(f'"p{i}":1' for i in range(count)))
    inputs = f'"inputs":[{TENSOR[:-1]},{told}}}]' if place == "input" else f'"inputs":[{TENSOR}]'
    outputs = f',"outputs":[{{"name":"y",{told}}}]' if place == "output" else ""
    body = "{{{}{}{}}}".format(inputs, outputs, f",{told}" if place == "request" else "")
    answer = post(door, "/v2/models/stays/infer", body.encode(), {})
    if count <= limits.MAX_PARAMETERS:
        assert answer.status == 200, answer.body
    else:
        assert answer.status == 400
        assert b"at most 1024 parameters" in answer.body


@pytest.mark.parametrize(
    "body",
    [
        '{{"inputs":[{}]}}'.format(",".join([TENSOR] * 1000)),
        '{{"inputs":[{}]}}'.format(",".join(TENSOR.replace('"x"', f'"x{i}"') for i in range(1000))),
        '{{"inputs":[{}],"outputs":[{}]}}'.format(TENSOR, ",".join(['{"name":"y"}'] * 1000)),
        '{{"inputs":[{}],"outputs":[{}]}}'.format(TENSOR, ",".join(f'{{"name":"y{i}"}}' for i in range(1000))),
    ],
)
def test_tensors_that_are_none_of_the_model_are_not_read(door: AsgiDoor, body: str):
    answer = post(door, "/v2/models/stays/infer", body.encode(), {})
    assert answer.status == 400
    assert b"puts[" in answer.body, "told of the first one"
    assert len(answer.body) < 1000


NAMED = ",".join(f'"{at:x}":[1,2]' for at in range(5000))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/stays:predict", f'{{"inputs":{{{NAMED}}}}}'),
        ("/v1/models/stays:predict", f'{{"instances":[{{{NAMED}}}]}}'),
        ("/v1/models/stays:classify", f'{{"examples":[{{{NAMED}}}]}}'),
        ("/v1/models/stays:regress", f'{{"examples":[{{{NAMED}}}]}}'),
        ("/v2/models/stays/infer_dict", f'{{"inputs":[{{{NAMED}}}]}}'),
        ("/v2/models/stays/infer", f'{{"inputs":[{{"name":"x",{NAMED}}}]}}'),
        ("/v2/models/stays/infer", f'{{"inputs":[{TENSOR}],{NAMED},"outputs":[{{"name":"no"}}]}}'),
    ],
)
def test_names_without_number_are_refused_by_the_first(door: AsgiDoor, path: str, body: str):
    assert len(body) < MAX_BODY_BYTES
    answer = post(door, path, body.encode(), {})
    assert answer.status == 400, answer.body[:300]
    assert len(answer.body) < 1000


@pytest.mark.parametrize("count", [limits.MAX_PREDICTIONS, limits.MAX_PREDICTIONS + 1])
def test_predictions_are_counted(door: AsgiDoor, count: int):
    body = '{{"predictions":[{}]}}'.format(",".join(['{"model_name":"x"}'] * count))
    assert post(door, "/v1/predict", body.encode(), {}).status == (200 if count == limits.MAX_PREDICTIONS else 400)


def test_the_docs_have_the_same_numbers():
    text = (Path(__file__).parents[2] / "docs" / "operation.md").read_text()
    table = text.partition("## Limits")[2].partition("\n- ")[0]
    for name, value in vars(limits).items():
        if name.startswith("MAX_"):
            assert f" {value}" in table, name
