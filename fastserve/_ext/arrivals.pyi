"""From a request's headers to its body, for doors that are called back. See ext/arrivals.pyx."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Waiter = TypeVar("Waiter")
At = Callable[[int, Callable[[int], None]], None]
Taken = tuple[Any, bytes, int]

class Overdue(Generic[Waiter]):
    waiting: dict[Waiter, int]
    def __init__(self, limit_ns: int, at: At, act: Callable[[Waiter], None]) -> None: ...
    def begin(self, waiter: Waiter, now_ns: int) -> None: ...
    def any_since(self, when_ns: int) -> bool: ...
    def ring(self, now_ns: int) -> None: ...

class Arrivals:
    def __init__(
        self,
        bodies: Overdue[Any],
        clock: Callable[[], int],
        at: At,
        answer: Callable[[list[Taken]], None],
        most: int,
        fresh_ns: int,
        stalled_ns: int,
    ) -> None: ...
    def add(self, request: Any, body: bytes) -> None: ...
    def ring(self, now_ns: int) -> None: ...

class ExpressRequest:
    lane: Any
    scope: Any
    headers: Any
    proto: Any
    started_ns: int
    def __call__(self, future: Any, /) -> None: ...
    def give_up(self) -> None: ...

class Express:
    lanes: dict[str, Any]
    def __init__(
        self,
        bodies: Overdue[Any],
        arrivals: Arrivals,
        clock: Callable[[], int],
        otherwise: Callable[[Any], bool],
        lost: Callable[[ExpressRequest], None],
        alone: Callable[[bool], None] | None = None,
        solo: int = 0,
    ) -> None: ...
    def takes(self, watcher: Any, /) -> bool: ...

def suits(headers: Any, lane: Any) -> bool: ...
def send_all(
    together: list[Any],
    answers: list[Any],
    most_bytes: int,
    clock: Callable[[], int],
    failed: Callable[[], None],
    left: list[int],
    /,
) -> list[int]: ...
