"""One version from its file to its lease: load, probe, measure, bind; away from the serving threads.

Thread: the one that looks at the repository, at lower priority than the doors.
"""

import logging
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import Struct

from fastserve._ext.costs import CostTable
from fastserve.backends.base import LoadedModel, LoadOptions, Runner
from fastserve.backends.shared import SharedModels
from fastserve.backends.table import backend_for
from fastserve.clock import Clock
from fastserve.config import ModelConfig
from fastserve.engine.batch import measured, paying_rows
from fastserve.engine.batcher import Answering, Batcher
from fastserve.engine.block import Blocks, blocks_for
from fastserve.engine.described import alone, describe
from fastserve.engine.executor import Executor
from fastserve.engine.feature_names import names_told
from fastserve.engine.finite import FiniteValidator
from fastserve.engine.lease import Lease
from fastserve.engine.limits import Limits
from fastserve.engine.meters import ModelMeters
from fastserve.engine.own_rows import Shown
from fastserve.engine.plan import Plan
from fastserve.engine.queue_rules import ranks_of, rules_of
from fastserve.engine.timer import Alarm
from fastserve.engine.validate import Validator
from fastserve.engine.warmup import warm_up, warm_up_as_recorded
from fastserve.errors import FastServeError
from fastserve.metrics import Metrics
from fastserve.types import CLASSES, Metadata, Tensor, decode_classes, encode_classes

MEASURE_UP_TO_NS = 20_000_000
"""Larger batches than the first one that takes so long are not measured at load: they go to the queue anyway."""


_log = logging.getLogger(__name__)


class Tools(Struct, frozen=True):
    """What every version of every model shares in one process."""

    executor: Executor
    closer: Executor
    alarm: Alarm
    answering: Answering
    clock: Clock
    metrics: Metrics
    shared: SharedModels | None = None


class Loaded(Struct, frozen=True):
    """A fresh version: its lease, and what the start-up table shows of it."""

    lease: Lease
    providers: tuple[str, ...]
    plan: Plan


def load_version(
    config: ModelConfig, version: int, path: Path, plan: Plan, tools: Tools, gone: Callable[[], None]
) -> Loaded:
    """Load `path` and make it ready to serve. `gone` is called when its last lease has ended and its session is closed.

    Raises LoadFailed.
    """
    options = LoadOptions(
        threads=plan.threads,
        providers=config.providers,
        max_batch_rows=config.max_batch_rows,
        alone=alone(config),
        shared=tools.shared,
    )
    model = describe(backend_for(path).load(path, options), config)
    runners = [model.runner() for _ in range(1 + plan.slots)]  # the first one is for short runs
    costs = CostTable()
    # On the CPU a run costs what its thread takes; elsewhere the thread only waits.
    run_clock = time.thread_time_ns if model.providers == ("CPUExecutionProvider",) else tools.clock
    warm_up(config.warmup, model, runners)
    warm_up_as_recorded(config.name, path.parent, model, runners, config.max_batch_rows)
    _measure(model, runners, costs, config.max_batch_rows, run_clock)
    lease = _lease(config, version, model, runners, costs, tools, run_clock)
    batcher = lease.batcher

    def close() -> None:
        batcher.close()
        model.close()
        gone()

    # The last holder may be a door's thread, and freeing a session takes milliseconds.
    weakref.finalize(lease, tools.closer.post, close).atexit = False
    return Loaded(lease, model.providers, plan)


def _lease(
    config: ModelConfig,
    version: int,
    model: LoadedModel,
    runners: list[Runner],
    costs: CostTable,
    tools: Tools,
    run_clock: Clock,
) -> Lease:
    batching = model.batching
    meters = ModelMeters(tools.metrics, config.name, version)
    batcher = Batcher(
        model=config.name,
        version=version,
        limits=_limits(config, batching.batchable, costs),
        runners=runners[1:],
        short_runner=runners[0],
        costs=costs,
        post=tools.executor.post,
        alarm=tools.alarm,
        answering=tools.answering,
        clock=tools.clock,
        run_clock=run_clock,
        meters=meters,
    )
    return Lease(
        model=config.name,
        version=version,
        signature=model.signature,
        batching=batching,
        metadata=_metadata(model, config),
        batcher=batcher,
        validator=_validator(model, config),
        meters=meters,
        config=config,
        slots=len(runners) - 1,
        rules=rules_of(config),
        file_bytes=model.file_bytes,
        blocks=_blocks(model, batcher, config, tools, run_clock),
    )


def shown_of(lease: Lease) -> Shown:
    """What its recorded predictions are read by."""
    features = names_told(lease.config, lease.metadata)
    classes = decode_classes(lease.metadata)
    return Shown(lease.model, str(lease.version), lease.signature, lease.batching.batchable, features, classes)


def _metadata(model: LoadedModel, config: ModelConfig) -> Metadata:
    return {**model.metadata, CLASSES: encode_classes(config.classes)} if config.classes else model.metadata


def _validator(model: LoadedModel, config: ModelConfig) -> Validator:
    kind = FiniteValidator if config.non_finite == "error" else Validator
    return kind(model.signature, model.batching.batchable, _row_bytes(model.example(1)))


def _blocks(model: LoadedModel, batcher: Batcher, config: ModelConfig, tools: Tools, run_clock: Clock) -> Blocks | None:
    """None where requests are looked at one by one."""
    ruled = rules_of(config) is not None or ranks_of(config) is not None
    if ruled or config.non_finite == "error" or not model.batching.batchable:
        return None
    return blocks_for(
        model.signature,
        batcher.short,
        batcher.suspects,
        config.max_batch_rows,
        tools.clock,
        run_clock,
        batcher.meters,
    )


def _limits(config: ModelConfig, batchable: bool, costs: CostTable) -> Limits:
    large = (
        config.max_queue_delay_us > 0 or config.preferred_batch_rows
    )  # who says so wants batches as large as they get
    return Limits(
        batchable=batchable,
        max_batch_rows=config.max_batch_rows,
        max_queue_delay_ns=config.max_queue_delay_us * 1000,
        max_queue_rows=config.max_queue_rows,
        enough_rows=min(config.preferred_batch_rows, default=0),
        ranks=ranks_of(config),
        pays_rows=0 if large else paying_rows(costs, _sizes(batchable, config.max_batch_rows)),
    )


def _sizes(batchable: bool, max_rows: int) -> list[int]:
    """Batch sizes that are measured."""
    return [1 << power for power in range(max_rows.bit_length())] if batchable else [1]


def _row_bytes(example: dict[str, Tensor] | None) -> int:
    return sum(tensor.nbytes for tensor in example.values()) if example else 1


def _measure(model: LoadedModel, runners: list[Runner], costs: CostTable, max_rows: int, clock: Clock) -> None:
    """Run every slot once, so that no request pays for the first run, and learn what each batch size takes."""
    if model.example(1) is None:
        return
    for runner in runners:
        _run_example(model, runner, 1)
    sizes = _sizes(model.batching.batchable, max_rows)
    try:
        measured(costs, sizes, lambda rows: _run_example(model, runners[0], rows), clock, MEASURE_UP_TO_NS)
    except FastServeError as error:
        # Requests of that size may fail too, each for itself; smaller ones are served, and none is run on a door's thread.
        _log.warning("batches larger than those of the probe run fail: %s", error)


def _run_example(model: LoadedModel, runner: Runner, rows: int) -> None:
    example = model.example(rows)
    if example is not None:
        runner.run([{name: np.ascontiguousarray(tensor) for name, tensor in example.items()}], [rows])
