"""What an operator may set of the prediction log; part of `fields`.

Thread: read once before any other thread starts; frozen afterwards.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Fraction = bool | Annotated[float, Meta(ge=0, le=1)]
"""All, none or some."""


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The prediction log: where it is, and what is promised of it."""

    directory: Annotated[
        str | None, Meta(description="Its folder; default: predictions in log_dir, and without that no log.")
    ] = None
    sync: Annotated[
        Literal["always", "interval", "os"],
        Meta(
            description="When a record is acknowledged: always: it is on disk; interval: it is written, and on disk within"
            " sync_interval_ms; os: it is written, and on disk when the system likes."
        ),
    ] = "always"
    sync_interval_ms: Annotated[
        int, Meta(ge=1, le=600_000, description="Time between syncs with sync = interval, in milliseconds.")
    ] = 1000
    record_predictions: Annotated[
        Fraction, Meta(description="Whether the server's own predictions are logged, too: true, or a fraction of them.")
    ] = False
    max_age_days: Annotated[
        int, Meta(ge=0, le=36_500, description="Records whose own time is longer ago are refused; 0: none is.")
    ] = 90
    max_ahead_seconds: Annotated[
        int, Meta(ge=0, le=31_622_400, description="Records whose own time is farther ahead are refused, in seconds.")
    ] = 60
    retention_days: Annotated[
        int, Meta(ge=0, le=36_500, description="Records that are older are removed; 0: none is.")
    ] = 0
    count_duplicates: Annotated[
        bool,
        Meta(
            description="Whether a prediction that is sent again counts once more, as with Arize; else the last one takes"
            " the place of those before it. Both are kept, so this may be changed at any time."
        ),
    ] = False
    max_segment_bytes: Annotated[
        int, Meta(ge=4096, le=1 << 32, description="A file of the log is complete when it is that large, in bytes.")
    ] = 64 << 20
    max_segment_seconds: Annotated[float, Meta(gt=0, le=86_400, description="Or that old, in seconds.")] = 30.0
    max_prepared_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 32,
            description="The next file is filled with zeros before it is needed, which makes its syncs about twice as quick:"
            " at most so many bytes, and twice what the last one took; 0: none. File systems that write every block"
            " to a new place (btrfs, zfs) gain nothing by it.",
        ),
    ] = 16 << 20
    max_queue_bytes: Annotated[
        int, Meta(ge=1, le=1 << 40, description="Bytes that may wait for the disk, per worker; then records get 503.")
    ] = 64 << 20
    max_queue_records: Annotated[
        int, Meta(ge=1, le=1 << 30, description="Records that may wait for the disk, per worker.")
    ] = 65_536
