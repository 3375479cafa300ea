"""Why a record was not stored. None of it was acknowledged, and it may be sent again."""

import errno

from fastserve.errors import ErrorCode, FastServeError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreError(FastServeError):
    """The prediction log did not take it."""

    code = ErrorCode.UNAVAILABLE
    retry_after_s: float | None = 1.0


class StoreBusy(StoreError):
    """As much waits for the disk as may."""

    def __init__(self) -> None:
        super().__init__("the prediction log is busy: as many records wait for the disk as may; try again")


class StoreFull(StoreError):
    """The disk is full. Writes are taken again, without a restart, when there is room."""

    retry_after_s = 5.0

    def __init__(self) -> None:
        super().__init__("the prediction log takes no writes: the disk is full")


class StoreFailed(StoreError):
    """The disk refuses. It is tried again every second; `reason` is the system's own."""

    retry_after_s = 5.0

    def __init__(self, reason: str) -> None:
        super().__init__(f"the prediction log takes no writes: {reason}")
        self.reason = reason


class StoreClosed(StoreError):
    """The server is shutting down."""

    def __init__(self) -> None:
        super().__init__("the prediction log is closed: the server is shutting down")


class RecordTooLarge(StoreError):
    """No frame is that large."""

    code = ErrorCode.PAYLOAD_TOO_LARGE
    retry_after_s = None

    def __init__(self, payload_bytes: int, max_bytes: int) -> None:
        super().__init__(f"a record of {payload_bytes} bytes is larger than the {max_bytes} that the log takes")


class SegmentUnreadable(StoreError):
    """A file that is no segment, or one of a version that this program does not know. For operators."""

    code = ErrorCode.INTERNAL
    retry_after_s = None


def of_system(error: OSError) -> StoreError:
    """What clients are told of it: nothing of the server's paths."""
    if error.errno in NO_ROOM:
        return StoreFull()
    return StoreFailed((error.strerror or "the disk failed").lower())


def again(error: StoreError) -> StoreError:
    """The same, to raise once more: one that is raised keeps its traceback."""
    if isinstance(error, StoreFailed):
        return StoreFailed(error.reason)
    return StoreFull() if isinstance(error, StoreFull) else error
