"""What is counted, under the names that dashboards of Triton and of TensorFlow Serving ask for (`metrics_compat`). Pure.

Their counters do not end in `_total`, so the library that renders ours does not render these.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from fastserve.engine.meters import VERSION_TALLY
from fastserve.metrics import Family, Snapshot, rendered

TRITON = (
    ("nv_inference_request_success", "Requests that were answered.", 0, 1),
    ("nv_inference_request_failure", "Requests that failed.", 2, 1),
    ("nv_inference_request_duration_us", "Time of requests, in microseconds.", 1, 1000),
    ("nv_inference_queue_duration_us", "Time that they waited.", 4, 1000),
    ("nv_inference_compute_input_duration_us", "Time that their inputs took.", 5, 1000),
    ("nv_inference_compute_infer_duration_us", "Time that their runs took.", 6, 1000),
    ("nv_inference_compute_output_duration_us", "Time that their outputs took.", 7, 1000),
    ("nv_inference_count", "Rows.", 8, 1),
    ("nv_inference_exec_count", "Runs.", 9, 1),
)
"""Name, sentence, place in a version's sums (VersionMeter), and what that is divided by."""

CODES = {
    "400": "INVALID_ARGUMENT",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "NOT_FOUND",
    "412": "FAILED_PRECONDITION",
    "429": "RESOURCE_EXHAUSTED",
    "501": "UNIMPLEMENTED",
    "503": "UNAVAILABLE",
    "504": "DEADLINE_EXCEEDED",
}
LATENCIES = (
    (
        "fastserve_request_seconds",
        ":tensorflow:serving:request_latency",
        {"API": "predict", "entrypoint": "REST"},
        "Time of requests, in microseconds.",
    ),
    (
        "fastserve_stage_seconds",
        ":tensorflow:serving:runtime_latency",
        {"API": "predict", "runtime": "ONNX"},
        "Time of runs, in microseconds.",
    ),
)
OF_TFSERVING = {("protocol", "tfserving"), ("stage", "run")}


def text(snapshot: Snapshot) -> bytes:
    """Prometheus text, to stand behind our own."""
    families = {family.name: family for family in snapshot}
    lines = [*_triton(families), *_request_count(families)]
    return "".join(f"{line}\n" for line in lines).encode() + rendered([*_latencies(families)])


def _triton(families: Mapping[str, Family]) -> Iterator[str]:
    versions = families.get(VERSION_TALLY)
    for name, sentence, place, divisor in TRITON if versions is not None else ():
        yield from _head(name, sentence, "counter")
        for point in versions.points if versions is not None else ():
            yield _line(name, dict(point.labels), int(point.values[place]) // divisor)
    waiting = families.get("fastserve_queue_rows")
    if waiting is not None:
        yield from _head("nv_inference_pending_request_count", "Rows that wait.", "gauge")
        for point in waiting.points:
            yield _line("nv_inference_pending_request_count", dict(point.labels), int(point.values[0]))


def _request_count(families: Mapping[str, Family]) -> Iterator[str]:
    counted: dict[tuple[str, str], int] = defaultdict(int)
    requests = families.get("fastserve_requests_total")
    for point in requests.points if requests is not None else ():
        labels = dict(point.labels)
        if labels["protocol"] == "tfserving" and labels["model"]:
            counted[labels["model"], _code(labels["status"])] += int(point.values[0])
    if counted:
        yield from _head(":tensorflow:serving:request_count", "Requests, by what they came to.", "counter")
    for (model, status), count in counted.items():
        yield _line(":tensorflow:serving:request_count", {"model_name": model, "status": status}, count)


def _code(status: str) -> str:
    if status.startswith("2"):
        return "OK"
    return CODES.get(status, "INVALID_ARGUMENT" if status.startswith("4") else "INTERNAL")


def _latencies(families: Mapping[str, Family]) -> Iterator[Family]:
    for ours, name, labels, sentence in LATENCIES:
        family = families.get(ours)
        if family is None:
            continue
        points = [
            replace(point, labels=tuple({**labels, "model_name": dict(point.labels)["model"]}.items()), scale=1e3)
            for point in family.points
            if OF_TFSERVING & set(point.labels) and dict(point.labels)["model"]
        ]
        yield Family(name, "histogram", sentence, tuple(points))


def _head(name: str, sentence: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {sentence}", f"# TYPE {name} {kind}"


def _line(name: str, labels: Mapping[str, str], value: int) -> str:
    told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{told}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
