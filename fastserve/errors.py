"""What can go wrong, as codes; only `http/status.py` knows their HTTP numbers.

Every error that a client may see is a `FastServeError`: its text says what was expected, what came, and where. Texts never
hold internal names, paths of the server's disk or addresses.
"""

from enum import Enum

MAX_QUOTED_CHARS = 256


class ErrorCode(Enum):
    """The gRPC canonical codes (grpc/doc/statuscodes.md), and those that HTTP or our counts alone distinguish."""

    CANCELLED = "CANCELLED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA = "UNSUPPORTED_MEDIA"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    OVERLOADED = "OVERLOADED"
    UNPROCESSABLE = "UNPROCESSABLE"


class FastServeError(Exception):
    """An answer that is not the one asked for. `retry_after_s`: how long waiting would help, where it would."""

    code = ErrorCode.INTERNAL
    retry_after_s: float | None = None


class InvalidRequest(FastServeError):
    """The request as a whole makes no sense; the text is the whole message."""

    code = ErrorCode.INVALID_ARGUMENT


class InvalidJson(FastServeError):
    """The body is not JSON. `offset_bytes` counts from the body's first byte."""

    code = ErrorCode.INVALID_ARGUMENT

    def __init__(self, reason: str, offset_bytes: int) -> None:
        super().__init__(f"JSON Parse error: {reason} at offset: {offset_bytes}")
        self.offset_bytes = offset_bytes


class InvalidTensor(FastServeError):
    """A value does not fit its tensor.

    `path` is a JSON path (`$.instances[3].signal[1]`); from the engine, which knows no JSON, the input's name.
    `fault`: in JSON, what does not fit: a value's `type`, a list's `length`, the `level` of nesting, its `depth`, `base64`,
    a `row` that is no object, or its `keys`.
    """

    code = ErrorCode.INVALID_ARGUMENT

    def __init__(self, *, expected: str, got: str, path: str, fault: str = "") -> None:
        super().__init__(f"expected {expected}, got {got} - at `{path}`")
        self.expected = expected
        self.got = got
        self.path = path
        self.fault = fault

    def at(self, path: str) -> "InvalidTensor":
        """The same, told of another place."""
        return InvalidTensor(expected=self.expected, got=self.got, path=path, fault=self.fault)


class ModelNotFound(FastServeError):
    """No model of that name is configured."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, model: str) -> None:
        super().__init__(f"no model named {quoted(model)}")
        self.model = model


class VersionNotFound(FastServeError):
    """The model is known; that version is not served. `version` None: no version is (see `reason`)."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, model: str, version: int | None, reason: str = "") -> None:
        which = "any version" if version is None else f"version {version}"
        super().__init__(f"model {quoted(model)} does not serve {which}" + (f": {reason}" if reason else ""))
        self.model = model
        self.version = version


class LabelNotFound(FastServeError):
    """The model is known; no version has that label."""

    code = ErrorCode.INVALID_ARGUMENT

    def __init__(self, model: str, label: str) -> None:
        super().__init__(f"model {quoted(model)} has no label {quoted(label)}")
        self.model = model
        self.label = label


class ModelNotReady(FastServeError):
    """Known, and not there yet: loading, or none of its versions loads."""

    code = ErrorCode.UNAVAILABLE
    retry_after_s = 1.0


class QueueFull(FastServeError):
    """The model's queue holds as many rows as it may."""

    code = ErrorCode.RESOURCE_EXHAUSTED
    retry_after_s = 1.0


class Overloaded(QueueFull):
    """The request could not be answered within its model's objective, so it was not taken."""

    code = ErrorCode.OVERLOADED

    def __init__(self, *, model: str, wait_ns: int, run_ns: int, slo_ns: int, late_ns: int = 0) -> None:
        """`wait_ns`, `run_ns`: how long it would wait, and how long its run would take. `late_ns`: had it come so much later,
        and nothing changed meanwhile, it would have been taken."""
        super().__init__(
            f"model {quoted(model)} would answer in about {(wait_ns + run_ns) / 1e6:,.4g} ms, and its objective is"
            f" {slo_ns / 1e6:,.4g} ms: send the request again later" + (", with fewer rows" if run_ns > slo_ns else "")
        )
        self.retry_after_s = wait_ns / 1e9
        self.late_ns = late_ns


class DeadlineExceeded(FastServeError):
    """The request's time ran out before its answer was there."""

    code = ErrorCode.DEADLINE_EXCEEDED

    def __init__(self, text: str = "the time for this request was over before its answer was there") -> None:
        super().__init__(text)


class DatasetError(FastServeError):
    """A dataset cannot be read, or does not fit the model; the text says why and what to do."""


class Cancelled(FastServeError):
    """The caller went away; nobody reads this answer."""

    code = ErrorCode.CANCELLED


class Draining(FastServeError):
    """The server is shutting down and takes no new work."""

    code = ErrorCode.UNAVAILABLE
    retry_after_s = 1.0


class RunFailed(FastServeError):
    """The model itself failed on this input."""

    code = ErrorCode.INTERNAL


class NonFiniteOutput(FastServeError):
    """A strict model (`non_finite = "error"`) computed NaN or an infinity; the request is not to blame."""

    code = ErrorCode.INTERNAL

    def __init__(self, output: str, indices: tuple[int, ...], value: str) -> None:
        place = "".join(f"[{index}]" for index in indices)
        super().__init__(
            f"the model computed {value} in output {quoted(output)}"
            + (f" at {place}" if place else "")
            + ', which this server does not answer with (non_finite = "error")'
        )


class RunRefused(FastServeError):
    """The backend refused the input (a rank, a dimension, a value that the graph does not take)."""

    code = ErrorCode.INVALID_ARGUMENT


class PayloadTooLarge(FastServeError):
    """The body is over the limit, as sent or once decompressed."""

    code = ErrorCode.PAYLOAD_TOO_LARGE

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__(f"the body is larger than {max_body_bytes} bytes (--max-body-bytes)")


class UnsupportedEncoding(FastServeError):
    """A Content-Encoding that is not read."""

    code = ErrorCode.UNSUPPORTED_MEDIA


class BodyTimeout(FastServeError):
    """The body did not arrive in time."""

    code = ErrorCode.REQUEST_TIMEOUT

    def __init__(self) -> None:
        super().__init__("the body did not arrive in time (--request-timeout-ms)")


class InternalError(FastServeError):
    """Our own fault; the log has the traceback, the client does not."""

    def __init__(self) -> None:
        super().__init__("internal error; the server's log says more")


class OutOfMemory(FastServeError):
    """There was no memory left for this request; others may be small enough, and it may be later."""

    code = ErrorCode.UNAVAILABLE
    retry_after_s = 1.0

    def __init__(self) -> None:
        super().__init__("the server has no memory left for this request; send it again later, or less at a time")


class UnknownPath(FastServeError):
    """No protocol has that path."""

    code = ErrorCode.NOT_FOUND


class WrongMethod(FastServeError):
    """The path exists, with other methods: `allowed`, filled in by the path table."""

    code = ErrorCode.METHOD_NOT_ALLOWED
    allowed: tuple[str, ...] = ()


class Fault(Enum):
    """What kind of reason it is that a model does not load: gRPC's words, which TF Serving's status has."""

    UNKNOWN = "UNKNOWN"
    DATA_LOSS = "DATA_LOSS"
    INTERNAL = "INTERNAL"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNIMPLEMENTED = "UNIMPLEMENTED"


class LoadFailed(FastServeError):
    """A model's files cannot be served; the text says why and what to do. For operators, not clients."""

    def __init__(self, text: str, fault: Fault = Fault.INVALID_ARGUMENT) -> None:
        super().__init__(text)
        self.fault = fault

    @classmethod
    def unread(cls, name: str, error: OSError) -> "LoadFailed":
        """The error for a file that cannot be read."""
        faults = {FileNotFoundError: Fault.NOT_FOUND, PermissionError: Fault.PERMISSION_DENIED}
        return cls(f"{name}: {error.strerror}", faults.get(type(error), Fault.UNKNOWN))


class LoadRefused(FastServeError):
    """A call asked to load a model that does not load; what served before serves on."""

    code = ErrorCode.INVALID_ARGUMENT


class WorkerSilent(FastServeError):
    """A worker does not answer, so a change cannot be said to be in effect everywhere."""

    code = ErrorCode.UNAVAILABLE
    retry_after_s = 1.0


class Unauthenticated(FastServeError):
    """Nobody knows who is calling. `missing`: nothing was sent that would say it. `challenges`: what would, for
    `WWW-Authenticate` (RFC 9110, 11.6.1)."""

    code = ErrorCode.UNAUTHENTICATED

    def __init__(self, challenges: tuple[str, ...], *, missing: bool) -> None:
        how = " or ".join(_WAYS[challenge.partition(" ")[0]] for challenge in challenges)
        super().__init__(f"this server asks who is calling: send {how}" if missing else "the credentials are not valid")
        self.challenges = challenges
        self.missing = missing


_WAYS = {
    "Basic": "a user's name and password (Authorization: Basic)",
    "Bearer": "a key (Authorization: Bearer KEY, or X-API-Key: KEY)",
}


class TooManyAttempts(FastServeError):
    """More passwords wait to be checked than may; each takes much memory and time, on purpose."""

    code = ErrorCode.RESOURCE_EXHAUSTED
    retry_after_s = 1.0

    def __init__(self) -> None:
        super().__init__("too many passwords wait to be checked; try again")


class Forbidden(FastServeError):
    """The caller has no right to it; the text says what would give it."""

    code = ErrorCode.PERMISSION_DENIED


class ModelForbidden(Forbidden):
    """The caller may use some models, and this is none of them, whether it is there or not."""

    def __init__(self, caller: str, model: str) -> None:
        super().__init__(f"the caller {quoted(caller)} may not use the model {quoted(model)}")


class ConfigError(FastServeError):
    """A configuration that cannot be used; the text names file, key and the nearest known key."""


def quoted(value: str) -> str:
    """`value` in quotes, cut to 256 characters, so that no error grows with its request."""
    cut = value if len(value) <= MAX_QUOTED_CHARS else value[:MAX_QUOTED_CHARS] + "..."
    return f'"{cut}"'
