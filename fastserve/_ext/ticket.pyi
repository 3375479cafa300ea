"""A request's place in a batch, and whom to tell. See ext/ticket.pyx."""

from collections.abc import Callable
from typing import Any

import numpy as np

class Ticket:
    """A request in the queue or in a run. Resolved exactly once, by whoever claims it first."""

    def __init__(
        self,
        queue: Any,
        inputs: dict[str, np.ndarray[Any, Any]],
        rows: int,
        size: int,
        bucket: object,
        answer: Callable[[Any], None],
        outputs: tuple[str, ...] | None = None,
        deadline_ns: int = 0,
        priority: int = 0,
        lease: object = None,
        received_ns: int = 0,
        waits_until_ns: int = 0,
        group: Any = None,
    ) -> None: ...
    @property
    def group(self) -> Any: ...
    @property
    def queue(self) -> Any: ...
    @property
    def inputs(self) -> dict[str, np.ndarray[Any, Any]]: ...
    @property
    def rows(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def bucket(self) -> object: ...
    @property
    def outputs(self) -> tuple[str, ...] | None: ...
    @property
    def deadline_ns(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def lease(self) -> object: ...
    @property
    def received_ns(self) -> int: ...
    @property
    def yields_ns(self) -> int: ...
    @property
    def claimed(self) -> bool: ...
    leaves_ns: int
    queued_ns: int
    def cancel(self) -> None: ...
    def resolve(self, outcome: Any, /) -> bool: ...
