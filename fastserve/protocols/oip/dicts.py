"""Rows of names and values (`infer_dict`): their order is the model's, whatever order they come in.

Names that the model does not have are passed over, names that are missing refused.
Pure. Memory: rows go straight into arrays; a lone row, and what is wrong, is read cell by cell.
"""

import numpy as np

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidRequest, InvalidTensor, quoted
from fastserve.protocols.oip.plain import INPUTS, Column, PlainPlan, as_column
from fastserve.protocols.oip.plan import InputPlan
from fastserve.types import Tensor

MAX_NAMED = 20


def read_dicts(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    """The list of rows at the cursor, or the one row."""
    if not plan.features:
        raise InvalidRequest(
            f"the columns of this model have no names: it takes {plan.takes}; name them with features = [...] in its"
            " [[models]] entry, or send lists to /infer"
        )
    start = cursor.offset
    if cursor.kind() == "[":
        try:
            return _in_one_go(cursor, plan)
        except InvalidTensor:  # something is wrong, which is then told cell by cell
            cursor.seek(start)
    return _cell_by_cell(cursor, plan)


def _in_one_go(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    dtypes = tuple(known.dtype for known in _cells(plan))
    found = cursor.rows(plan.features, dtypes, INPUTS, True, plan.takes_words)
    if plan.wide:
        return _side_by_side([found[name] for name in plan.features], plan)
    return {known.name: as_column(found[name], known) for name, known in zip(plan.features, plan.inputs, strict=True)}


def _cell_by_cell(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    columns = {name: Column(known) for name, known in zip(plan.features, _cells(plan), strict=True)}
    if cursor.kind() == "{":
        _read_row(cursor, columns, INPUTS)
    elif cursor.kind() == "[":
        row = 0
        cursor.enter_array()
        while cursor.next_item():
            _read_row(cursor, columns, f"{INPUTS}[{row}]")
            row += 1
    else:
        raise InvalidTensor(expected="list of objects, one a row", got=cursor.excerpt(), path=INPUTS)
    if plan.wide:
        return _side_by_side([column.tensor() for column in columns.values()], plan)
    return {
        known.name: as_column(column.tensor(), known)
        for known, column in zip(plan.inputs, columns.values(), strict=True)
    }


def _read_row(cursor: Cursor, columns: dict[str, Column], path: str) -> None:
    if cursor.kind() != "{":
        raise InvalidTensor(expected="object", got=cursor.excerpt(), path=path)
    seen: set[str] = set()
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        column = columns.get(key)
        if column is None or key in seen:
            cursor.skip()
        else:
            seen.add(key)
            column.read(cursor, f"{path}.{key}" if key.isidentifier() else f"{path}[{quoted(key)}]")
    missing = [name for name in columns if name not in seen]
    if missing:
        told = ", ".join(map(quoted, list(columns)[:MAX_NAMED])) + (", ..." if len(columns) > MAX_NAMED else "")
        raise InvalidTensor(expected=f"an object with the keys {told}", got=f"no {quoted(missing[0])}", path=path)


def _cells(plan: PlainPlan) -> tuple[InputPlan, ...]:
    """What each named value is: an input's, or a part of the one wide input."""
    return plan.inputs * len(plan.features) if plan.wide else plan.inputs


def _side_by_side(columns: list[Tensor], plan: PlainPlan) -> dict[str, Tensor]:
    for name, column in zip(plan.features, columns, strict=True):
        if column.ndim != 1:
            raise InvalidTensor(expected=f"one value for {quoted(name)}", got="a list", path=INPUTS)
    table = np.stack(columns, axis=1)
    return {plan.inputs[0].name: np.ascontiguousarray(table)}
