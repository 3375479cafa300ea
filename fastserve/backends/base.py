"""What a backend is: files to a loaded model, a loaded model to runners, a runner to answers.

Thread: `load` and `close` run away from serving; a model is shared by threads, a runner belongs to one at a time.
Memory: a runner owns its buffers; what `run` returns belongs to the caller and is never touched again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from fastserve.backends.shared import SharedModels
from fastserve.types import Batching, Metadata, Signature, Tensor


class LoadOptions(Struct, frozen=True, kw_only=True):
    """How one version is loaded. `threads`: those that one run may use; `max_batch_rows`: the most rows of one run.

    `alone`: why requests are not to share a run, where they are not. `shared`: where other workers load the same models.
    """

    threads: int = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    max_batch_rows: int = 64
    alone: str = ""
    shared: SharedModels | None = None


class Runner(Protocol):
    """Runs one batch at a time; has buffers of its own, so each slot has one."""

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer every output of the signature for each request, in their order.

        `rows[i]` is the number of rows of request i. Requests of a batchable model are coalesced along axis 0 into one
        run, their row shapes agree and their rows sum to at most `max_batch_rows`; of any other model there is one.
        Raises RunRefused where the graph does not take the input, RunFailed for every other failure; the runner can be
        used again after both.
        """
        ...

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """`run` for a single request, which is what a server that keeps up mostly sees."""
        ...

    def stop(self) -> None:
        """End the run under way, if the backend can, and every other until `go_on`: they raise. Any thread."""
        ...

    def go_on(self) -> None:
        """After `stop`: take runs again."""
        ...


class LoadedModel(Protocol):
    """One version's model, ready to run.

    `metadata`: the file's own key/value pairs. `providers`: those in use. `file_bytes`: of all its files, weights included.
    """

    signature: Signature
    batching: Batching
    metadata: Metadata
    providers: tuple[str, ...]
    file_bytes: int

    def example(self, rows: int) -> dict[str, Tensor] | None:
        """Inputs that the probe run proved to work; None where none was found. `rows` matters to batchable models."""
        ...

    def runner(self) -> Runner:
        """Make a runner; one per slot."""
        ...

    def close(self) -> None:
        """Let go of the model's memory once the last runner is gone."""
        ...


class Backend(Protocol):
    """Loads files of the given suffixes."""

    suffixes: tuple[str, ...]

    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        """Load and probe the model in `path`; raises LoadFailed with a reason that an operator can act on."""
        ...


BackendFactory = Callable[[], Backend]
