"""How much may be read, and until when."""

from collections.abc import Callable

from msgspec import Struct

from fastserve.clock import Clock
from fastserve.errors import DeadlineExceeded, PayloadTooLarge

PIECE_BYTES = 1 << 18


class TooLarge(PayloadTooLarge):
    """What a URL names is larger than what is read."""

    def __init__(self, max_bytes: int) -> None:
        Exception.__init__(self, f"what data_url names is larger than {max_bytes} bytes ([data_url] max_bytes)")


class Limits(Struct, frozen=True):
    """Of one fetch; `ends_ns` on `clock`."""

    max_bytes: int
    ends_ns: int
    clock: Clock

    def seconds_left(self) -> float:
        """Time that is left. Raises DeadlineExceeded where none is."""
        left = (self.ends_ns - self.clock()) / 1e9
        if left <= 0:
            raise self.over()
        return left

    @staticmethod
    def over() -> DeadlineExceeded:
        """The error for what was not read in time."""
        return DeadlineExceeded("what data_url names was not read in time ([data_url] timeout_ms)")

    def check_declared(self, size: int | None) -> None:
        """Raises PayloadTooLarge for a size that is told and too large."""
        if size is not None and size > self.max_bytes:
            raise TooLarge(self.max_bytes)

    def read_all(self, read: Callable[[int], bytes]) -> bytes:
        """Everything that `read` gives, piece by piece. Raises PayloadTooLarge, DeadlineExceeded."""
        pieces: list[bytes] = []
        size = 0
        while piece := read(PIECE_BYTES):
            size += len(piece)
            self.check_declared(size)
            self.seconds_left()
            pieces.append(piece)
        return b"".join(pieces)
