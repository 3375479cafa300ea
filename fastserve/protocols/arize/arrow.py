"""Arrow IPC streams from strangers: read within bounds, and only what every reader of the log can read again.

What unfolds is refused: compressed batches, dictionaries larger than the stream, buffers that are used twice, rows that take
no bytes. The stream must end where it says that it ends: one that broke off is never taken for whole.
Thread: any; needs pyarrow (the extra `log`). Memory: the columns lie in the body.
"""

import struct
from typing import Any

from fastserve.errors import ErrorCode, FastServeError, InvalidRequest, quoted
from fastserve.limits import MAX_TABLE_ROWS

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
SPARE_BYTES = 1 << 20
"""Columns that take no bytes in the stream may take a few."""

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
"""In Message.fbs: what a message's header is."""


class NeedsExtra(FastServeError):
    """What reads tables is not installed."""

    code = ErrorCode.UNIMPLEMENTED

    def __init__(self) -> None:
        super().__init__("tables are read with pyarrow: install fastserve[log], or send records to /v1/log")


def open_table(body: bytes) -> Any:
    """The table that a stream holds. Raises NeedsExtra, InvalidRequest."""
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError:
        raise NeedsExtra from None
    if not body.endswith(END_OF_STREAM):
        raise InvalidRequest("expected an Arrow IPC stream with the mark of its end; this one broke off, or is none")
    try:
        _check_messages(ipc, body)
        table = ipc.open_stream(body).read_all()
        _check_size(table, len(body))
        table.validate(full=True)
        table = _decoded(pyarrow, table, len(body))
    except (pyarrow.ArrowException, ValueError, OSError, struct.error, IndexError) as error:
        raise InvalidRequest(f"expected an Arrow IPC stream: {str(error)[:256]}") from None
    return table


def _check_messages(ipc: Any, body: bytes) -> None:
    """That nothing is compressed, and that no batch claims rows that the body cannot hold."""
    for message in ipc.MessageReader.open_stream(body):
        metadata = bytes(message.metadata)
        kind, header = _header(metadata)
        if kind == _DICTIONARY_BATCH:
            header = _child(metadata, header, 1)
        if kind in (_RECORD_BATCH, _DICTIONARY_BATCH):
            length = _field(metadata, header, 0)
            rows = struct.unpack_from("<q", metadata, length)[0] if length else 0
            if not 0 <= rows <= min(MAX_TABLE_ROWS, len(body)):
                raise InvalidRequest(f"expected at most {min(MAX_TABLE_ROWS, len(body))} rows in this body, got {rows}")
            if _field(metadata, header, 3):
                raise InvalidRequest("expected an Arrow IPC stream without compression, got a compressed one")


def _header(metadata: bytes) -> tuple[int, int]:
    """What a message is, and where that begins (a flatbuffer: a table's fields are found through its vtable)."""
    root = struct.unpack_from("<I", metadata, 0)[0]
    kind = _field(metadata, root, 1)
    return (metadata[kind] if kind else 0), _child(metadata, root, 2)


def _field(data: bytes, table: int, slot: int) -> int:
    """Where a field of a table is; 0 where it is not set."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * slot >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]
    return table + offset if offset else 0


def _child(data: bytes, table: int, slot: int) -> int:
    """Where a table that is a field of a table begins."""
    at = _field(data, table, slot)
    if not at:
        raise InvalidRequest("expected an Arrow IPC stream, got a message without a header")
    offset: int = struct.unpack_from("<I", data, at)[0]
    return at + offset


def _check_size(table: Any, body_bytes: int) -> None:
    if table.num_rows > min(MAX_TABLE_ROWS, body_bytes):
        raise InvalidRequest(
            f"expected at most {min(MAX_TABLE_ROWS, body_bytes)} rows in this body, got {table.num_rows}"
        )
    # Not nbytes: that follows offsets, which nobody has looked at yet.
    buffers = (buffer for column in table.columns for chunk in column.chunks for buffer in chunk.buffers())
    if sum(buffer.size for buffer in buffers if buffer is not None) > body_bytes + SPARE_BYTES:
        raise InvalidRequest("expected columns that lie in the body once, got some that lie in it several times")
    names = table.column_names
    if len(set(names)) < len(names):
        raise InvalidRequest(
            f"expected each column once, got {quoted(next(n for n in names if names.count(n) > 1))} twice"
        )


def _decoded(pyarrow: Any, table: Any, body_bytes: int) -> Any:
    """With plain columns for dictionaries, where that takes about as much as the body."""
    from pyarrow import compute

    left = 4 * body_bytes + SPARE_BYTES
    for i, field in enumerate(table.schema):
        if not pyarrow.types.is_dictionary(field.type):
            continue
        kind = field.type.value_type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or _is_plain(pyarrow, kind)):
            raise InvalidRequest(f"expected a column of plain values, got {field.type} in {quoted(field.name)}")
        column = table.column(i)
        if not _is_plain(pyarrow, kind):
            for chunk in column.chunks:
                lengths = compute.binary_length(chunk.dictionary).take(chunk.indices)
                left -= compute.sum(compute.cast(lengths, pyarrow.int64())).as_py() or 0
            if left < 0:
                raise InvalidRequest(
                    f"expected texts of about the body's size, got far larger ones in {quoted(field.name)}"
                )
        table = table.set_column(i, field.name, compute.cast(column, kind))
    return table


def _is_plain(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
