"""One version from its file to its lease: load, probe, measure, bind; away from the serving threads.

Thread: the one that looks at the repository, at lower priority than the doors.
"""

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import Struct

from fastserve._ext.costs import CostTable
from fastserve.backends.base import LoadedModel, LoadOptions, Runner
from fastserve.backends.shared import SharedModels
from fastserve.backends.table import backend_for
from fastserve.clock import Clock
from fastserve.config import ModelConfig
from fastserve.engine.batch import Times, measured, paying_rows
from fastserve.engine.batcher import Answering, Batcher
from fastserve.engine.block import Blocks, blocks_for
from fastserve.engine.described import alone, describe
from fastserve.engine.executor import Executor
from fastserve.engine.feature_names import names_told
from fastserve.engine.finite import FiniteValidator
from fastserve.engine.lease import Lease
from fastserve.engine.limits import Limits
from fastserve.engine.meters import ModelMeters, ObjectiveMeters
from fastserve.engine.objective import Objective, Rules
from fastserve.engine.own_rows import Shown
from fastserve.engine.padded import padded, with_allowed_sizes
from fastserve.engine.plan import Plan
from fastserve.engine.queue_rules import ranks_of, rules_of
from fastserve.engine.timer import Alarm
from fastserve.engine.validate import Validator
from fastserve.engine.warmup import warm_up, warm_up_as_recorded
from fastserve.errors import FastServeError
from fastserve.metrics import Metrics
from fastserve.types import CLASSES, HIGHEST_PRIORITY, Metadata, Tensor, decode_classes, encode_classes

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
    config = with_allowed_sizes(config)
    options = LoadOptions(
        threads=plan.threads,
        providers=config.providers,
        max_batch_rows=config.max_batch_rows,
        alone=alone(config),
        shared=tools.shared,
    )
    model = describe(backend_for(path).load(path, options), config)
    sizes = config.batch_sizes if model.batching.batchable else ()
    runners = [padded(model.runner(), sizes) for _ in range(1 + plan.slots)]  # the first one is for short runs
    costs = CostTable()
    # On the CPU a run costs what its thread takes; elsewhere the thread only waits.
    run_clock = time.thread_time_ns if model.providers == ("CPUExecutionProvider",) else tools.clock
    warm_up(config.warmup, model, runners)
    warm_up_as_recorded(config.name, path.parent, model, runners, config.max_batch_rows)
    times = _measure(model, runners, costs, _sizes(config, model.batching.batchable), run_clock)
    lease = _lease(config, version, model, runners, costs, tools, run_clock, times)
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
    times: Times,
) -> Lease:
    batching = model.batching
    meters = ModelMeters(tools.metrics, config.name, version)
    limits = _limits(config, batching.batchable, times)
    validator = _validator(model, config)
    slots, one_shape = len(runners) - 1, validator.fixed_rows
    objective = _objective(config, limits, slots, times, tools.metrics, one_shape=one_shape)
    batcher = _batcher(version, limits, runners, costs, tools, run_clock, meters, objective)
    return Lease(
        model=config.name,
        version=version,
        signature=model.signature,
        batching=batching,
        metadata=_metadata(model, config),
        batcher=batcher,
        validator=validator,
        meters=meters,
        config=config,
        slots=slots,
        rules=rules_of(config),
        file_bytes=model.file_bytes,
        blocks=_blocks(model, batcher, config, tools, run_clock),
    )


def _batcher(
    version: int,
    limits: Limits,
    runners: list[Runner],
    costs: CostTable,
    tools: Tools,
    run_clock: Clock,
    meters: ModelMeters,
    objective: Objective | None,
) -> Batcher:
    return Batcher(
        model=meters.model,
        version=version,
        limits=limits,
        runners=runners[1:],
        short_runner=runners[0],
        costs=costs,
        post=partial(tools.executor.post, priority=limits.priority),
        alarm=tools.alarm,
        answering=tools.answering,
        clock=tools.clock,
        run_clock=run_clock,
        meters=meters,
        objective=objective,
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
        batcher.gate,
    )


def _limits(config: ModelConfig, batchable: bool, times: Times) -> Limits:
    # Who says so wants batches as large as they get.
    large = config.max_queue_delay_us > 0 or config.preferred_batch_rows
    return Limits(
        batchable=batchable,
        max_batch_rows=config.max_batch_rows,
        max_queue_delay_ns=config.max_queue_delay_us * 1000,
        max_queue_rows=config.max_queue_rows,
        enough_rows=min(config.preferred_batch_rows, default=0),
        ranks=ranks_of(config),
        priority=config.priority,
        pays_rows=0 if large else paying_rows(times, _sizes(config, batchable)),
    )


def _sizes(config: ModelConfig, batchable: bool) -> Sequence[int]:
    """Batch sizes that are measured."""
    if not batchable:
        return [1]
    return config.batch_sizes or [1 << power for power in range(config.max_batch_rows.bit_length())]


def _objective(
    config: ModelConfig, limits: Limits, slots: int, times: Times, metrics: Metrics, *, one_shape: bool
) -> Objective | None:
    """None where the model has none."""
    if not config.slo_ms:
        return None
    rows, sizes = (limits.max_batch_rows, config.batch_sizes) if limits.batchable else (1, ())
    rules = Rules(
        config.name,
        round(config.slo_ms * 1e6),
        slots,
        rows,
        limits.pays_rows or rows,
        sizes,
        one_shape=one_shape,
        priority=HIGHEST_PRIORITY - config.default_priority if config.default_priority else 0,
    )
    return Objective(rules, times, ObjectiveMeters(metrics, config.name))


def _row_bytes(example: dict[str, Tensor] | None) -> int:
    return sum(tensor.nbytes for tensor in example.values()) if example else 1


def _measure(model: LoadedModel, runners: list[Runner], costs: CostTable, sizes: Sequence[int], clock: Clock) -> Times:
    """Run every slot once, so that no request pays for the first run, and learn what each batch size takes."""
    if model.example(1) is None:
        return []
    for runner in runners:
        _run_example(model, runner, 1)
    try:
        return measured(costs, sizes, lambda rows: _run_example(model, runners[0], rows), clock, MEASURE_UP_TO_NS)
    except FastServeError as error:
        # Requests of that size may fail too, each for itself; smaller ones are served, and none is run on a door's thread.
        _log.warning("batches larger than those of the probe run fail: %s", error)
        return []


def _run_example(model: LoadedModel, runner: Runner, rows: int) -> None:
    example = model.example(rows)
    if example is not None:
        runner.run([{name: np.ascontiguousarray(tensor) for name, tensor in example.items()}], [rows])
