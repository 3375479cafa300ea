"""What versions have served, as Triton counts it: the sums of all workers as the answer to .../stats.

Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from fastserve._ext.meters import SIZES_PER_TALLY, SUMS_PER_SIZE
from fastserve.engine.meters import LAST_TALLY, SIZES_TALLY, VERSION_TALLY
from fastserve.metrics import Snapshot

Version = tuple[str, str]
"""A model's name and its version as text."""

Sums = tuple[int, ...]


class Now(Struct, frozen=True, gc=False):
    """The same moment on the engine's clock and on the wall's."""

    monotonic_ns: int
    wall_ns: int


class _Counted(Struct):
    """What the tallies hold of one version. `sizes`: by chunk of batch sizes."""

    sums: Sums = (0,) * 10
    last_ns: int = 0
    sizes: dict[int, Sums] = {}


def model_stats(
    snapshot: Snapshot, versions: list[Version], now: Now, held: Mapping[Version, int] | None = None
) -> dict[str, Any]:
    """The answer about these versions. `held`: bytes of memory that each takes, in all workers, as far as that is known."""
    held = held or {}
    counted = {version: _Counted() for version in versions}
    for family in snapshot:
        if family.kind != "tally":
            continue
        for point in family.points:
            labels = dict(point.labels)
            one = counted.get((labels.get("model", ""), labels.get("version", "")))
            if one is not None:
                _add(one, family.name, labels, tuple(map(int, point.values)))
    return {"model_stats": [_stats(*version, one, now, held.get(version, 0)) for version, one in counted.items()]}


def _add(one: _Counted, family: str, labels: Mapping[str, str], values: Sums) -> None:
    if family == VERSION_TALLY:
        one.sums = values
    elif family == LAST_TALLY:
        one.last_ns = values[0]
    elif family == SIZES_TALLY:
        one.sizes[int(labels["chunk"])] = values


def _stats(model: str, version: str, one: _Counted, now: Now, held_bytes: int) -> dict[str, Any]:
    answered, answered_ns, failed, failed_ns, queue_ns, input_ns, run_ns, output_ns, rows, runs = one.sums
    return {
        "name": model,
        "version": version,
        "last_inference": (now.wall_ns - now.monotonic_ns + one.last_ns) // 1_000_000 if one.last_ns else 0,
        "inference_count": rows,
        "execution_count": runs,
        "inference_stats": {
            "success": _took(answered, answered_ns),
            "fail": _took(failed, failed_ns),
            "queue": _took(answered, queue_ns),
            "compute_input": _took(answered, input_ns),
            "compute_infer": _took(answered, run_ns),
            "compute_output": _took(answered, output_ns),
            "cache_hit": _took(0, 0),
            "cache_miss": _took(0, 0),
        },
        "response_stats": {},
        "batch_stats": list(_batches(one.sizes)),
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": held_bytes}] if held_bytes else [],
    }


def _batches(sizes: Mapping[int, Sums]) -> Iterator[dict[str, Any]]:
    for chunk, sums in sorted(sizes.items()):
        for place in range(SIZES_PER_TALLY):
            runs, input_ns, run_ns, output_ns = sums[place * SUMS_PER_SIZE : (place + 1) * SUMS_PER_SIZE]
            if runs:
                yield {
                    "batch_size": chunk * SIZES_PER_TALLY + place,
                    "compute_input": _took(runs, input_ns),
                    "compute_infer": _took(runs, run_ns),
                    "compute_output": _took(runs, output_ns),
                }


def _took(count: int, elapsed_ns: int) -> dict[str, int]:
    return {"count": count, "ns": elapsed_ns}
