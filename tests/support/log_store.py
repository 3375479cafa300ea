"""A prediction log without a server: rows put into segments as workers write them, read back by the simplest reader."""

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fastserve.store.disk import DISK
from fastserve.store.folder import LOCK
from fastserve.store.frames import Frame, Kind, encode, new_header, read_header
from fastserve.store.rows import Row
from fastserve.store.tombstones import encode_tombstone

DAY_NS = 86_400 * 10**9
NOW_NS = 20_000 * DAY_NS + 3600 * 10**9


def row(number: int = 0, **more: Any) -> Row:
    """A prediction, the same for the same number."""
    fields: dict[str, Any] = {
        "space": "s",
        "model_id": "m",
        "version": "1",
        "environment": "production",
        "batch_id": "",
        "prediction_id": f"p{number}",
        "ts_ns": NOW_NS + number,
        "ingest_ns": NOW_NS + number,
        "seq": number + 1,
        "kind": "prediction",
        "label_num": float(number),
        "features": {"age": number},
        "digest": str(number).encode(),
    }
    return Row(**{**fields, **more})


def actual(number: int = 0, **more: Any) -> Row:
    """What really happened, for the prediction of that number."""
    fields: dict[str, Any] = {"kind": "actual", "features": {}, "label_num": number * 2.0, "seq": 10_000 + number}
    return row(number, **{**fields, **more})


def read_rows(frame: Frame) -> list[Row]:
    """The rows of a frame that `Log.write` wrote."""
    return [Row(**fields) for fields in msgspec.msgpack.decode(frame.payload)]


READERS = {Kind.RECORD: read_rows}


class Log:
    """A folder of segments; each `write` is a frame, or several that belong together."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers: dict[str, int] = {}
        self._locks: dict[str, int] = {}

    def close(self) -> None:
        """All workers are gone."""
        for worker in list(self._locks):
            self.die(worker)

    def worker(self) -> str:
        """A new worker's folder."""
        name = uuid.uuid4().hex
        (self.directory / name).mkdir(parents=True)
        lock = DISK.lock(self.directory / name / LOCK)
        assert lock is not None
        self._locks[name] = lock
        self._numbers[name] = 0
        return name

    def die(self, worker: str) -> None:
        """It is gone; what it left open is an orphan."""
        DISK.close(self._locks.pop(worker))

    def segment(self, worker: str, *frames: Sequence[Row], sealed: bool = True) -> Path:
        """A new segment with those rows, a frame for each sequence."""
        return self.raw(worker, [(Kind.RECORD, msgspec.msgpack.encode(rows), rows[0].seq) for rows in frames], sealed)

    def tombstone(self, worker: str, model: str, prediction_id: str, seq: int, space: str | None = None) -> Path:
        """A sealed segment that deletes."""
        return self.raw(worker, [(Kind.TOMBSTONE, encode_tombstone(model, prediction_id, space), seq)], True)

    def raw(self, worker: str, frames: Iterable[tuple[int, bytes, int]], sealed: bool = True) -> Path:
        """A new segment of frames: kind, payload, seq."""
        self._numbers[worker] += 1
        number = self._numbers[worker]
        path = self.directory / worker / f"{number:08}{'.seg' if sealed else '.open'}"
        path.write_bytes(new_header(worker, number, NOW_NS))
        for kind, payload, seq in frames:
            self.add(path, kind, payload, seq)
        return path

    def add(self, path: Path, kind: int, payload: bytes, seq: int) -> None:
        """One more frame at the end of a segment."""
        data = path.read_bytes()
        pieces = encode([(kind, payload)], NOW_NS, range(seq, seq + 1), read_header(data).seed)
        path.write_bytes(data + b"".join(pieces))

    def append(self, path: Path, rows: Sequence[Row]) -> None:
        """One more frame of rows at the end of a segment."""
        self.add(path, Kind.RECORD, msgspec.msgpack.encode(rows), rows[0].seq)
