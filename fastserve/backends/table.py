"""Which backend loads which files. A new backend is one file here and one line in `BACKENDS`.

The rows are functions, because importing a backend may start threads (onnxruntime does): a process that forks its
workers can read this table.
"""

from pathlib import Path

from fastserve.backends.base import Backend, BackendFactory
from fastserve.errors import Fault, LoadFailed


def _onnxruntime() -> Backend:
    from fastserve.backends.ort import OrtBackend

    return OrtBackend()


def _echo() -> Backend:
    from fastserve.backends.echo import EchoBackend

    return EchoBackend()


BACKENDS: dict[str, BackendFactory] = {
    ".onnx": _onnxruntime,
    ".echo": _echo,
}


def backend_for(path: Path) -> Backend:
    """Return the backend for a model file, by its suffix."""
    factory = BACKENDS.get(path.suffix.lower())
    if factory is None:
        raise LoadFailed(
            f"{path.name}: no backend loads files named *{path.suffix}; known: {', '.join(BACKENDS)}",
            Fault.UNIMPLEMENTED,
        )
    return factory()
