"""The rows of a table that was found good, as the log reads them. Thread: any. Memory: a slice of rows at a time."""

from collections.abc import Callable, Iterator
from typing import Any

from fastserve.protocols.arize.columns import (
    Convert,
    anything,
    kept_values,
    numbers,
    text_lists,
    texts,
    times_ns,
    vectors,
)
from fastserve.protocols.arize.frame import Head
from fastserve.protocols.arize.labels import Labels
from fastserve.protocols.arize.rows import NO_ANSWER, Place, row
from fastserve.protocols.arize.table_schema import CORPUS, ENVIRONMENTS, Columns, Constants
from fastserve.store.rows import Part, Row, Value

SLICE_ROWS = 1024
"""So many rows are Python objects at a time."""

Members = list[dict[str, Value]]
"""What a slice's rows have of something, by name."""


class Origin:
    """What all rows of a table share, and the next one's number."""

    def __init__(self, head: Head, ingest_ns: int, seq: int, seq_step: int) -> None:
        self.head = head
        self.ingest_ns = ingest_ns
        self._seq = seq
        self._step = seq_step

    def seq(self, index: int) -> int:
        """Of the row of that index."""
        return self._seq + index * self._step


def rows_of_table(
    table: Any, constants: Constants, columns: Columns, labels: Labels, parts: tuple[bool, bool], origin: Origin
) -> Iterator[Row]:
    """Each row's parts. `parts`: whether there are predictions, and actuals."""
    for start in range(0, table.num_rows, SLICE_ROWS):
        rows = table.slice(start, SLICE_ROWS)
        yield from _Slice(rows, start, constants, columns, labels, parts).rows(origin)


class _Slice:
    """A few rows, read column by column."""

    def __init__(
        self, rows: Any, start: int, constants: Constants, columns: Columns, labels: Labels, parts: tuple[bool, bool]
    ) -> None:
        self._rows = rows
        self._start = start
        self._constants = constants
        self._columns = columns
        self._has_prediction, self._has_actual = parts
        self._is_corpus = constants.environment == CORPUS
        self._predicted = labels.predicted(rows) if labels.predict else [NO_ANSWER] * rows.num_rows
        self._happened = labels.happened(rows) if labels.have_actuals else [None] * rows.num_rows

    def rows(self, origin: Origin) -> Iterator[Row]:
        """Their parts."""
        extras: list[dict[str, Any]] = [{} for _ in range(self._rows.num_rows)]
        features = self._members((name, name) for name in self._columns.features)
        self._add_embeddings(features, extras)
        self._add_beside(extras)
        tags = self._members((name, name) for name in self._columns.tags)
        shap = self._members(((name, column) for name, column in self._columns.shap_values.items()), numbers)
        times = times_ns(self._rows.column(self._columns.timestamp), "").to_pylist() if self._columns.timestamp else []
        said: Part = "document" if self._is_corpus else "prediction"
        for i, place in enumerate(self._places(origin)):
            moment = times[i] if times else None
            predicted, happened = self._predicted[i], self._happened[i]
            alone = happened is None and (bool(features[i]) or not shap[i])
            if self._has_prediction and (predicted is not None or alone):
                answer = predicted or NO_ANSWER
                yield row(place, said, moment, None, answer, features[i], tags[i], {}, extras[i])
            if self._has_prediction and happened is not None:
                yield row(place, "actual", moment, None, happened, {}, tags[i], {}, {})
            elif not self._has_prediction and (happened is not None or tags[i]):
                answer = happened or NO_ANSWER
                yield row(place, "actual", moment, None, answer, features[i], tags[i], {}, extras[i])
            if shap[i]:
                yield row(place, "importance", moment, None, NO_ANSWER, {}, {}, shap[i], {})  # type: ignore[arg-type]

    def _places(self, origin: Origin) -> Iterator[Place]:
        columns, constants, head = self._columns, self._constants, origin.head
        ids = self._column(columns.prediction_id)
        versions = self._column(columns.model_version)
        environments = self._column(columns.environment)
        batches = self._column(columns.batch_id)
        environment = "corpus" if self._is_corpus else ENVIRONMENTS[constants.environment]
        for i in range(self._rows.num_rows):
            index = self._start + i
            yield Place(
                space=head.space,
                model_id=constants.model_id,
                version=versions[i] or constants.model_version,
                environment=(environments[i] or environment).lower(),
                batch_id=batches[i] or constants.batch_id,
                prediction_id=ids[i] or f"{head.prediction_id}-{index}",
                ingest_ns=origin.ingest_ns,
                seq=origin.seq(index),
            )

    def _column(self, name: str, read: Callable[[Any], list[Any]] = texts) -> list[Any]:
        return read(self._rows.column(name)) if name else [None] * int(self._rows.num_rows)

    def _members(self, names: Any, read: Convert | None = None) -> Members:
        """By row: what each of the columns has, under its name."""
        members: Members = [{} for _ in range(self._rows.num_rows)]
        for name, column_name in names:
            column = self._rows.column(column_name)
            convert = read or kept_values(column.type, column_name)
            if convert is None:
                continue
            for found, value in zip(members, convert(column), strict=True):
                if value is not None:
                    found[name] = value
        return members

    def _add_embeddings(self, features: Members, extras: list[dict[str, Any]]) -> None:
        for name, columns in self._columns.embeddings.items():
            found = self._column(columns.vector, vectors)
            data = self._column(columns.data, text_lists)
            links = self._column(columns.link)
            for i, vector in enumerate(found):
                beside = {"link_to_data": links[i], "raw_data": data[i]}
                beside = {what: one for what, one in beside.items() if one}
                if vector is not None or beside:
                    features[i][name] = vector or []
                if beside:
                    extras[i][name] = beside

    def _add_beside(self, extras: list[dict[str, Any]]) -> None:
        columns = self._columns
        for said in (columns.prompt_template, columns.llm_config):
            for name, column in said.items():
                for extra, value in zip(extras, self._column(column, anything), strict=True):
                    if value is not None:
                        extra.setdefault("$llm_fields", {})[name] = value
        for extra, ids in zip(extras, self._column(columns.retrieved_document_ids, text_lists), strict=True):
            if ids:
                extra["$retrieved_document_ids"] = ids
        for extra, sequence in zip(extras, self._column(columns.actual_numeric_sequence, vectors), strict=True):
            if sequence:
                extra["$numeric_sequence"] = sequence
