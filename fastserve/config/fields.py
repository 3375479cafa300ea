"""What an operator may set: each option is one field here, with its bound, unit, default and sentence.

The command line, the environment and the configuration file are all made from these fields.
Thread: read once before any other thread starts; frozen afterwards.
"""

import os
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from fastserve.config.auth import AuthConfig
from fastserve.config.origin import Origin
from fastserve.config.prediction_log import Fraction, LogConfig
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.config.warming import WarmupConfig

PATH_FIELD = {"path": True}

VersionPolicy = Literal["latest", "all"] | dict[str, int] | tuple[int, ...]
"""Which versions are served: the newest, all, the newest n as `{"latest": n}`, or these numbers."""


NonFinite = Literal["token", "error"]
"""What becomes of NaN and the infinities in requests and answers."""


class ServerConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The doors: where requests come in, and what a request may take."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0: any free one.")] = 8000
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="Processes that serve, with an engine each; auto: as CPUs, memory and models suggest."),
    ] = 1
    interface: Annotated[
        Literal["rsgi", "asgi"], Meta(description="How Granian calls the app: rsgi (faster) or asgi.")
    ] = "rsgi"
    max_body_bytes: Annotated[
        int, Meta(ge=1, le=1 << 40, description="Largest body, as sent and once decompressed, in bytes.")
    ] = 64 << 20
    request_timeout_ms: Annotated[
        int,
        Meta(ge=0, le=86_400_000, description="Time for one request, body to answer, in milliseconds; 0: no limit."),
    ] = 30_000
    header_timeout_ms: Annotated[
        int,
        Meta(
            ge=1000,
            le=86_400_000,
            description="Time for a request's headers, in milliseconds: whoever sends none for so long is hung up on.",
        ),
    ] = 30_000
    drain_timeout_ms: Annotated[
        int, Meta(ge=0, le=86_400_000, description="Time that requests in flight get at shutdown, in milliseconds.")
    ] = 30_000
    drain_delay_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400_000,
            description="Time to go on serving, not ready, before shutdown begins, in milliseconds.",
        ),
    ] = 0
    adaptive_affinity: Annotated[
        bool,
        Meta(
            description="Whether the two threads that answer small requests share one core while requests come one at a"
            " time: shorter answers for a lone client. For one worker that has the machine to itself."
        ),
    ] = False
    compress_min_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="Smallest answer that is compressed for clients that ask for it, in bytes; 0: never.",
        ),
    ] = 16_384
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="Origin of web pages that may call; * for any.", extra={"option": "cors_origin"}),
    ] = ()
    share_weights_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="Smallest model whose weights several workers hold in memory once, mapped from files in"
            " weights_dir, in bytes; 0: never.",
        ),
    ] = 16 << 20
    weights_dir: Annotated[
        str | None,
        Meta(
            description="Directory for those files, and for models that come with load calls; private, and gone with the"
            " server. Default: that for temporary files.",
            extra=PATH_FIELD,
        ),
    ] = None
    log_dir: Annotated[
        str | None,
        Meta(
            description="Directory for the server's log file, beside standard error, and its prediction log.",
            extra=PATH_FIELD,
        ),
    ] = None
    non_finite: Annotated[
        NonFinite,
        Meta(description="NaN and infinities: tokens (read and written as NaN, Infinity, -Infinity) or an error."),
    ] = "token"
    access_log: Annotated[
        str | None,
        Meta(description="File for a JSON line per answer; - for standard output.", extra=PATH_FIELD),
    ] = None
    uds: Annotated[
        str | None, Meta(description="Unix socket to listen on, instead of host and port.", extra=PATH_FIELD)
    ] = None
    ssl_certificate: Annotated[
        str | None, Meta(description="Certificate chain (PEM): serve HTTPS.", extra=PATH_FIELD)
    ] = None
    ssl_keyfile: Annotated[str | None, Meta(description="Private key (PEM) of the certificate.", extra=PATH_FIELD)] = (
        None
    )
    ssl_ca: Annotated[
        str | None,
        Meta(description="Authorities (PEM) that must have signed a client's certificate.", extra=PATH_FIELD),
    ] = None
    ssl_client_certificate: Annotated[
        Literal["required", "optional"],
        Meta(description="With ssl_ca: whether clients must show a certificate, or may show none."),
    ] = "required"
    metrics_path: Annotated[
        Annotated[str, Meta(pattern="^/")] | None, Meta(description="One more path for the metrics, beside /metrics.")
    ] = None
    metrics_compat: Annotated[
        bool, Meta(description="Whether metrics also have the names that Triton and TensorFlow Serving give them.")
    ] = False
    monitoring_config_file: Annotated[
        str | None,
        Meta(description="TF Serving's monitoring file; one beside models.config is found.", extra=PATH_FIELD),
    ] = None

    @property
    def worker_count(self) -> int:
        """Workers, once that is planned; a process that nobody planned for is alone."""
        return 1 if self.workers == "auto" else self.workers


class RepositoryConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where models are looked for, how often, and which of their versions are served."""

    path: Annotated[
        tuple[str, ...], Meta(description="A model file, a model's folder or a folder of models.", extra=PATH_FIELD)
    ] = ()
    poll_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="Time between looks for new versions, in seconds; 0: only when asked.")
    ] = 1.0
    versions: Annotated[
        VersionPolicy, Meta(description="Versions to serve of models that say nothing themselves: latest or all.")
    ] = "latest"
    batching_parameters_file: Annotated[
        str | None,
        Meta(description="TF Serving's batching file; one beside models.config is found.", extra=PATH_FIELD),
    ] = None


class TensorConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an input or output is said to be; a graph that says otherwise is not served."""

    name: Annotated[str, Meta(min_length=1, description="The input's or output's name.")]
    datatype: Annotated[str, Meta(description="FP32, INT64, BYTES and so on; empty: whatever the graph has.")] = ""
    shape: Annotated[tuple[int, ...] | None, Meta(description="As requests have it; -1 is free.")] = None
    batched: Annotated[
        bool | None, Meta(description="Whether a free first dimension stands before shape; without it: either way.")
    ] = False
    reshape: Annotated[
        tuple[int, ...] | None, Meta(description="What the graph takes or gives instead of shape, element for element.")
    ] = None
    content_type: Annotated[
        str, Meta(description="MLServer's: np, pd, str, base64 or datetime, of requests that do not say.")
    ] = ""
    where: Annotated[str, Meta(description="Where that is said, for messages.")] = ""


class ImageConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an image that is sent becomes the tensor of a model's input."""

    size: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65_536)], Annotated[int, Meta(ge=1, le=65_536)]] | None,
        Meta(description="Height and width that images are resized to; default: the input's, where they are fixed."),
    ] = None
    layout: Annotated[
        Literal["nhwc", "nchw"] | None, Meta(description="Where the channels stand; default: seen from the input.")
    ] = None
    mean: Annotated[
        float | tuple[float, ...],
        Meta(description="Subtracted from each pixel (0 to 255): a number, or one a channel."),
    ] = 0.0
    scale: Annotated[
        float | tuple[float, ...], Meta(description="Then multiplied with it: a number, or one a channel.")
    ] = 1.0


class ParamsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model that takes a window of its dataset, [1, lookback, variates], is given one."""

    layout: Annotated[
        Literal["rows", "spice"],
        Meta(description="rows: row after row; spice: column after column, without what is missing, as Spice does."),
    ] = "rows"
    window: Annotated[
        Literal["latest", "oldest"] | None,
        Meta(description="Which rows; default: the latest, with layout spice the oldest."),
    ] = None


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs from the defaults for one model."""

    name: Annotated[str, Meta(min_length=1, description="The model's name in URLs.")]
    path: Annotated[
        str | None, Meta(description="Its file or folder; without one it is found in the repository.", extra=PATH_FIELD)
    ] = None
    versions: Annotated[
        VersionPolicy | None, Meta(description="latest, all, {latest = n} or a list; default: the repository's.")
    ] = None
    labels: Annotated[dict[str, int], Meta(description="Names for versions, as in /labels/stable.")] = {}
    aliases: Annotated[tuple[str, ...], Meta(description="Other names of the model in URLs.")] = ()
    classes: Annotated[
        tuple[str, ...], Meta(description="Names of a classifier's classes, in the order of its scores.")
    ] = ()
    features: Annotated[
        tuple[str, ...],
        Meta(description="Names of the columns of a model's one wide input, or of its inputs, in order."),
    ] = ()
    content_type: Annotated[
        str, Meta(description="MLServer's content type of requests that do not say: np, pd, str, base64 or datetime.")
    ] = ""
    image: Annotated[ImageConfig | None, Meta(description="How images become its input.")] = None
    dataset: Annotated[
        str | None,
        Meta(description="Dataset that it is predicted from without a payload, and explanations compare with."),
    ] = None
    explain: Annotated[
        bool,
        Meta(description="Have what explanations need at hand from the start: the first one waits seconds for it."),
    ] = False
    output: Annotated[str | None, Meta(description="Output that such predictions are; default: the first float.")] = (
        None
    )
    params: Annotated[ParamsConfig, Meta(description="How a window of the dataset is given.")] = ParamsConfig()
    version_name: Annotated[str, Meta(description="What such predictions call the version; default: its number.")] = ""
    max_batch_rows: Annotated[int, Meta(ge=1, le=65_536, description="Largest batch, in rows.")] = 64
    max_queue_delay_us: Annotated[
        int, Meta(ge=0, le=60_000_000, description="Longest wait of the oldest request for others, in microseconds.")
    ] = 0
    max_queue_rows: Annotated[
        int, Meta(ge=1, le=1 << 30, description="Rows that may wait; beyond that requests get 429.")
    ] = 4096
    slo_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400_000,
            description="Longest time from request to answer, in milliseconds; what cannot be done in it gets 429; 0: any.",
        ),
    ] = 0.0
    batch_sizes: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65_536)], ...],
        Meta(description="Rows that a run may have; smaller batches are padded to the next of them. Empty: any."),
    ] = ()
    batching: Annotated[
        bool, Meta(description="Whether requests may share a run; false: each runs alone, as it came.")
    ] = True
    preferred_batch_rows: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(description="A batch as large as the smallest of these does not wait for max_queue_delay_us to be over."),
    ] = ()
    priority_levels: Annotated[
        int, Meta(ge=0, le=1 << 30, description="Levels that requests may ask for, 1 leaves first; 0: any.")
    ] = 0
    default_priority: Annotated[
        int, Meta(ge=0, le=1 << 30, description="Level of requests that ask for none; 0: after all that do.")
    ] = 0
    queue_policy: Annotated[QueuePolicyConfig, Meta(description="How requests wait.")] = QueuePolicyConfig()
    priority_policies: Annotated[
        dict[int, QueuePolicyConfig], Meta(description="The same by level, for levels that have their own.")
    ] = {}
    inputs: Annotated[tuple[TensorConfig, ...], Meta(description="What the graph's inputs must be.")] = ()
    outputs: Annotated[tuple[TensorConfig, ...], Meta(description="What the graph's outputs must be.")] = ()
    warmup: Annotated[tuple[WarmupConfig, ...], Meta(description="Requests to run before a version serves.")] = ()
    record_predictions: Annotated[
        Fraction | None,
        Meta(description="Whether its predictions are logged: true, or a fraction; default: the log's."),
    ] = None
    priority: Annotated[
        int, Meta(ge=-1000, le=1000, description="Of models that wait for a thread the highest runs first.")
    ] = 0
    slots: Annotated[int, Meta(ge=0, le=1024, description="Batches that may run at a time; 0: planned.")] = 0
    threads: Annotated[int, Meta(ge=0, le=1024, description="Threads inside one run; 0: planned.")] = 0
    non_finite: Annotated[
        NonFinite | None, Meta(description="NaN and infinities: token or error; default: the server's.")
    ] = None
    providers: Annotated[
        tuple[str, ...], Meta(min_length=1, description="onnxruntime execution providers, best first.")
    ] = ("CPUExecutionProvider",)


class DatasetConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A named table that models are predicted from without a payload, and explained by."""

    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^/\x00-\x1f]+$", description="Its name.")]
    source: Annotated[
        str, Meta(description="A file, a pattern of files (data/*.csv) or a folder: CSV, Parquet or JSON lines.")
    ] = msgspec.field(name="from", default="")
    sql: Annotated[str, Meta(description="Instead of from: a query over other datasets, by their names.")] = ""
    format: Annotated[
        Literal["", "csv", "parquet", "json"], Meta(description="What the files are, where their names do not say.")
    ] = ""
    time_column: Annotated[
        str | None, Meta(description="Rows are in its order, and it is no feature; default: ts, if there is one.")
    ] = None
    refresh_seconds: Annotated[
        float,
        Meta(ge=0, le=31_536_000, description="Time between looks at the files; 0: looked at when predicted from."),
    ] = 0.0
    max_rows: Annotated[int, Meta(ge=1, le=1 << 31, description="A table with more rows is not read.")] = 10_000_000
    memory_bytes: Annotated[
        int, Meta(ge=16 << 20, le=1 << 44, description="Memory that reading may take, beside the table itself.")
    ] = 1 << 30


class DataUrlConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request may have the server read for it (data_url)."""

    allow: Annotated[
        tuple[str, ...],
        Meta(
            description="Prefixes: file: and a folder, http://host/path/, s3://bucket/path/; a private address or network"
            " that hosts may resolve to stands by itself. Empty: nothing is read."
        ),
    ] = ()
    max_bytes: Annotated[int, Meta(ge=1, le=1 << 40, description="Largest file that is read, in bytes.")] = 64 << 20
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000, description="Time for reading it, in milliseconds.")] = 10_000


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that was set, from all places."""

    server: Annotated[ServerConfig, Meta(description="The doors.")] = ServerConfig()
    repository: Annotated[RepositoryConfig, Meta(description="Where models are.")] = RepositoryConfig()
    models: Annotated[tuple[ModelConfig, ...], Meta(description="What differs for single models.")] = ()
    datasets: Annotated[tuple[DatasetConfig, ...], Meta(description="Tables to predict from.")] = ()
    data_url: Annotated[DataUrlConfig, Meta(description="What requests may have read.")] = DataUrlConfig()
    auth: Annotated[AuthConfig, Meta(description="Who may call.")] = AuthConfig()
    log: Annotated[LogConfig, Meta(description="The prediction log.")] = LogConfig()
    origin: Annotated[Any, Meta(description="Where it came from; no field of a file.")] = Origin()

    @property
    def log_directory(self) -> str | None:
        """The prediction log's folder; None: there is no such log."""
        if self.log.directory or not self.server.log_dir:
            return self.log.directory or None
        return os.path.join(self.server.log_dir, "predictions")

    def written(self, model: ModelConfig) -> frozenset[str]:
        """The fields that a model's entry sets: nothing of a model's folder changes those."""
        found: frozenset[str] | None = self.origin.written.get(model.name)
        return set_fields(model) if found is None else found


def set_fields(model: ModelConfig) -> frozenset[str]:
    """The fields that differ from the defaults."""
    bare = ModelConfig(name=model.name)
    return frozenset(name for name in model.__struct_fields__ if getattr(model, name) != getattr(bare, name))


@cache
def most(field: str, of: type[Struct] = ModelConfig) -> int:
    """The upper bound of a number of ModelConfig's, or another struct's."""
    bound: int = get_type_hints(of, include_extras=True)[field].__metadata__[0].le
    return bound


def bounded(
    values: dict[str, Any], name: str, value: int, notes: list[str], place: str, of: type[Struct] = ModelConfig
) -> None:
    """Put a number there, or the most that the field takes, and a note."""
    bound = most(name, of)
    if value > bound:
        notes.append(f"{place}: {name} is {bound}, the most there may be, instead of {value}")
    values[name] = min(value, bound)
