"""MLRun's bodies, in which `inputs` are plain lists: what they mean is said by the model's signature, never by the data.

Three styles, by the signature alone (else n rows of n features would flip):
- one input: the list is its tensor, or, one level flatter, one row of it;
- several inputs of one value a row each: columns; a row has a value for each, in the graph's order, a flat list is one row;
- several inputs, some wider: an entry for each, in the graph's order.
Rows of names and values (`infer_dict`) are in `dicts`.

Pure. Memory: numbers go straight into arrays that grow with the text.
"""

from collections.abc import Callable, Sequence
from enum import Enum

import msgspec
import numpy as np
from msgspec import Struct

from fastserve._ext.tensorize import Cursor
from fastserve.engine.lease import Lease
from fastserve.errors import InvalidJson, InvalidRequest, InvalidTensor, quoted
from fastserve.http.message import Headers
from fastserve.protocols.oip.envelope import WHITE_SPACE
from fastserve.protocols.oip.features import feature_names
from fastserve.protocols.oip.plan import InferPlan, InputPlan, OutputPlan, plan_of
from fastserve.protocols.oip.schema import fits, shape_text
from fastserve.types import Tensor

NAME = "oip.plain"
"""The plan's key on the lease."""

FLUSH_ROWS = 256
"""So many rows are held as single cells before they are joined: a cell takes a hundred times its text."""

INPUTS = "$.inputs"


class Style(Enum):
    """How a model's inputs stand in a plain list."""

    WHOLE = "whole"
    COLUMNS = "columns"
    ENTRIES = "entries"


class PlainPlan(Struct, frozen=True, gc=False):
    """What plain bodies need of one version, found once.

    `shared_dtype`: of columns, the type that all have, else 0. `takes_words`: "NaN" in quotes is a number. `features`: names
    of the columns of a row; empty: unknown. `wide`: they are the columns of the one input.
    """

    inputs: tuple[InputPlan, ...]
    outputs: tuple[OutputPlan, ...]
    style: Style
    shared_dtype: int
    takes_words: bool
    features: tuple[str, ...]
    wide: bool
    strict: bool
    takes: str
    gives: str
    opening: bytes
    """Of every answer, behind its id."""
    headers: Headers


class Plain(Struct, frozen=True):
    """What a body says. `id`: as JSON, empty for none. `inputs`: None where there are none. `wanted`: None for all."""

    id: bytes
    inputs: dict[str, Tensor] | None
    wanted: tuple[str, ...] | None
    data_url: str


ReadInputs = Callable[[Cursor, PlainPlan], dict[str, Tensor]]


def plain_plan(lease: Lease) -> PlainPlan:
    """The plan of the version that `lease` holds."""
    plan: PlainPlan | None = lease.codecs.get(NAME)
    if plan is None:
        plan = lease.codecs[NAME] = _make_plan(lease, plan_of(lease))
    return plan


def read_plain(text: bytes, plan: PlainPlan, read_inputs: ReadInputs) -> Plain:
    """All of a body. Members that mean nothing here may hold anything; of duplicates the first counts."""
    cursor = Cursor(text, finite=plan.strict)
    if cursor.kind() != "{":
        raise InvalidRequest(f"the body must be a JSON object, got {cursor.excerpt()}")
    cursor.enter_object()
    found = _Members()
    seen: set[str] = set()
    while (key := cursor.next_key()) is not None:
        if key in seen or key not in ("id", "inputs", "outputs", "data_url") or cursor.kind() == "n":
            cursor.skip()
            continue
        seen.add(key)
        if key == "id":
            found.id = _read_id(cursor)
        elif key == "inputs":
            found.inputs = _read_list(cursor, plan, read_inputs)
        elif key == "outputs":
            found.wanted = _read_outputs(cursor, plan)
        else:
            found.data_url = cursor.string("$.data_url")
    if text[cursor.offset :].strip(WHITE_SPACE):
        raise InvalidJson("more text follows the top value", cursor.offset)
    if found.inputs is None and not found.data_url:
        raise InvalidTensor(expected=f"at least one row; the model takes {plan.takes}", got="none", path=INPUTS)
    return Plain(found.id, found.inputs, found.wanted, found.data_url)


def read_rows(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    """The list at the cursor, as every input's tensor."""
    if plan.style is Style.WHOLE:
        known = plan.inputs[0]
        return {known.name: fitted(cursor.tensor(known.dtype, INPUTS, known.takes_words), known, INPUTS)}
    return _read_columns(cursor, plan) if plan.style is Style.COLUMNS else _read_entries(cursor, plan)


def located_plain(error: InvalidTensor, inputs: dict[str, Tensor], plan: PlainPlan) -> InvalidTensor:
    """An error of the engine, which knows inputs by name and types by ONNX's, as this protocol says it."""
    for index, known in enumerate(plan.inputs):
        if known.name != error.path:
            continue
        path = f"{INPUTS}[{index}]" if plan.style is Style.ENTRIES else INPUTS
        shape = inputs[known.name].shape
        if fits(shape, known.shape):
            return error.at(path)
        expected = f"{known.datatype} of shape {shape_text(known.shape)} for input {quoted(known.name)}"
        return InvalidTensor(expected=expected, got=f"shape {shape_text(shape)}", path=path)
    return error


def fitted(tensor: Tensor, known: InputPlan, path: str) -> Tensor:
    """What was read for one input, with a first axis where it is one row."""
    shape = known.shape
    if shape is None or tensor.ndim == len(shape):
        return tensor
    if tensor.ndim == len(shape) - 1 and shape[0] in (-1, 1):
        return tensor.reshape(1, *tensor.shape)
    if shape == () and tensor.size == 1:
        return tensor.reshape(())
    raise InvalidTensor(
        expected=f"list of rows for input {quoted(known.name)}, {known.datatype} {shape_text(shape)}",
        got=f"a value nested {tensor.ndim} deep",
        path=path,
    )


def as_column(rows: Tensor, known: InputPlan) -> Tensor:
    """Single values as the input has them: [N], or [N,1]."""
    return rows.reshape(-1, 1) if rows.ndim == 1 and known.shape is not None and len(known.shape) == 2 else rows


def joined(cells: Sequence[Tensor]) -> Tensor:
    """One tensor of equally shaped ones, along a new first axis."""
    return np.stack(cells)


class Column:
    """One input's values, cell by cell, each read as a tensor of its own."""

    def __init__(self, known: InputPlan) -> None:
        self._known = known
        self._cells: list[Tensor] = []
        self._blocks: list[Tensor] = []

    def read(self, cursor: Cursor, path: str) -> None:
        """The cell at the cursor."""
        cell = cursor.tensor(self._known.dtype, path, self._known.takes_words)
        shape = self._shape()
        if shape is not None and cell.shape != shape:
            raise InvalidTensor(
                expected=f"a value of shape {shape_text(shape)} as in the rows before",
                got=shape_text(cell.shape),
                path=path,
            )
        self._cells.append(cell)
        if len(self._cells) == FLUSH_ROWS:
            self._flush()

    def tensor(self) -> Tensor:
        """All of them: one row each."""
        self._flush()
        return self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks)

    def _shape(self) -> tuple[int, ...] | None:
        if self._cells:
            shape: tuple[int, ...] = self._cells[0].shape
            return shape
        return tuple(self._blocks[0].shape[1:]) if self._blocks else None

    def _flush(self) -> None:
        if self._cells:
            self._blocks.append(joined(self._cells))
            self._cells = []


class _Members:
    id = b""
    inputs: dict[str, Tensor] | None = None
    wanted: tuple[str, ...] | None = None
    data_url = ""


def _make_plan(lease: Lease, base: InferPlan) -> PlainPlan:
    inputs = tuple(base.inputs.values())
    columns = all(known.shape in ((-1,), (-1, 1)) for known in inputs)
    style = Style.WHOLE if len(inputs) == 1 else Style.COLUMNS if columns else Style.ENTRIES
    dtypes = {known.dtype for known in inputs}
    features, wide = feature_names(lease, inputs)
    named = msgspec.json.encode({"model_name": lease.model, "model_version": str(lease.version)})
    return PlainPlan(
        inputs=inputs,
        outputs=tuple(base.outputs.values()),
        style=style,
        shared_dtype=dtypes.pop() if style is Style.COLUMNS and len(dtypes) == 1 else 0,
        takes_words=not base.strict,
        features=features,
        wide=wide,
        strict=base.strict,
        takes=base.takes,
        gives=base.gives,
        opening=b"," + named[1:-1],
        headers=lease.answer_headers,
    )


def _read_id(cursor: Cursor) -> bytes:
    if cursor.kind() in "[{":
        raise InvalidTensor(expected="string", got=cursor.excerpt(), path="$.id")
    return msgspec.json.encode(cursor.value("$.id"))


def _read_list(cursor: Cursor, plan: PlainPlan, read_inputs: ReadInputs) -> dict[str, Tensor] | None:
    if cursor.kind() == "[" and cursor.first_item_kind() == "]":
        cursor.skip()
        return None
    return read_inputs(cursor, plan)


def _read_outputs(cursor: Cursor, plan: PlainPlan) -> tuple[str, ...] | None:
    """Names, or objects with a name."""
    if cursor.kind() != "[":
        raise InvalidTensor(expected="list of outputs", got=cursor.excerpt(), path="$.outputs")
    known = [output.name for output in plan.outputs]
    wanted: dict[str, None] = {}
    cursor.enter_array()
    while cursor.next_item():
        path = f"$.outputs[{len(wanted)}]"
        name = _output_name(cursor, path)
        if name not in known:
            expected = f"one of the model's outputs ({plan.gives})"
            raise InvalidTensor(expected=expected, got=quoted(name), path=path)
        if name in wanted:
            raise InvalidTensor(expected="each output once", got=f"{quoted(name)} twice", path=path)
        wanted[name] = None
    return tuple(wanted) or None


def _output_name(cursor: Cursor, path: str) -> str:
    if cursor.kind() != "{":
        return cursor.string(path)
    name: str | None = None
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key == "name" and name is None:
            name = cursor.string(f"{path}.name")
        else:
            cursor.skip()
    if name is None:
        raise InvalidTensor(expected='an object with "name"', got="none", path=path)
    return name


def _read_columns(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    if cursor.kind() != "[":
        raise InvalidTensor(expected="list of rows", got=cursor.excerpt(), path=INPUTS)
    is_one_row = cursor.first_item_kind() != "["
    if plan.shared_dtype:
        return _cut(cursor.tensor(plan.shared_dtype, INPUTS, plan.inputs[0].takes_words), plan)
    if is_one_row:
        columns = [Column(known) for known in plan.inputs]
        _read_row(cursor, columns, INPUTS, plan)
        found = [column.tensor() for column in columns]
    else:
        found = _read_table(cursor, plan)
    return {known.name: as_column(column, known) for known, column in zip(plan.inputs, found, strict=True)}


def _read_table(cursor: Cursor, plan: PlainPlan) -> list[Tensor]:
    """Rows of values of several types, in one go."""
    try:
        return cursor.table(tuple(known.dtype for known in plan.inputs), INPUTS, plan.takes_words)
    except InvalidTensor as error:
        if error.fault == "length":
            raise _wrong_width(error.got, error.path, plan) from error
        if error.fault == "type" and error.got.startswith(("list", "object")):
            raise _no_value(error.got, error.path, plan) from error
        raise


def _no_value(got: str, path: str, plan: PlainPlan) -> InvalidTensor:
    """The error for a cell, at the end of `path`, that holds several."""
    known = plan.inputs[int(path.rpartition("[")[2].rstrip("]"))]
    return InvalidTensor(expected=f"one {known.datatype} value for input {quoted(known.name)}", got=got, path=path)


def _read_row(cursor: Cursor, columns: list[Column], path: str, plan: PlainPlan) -> None:
    """One value a column."""
    if cursor.kind() != "[":
        raise InvalidTensor(expected=f"list of {len(columns)} values", got=cursor.excerpt(), path=path)
    count = 0
    cursor.enter_array()
    while cursor.next_item():
        if count == len(columns):
            raise _wrong_width(f"more than {count} values", path, plan)
        if cursor.kind() in "[{":
            raise _no_value(cursor.excerpt(), f"{path}[{count}]", plan)
        columns[count].read(cursor, f"{path}[{count}]")
        count += 1
    if count != len(columns):
        raise _wrong_width(f"{count} value" + ("" if count == 1 else "s"), path, plan)


def _wrong_width(got: str, path: str, plan: PlainPlan) -> InvalidTensor:
    return InvalidTensor(expected=f"{len(plan.inputs)} values ({plan.takes})", got=got, path=path)


def _cut(table: Tensor, plan: PlainPlan) -> dict[str, Tensor]:
    """The columns of a table that was read in one go."""
    rows = table.reshape(1, -1) if table.ndim == 1 else table
    if rows.ndim != 2:
        raise InvalidTensor(
            expected="list of rows of single values", got=f"a list nested {rows.ndim} deep", path=INPUTS
        )
    if rows.shape[1] != len(plan.inputs):
        path = INPUTS if table.ndim == 1 else f"{INPUTS}[0]"
        raise _wrong_width(f"{rows.shape[1]} value" + ("" if rows.shape[1] == 1 else "s"), path, plan)
    shapes = [(-1, 1) if len(known.shape or ()) == 2 else (-1,) for known in plan.inputs]
    return {
        known.name: np.ascontiguousarray(rows[:, index]).reshape(shapes[index])
        for index, known in enumerate(plan.inputs)
    }


def _read_entries(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    if cursor.kind() != "[":
        raise InvalidTensor(expected="list with an entry for each input", got=cursor.excerpt(), path=INPUTS)
    found: dict[str, Tensor] = {}
    cursor.enter_array()
    while cursor.next_item():
        index = len(found)
        if index == len(plan.inputs):
            raise _wrong_entries(f"more than {index}", plan)
        known, path = plan.inputs[index], f"{INPUTS}[{index}]"
        found[known.name] = fitted(cursor.tensor(known.dtype, path, known.takes_words), known, path)
    if len(found) != len(plan.inputs):
        raise _wrong_entries(str(len(found)), plan)
    return found


def _wrong_entries(got: str, plan: PlainPlan) -> InvalidTensor:
    return InvalidTensor(expected=f"{len(plan.inputs)} entries, one an input ({plan.takes})", got=got, path=INPUTS)
