"""What is sent, what the server says of it, and what is told: the pure parts of the load test."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fastserve._ext.loadgen import HdrHistogram
from fastserve.loadtest import batches, bodies, page, specs, table, values
from fastserve.loadtest.bodies import Sent
from fastserve.loadtest.drive import Level, Measured
from fastserve.loadtest.report import Report, Request, machine, run_of
from fastserve.loadtest.slo import parse_objectives
from fastserve.loadtest.specs import InputSpec
from fastserve.loadtest.sweep import kept_up
from fastserve.loadtest.target import LoadTestError, Target

X = InputSpec("x", "FP32", (-1, 2), ("rows", ""))
TEXT = InputSpec("text", "BYTES", (-1,))
FIXED = InputSpec("f", "INT64", (2, 2))
FREE = InputSpec("ids", "INT64", (-1, -1), ("rows", "seq"))


def made_up(*given: InputSpec, **more: Any) -> list[values.Inputs]:
    return values.made_up(given, **{"rows": 1, "dims": {}, "integers_below": 2, "seed": 0, "count": 1, **more})


def test_inputs_are_the_same_for_the_same_seed() -> None:
    one, same, other = made_up(X, TEXT), made_up(X, TEXT), made_up(X, TEXT, seed=1)
    assert all((one[0][name] == same[0][name]).all() for name in ("x", "text"))
    assert (one[0]["x"] != other[0]["x"]).any()


def test_rows_and_free_dimensions_are_as_said() -> None:
    (inputs,) = made_up(FREE, FIXED, rows=3, dims={"seq": 5}, integers_below=7)
    assert inputs["ids"].shape == (3, 5)
    assert inputs["f"].shape == (2, 2)
    assert 0 <= inputs["ids"].min() <= inputs["ids"].max() < 7
    assert made_up(FREE, dims={"ids.0": 4, "ids.1": 2})[0]["ids"].shape == (4, 2)


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (FREE, {"dims": {"sequence": 5}}, "--dim sequence: the free dimensions are ids.0, rows, ids.1, seq"),
        (X, {"rows": 10**9}, "too large to be made up"),
        (InputSpec("x", "FP32", None), {}, "takes any shape: give --data"),
        (InputSpec("x", "OBJECT", (1,)), {}, "x is OBJECT, which is not made up"),
    ],
)
def test_what_cannot_be_made_up_is_told(given: InputSpec, more: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadTestError, match=re.escape(said)):
        made_up(given, **more)


def body(protocol: str, given: list[InputSpec], inputs: dict[str, Any]) -> Sent:
    return bodies.encoded(protocol, "/p", given, {name: np.asarray(value) for name, value in inputs.items()})


def test_tfserving_bodies() -> None:
    x, text = np.array([[0.1, 2]], np.float32), np.array(["a"], object)
    assert json.loads(body("tfserving", [X], {"x": x}).body) == {"instances": [[0.1, 2.0]]}
    several = json.loads(body("tfserving", [X, TEXT], {"x": x, "text": text}).body)
    assert several == {"instances": [{"x": [0.1, 2.0], "text": "a"}]}
    assert json.loads(body("tfserving", [FIXED], {"f": [[1, 2], [3, 4]]}).body) == {"inputs": {"f": [[1, 2], [3, 4]]}}


def test_v2_bodies() -> None:
    x, text = np.array([[0.1, 2]], np.float32), np.array(["é"], object)
    assert json.loads(body("v2", [X], {"x": x}).body) == {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 2.0]}]
    }
    sent = body("v2-binary", [X, TEXT], {"x": x, "text": text})
    head_bytes = int(dict(sent.headers)[bodies.LENGTH_HEADER])
    head = json.loads(sent.body[:head_bytes])
    assert [one["parameters"]["binary_data_size"] for one in head["inputs"]] == [8, 6]
    assert sent.body[head_bytes:] == x.tobytes() + b"\x02\x00\x00\x00" + "é".encode()


def test_bfloat16_is_the_upper_half_of_a_float() -> None:
    assert bodies.binary("BF16", np.array([1.0, -2.0], np.float32)) == b"\x80\x3f\x00\xc0"


def test_log_records_have_ids_of_their_own() -> None:
    now = datetime.datetime(2026, 11, 21, 8, 45, 26, 5, tzinfo=datetime.UTC)
    records = [json.loads(one.body) for one in bodies.log_records("m", 5, 0, now)]
    assert len({record["prediction_id"] for record in records}) == 5
    assert records[0]["prediction"]["timestamp"] == "2026-11-21T08:45:26Z"
    assert records[0]["model_id"] == "m"


def target(**more: Any) -> Target:
    return Target(
        **{"url": "http://h", "path": "/base", "host_header": "h:1", "family": 2, "host": "", "port": 1, **more}
    )


def test_a_request_is_http_and_given_headers_win() -> None:
    given = target(headers=(("host", "other"), ("Authorization", "k")))
    sent = bodies.request_bytes(given, Sent("/p", b"{}", (("X-A", "1"),)), keep_alive=False)
    head, _, rest = sent.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert (first, rest) == ("POST /base/p HTTP/1.1", b"{}")
    assert sorted(lines) == sorted([
        "User-Agent: fastserve-bench", "Content-Type: application/json", "Content-Length: 2", "Connection: close",
        "X-A: 1", "host: other", "Authorization: k",
    ])  # fmt: skip


def test_a_url_without_a_path_means_the_root() -> None:
    assert bodies.request_bytes(target(path=""), Sent("", b""), keep_alive=True).startswith(b"POST / HTTP/1.1\r\n")


def test_files_become_bodies(tmp_path: Path) -> None:
    def written(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    lines = written("a.jsonl", b'[1]\n\n{"instances": [2]}\n')
    got = bodies.from_file("tfserving", "/p", lines, None)
    assert [one.body for one in got] == [b'{"instances": [[1]]}', b'{"instances": [2]}']
    assert bodies.from_file("http", "/p", lines, "text/x")[0] == Sent("/p", b"[1]", (("Content-Type", "text/x"),))
    for path, said in (
        (written("e.json", b""), "is empty"),
        (written("b.json", b"{"), "is not JSON"),
        (tmp_path / "no", "No such"),
    ):
        with pytest.raises(LoadTestError, match=said):
            bodies.from_file("v2", "/p", path, None)


def test_numpy_files_become_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(10).reshape(5, 2))
    got = values.from_numpy(tmp_path / "x.npy", [X], rows=2, count=8)
    assert [one["x"].tolist() for one in got] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert got[0]["x"].dtype == np.float32
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)), text=np.array(["a", "b", "c"]))
    both = values.from_numpy(tmp_path / "x.npz", [X, TEXT], rows=5, count=1)
    assert both[0]["text"].tolist() == ["a", "b", "c", "a", "b"]
    with pytest.raises(LoadTestError, match="has text, x; the model takes x"):
        values.from_numpy(tmp_path / "x.npz", [X], rows=1, count=1)
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    for name in ("bad.npy", "bad.npz", "objects.npy", "none.npz"):
        if name.startswith("bad"):
            (tmp_path / name).write_bytes(b"no")
        with pytest.raises(LoadTestError, match="cannot be read"):
            values.from_numpy(tmp_path / name, [X], rows=1, count=1)


METRICS = """
fastserve_batch_rows_bucket{le="1",model="a\\"b"} 2
fastserve_batch_rows_bucket{le="2.0",model="a\\"b"} 5
fastserve_batch_rows_bucket{le="+Inf",model="a\\"b"} 5
fastserve_batch_rows_count{model="a\\"b"} 5
fastserve_batch_rows_sum{model="a\\"b"} 8.0
fastserve_batch_rows_count{model="c"} 9
"""


def test_batches_are_what_was_counted_between_two_looks() -> None:
    after = batches.readings(METRICS, 'a"b')
    before = {"1": 1.0, "2.0": 1.0, "+Inf": 1.0, "count": 1.0, "sum": 1.0}
    told = batches.between(before, after)
    assert told == batches.Batches(runs=4, rows=7, mean_rows=1.75, sizes={"1": 1, "2.0": 3})
    assert batches.between(None, after) == batches.Batches(runs=5, rows=8, mean_rows=1.6, sizes={"1": 2, "2.0": 3})
    assert batches.between(after, after) is None
    assert batches.readings(METRICS, "d") is None
    assert batches.between(None, None) is None


def measured(**more: Any) -> Measured:
    latency = HdrHistogram()
    for value in (1_000_000, 2_000_000, 300_000_000):
        latency.record(value)
    fields = {
        "level": Level(connections=4, rate=10.0), "elapsed_s": 2.0, "per_s": 1.5, "statuses": {200: 3, 503: 2},
        "failures": {"timeout": 1}, "reasons": {"timeout": "no answer came in time"}, "samples": {503: "<busy>"},
        "latency": latency, "service": latency, "failed_latency": HdrHistogram(), "late": HdrHistogram(),
        "sent_bytes": 1, "received_bytes": 2, "connections": 3, "unfinished": 4, "slice_s": 0.5,
        "slices": [(2, 1, 2_000_000), (1, 2, 300_000_000)], "interrupted": False,
    }  # fmt: skip
    return Measured(**{**fields, **more})


def report(**more: Any) -> Report:
    run = run_of(measured(**more), 2, None, parse_objectives("p30=5ms,errors=1%"))
    return Report(
        started="now", url="http://<h>", seed=0, machine=machine(), objectives=["p50=5ms"], runs=[run], sweep=None, met=False,
        request=Request(protocol="v2", path="/p", model="<m>", rows=2, bodies=1, mean_bytes=10.0),
    )  # fmt: skip


KEEPING_UP = [
    # rate, answered a second in two seconds, requests, their usual latency, whether it kept up
    (100.0, 98.0, 200, 1_000_000, True),
    (100.0, 80.0, 160, 1_000_000, True),  # by chance so few came, and all were answered
    (100.0, 90.0, 200, 1_000_000, False),
    (10.0, 8.0, 20, 400_000_000, True),  # four are always on their way
    (10.0, 4.0, 20, 400_000_000, False),
]


@pytest.mark.parametrize(("rate", "per_s", "requests", "latency_ns", "expected"), KEEPING_UP)
def test_a_server_keeps_up_where_answers_come_as_fast_as_requests(
    rate: float, per_s: float, requests: int, latency_ns: int, expected: bool
) -> None:
    latency = HdrHistogram()
    latency.record(latency_ns)
    level = Level(connections=4, rate=rate)
    told = measured(level=level, per_s=per_s, statuses={200: requests}, failures={}, latency=latency)
    assert kept_up(run_of(told, 1, None, ())) is expected


def test_a_run_is_told() -> None:
    (run,) = report().runs
    assert (run.mode, run.answered, run.failed, run.requests, run.rows_per_s) == ("open", 3, 3, 6, 3.0)
    assert run.statuses == {"200": 3, "503": 2}
    assert [verdict.met for verdict in run.verdicts] == [True, False]
    assert not run.met
    assert run.latency_ms.p50 == pytest.approx(2, rel=1e-3)
    assert sum(count for _, count in run.histogram_us) == 3
    assert [(one.at_s, one.good, one.failed) for one in run.timeline] == [(0.0, 2, 1), (0.5, 1, 2)]
    assert table.notes(run) == [
        "10/s: 2 x 503: <busy>",
        "10/s: 1 x no answer in time (--timeout-s): no answer came in time",
    ]
    assert [line.plain for line in table.verdict_lines(run)] == [
        "10/s: p30=5ms: 2.00 ms met", "10/s: errors=1%: 50.00% missed"
    ]  # fmt: skip


def test_json_and_back() -> None:
    told = report()
    assert msgspec.json.decode(msgspec.json.encode(told), type=Report) == told


def test_the_page_needs_no_network_and_escapes() -> None:
    text = page.page(report())
    assert "<m>" not in text
    assert "&lt;m&gt;" in text
    assert "&lt;busy&gt;" in text
    assert re.search(r"<(script|link|img)[^>]*(src|href)=", text) is None
    assert "Latency by percentile" in text
    assert text.count("Plotly.newPlot") >= 3


def test_the_page_of_a_run_without_an_answer() -> None:
    assert "Plotly.newPlot" in page.page(report(latency=HdrHistogram(), service=HdrHistogram(), statuses={}, slices=[]))


def test_nines() -> None:
    assert page.nines(np.array([0.0, 0.9, 0.99])).tolist() == pytest.approx([0, 1, 2])


def test_metadata_of_tfserving_is_read() -> None:
    dims = {"dim": [{"size": "-1", "name": "rows"}, {"size": "4"}]}
    inputs = {
        "x": {"dtype": "DT_FLOAT", "tensor_shape": dims},
        "y": {"dtype": "DT_STRING", "tensor_shape": {"unknown_rank": True}},
    }
    metadata = {"metadata": {"signature_def": {"signature_def": {"serving_default": {"inputs": inputs}}}}}
    assert specs._tfserving_specs(metadata) == [
        InputSpec("x", "FP32", (-1, 4), ("rows", "")),
        InputSpec("y", "BYTES", None),
    ]
