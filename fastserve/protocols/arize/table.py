"""A table of records: whether all of it may be kept, and its rows as the log reads them.

Checked column by column, without an object per row; all or nothing. Thread: any. Memory: a slice of rows at a time.
"""

from collections.abc import Iterator

from fastserve.errors import InvalidRequest, quoted
from fastserve.limits import MAX_EMBEDDINGS, MAX_ID_CHARS, MAX_TAG_CHARS, MAX_VALUES
from fastserve.protocols.arize.arrow import open_table
from fastserve.protocols.arize.columns import check_values, is_text, kept_values, place, texts, times_ns, vectors
from fastserve.protocols.arize.frame import Head
from fastserve.protocols.arize.labels import (
    NUMBER_LISTS,
    NUMBERS,
    PARAMS,
    SCALAR,
    TEXTS,
    Labels,
    check_label_type,
    used_columns,
)
from fastserve.protocols.arize.protojson import Mistake
from fastserve.protocols.arize.rules import NO_PART, Limits
from fastserve.protocols.arize.table_rows import Origin, rows_of_table
from fastserve.protocols.arize.table_schema import CORPUS, DOCUMENT_TEXT, ENVIRONMENTS, Columns, read_schema
from fastserve.store.rows import Row


class Records:
    """A table, and what its columns are. Raises InvalidRequest, NeedsExtra where it is none."""

    def __init__(self, body: bytes) -> None:
        self.table = open_table(body)
        schema = read_schema(self.table.schema.metadata)
        self.model_id = schema.constants.model_id
        self._constants = schema.constants
        if schema.columns is None:
            raise InvalidRequest("expected arize-schema with an arrow_schema, got another kind of schema")
        self._is_corpus = schema.constants.environment == CORPUS
        self._columns = _of_documents(schema.columns) if self._is_corpus else schema.columns
        self._labels = Labels(self._columns, schema.constants.model_type)
        self._kinds = {field.name: field.type for field in self.table.schema}

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    def check(self, now_ns: int, limits: Limits) -> None:
        """Raises Mistake for the first thing that is wrong, in the order in which single records are checked."""
        if self._is_corpus and not self._columns.prediction_id:
            raise Mistake(expected="document_column_names with the documents' ids", got="none", path="arize-schema")
        if not self._has_prediction and not self._has_actual and not self._columns.shap_values:
            raise Mistake(
                expected="columns of predictions, actuals or shap values",
                got="none",
                path="arize-schema",
                message=NO_PART,
            )
        self._check_names()
        self._check_values()
        self._check_labels()
        if self._columns.timestamp:
            self._check_times(now_ns, limits)
        self._check_ids()

    def rows(self, head: Head, ingest_ns: int, seq: int, seq_step: int) -> Iterator[Row]:
        """Each row's parts. Of rows with one id the last is the one; their seqs are `seq_step` apart."""
        origin = Origin(head, ingest_ns, seq, seq_step)
        parts = (self._has_prediction, self._has_actual)
        return rows_of_table(self.table, self._constants, self._columns, self._labels, parts, origin)

    @property
    def _has_prediction(self) -> bool:
        """A late actual may come with its features once more: no new prediction, which would take the first one's place."""
        columns, labels = self._columns, self._labels
        return (
            self._is_corpus
            or labels.predict
            or (not labels.have_actuals and bool(columns.features or columns.embeddings))
        )

    @property
    def _has_actual(self) -> bool:
        return self._labels.have_actuals or bool(self._columns.tags)

    def _check_names(self) -> None:
        """That every column that the schema names is there."""
        if self._constants.environment not in (*ENVIRONMENTS, CORPUS):
            expected = "training, validation, production or corpus"
            raise Mistake(expected=expected, got="another one", path="arize-schema environment")
        for names in (self._columns.features, self._columns.tags, self._columns.shap_values):
            if len(names) > MAX_VALUES:
                raise Mistake(
                    expected=f"at most {MAX_VALUES} columns of a kind", got=str(len(names)), path="arize-schema"
                )
        if len(self._columns.embeddings) > MAX_EMBEDDINGS:
            got = str(len(self._columns.embeddings))
            raise Mistake(expected=f"at most {MAX_EMBEDDINGS} embeddings", got=got, path="arize-schema")
        for name in self._named():
            if name not in self._kinds:
                raise Mistake(
                    expected="every column that arize-schema names", got="a table without it", path=place(name)
                )

    def _named(self) -> Iterator[str]:
        columns = self._columns
        yield from columns.features
        yield from columns.tags
        yield from columns.shap_values.values()
        yield from used_columns(columns, self._constants.model_type)
        for embedding in columns.embeddings.values():
            yield from filter(None, (embedding.vector, embedding.data, embedding.link))
        beside = (*columns.prompt_template.values(), *columns.llm_config.values(), columns.retrieved_document_ids)
        single = (
            columns.prediction_id,
            columns.timestamp,
            columns.environment,
            columns.model_version,
            columns.batch_id,
        )
        yield from filter(None, (*beside, *single, columns.actual_numeric_sequence))

    def _check_values(self) -> None:
        for name in (*self._columns.features, *self._columns.tags):
            if kept_values(self._kinds[name], name) is not None:
                check_values(self.table.column(name), name)
        for name in self._columns.tags:
            self._check_chars(name, MAX_TAG_CHARS)
        for name in self._columns.shap_values.values():
            check_label_type(self._kinds[name], NUMBERS, name)
        for embedding in self._columns.embeddings.values():
            if embedding.vector:
                self._check_vector(embedding.vector)
            for name in filter(None, (embedding.data, embedding.link)):
                check_label_type(self._kinds[name], TEXTS, name)
                check_values(self.table.column(name), name)

    def _check_vector(self, name: str) -> None:
        from pyarrow import types

        kind = self._kinds[name]
        if types.is_null(kind):
            return
        if kept_values(kind, name) is not vectors:
            raise Mistake(expected="lists of numbers", got=str(kind), path=place(name))
        check_values(self.table.column(name), name)

    def _check_labels(self) -> None:
        for name, wanted in used_columns(self._columns, self._constants.model_type).items():
            check_label_type(self._kinds[name], wanted, name)
            check_values(self.table.column(name), name)
        columns = self._columns
        for name in filter(None, (*columns.prompt_template.values(), columns.llm_config.get("llm_model_name"))):
            check_label_type(self._kinds[name], SCALAR, name)
        beside = (
            (columns.retrieved_document_ids, TEXTS),
            (columns.llm_config.get("llm_params", ""), PARAMS),
            (columns.actual_numeric_sequence, NUMBER_LISTS),
        )
        for name, wanted in beside:
            if name:
                check_label_type(self._kinds[name], wanted, name)

    def _check_times(self, now_ns: int, limits: Limits) -> None:
        from pyarrow import compute

        name = self._columns.timestamp
        times = times_ns(self.table.column(name), name)
        bounds = compute.min_max(times).as_py()
        for moment in (bounds["min"], bounds["max"]):
            if moment is not None:
                limits.check(moment, now_ns, place(name))

    def _check_ids(self) -> None:
        if not self._constants.model_id:
            raise Mistake(expected="the model's id", got="none", path="arize-schema model_id")
        for what in (self._constants.model_id, self._constants.model_version, self._constants.batch_id):
            if len(what) > MAX_ID_CHARS:
                raise Mistake(expected=f"at most {MAX_ID_CHARS} characters", got=str(len(what)), path="arize-schema")
        columns = self._columns
        for name in filter(None, (columns.prediction_id, columns.environment, columns.model_version, columns.batch_id)):
            check_label_type(self._kinds[name], SCALAR, name)
            self._check_chars(name, MAX_ID_CHARS)
            check_values(self.table.column(name), name)
        if columns.environment:
            self._check_environments(columns.environment)
        if self._is_corpus or not self._has_prediction:
            self._check_all_have_ids(columns.prediction_id)

    def _check_environments(self, name: str) -> None:
        for value in texts(self.table.column(name).unique()):
            if value is not None and value.lower() not in ENVIRONMENTS.values():
                raise Mistake(expected="training, validation or production", got=quoted(value), path=place(name))

    def _check_all_have_ids(self, name: str) -> None:
        from pyarrow import compute

        missing = self.num_rows if not name else self.table.column(name).null_count
        if not missing and is_text(self._kinds[name]):
            missing = compute.sum(compute.equal(self.table.column(name), "")).as_py() or 0
        if missing:
            expected = f"the id of the {'document' if self._is_corpus else 'prediction'} that each row belongs to"
            raise Mistake(expected=expected, got=f"{missing} rows without", path=place(name or "prediction_id"))

    def _check_chars(self, name: str, most: int) -> None:
        from pyarrow import compute

        if not is_text(self._kinds[name]):
            return
        longest = compute.max(compute.utf8_length(self.table.column(name))).as_py() or 0
        if longest > most:
            raise Mistake(expected=f"texts of at most {most} characters", got=f"one of {longest}", path=place(name))


def _of_documents(columns: Columns) -> Columns:
    """A corpus's columns, under the names that those of predictions have: whatever else is named is none of it."""
    documents = columns.documents
    if documents is None:
        return Columns()
    embeddings = {} if documents.text is None else {DOCUMENT_TEXT: documents.text}
    return Columns(prediction_id=documents.id, model_version=documents.version, embeddings=embeddings)
