"""ONNX models by onnxruntime; the only file that names it.

Thread: `load` away from serving; one session is shared by the runners, each of which one thread uses at a time.
Memory: the session holds the weights until `close` and the last runner are gone; runners own their buffers.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from ctypes import c_char
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

# Before the import: it has its telemetry on by default, with files in the home directory and an address to send them to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from fastserve.backends.base import LoadOptions, Runner
from fastserve.backends.external import contents
from fastserve.backends.failures import run_failure, shortened
from fastserve.backends.graph import Graph, read_graph
from fastserve.backends.prepared import check_space, memory_given_back, name_of, same_answers
from fastserve.backends.probe import Findings, probe
from fastserve.backends.runners import BoundRun, PlainRunner, RunOptions, runner_for
from fastserve.backends.shared import CannotPrepareError, Held
from fastserve.errors import Fault, LoadFailed, RunFailed, RunRefused
from fastserve.types import Batching, DType, Metadata, Signature, Tensor

PROBE_WITHIN_S = 120.0
"""Runs of the probe are ended then; the model is served without what they would have shown."""

_FATAL = 4
_CPU = ("CPUExecutionProvider",)
_PREPARED = "model.onnx"
_SAVING = {
    "optimized_model_external_initializers_file_name": "weights",
    "optimized_model_external_initializers_min_size_in_bytes": "1024",
    "save_external_prepacked_constant_initializers": "1",
}
_log = logging.getLogger(__name__)

# What a load or a run may raise; onnxruntime's own kinds are direct subclasses of Exception.
_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
    *(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class OrtSession:
    """One onnxruntime session with what every run of it needs. Shared by threads: holds nothing of a single run.

    The public `run` and `run_with_iobinding` check and build on every call what never changes here (13 against 7 us,
    5.7 against 3.5), so the native calls behind them are used where they exist.
    """

    errors = _ERRORS

    def __init__(self, session: Any, signature: Signature) -> None:
        self.signature = signature
        self._session = session
        self._run = getattr(session, "_sess", session).run
        self._outputs = [spec.name for spec in signature.outputs]
        self._has_bfloat16 = any(spec.dtype is DType.BFLOAT16 for spec in (*signature.inputs, *signature.outputs))

    def options(self) -> RunOptions:
        """Make options for the runs of one runner."""
        options: RunOptions = onnxruntime.RunOptions()
        # A failing run is reported to its caller; on stderr, clients could fill the log with it.
        options.log_severity_level = _FATAL  # type: ignore[attr-defined]
        return options

    def run(self, feed: dict[str, Tensor], options: RunOptions) -> list[Tensor]:
        """Run once on arrays as they are; raises RunRefused or RunFailed."""
        try:
            if self._has_bfloat16:
                return self._run_on_values(feed, options)
            outputs: list[Tensor] = self._run(self._outputs, feed, options)
        except self.errors as error:
            raise run_failure(error, refused=isinstance(error, native.InvalidArgument)) from error
        return outputs

    def _run_on_values(self, feed: dict[str, Tensor], options: RunOptions) -> list[Tensor]:
        """NumPy has no bfloat16: such tensors pass as their bits."""
        values = {
            spec.name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(feed[spec.name], int(spec.dtype))
            for spec in self.signature.inputs
        }
        outputs = self._session.run_with_ort_values(self._outputs, values, options)
        return [_array(value, spec.dtype) for value, spec in zip(outputs, self.signature.outputs, strict=True)]

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: RunOptions) -> BoundRun:
        """Bind these arrays to all inputs and outputs; the answer runs once on what they hold. They must outlive it."""
        binding = self._session.io_binding()
        for spec, array in zip(self.signature.inputs, inputs, strict=True):
            binding.bind_input(spec.name, "cpu", 0, int(spec.dtype), array.shape, array.ctypes.data)
        for spec, array in zip(self.signature.outputs, outputs, strict=True):
            binding.bind_output(spec.name, "cpu", 0, int(spec.dtype), array.shape, array.ctypes.data)
        if hasattr(self._session, "_sess") and hasattr(binding, "_iobinding"):
            return partial(self._session._sess.run_with_iobinding, binding._iobinding, options)
        return partial(self._session.run_with_iobinding, binding, options)


def _array(value: Any, dtype: DType) -> Tensor:
    """A copy of a value's elements; those without a NumPy type as their bits."""
    if dtype is not DType.BFLOAT16:
        return np.array(value.numpy())
    size_bytes = value.tensor_size_in_bytes()
    raw = (c_char * size_bytes).from_address(value.data_ptr()) if size_bytes else b""
    return np.frombuffer(raw, dtype=dtype.numpy).reshape(value.shape()).copy()


class OrtModel:
    """One loaded version."""

    def __init__(
        self, session: Any, graph: Graph, findings: Findings, max_batch_rows: int, held: Held | None = None
    ) -> None:
        """`held`: the files that the session has mapped."""
        self.signature = findings.signature
        self.batching = findings.batching
        self.metadata: Metadata = graph.metadata
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.file_bytes = graph.file_bytes
        self._session: OrtSession | None = OrtSession(session, findings.signature)
        self._held = held
        self._example = findings.example
        self._max_batch_rows = max_batch_rows
        # onnxruntime holds bound outputs to what the file declares; plain runs answer what comes out.
        self._bindable = findings.signature.outputs == graph.signature.outputs

    def example(self, rows: int) -> dict[str, Tensor] | None:
        """The probe's inputs, its rows repeated to as many as asked for."""
        if self._example is None or not self.batching.batchable:
            return self._example
        return {name: np.take(array, np.arange(rows) % len(array), axis=0) for name, array in self._example.items()}

    def runner(self) -> Runner:
        """Make a runner; one per slot."""
        if self._session is None:
            raise RuntimeError("the model was closed")
        if not self._bindable:
            return PlainRunner(self._session, self.batching.batchable)
        return runner_for(self._session, self.batching.batchable, self._max_batch_rows)

    def close(self) -> None:
        """Let go of the session; runners that still are there keep it until they go."""
        self._session = None
        if self._held is not None:
            self._held.release()


class OrtBackend:
    """Loads `.onnx` files."""

    suffixes: tuple[str, ...] = (".onnx",)

    def load(self, path: Path, options: LoadOptions) -> OrtModel:
        """Read the graph, open a session, and prove what may be batched by running it."""
        _check_providers(options.providers)
        graph = read_graph(path)
        with memory_given_back(graph.file_bytes):
            held = _held(path, graph, options)
            try:
                if held is None or held.refused:
                    session = _open(path, graph, options)
                else:
                    session = _open_prepared(held.folder, graph, options)
                findings = _probed(OrtSession(session, graph.signature), graph.sizes)
            except BaseException:
                if held is not None:
                    held.release()
                raise
        if options.alone:
            findings = replace(findings, batching=Batching(False, options.alone))
        return OrtModel(session, graph, findings, options.max_batch_rows, held)


def _probed(session: OrtSession, sizes: tuple[int, ...]) -> Findings:
    """What the probe finds out in the time that it has: a loop in the graph may have no end."""
    options = session.options()

    def end() -> None:
        options.terminate = True

    watch = threading.Timer(PROBE_WITHIN_S, end)
    watch.daemon = True
    try:
        watch.start()
    except RuntimeError as error:
        text = f"{error} (raise `ulimit -u`, the container's --pids-limit, or the unit's TasksMax)"
        raise LoadFailed(text, Fault.RESOURCE_EXHAUSTED) from error
    try:
        return probe(session.signature, lambda feed: session.run(feed, options), sizes)
    finally:
        watch.cancel()


def _check_providers(providers: tuple[str, ...]) -> None:
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            raise LoadFailed(
                f"execution provider {provider} is not there; available: {', '.join(available)}", Fault.UNIMPLEMENTED
            )


def _settings(graph: Graph, threads: int) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = _FATAL
    # A spinning pool takes the cores from the doors' threads.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory plans are kept per input shape, for ever: with free row shapes, clients decide how many.
    settings.enable_mem_pattern = not any(-1 in (spec.shape or (-1, -1))[1:] for spec in graph.signature.inputs)
    return settings


def _open(path: Path, graph: Graph, options: LoadOptions, saved_in: Path | None = None) -> Any:
    """A session of the file; `saved_in`: a folder for what onnxruntime makes of it."""
    settings = _settings(graph, options.threads)
    if saved_in is not None:
        settings.optimized_model_filepath = str(saved_in / _PREPARED)
        for key, value in _SAVING.items():
            settings.add_session_config_entry(f"session.{key}", value)
    source: str | bytes = str(path)
    if graph.edited is not None:
        source = graph.edited
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    held = contents(path.parent, graph.external)
    if held:
        settings.add_external_initializers_from_files_in_memory(
            list(held), list(held.values()), [len(data) for data in held.values()]
        )
    return _session(source, path.name, settings, options.providers)


def _session(source: str | bytes, name: str, settings: Any, providers: tuple[str, ...]) -> Any:
    try:
        # Its fallback would print to stdout and load with other providers than those asked for.
        return onnxruntime.InferenceSession(source, settings, providers=list(providers), enable_fallback=0)
    except _ERRORS as error:
        text = f"{name}: onnxruntime does not load it: {shortened(str(error))}"
        raise LoadFailed(text, _fault(error)) from error


def _held(path: Path, graph: Graph, options: LoadOptions) -> Held | None:
    """What all workers map instead of each having the weights; None where it is not worth it, or cannot be."""
    shared = options.shared
    if shared is None or options.providers != _CPU or graph.file_bytes < shared.least_bytes:
        return None
    try:
        return shared.take(_name(path, graph), lambda folder: _prepare(path, graph, options, folder))
    except OSError as error:
        _log.warning("%s: its weights are not shared between the workers: %s", path.name, error)
        return None


def _name(path: Path, graph: Graph) -> str:
    return name_of([path, *(path.parent / location for location in graph.external)], runtime_version())


def _prepare(path: Path, graph: Graph, options: LoadOptions, folder: Path) -> None:
    """Write the graph as onnxruntime has changed it, and its weights as it has packed them, to be mapped from there.

    Raises CannotPrepareError where that cannot be done, or does not answer to the last bit as the file itself does.
    """
    try:
        name = _name(path, graph)
        check_space(folder, graph.file_bytes)
        plain = OrtSession(_open(path, graph, options, folder), graph.signature)
        findings = _probed(plain, graph.sizes)
        mapped = OrtSession(_open_prepared(folder, graph, options), graph.signature)
        same_answers(_ran(plain), _ran(mapped), findings, options.max_batch_rows)
        if _name(path, graph) != name or folder.name != name:
            raise CannotPrepareError("its files changed meanwhile")
    except (CannotPrepareError, LoadFailed, RunFailed, RunRefused, OSError) as error:
        raise CannotPrepareError(f"{path.name}: its weights are not shared between the workers: {error}") from error


def _ran(session: OrtSession) -> Callable[[dict[str, Tensor]], Sequence[Tensor]]:
    options = session.options()
    return lambda feed: session.run(feed, options)


def _open_prepared(folder: Path, graph: Graph, options: LoadOptions) -> Any:
    """A session of what was prepared: nothing is left to be changed in its graph, and the weights are mapped."""
    settings = _settings(graph, options.threads)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # What is only compared with what is mapped is given back at once, and not kept in the session's arena.
    settings.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return _session(str(folder / _PREPARED), _PREPARED, settings, options.providers)


def _fault(error: Exception) -> Fault:
    if isinstance(error, MemoryError):
        return Fault.RESOURCE_EXHAUSTED
    return Fault.UNIMPLEMENTED if isinstance(error, native.NotImplemented) else Fault.INVALID_ARGUMENT


def runtime_version() -> str:
    """Which onnxruntime is installed."""
    return str(onnxruntime.__version__)


def available_providers() -> list[str]:
    """The execution providers that it was built with and finds, best first."""
    return list(onnxruntime.get_available_providers())
